//! Building one tool into the cache.

use std::{fs, path::PathBuf};

use super::{Module, Tool};
use crate::{
    cache::{Lock, create_parent},
    command,
    error::{Attempt, Result},
    go::Go,
    progress::Progress,
};

/// Build tags of what links containers/image, which would otherwise want gpgme's C library. From the Makefiles of
/// operator-registry and operator-lifecycle-manager.
const OLM_TAGS: &str = "json1,containers_image_openpgp";

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
    // The linker leaves debug information out, so the compiler need not make it: a tenth of its time.
    let compiler = "-gcflags=all=-dwarf=false".to_owned();
    let mut flags = vec!["-trimpath".to_owned(), "-buildvcs=false".to_owned(), compiler, "-ldflags".to_owned(), linker];
    if module.contains("github.com/operator-framework/operator-registry/cmd/opm") {
        flags.extend(["-tags".to_owned(), OLM_TAGS.to_owned()]);
    }
    flags
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

/// Where a tool of a module lies once it is built.
pub(super) fn place(module: &Module, tool: Tool) -> PathBuf {
    module.place.join("bin").join(tool.name())
}

/// Builds `tool` unless the cache has it, and returns its path.
pub(super) fn ensure(module: &Module, tool: Tool, go: &Go, progress: &Progress) -> Result<PathBuf> {
    let path = place(module, tool);
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

    #[test]
    fn only_the_olm_module_has_tags() {
        assert!(flags("tool github.com/operator-framework/operator-registry/cmd/opm").contains(&OLM_TAGS.to_owned()));
        assert!(!flags("tool helm.sh/helm/v4/cmd/helm").contains(&OLM_TAGS.to_owned()));
    }
}
