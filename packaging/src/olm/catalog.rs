//! A catalog: what it says of a package before the bundles, which `opm render` writes.

use std::iter;

use serde_json::json;

use crate::yaml::{self, Error};

/// A package with one channel, in which each bundle is an update of the one before.
///
/// # Errors
/// When it cannot be written.
pub fn package(name: &str, channel: &str, bundles: &[&str]) -> Result<String, Error> {
    let package = json!({ "schema": "olm.package", "name": name, "defaultChannel": channel });
    let before = iter::once(None).chain(bundles.iter().map(Some));
    let entries = bundles.iter().zip(before).map(|(bundle, before)| match before {
        Some(before) => json!({ "name": bundle, "replaces": before }),
        None => json!({ "name": bundle }),
    });
    let channel = json!({
        "schema": "olm.channel",
        "package": name,
        "name": channel,
        "entries": entries.collect::<Vec<_>>(),
    });
    Ok([yaml::document(&package)?, yaml::document(&channel)?].join("---\n"))
}
