//! The bundle as a directory.

use std::collections::BTreeMap;

use super::{Error, PACKAGE, Release, csv::csv, manifests::manifests, metadata};
use crate::yaml;

/// Path below the bundle's directory and text of every file.
///
/// # Errors
/// When an authored text in `olm/` cannot be understood.
pub fn bundle(release: &Release<'_>) -> Result<BTreeMap<String, String>, Error> {
    let mut files = BTreeMap::new();
    for (name, object) in manifests()? {
        files.insert(format!("manifests/{name}"), yaml::documents(&[object])?);
    }
    let csv = yaml::documents(&[csv(release)?])?;
    files.insert(format!("manifests/{PACKAGE}.clusterserviceversion.yaml"), csv);
    files.insert("metadata/annotations.yaml".to_owned(), yaml::documents(&[metadata::annotations()])?);
    if let Some(dependencies) = metadata::dependencies(release.flavour) {
        files.insert("metadata/dependencies.yaml".to_owned(), yaml::documents(&[dependencies])?);
    }
    files.insert("tests/scorecard/config.yaml".to_owned(), yaml::documents(&[metadata::scorecard()])?);
    Ok(files)
}
