//! The manifest inside a driver image (`/opt/cxi/manifest.json`): which modules it carries, by GNU build-id. The CXI driver
//! has no version attribute, so the build-id is the only identity that a loaded module has.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Where the manifest lies in a driver image.
pub const MANIFEST_PATH: &str = "/opt/cxi/manifest.json";

/// What a driver image says of itself. Fields that this version does not know are ignored.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageManifest {
    /// Driver release.
    pub driver_version: String,
    /// `uname -r` of the kernel that the modules are for.
    pub kernel: String,
    /// Machine as `uname -m` prints it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub arch: String,
    /// Date of the sources, RFC 3339. Not of the build, which must not change the image.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub date: String,
    /// The modules in the image.
    pub modules: Vec<ManifestModule>,
    /// Firmware files that the modules are known to ask for, below the image's firmware directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub firmware: Vec<String>,
    /// What they were built from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<ManifestSource>,
}

/// One module of a driver image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ManifestModule {
    /// Name as in `/sys/module` (underscores).
    pub name: String,
    /// GNU build-id, lower-case hexadecimal.
    #[serde(rename = "buildID")]
    pub build_id: String,
    /// Name of its file below `extra/`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// SHA-256 of its file, hexadecimal, without the signature that may have been appended later.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub sha256: String,
    /// The kernel and the settings of it that the module is for, as `modinfo` prints them.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub vermagic: String,
}

/// A source tree that a driver image was built from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ManifestSource {
    /// What it was called.
    pub name: String,
    /// `sha256:` and the digest of the archive, `tree:` and that of the files of a directory, or `git:` and the commit.
    pub digest: String,
}

/// Why a text is not a manifest.
#[derive(Debug, thiserror::Error)]
pub enum InvalidManifest {
    /// Not the JSON it should be.
    #[error("the image's manifest cannot be read: {0}")]
    Json(#[from] serde_json::Error),
    /// It names no module, or one without a build-id.
    #[error("the image's manifest names no build-id for module {0:?}")]
    NoBuildId(String),
}

impl ImageManifest {
    /// Reads a manifest.
    ///
    /// # Errors
    /// When the text is not JSON of this shape, lists no module, or a module has no hexadecimal build-id.
    pub fn parse(text: &str) -> Result<Self, InvalidManifest> {
        let mut manifest: Self = serde_json::from_str(text)?;
        if manifest.modules.is_empty() {
            return Err(InvalidManifest::NoBuildId(String::new()));
        }
        for module in &mut manifest.modules {
            module.name = module.name.replace('-', "_");
            module.build_id.make_ascii_lowercase();
            if module.build_id.is_empty() || !module.build_id.bytes().all(|b| b.is_ascii_hexdigit()) {
                return Err(InvalidManifest::NoBuildId(module.name.clone()));
            }
        }
        Ok(manifest)
    }

    /// Build-id by module name.
    pub fn build_ids(&self) -> BTreeMap<String, String> {
        self.modules.iter().map(|m| (m.name.clone(), m.build_id.clone())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn module_names_are_as_in_sysfs() {
        let text = r#"{"driverVersion":"13.0.0","kernel":"6.1","modules":[{"name":"cxi-ss1","buildID":"AB01"}]}"#;
        let manifest = ImageManifest::parse(text).unwrap();
        assert_eq!(manifest.build_ids(), [("cxi_ss1".into(), "ab01".into())].into());
    }

    #[test]
    fn refuses_what_proves_nothing() {
        for text in [
            "",
            "{}",
            r#"{"driverVersion":"1","kernel":"6","modules":[]}"#,
            r#"{"driverVersion":"1","kernel":"6","modules":[{"name":"cxi_ss1","buildID":""}]}"#,
            r#"{"driverVersion":"1","kernel":"6","modules":[{"name":"cxi_ss1","buildID":"xyz"}]}"#,
        ] {
            assert!(ImageManifest::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn any_input_is_a_manifest_or_refused() {
        let least = r#"{"driverVersion":"13.0.0","kernel":"6.1","modules":[{"name":"cxi-ss1","buildID":"AB01"}]}"#;
        let modules = [("cxi_ss1", "00ff"), ("cxi_user", "0123456789abcdef0123456789abcdef01234567")];
        let module =
            |(name, id): (&str, &str)| ManifestModule { name: name.into(), build_id: id.into(), ..Default::default() };
        let whole = ImageManifest { modules: modules.map(module).to_vec(), ..ImageManifest::parse(least).unwrap() };
        cxi_any_input::text(&[least, &serde_json::to_string(&whole).unwrap()], &|text| {
            let manifest = ImageManifest::parse(text).ok();
            if let Some(manifest) = &manifest {
                let ids = manifest.build_ids();
                let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
                assert!(
                    !ids.is_empty() && ids.values().all(|id| !id.is_empty() && id.bytes().all(is_digit)),
                    "{ids:?}"
                );
                let again = serde_json::to_string(manifest).unwrap();
                assert_eq!(ImageManifest::parse(&again).ok().as_ref(), Some(manifest));
            }
            manifest.is_some().into()
        });
    }
}
