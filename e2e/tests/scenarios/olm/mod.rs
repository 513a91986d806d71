//! The real Operator Lifecycle Manager: it installs our package and KMM with it, grants the rights, upgrades the operator in the
//! middle of a rollout, and removes it.
//!
//! There are no containers: the operator's process is started and ended by the scenario when OLM's Deployment comes, changes and
//! goes, with the token of the account that OLM made.

mod package;
mod timeline;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, ensure};
use cxi_api::{GoDuration, Reason, names::OPERATOR, strategy::DrainPolicy};
use cxi_control_plane::NAMESPACE;
use cxi_e2e::{
    audit::Requests,
    client::client,
    harness::{Harness, HarnessOptions},
    jobs::JobShape,
    planes::{Contents, Plane, Wanted},
    scenario::{DRIVER, NEW, OLD, Scenario},
    soft_node::NodeShape,
};
use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleBinding, Subject};
use kube::{Api, ResourceExt, api::ListParams};
use tokio::task::block_in_place;

use crate::{air_gap, page::Page, releases, uninstall};
use package::{KMM, Olm, THIS, csv, next};
use timeline::Timeline;

/// Driver release of the second rollout.
const NEWEST: &str = "13.2.0";

/// The job that a node waits for.
const JOB: &str = "train";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes and OLM's own operators: cargo xtask test --scenario olm:: runs it"]
async fn olm_installs_upgrades_and_removes_the_operator_and_no_job_is_hurt() -> Result<()> {
    let mut timeline = Timeline::begin();
    let plane = Plane::take(Wanted { contents: Contents::Olm, audit: true, keep_data: false }).await?;
    timeline.note("olm-operator and catalog-operator run");
    let client = client(plane.kubeconfig()).await?;
    let olm = block_in_place(|| Olm::start(&plane, client))?;
    timeline.note("two catalogs are served: ours with two releases, and KMM's");
    let mut scenario = installed(plane, &olm, &mut timeline).await?;

    one_ordered_upgrade(&mut scenario, &mut timeline).await?;
    the_operator_is_upgraded_in_the_middle_of_a_rollout(&mut scenario, &olm, &mut timeline).await?;
    nothing_was_forbidden(&scenario)?;
    scenario.judge().await?;
    timeline.note("the oracle saw nothing wrong");

    the_operator_is_removed_and_drivers_stay(&mut scenario, &olm, &mut timeline).await?;
    uninstall::clean_up_without_operator(&scenario, NEWEST).await?;
    timeline.note("the commands of docs/uninstall.md have unloaded the drivers");
    // Once for each of the two upgrades, and now.
    for node in &scenario.nodes {
        ensure!(scenario.unloads(node) == 3, "{node} was unloaded {} times", scenario.unloads(node));
    }
    the_rest_goes(&scenario, &mut timeline)?;
    timeline.note("CRDs and namespace are gone");
    Ok(())
}

/// Installs our package and nothing else, by OLM.
async fn installed(plane: Plane, olm: &Olm, timeline: &mut Timeline) -> Result<Scenario> {
    block_in_place(|| Olm::subscribe(&plane))?;
    let mut plan = olm.approve(&csv(THIS)).await?;
    plan.installs.sort();
    ensure!(plan.installs == [csv(THIS), KMM.to_owned()], "the plan has {:?}", plan.installs);
    timeline.note("the dependency is resolved and the InstallPlan approved");

    // Types come first in a plan. Nodes are there when the first pods come, as on a user's cluster.
    olm.types().await?;
    block_in_place(|| plane.wait_for_crds())?;
    let image = |version: &str| format!("ghcr.io/cxi-operator/cxi-agent:{version}");
    let images = vec![image(THIS), image(&next()?)];
    let harness = Harness::on(plane, HarnessOptions { images, ..HarnessOptions::default() }).await?;
    let mut scenario = Scenario::on(harness, 3, &NodeShape::default()).await?;
    timeline.note("our types are there, and nodes");
    olm.complete(&plan).await?;
    timeline.note(&format!("InstallPlan complete: {}", plan.installs.join(", ")));
    let packages = olm.subscriptions().await?;
    ensure!(packages == ["cxi-operator", "kernel-module-management"], "{packages:?}");
    for name in &plan.installs {
        olm.succeeded(name).await?;
        timeline.note(&format!("{name} has succeeded"));
    }
    block_in_place(|| {
        scenario.harness.plane.adopt_kmm()?;
        scenario.harness.plane.start_kmm()
    })?;
    only_olm_granted_rights(&scenario).await?;
    block_in_place(|| air_gap::images_of_kmm(&scenario.harness.plane))?;
    start_operator(&mut scenario, olm, THIS).await?;
    timeline.note(&format!("operator {THIS} runs with the token of the account that OLM made"));
    Ok(scenario)
}

/// Starts the operator as the Deployment of a release would.
async fn start_operator(scenario: &mut Scenario, olm: &Olm, version: &str) -> Result<()> {
    let flags = olm.flags(version).await?;
    scenario.start_operator(&flags.iter().map(String::as_str).collect::<Vec<_>>())
}

/// Every binding of the operator's account was made by OLM.
async fn only_olm_granted_rights(scenario: &Scenario) -> Result<()> {
    let client = &scenario.harness.client;
    let all = ListParams::default();
    let of_ours = |subjects: &Option<Vec<Subject>>| {
        subjects
            .iter()
            .flatten()
            .any(|s| s.kind == "ServiceAccount" && s.name == OPERATOR && s.namespace.as_deref() == Some(NAMESPACE))
    };
    let of_olm = |labels: &BTreeMap<String, String>| labels.keys().any(|key| key.starts_with("olm."));
    let cluster: Api<ClusterRoleBinding> = Api::all(client.clone());
    let namespaced: Api<RoleBinding> = Api::all(client.clone());
    let mut bindings = Vec::new();
    for binding in cluster.list(&all).await?.items.iter().filter(|b| of_ours(&b.subjects)) {
        bindings.push((binding.name_any(), of_olm(binding.labels())));
    }
    for binding in namespaced.list(&all).await?.items.iter().filter(|b| of_ours(&b.subjects)) {
        bindings.push((
            format!("{}/{}", binding.namespace().unwrap_or_default(), binding.name_any()),
            of_olm(binding.labels()),
        ));
    }
    ensure!(bindings.len() >= 2 && bindings.iter().all(|(_, of_olm)| *of_olm), "{bindings:?}");
    ensure!(bindings.iter().all(|(name, _)| !name.contains('/') || name.starts_with(NAMESPACE)), "{bindings:?}");
    Ok(())
}

/// Installs the driver, then upgrades it while a job ends in its own time.
async fn one_ordered_upgrade(scenario: &mut Scenario, timeline: &mut Timeline) -> Result<()> {
    scenario
        .install(|spec| {
            spec.update_strategy.drain.policy = DrainPolicy::WaitForCompletion;
            spec.update_strategy.drain.wait_timeout = GoDuration(Duration::from_mins(10));
        })
        .await?;
    timeline.note(&format!("driver {OLD} on 3 nodes"));
    let short = JobShape { run_for: Some(Duration::from_secs(3)), ..JobShape::on("n-01") };
    scenario.harness.jobs.batch("short", 1, &short).await?;
    scenario
        .until("the job runs", || async { Ok(scenario.harness.jobs.running_on("short").await?.len() == 1) })
        .await?;
    scenario.upgrade_to(NEW).await?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    timeline.note(&format!("driver {NEW} on 3 nodes"));
    Ok(())
}

/// A node waits for a job; OLM replaces the operator; the job ends; the rollout goes on.
async fn the_operator_is_upgraded_in_the_middle_of_a_rollout(
    scenario: &mut Scenario,
    olm: &Olm,
    timeline: &mut Timeline,
) -> Result<()> {
    scenario.harness.jobs.pod(JOB, &JobShape::on("n-01")).await?;
    scenario.until("the job runs", || async { Ok(scenario.harness.jobs.running_on(JOB).await?.len() == 1) }).await?;
    scenario.upgrade_to(NEWEST).await?;
    scenario.until_blocked("n-01", Reason::PodsRunning).await?;
    timeline.note(&format!("rollout of driver {NEWEST}: n-01 waits for a job"));

    let version = next()?;
    let plan = olm.approve(&csv(&version)).await?;
    timeline.note(&format!("InstallPlan of {version} approved"));
    olm.complete(&plan).await?;
    timeline.note(&format!("InstallPlan of {version} complete"));
    olm.flags(&version).await?;
    scenario.stop_operator()?;
    start_operator(scenario, olm, &version).await?;
    timeline.note(&format!("operator {version} in the place of {THIS}"));
    olm.succeeded(&csv(&version)).await?;
    olm.gone(&csv(THIS)).await?;
    timeline.note(&format!("{} has succeeded, {} is gone", csv(&version), csv(THIS)));
    only_olm_granted_rights(scenario).await?;

    let running = scenario.harness.jobs.running_on(JOB).await?;
    ensure!(running == ["n-01"] && scenario.driver("n-01").as_deref() == Some(NEW), "the job was disturbed");
    releases::end_pod(scenario, JOB).await?;
    scenario.verified().await?;
    scenario.all_run(NEWEST).await?;
    for node in &scenario.nodes {
        ensure!(scenario.unloads(node) == 2, "{node} was unloaded {} times", scenario.unloads(node));
    }
    timeline.note(&format!("driver {NEWEST} on 3 nodes"));
    releases::operands_are_of(scenario, &version).await?;
    timeline.note(&format!("operands of {version}"));
    Ok(())
}

/// Nothing that the operator asked of the API server was more than OLM granted.
fn nothing_was_forbidden(scenario: &Scenario) -> Result<()> {
    let log = scenario.harness.plane.audit_log().context("no audit log")?;
    let requests = Requests::read(log)?;
    ensure!(requests.writes() > 0, "the audit log shows nothing of the operator");
    ensure!(requests.forbidden().is_empty(), "OLM did not grant {:?}", requests.forbidden());
    Ok(())
}

/// The two commands for OLM in docs/uninstall.md, while a CXIDriver is there.
async fn the_operator_is_removed_and_drivers_stay(
    scenario: &mut Scenario,
    olm: &Olm,
    timeline: &mut Timeline,
) -> Result<()> {
    let page = Page::read("uninstall.md")?.section("With the drivers")?.after("\n| OLM |")?;
    // The next row is Helm's.
    for command in page.code().iter().take_while(|code| code.starts_with("kubectl ")) {
        uninstall::run(scenario, command, &[])?;
    }
    olm.without_operator().await?;
    scenario.stop_operator()?;
    timeline.note("OLM has removed the operator, before its CXIDriver");
    let no_account = || async { Ok(scenario.harness.plane.operator_kubeconfig().is_err()) };
    scenario.until("the operator's account is gone", no_account).await?;
    ensure!(scenario.harness.driver(DRIVER).await?.is_some(), "the CXIDriver went, too");
    olm.succeeded(KMM).await
}

/// CRDs and namespace go when the drivers have gone.
fn the_rest_goes(scenario: &Scenario, timeline: &mut Timeline) -> Result<()> {
    let rest = Page::read("uninstall.md")?.after("\nOLM and Helm leave CRDs and namespace")?;
    let blocks = rest.blocks("sh");
    for command in blocks.first().context("what takes away what OLM leaves")?.lines() {
        block_in_place(|| uninstall::run(scenario, command, &[]))?;
        timeline.note(command.split('#').next().unwrap_or_default().trim_end());
    }
    let all = "kubectl get crds,namespaces,clusterroles,clusterrolebindings,validatingadmissionpolicies -o name";
    let all = block_in_place(|| uninstall::run(scenario, all, &[]))?;
    // OLM makes roles for the users of a CRD, and lets them go with it in its own time.
    let of_olm = |name: &str| name.contains(".cxi.hpe.com-v1-") || name.contains("/olm.");
    let left: Vec<_> = all.lines().filter(|name| name.contains("cxi") && !of_olm(name)).collect();
    ensure!(left.is_empty(), "these are left: {left:?}");
    Ok(())
}
