//! What a failed load leaves in the kernel is taken out before anything else is loaded.

use anyhow::{Context, Result, ensure};
use cxi_api::{Phase, Reason};
use cxi_e2e::{
    scenario::{NEW, OLD, Scenario},
    soft_node::LoadFailure,
    truth::Fact,
};

#[tokio::test(flavor = "multi_thread")]
async fn leftovers_of_a_failed_load_are_taken_out_before_the_rollback_loads() -> Result<()> {
    let scenario = Scenario::installed(2, |_| ()).await?;
    let failure = LoadFailure { version: Some(NEW.to_owned()), leaves: 2 };
    scenario.harness.soft.fail_load("n-01", &failure)?;
    scenario.upgrade_to(NEW).await?;
    scenario
        .until("the node is back on the old revision", || async {
            let back = scenario.phase("n-01").await? == Some(Phase::Pending);
            Ok(back && scenario.driver("n-01").as_deref() == Some(OLD) && scenario.offered("n-01").await? > 0)
        })
        .await?;
    scenario.until_blocked("n-01", Reason::Failed).await?;
    scenario.until_blocked("n-02", Reason::Halted).await?;

    let facts = scenario.facts("n-01");
    let failed = facts.iter().rposition(|fact| matches!(fact, Fact::LoadFailed { .. })).context("no load failed")?;
    let cleaned = facts.iter().position(|fact| matches!(fact, Fact::CleanedUp { .. })).context("no clean-up")?;
    let loaded = facts.iter().rposition(|fact| matches!(fact, Fact::Loaded { .. })).context("nothing was loaded")?;
    ensure!(failed < cleaned && cleaned < loaded, "in another order: {facts:?}");
    let symbols = |fact: &Fact| matches!(fact, Fact::LoadFailed { version, .. } if version == OLD);
    ensure!(!facts.iter().any(symbols), "the old revision was loaded on top of the leftovers");
    ensure!(scenario.unloads("n-02") == 0, "the other node was moved");
    scenario.finish().await
}
