//! Guests: virtual machines that boot real Debian kernels in seconds, for tests of what a driver does on a node.
//!
//! [`Kernel::ensure`] has the newest kernel of a line and flavour, [`Driver::stand_in`] a driver image for it, a [`Tree`]
//! becomes the root file system ([`Node`] puts one together), [`Guest::boot`] runs a [`Machine`], and [`Guest::run`] runs scripts in it. Everything that
//! takes long is kept in the cache directory of the other tools.
//!
//! ```no_run
//! use cxi_control_plane::Progress;
//! use cxi_guest::{Flavour, Guest, Kernel, Line, Machine, Node};
//!
//! # fn main() -> cxi_guest::Result<()> {
//! let progress = Progress::stderr();
//! let kernel = Kernel::ensure(Line::V6_12, Flavour::Cloud, &progress)?;
//! let node = Node { releases: vec!["13.0.0".to_owned()], ..Node::default() };
//! let initrd = std::path::Path::new("/tmp/initrd");
//! node.tree(&kernel, &progress)?.write_initrd(initrd)?;
//! let mut guest = Guest::boot(&Machine::default(), &kernel, initrd)?;
//! print!("{}", guest.succeed("/sbin/modprobe -d /images/13.0.0/opt cxi-user && ls /sys/class/cxi")?);
//! # Ok(())
//! # }
//! ```

mod archive;
pub mod cluster_node;
mod debian;
mod disk;
pub mod driver;
mod error;
mod guest;
mod kernel;
mod machine;
mod node;
mod program;
mod tree;
mod uefi;

pub use disk::Disk;
pub use driver::Driver;
pub use error::{Error, Result};
pub use guest::{Guest, Output};
pub use kernel::{Flavour, Kernel, Line};
pub use machine::{Machine, qemu};
pub use node::{Node, TESTED_KERNELS, TESTED_RELEASES, missing_packages, prepare, programs};
pub use program::find;
pub use tree::Tree;
pub use uefi::{Signer, Uefi};
