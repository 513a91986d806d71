//! `docs/uninstall.md`, command by command. The ways down of [`teardown`](crate::cluster) are run here as they are written; then, the
//! operator went before its CXIDriver: nothing may be unloaded until somebody says so, and then in order.
//! [`install_docs`](crate::install_docs) and [`olm`](crate::olm) run what takes the operator away, [`policies`](crate::policies) what takes
//! away those for pods.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cxi_api::names::KMM_VERSION_PREFIX;
use cxi_e2e::{
    jobs::JobShape,
    scenario::{DRIVER, OLD, Scenario},
    truth::Fact,
};

use crate::page::{Page, Shell};

const DELETE_NAMESPACE: &str = "kubectl delete namespace cxi-operator --wait=false";

/// The numbered steps of a section, each from its comment to the next.
fn steps(section: &str) -> Result<Vec<String>> {
    let mut steps: Vec<String> = Vec::new();
    for line in Page::read("uninstall.md")?.section(section)?.blocks("sh").iter().flat_map(|block| block.lines()) {
        if line.strip_prefix("# ").is_some_and(|text| text.starts_with(|first: char| first.is_ascii_digit())) {
            steps.push(String::new());
        } else {
            let step = steps.last_mut().context("a command before the first step")?;
            step.extend([line, "\n"]);
        }
    }
    Ok(steps)
}

/// Runs a step as an administrator would, with names filled in.
pub(crate) fn run(scenario: &Scenario, step: &str, names: &[(&str, &str)]) -> Result<String> {
    let script = names.iter().fold(step.to_owned(), |script, (name, value)| script.replace(name, value));
    Shell::of(&scenario.harness.plane)?.run(&script)
}

/// The commands of a section's block. Those that do not end are left out.
fn block(section: &str, number: usize) -> Result<String> {
    let blocks = Page::read("uninstall.md")?.section(section)?.blocks("sh");
    let block = blocks.get(number).with_context(|| format!("block {number} of {section}"))?;
    Ok(block.lines().filter(|line| !line.contains("--watch")).collect::<Vec<_>>().join("\n"))
}

/// The section "With the drivers", up to where the operator is removed.
pub(crate) fn delete_drivers(scenario: &Scenario) -> Result<()> {
    run(scenario, &block("With the drivers", 0)?, &[]).map(drop)
}

/// The section "Without the drivers", up to where the operator is removed.
pub(crate) fn orphan_drivers(scenario: &Scenario) -> Result<()> {
    run(scenario, &block("Without the drivers", 0)?, &[]).map(drop)
}

/// The rest of it: what a removal takes along, and what brings it back.
pub(crate) fn lose_the_account_and_put_it_back(scenario: &Scenario) -> Result<()> {
    run(scenario, "kubectl -n cxi-operator delete serviceaccount cxi-module-loader", &[])?;
    let back = block("Without the drivers", 1)?;
    run(scenario, &back, &[])?;
    // The next scenario on this control plane finds them as they were.
    let note = "kubectl.kubernetes.io/last-applied-configuration";
    run(scenario, &format!("kubectl -n cxi-operator annotate serviceaccounts --all {note}-"), &[]).map(drop)
}

async fn labels(scenario: &Scenario, node: &str) -> Result<Vec<String>> {
    let labels = scenario.harness.node(node).await?.metadata.labels.unwrap_or_default();
    Ok(labels.into_keys().filter(|key| key.contains("cxi.hpe.com") || key.contains("kmm.node")).collect())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_that_went_first_leaves_drivers_and_can_be_cleaned_up_after() -> Result<()> {
    let mut scenario = Scenario::installed(2, |_| ()).await?;
    scenario.harness.jobs.deployment("job", 1, &JobShape::default()).await?;
    scenario.until("the job runs", || async { Ok(scenario.harness.jobs.running_on("job").await?.len() == 1) }).await?;
    scenario.kill_operator()?;
    clean_up_without_operator(&scenario, OLD).await
}

/// The section "The operator went first", for nodes that all run a release and where somebody may have a NIC.
pub(crate) async fn clean_up_without_operator(scenario: &Scenario, version: &str) -> Result<()> {
    let steps = steps("The operator went first")?;
    ensure!(steps.len() == 6, "{steps:#?}");
    let loaded = || scenario.nodes.iter().all(|node| scenario.driver(node).as_deref() == Some(version));

    let refusal = run(scenario, DELETE_NAMESPACE, &[]).err().context("the namespace went, and its Modules with it")?;
    ensure!(refusal.to_string().contains("contains one or more Module"), "{refusal}");
    scenario.harness.delete_driver(DRIVER).await?;
    run(scenario, &steps[0], &[])?;
    scenario
        .stays("the CXIDriver waits, and drivers stay", Duration::from_secs(3), || async {
            Ok(scenario.harness.driver(DRIVER).await?.is_some() && loaded())
        })
        .await?;
    // The commands are for one that is not deleted yet, too; this one is gone with its finalizer.
    let patch = steps[1].lines().next().unwrap_or_default();
    run(scenario, patch, &[("NAME", DRIVER)])?;
    scenario.until("it is gone", || async { Ok(scenario.harness.driver(DRIVER).await?.is_none()) }).await?;
    run(scenario, &steps[2], &[])?;
    let offers_nothing = || async {
        let mut offered = 0;
        for node in &scenario.nodes {
            offered += scenario.offered(node).await?;
        }
        Ok(offered == 0)
    };
    scenario.until("no NIC is offered", offers_nothing).await?;
    scenario.stays("drivers stay", Duration::from_secs(2), || async { Ok(loaded()) }).await?;

    for node in &scenario.nodes {
        let key = labels(scenario, node).await?.into_iter().find(|key| key.starts_with(KMM_VERSION_PREFIX));
        let key = key.context("KMM's label")?;
        let module = key.rsplit('.').next().context("the name of the Module")?;
        let (drain_to_label, look) = steps[3].split_once("kubectl get nodemodulesconfig").context("the look")?;
        let (look, after) = look.split_once('\n').context("what comes after the look")?;
        let names = [("NODE", node.as_str()), ("MODULE", module), ("NAME", DRIVER)];
        let unloads = scenario.unloads(node);
        run(scenario, drain_to_label, &names)?;
        scenario.until("the node is unloaded", || async { Ok(scenario.driver(node).is_none()) }).await?;
        let shown = format!("kubectl get nodemodulesconfig{look}");
        let unloaded = || async { Ok(matches!(run(scenario, &shown, &names)?.trim(), "" | "[]")) };
        scenario.until("KMM says so", unloaded).await?;
        run(scenario, after, &names)?;
        let refused = scenario.facts(node).into_iter().find(|fact| matches!(fact, Fact::UnloadRefused { .. }));
        ensure!(refused.is_none(), "{refused:?}");
        let unloads = scenario.unloads(node) - unloads;
        ensure!(unloads == 1, "{node} was unloaded {unloads} times");
    }
    run(scenario, &steps[4], &[])?;
    run(scenario, &steps[5], &[("NAME", DRIVER)])?;
    scenario
        .until("nothing of ours is left", || async {
            let mut left = scenario.harness.cxi_nodes().await?.len();
            for node in &scenario.nodes {
                left += labels(scenario, node).await?.len();
            }
            Ok(left == 0)
        })
        .await
}

#[test]
fn every_command_of_the_page_is_run_by_a_scenario() -> Result<()> {
    let page = Page::read("uninstall.md")?;
    let blocks = |section: &str| Ok::<_, anyhow::Error>(page.section(section)?.blocks("sh").len());
    let sections = ["With the drivers", "Without the drivers", "The operator went first", "The namespace"];
    let found = sections.map(blocks).into_iter().collect::<Result<Vec<_>>>()?;
    ensure!(found == [3, 2, 3, 1] && page.blocks("sh").len() == 9, "tell a scenario of all commands: {found:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_hangs_is_freed_and_the_driver_stays() -> Result<()> {
    let mut scenario = Scenario::installed(1, |_| ()).await?;
    scenario.kill_operator()?;
    run(&scenario, "kubectl delete validatingwebhookconfiguration kmm-validating-webhook", &[])?;
    run(&scenario, DELETE_NAMESPACE, &[])?;
    let hangs = "kubectl get namespace cxi-operator -o jsonpath='{.status.conditions[?(@.status==\"True\")].message}'";
    let with_modules = || async { Ok(run(&scenario, hangs, &[])?.contains("module-finalizer")) };
    scenario.until("the namespace waits for KMM", with_modules).await?;

    let steps = steps("The namespace")?;
    ensure!(steps.len() == 1, "{steps:#?}");
    run(&scenario, &steps[0], &[])?;
    let gone =
        || async { Ok(run(&scenario, "kubectl get namespace cxi-operator --ignore-not-found", &[])?.is_empty()) };
    scenario.until("the namespace is gone", gone).await?;
    ensure!(scenario.driver(&scenario.nodes[0]).as_deref() == Some(OLD), "the driver was unloaded");
    Ok(())
}
