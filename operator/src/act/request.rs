//! What requests that create and delete have in common.

use cxi_api::names::OPERATOR;
use kube::api::{DeleteParams, PostParams, Preconditions};

use crate::{
    cache::Cache,
    observe::seen::{Kind, Reading},
};

/// Who creates.
pub fn created_by_us() -> PostParams {
    PostParams { field_manager: Some(OPERATOR.to_owned()), ..PostParams::default() }
}

/// Deletes only the object with this UID.
pub fn only(uid: &str) -> DeleteParams {
    let preconditions = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    DeleteParams { preconditions: Some(preconditions), ..DeleteParams::default() }
}

/// Takes in the answer to a deletion: the object as it goes, or nothing when it is gone.
pub fn deleted<K: Kind>(cache: &Cache<K>, uid: &str, answer: Option<Reading<K>>) {
    match answer {
        Some(object) => cache.wrote(object),
        None => cache.gone(uid),
    }
}
