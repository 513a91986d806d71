//! `packaging` gives forms to objects and decides nothing that the operator or its operands may do.
//!
//! Everything that the operator is installed with, made from one source: the API types, the table of rights
//! ([`cxi_manifests::rights`]), the policies, the operator's own objects and the image lock.
//!
//! Everything here is pure: it makes texts ([`files`]), which the example `gen` writes or compares.

pub mod files;
pub mod helm;
pub mod install;
pub mod kustomize;
pub mod nfd;
pub mod olm;
pub mod release;
pub mod yaml;
