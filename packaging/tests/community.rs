//! What a pull request to the community's catalogs needs beside the bundle, by the rules of their pipelines (`operator-pipelines`:
//! `schemas/ci-schema.json`, `schemas/release-config-schema.json`, `check_ci_upgrade_graph`, `check_catalog_usage_ci_config`,
//! `check_bundle_images_in_fbc`, and `add_bundle_to_fbc.py`, which adds a release to a template).

use std::{collections::BTreeSet, path::Path};

use anyhow::{Context, Result, ensure};
use cxi_packaging::olm::CHANNEL;
use serde_json::{Value, json};

/// The files as they are parsed.
#[derive(Clone, Debug)]
struct Files {
    /// `ci.yaml` for OperatorHub.io.
    operatorhub: Value,
    /// `ci.yaml` for OpenShift.
    ci: Value,
    /// `release-config.yaml` for OpenShift.
    release: Value,
    /// `catalog-templates/semver.yaml` for OpenShift.
    template: Value,
    /// `com.redhat.openshift.versions` of the bundle.
    since: String,
}

fn read(path: &str) -> Result<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
    serde_saphyr::from_str(&text).with_context(|| path.display().to_string())
}

impl Files {
    fn committed() -> Result<Self> {
        let openshift = |name: &str| read(&format!("olm/community-operators/openshift/{name}"));
        let annotations = &read("bundle/metadata/annotations.yaml")?["annotations"];
        Ok(Self {
            operatorhub: read("olm/community-operators/operatorhub/ci.yaml")?,
            ci: openshift("ci.yaml")?,
            release: openshift("release-config.yaml")?,
            template: openshift("catalog-templates/semver.yaml")?,
            since: annotations["com.redhat.openshift.versions"].as_str().context("versions of OpenShift")?.to_owned(),
        })
    }
}

fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The channels of a `olm.semver` template, as the pipeline spells them.
const CHANNELS: [&str; 3] = ["Candidate", "Fast", "Stable"];

/// The number after `v4.`.
fn minor(version: &str) -> Option<u32> {
    version.strip_prefix("v4.")?.parse().ok()
}

/// What their pipelines would refuse or do otherwise than we mean.
fn findings(files: &Files) -> Vec<String> {
    let mut findings = Vec::new();
    let mut check = |good: bool, otherwise: String| {
        if !good {
            findings.push(otherwise);
        }
    };
    let graph = &files.operatorhub["updateGraph"];
    check(["replaces-mode", "semver-mode"].iter().any(|mode| graph == *mode), format!("updateGraph {graph}"));
    for ci in [&files.ci, &files.operatorhub] {
        let names = list(ci, "/reviewers");
        check(ci["reviewers"].is_array() && names.iter().all(Value::is_string), format!("reviewers {names:?}"));
    }

    check(files.ci["fbc"]["enabled"] == true, "the workflow with catalogs in files is not chosen".to_owned());
    let mappings = list(&files.ci, "/fbc/catalog_mapping");
    check(!mappings.is_empty(), "no template is mapped to a catalog".to_owned());
    let mut catalogs = BTreeSet::new();
    for mapping in mappings {
        check(mapping["type"] == "olm.semver", format!("type of {mapping}"));
        let names = list(mapping, "/catalog_names");
        check(!names.is_empty(), format!("{mapping} names no catalog"));
        for name in names.iter().filter_map(Value::as_str) {
            check(catalogs.insert(name), format!("{name} is made of two templates"));
            let served = minor(name).zip(minor(&files.since)).is_some_and(|(catalog, since)| catalog >= since);
            check(served, format!("{name} is not one of {} and newer", files.since));
        }
    }
    check(catalogs.contains(files.since.as_str()), format!("no catalog for {}", files.since));

    let releases = list(&files.release, "/catalog_templates");
    check(!releases.is_empty(), "a release goes to no template".to_owned());
    for release in releases {
        let mapped = mappings.iter().any(|mapping| mapping["template_name"] == release["template_name"]);
        check(mapped, format!("{release} is of no template in ci.yaml"));
        let channels = list(release, "/channels");
        let known = channels.iter().all(|channel| CHANNELS.iter().any(|known| channel == known));
        check(known && !channels.is_empty(), format!("channels of {release}"));
        for channel in channels.iter().filter_map(Value::as_str) {
            let bundles = &files.template[channel]["Bundles"];
            check(bundles.is_array(), format!("the template has no {channel}.Bundles to add to"));
            // They build and publish images of their own, and allow no others.
            check(bundles.as_array().is_none_or(Vec::is_empty), format!("{channel} has images: {bundles}"));
            let majors = format!("{}-v{}", channel.to_lowercase(), env!("CARGO_PKG_VERSION_MAJOR"));
            check(majors == CHANNEL, format!("{majors} is not the bundle's channel {CHANNEL}"));
        }
    }
    let generated = (&files.template["GenerateMajorChannels"], &files.template["GenerateMinorChannels"]);
    check(generated == (&json!(true), &json!(false)), format!("channels that are made: {generated:?}"));
    check(files.template["Schema"] == "olm.semver", "the template is of another kind".to_owned());
    findings
}

#[test]
fn the_files_for_the_community_are_what_its_pipelines_take() -> Result<()> {
    let findings = findings(&Files::committed()?);
    ensure!(findings.is_empty(), "{findings:#?}");
    Ok(())
}

#[test]
fn what_they_would_refuse_is_found() -> Result<()> {
    type Spoil = fn(&mut Files);
    let cases: [(&str, Spoil); 14] = [
        ("updateGraph", |files| files.operatorhub["updateGraph"] = json!("any")),
        ("reviewers", |files| files.ci["reviewers"] = json!([1])),
        ("catalogs in files", |files| files.ci["fbc"]["enabled"] = json!(false)),
        ("no template is mapped", |files| files.ci["fbc"]["catalog_mapping"] = json!([])),
        ("type of", |files| files.ci["fbc"]["catalog_mapping"][0]["type"] = json!("olm.template.semver")),
        ("two templates", |files| {
            let first = files.ci["fbc"]["catalog_mapping"][0].clone();
            files.ci["fbc"]["catalog_mapping"].as_array_mut().expect("a list").push(first);
        }),
        ("and newer", |files| files.ci["fbc"]["catalog_mapping"][0]["catalog_names"] = json!(["v4.19", "v4.20"])),
        ("no catalog for", |files| files.ci["fbc"]["catalog_mapping"][0]["catalog_names"] = json!(["v4.21"])),
        ("no template in ci.yaml", |files| {
            files.release["catalog_templates"][0]["template_name"] = json!("other.yaml");
        }),
        ("channels of", |files| files.release["catalog_templates"][0]["channels"] = json!(["stable"])),
        ("to no template", |files| files.release["catalog_templates"] = json!([])),
        ("no Stable.Bundles", |files| files.template = json!({ "stable": { "bundles": [] } })),
        ("has images", |files| files.template["Stable"]["Bundles"] = json!([{ "Image": "ghcr.io/x:1" }])),
        ("channels that are made", |files| files.template["GenerateMinorChannels"] = json!(true)),
    ];
    for (said, spoil) in cases {
        let mut files = Files::committed()?;
        spoil(&mut files);
        let findings = findings(&files);
        ensure!(findings.iter().any(|finding| finding.contains(said)), "{said}: {findings:#?}");
    }
    Ok(())
}
