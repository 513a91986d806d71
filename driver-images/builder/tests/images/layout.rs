//! Trees as a vendor publishes them, which build by a layout and not without it.

use std::{fs, path::PathBuf};

use cxi_driver_image_builder::{
    build::Inputs,
    unpack,
    verify::{Expected, verify, warnings},
};
use cxi_driver_image_format::ImageManifest;
use cxi_driver_image_lab::STACK;

use crate::{
    lab::{StandIn, another_date, lab},
    stand_in::{expected, failure},
};

fn by_layout(layout: PathBuf) -> Inputs {
    Inputs { layout: Some(layout), ..Inputs::default() }
}

#[test]
fn trees_as_they_are_published_build_by_their_layout() {
    let lab = lab();
    let sources = StandIn::published("13.0.0").unwrap();
    let logs = tempfile::tempdir().unwrap();
    let mut recipe = lab.recipe(by_layout(sources.layout()), "cxi-test-layout", logs.path());
    recipe.modules = STACK.map(str::to_owned).into();
    let built = recipe.build(&lab.buildah, "13.0.0", &lab.kernel).unwrap();
    assert_eq!(built.warnings, Vec::<String>::new());

    let contents = unpack::image(&lab.buildah, &built.reference).unwrap();
    assert_eq!(verify(&contents, &expected(lab.kernel.as_str())), []);
    assert_eq!(contents.firmware, ["cxi/link.bin"], "what the build of sl-driver made is in the image");
    let manifest = ImageManifest::parse(contents.manifest.as_deref().unwrap()).unwrap();
    let named: Vec<&str> = manifest.sources.iter().map(|source| source.name.as_str()).collect();
    assert_eq!(
        named,
        ["cassini-headers", "firmware-interface", "cray-slingshot-base-link", "sl-driver", "cray-cxi-driver"]
    );
    assert_eq!(manifest.firmware, ["cxi/link.bin"]);

    // What is told by hand counts like what a layout and the modules say.
    let told = Expected { firmware: vec!["cxi/serdes.bin".to_owned()], ..expected(lab.kernel.as_str()) };
    let warned = warnings(&contents, &told);
    assert!(warned.len() == 1 && warned[0].starts_with("it has no firmware cxi/serdes.bin below"), "{warned:?}");
}

#[test]
fn an_image_without_the_firmware_that_its_stack_needs_gets_a_warning() {
    let lab = lab();
    let sources = StandIn::published("13.0.0").unwrap();
    let text = fs::read_to_string(sources.layout()).unwrap();
    fs::write(sources.layout(), text.replace("firmware:\n  - {from: fw/link.bin, to: cxi/}", "firmware: []")).unwrap();
    let logs = tempfile::tempdir().unwrap();
    let mut recipe = lab.recipe(by_layout(sources.layout()), "cxi-test-no-firmware", logs.path());
    recipe.epoch = Some(another_date());
    let built = recipe.build(&lab.buildah, "13.0.0", &lab.kernel).unwrap();
    insta::assert_snapshot!(built.warnings.join("\n"));
    let log =
        fs::read_to_string(logs.path().join(format!("13.0.0-{}", lab.kernel.in_tag())).join("build.log")).unwrap();
    assert!(log.contains("\ncxi-warning: the image has no firmware cxi/link.bin"), "a build in a cluster says it too");
}

#[test]
fn without_their_layout_they_do_not_build() {
    let lab = lab();
    let sources = StandIn::published("13.0.0").unwrap();
    let logs = tempfile::tempdir().unwrap();
    insta::assert_snapshot!(failure(sources.inputs().unwrap(), lab.kernel.as_str(), logs.path()));
}

/// Found on this machine, before anything is built.
#[test]
fn a_layout_that_does_not_fit_its_trees_names_file_field_and_fix() {
    let lab = lab();
    let sources = StandIn::published("13.0.0").unwrap();
    let text = fs::read_to_string(sources.layout()).unwrap();
    let mut said = String::new();
    for (what, from, to) in [
        ("a glob that matches nothing", "configs/nic.mk", "configs/hca.mk"),
        ("several for one file", "configs/nic.mk", "configs/*.mk"),
        ("a tree that is not there", "directory: sl-driver-{version}", "directory: sl-driver-12"),
        ("no dkms.conf", "kind: headers\n  directory: firmware", "kind: module\n  directory: firmware"),
        ("an unknown field", "after:", "needs:"),
        ("a place above", "to: config.mk", "to: ../config.mk"),
    ] {
        let changed = text.replace(from, to);
        assert_ne!(changed, text);
        fs::write(sources.layout(), changed).unwrap();
        let logs = tempfile::tempdir().unwrap();
        let why = failure(by_layout(sources.layout()), lab.kernel.as_str(), logs.path());
        let place = sources.layout().parent().unwrap().display().to_string();
        said.extend([what, "\n  ", &why.replace(&place, "DIR"), "\n"]);
    }
    insta::assert_snapshot!(said);
}
