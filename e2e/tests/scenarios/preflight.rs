//! A release is asked about before the CXIDriver is edited: images by the real KMM, and a canary node with a validation pod.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use cxi_api::{
    CXIPreflight, CXIPreflightStatus, Phase,
    kmm::ModuleImagesConfig,
    names::{ROLE_LABEL, Role, question_name},
    preflight::{ImageResult, PreflightPhase},
};
use cxi_control_plane::NAMESPACE;
use cxi_e2e::{
    driver_model::image_reference,
    harness::REPOSITORY,
    jobs::JobShape,
    oracle::Allowed,
    scenario::{DRIVER, NEW, OLD, Scenario},
};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// A kernel that no node runs.
const NEXT_KERNEL: &str = "6.12.120+deb12-amd64";

fn preflights(s: &Scenario) -> Api<CXIPreflight> {
    Api::all(s.harness.client.clone())
}

/// Creates a CXIPreflight of [`NEW`] with these fields.
async fn ask(s: &Scenario, name: &str, fields: &Value) -> Result<CXIPreflight> {
    let mut spec = json!({ "driver": DRIVER, "version": NEW });
    spec.as_object_mut().context("an object")?.extend(fields.as_object().cloned().unwrap_or_default());
    let object = json!({
        "apiVersion": "cxi.hpe.com/v1", "kind": "CXIPreflight", "metadata": { "name": name }, "spec": spec,
    });
    Ok(preflights(s).create(&PostParams::default(), &serde_json::from_value(object)?).await?)
}

async fn answer(s: &Scenario, name: &str) -> Result<CXIPreflightStatus> {
    Ok(preflights(s).get(name).await?.status.unwrap_or_default())
}

/// Waits until a preflight is over.
async fn ends(s: &Scenario, name: &str) -> Result<CXIPreflightStatus> {
    s.until(&format!("preflight {name} ends"), || async { Ok(answer(s, name).await?.is_over()) }).await?;
    answer(s, name).await
}

async fn attempts(s: &Scenario) -> Result<Vec<i32>> {
    let mut attempts = Vec::new();
    for node in &s.nodes {
        attempts.push(s.record(node).await?.map_or(0, |record| record.attempt));
    }
    Ok(attempts)
}

/// A test that passes, fails or hangs.
fn test(verdict: &str) -> Value {
    json!({ "image": "registry.example/site/fabric-test:1", "args": [verdict], "timeout": "5m" })
}

#[tokio::test(flavor = "multi_thread")]
async fn images_are_answered_for_by_kmm_and_no_node_is_touched() -> Result<()> {
    let s = Scenario::installed(2, |_| {}).await?;
    let job = job_on(&s, &s.nodes[1]).await?;
    let here = s.harness.soft.truth(&s.nodes[0]).context("a node")?.kernel;
    let before = attempts(&s).await?;

    let found = ask(&s, "found", &json!({ "kernels": [here, NEXT_KERNEL] })).await?;
    let status = ends(&s, "found").await?;
    ensure!(status.phase == Some(PreflightPhase::Succeeded), "{status:?}");
    ensure!(status.kernels.iter().all(|kernel| kernel.result == ImageResult::Found), "{status:?}");

    let image = image_reference(REPOSITORY, NEW, NEXT_KERNEL);
    s.harness.soft.with_registry(|registry| registry.withdraw(&image));
    let missing = ask(&s, "missing", &json!({ "kernels": [here, NEXT_KERNEL], "node": s.nodes[0] })).await?;
    let status = ends(&s, "missing").await?;
    let message = status.message.clone().unwrap_or_default();
    ensure!(status.phase == Some(PreflightPhase::Failed) && message.contains(&image), "{status:?}");
    ensure!(attempts(&s).await? == before, "a node was moved for a release without an image");

    ensure!(event(&s, "PreflightPassed", "CXIPreflight found").await?.contains(NEW));
    ensure!(event(&s, "PreflightFailed", "CXIPreflight missing").await?.contains(&image));
    ensure!(uid_of_job(&s).await? == job, "a job was disturbed");

    // KMM gives up at once, and does not wait for the image.
    let questions: Api<ModuleImagesConfig> = Api::namespaced(s.harness.client.clone(), NAMESPACE);
    let asked = questions.get(&question_name(&missing.uid().context("a UID")?, &s.revision(NEW).await?)).await?;
    let known = asked.status.unwrap_or_default().images_states;
    ensure!(known.iter().any(|state| state.image == image && state.status == "DoesNotExist"), "KMM says {known:?}");

    // What KMM was asked goes with the object that asked.
    let question = question_name(&found.uid().context("a UID")?, &s.revision(NEW).await?);
    ensure!(questions.get_opt(&question).await?.is_some(), "the question is not there");
    preflights(&s).delete("found", &DeleteParams::default()).await?;
    s.until("the question is gone", || async { Ok(questions.get_opt(&question).await?.is_none()) }).await?;

    // One whose time is over goes by itself.
    ask(&s, "short", &json!({ "ttlAfterFinished": "1s" })).await?;
    s.until("the preflight is deleted", || async { Ok(preflights(&s).get_opt("short").await?.is_none()) }).await?;
    s.all_run(OLD).await?;
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_canary_node_tries_the_release_and_goes_back() -> Result<()> {
    let mut s = Scenario::installed(3, |_| {}).await?;
    let canary = s.nodes[1].clone();
    ask(&s, "next", &json!({ "node": canary, "validation": test("hang") })).await?;
    s.until_phase(&canary, Phase::Validating).await?;
    s.until("the validation pod runs", || async {
        let why = s.record(&canary).await?.and_then(|record| record.blocked_by);
        Ok(why.is_some_and(|why| why.message.contains("validation pod")))
    })
    .await?;
    ensure!(s.driver(&canary).as_deref() == Some(NEW) && s.offered(&canary).await? == 0);
    // The operator dies; the next one goes on with the same pod.
    s.kill_operator()?;
    s.start_operator(&[])?;
    preflights(&s).delete("next", &DeleteParams::default()).await?;
    s.verified().await?;
    s.all_run(OLD).await?;

    ask(&s, "again", &json!({ "node": canary, "validation": test("pass") })).await?;
    let status = ends(&s, "again").await?;
    ensure!(status.phase == Some(PreflightPhase::Succeeded), "{status:?}");
    let trial = status.node.and_then(|node| node.trial).context("a trial")?;
    let result = trial.validation.context("a result")?;
    ensure!(result.exit_code == Some(0) && result.output == "64 KiB: 23 GB/s", "{result:?}");
    ensure!(trial.nics == Some(2) && trial.links == Some(2) && !trial.build_ids.is_empty());
    s.verified().await?;
    s.all_run(OLD).await?;
    let attempts = attempts(&s).await?;
    ensure!(attempts[0] == 1 && attempts[2] == 1, "another node was moved: {attempts:?}");
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_answer_of_a_test_that_ended_while_no_operator_ran_counts() -> Result<()> {
    let mut s = Scenario::installed(2, |_| {}).await?;
    let job = job_on(&s, "n-01").await?;
    let canary = "n-02";
    // The test takes so long that the operator dies first.
    s.harness.soft.slow_down(canary, 10)?;
    ask(&s, "next", &json!({ "node": canary, "validation": test("pass") })).await?;
    s.until("the validation pod is there", || async { Ok(!tests(&s).await?.is_empty()) }).await?;
    s.kill_operator()?;
    let pod = tests(&s).await?.pop().context("the test was over before the operator died")?;
    ensure!(s.phase(canary).await? == Some(Phase::Validating));
    told(&pod, canary, s.revision(NEW).await?.as_str())?;
    s.harness.soft.slow_down(canary, 1)?;
    let ended = |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Succeeded");
    s.until("the test has ended", || async { Ok(tests(&s).await?.iter().any(ended)) }).await?;

    s.start_operator(&["--no-leader-election"])?;
    let status = ends(&s, "next").await?;
    ensure!(status.phase == Some(PreflightPhase::Succeeded), "{status:?}");
    let node = status.node.context("a node")?;
    ensure!(node.from == Some(s.revision(OLD).await?), "{node:?}");
    let trial = node.trial.context("a trial")?;
    ensure!(trial.unavailable_seconds.is_some_and(|seconds| seconds > 0), "{trial:?}");
    ensure!(trial.validation.is_some_and(|result| result.exit_code == Some(0)));
    s.verified().await?;
    s.all_run(OLD).await?;
    ensure!(attempts(&s).await? == [1, 2] && s.unloads(canary) == 2, "there and back, once");
    ensure!(uid_of_job(&s).await? == job, "the job of another node was disturbed");
    s.until("no validation pod is left", || async { Ok(tests(&s).await?.is_empty()) }).await?;
    s.finish().await
}

/// What the validation pod is told of the node.
fn told(pod: &Pod, node: &str, revision: &str) -> Result<()> {
    let containers = &pod.spec.as_ref().context("a spec")?.containers;
    let variables = containers[0].env.iter().flatten();
    let env: BTreeMap<_, _> = variables.map(|one| (one.name.as_str(), one.value.as_deref().unwrap_or(""))).collect();
    let wanted = [("CXI_NODE", node), ("CXI_DEVICES", "cxi0,cxi1"), ("CXI_VERSION", NEW), ("CXI_REVISION", revision)];
    ensure!(env == wanted.into(), "the pod is told {env:?}");
    Ok(())
}

/// The validation pods.
async fn tests(s: &Scenario) -> Result<Vec<Pod>> {
    let pods: Api<Pod> = Api::namespaced(s.harness.client.clone(), NAMESPACE);
    let role = format!("{ROLE_LABEL}={}", Role::Validation.as_str());
    Ok(pods.list(&ListParams::default().labels(&role)).await?.items)
}

/// A job that runs on a node as long as the scenario; the UID of its pod.
async fn job_on(s: &Scenario, node: &str) -> Result<Option<String>> {
    s.harness.jobs.pod("train", &JobShape::on(node)).await?;
    s.until("the job runs", || async { Ok(!s.harness.jobs.running_on("train").await?.is_empty()) }).await?;
    uid_of_job(s).await
}

async fn uid_of_job(s: &Scenario) -> Result<Option<String>> {
    Ok(s.harness.jobs.living("train").await?.iter().find_map(ResourceExt::uid))
}

/// Waits for the event with this reason that speaks of this object, and returns what it says.
async fn event(s: &Scenario, reason: &str, of: &str) -> Result<String> {
    let events: Api<Event> = Api::all(s.harness.client.clone());
    let found = async || {
        let all = events.list(&ListParams::default().fields(&format!("reason={reason}"))).await?;
        let mut messages = all.items.into_iter().filter_map(|event| event.message);
        Ok::<_, anyhow::Error>(messages.find(|message| message.contains(of)))
    };
    s.until(&format!("there is an event {reason} of {of}"), || async { Ok(found().await?.is_some()) }).await?;
    found().await?.with_context(|| format!("event {reason} is gone"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_that_fails_the_test_hurts_no_other_node() -> Result<()> {
    let s = Scenario::installed(2, |_| {}).await?;
    let canary = &s.nodes[0];
    ask(&s, "next", &json!({ "node": canary, "validation": test("fail") })).await?;
    let status = ends(&s, "next").await?;
    let message = status.message.unwrap_or_default();
    ensure!(status.phase == Some(PreflightPhase::Failed) && message.contains("no answer from NID 0x11"), "{message}");
    s.verified().await?;
    s.all_run(OLD).await?;
    let driver = s.status().await?;
    ensure!(driver.failed == 0 && driver.rollout.is_some_and(|rollout| rollout.halted.is_none()));
    ensure!(s.condition("Degraded").await?.is_some_and(|(status, _)| status == "False"));
    // It says nothing of a rollout.
    s.upgrade_to(NEW).await?;
    s.verified().await?;
    s.all_run(NEW).await?;
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_kept_goes_back_when_the_object_goes() -> Result<()> {
    let s = Scenario::installed(2, |_| {}).await?;
    let canary = &s.nodes[0];
    s.allow(&Allowed::ForeignEdit(canary.clone()), Duration::from_secs(5));
    s.harness.patch_node(canary, &json!({ "metadata": { "labels": { "example.com/canary": "true" } } })).await?;
    ask(&s, "next", &json!({ "nodeSelector": { "example.com/canary": "true" }, "after": "Keep" })).await?;
    let status = ends(&s, "next").await?;
    ensure!(status.node.is_some_and(|node| node.name == *canary) && status.phase == Some(PreflightPhase::Succeeded));
    s.stays("the canary node runs the release, in service", Duration::from_secs(3), || async {
        Ok(s.driver(canary).as_deref() == Some(NEW) && s.offered(canary).await? > 0)
    })
    .await?;
    preflights(&s).delete("next", &DeleteParams::default()).await?;
    s.until("the node is back", || async { Ok(s.driver(canary).as_deref() == Some(OLD)) }).await?;
    s.verified().await?;
    s.all_run(OLD).await?;
    s.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_makes_no_sense_is_refused_in_words() -> Result<()> {
    let s = Scenario::installed(1, |_| {}).await?;
    for (fields, says) in [
        (json!({ "node": "a", "nodeSelector": { "b": "c" } }), "exclude each other"),
        (json!({ "version": "13~1" }), "version must be a driver release"),
        (json!({ "source": { "type": "dkms" } }), "nothing says what to build"),
        (json!({ "kernels": ["6.1 amd64"] }), "kernels must be names of kernels"),
        (json!({ "nodeSelector": { "bad key!": "x" } }), "nodeSelector"),
        (json!({ "validation": { "image": "" } }), "validation.image"),
        (json!({ "validation": { "image": "r/t:1", "nics": 0 } }), "nics must be from 1 to 64"),
        (json!({ "validation": { "image": "r/t:1", "env": [{ "name": "9" }] } }), "must not begin with a digit"),
    ] {
        let refused = ask(&s, "bad", &fields).await.err().map(|error| format!("{error:#}")).unwrap_or_default();
        ensure!(refused.contains(says), "{fields}: {refused}");
    }
    ask(&s, "next", &json!({})).await?;
    let change = Patch::Merge(json!({ "spec": { "version": OLD } }));
    let refused = preflights(&s).patch("next", &PatchParams::default(), &change).await;
    let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
    ensure!(refused.contains("cannot be changed"), "{refused}");
    s.finish().await
}
