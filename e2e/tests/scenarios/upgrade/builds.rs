//! Images that do not exist and are built by KMM. Nobody builds anything here: the scenario says of KMM's builds how they end.

use anyhow::{Context, Result, ensure};
use cxi_api::{Reason, names::module_name};
use cxi_control_plane::NAMESPACE;
use cxi_e2e::{
    driver_model::image_reference,
    harness::REPOSITORY,
    scenario::{DRIVER, LONG, NEW, OLD, Scenario},
    soft_node::NodeShape,
};
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{
    Api,
    api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

use super::at_once;

const KERNEL: &str = "6.1.0-56-amd64";

/// OpenShift's builds, by which this flavour of KMM builds.
fn builds(s: &Scenario) -> Api<DynamicObject> {
    let resource = ApiResource {
        group: "build.openshift.io".into(),
        version: "v1".into(),
        api_version: "build.openshift.io/v1".into(),
        kind: "Build".into(),
        plural: "builds".into(),
    };
    Api::namespaced_with(s.harness.client.clone(), NAMESPACE, &resource)
}

/// The one build whose name contains this and that has not ended.
async fn build(s: &Scenario, kind: &str) -> Result<DynamicObject> {
    let open = async || {
        let all = builds(s).list(&ListParams::default()).await?.items;
        // KMM writes an empty phase, which OpenShift would fill in.
        let ended =
            |build: &DynamicObject| build.data["status"]["phase"].as_str().is_some_and(|phase| !phase.is_empty());
        let open = all.into_iter().filter(|build| !ended(build));
        let mut named = open.filter(|build| build.metadata.name.as_ref().is_some_and(|name| name.contains(kind)));
        Ok::<_, anyhow::Error>(named.next())
    };
    s.until(&format!("KMM starts a {kind}"), || async { Ok(open().await?.is_some()) }).await?;
    open().await?.context("it is there")
}

async fn ends(s: &Scenario, build: &DynamicObject, phase: &str) -> Result<()> {
    let name = build.metadata.name.as_deref().unwrap_or_default();
    let patch = json!({ "status": { "phase": phase } });
    builds(s).patch(name, &PatchParams::default(), &Patch::Merge(&patch)).await.context("end a build")?;
    Ok(())
}

async fn preflight_says(s: &Scenario, words: &str) -> Result<()> {
    s.until(&format!("PreflightPassed says {words:?}"), || async {
        let condition = s.condition("PreflightPassed").await?;
        Ok(condition.is_some_and(|(status, message)| status == "False" && message.contains(words)))
    })
    .await
}

async fn secret(s: &Scenario, name: &str, key: &str) -> Result<()> {
    let secrets: Api<Secret> = Api::namespaced(s.harness.client.clone(), NAMESPACE);
    let secret = serde_json::from_value(json!({ "metadata": { "name": name }, "stringData": { key: "x" } }))?;
    secrets.create(&PostParams::default(), &secret).await?;
    Ok(())
}

fn argument<'a>(build: &'a DynamicObject, name: &str) -> Option<&'a str> {
    let arguments = build.data["spec"]["strategy"]["dockerStrategy"]["buildArgs"].as_array()?.iter();
    arguments.into_iter().find(|argument| argument["name"] == name)?["value"].as_str()
}

#[tokio::test(flavor = "multi_thread")]
async fn kmm_builds_and_signs_what_is_missing_and_no_node_is_touched_before() -> Result<()> {
    let mut s = Scenario::start(0).await?;
    let shape = NodeShape { kernel: KERNEL.to_owned(), ..NodeShape::default() };
    s.nodes = s.harness.soft.add_nodes("n", 2, &shape);
    s.harness.soft.wait_until_ready(LONG).await?;
    s.install(at_once(2)).await?;
    secret(&s, "signing-key", "key").await?;
    secret(&s, "signing-certificate", "cert").await?;
    secret(&s, "sources", "netrc").await?;
    let image = image_reference(REPOSITORY, NEW, KERNEL);
    s.harness.soft.with_registry(|registry| registry.withdraw(&image));

    let source = json!({
        "type": "dkms",
        "dkms": { "tag": "release/shs-13.1.0" },
        "buildSecrets": ["sources"],
        "registryTLS": { "insecure": true },
        "sign": { "keySecret": "signing-key", "certSecret": "signing-certificate" },
    });
    s.harness.edit_driver(DRIVER, &json!({ "spec": { "version": NEW, "source": source } })).await?;
    preflight_says(&s, "KMM is building image").await?;
    for node in &s.nodes {
        s.until_blocked(node, Reason::ImageMissing).await?;
    }
    let first = build(&s, "-build").await?;
    let name = module_name(&s.revision(NEW).await?);
    let maps: Api<ConfigMap> = Api::namespaced(s.harness.client.clone(), NAMESPACE);
    let map = maps.get(&name).await?;
    ensure!(
        map.metadata.owner_references.iter().flatten().any(|owner| owner.kind == "Module" && owner.name == name),
        "the ConfigMap does not go with its Module"
    );
    let text =
        map.data.as_ref().and_then(|data| data.get("dockerfile")).context("the ConfigMap has a Containerfile")?;
    ensure!(first.data["spec"]["source"]["dockerfile"] == text.as_str(), "KMM builds something else");
    ensure!(argument(&first, "KERNEL_FULL_VERSION") == Some(KERNEL));
    ensure!(argument(&first, "DRIVER_VERSION") == Some(NEW));
    ensure!(argument(&first, "BUILDER_BASE") == Some("docker.io/library/debian:bookworm"));
    ensure!(first.data["spec"].to_string().contains("/run/secrets/sources"), "the build does not get its Secret");

    // A build that fails is said, and nothing more happens until somebody takes it away.
    ends(&s, &first, "Failed").await?;
    preflight_says(&s, "the build of image").await?;
    s.all_run(OLD).await?;
    for node in &s.nodes {
        ensure!(s.unloads(node) == 0, "{node} was touched");
    }
    builds(&s).delete(&first.metadata.name.clone().unwrap_or_default(), &DeleteParams::default()).await?;

    let second = build(&s, "-build").await?;
    ends(&s, &second, "Complete").await?;
    preflight_says(&s, "KMM is signing image").await?;
    let signing = build(&s, "-sign").await?;
    let text = signing.data["spec"]["source"]["dockerfile"].as_str().unwrap_or_default();
    ensure!(text.contains(&format!("/opt/lib/modules/{KERNEL}/extra/cxi-ss1.ko")), "KMM signs something else:\n{text}");
    s.harness.soft.with_registry(|registry| registry.restore(&image));
    ends(&s, &signing, "Complete").await?;
    s.verified().await?;
    s.all_run(NEW).await?;
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_move_when_the_image_was_built_and_the_containerfile_goes_with_its_revision() -> Result<()> {
    let mut s = Scenario::start(0).await?;
    let shape = NodeShape { kernel: KERNEL.to_owned(), ..NodeShape::default() };
    s.nodes = s.harness.soft.add_nodes("n", 1, &shape);
    s.harness.soft.wait_until_ready(LONG).await?;
    s.install(|spec| spec.revision_history_limit = 0).await?;
    let image = image_reference(REPOSITORY, NEW, KERNEL);
    s.harness.soft.with_registry(|registry| registry.withdraw(&image));

    let source = json!({ "prebuiltCache": "https://modules.example/cxi" });
    s.harness.edit_driver(DRIVER, &json!({ "spec": { "version": NEW, "source": source } })).await?;
    preflight_says(&s, "KMM is building image").await?;
    let packing = build(&s, "-build").await?;
    let text = packing.data["spec"]["source"]["dockerfile"].as_str().unwrap_or_default();
    ensure!(text.contains("'https://modules.example/cxi'"), "KMM packs something else");
    let name = module_name(&s.revision(NEW).await?);
    s.harness.soft.with_registry(|registry| registry.restore(&image));
    ends(&s, &packing, "Complete").await?;
    s.verified().await?;
    s.all_run(NEW).await?;

    // On to images that exist.
    s.harness
        .edit_driver(DRIVER, &json!({ "spec": { "version": "13.2.0", "source": { "prebuiltCache": null } } }))
        .await?;
    s.verified().await?;
    let maps: Api<ConfigMap> = Api::namespaced(s.harness.client.clone(), NAMESPACE);
    s.until("the Containerfile is gone", || async { Ok(maps.get_opt(&name).await?.is_none()) }).await?;
    s.finish().await
}

/// Creates a ConfigMap with a layout.
async fn layout(s: &Scenario, name: &str, immutable: bool, text: &str) -> Result<()> {
    let maps: Api<ConfigMap> = Api::namespaced(s.harness.client.clone(), NAMESPACE);
    let map = json!({ "metadata": { "name": name }, "immutable": immutable, "data": { "layout.yaml": text } });
    maps.create(&PostParams::default(), &serde_json::from_value(map)?).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn kmm_builds_by_a_layout_and_one_that_cannot_be_used_is_said() -> Result<()> {
    let mut s = Scenario::start(0).await?;
    let shape = NodeShape { kernel: KERNEL.to_owned(), ..NodeShape::default() };
    s.nodes = s.harness.soft.add_nodes("n", 1, &shape);
    s.harness.soft.wait_until_ready(LONG).await?;
    s.install(at_once(1)).await?;
    let image = image_reference(REPOSITORY, NEW, KERNEL);
    s.harness.soft.with_registry(|registry| registry.withdraw(&image));
    let text = include_str!("../../../../driver-images/stand-in/layout.yaml");
    layout(&s, "on-a-disk", true, text).await?;
    layout(
        &s,
        "stack",
        true,
        &text.replace("directory: ", "archive: https://sources.example/").replace("{version}\n", "{version}.tar.gz\n"),
    )
    .await?;

    let source = |name: &str| json!({ "spec": { "version": NEW, "source": { "type": "dkms", "dkms": { "layout": { "name": name } } } } });
    s.harness.edit_driver(DRIVER, &source("on-a-disk")).await?;
    let says = "trees[0]: a build in the cluster has no file of the tree cassini-headers";
    s.until("an event says what is wrong with the layout", || async {
        let notes = "-o=jsonpath={range .items[?(@.reason==\"LayoutRefused\")]}{.note}{.message}{\"\\n\"}{end}";
        let events = tokio::task::block_in_place(|| s.harness.plane.kubectl(&["get", "events", "-A", notes]))?;
        Ok(events.contains(says))
    })
    .await?;
    preflight_says(&s, says).await?;
    s.all_run(OLD).await?;

    s.harness.edit_driver(DRIVER, &source("stack")).await?;
    let building = build(&s, "-build").await?;
    let text = building.data["spec"]["source"]["dockerfile"].as_str().unwrap_or_default();
    for part in [
        "archive 'https://sources.example/firmware-interface-13.1.0.tar.gz'",
        "'ConfigMap stack: trees[2].copy[0]\t03-cray-slingshot-base-link\tconfigs/nic.mk\t03-cray-slingshot-base-link\tconfig.mk'",
        "'ConfigMap stack: trees[3].firmware[0]\tfw/link.bin\tcxi/'",
        "sh /cxi/bin/arrange /cxi",
    ] {
        ensure!(text.contains(part), "KMM builds something else: {part} is not in\n{text}");
    }
    s.harness.soft.with_registry(|registry| registry.restore(&image));
    ends(&s, &building, "Complete").await?;
    s.verified().await?;
    s.all_run(NEW).await?;
    s.finish().await
}
