//! Every generated file: its path below the root of the repository and its text.

use std::path::PathBuf;

use cxi_images::Lock;
use cxi_manifests::{policies, rights};
use serde_json::Value;

use crate::{
    helm,
    install::{self, Manifest},
    kustomize, nfd,
    olm::{self, Flavour, Release},
    yaml,
};

/// Networks in the examples for Multus: as many as a node of four NICs has.
const NETWORKS: usize = 4;

/// Directories in which every file is generated: what else lies there is left over.
pub const WHOLLY_GENERATED: [&str; 8] = [
    "deploy/crds",
    "deploy/rbac",
    "deploy/policy",
    "deploy/operator",
    "deploy/kustomize",
    "deploy/helm",
    "deploy/nfd",
    "bundle",
];

/// Everything that is generated.
///
/// # Errors
/// When a file cannot be written as a text, or an authored one cannot be understood.
pub fn all(version: &str, images: &Lock) -> Result<Vec<(PathBuf, String)>, olm::Error> {
    let manifests = install::manifests(images)?;
    let mut files = deploy(&manifests, images)?;
    let chart = helm::chart(version, images, &manifests)?;
    files.extend(chart.into_iter().map(|(path, text)| (PathBuf::from("deploy/helm/cxi-operator").join(path), text)));
    files.push(("olm/install/namespace.yaml".into(), yaml::documents(&[rights::namespace()])?));
    files.push(("olm/install/clusterextension-rights.yaml".into(), yaml::documents(&olm::installer::objects()?)?));
    files.push(("bundle.Dockerfile".into(), olm::dockerfile()));
    let bundle = olm::bundle(&Release { version, images, flavour: Flavour::V0 })?;
    files.extend(bundle.into_iter().map(|(path, text)| (PathBuf::from("bundle").join(path), text)));
    Ok(files)
}

fn deploy(manifests: &[Manifest], images: &Lock) -> Result<Vec<(PathBuf, String)>, yaml::Error> {
    let mut files = Vec::new();
    let mut add = |path: String, text: String| files.push((PathBuf::from("deploy").join(path), text));
    for manifest in manifests {
        let path = format!("{}/{}", manifest.part.directory(), manifest.name);
        add(path, yaml::documents(&manifest.objects)?);
    }
    for (path, text) in kustomize::files(manifests)? {
        add(path, text);
    }
    add("install.yaml".to_owned(), yaml::documents(&install::objects(images)?)?);
    add("nfd/nodefeaturerule.yaml".to_owned(), yaml::documents(&[nfd::rule()])?);
    add("multus/policy.yaml".to_owned(), yaml::documents(&mutating(&policies::networks()))?);
    for (kind, definition) in policies::DEFINITIONS {
        let networks: Vec<_> = (0..NETWORKS).map(definition).collect();
        add(format!("multus/{kind}.yaml"), yaml::documents(&networks)?);
    }
    Ok(files)
}

fn mutating(wanted: &policies::Policy) -> [Value; 2] {
    [policies::policy(wanted), policies::binding(wanted)]
}
