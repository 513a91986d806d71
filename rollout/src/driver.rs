//! One CXIDriver and its nodes: which they are, what is in its way, and its ledger.

pub mod agents;
pub mod installation;
pub mod ledger;
pub mod obstacle;
pub mod ownership;
pub mod scope;
pub mod selection;
pub mod standing;
