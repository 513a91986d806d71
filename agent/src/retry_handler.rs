//! `cxi-agent retry-handler`: one `cxi_rh` for each physical NIC of the node.
//!
//! ```text
//! /sys /dev ──► observe ──► machine ──┬─► process ──► cxi_rh ──► output ──► log
//!                              ▲      ├─► mounts (what an ended one left)
//!                              │      └─► records ──► /run/cxi/retry-handler/<pci>.json
//!                              └── ends of processes, signals
//! ```
//!
//! Nothing is ever killed: each is asked to end by SIGTERM, once it handles that, upon which it restores the NIC's
//! timing, and waited for. What ends unasked, or not in order, stays ended until an administrator wants another.

mod args;
mod lock;
mod machine;
mod mounts;
mod observe;
mod output;
mod process;
mod ready;
mod records;
mod restart;
mod signals;
mod supervisor;

pub use args::Args;
