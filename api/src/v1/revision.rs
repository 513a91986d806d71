//! A revision: the part of a CXIDriver that decides what is loaded, named by its content hash.

use std::{fmt, str::FromStr};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::driver::CXIDriverSpec;

/// Name of a revision: eight lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String", extend("pattern" = "^[0-9a-f]{8}$"))]
pub struct RevisionId(String);

/// A text that is not a revision's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a revision; expected eight hexadecimal digits")]
pub struct InvalidRevision(String);

impl RevisionId {
    /// The revision of a driver's spec. Two drivers with equal specs have different revisions, because each revision is one
    /// KMM Module with its own selector. Fields that do not change what is loaded do not count.
    pub fn of(driver: &str, spec: &CXIDriverSpec) -> Self {
        let source = &spec.source;
        // Written out field by field: adding a field to the API must not silently rename every revision in the world.
        let mut content = vec![serde_json::json!([
            driver,
            spec.version,
            source.kind,
            source.image,
            source.kernel_mappings,
            source.repository,
            source.dkms,
            source.prebuilt_cache,
            source.registry_tls,
            source.modprobe,
        ])];
        // What came later counts where it is set, so that revisions without it keep their names.
        let later = [
            source.repository_sha256.as_ref().map(|sum| serde_json::json!({ "repositorySHA256": sum })),
            source.builder_image.as_ref().map(|image| serde_json::json!({ "builderImage": image })),
            source.sign.as_ref().map(|sign| serde_json::json!({ "sign": sign })),
        ];
        content.extend(later.into_iter().flatten());
        let texts: Vec<String> = content.iter().map(ToString::to_string).collect();
        let digest = Sha256::digest(texts.concat());
        let [a, b, c, d, ..] = digest[..] else { unreachable!("a SHA-256 digest has 32 bytes") };
        Self(format!("{:08x}", u32::from_be_bytes([a, b, c, d])))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RevisionId {
    type Err = InvalidRevision;

    fn from_str(text: &str) -> Result<Self, InvalidRevision> {
        let hex = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 8 && text.bytes().all(hex) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidRevision(text.to_owned()))
        }
    }
}

impl TryFrom<String> for RevisionId {
    type Error = InvalidRevision;

    fn try_from(text: String) -> Result<Self, InvalidRevision> {
        text.parse()
    }
}

impl From<RevisionId> for String {
    fn from(revision: RevisionId) -> Self {
        revision.0
    }
}

impl fmt::Display for RevisionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        driver::{Dkms, Sign, SourceType},
        layout::{LAYOUT_KEY, LayoutReference},
    };

    #[test]
    fn what_decides_what_is_loaded_makes_another_revision_and_nothing_else_does() {
        let spec = |change: &dyn Fn(&mut CXIDriverSpec)| {
            let mut spec = CXIDriverSpec::new("13.0.0");
            change(&mut spec);
            RevisionId::of("cxi", &spec)
        };
        let plain = spec(&|_| ());
        // As revisions in clusters are called already.
        assert_eq!(plain.as_str(), "aed41fd9");
        let others: Vec<RevisionId> = vec![
            spec(&|spec| spec.version = "13.1.0".to_owned()),
            spec(&|spec| spec.source.kind = SourceType::Prebuilt),
            spec(&|spec| {
                let layout = LayoutReference { name: "stack".to_owned(), key: LAYOUT_KEY.to_owned() };
                spec.source.dkms = Some(Dkms { layout: Some(layout), ..Dkms::default() });
            }),
            spec(&|spec| {
                let layout = LayoutReference { name: "another".to_owned(), key: LAYOUT_KEY.to_owned() };
                spec.source.dkms = Some(Dkms { layout: Some(layout), ..Dkms::default() });
            }),
            spec(&|spec| spec.source.repository_sha256 = Some("0".repeat(64))),
            spec(&|spec| spec.source.builder_image = Some("0".repeat(64))),
            spec(&|spec| spec.source.sign = Some(Sign { key_secret: Some("k".into()), cert_secret: Some("c".into()) })),
        ];
        for (at, one) in others.iter().enumerate() {
            assert!(*one != plain && !others[..at].contains(one), "{at}");
        }
        assert_eq!(spec(&|spec| spec.source.build_secrets = vec!["netrc".to_owned()]), plain);
        assert_eq!(spec(&|spec| spec.paused = true), plain);
    }

    #[test]
    fn names_of_revisions_in_clusters_stay() {
        let revision = |text: &str| {
            let spec: CXIDriverSpec = serde_saphyr::from_str(text).unwrap();
            RevisionId::of("cxi", &spec).to_string()
        };
        let cases = [
            ("version: 13.0.0", "aed41fd9"),
            (include_str!("../../fixtures/revision.yaml"), "6183485f"),
            // Blocks in which only defaults stand, as the API server completes them.
            ("{version: 13.0.0, source: {dkms: {}, registryTLS: {}, modprobe: {}}}", "fffdafe8"),
            (
                "{version: 13.0.0, source: {type: prebuilt, image: r/x, kernelMappings: [{literal: '6.1', image: 'r/y:1'}]}}",
                "68015cbc",
            ),
        ];
        let names: Vec<_> = cases.iter().map(|(spec, _)| revision(spec)).collect();
        assert_eq!(names, cases.map(|(_, name)| name));
    }
}
