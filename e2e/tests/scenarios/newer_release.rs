//! The next release of the operator, installed as docs/install.md has it for one file, in the middle of a rollout of drivers.
//!
//! There are no containers: a process of the operator is started for each pod of its Deployment, and ended with it.

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use cxi_api::{GoDuration, Phase, Reason, names::OPERATOR, strategy::DrainPolicy};
use cxi_control_plane::{ControlPlane, NAMESPACE};
use cxi_e2e::{
    harness::{Harness, HarnessOptions},
    jobs::JobShape,
    operator::Operator,
    planes::{Contents, Plane, Wanted},
    scenario::{DRIVER, LONG, NEW, OLD, Scenario},
    soft_node::NodeShape,
};
use cxi_packaging::{install, release::unpublished};
use k8s_openapi::{
    api::{apps::v1::Deployment, core::v1::Pod},
    apimachinery::pkg::util::intstr::IntOrString,
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::{Value, json};
use tokio::{task::block_in_place, time::Instant};

use crate::{
    page::{Page, Shell},
    releases,
};

/// The release before.
const EARLIER: &str = "0.0.9";

/// This release, whose `install.yaml` is committed.
const THIS: &str = env!("CARGO_PKG_VERSION");

/// A field that the release before did not have, below the schema of a CXIDriver.
const NEW_FIELD: (&str, &str) = ("/spec/properties/source/properties/modprobe/properties", "parameters");

/// The job that a node waits for.
const JOB: &str = "train";

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_install_yaml_in_the_middle_of_a_rollout_changes_the_operator_and_hurts_no_node() -> Result<()> {
    let plane = Plane::take(Wanted { contents: Contents::OnlyKmm, audit: false, keep_data: false }).await?;
    block_in_place(|| apply(&plane, Some(&earlier()?)))?;
    let image = |version: &str| format!("ghcr.io/cxi-operator/cxi-agent:{version}");
    let images = vec![image(EARLIER), image(THIS)];
    let harness = Harness::on(plane, HarnessOptions { images, ..HarnessOptions::default() }).await?;
    let mut scenario = Scenario::on(harness, 4, &NodeShape::default()).await?;
    let mut replicas = Replicas::default();
    replicas.are_of(&scenario, EARLIER).await?;
    scenario.operator_caught_up();
    scenario
        .install(|spec| {
            spec.update_strategy.max_unavailable = IntOrString::Int(2);
            spec.update_strategy.drain.policy = DrainPolicy::WaitForCompletion;
            spec.update_strategy.drain.wait_timeout = GoDuration(Duration::from_mins(10));
        })
        .await?;
    releases::operands_are_of(&scenario, EARLIER).await?;
    let before = Identity::of(&scenario).await?;
    ensure!(!block_in_place(|| knows_the_new_field(&scenario)), "the earlier release has the field");

    // One node waits for a job, one has the new driver and no links yet, and others wait for their turn.
    scenario.harness.jobs.pod(JOB, &JobShape::on("n-01")).await?;
    scenario.until("the job runs", || async { Ok(scenario.harness.jobs.running_on(JOB).await?.len() == 1) }).await?;
    for node in ["n-02", "n-03", "n-04"] {
        scenario.harness.soft.hold_links_down(node, &[NEW])?;
    }
    scenario.upgrade_to(NEW).await?;
    let verifying = in_phase(&scenario, Phase::Verifying).await?;
    let rollout = scenario.status().await?.rollout.context("a rollout")?.id;

    scenario.operator_changes();
    block_in_place(|| apply(&scenario.harness.plane, None))?;
    replicas.are_of(&scenario, THIS).await?;
    scenario.operator_caught_up();

    ensure!(Identity::of(&scenario).await? == before, "the CRDs or the CXIDriver are not what they were");
    ensure!(block_in_place(|| knows_the_new_field(&scenario)), "the CRD is not the newer one");
    let now = scenario.status().await?.rollout.context("the rollout is gone")?.id;
    ensure!(now == rollout, "another rollout began: {rollout}, then {now}");
    for node in &verifying {
        ensure!(scenario.driver(node).as_deref() == Some(NEW) && scenario.unloads(node) == 1, "{node} was touched");
    }

    for node in ["n-02", "n-03", "n-04"] {
        scenario.harness.soft.hold_links_down(node, &[])?;
    }
    scenario.until_blocked("n-01", Reason::PodsRunning).await?;
    let running = scenario.harness.jobs.running_on(JOB).await?;
    ensure!(running == ["n-01"] && scenario.driver("n-01").as_deref() == Some(OLD), "the job was disturbed");
    releases::end_pod(&scenario, JOB).await?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    for node in &scenario.nodes {
        ensure!(scenario.unloads(node) == 1, "{node} was unloaded {} times", scenario.unloads(node));
    }
    releases::operands_are_of(&scenario, THIS).await?;
    scenario.judge().await?;
    replicas.end()
}

/// `install.yaml` of the release before: other images, and CRDs without what is new.
fn earlier() -> Result<String> {
    let mut objects = install::objects(&unpublished(EARLIER)?)?;
    let (place, field) = NEW_FIELD;
    let schema = format!("/spec/versions/0/schema/openAPIV3Schema/properties{place}");
    let crd = objects.iter_mut().find(|object| object["metadata"]["name"] == "cxidrivers.cxi.hpe.com");
    let fields = crd.and_then(|crd| crd.pointer_mut(&schema)?.as_object_mut()).context("the fields of the CRD")?;
    ensure!(fields.remove(field).is_some(), "{field} is not new any more");
    Ok(objects.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n"))
}

/// The command of the page, for another file than that of this release if given.
fn apply(plane: &ControlPlane, other: Option<&str>) -> Result<()> {
    let blocks = Page::read("install.md")?.section("One file")?.blocks("sh");
    let [command] = &blocks[..] else { bail!("one command: {blocks:#?}") };
    let mut command = command.clone();
    if let Some(text) = other {
        let file = plane.data_dir().join("install.yaml");
        fs::write(&file, text)?;
        command = command.replace("deploy/install.yaml", &file.display().to_string());
    }
    Shell::of(plane)?.run(&command)?;
    Ok(plane.wait_for_crds()?)
}

/// Whether the API server takes a CXIDriver with the new field.
fn knows_the_new_field(scenario: &Scenario) -> bool {
    let modprobe = json!({ "parameters": { "cxi-ss1": ["disable_default_svc=0"] } });
    let driver = json!({
        "apiVersion": "cxi.hpe.com/v1", "kind": "CXIDriver", "metadata": { "name": "other" },
        "spec": {
            "version": OLD, "source": { "type": "prebuilt", "image": "registry.example/other", "modprobe": modprobe },
        },
    });
    let create = ["create", "--validate=strict", "--dry-run=server", "-f", "-"];
    scenario.harness.plane.kubectl_with_input(&create, &driver.to_string()).is_ok()
}

/// What must be the same objects afterwards.
#[derive(PartialEq)]
struct Identity {
    crds: String,
    driver: Option<String>,
}

impl Identity {
    async fn of(scenario: &Scenario) -> Result<Self> {
        let each =
            "{range .items[*]}{.metadata.name}{\" \"}{.metadata.uid}{\" \"}{.status.storedVersions}{\"\\n\"}{end}";
        let output = format!("--output=jsonpath={each}");
        let crds = block_in_place(|| scenario.harness.plane.kubectl(&["get", "crds", &output]))?;
        let driver = scenario.harness.driver(DRIVER).await?.context("the CXIDriver is gone")?.metadata.uid;
        Ok(Self { crds, driver })
    }
}

/// Nodes in a phase, as soon as there is one.
async fn in_phase(scenario: &Scenario, phase: Phase) -> Result<Vec<String>> {
    let find = async || {
        let mut found = Vec::new();
        for node in &scenario.nodes {
            if scenario.phase(node).await? == Some(phase) {
                found.push(node.clone());
            }
        }
        Ok::<_, anyhow::Error>(found)
    };
    scenario.until(&format!("a node is {phase}"), || async { Ok(!find().await?.is_empty()) }).await?;
    find().await
}

/// The operator's processes, by the pods that they stand for.
#[derive(Default)]
struct Replicas(BTreeMap<String, Operator>);

impl Replicas {
    /// Follows the pods of the operator's Deployment until all of them are of a release, and their processes run.
    async fn are_of(&mut self, scenario: &Scenario, version: &str) -> Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(scenario.harness.client.clone(), NAMESPACE);
        let begin = Instant::now();
        loop {
            let images = self.follow(scenario).await?;
            let deployment = deployments.get(OPERATOR).await.context("read the Deployment")?;
            let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or_default();
            let status = deployment.status.unwrap_or_default();
            let seen = status.observed_generation == deployment.metadata.generation;
            let rolled_out = status.updated_replicas == Some(wanted) && status.replicas == Some(wanted);
            let of_this = images.iter().filter(|image| image.ends_with(&format!(":{version}"))).count();
            if seen && rolled_out && i32::try_from(of_this) == Ok(wanted) && images.len() == of_this {
                return Ok(());
            }
            ensure!(begin.elapsed() < LONG, "the Deployment runs {images:?}, not {version}: {status:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Starts and ends processes as pods have come and gone, and returns the images of those that run.
    async fn follow(&mut self, scenario: &Scenario) -> Result<Vec<String>> {
        let pods: Api<Pod> = Api::namespaced(scenario.harness.client.clone(), NAMESPACE);
        let ours = ListParams::default().labels("app.kubernetes.io/component=operator");
        let mut pods = pods.list(&ours).await.context("list the operator's pods")?.items;
        pods.retain(|pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            pod.metadata.deletion_timestamp.is_none() && phase == Some("Running")
        });
        let mut images = Vec::new();
        let mut running = BTreeMap::new();
        for pod in &pods {
            let container = pod.spec.as_ref().and_then(|spec| spec.containers.first()).context("a container")?;
            images.extend(container.image.clone());
            let there = self.0.remove(&pod.name_any()).map(still_runs).transpose()?.flatten();
            let operator = if let Some(operator) = there {
                operator
            } else {
                let flags = releases::flags(container)?;
                scenario.harness.spawn_operator(&flags.iter().map(String::as_str).collect::<Vec<_>>())?
            };
            running.insert(pod.name_any(), operator);
        }
        let ended = std::mem::replace(self, Self(running));
        block_in_place(|| ended.end())?;
        Ok(images)
    }

    /// Asks them to end, as a kubelet does.
    fn end(self) -> Result<()> {
        for (pod, operator) in self.0 {
            let Some(operator) = still_runs(operator)? else { continue };
            let status = operator.stop()?;
            ensure!(status.success(), "the operator of {pod} ended with {status}");
        }
        Ok(())
    }
}

/// An operator that cannot renew its Lease in time, on a machine that is too busy, ends; a kubelet starts it again.
fn still_runs(mut operator: Operator) -> Result<Option<Operator>> {
    Ok(operator.ended()?.is_none().then_some(operator))
}
