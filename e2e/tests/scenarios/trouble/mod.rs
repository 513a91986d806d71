//! Scenarios of trouble on a node: a device that somebody holds, loads and links that fail, hands that meddle with KMM, and
//! reboots.

mod broken_links;
mod hands;
mod holders;
mod images;
mod kmm;
mod leftovers;
mod reboots;
mod stuck;
