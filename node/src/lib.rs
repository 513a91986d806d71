//! What every program on a node needs: [`log`] lines, telling the time by a [`clock`], a [`stop_signal`], a [`BackOff`] after
//! failures, watching objects (feature `watch`), and serving health and metrics (feature `http`). The operator uses it too.
//!
//! Invariant: nothing here knows what a NIC, a driver or an object of ours is.

mod back_off;
pub mod clock;
#[cfg(feature = "http")]
pub mod http;
pub mod log;
mod signals;
#[cfg(feature = "watch")]
pub mod watch;

pub use back_off::BackOff;
pub use signals::stop_signal;
