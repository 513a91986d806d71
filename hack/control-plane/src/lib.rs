//! A real Kubernetes control plane with the real Kernel Module Management operator, on the loopback address.
//!
//! [`Toolbox::ensure`] builds etcd, the Kubernetes servers and KMM from pinned Go modules into a cache outside the
//! repository; [`ControlPlane::start`] runs them. Several control planes run side by side, in one process or many,
//! and none outlives the process that started it.
//!
//! Invariant: a control plane knows nothing of what is installed in it. KMM and OLM depend on the plane, never the plane on them.
//!
//! ```no_run
//! use cxi_control_plane::{ControlPlane, Family, Options, Progress, Toolbox};
//!
//! # fn main() -> cxi_control_plane::Result<()> {
//! let toolbox = Toolbox::ensure(Family::CONTROL_PLANE, &Progress::stderr())?;
//! let plane = ControlPlane::start(&toolbox, &Options::default())?;
//! plane.install_kmm()?;
//! plane.start_kmm()?;
//! print!("{}", plane.kubectl(&["get", "crds"])?);
//! # Ok(())
//! # }
//! ```

mod addresses;
pub mod cache;
mod command;
mod control_plane;
mod error;
mod go;
mod kmm;
mod kubeconfig;
mod olm;
mod options;
mod pki;
mod ports;
mod process;
mod progress;
mod registry;
mod request_log;
mod servers;
mod services;
mod tools;

pub use addresses::{API_SERVICE, NAMESPACE};
pub use control_plane::ControlPlane;
pub use error::{Error, Result};
pub use go::Go;
pub use olm::OLM_NAMESPACE;
pub use options::Options;
pub use process::Process;
pub use progress::{Progress, Step};
pub use registry::Registry;
pub use request_log::{REQUEST_LOGS, request_logs};
pub use tools::{Family, Tool, Toolbox, prometheus_crds};
