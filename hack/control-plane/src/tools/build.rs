//! Building one tool into the cache.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::{Module, Tool};
use crate::{
    cache::{Lock, create_parent},
    command,
    error::{Attempt, Error, Result},
    go::Go,
    progress::Progress,
};

const KMM_MODULE: &str = "github.com/rh-ecosystem-edge/kernel-module-management";

/// The build flags of a module, from the text of its go.mod.
///
/// The Kubernetes servers learn their version from the linker; without it they call themselves v0.0.0 and gate
/// features and CEL libraries by that.
pub(super) fn flags(module: &str) -> Vec<String> {
    let mut linker = "-s -w".to_owned();
    if let Some((major, minor, version)) = kubernetes_version(module) {
        for (field, value) in [("gitVersion", version), ("gitMajor", major), ("gitMinor", minor)] {
            linker.push_str(" -X k8s.io/component-base/version.");
            linker.push_str(field);
            linker.push('=');
            linker.push_str(value);
        }
    }
    vec!["-trimpath".to_owned(), "-buildvcs=false".to_owned(), "-ldflags".to_owned(), linker]
}

/// Major, minor and full version of `k8s.io/kubernetes` in a go.mod.
fn kubernetes_version(module: &str) -> Option<(&str, &str, &str)> {
    let line = module.lines().find_map(|line| {
        let mut words = line.split_whitespace().skip_while(|word| *word == "require");
        (words.next() == Some("k8s.io/kubernetes")).then(|| words.next())
    });
    let version = line.flatten()?;
    let mut numbers = version.strip_prefix('v')?.split('.');
    Some((numbers.next()?, numbers.next()?, version))
}

/// Builds `tool` unless the cache has it, and returns its path.
pub(super) fn ensure(module: &Module, tool: Tool, go: &Go, progress: &Progress) -> Result<PathBuf> {
    let path = module.place.join("bin").join(tool.name());
    if path.is_file() {
        return Ok(path);
    }
    let _lock = Lock::acquire(&module.place, progress)?;
    if path.is_file() {
        return Ok(path);
    }
    create_parent(&path)?;
    let step = progress.step(&format!("building {}", tool.name()));
    let unfinished = tempfile::Builder::new()
        .prefix("building-")
        .tempdir_in(&module.place)
        .attempt(|| format!("create a temporary directory in {}", module.place.display()))?;
    let built = unfinished.path().join(tool.name());
    let mut command = go.command(&module.source);
    command.arg("build").args(&module.flags).arg("-o").arg(&built).arg(tool.package());
    command::watch(&mut command, |line| step.detail(line))?;
    fs::rename(&built, &path).attempt(|| format!("move {} into the cache", tool.name()))?;
    step.done();
    Ok(path)
}

/// Copies KMM's CRDs and webhook manifest out of its Go module unless the cache has them.
///
/// They are copied so that starting a control plane needs no `go` command, and so that emptying Go's module cache
/// does not break a cache of built tools.
pub(super) fn ensure_kmm_manifests(module: &Module, go: &Go, progress: &Progress) -> Result<PathBuf> {
    let path = module.place.join("config");
    if path.is_dir() {
        return Ok(path);
    }
    let _lock = Lock::acquire(&module.place, progress)?;
    if path.is_dir() {
        return Ok(path);
    }
    let config = module_directory(module, go)?.join("config");
    create_parent(&path)?;
    let unfinished = tempfile::Builder::new()
        .prefix("copying-")
        .tempdir_in(&module.place)
        .attempt(|| format!("create a temporary directory in {}", module.place.display()))?;
    for directory in ["crd/bases", "webhook"] {
        copy_yaml(&config.join(directory), &unfinished.path().join(directory))?;
    }
    let unfinished = unfinished.keep();
    fs::rename(&unfinished, &path).attempt(|| format!("move KMM's manifests to {}", path.display()))?;
    Ok(path)
}

fn module_directory(module: &Module, go: &Go) -> Result<PathBuf> {
    #[derive(Deserialize)]
    struct Download {
        #[serde(rename = "Dir")]
        dir: PathBuf,
    }
    let json = command::output(go.command(&module.source).args(["mod", "download", "-json", KMM_MODULE]))?;
    let download: Download = serde_json::from_str(&json).map_err(|error| Error::Unexpected {
        what: format!("what go says about {KMM_MODULE}"),
        why: error.to_string(),
    })?;
    Ok(download.dir)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubernetes_version_reaches_the_linker() {
        for module in ["require k8s.io/kubernetes v1.36.3\n", "require (\n\tk8s.io/kubernetes v1.36.3\n)\n"] {
            let linker = flags(module).pop().unwrap();
            assert!(linker.contains("version.gitVersion=v1.36.3"), "{linker}");
            assert!(linker.ends_with("version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"), "{linker}");
        }
        assert_eq!(flags("require go.etcd.io/etcd/server/v3 v3.6.8").pop().unwrap(), "-s -w");
    }
}
