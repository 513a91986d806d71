use std::sync::Arc;

use cxi_rollout::world::Refusal;
use serde_json::{Value, json};

use super::*;
use crate::{
    remembered::Refused,
    seen::{self, DaemonSet, Loaded, Record, given as object},
    wanted_operands,
};

fn identity() -> Identity {
    Identity { namespace: "cxi-operator".into(), ..Identity::default() }
}

fn node(name: &str, uid: &str) -> Arc<Object<seen::Node>> {
    object(&json!({
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

fn driver() -> Arc<Object<seen::Driver>> {
    object(&json!({
        "metadata": {"name": "cassini", "uid": "d"},
        "spec": {"version": "13.0.0", "retryHandler": {"image": "registry.example/cxi-rh:1"}},
    }))
}

fn record(node: &str, owner: &str) -> Arc<Object<Record>> {
    object(&json!({
        "metadata": {"name": node, "uid": "record", "ownerReferences": [
            {"apiVersion": "v1", "kind": "Node", "name": node, "uid": owner},
        ]},
        "spec": {},
    }))
}

fn pod(name: &str, node: &str, labels: &Value) -> Arc<Object<seen::Pod>> {
    object(&json!({
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
            object(&json!({
                "metadata": {"name": "pdb", "namespace": "jobs", "generation": 2},
                "spec": {"selector": {"matchLabels": {"app": "mpi"}}},
                "status": {"currentHealthy": 2, "desiredHealthy": 1, "disruptionsAllowed": 1, "expectedPods": 2, "observedGeneration": 2},
            })),
            object(&json!({
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
        budgets: vec![object(&json!({
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
    let config: Arc<Object<Loaded>> = object(&json!({
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
    let spec = &driver.readable().unwrap().spec;
    let images = Images::default();
    let operands = wanted_operands("cassini", spec, &Snapshot::default(), &images, namespace);
    let operands: Vec<_> = operands.into_iter().map(|(name, operand)| (name, operand.unwrap())).collect();
    let stored = |generation: i64| -> Vec<Arc<Object<DaemonSet>>> {
        let stored = |(name, operand): &(String, k8s_openapi::api::apps::v1::DaemonSet)| {
            let mut value = serde_json::to_value(operand).unwrap();
            value["metadata"]["uid"] = json!(format!("uid of {name}"));
            value["metadata"]["generation"] = json!(generation);
            object(&value)
        };
        operands.iter().map(stored).collect()
    };
    let current = |seen: &Snapshot, memory: &Remembered| build(seen, memory, &identity()).drivers[0].operands_current;

    let disabled = object(&json!({
        "metadata": {"name": "cassini", "uid": "d"},
        "spec": {
            "version": "13.0.0", "retryHandler": {"image": "registry.example/cxi-rh:1"},
            "devicePlugin": {"enabled": false},
        },
    }));
    let mut seen = Snapshot { drivers: vec![driver.clone()], ..Snapshot::default() };
    let mut memory = Remembered::default();
    assert!(!current(&seen, &memory), "none exists");
    seen.daemonsets = stored(1);
    assert!(!current(&seen, &memory), "it is not known whether they were changed");
    for ((name, operand), found) in operands.iter().zip(&seen.daemonsets) {
        assert!(!current(&seen, &memory), "{name} may have been changed");
        memory.applied.insert(name.clone(), crate::applied(found, operand));
    }
    assert!(current(&seen, &memory));
    let without_plugin = Snapshot { drivers: vec![disabled], ..seen.clone() };
    assert!(!current(&without_plugin, &memory), "the device plugin is to go");
    let mut others = seen.daemonsets.clone();
    others.remove(1);
    assert!(current(&Snapshot { daemonsets: others, ..without_plugin }, &memory));
    seen.daemonsets[0] = stored(2).remove(0);
    assert!(!current(&seen, &memory), "another client changed one");
}

/// What the API server would have to say for a field that counts not to be readable.
fn broken_driver(name: &str, said: &str) -> Arc<Object<seen::Driver>> {
    object(&json!({
        "metadata": {"name": name, "uid": "b", "generation": 3},
        "spec": {
            "version": "13.0.0", "devicePlugin": {"resourceName": "hpe.com/broken"},
            "updateStrategy": {"drain": {"waitTimeout": "1000000h"}},
        },
        "status": {
            "resourceNames": ["hpe.com/earlier"],
            "conditions": [{
                "type": "Blocked", "status": "True", "reason": "Unreadable", "message": said,
                "lastTransitionTime": "9999-12-31T23:59:59Z",
            }],
        },
    }))
}

#[test]
fn a_driver_that_cannot_be_read_is_one_that_cannot_be_read_and_the_others_go_on() {
    let place = "spec.updateStrategy.drain.waitTimeout (\"1000000h\"): ";
    let of = |said: &str| {
        let seen = Snapshot { drivers: vec![driver(), broken_driver("broken", said)], ..Snapshot::default() };
        build(&seen, &Remembered::default(), &identity())
    };
    let world = of("something else");
    assert_eq!(world.drivers.iter().map(|driver| driver.name.as_str()).collect::<Vec<_>>(), ["cassini"]);
    let [broken] = world.unreadable_drivers.as_slice() else { panic!("{:?}", world.unreadable_drivers) };
    assert_eq!((broken.name.as_str(), broken.uid.as_str(), broken.told), ("broken", "b", false));
    assert!(broken.why.starts_with(place), "{}", broken.why);
    let why = broken.why.clone();
    assert!(of(&format!("{why}. Correct it.")).unreadable_drivers[0].told);
}

#[test]
fn pods_of_a_driver_that_cannot_be_read_are_holders_all_the_same() {
    let seen = Snapshot { drivers: vec![broken_driver("broken", "")], ..Snapshot::default() };
    let expected = ["hpe.com/broken", "hpe.com/earlier"].map(str::to_owned).into();
    assert_eq!(resource_names(&seen), expected);
}

#[test]
fn a_pod_that_cannot_be_read_holds_everything_on_its_node() {
    let unreadable = |name: &str, node: Option<&str>| {
        object(&json!({
            "metadata": {"name": name, "namespace": "jobs", "uid": name, "labels": 5},
            "spec": {"nodeName": node}, "status": {"phase": "Running"},
        }))
    };
    let seen = Snapshot {
        drivers: vec![driver()],
        nodes: vec![node("n1", "u1"), node("n2", "u2")],
        holders: vec![unreadable("opaque", Some("n1")), unreadable("nowhere", None), pod("p1", "n1", &json!({}))],
        ..Snapshot::default()
    };
    let world = build(&seen, &Remembered::default(), &identity());
    let [opaque, plain] = world.nodes["n1"].holders.as_slice() else { panic!("{:?}", world.nodes["n1"].holders) };
    assert!(opaque.unreadable && opaque.started && opaque.grace.is_zero() && !plain.unreadable);
    assert_eq!(opaque.resources, [cxi_api::names::DEFAULT_RESOURCE]);
    assert!(world.nodes["n2"].holders.is_empty());
    assert!(world.nodes.values().all(|node| node.unreadable.is_none()));
}

#[test]
fn a_budget_that_cannot_be_read_covers_its_namespace_and_allows_nothing() {
    let elsewhere = object(&json!({
        "metadata": {"name": "p2", "namespace": "other", "uid": "p2"},
        "spec": {"nodeName": "n1", "containers": [{"resources": {"limits": {"hpe.com/cxi": "1"}}}]},
        "status": {"phase": "Running"},
    }));
    let seen = Snapshot {
        drivers: vec![driver()],
        nodes: vec![node("n1", "u1")],
        holders: vec![pod("p1", "n1", &json!({})), elsewhere],
        budgets: vec![object(&json!({
            "metadata": {"name": "pdb", "namespace": "jobs"},
            "spec": {"selector": {"matchLabels": 5}}, "status": {"disruptionsAllowed": 7},
        }))],
        ..Snapshot::default()
    };
    let world = build(&seen, &Remembered::default(), &identity());
    let [budget] = world.disruption_budgets.as_slice() else { panic!("{:?}", world.disruption_budgets) };
    assert_eq!((budget.covers.as_slice(), budget.allowed), (["p1".to_owned()].as_slice(), 0));
    assert!(budget.broken.as_ref().unwrap().contains("spec.selector.matchLabels"), "{budget:?}");
}

#[test]
fn what_cannot_be_read_of_a_node_concerns_that_node_alone() {
    let broken_record = object(&json!({
        "metadata": {"name": "n2", "uid": "r", "ownerReferences": [{"kind": "Node", "name": "n2", "uid": "u2"}]},
        "status": {"rollout": {"driver": "cassini", "phase": "PhaseOfTheFuture", "since": "2026-01-01T00:00:00Z"}},
    }));
    let worker = json!({
        "metadata": {"name": "w", "namespace": "cxi-operator", "uid": "w"},
        "spec": {"nodeName": "n4"}, "status": {"phase": 5},
    });
    let seen = Snapshot {
        nodes: vec![
            object(&json!({"metadata": {"name": "n1", "uid": "u1"}, "spec": {"taints": "none"}})),
            node("n2", "u2"),
            node("n3", "u3"),
            node("n4", "u4"),
            node("n5", "u5"),
        ],
        records: vec![broken_record, record("n5", "u5")],
        loaded: vec![object(&json!({"metadata": {"name": "n3"}, "spec": {"modules": "none"}}))],
        own_pods: vec![object(&worker)],
        ..Snapshot::default()
    };
    let world = build(&seen, &Remembered::default(), &identity());
    let why = |name: &str| world.nodes[name].unreadable.clone().unwrap_or_default();
    assert!(why("n1").starts_with("Node n1 cannot be read: spec.taints: "), "{}", why("n1"));
    assert!(
        why("n2").starts_with("CXINode n2 cannot be read: status.rollout.phase (\"PhaseOfTheFuture\"): "),
        "{}",
        why("n2")
    );
    assert!(why("n3").starts_with("NodeModulesConfig n3 cannot be read: spec.modules: "), "{}", why("n3"));
    assert!(why("n4").starts_with("Pod cxi-operator/w cannot be read: status.phase: "), "{}", why("n4"));
    assert_eq!(world.nodes["n5"].unreadable, None);
    assert!(world.nodes["n2"].record.is_none() && world.nodes["n2"].stale_record.is_none());
    assert!(world.nodes["n5"].record.is_some());
}

#[test]
fn a_report_that_cannot_be_read_is_none_and_the_node_goes_on() {
    let record = |report: Value| {
        object(&json!({
            "metadata": {"name": "n1", "uid": "r", "ownerReferences": [{"kind": "Node", "name": "n1", "uid": "u1"}]},
            "status": {
                "rollout": {"driver": "cassini", "phase": "Pending", "since": "2026-01-01T00:00:00Z"},
                "node": report,
            },
        }))
    };
    for report in [
        json!({"kernel": "6", "bootID": "b", "observedAt": "9999-12-31T23:59:59Z", "sequence": 1}),
        json!({"kernel": "6"}),
        json!(5),
    ] {
        let seen = Snapshot { nodes: vec![node("n1", "u1")], records: vec![record(report)], ..Snapshot::default() };
        let world = build(&seen, &Remembered::default(), &identity());
        let node = &world.nodes["n1"];
        assert_eq!(node.unreadable, None);
        assert!(node.rollout().is_some() && node.report().is_none());
        let said = seen.records[0].trouble().unwrap();
        assert!(said.starts_with("the agent's report counts for nothing: status.node."), "{said}");
    }
}

#[test]
fn no_retry_handler_goes_while_it_is_not_known_what_a_node_needs() {
    let mut seen = Snapshot { drivers: vec![driver()], nodes: vec![node("n1", "u1")], ..Snapshot::default() };
    let spec = &driver().readable().unwrap().spec.clone();
    let handlers = ["registry.example/cxi-rh:0".to_owned()].into();
    let all = cxi_manifests::operands::operands("cassini", spec, "cxi-operator", &Images::default(), &handlers);
    let (name, earlier) = all.into_iter().last().unwrap();
    let mut value = serde_json::to_value(earlier.unwrap()).unwrap();
    value["metadata"]["uid"] = json!("e");
    seen.daemonsets = vec![object(&value)];
    let goes = |seen: &Snapshot| {
        let wanted = wanted_operands("cassini", spec, seen, &Images::default(), "cxi-operator");
        wanted.contains(&(name.clone(), None))
    };
    assert!(goes(&seen));
    seen.nodes.push(object(&json!({"metadata": {"name": "n2", "uid": "u2", "labels": 5}})));
    assert!(!goes(&seen));
    seen.nodes.pop();
    seen.records.push(object(&json!({"metadata": {"name": "n1", "uid": "r"}, "status": {"rollout": {"driver": 5}}})));
    assert!(!goes(&seen));
}
