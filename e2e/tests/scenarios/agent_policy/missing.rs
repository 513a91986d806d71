//! The policy is not there: no agent starts, and a condition says why.

use anyhow::Result;
use cxi_control_plane::NAMESPACE;
use cxi_e2e::{
    harness::{Harness, HarnessOptions},
    scenario::LONG,
    soft_node::NodeShape,
};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::{Api, api::ListParams};

/// Whether the condition Blocked gives the missing policy as its reason.
async fn is_blocked(harness: &Harness) -> Result<bool> {
    let status = harness.driver("cxi").await?.and_then(|driver| driver.status).unwrap_or_default();
    let blocked = status.conditions.into_iter().find(|one| one.type_ == "Blocked");
    Ok(blocked.is_some_and(|blocked| blocked.status == "True" && blocked.reason == "AgentPolicyMissing"))
}

async fn operands(harness: &Harness) -> Result<usize> {
    let daemonsets: Api<DaemonSet> = Api::namespaced(harness.client.clone(), NAMESPACE);
    Ok(daemonsets.list(&ListParams::default()).await?.items.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_agent_starts_without_the_policy_and_those_that_run_stay_when_it_goes() -> Result<()> {
    let harness = Harness::start(HarnessOptions::default()).await?;
    harness.soft.add_nodes("n", 2, &NodeShape::default());
    harness.soft.wait_until_ready(LONG).await?;
    let policy = crate::page::root().join("deploy/policy/agent.yaml");
    let apply = || harness.plane.kubectl(&["apply", "--server-side", "-f", &policy.to_string_lossy()]);
    harness.plane.kubectl(&["delete", "validatingadmissionpolicy", "cxi-agent"])?;
    let operator = harness.spawn_operator(&[])?;
    harness.create_driver("cxi", "13.0.0", |_| {}).await?;
    harness.wait_until("a condition says that the policy is missing", LONG, is_blocked).await?;
    let none = async |h: &Harness| Ok(operands(h).await? == 0);
    harness.wait_until("there is no operand", LONG, none).await?;
    apply()?;
    harness.wait_verified("cxi", 2, LONG).await?;

    let before = operands(&harness).await?;
    harness.plane.kubectl(&["delete", "validatingadmissionpolicybinding", "cxi-agent"])?;
    harness.wait_until("the binding is missed", LONG, is_blocked).await?;
    let stay = async |h: &Harness| Ok(operands(h).await? == before);
    harness.wait_until("the operands stay", LONG, stay).await?;
    apply()?;
    let gone = async |h: &Harness| Ok(!is_blocked(h).await?);
    harness.wait_until("the condition goes", LONG, gone).await?;
    // The control plane is not handed on: its policy is another object now.
    operator.stop().map(drop)
}
