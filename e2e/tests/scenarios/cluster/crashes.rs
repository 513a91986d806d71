//! An operator that dies at any moment, and two that work at once.

use std::{env, time::Duration};

use anyhow::{Result, ensure};
use cxi_e2e::{
    harness::HarnessOptions,
    jobs::JobShape,
    scenario::{NEW, Scenario},
    soft_node::NodeShape,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// Names the seed of the moments of death, to see the same again.
const SEED_ENV: &str = "CXI_E2E_SEED";

/// Nodes with jobs on them, some of whose pods belong to a budget.
async fn busy_nodes(nodes: usize) -> Result<Scenario> {
    let scenario = Scenario::start_with(HarnessOptions::default(), nodes, &NodeShape::default()).await?;
    scenario.install(|spec| spec.update_strategy.max_unavailable = IntOrString::Int(3)).await?;
    scenario.harness.jobs.deployment("web", 4, &JobShape::default()).await?;
    scenario.harness.jobs.protect("web", 2).await?;
    scenario.harness.jobs.batch("train", 2, &JobShape { nics: 2, ..JobShape::default() }).await?;
    jobs_run(&scenario).await?;
    Ok(scenario)
}

async fn jobs_run(scenario: &Scenario) -> Result<()> {
    scenario
        .until("the jobs run", || async {
            let jobs = &scenario.harness.jobs;
            Ok(jobs.running_on("web").await?.len() == 4 && jobs.running_on("train").await?.len() == 2)
        })
        .await
}

async fn all_moved_once(scenario: &Scenario) -> Result<()> {
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    for node in &scenario.nodes {
        ensure!(scenario.unloads(node) == 1, "{node} was unloaded {} times", scenario.unloads(node));
    }
    jobs_run(scenario).await
}

/// Random enough to hit any moment, and the same for the same seed (xorshift64).
struct Chance(u64);

impl Chance {
    fn seeded() -> Result<Self> {
        let seed = match env::var(SEED_ENV) {
            Ok(text) => text.parse()?,
            Err(_) => u64::try_from(jiff::Timestamp::now().as_millisecond())?,
        };
        eprintln!("{SEED_ENV}={seed}");
        Ok(Self(seed.max(1)))
    }

    fn up_to(&mut self, limit: Duration) -> Duration {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis(self.0 % millis)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_killed_at_random_moments_moves_every_node_once() -> Result<()> {
    let mut chance = Chance::seeded()?;
    let mut scenario = busy_nodes(12).await?;
    let target = scenario.nodes.len();
    scenario.upgrade_to(NEW).await?;
    let mut deaths = 0;
    loop {
        let moved = scenario.nodes.iter().filter(|node| scenario.driver(node).as_deref() == Some(NEW)).count();
        if moved == target || deaths == 40 {
            break;
        }
        // Without a Lease, because waiting for it would take longer than the rollout.
        scenario.kill_operator()?;
        scenario.start_operator(&["--no-leader-election"])?;
        deaths += 1;
        tokio::time::sleep(Duration::from_millis(500) + chance.up_to(Duration::from_secs(4))).await;
    }
    eprintln!("the operator died {deaths} times");
    ensure!(deaths >= 3, "the rollout was over after {deaths} deaths");
    all_moved_once(&scenario).await?;
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn two_operators_at_once_move_every_node_once() -> Result<()> {
    let mut scenario = busy_nodes(6).await?;
    scenario.kill_operator()?;
    scenario.start_operator(&["--no-leader-election"])?;
    let second = scenario.harness.spawn_operator(&["--no-leader-election"])?;
    scenario.upgrade_to(NEW).await?;
    all_moved_once(&scenario).await?;
    second.stop()?;
    scenario.finish().await
}
