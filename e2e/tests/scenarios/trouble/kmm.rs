//! What keeps KMM from its work before any node is touched: pods that find no node, and Modules that are refused.

use anyhow::Result;
use cxi_api::Reason;
use cxi_e2e::{
    oracle::Allowed,
    scenario::{LONG, NEW, Scenario},
};
use k8s_openapi::api::{
    admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding},
    core::v1::Event,
};
use kube::{Api, Resource, api::PostParams};
use serde_json::{Value, json};

/// Name of the policy.
const NAME: &str = "no-new-modules";

/// KMM's pods that pull images tolerate no taint.
#[tokio::test(flavor = "multi_thread")]
async fn a_pull_pod_that_finds_no_node_is_shown_with_the_schedulers_words() -> Result<()> {
    let scenario = Scenario::installed(2, |_| ()).await?;
    let taint = json!([{ "key": "example.com/reserved", "effect": "NoSchedule" }]);
    for node in ["n-01", "n-02"] {
        scenario.allow(&Allowed::ForeignEdit(node.to_owned()), LONG);
        scenario.harness.patch_node(node, &json!({ "spec": { "taints": taint } })).await?;
    }
    scenario.upgrade_to(NEW).await?;
    scenario
        .until("the node says that KMM's pod finds no node", || async {
            let blocker = scenario.record("n-01").await?.and_then(|record| record.blocked_by);
            Ok(blocker.is_some_and(|b| b.reason == Reason::ImageUnverified && b.message.contains("finds no node")))
        })
        .await?;
    scenario
        .until("the condition has the scheduler's words", || async {
            let condition = scenario.condition("PreflightPassed").await?;
            Ok(condition.is_some_and(|(status, said)| status == "False" && said.contains("taint")))
        })
        .await?;
    for node in ["n-01", "n-02"] {
        scenario.harness.patch_node(node, &json!({ "spec": { "taints": null } })).await?;
    }
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    scenario.finish().await
}

/// A policy of the site; KMM's own webhook answers in the same way.
#[tokio::test(flavor = "multi_thread")]
async fn a_module_that_is_refused_is_an_event_and_a_condition_until_it_is_taken() -> Result<()> {
    let scenario = Scenario::installed(1, |_| ()).await?;
    let policy = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": { "name": NAME },
        "spec": {
            "failurePolicy": "Fail",
            "matchConstraints": { "resourceRules": [{
                "apiGroups": ["kmm.sigs.x-k8s.io"], "apiVersions": ["*"], "operations": ["CREATE"], "resources": ["modules"],
            }] },
            "validations": [{ "expression": "false", "message": "no drivers on Fridays" }],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
        "metadata": { "name": NAME }, "spec": { "policyName": NAME, "validationActions": ["Deny"] },
    });
    let policies = create::<ValidatingAdmissionPolicy>(&scenario, policy).await?;
    let bindings = create::<ValidatingAdmissionPolicyBinding>(&scenario, binding).await?;
    // A policy is in force some time after it was written.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;

    scenario.upgrade_to(NEW).await?;
    scenario
        .until("the node has the refusal's words", || async {
            let blocker = scenario.record("n-01").await?.and_then(|record| record.blocked_by);
            let refused =
                |b: cxi_api::Blocker| b.reason == Reason::ImageMissing && b.message.contains("no drivers on Fridays");
            Ok(blocker.is_some_and(refused))
        })
        .await?;
    scenario
        .until("the condition has them too", || async {
            let condition = scenario.condition("PreflightPassed").await?;
            Ok(condition.is_some_and(|(_, said)| said.contains("no drivers on Fridays")))
        })
        .await?;
    let events: Api<Event> = Api::namespaced(scenario.harness.client.clone(), "default");
    scenario
        .until("there is an event", || async {
            let all = events.list(&kube::api::ListParams::default()).await?;
            Ok(all.items.iter().any(|event| event.reason.as_deref() == Some("ModuleRefused")))
        })
        .await?;
    bindings.delete(NAME, &kube::api::DeleteParams::default()).await?;
    policies.delete(NAME, &kube::api::DeleteParams::default()).await?;
    scenario.verified().await?;
    scenario.all_run(NEW).await?;
    scenario.finish().await
}

async fn create<K>(scenario: &Scenario, object: Value) -> Result<Api<K>>
where
    K: Resource<DynamicType = (), Scope = k8s_openapi::ClusterResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let api = Api::all(scenario.harness.client.clone());
    api.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    Ok(api)
}
