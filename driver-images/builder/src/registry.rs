//! Which images a registry has.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use crate::{
    buildah::said,
    error::{Error, Result},
    push::Tls,
};

/// Tags of a repository; none when there is no such repository.
///
/// # Errors
/// If the registry cannot be asked.
pub fn tags(repository: &str, tls: Tls) -> Result<BTreeSet<String>> {
    let mut command = Command::new("skopeo");
    command.arg("list-tags");
    if tls.insecure {
        command.arg("--tls-verify=false");
    }
    let text = match said(command.arg(format!("docker://{repository}")), "skopeo", "skopeo") {
        Ok(text) => text,
        // The registry's word for a repository to which nothing was pushed yet.
        Err(Error::Program { said, .. }) if is_absent(&said) => return Ok(BTreeSet::new()),
        Err(Error::Program { said, .. }) => {
            return Err(Error::Input(format!(
                "{repository} cannot be listed ({said}): check the registry's name and credentials (`buildah login`); \
                 --insecure accepts plain HTTP and unknown certificates"
            )));
        }
        Err(other) => return Err(other),
    };
    let value: Value = serde_json::from_str(&text)
        .map_err(|error| Error::Input(format!("the registry's tags of {repository} cannot be understood: {error}")))?;
    let tags = value["Tags"].as_array().into_iter().flatten();
    Ok(tags.filter_map(|tag| tag.as_str().map(str::to_owned)).collect())
}

fn is_absent(said: &str) -> bool {
    let said = said.to_ascii_lowercase();
    said.contains("name unknown") || said.contains("repository name not known") || said.contains("404 (not found)")
}
