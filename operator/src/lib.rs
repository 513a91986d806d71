//! The CXI operator. It watches the cluster ([`observe`]), asks the pure engine in `cxi_rollout` what to do
//! ([`reconcile`]), does it ([`act`], the only part that writes), and tells people ([`events`], [`metrics`]).

pub mod act;
pub mod cache;
pub mod client;
pub mod clock;
pub mod events;
#[cfg(feature = "faults")]
pub mod faults;
pub mod flags;
pub mod health;
pub mod http;
pub mod leader;
pub mod logs;
pub mod memory;
pub mod metrics;
pub mod observe;
pub mod policy;
pub mod rbac;
pub mod reconcile;
pub mod render;
pub mod run;
pub mod watch;
