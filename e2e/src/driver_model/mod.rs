//! The kernel of a soft node as far as the CXI driver stack is concerned: what loads, what refuses to load, what refuses
//! to leave. Pure; modelled after what `modprobe` and `delete_module` do with the real five-module stack.

use cxi_api::KernelModule;

mod image;
mod stack;

pub use image::{BuildOf, Registry, Resolved, build_id, image_reference, kernel_tag, manifest};
pub use stack::{Busy, DriverModel, LoadEffect, LoadError, LoadFault, Loaded, RemoveError};

/// The modules, in the order in which they load.
pub const STACK: [&str; 5] = KernelModule::names(KernelModule::DRIVER);
