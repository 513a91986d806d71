//! Preflights: a question about a driver release before a CXIDriver is edited. Images are asked of KMM; a canary node is moved by its
//! ordinary transaction, because what it should be on is the candidate while it is on trial.

mod choice;
mod images;
pub mod plan;
pub mod question;
mod status;
pub mod trial;
