//! Records of nodes that are deleted or edited by hand, and an API server that is away for a moment.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use cxi_api::{Advertise, CXINode, Phase};
use cxi_e2e::{
    jobs::JobShape,
    scenario::{OLD, Scenario},
    truth::Fact,
};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams},
};
use serde_json::{Value, json};

/// One node in service, with a job on it.
async fn with_a_job() -> Result<Scenario> {
    let scenario = Scenario::installed(1, |_| ()).await?;
    scenario.harness.jobs.pod("job", &JobShape::on("n-01")).await?;
    scenario.until("the job runs", || async { Ok(scenario.harness.jobs.running_on("job").await?.len() == 1) }).await?;
    Ok(scenario)
}

/// The node was not moved: nothing was loaded or unloaded since, and its job runs.
async fn not_moved(scenario: &Scenario) -> Result<()> {
    let loads = scenario.facts("n-01").into_iter().filter(|fact| matches!(fact, Fact::Loaded { .. })).count();
    ensure!(loads == 1 && scenario.unloads("n-01") == 0, "the node was moved");
    ensure!(scenario.harness.jobs.running_on("job").await?.len() == 1, "the job was disturbed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_deleted_by_hand_is_made_again_without_moving_the_node() -> Result<()> {
    let scenario = with_a_job().await?;
    let records: Api<CXINode> = Api::all(scenario.harness.client.clone());
    let before = records.get("n-01").await?.metadata.uid;
    records.delete("n-01", &DeleteParams::default()).await?;
    scenario
        .until("there is a new record", || async {
            let record = records.get_opt("n-01").await?;
            Ok(record.is_some_and(|record| record.metadata.uid != before))
        })
        .await?;
    scenario.verified().await?;
    scenario.all_run(OLD).await?;
    not_moved(&scenario).await?;
    scenario.finish().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_edited_by_hand_is_rebuilt_from_what_is_seen_without_moving_the_node() -> Result<()> {
    let scenario = with_a_job().await?;
    let records: Api<CXINode> = Api::all(scenario.harness.client.clone());
    let write = async |rollout: Value| {
        let patch = json!({ "status": { "rollout": rollout } });
        records.patch_status("n-01", &PatchParams::default(), &Patch::Merge(&patch)).await.context("edit the record")
    };
    for forged in [
        json!(null),
        json!({ "phase": Phase::Unloading }),
        json!({ "phase": Phase::Loading }),
        json!({ "phase": Phase::Quarantined }),
        json!({ "revision": "0badc0de" }),
        json!({ "attempt": 77 }),
    ] {
        write(forged.clone()).await?;
        scenario
            .until(&format!("the record is right again after {forged}"), || async {
                let revision = scenario.revision(OLD).await?;
                let record = scenario.record("n-01").await?;
                Ok(record.is_some_and(|record| {
                    let right = record.revision == Some(revision) && record.phase == Phase::UpToDate;
                    right && record.advertise == Advertise::All
                }))
            })
            .await?;
    }
    scenario.verified().await?;
    scenario.all_run(OLD).await?;
    not_moved(&scenario).await?;
    scenario
        .stays("the job runs on", Duration::from_secs(2), || async {
            Ok(scenario.harness.jobs.running_on("job").await?.len() == 1)
        })
        .await?;
    scenario.finish().await
}
