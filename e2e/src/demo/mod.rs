//! `cargo xtask demo`: an ordered upgrade to watch, on a real control plane with the real KMM.

mod figures;
mod preflight;
mod view;

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result, bail};
use clap::{Parser, ValueEnum};
use cxi_api::{RevisionId, names::RESUME_ANNOTATION};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{
    audit::Requests,
    harness::{Agents, Harness, HarnessOptions},
    jobs::JobShape,
    oracle::Oracle,
    soft_node::{LoadFailure, NodeShape, Pace},
};

use figures::Figures;
use view::{Picture, Screen};

/// Name of the CXIDriver.
const DRIVER: &str = "fabric";
const OLD: &str = "13.0.0";
const NEW: &str = "13.1.0";
/// Asked about only, see [`preflight`].
const BROKEN: &str = "13.2.0";

/// Between two pictures.
const FRAME: Duration = Duration::from_millis(200);

/// Shows an ordered driver upgrade on a real control plane with the real KMM and simulated nodes
#[derive(Clone, Debug, Parser)]
pub struct Arguments {
    /// What to show
    #[arg(long, value_enum, default_value = "upgrade")]
    scenario: Scenario,
    /// Leave everything running at the end and print the kubeconfig
    #[arg(long)]
    keep: bool,
    /// How many nodes
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(2..=200))]
    nodes: u16,
    /// Short delays instead of lifelike ones
    #[arg(long)]
    fast: bool,
}

/// What to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// Every node moves to the new driver
    Upgrade,
    /// The new driver does not load on one node: it goes back, the rollout halts, and is resumed after a fix
    Failure,
    /// Two releases are asked about before the upgrade: one passes on a canary node, the other one fails there
    Preflight,
}

/// Runs the demo.
///
/// # Errors
/// If something does not start, the rollout does not end as it should, or the checker saw a rule broken.
pub async fn run(arguments: Arguments) -> Result<()> {
    let mut screen = Screen::new();
    screen.say("starting etcd, API server, controllers, scheduler and KMM");
    let pace = if arguments.fast { Pace::default() } else { lifelike() };
    let harness =
        Harness::start(HarnessOptions { pace, agents: Agents::Real, audit: true, ..HarnessOptions::default() }).await?;
    let ended = tokio::select! {
        result = show(&arguments, &harness, &mut screen) => result,
        _ = tokio::signal::ctrl_c() => bail!("interrupted; everything was stopped"),
    };
    if arguments.keep {
        let kubeconfig = harness.plane.kubeconfig().display().to_string();
        if let Err(error) = &ended {
            eprintln!("{error:#}");
        }
        println!("\nEverything keeps running until Ctrl-C. In another terminal:\n  export KUBECONFIG={kubeconfig}");
        println!("  kubectl get cxidrivers,cxinodes");
        tokio::signal::ctrl_c().await.context("wait for Ctrl-C")?;
    }
    harness.soft.stop().await;
    ended.map(|_| ())
}

/// What must live as long as the demo is looked at.
struct Stage {
    _operator: crate::operator::Operator,
}

async fn show(arguments: &Arguments, harness: &Harness, screen: &mut Screen) -> Result<Stage> {
    let nodes = usize::from(arguments.nodes);
    screen.say(&format!("adding {nodes} simulated nodes with two NICs each"));
    let names = harness.soft.add_nodes("n", nodes, &NodeShape::default());
    harness.soft.wait_until_ready(Duration::from_mins(1)).await?;
    let oracle = Oracle::start(&harness.client, &harness.soft);
    oracle.operator_runs(true);
    let operator = harness.spawn_operator(&[])?;

    let budget = i32::try_from((nodes / 3).max(1)).unwrap_or(1);
    screen.say(&format!("creating CXIDriver {DRIVER}: version {OLD}, maxUnavailable {budget}, drain policy Evict"));
    harness.create_driver(DRIVER, OLD, |spec| spec.update_strategy.max_unavailable = IntOrString::Int(budget)).await?;
    let releases: BTreeMap<RevisionId, String> =
        [OLD, NEW, BROKEN].map(|version| (Harness::spec(version).revision(DRIVER), version.to_owned())).into();
    screen.say(
        "a first installation: nodes without a driver have nothing to lose, so maxUnavailable does not hold them up",
    );
    watch(harness, &releases, screen, &mut Figures::default(), "every node runs 13.0.0", |picture| done(picture, OLD))
        .await?;

    screen.say("starting jobs: train (one job on two nodes), web (two pods, a PodDisruptionBudget lets one go at a time), solve");
    harness.jobs.spanning("train", 2, &JobShape::default()).await?;
    harness.jobs.deployment("web", 2, &JobShape { grace: 5, ..JobShape::default() }).await?;
    harness.jobs.protect("web", 1).await?;
    harness.jobs.deployment("solve", 1, &JobShape::default()).await?;
    harness
        .wait_until("the jobs run", Duration::from_mins(1), async |harness| {
            let running = harness.jobs.running_on("train").await?.len() + harness.jobs.running_on("web").await?.len();
            Ok(running == 4)
        })
        .await?;
    let picture = Picture::take(&harness.client, DRIVER, &releases).await?;
    let victim = early(&picture).or(names.first()).context("there are nodes")?;
    if arguments.scenario == Scenario::Failure {
        screen.say(&format!("breaking the new driver on {victim}: its load will fail half-way"));
        harness.soft.fail_load(victim, &LoadFailure { version: Some(NEW.into()), leaves: 2 })?;
    }

    let log = harness.plane.audit_log().context("the audit log is on")?;
    let before = Requests::read(log)?;
    let mut figures = Figures::default();
    let ends_on = if arguments.scenario == Scenario::Preflight {
        preflight::show(harness, &releases, screen, &mut figures, victim).await?;
        OLD
    } else {
        screen.say(&format!("editing spec.version: {OLD} → {NEW}"));
        harness.edit_version(DRIVER, NEW).await?;
        NEW
    };
    if arguments.scenario == Scenario::Failure {
        watch(harness, &releases, screen, &mut figures, "the rollout halts", halted).await?;
        resume(harness, screen, victim).await?;
    }
    let what = format!("every node runs {ends_on}");
    watch(harness, &releases, screen, &mut figures, &what, |picture| done(picture, ends_on)).await?;
    screen.say("done; the checker watches the settled cluster for some seconds");
    let requests = Requests::read(log)?.since(&before)?;
    let violations = oracle.finish().await;
    figures.print(&requests, &violations);
    if !violations.is_empty() {
        bail!("the checker saw {} violations of the rules", violations.len());
    }
    Ok(Stage { _operator: operator })
}

/// A node that is moved among the first: one without jobs, by its name. The others then wait until the rollout is resumed.
fn early(picture: &Picture) -> Option<&String> {
    picture.rows.iter().filter(|row| row.jobs.is_empty()).map(|row| &row.node).min()
}

/// Repairs the node and lets the rollout go on.
async fn resume(harness: &Harness, screen: &mut Screen, victim: &str) -> Result<()> {
    let driver = harness.driver(DRIVER).await?.context("the CXIDriver is there")?;
    let rollout = driver.status.and_then(|status| status.rollout).context("there is a rollout")?;
    let why = rollout.halted.map(|halt| halt.message).unwrap_or_default();
    screen.say(&format!("halted: {why}"));
    tokio::time::sleep(Duration::from_secs(3)).await;
    screen.say(&format!(
        "repairing {victim}, then: kubectl annotate cxidriver {DRIVER} {RESUME_ANNOTATION}={}",
        rollout.id
    ));
    harness.soft.mend_load(victim)?;
    let patch = serde_json::json!({ "metadata": { "annotations": { RESUME_ANNOTATION: rollout.id } } });
    harness.edit_driver(DRIVER, &patch).await
}

async fn watch(
    harness: &Harness,
    releases: &BTreeMap<RevisionId, String>,
    screen: &mut Screen,
    figures: &mut Figures,
    what: &str,
    ended: impl Fn(&Picture) -> bool,
) -> Result<()> {
    let patience = Duration::from_mins(10);
    let began = std::time::Instant::now();
    loop {
        let picture = Picture::take(&harness.client, DRIVER, releases).await?;
        screen.show(&picture);
        figures.note(&picture);
        if ended(&picture) {
            screen.say(&picture.summary());
            return Ok(());
        }
        if began.elapsed() > patience {
            bail!("{what}: not within {} s\n{}", patience.as_secs(), harness.operator_logs());
        }
        tokio::time::sleep(FRAME).await;
    }
}

fn done(picture: &Picture, version: &str) -> bool {
    let Some(status) = picture.driver.as_ref().and_then(|driver| driver.status.as_ref()) else { return false };
    let available = status.conditions.iter().any(|c| c.type_ == "Available" && c.status == "True");
    let verified = picture.rows.iter().all(|row| row.driver == version && row.phase == "UpToDate");
    available && verified && status.version.as_deref() == Some(version) && status.updating == 0
}

fn halted(picture: &Picture) -> bool {
    let Some(status) = picture.driver.as_ref().and_then(|driver| driver.status.as_ref()) else { return false };
    let halted = status.rollout.as_ref().is_some_and(|rollout| rollout.halted.is_some());
    halted && status.updating == 0 && picture.rows.iter().all(|row| row.driver != "-")
}

/// About as slow as small real nodes.
fn lifelike() -> Pace {
    let millis = Duration::from_millis;
    Pace {
        start: millis(600),
        stop: millis(1_500),
        pull: millis(1_500),
        load: millis(1_500),
        unload: millis(1_200),
        link_up: millis(1_500),
        ..Pace::default()
    }
}

#[cfg(test)]
mod tests {
    use super::view::Row;
    use super::*;

    #[test]
    fn the_node_that_fails_is_moved_among_the_first() {
        let row = |node: &str, jobs: &[&str]| Row {
            node: node.to_owned(),
            driver: OLD.to_owned(),
            phase: "UpToDate".to_owned(),
            offers: 2,
            jobs: jobs.iter().map(|job| (*job).to_owned()).collect(),
            waits: String::new(),
        };
        let rows = vec![row("n-03", &[]), row("n-01", &["train"]), row("n-02", &[])];
        let picture = Picture { rows, driver: None };
        assert_eq!(early(&picture).map(String::as_str), Some("n-02"));
    }
}
