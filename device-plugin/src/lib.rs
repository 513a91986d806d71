//! The kubelet device plugin for CXI NICs.
//!
//! ```text
//! sysfs, devfs ──► scanner ──► Inventory ─┐               ┌─► CDI file ──► container runtime
//! CXINode ─┬─► advertise ─┬─► Gate ───────┼─► publisher ──┴─► Published ──► kubelet (ListAndWatch, Allocate …)
//! PodResources ───────────┘               │
//!          └─► release of the driver ─┐   │
//! host's libraries ───────────────────┴─► Provision
//! ```
//!
//! Each arrow is a watch channel with one writer: a reader sees the latest value. [`plugin::run`] holds the tasks
//! together; the loss of one ends them all. Decisions are pure functions of [`inventory`], [`attachment`], [`offer`],
//! [`allocate`], [`preferred`] and [`cdi::spec`].
//!
//! [`generator`] is the second program: the CDI file for nodes without the plugin.

pub mod access;
pub mod allocate;
pub mod attachment;
pub mod cdi;
pub mod cli;
pub mod cxinode;
pub mod device_id;
pub mod gate;
pub mod generator;
pub mod host_args;
pub mod host_root;
pub mod inventory;
pub mod libraries;
pub mod offer;
pub mod plugin;
pub mod pod_resources;
pub mod preferred;
pub mod proto;
pub mod provision;
pub mod publisher;
pub mod registration;
pub mod resource_name;
pub mod scanner;
pub mod server;
pub mod service;
pub mod session;
pub mod socket_watch;
