//! The spine: installation, then an upgrade under load, with the real KMM, the operator as it ships, the proofs of the real
//! node agent, and NICs offered and given by the real device plugin's decisions.

use std::{collections::BTreeSet, fs};

use anyhow::{Context, Result, ensure};
use cxi_api::{CXIDevice, names::DEFAULT_RESOURCE};
use cxi_e2e::{
    harness::{Agents, Harness, HarnessOptions},
    jobs::JobShape,
    oracle::{Invariant, Oracle},
    scenario::LONG,
    soft_node::NodeShape,
};
use kube::{Api, ResourceExt, api::ListParams};
use serde_json::json;

/// The inventory of three nodes with two NICs each.
const DEVICES: [&str; 6] = ["n-01-cxi0", "n-01-cxi1", "n-02-cxi0", "n-02-cxi1", "n-03-cxi0", "n-03-cxi1"];

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_are_installed_and_upgraded_under_a_job() -> Result<()> {
    let mut harness = Harness::start(HarnessOptions { agents: Agents::Real, ..HarnessOptions::default() }).await?;
    let oracle = Oracle::start(&harness.client, &harness.soft);
    let names = harness.soft.add_nodes("n", 3, &NodeShape::default());
    harness.soft.wait_until_ready(LONG).await?;

    let operator = harness.spawn_operator(&[])?;
    oracle.operator_runs(true);
    harness.create_driver("cxi", "13.0.0", |_| ()).await?;
    harness.wait_verified("cxi", 3, LONG).await?;

    harness.jobs.deployment("job", 2, &JobShape { nics: 2, ..JobShape::default() }).await?;
    harness.wait_until("both pods run", LONG, async |h| Ok(h.jobs.running_on("job").await?.len() == 2)).await?;
    harness.edit_version("cxi", "13.1.0").await?;
    harness.wait_verified("cxi", 3, LONG).await?;
    harness.wait_until("both pods run again", LONG, async |h| Ok(h.jobs.running_on("job").await?.len() == 2)).await?;

    for name in names {
        let driver = harness.soft.truth(&name).and_then(|truth| truth.driver);
        ensure!(driver.is_some_and(|build| build.version == "13.1.0"), "{name} runs another driver");
    }
    each_pod_has_two_nics_open(&harness).await?;
    let devices: Api<CXIDevice> = Api::all(harness.client.clone());
    let mut devices: Vec<_> = devices.list(&ListParams::default()).await?.iter().map(ResourceExt::name_any).collect();
    devices.sort();
    ensure!(devices == DEVICES, "the inventory is {devices:?}");

    let violations = oracle.finish().await;
    for violation in &violations {
        eprintln!("{violation}");
    }
    ensure!(violations.is_empty(), "the oracle saw {} violations", violations.len());

    a_nic_without_a_link_is_not_offered(&harness, "n-02").await?;
    the_oracle_is_not_blind(&harness, "n-01").await?;
    operator.stop()?;
    harness.give_back().await
}

/// The agent finds the devices open that the plugin chose: one id of each NIC for a pod that asks for two.
async fn each_pod_has_two_nics_open(harness: &Harness) -> Result<()> {
    let open = async |harness: &Harness| {
        for node in harness.jobs.running_on("job").await? {
            let report = harness.cxi_node(&node).await?.and_then(|cxi| cxi.status?.node).context("no report")?;
            let devices: BTreeSet<&str> = report.open_files.iter().map(|open| open.device.as_str()).collect();
            if devices != BTreeSet::from(["cxi0", "cxi1"]) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    harness.wait_until("both NICs of both pods are reported open", LONG, open).await
}

/// What is offered follows the file of the link, and not the model of the node, which has it up.
async fn a_nic_without_a_link_is_not_offered(harness: &Harness, node: &str) -> Result<()> {
    let offered = async |harness: &Harness| {
        let allocatable = harness.node(node).await?.status.and_then(|status| status.allocatable).unwrap_or_default();
        Ok::<_, anyhow::Error>(allocatable.get(DEFAULT_RESOURCE).map(|quantity| quantity.0.clone()))
    };
    let is = async |harness: &Harness, ids: &str| Ok(offered(harness).await?.as_deref() == Some(ids));
    harness.wait_until("two NICs are offered", LONG, async |harness| is(harness, "200").await).await?;
    let link = harness.soft.files(node)?.class_directory().join("cxi1/device/properties/link");
    fs::write(&link, "0\n").context("take the link down")?;
    harness.wait_until("one NIC is offered", LONG, async |harness| is(harness, "100").await).await?;
    fs::write(&link, "1\n").context("bring the link up")?;
    harness.wait_until("two NICs are offered again", LONG, async |harness| is(harness, "200").await).await
}

/// What an operator must not do, done by hand and not announced: the oracle must tell.
async fn the_oracle_is_not_blind(harness: &Harness, node: &str) -> Result<()> {
    let oracle = Oracle::start(&harness.client, &harness.soft);
    harness.wait_until("the oracle knows the node", LONG, async |_| Ok(oracle.nodes() == 3)).await?;
    let target = harness.cxi_node(node).await?.and_then(|cxi| cxi.status?.rollout?.revision).context("no revision")?;
    let label = Harness::version_label(&target);
    harness.patch_node(node, &json!({ "metadata": { "labels": { label: null, "rack": "7" } } })).await?;
    let seen = async |_: &Harness| {
        let seen: Vec<Invariant> = oracle.violations().iter().map(|violation| violation.invariant).collect();
        Ok(seen.contains(&Invariant::NoPullUnderLoad) && seen.contains(&Invariant::ForeignFields))
    };
    harness.wait_until("the oracle sees both deeds", LONG, seen).await
}
