use std::sync::Arc;

use cxi_api::{CXIDriver, CXINode, kmm::NodeModulesConfig};
use cxi_rollout::world::Refusal;
use k8s_openapi::api::core::v1 as core;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::*;
use crate::{memory::Refused, observe::wanted_operands};

fn object<K: DeserializeOwned>(value: Value) -> Arc<K> {
    Arc::new(serde_json::from_value(value).unwrap())
}

fn identity() -> Identity {
    Identity { namespace: "cxi-operator".into(), ..Identity::default() }
}

fn node(name: &str, uid: &str) -> Arc<core::Node> {
    object(json!({
        "metadata": {"name": name, "uid": uid, "labels": {"a": "b"}, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"unschedulable": true, "taints": [{"key": "t", "effect": "NoSchedule"}]},
        "status": {
            "allocatable": {"cpu": "4", "hpe.com/cxi": "200"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "nodeInfo": {
                "architecture": "", "bootID": "boot-1", "containerRuntimeVersion": "", "kernelVersion": "6.12+deb",
                "kubeProxyVersion": "", "kubeletVersion": "", "machineID": "", "operatingSystem": "",
                "osImage": "", "systemUUID": "",
            },
        },
    }))
}

fn driver() -> Arc<CXIDriver> {
    object(json!({
        "metadata": {"name": "cassini", "uid": "d"},
        "spec": {"version": "13.0.0", "retryHandler": {"image": "registry.example/cxi-rh:1"}},
    }))
}

fn record(node: &str, owner: &str) -> Arc<CXINode> {
    object(json!({
        "metadata": {"name": node, "uid": "record", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": node, "uid": owner},
        ]},
        "spec": {},
    }))
}

fn pod(name: &str, node: &str, labels: &Value) -> Arc<core::Pod> {
    object(json!({
        "metadata": {"name": name, "namespace": "jobs", "uid": name, "labels": labels},
        "spec": {"nodeName": node, "containers": [{"name": "c", "resources": {"limits": {"hpe.com/cxi": "1"}}}]},
        "status": {"phase": "Running", "startTime": "2026-01-01T00:00:00Z"},
    }))
}

#[test]
fn a_node_is_taken_over_whole() {
    let seen = Snapshot { nodes: vec![node("n1", "u1")], ..Snapshot::default() };
    let world = build(&seen, &Remembered::default(), &identity());
    let n1 = &world.nodes["n1"];
    assert_eq!((n1.kernel.as_str(), n1.boot_id.as_str(), n1.ready, n1.cordoned), ("6.12+deb", "boot-1", true, true));
    assert_eq!(n1.allocatable, [("hpe.com/cxi".to_owned(), 200)].into());
    assert_eq!((n1.taints.len(), n1.record.is_none()), (1, true));
}

#[test]
fn a_record_of_an_earlier_node_is_stale() {
    let mut seen = Snapshot { nodes: vec![node("n1", "u2")], records: vec![record("n1", "u1")], ..Snapshot::default() };
    let world = build(&seen, &Remembered::default(), &identity());
    assert_eq!(world.nodes["n1"].stale_record.as_deref(), Some("record"));
    assert!(world.nodes["n1"].record.is_none());
    seen.records = vec![record("n1", "u2")];
    let world = build(&seen, &Remembered::default(), &identity());
    assert!(world.nodes["n1"].record.is_some() && world.nodes["n1"].stale_record.is_none());
}

#[test]
fn holders_are_placed_with_their_refusals_and_budgets() {
    let labels = json!({"app": "mpi"});
    let seen = Snapshot {
        drivers: vec![driver()],
        nodes: vec![node("n1", "u1"), node("n2", "u2")],
        holders: vec![pod("p2", "n1", &labels), pod("p1", "n1", &labels), pod("gone", "n9", &json!({}))],
        budgets: vec![
            object(json!({
                "metadata": {"name": "pdb", "namespace": "jobs", "generation": 2},
                "spec": {"selector": {"matchLabels": {"app": "mpi"}}},
                "status": {"currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 1, "expectedPods": 2, "observedGeneration": 2},
            })),
            object(json!({
                "metadata": {"name": "elsewhere", "namespace": "other"},
                "spec": {"selector": {}},
            })),
        ],
        ..Snapshot::default()
    };
    let refusal = Refusal { retry_at: "2026-01-01T00:00:05Z".parse().unwrap(), budget: None, message: String::new() };
    let mut memory = Remembered::default();
    memory.refusals.insert("p2".into(), Refused { refusal: refusal.clone(), times: 1 });
    let world = build(&seen, &memory, &identity());
    let names: Vec<_> = world.nodes["n1"].holders.iter().map(|h| (h.name.as_str(), h.refused.clone())).collect();
    assert_eq!(names, [("p1", None), ("p2", Some(refusal))]);
    assert!(world.nodes["n2"].holders.is_empty());
    let [budget] = world.disruption_budgets.as_slice() else { panic!("{:?}", world.disruption_budgets) };
    assert_eq!((budget.name.as_str(), budget.allowed, budget.covers.len()), ("pdb", 1, 2));
}

#[test]
fn a_budget_whose_status_is_old_allows_nothing() {
    let seen = Snapshot {
        drivers: vec![driver()],
        nodes: vec![node("n1", "u1")],
        holders: vec![pod("p1", "n1", &json!({}))],
        budgets: vec![object(json!({
            "metadata": {"name": "pdb", "namespace": "jobs", "generation": 3},
            "spec": {"selector": {}},
            "status": {"currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 1, "expectedPods": 2, "observedGeneration": 2},
        }))],
        ..Snapshot::default()
    };
    let world = build(&seen, &Remembered::default(), &identity());
    assert_eq!(world.disruption_budgets[0].allowed, 0);
}

#[test]
fn only_our_modules_count() {
    let config: Arc<NodeModulesConfig> = object(json!({
        "metadata": {"name": "n1"},
        "spec": {"modules": [
            {"name": "cxi-aaaa1111", "namespace": "cxi-operator", "config": {}},
            {"name": "cxi-aaaa1111", "namespace": "other", "config": {}},
            {"name": "gpu", "namespace": "cxi-operator", "config": {}},
        ]},
    }));
    let seen = Snapshot { nodes: vec![node("n1", "u1")], loaded: vec![config], ..Snapshot::default() };
    let world = build(&seen, &Remembered::default(), &identity());
    assert_eq!((world.nodes["n1"].kmm_wants.len(), world.nodes["n1"].kmm_has.len()), (1, 0));
}

#[test]
fn operands_are_current_once_applied_and_unchanged() {
    let namespace = "cxi-operator";
    let driver = driver();
    let prepared = |(name, operand): crate::render::WantedOperand| {
        let mut operand = operand.unwrap();
        operand.metadata.uid = Some(format!("uid of {name}"));
        operand.metadata.generation = Some(1);
        operand
    };
    let images = Images::default();
    let operands = wanted_operands("cassini", &driver.spec, &Snapshot::default(), &images, namespace);
    let mut operands: Vec<_> = operands.into_iter().map(prepared).collect();
    let current = |seen: &Snapshot, memory: &Remembered| build(seen, memory, &identity()).drivers[0].operands_current;

    let mut disabled = driver.as_ref().clone();
    disabled.spec.device_plugin.enabled = false;
    let mut seen = Snapshot { drivers: vec![driver], ..Snapshot::default() };
    let mut memory = Remembered::default();
    assert!(!current(&seen, &memory), "none exists");
    seen.daemonsets = operands.iter().cloned().map(Arc::new).collect();
    assert!(!current(&seen, &memory), "nobody knows whether they were changed");
    for operand in &operands {
        let name = operand.name_any();
        assert!(!current(&seen, &memory), "{name} may have been changed");
        memory.applied.insert(name, crate::observe::applied(operand));
    }
    assert!(current(&seen, &memory));
    let without_plugin = Snapshot { drivers: vec![Arc::new(disabled)], ..seen.clone() };
    assert!(!current(&without_plugin, &memory), "the device plugin is to go");
    let mut others = seen.daemonsets.clone();
    others.remove(1);
    assert!(current(&Snapshot { daemonsets: others, ..without_plugin }, &memory));
    operands[0].metadata.generation = Some(2);
    seen.daemonsets = operands.into_iter().map(Arc::new).collect();
    assert!(!current(&seen, &memory), "somebody changed one");
}
