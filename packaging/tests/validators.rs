//! The bundle and a catalog of it, judged by the Operator Framework's own programs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use cxi_control_plane::{Family, Progress, Tool, Toolbox};
use cxi_packaging::{
    olm::{self, CHANNEL, Flavour, PACKAGE, Release},
    release::unpublished,
};

fn tool(tool: Tool, arguments: &[&str]) -> Result<Output> {
    let toolbox = Toolbox::ensure(&[Family::OlmChecks], &Progress::stderr())?;
    Ok(Command::new(toolbox.path(tool)?).args(arguments).output()?)
}

/// Writes a bundle into a directory of `place` and returns where it is.
fn written(place: &Path, version: &str, flavour: Flavour) -> Result<PathBuf> {
    let images = unpublished(version)?;
    let directory = place.join(format!("{flavour:?}-{version}"));
    for (name, text) in olm::bundle(&Release { version, images: &images, flavour })? {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().context("a directory")?)?;
        fs::write(path, text)?;
    }
    Ok(directory)
}

/// Whether operator-verify says this of every bundle with our rights.
fn is_known(line: &str) -> bool {
    // Of itself; the community's pipelines still run it.
    let of_itself = line.contains("validator is deprecated; for equivalent validation use");
    // Of rights to Events and PodDisruptionBudgets, in any order: RBAC names no versions, and it takes them for v1beta1.
    let count = |text: &str| line.matches(text).count();
    let of_rights = count("removed in v1.25") == 1
        && count(": ([") > 0
        && count(": ([") == count("events: ([") + count("poddisruptionbudgets: ([");
    of_itself || of_rights
}

/// What operator-verify has to say. It ends well whatever it found, and prints a line per finding.
fn findings(bundle: &Path) -> Result<Vec<String>> {
    let path = bundle.display().to_string();
    let output = tool(Tool::OperatorVerify, &["manifests", "--operatorhub_validate", "--object_validate", &path])?;
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Ok(said.lines().filter(|line| !line.trim().is_empty() && !is_known(line)).map(str::to_owned).collect())
}

#[test]
fn operator_verify_finds_nothing() -> Result<()> {
    let committed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../bundle");
    let place = tempfile::tempdir()?;
    let v1 = written(place.path(), "1.2.3", Flavour::V1)?;
    for bundle in [committed, v1] {
        let findings = findings(&bundle)?;
        ensure!(findings.is_empty(), "{}: {findings:#?}", bundle.display());
    }
    Ok(())
}

#[test]
fn operator_verify_finds_what_is_wrong() -> Result<()> {
    let place = tempfile::tempdir()?;
    let bundle = written(place.path(), "1.2.3", Flavour::V0)?;
    fs::remove_file(bundle.join("manifests/cxinodes.cxi.hpe.com.yaml"))?;
    let missing = findings(&bundle)?;
    ensure!(missing.iter().any(|line| line.contains("Kind=CXINode") && line.contains("not found")), "{missing:#?}");

    let bundle = written(place.path(), "1.2.4", Flavour::V0)?;
    let csv = bundle.join("manifests/cxi-operator.clusterserviceversion.yaml");
    fs::write(&csv, fs::read_to_string(&csv)?.replace("categories: Networking", "categories: Nothing"))?;
    let category = findings(&bundle)?;
    ensure!(category.iter().any(|line| line.contains("Nothing")), "{category:#?}");
    Ok(())
}

/// A catalog with these bundles, each an update of the one before.
fn catalog(place: &Path, bundles: &[(&str, PathBuf)]) -> Result<PathBuf> {
    let directory = place.join("catalog").join(PACKAGE);
    fs::create_dir_all(&directory)?;
    let names: Vec<_> = bundles.iter().map(|(version, _)| format!("{PACKAGE}.v{version}")).collect();
    let mut text = olm::catalog::package(PACKAGE, CHANNEL, &names.iter().map(String::as_str).collect::<Vec<_>>())?;
    for (_, bundle) in bundles {
        let output = tool(Tool::Opm, &["render", &bundle.display().to_string(), "-o", "yaml"])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        text += "\n---\n";
        text += &String::from_utf8(output.stdout)?;
    }
    fs::write(directory.join("catalog.yaml"), text)?;
    Ok(place.join("catalog"))
}

#[test]
fn a_catalog_of_two_releases_is_valid_and_depends_on_kmm() -> Result<()> {
    for flavour in [Flavour::V0, Flavour::V1] {
        let place = tempfile::tempdir()?;
        let bundles = ["1.2.3", "1.3.0"].map(|version| (version, written(place.path(), version, flavour)));
        let bundles = bundles.into_iter().map(|(v, path)| Ok((v, path?))).collect::<Result<Vec<_>>>()?;
        let catalog = catalog(place.path(), &bundles)?;
        let path = catalog.display().to_string();
        let output = tool(Tool::Opm, &["validate", &path])?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

        let file = catalog.join(PACKAGE).join("catalog.yaml");
        let text = fs::read_to_string(&file)?;
        let depends = text.contains("olm.gvk.required") && text.contains("kmm.sigs.x-k8s.io");
        ensure!(depends == (flavour == Flavour::V0), "{flavour:?}: a dependency on KMM: {depends}");

        fs::write(&file, text.replacen(&format!("replaces: {PACKAGE}.v1.2.3"), "replaces: nothing.v1", 1))?;
        let output = tool(Tool::Opm, &["validate", &path])?;
        ensure!(!output.status.success(), "opm accepts an update of a release that does not exist");
    }
    Ok(())
}

#[test]
fn the_catalog_template_has_this_release() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = fs::read_to_string(root.join("olm/catalog-template.yaml"))?;
    let image = format!("cxi-operator-bundle:v{}", env!("CARGO_PKG_VERSION"));
    ensure!(text.contains(&image), "olm/catalog-template.yaml lacks {image}");
    let channel = format!("stable-v{}", env!("CARGO_PKG_VERSION_MAJOR"));
    ensure!(CHANNEL == channel, "the channel of this major version is {channel}");
    Ok(())
}
