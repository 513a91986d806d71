//! Container Device Interface: a file on the node that tells a container runtime what belongs to a device's name.
//!
//! The runtime reads the file when it makes a container, so the client that asks for a device has to know nothing of it
//! but the name. Facts: the specification and its reference library, tags.cncf.io/container-device-interface 1.1.0.

mod check;
mod contents;
mod file;
mod model;

pub use check::{SpecError, check, is_variable};
pub use contents::{ALL, GENERATOR_KIND, PLUGIN_KIND, Subject, kubelet_name, spec};
pub use file::{Change, Destination, FileError, Format};
pub use model::{ContainerEdits, Device, DeviceNode, Mount, Spec};
