//! Pushing to a registry and asking it: a real one, on a loopback port.

use std::{fs, path::Path};

use crate::{lab::lab, stand_in::first};
use cxi_control_plane::Registry;
use cxi_driver_image_builder::{
    push::{Tls, push},
    registry::tags,
    storage::Use,
};
use cxi_driver_image_format::manifest::{ImageManifest, ManifestModule};

/// An image without modules, whose manifest claims one.
fn hollow(held: &Use, name: &str) {
    let context = tempfile::tempdir().unwrap();
    let module = ManifestModule { name: "cxi_ss1".into(), build_id: "ab".into(), ..ManifestModule::default() };
    let manifest = ImageManifest {
        driver_version: "13.0.0".into(),
        kernel: "6.1.0-56-amd64".into(),
        modules: vec![module],
        ..ImageManifest::default()
    };
    fs::write(context.path().join("manifest.json"), serde_json::to_string(&manifest).unwrap()).unwrap();
    let text = "FROM scratch\nCOPY manifest.json /opt/cxi/manifest.json\n";
    build(held, context.path(), text, name);
}

fn build(held: &Use, context: &Path, text: &str, name: &str) {
    fs::write(context.join("Containerfile"), text).unwrap();
    let file = format!("--file={}", context.join("Containerfile").display());
    let arguments = [file, "--layers".to_owned(), format!("--tag={name}"), context.display().to_string()];
    held.build(&arguments, &context.join("log"), &|_| ()).unwrap().unwrap();
}

#[test]
fn what_is_pushed_is_listed_and_what_is_not_right_is_not_pushed() {
    let lab = lab();
    let registry = Registry::start().unwrap();
    let repository = format!("{}/hpe/cxi-driver", registry.name());
    let insecure = Tls { insecure: true };
    assert!(tags(&repository, insecure).unwrap().is_empty(), "a repository that nobody pushed to");

    let built = first();
    let to = built.reference.replace("localhost/cxi-test", &repository);
    assert_eq!(push(&lab.buildah, &built.reference, Some(&to), insecure).unwrap(), to);
    let tag = format!("13.0.0-{}", lab.kernel.in_tag());
    assert_eq!(tags(&repository, insecure).unwrap(), [tag].into());

    let name = "localhost/cxi-test-hollow:13.0.0-6.1.0-56-amd64";
    hollow(&lab.held, name);
    let error = push(&lab.buildah, name, Some(&format!("{repository}:hollow")), insecure).unwrap_err();
    insta::assert_snapshot!(error);
    assert_eq!(tags(&repository, insecure).unwrap().len(), 1);

    let refusals = [
        push(&lab.buildah, &built.reference, None, insecure).unwrap_err().to_string(),
        push(&lab.buildah, "localhost/nothing:1", None, insecure).unwrap_err().to_string(),
    ];
    let said = lab.without_kernel(&refusals.join("\n"));
    insta::assert_snapshot!("refusals", said);
}
