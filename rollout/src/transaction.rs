//! What a step of a node is made of: what it may look at, what it can decide, and how that is written into the node's record.

pub mod context;
pub mod decision;
pub mod draft;
pub mod rebuild;
pub mod record;
