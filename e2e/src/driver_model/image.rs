//! Driver images: which exist in the model's registry and what is inside them.

use std::collections::{BTreeMap, BTreeSet};

use cxi_driver_image_format::manifest::{ImageManifest, ManifestModule};

use super::STACK;

/// What a set of modules was built from: everything that its build-ids depend on.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BuildOf {
    /// Driver release.
    pub version: String,
    /// Kernel in the spelling of an image tag, see [`kernel_tag`].
    pub kernel: String,
}

/// The images that can be pulled.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    releases: BTreeMap<String, BTreeSet<String>>,
    withdrawn: BTreeSet<String>,
    foreign: BTreeSet<String>,
    others: BTreeSet<String>,
}

/// What an image reference stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolved {
    /// A driver image.
    Driver {
        /// What is inside.
        build: BuildOf,
        /// Whether it was made by somebody else and carries no manifest.
        foreign: bool,
    },
    /// An image without a driver.
    Other,
}

impl Registry {
    /// Publishes the driver images of a release for every kernel.
    pub fn publish(&mut self, repository: &str, version: &str) {
        self.releases.entry(repository.to_owned()).or_default().insert(version.to_owned());
    }

    /// Makes an image without a driver known, such as KMM's worker.
    pub fn add_other(&mut self, image: &str) {
        self.others.insert(image.to_owned());
    }

    /// Takes one image away.
    pub fn withdraw(&mut self, image: &str) {
        self.withdrawn.insert(image.to_owned());
    }

    /// Brings a withdrawn image back.
    pub fn restore(&mut self, image: &str) {
        self.withdrawn.remove(image);
    }

    /// Whether an image was taken away.
    pub fn is_withdrawn(&self, image: &str) -> bool {
        self.withdrawn.contains(image)
    }

    /// Makes an image one that somebody else built: same modules, no manifest.
    pub fn mark_foreign(&mut self, image: &str) {
        self.foreign.insert(image.to_owned());
    }

    /// What an image is, if it can be had.
    pub fn find(&self, image: &str) -> Option<Resolved> {
        if self.withdrawn.contains(image) { None } else { self.inspect(image) }
    }

    /// What an image is, wherever it lies; a withdrawn image may still be on a node.
    pub fn inspect(&self, image: &str) -> Option<Resolved> {
        if self.others.contains(image) {
            return Some(Resolved::Other);
        }
        let (repository, tag) = image.rsplit_once(':')?;
        // The longest version wins: `2.0.1-shs12-6.1` is release 2.0.1-shs12, not 2.0.1.
        let versions = self.releases.get(repository)?.iter();
        versions
            .filter_map(|version| {
                let kernel = tag.strip_prefix(kernel_tag(version).as_str())?.strip_prefix('-')?;
                Some(BuildOf { version: version.clone(), kernel: kernel.to_owned() })
            })
            .max_by_key(|build| build.version.len())
            .map(|build| Resolved::Driver { build, foreign: self.foreign.contains(image) })
    }
}

/// A kernel (or version) in the spelling of an image tag, where `+` is not allowed. KMM does the same replacement.
pub fn kernel_tag(kernel: &str) -> String {
    kernel.replace('+', "_")
}

/// The driver image of a release for a kernel.
pub fn image_reference(repository: &str, version: &str, kernel: &str) -> String {
    format!("{repository}:{}-{}", kernel_tag(version), kernel_tag(kernel))
}

/// The GNU build-id of a module: the same for the same source and kernel, different otherwise.
pub fn build_id(build: &BuildOf, module: &str) -> String {
    let text = format!("{}\n{}\n{module}", build.version, build.kernel);
    let fnv =
        |seed: u64| text.bytes().fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let (a, b) = (fnv(0xcbf2_9ce4_8422_2325), fnv(0x9e37_79b9_7f4a_7c15));
    // 20 bytes, the length of a SHA-1 build-id.
    format!("{a:016x}{b:016x}{:08x}", (a ^ b) & 0xffff_ffff)
}

/// The manifest inside a driver image. `kernel` is the kernel in its own spelling.
pub fn manifest(build: &BuildOf, kernel: &str) -> ImageManifest {
    ImageManifest {
        driver_version: build.version.clone(),
        kernel: kernel.to_owned(),
        modules: STACK
            .iter()
            .map(|name| ManifestModule {
                name: (*name).to_owned(),
                build_id: build_id(build, name),
                ..ManifestModule::default()
            })
            .collect(),
        ..ImageManifest::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: &str = "6.12.117+deb12-amd64";

    fn registry() -> Registry {
        let mut registry = Registry::default();
        for version in ["2.0.1", "2.0.1-shs12", "13.0.0"] {
            registry.publish("registry.example/cxi", version);
        }
        registry.add_other("kmm-worker:test");
        registry
    }

    #[test]
    fn finds_the_release_and_kernel_of_an_image() {
        let registry = registry();
        for version in ["2.0.1", "2.0.1-shs12", "13.0.0"] {
            let found = registry.find(&image_reference("registry.example/cxi", version, KERNEL));
            let build = BuildOf { version: version.into(), kernel: "6.12.117_deb12-amd64".into() };
            assert_eq!(found, Some(Resolved::Driver { build, foreign: false }));
        }
        assert_eq!(registry.find("kmm-worker:test"), Some(Resolved::Other));
    }

    #[test]
    fn does_not_find_what_was_not_published_or_was_withdrawn() {
        let mut registry = registry();
        let image = image_reference("registry.example/cxi", "13.0.0", KERNEL);
        for unknown in ["kmm-worker:other", "registry.example/cxi:14.0.0-6.1", "elsewhere/cxi:13.0.0-6.1", "cxi"] {
            assert_eq!(registry.find(unknown), None, "{unknown}");
        }
        registry.withdraw(&image);
        assert_eq!(registry.find(&image), None);
        assert!(registry.inspect(&image).is_some(), "a copy on a node can still be run");
        registry.restore(&image);
        assert!(registry.find(&image).is_some());
    }

    #[test]
    fn build_ids_tell_releases_kernels_and_modules_apart() {
        let build = |version: &str, kernel: &str| BuildOf { version: version.into(), kernel: kernel.into() };
        let ids: BTreeSet<String> = ["13.0.0", "13.1.0"]
            .iter()
            .flat_map(|v| ["6.1", "6.12"].map(|k| build(v, k)))
            .flat_map(|b| STACK.map(|m| build_id(&b, m)))
            .collect();
        assert_eq!(ids.len(), 20);
        let manifest = manifest(&build("13.0.0", "6.1"), "6.1");
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(ImageManifest::parse(&text).unwrap(), manifest);
    }
}
