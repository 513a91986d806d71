//! Driver images that are really built, by buildah, for a Debian kernel.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod in_cluster;
mod lab;
mod layout;
mod registry;
mod stand_in;
mod storage;
