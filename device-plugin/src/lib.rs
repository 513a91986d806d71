//! The kubelet device plugin for CXI NICs.
//!
//! ```text
//! sysfs, devfs ──► scanner ──► Inventory ─┐
//! CXINode ──► advertise ─┐                ├─► publisher ──► Published ──► kubelet (ListAndWatch, Allocate …)
//! PodResources ──────────┴─► Gate ────────┘
//! ```
//!
//! Each arrow is a watch channel with one writer: whoever reads sees the latest value. [`plugin::run`] holds the tasks
//! together; the loss of one ends them all. Decisions are pure functions of [`inventory`], [`offer`], [`allocate`] and
//! [`preferred`].

pub mod advertise;
pub mod allocate;
pub mod cli;
pub mod device_id;
pub mod gate;
pub mod inventory;
pub mod log;
pub mod offer;
pub mod plugin;
pub mod pod_resources;
pub mod preferred;
pub mod proto;
pub mod registration;
pub mod resource_name;
pub mod scanner;
pub mod server;
pub mod service;
pub mod session;
pub mod socket_watch;
