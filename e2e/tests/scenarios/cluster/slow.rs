//! An operator each of whose turns takes long, as on a busy machine or in a large cluster: what it sees is old when it acts.

use std::{env, time::Duration};

use anyhow::{Result, ensure};
use cxi_api::Phase;
use cxi_e2e::{
    harness::is_on,
    jobs::JobShape,
    scenario::{DRIVER, NEW, Scenario},
};

/// Says otherwise how long a turn takes.
const TURN_ENV: &str = "CXI_E2E_TURN";

/// Longer than any pause between two looks. A whole upgrade of one node takes some twenty turns.
const TURN: &str = "12s";

#[tokio::test(flavor = "multi_thread")]
async fn slow_turns_end_well() -> Result<()> {
    let mut s = Scenario::installed(2, |_| ()).await?;
    s.harness.jobs.deployment("job", 2, &JobShape::default()).await?;
    s.until("the jobs run", || async { Ok(s.harness.jobs.running_on("job").await?.len() == 2) }).await?;
    s.stop_operator()?;
    let turn = env::var(TURN_ENV).unwrap_or_else(|_| TURN.to_owned());
    // The time limits are those that operators have where nothing else is said.
    let limits = ["--unload-timeout=10m", "--load-timeout=10m", "--give-back-timeout=5m", "--prefetch-timeout=15m"];
    let others = ["--look-gap=2s", "--host-holder-grace=15s", "--no-leader-election"];
    s.start_slow_operator(&turn, &[&limits[..], &others[..]].concat())?;
    s.operator_changes();
    s.harness
        .edit_driver(DRIVER, &serde_json::json!({ "spec": { "updateStrategy": { "maxUnavailable": 2 } } }))
        .await?;
    s.upgrade_to(NEW).await?;
    let revision = s.revision(NEW).await?;
    s.harness
        .wait_until("both nodes run the new driver", Duration::from_mins(25), async |_| {
            let nodes = s.harness.cxi_nodes().await?;
            for node in &nodes {
                let rollout = node.status.as_ref().and_then(|status| status.rollout.as_ref());
                ensure!(rollout.is_none_or(|rollout| rollout.phase != Phase::Quarantined), "a node is out of service");
            }
            Ok(nodes.len() == 2 && nodes.iter().all(|node| is_on(node, DRIVER, &revision)))
        })
        .await?;
    s.all_run(NEW).await?;
    for node in &s.nodes {
        ensure!(s.unloads(node) == 1, "{node} was unloaded {} times", s.unloads(node));
    }
    s.finish().await
}
