//! What a program of this repository is made of: [`tree`] asks cargo which crates are in it, [`bill`] says so as
//! `CycloneDX`, [`licences`] collects the texts that have to go with the program.

pub mod bill;
pub mod licences;
pub mod tree;
