//! A bundle as a pipeline reads it.

use std::{collections::BTreeMap, path::Path};

use cxi_packaging::{
    olm::{self, Flavour, Release},
    release::unpublished,
};
use serde_json::Value;

/// The files of a bundle, parsed.
#[derive(Clone)]
pub struct Bundle {
    /// The ClusterServiceVersion.
    pub csv: Value,
    /// The other objects by the names of their files.
    pub objects: BTreeMap<String, Value>,
    /// `annotations` of `metadata/annotations.yaml`.
    pub annotations: Value,
    /// `dependencies` of `metadata/dependencies.yaml`; null without the file.
    pub dependencies: Value,
    /// `bundle.Dockerfile`.
    pub dockerfile: String,
    /// Bytes of all manifests together.
    pub size: usize,
}

impl Bundle {
    /// The bundle in the repository.
    pub fn committed() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut files = BTreeMap::new();
        for directory in ["manifests", "metadata"] {
            for entry in std::fs::read_dir(root.join("bundle").join(directory)).unwrap() {
                let path = entry.unwrap().path();
                let name = format!("{directory}/{}", path.file_name().unwrap().to_str().unwrap());
                files.insert(name, std::fs::read_to_string(&path).unwrap());
            }
        }
        Self::read(&files, std::fs::read_to_string(root.join("bundle.Dockerfile")).unwrap())
    }

    /// The variant for OLM v1.
    pub fn of_olm_v1() -> Self {
        let images = unpublished("1.2.3").unwrap();
        let release = Release { version: "1.2.3", images: &images, flavour: Flavour::V1 };
        Self::read(&olm::bundle(&release).unwrap(), olm::dockerfile())
    }

    fn read(files: &BTreeMap<String, String>, dockerfile: String) -> Self {
        // One document per file, as OLM reads it: more is an error here.
        let parse = |text: &String| serde_saphyr::from_str::<Value>(text).unwrap();
        let mut objects: BTreeMap<_, _> = files
            .iter()
            .filter_map(|(name, text)| Some((name.strip_prefix("manifests/")?.to_owned(), parse(text))))
            .collect();
        let csv = objects.remove("cxi-operator.clusterserviceversion.yaml").unwrap();
        Self {
            csv,
            objects,
            annotations: parse(&files["metadata/annotations.yaml"])["annotations"].take(),
            dependencies: files
                .get("metadata/dependencies.yaml")
                .map_or(Value::Null, |text| parse(text)["dependencies"].take()),
            dockerfile,
            size: files.iter().filter(|(name, _)| name.starts_with("manifests/")).map(|(_, text)| text.len()).sum(),
        }
    }

    /// The text at a place of the ClusterServiceVersion; empty when it is absent.
    pub fn text(&self, pointer: &str) -> &str {
        self.csv.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The list at a place of the ClusterServiceVersion; empty when it is absent.
    pub fn list(&self, pointer: &str) -> &[Value] {
        self.csv.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// An annotation of the ClusterServiceVersion; empty when it is absent.
    pub fn annotation(&self, key: &str) -> &str {
        self.csv["metadata"]["annotations"][key].as_str().unwrap_or_default()
    }

    /// Examples of the kinds.
    pub fn examples(&self) -> Vec<Value> {
        serde_json::from_str(self.annotation("alm-examples")).unwrap_or_default()
    }

    /// The owned kinds as the ClusterServiceVersion has them.
    pub fn owned(&self) -> &[Value] {
        self.list("/spec/customresourcedefinitions/owned")
    }

    /// Objects of a kind.
    pub fn of_kind<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Value> {
        self.objects.values().filter(move |object| object["kind"] == kind)
    }

    /// The containers of all Deployments.
    pub fn containers(&self) -> impl Iterator<Item = &Value> {
        let deployments = self.list("/spec/install/spec/deployments").iter();
        deployments.filter_map(|deployment| deployment.pointer("/spec/template/spec/containers")?.as_array()).flatten()
    }
}
