//! `docs/uninstall.md`, command by command: the operator went before its CXIDriver. Nothing may be unloaded until somebody says so,
//! and then in order.

use std::{env, fs, path::Path, process::Command, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use cxi_api::names::KMM_VERSION_PREFIX;
use cxi_control_plane::{Family, Progress, Tool, Toolbox};
use cxi_e2e::{
    jobs::JobShape,
    scenario::{DRIVER, OLD, Scenario},
    truth::Fact,
};
use tokio::time::{Instant, sleep};

const DELETE_NAMESPACE: &str = "kubectl delete namespace cxi-operator --wait=false";

/// How long KMM's webhook may be out of reach.
const WEBHOOK_WITHIN: Duration = Duration::from_secs(30);

/// The numbered steps of the section, each from its comment to the next.
pub(crate) fn steps(section: &str) -> Result<Vec<String>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/uninstall.md");
    let text = fs::read_to_string(path)?;
    let (_, rest) = text.split_once(&format!("\n## {section}\n")).context("the section is gone")?;
    let section = rest.split("\n## ").next().unwrap_or_default();
    let mut steps: Vec<String> = Vec::new();
    let mut inside = false;
    for line in section.lines() {
        if line.starts_with("```") {
            inside = line == "```sh";
        } else if inside && line.starts_with("# ") && line[2..].starts_with(|first: char| first.is_ascii_digit()) {
            steps.push(String::new());
        } else if inside {
            let step = steps.last_mut().context("a command before the first step")?;
            step.push_str(line);
            step.push('\n');
        }
    }
    Ok(steps)
}

/// Runs a step as an administrator would, with names filled in.
pub(crate) fn run(scenario: &Scenario, step: &str, names: &[(&str, &str)]) -> Result<String> {
    let toolbox = Toolbox::ensure(&[Family::Kubernetes], &Progress::stderr())?;
    let tools = toolbox.path(Tool::Kubectl)?.parent().context("a directory")?.display().to_string();
    let script = names.iter().fold(step.to_owned(), |script, (name, value)| script.replace(name, value));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let output = Command::new("timeout")
        .args(["180", "sh", "-euxc", &script])
        .current_dir(root)
        .env("PATH", format!("{tools}:{}", env::var("PATH").unwrap_or_default()))
        .env("KUBECONFIG", scenario.harness.plane.kubeconfig())
        .output()?;
    if !output.status.success() {
        bail!("{script}\n{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
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

/// Why the namespace cannot be deleted. Where OLM writes KMM's webhook anew it cannot be reached for a moment, and that is another
/// refusal than the one that counts.
async fn refused_deletion(scenario: &Scenario) -> Result<anyhow::Error> {
    let begin = Instant::now();
    loop {
        let refusal =
            run(scenario, DELETE_NAMESPACE, &[]).err().context("the namespace went, and its Modules with it")?;
        if !refusal.to_string().contains("failed calling webhook") || begin.elapsed() > WEBHOOK_WITHIN {
            return Ok(refusal);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The section "The operator went first", for nodes that all run a release and where somebody may have a NIC.
pub(crate) async fn clean_up_without_operator(scenario: &Scenario, version: &str) -> Result<()> {
    let steps = steps("The operator went first")?;
    ensure!(steps.len() == 6, "{steps:#?}");
    let loaded = || scenario.nodes.iter().all(|node| scenario.driver(node).as_deref() == Some(version));

    let refusal = refused_deletion(scenario).await?;
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
        let names = [("NODE", node.as_str()), ("MODULE", module)];
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
