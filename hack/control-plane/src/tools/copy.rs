//! Manifests that come with a Go module, copied into the cache.
//!
//! They are copied so that starting a control plane needs no `go` command, and so that emptying Go's module cache
//! does not break a cache of built tools.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::module::Module;
use crate::{
    cache::{Lock, create_parent},
    command,
    error::{Attempt, Error, Result},
    go::Go,
    progress::Progress,
};

/// YAML files of a Go module.
#[derive(Debug)]
pub(super) struct Manifests {
    /// The Go module.
    module: &'static str,
    /// The directory in it; also its name in the cache, without what is before the last slash.
    root: &'static str,
    /// The directories below that whose files are wanted; an empty name is the directory itself.
    directories: &'static [&'static str],
}

const KMM: &str = "github.com/rh-ecosystem-edge/kernel-module-management";

/// KMM's CRDs and webhook.
pub(super) const KMM_CONFIG: Manifests =
    Manifests { module: KMM, root: "config", directories: &["crd/bases", "webhook"] };

/// KMM's bundle.
pub(super) const KMM_BUNDLE: Manifests =
    Manifests { module: KMM, root: "bundle", directories: &["manifests", "metadata"] };

/// The Operator Lifecycle Manager's CRDs.
pub(super) const OLM_CRDS: Manifests = Manifests {
    module: "github.com/operator-framework/operator-lifecycle-manager",
    root: "deploy/chart/crds",
    directories: &[""],
};

/// The CRDs of the Prometheus operator.
pub(super) const PROMETHEUS_CRDS: Manifests = Manifests {
    module: "github.com/prometheus-operator/prometheus-operator",
    root: "example/prometheus-operator-crd",
    directories: &[""],
};

impl Manifests {
    /// Copies them unless the cache has them, and returns where they are.
    pub(super) fn ensure(&self, module: &Module, go: &Go, progress: &Progress) -> Result<PathBuf> {
        let name = self.root.rsplit('/').next().unwrap_or(self.root);
        let path = module.place.join(name);
        if path.is_dir() {
            return Ok(path);
        }
        let _lock = Lock::acquire(&module.place, progress)?;
        if path.is_dir() {
            return Ok(path);
        }
        let root = self.directory(module, go)?.join(self.root);
        create_parent(&path)?;
        let unfinished = tempfile::Builder::new()
            .prefix("copying-")
            .tempdir_in(&module.place)
            .attempt(|| format!("create a temporary directory in {}", module.place.display()))?;
        for directory in self.directories {
            copy_yaml(&root.join(directory), &unfinished.path().join(directory))?;
        }
        let unfinished = unfinished.keep();
        fs::rename(&unfinished, &path).attempt(|| format!("move manifests to {}", path.display()))?;
        Ok(path)
    }

    /// Where Go keeps the module.
    fn directory(&self, module: &Module, go: &Go) -> Result<PathBuf> {
        #[derive(Deserialize)]
        struct Download {
            #[serde(rename = "Dir")]
            dir: PathBuf,
        }
        let json = command::output(go.command(&module.source).args(["mod", "download", "-json", self.module]))?;
        let download: Download = serde_json::from_str(&json).map_err(|error| Error::Unexpected {
            what: format!("what go says about {}", self.module),
            why: error.to_string(),
        })?;
        Ok(download.dir)
    }
}

fn copy_yaml(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).attempt(|| format!("create {}", to.display()))?;
    for entry in fs::read_dir(from).attempt(|| format!("list {}", from.display()))? {
        let source = entry.attempt(|| format!("list {}", from.display()))?.path();
        if let (Some(name), true) = (source.file_name(), source.extension().is_some_and(|e| e == "yaml")) {
            // Read and written, not copied: Go keeps its module cache read-only, and permissions would come along.
            let text = fs::read(&source).attempt(|| format!("read {}", source.display()))?;
            fs::write(to.join(name), text).attempt(|| format!("write into {}", to.display()))?;
        }
    }
    Ok(())
}
