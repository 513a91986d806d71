//! From the driver that the hosts bring to one that KMM loads, and back.

use anyhow::{Context, Result, ensure};
use cxi_api::{Reason, driver::SourceType, names::RESUME_ANNOTATION};
use cxi_e2e::{
    harness::HarnessOptions,
    jobs::JobShape,
    scenario::{DRIVER, OLD, Scenario},
    soft_node::{HostDriver, LoadFailure, NodeShape},
};
use serde_json::json;

use super::{at_once, run};

/// Release of the hosts' driver.
const HOSTS: &str = "1.8.3";

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_of_kmm_that_does_not_load_gives_way_to_the_hosts_again() -> Result<()> {
    let host_driver = Some(HostDriver { version: HOSTS.to_owned(), at_boot: true });
    let shape = NodeShape { host_driver, ..NodeShape::default() };
    let s = Scenario::start_with(HarnessOptions::default(), 3, &shape).await?;
    s.install(|spec| {
        at_once(1)(spec);
        spec.source.kind = SourceType::Preinstalled;
    })
    .await?;
    s.all_run(HOSTS).await?;
    s.harness.jobs.deployment("job", 1, &JobShape::default()).await?;
    run(&s, "job", 1).await?;

    for node in &s.nodes {
        s.harness.soft.fail_load(node, &LoadFailure { version: Some(OLD.into()), leaves: 2 })?;
    }
    s.harness.edit_driver(DRIVER, &json!({ "spec": { "source": { "type": "prebuilt" } } })).await?;
    s.until("the rollout halts", || async {
        Ok(s.condition("Halted").await?.is_some_and(|(status, _)| status == "True"))
    })
    .await?;
    let rollout = s.status().await?.rollout.context("there is a rollout")?;
    ensure!(rollout.failed.len() == 1, "one node failed: {:?}", rollout.failed);
    s.until_blocked(&rollout.failed[0].node, Reason::Failed).await?;
    s.all_run(HOSTS).await?;

    for node in &s.nodes {
        s.harness.soft.mend_load(node)?;
    }
    let resume = json!({ "metadata": { "annotations": { RESUME_ANNOTATION: rollout.id } } });
    s.harness.edit_driver(DRIVER, &resume).await?;
    s.verified().await?;
    s.all_run(OLD).await?;

    let node = &s.nodes[0];
    s.ask(node, Some("rollback")).await?;
    s.until("the node is back on the host's driver", || async {
        Ok(s.driver(node).as_deref() == Some(HOSTS) && s.offered(node).await? > 0)
    })
    .await?;
    s.ask(node, None).await?;
    s.verified().await?;
    s.all_run(OLD).await?;
    run(&s, "job", 1).await?;
    s.finish().await
}
