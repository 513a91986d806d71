//! What our own service accounts ask of API servers, for checks of their rights.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process,
};

use serde_json::json;

use crate::{
    addresses::NAMESPACE,
    error::{Attempt, Result},
};

/// Environment variable that names a directory. If it is set, every API server writes one file there, which stays: each
/// request of a service account of [`NAMESPACE`](crate::NAMESPACE) as an audit event without its body, one JSON object per
/// line. A watch is there twice, when it begins and when it ends.
pub const REQUEST_LOGS: &str = "CXI_REQUEST_LOGS";

/// The file of an API server on `port`, if logs are wanted.
pub(crate) fn path(port: u16) -> Result<Option<PathBuf>> {
    let Some(directory) = env::var_os(REQUEST_LOGS).filter(|name| !name.is_empty()) else { return Ok(None) };
    let directory = PathBuf::from(directory);
    fs::create_dir_all(&directory).attempt(|| format!("create {} for logs of requests", directory.display()))?;
    Ok(Some(directory.join(format!("{}-{port}.log", process::id()))))
}

/// The files of a directory, by name.
///
/// # Errors
/// If it cannot be read.
pub fn request_logs(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut logs = fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>()?;
    logs.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    logs.sort();
    Ok(logs)
}

/// Everything of our accounts by its metadata, nothing of anybody else.
pub(crate) fn policy() -> serde_json::Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        // Watches are written down when they begin: their end may never be seen.
        "omitStages": ["RequestReceived"],
        "rules": [
            { "level": "Metadata", "userGroups": [format!("system:serviceaccounts:{NAMESPACE}")] },
            { "level": "None" },
        ],
    })
}
