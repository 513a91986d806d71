//! Everything that the operator is installed with, made from one source: the API types, the table of rights
//! ([`cxi_operator::rbac`]), the admission policies, the image lock and the objects defined here.
//!
//! Everything here is pure: it makes texts ([`files`]), which the example `gen` writes or compares.

pub mod files;
pub mod helm;
pub mod install;
pub mod kustomize;
pub mod nfd;
pub mod olm;
pub mod operator;
pub mod release;
pub mod yaml;
