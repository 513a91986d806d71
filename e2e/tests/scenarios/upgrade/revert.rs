//! The version is set back in the middle of a rollout.

use anyhow::{Result, ensure};
use cxi_api::{Phase, Reason, strategy::DrainPolicy};
use cxi_e2e::{
    jobs::JobShape,
    scenario::{NEW, OLD, Scenario},
};

use super::{at_once, run, starts, waits};

#[tokio::test(flavor = "multi_thread")]
async fn nodes_before_the_unload_come_back_as_they_are_and_the_others_roll_back() -> Result<()> {
    let s = Scenario::installed(4, |spec| {
        at_once(3)(spec);
        waits(DrainPolicy::WaitForCompletion, 600)(spec);
    })
    .await?;
    let [waiting, verifying, done] = ["n-01", "n-02", "n-03"];
    s.harness.jobs.pod("train", &JobShape::on(waiting)).await?;
    run(&s, "train", 1).await?;
    s.harness.soft.hold_links_down(verifying, &[NEW])?;

    s.upgrade_to(NEW).await?;
    s.until_blocked(waiting, Reason::PodsRunning).await?;
    s.until_blocked(verifying, Reason::LinkDown).await?;
    s.until_phase(done, Phase::UpToDate).await?;
    s.until(&format!("{done} runs the new driver"), || async { Ok(s.driver(done).as_deref() == Some(NEW)) }).await?;
    s.upgrade_to(OLD).await?;
    s.verified().await?;

    s.all_run(OLD).await?;
    ensure!(s.unloads(waiting) == 0, "{waiting} was given back without a reload");
    ensure!(s.harness.jobs.running_on("train").await? == [waiting], "its pod runs on");
    ensure!(starts(&s, "train") == 1, "and was never disturbed");
    ensure!(s.unloads(verifying) == 2 && s.unloads(done) == 2, "the others went there and back, once");
    ensure!(s.status().await?.failed == 0, "links that nobody waits for any more are no failure");
    s.finish().await
}
