//! The build flags of a Go module.

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
