//! Two CXIDrivers that want the same nodes.

use std::time::Duration;

use anyhow::{Result, ensure};
use cxi_e2e::scenario::{DRIVER, LONG, NEW, OLD, Scenario};

const YOUNGER: &str = "younger";

#[tokio::test(flavor = "multi_thread")]
async fn the_older_of_two_keeps_the_nodes_and_the_younger_takes_over_when_it_is_deleted() -> Result<()> {
    let scenario = Scenario::installed(2, |_| ()).await?;
    scenario.harness.create_driver(YOUNGER, NEW, |_| ()).await?;
    scenario
        .until("the younger says that it is in conflict", || async {
            let status = scenario.harness.driver(YOUNGER).await?.and_then(|driver| driver.status).unwrap_or_default();
            let conflict = status.conditions.into_iter().find(|condition| condition.type_ == "Conflict");
            Ok(conflict.is_some_and(|c| c.status == "True" && c.message.contains(&format!("CXIDriver {DRIVER}"))))
        })
        .await?;
    let kept = || async {
        Ok(scenario.nodes.iter().all(|node| scenario.unloads(node) == 0 && scenario.driver(node).is_some()))
    };
    scenario.stays("the older's nodes are left alone", Duration::from_secs(4), kept).await?;
    scenario.all_run(OLD).await?;

    scenario.harness.delete_driver(DRIVER).await?;
    scenario.harness.wait_verified(YOUNGER, 2, LONG).await?;
    scenario.all_run(NEW).await?;
    ensure!(scenario.harness.driver(DRIVER).await?.is_none(), "the older is still there");
    for node in &scenario.nodes {
        ensure!(scenario.unloads(node) == 1, "{node} was unloaded {} times", scenario.unloads(node));
    }
    scenario.finish().await
}
