//! `cargo xtask bench rollout`: what an ordered upgrade costs, at several sizes of the cluster.

mod process;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use cxi_api::{Outcome, Timestamp, node::HistoryEntry};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::{
    audit::Requests,
    harness::{Harness, HarnessOptions},
    oracle::Oracle,
    soft_node::NodeShape,
};

const DRIVER: &str = "fabric";

/// The operator's own defaults, where the scenarios have shorter ones: KMM takes its time with a hundred nodes at once.
const TIME_LIMITS: [&str; 4] =
    ["--prefetch-timeout=15m", "--unload-timeout=10m", "--load-timeout=10m", "--give-back-timeout=5m"];

/// Measures the operator
#[derive(Clone, Debug, Parser)]
pub struct Arguments {
    #[command(subcommand)]
    what: What,
}

/// What to measure.
#[derive(Clone, Debug, Subcommand)]
enum What {
    /// Installs a driver on simulated nodes and upgrades it, once per size
    Rollout {
        /// Sizes of the cluster for the whole upgrade
        #[arg(long, value_delimiter = ',', default_value = "10,100")]
        nodes: Vec<usize>,
        /// Size at which only the installation is measured; 0 leaves it out
        #[arg(long, default_value_t = 1000)]
        large: usize,
        /// maxUnavailable
        #[arg(long, default_value = "10%")]
        budget: String,
    },
}

/// One line of the table.
struct Row {
    what: String,
    makespan: Duration,
    /// Makespan divided by what the mean node would need if the budget were always used up.
    ratio: Option<f64>,
    writes: f64,
    reads: f64,
    rss_mib: f64,
    reconcile_p99: String,
    violations: usize,
}

/// Runs a benchmark and prints its table.
///
/// # Errors
/// If something does not start or a rollout does not end.
pub async fn run(arguments: Arguments) -> Result<()> {
    let What::Rollout { nodes, large, budget } = arguments.what;
    let mut rows = Vec::new();
    for size in nodes {
        rows.extend(measure(size, &budget, true).await?);
    }
    if large > 0 {
        rows.extend(measure(large, &budget, false).await?);
    }
    println!(
        "\n{:<24} {:>10} {:>8} {:>12} {:>12} {:>10} {:>14} {:>10}",
        "", "makespan", "÷ ideal", "writes/node", "reads/node", "RSS", "reconcile p99", "violations"
    );
    for row in rows {
        let Row { what, makespan, ratio, writes, reads, rss_mib, reconcile_p99, violations } = row;
        let ratio = ratio.map_or("-".into(), |ratio| format!("{ratio:.2}"));
        println!(
            "{what:<24} {:>8.1} s {ratio:>8} {writes:>12.1} {reads:>12.1} {rss_mib:>6.1} MiB {reconcile_p99:>14} {violations:>10}",
            makespan.as_secs_f64()
        );
    }
    Ok(())
}

async fn measure(size: usize, budget: &str, upgrade: bool) -> Result<Vec<Row>> {
    eprintln!("{size} nodes: starting");
    let operator_args = TIME_LIMITS.map(str::to_owned).to_vec();
    let harness = Harness::start(HarnessOptions { audit: true, operator_args, ..HarnessOptions::default() }).await?;
    harness.soft.add_nodes("n", size, &NodeShape::default());
    harness.soft.wait_until_ready(Duration::from_mins(5)).await?;
    let oracle = Oracle::start(&harness.client, &harness.soft);
    oracle.operator_runs(true);
    let operator = harness.spawn_operator(&[])?;
    let budget = IntOrString::String(budget.to_owned());
    let log = harness.plane.audit_log().context("the audit log is on")?.to_owned();
    let mut rows = Vec::new();

    let began = Instant::now();
    harness.create_driver(DRIVER, "13.0.0", |spec| spec.update_strategy.max_unavailable = budget.clone()).await?;
    settle(&harness, size, "13.0.0").await?;
    let installed = Requests::read(&log)?;
    rows.push(Row {
        what: format!("install on {size}"),
        makespan: began.elapsed(),
        ratio: None,
        writes: per_node(installed.writes(), size),
        reads: per_node(installed.reads(), size),
        rss_mib: process::rss_mib(&operator)?,
        reconcile_p99: process::reconcile_p99(operator.address())?,
        violations: 0,
    });
    if upgrade {
        let (started, began) = (Timestamp::now(), Instant::now());
        harness.edit_version(DRIVER, "13.1.0").await?;
        settle(&harness, size, "13.1.0").await?;
        let makespan = began.elapsed();
        let requests = Requests::read(&log)?.since(&installed)?;
        for (what, count) in requests.table() {
            eprintln!("  {count:>6} {what}");
        }
        rows.push(Row {
            what: format!("upgrade of {size}"),
            makespan,
            ratio: Some(against_ideal(&harness, makespan, started, size, &budget).await?),
            writes: per_node(requests.writes(), size),
            reads: per_node(requests.reads(), size),
            rss_mib: process::rss_mib(&operator)?,
            reconcile_p99: process::reconcile_p99(operator.address())?,
            violations: 0,
        });
    }
    let violations = oracle.finish().await;
    for violation in &violations {
        eprintln!("  {violation}");
    }
    if let Some(row) = rows.last_mut() {
        row.violations = violations.len();
    }
    drop(operator);
    harness.soft.stop().await;
    Ok(rows)
}

async fn settle(harness: &Harness, size: usize, version: &str) -> Result<()> {
    let began = Instant::now();
    let patience = Duration::from_mins(30);
    let mut said = Instant::now();
    loop {
        let driver = harness.driver(DRIVER).await?.context("the CXIDriver is there")?;
        let status = driver.status.unwrap_or_default();
        if status.version.as_deref() == Some(version)
            && usize::try_from(status.updated) == Ok(size)
            && status.updating == 0
        {
            return Ok(());
        }
        if status.failed > 0 {
            bail!("{version} failed on {} of {size} nodes\n{}", status.failed, harness.operator_logs());
        }
        if began.elapsed() > patience {
            bail!("{version} was not on {size} nodes within {patience:?}\n{}", harness.operator_logs());
        }
        if said.elapsed() > Duration::from_secs(10) {
            said = Instant::now();
            eprintln!("  {:>5} s: {} of {size} nodes on {version}", began.elapsed().as_secs(), status.updated);
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

#[expect(clippy::cast_precision_loss, reason = "small counts")]
fn per_node(count: usize, nodes: usize) -> f64 {
    count as f64 / nodes.max(1) as f64
}

/// Makespan against the time that the mean transaction would take if the budget were always used up.
#[expect(clippy::cast_precision_loss, reason = "small counts")]
async fn against_ideal(
    harness: &Harness,
    makespan: Duration,
    started: Timestamp,
    size: usize,
    budget: &IntOrString,
) -> Result<f64> {
    let mine = |entry: &&HistoryEntry| entry.started >= started && entry.result == Outcome::Verified;
    let nodes = harness.cxi_nodes().await?;
    let times: Vec<f64> = nodes
        .iter()
        .filter_map(|node| node.status.as_ref()?.rollout.as_ref())
        .flat_map(|rollout| rollout.history.iter().filter(mine))
        .map(|entry| entry.at.duration_since(entry.started).as_secs_f64())
        .collect();
    let strategy = cxi_api::strategy::UpdateStrategy { max_unavailable: budget.clone(), ..Default::default() };
    let parallel = strategy.budget(size).context("a budget")?.max(1);
    let mean = times.iter().sum::<f64>() / times.len().max(1) as f64;
    Ok(makespan.as_secs_f64() / (size.div_ceil(parallel) as f64 * mean))
}
