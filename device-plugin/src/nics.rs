//! Which NICs the node has, and whether pods can use them.

pub mod attachment;
pub mod inventory;
pub mod scanner;
