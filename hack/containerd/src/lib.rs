//! A containerd of one's own, with everything it keeps in a temporary directory, spoken to as the kubelet does: for tests
//! that look into real containers. Needs root, the Debian packages runc and busybox-static, and a containerd that is built
//! into the cache.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::missing_panics_doc,
    reason = "it is for tests, which fail by panicking"
)]

mod configuration;
mod left_over;
mod program;
mod runtime;
mod shell_image;

pub use left_over::end;
pub use runtime::{Container, Containerd};
pub use shell_image::IMAGE as SHELL_IMAGE;

/// The Container Runtime Interface, as far as it is used.
#[allow(clippy::pedantic, missing_docs, reason = "generated")]
pub mod cri {
    include!(concat!(env!("OUT_DIR"), "/runtime.v1.rs"));
}
