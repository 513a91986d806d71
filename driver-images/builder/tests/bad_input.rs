//! What is said of inputs that cannot be used. Nothing of this needs buildah or a network.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{fs, path::Path};

use cxi_driver_image_builder::{
    build::{Inputs, Recipe},
    buildah::Buildah,
};

/// Says why a recipe with these inputs builds nothing, with the test's directory as `DIR`.
fn refusal(directory: &Path, inputs: Inputs) -> String {
    let storage = directory.join("storage");
    fs::create_dir_all(&storage).unwrap();
    let recipe = Recipe {
        inputs,
        repository: "localhost/cxi-driver".to_owned(),
        logs: directory.join("logs"),
        offline: true,
        ..Recipe::default()
    };
    let buildah = Buildah { storage: Some(storage), ..Buildah::default() };
    let error = recipe.build(&buildah, "13.0.0", &"6.1.0-56-amd64".parse().unwrap()).unwrap_err();
    error.to_string().replace(&directory.display().to_string(), "DIR")
}

fn sources(texts: &[String]) -> Inputs {
    Inputs { sources: texts.iter().map(|text| text.parse().unwrap()).collect(), ..Inputs::default() }
}

#[test]
fn every_bad_input_is_one_sentence_with_the_next_step() {
    let work = tempfile::tempdir().unwrap();
    let root = work.path();
    let at = |name: &str| root.join(name).display().to_string();
    fs::create_dir_all(root.join("headers/include")).unwrap();
    fs::create_dir_all(root.join("nested/src/driver")).unwrap();
    fs::write(root.join("nested/src/driver/dkms.conf"), "").unwrap();
    fs::create_dir_all(root.join("tree")).unwrap();
    fs::write(root.join("tree/dkms.conf"), "").unwrap();
    fs::write(root.join("page.tar.gz"), "<html>not an archive</html>").unwrap();
    let archive = root.join("bare.tar.gz");
    let tar = ["-c", "-z", "-f", &archive.display().to_string(), "-C", &at("headers"), "include"].map(str::to_owned);
    assert!(std::process::Command::new("tar").args(tar).status().unwrap().success());
    fs::create_dir_all(root.join("not-headers")).unwrap();

    let sum = "0".repeat(64);
    let cases: Vec<(&str, Inputs)> = vec![
        ("no source", Inputs::default()),
        ("a source that is not there", sources(&[at("nowhere")])),
        ("a directory without dkms.conf", sources(&[at("headers")])),
        ("an archive without dkms.conf", sources(&[at("bare.tar.gz")])),
        ("a dkms.conf further down", sources(&[at("nested")])),
        ("a directory inside that is not there", sources(&[format!("{}#dir=src", at("tree"))])),
        ("another checksum", sources(&[format!("{}#sha256={sum}", at("page.tar.gz"))])),
        ("a checksum of a directory", sources(&[format!("{}#sha256={sum}", at("tree"))])),
        ("something that is no archive", sources(&[at("page.tar.gz")])),
        ("a URL that nobody answers", sources(&[format!("http://127.0.0.1:9/driver.tar.gz#sha256={sum}")])),
        ("headers that are none", Inputs { kernel_headers: vec![root.join("not-headers")], ..sources(&[at("tree")]) }),
        ("a header package that is none", Inputs { kernel_headers: vec![archive.clone()], ..sources(&[at("tree")]) }),
    ];
    let said: Vec<String> =
        cases.into_iter().map(|(what, inputs)| format!("{what}\n  {}\n", refusal(root, inputs))).collect();
    let said = said.concat();
    // How long curl waited.
    let said: Vec<&str> = said.split(" after 0 ms").collect();
    insta::assert_snapshot!(said.concat());
}
