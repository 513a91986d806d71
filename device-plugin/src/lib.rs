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
//! together; the loss of one ends them all. Decisions are pure functions of [`nics::inventory`], [`nics::attachment`], [`offer`],
//! [`offer::allocate`], [`offer::preferred`] and [`cxi_injection::cdi::spec`].
//!
//! Invariant: an id is offered as healthy only while the NIC's health says that pods can use it and the gate admits it.
//!
//! [`generator`] is the second program: the CDI file for nodes without the plugin.

pub mod access;
pub mod cli;
pub mod generator;
pub mod kubelet;
pub mod kubelet_api;
pub mod nics;
pub mod offer;
pub mod plugin;
