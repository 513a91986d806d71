use rstest::rstest;
use serde_json::{Value, json};

use super::*;

/// A time that Go reads and jiff does not.
const BEYOND: &str = "9999-12-31T23:59:59Z";

/// Adds what the API server keeps and the operator does not read, at its worst.
fn burdened(mut object: Value) -> Value {
    let mut nested = json!({});
    for _ in 0..100 {
        nested = json!({ "f:x": nested });
    }
    object["metadata"]["managedFields"] = json!([{ "manager": "kubectl", "time": BEYOND, "fieldsV1": nested }]);
    object["metadata"]["annotations"]["example.com/large"] = json!("x".repeat(10_000));
    object["metadata"]["selfLink"] = json!(5);
    object
}

fn meta(name: &str) -> Value {
    json!({"name": name, "namespace": "ns", "uid": "u", "resourceVersion": "7", "creationTimestamp": BEYOND})
}

fn reads<K: Kind>(object: Value) {
    let reading: Reading<K> = read(&burdened(object).to_string()).unwrap();
    assert_eq!((reading.id.full_name(), &*reading.id.uid, reading.id.order()), ("ns/x", "u", 7));
    assert!(matches!(reading.content, Some(Ok(_))), "{}: {:?}", K::kind(), reading.content);
}

#[test]
fn what_is_not_used_keeps_nothing_from_being_read() {
    let pod = json!({
        "metadata": meta("x"),
        "spec": {
            "nodeName": "n", "tolerations": 5,
            "containers": [{"name": "c", "env": 5, "resources": {"limits": {"hpe.com/cxi": 1, "cpu": true}}}],
        },
        "status": {"phase": "Running", "startTime": BEYOND, "containerStatuses": null},
    });
    reads::<Pod>(pod.clone());
    reads::<OnNode>(pod);
    let mut ours = meta("x");
    ours["labels"] = json!({"cxi.hpe.com/role": "device-plugin"});
    reads::<OwnPod>(json!({"metadata": ours, "spec": {"containers": [{"env": 5}]}, "status": {"startTime": BEYOND}}));
    reads::<Budget>(json!({
        "metadata": meta("x"), "spec": {"selector": {}, "maxUnavailable": {}},
        "status": {"disruptedPods": {"p": BEYOND}, "conditions": [{"type": "a", "lastTransitionTime": BEYOND}]},
    }));
    reads::<Node>(json!({
        "metadata": meta("x"), "spec": {"taints": [{"key": "k", "effect": "NoExecute", "timeAdded": BEYOND}]},
        "status": {
            "conditions": [{"type": "Ready", "status": "True", "lastHeartbeatTime": BEYOND}],
            "allocatable": {"hpe.com/cxi": 5, "memory": {}}, "images": 5, "nodeInfo": {"kernelVersion": "6"},
        },
    }));
    reads::<Record>(json!({"metadata": meta("x"), "status": {"node": {"observedAt": BEYOND}}}));
    reads::<Driver>(json!({"metadata": meta("x"), "spec": {"version": "1"}, "status": {"conditions": [{"type": 5}]}}));
    reads::<DaemonSet>(json!({"metadata": meta("x"), "spec": 5, "status": 5}));
    reads::<Containerfile>(json!({"metadata": meta("x"), "data": 5}));
    reads::<Module>(json!({"metadata": meta("x"), "spec": 5, "status": 5}));
    reads::<Images>(json!({"metadata": meta("x"), "spec": {"images": null}, "status": null}));
    reads::<Loaded>(json!({"metadata": meta("x"), "spec": {"modules": []}, "status": {"modules": null}}));
}

/// What cannot be read of an object has its place, and no value of a tenant.
#[rstest]
#[case(json!({"metadata": {"name": "x", "labels": {"a": "secret-1", "b": 5}}}), "metadata.labels")]
#[case(json!({"metadata": {"name": "x"}, "spec": {"nodeName": ["secret-1"]}}), "spec.nodeName")]
#[case(json!({"metadata": {"name": "x"}, "spec": {"containers": "secret-1"}}), "spec.containers")]
#[case(json!({"metadata": {"name": "x"}, "spec": {"containers": [{"resources": "secret-1"}]}}), "spec.containers[0].resources")]
#[case(json!({"metadata": {"name": "x"}, "status": {"phase": {"secret-1": 5}}}), "status.phase")]
fn why_says_where_and_no_value(#[case] pod: Value, #[case] place: &str) {
    let reading = read::<Pod>(&pod.to_string()).unwrap();
    let why = reading.content.unwrap().unwrap_err().why;
    assert!(why.starts_with(place) && !why.contains("secret"), "{why}");
}

#[test]
fn of_a_pod_that_cannot_be_read_remains_where_it_is_until_it_has_ended() {
    let remains = |spec: Value, status: Value| {
        let pod = json!({"metadata": {"name": "x", "labels": 5}, "spec": spec, "status": status});
        let content = read::<Pod>(&pod.to_string()).unwrap().content;
        content.map(|content| content.unwrap_err().remains.node.map(String::from))
    };
    assert_eq!(remains(json!({"nodeName": "n"}), json!({"phase": "Running"})), Some(Some("n".into())));
    assert_eq!(remains(json!({"nodeName": "n"}), json!(5)), Some(Some("n".into())));
    assert_eq!(remains(json!({"nodeName": "n"}), json!({"phase": "Succeeded"})), None);
    for nowhere in [json!({}), json!({"nodeName": ""}), json!({"nodeName": 5}), json!(5)] {
        assert_eq!(remains(nowhere, json!({"phase": "Pending"})), Some(None));
    }
}

#[test]
fn a_time_of_deletion_that_cannot_be_read_is_one() {
    let pod = json!({
        "metadata": {"name": "x", "deletionTimestamp": "soon"},
        "spec": {"containers": [{"resources": {"limits": {"hpe.com/cxi": "1"}}}]},
    });
    let pod = read::<Pod>(&pod.to_string()).unwrap().content.unwrap().unwrap();
    assert_eq!(pod.ends, Some(fields::LAST));
}

#[test]
fn a_driver_whose_status_has_no_conditions_or_bad_ones_is_read() {
    for (status, conditions) in [
        (json!(null), 0),
        (json!({}), 0),
        (json!({"observedGeneration": 1}), 0),
        (json!({"conditions": [{"type": "A", "lastTransitionTime": BEYOND}]}), 0),
        (
            json!({"conditions": [{"type": 5}, {
                "type": "Available", "status": "True", "reason": "r", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]}),
            1,
        ),
    ] {
        let driver = json!({"metadata": {"name": "x"}, "spec": {"version": "1"}, "status": status});
        let read = read::<Driver>(&driver.to_string()).unwrap().content.unwrap().unwrap();
        assert_eq!(read.status.conditions.len(), conditions, "{status}");
    }
}

#[test]
fn a_driver_says_which_value_cannot_be_read() {
    let why = |spec: Value| {
        let driver = json!({"metadata": {"name": "x"}, "spec": spec});
        read::<Driver>(&driver.to_string()).unwrap().content.unwrap().unwrap_err().why.into_string()
    };
    let unavailable = why(json!({"version": "1", "updateStrategy": {"maxUnavailable": 3_000_000_000_u32}}));
    assert!(unavailable.starts_with("spec.updateStrategy.maxUnavailable (3000000000): "), "{unavailable}");
    let missing = why(json!({}));
    assert_eq!(missing, "spec ({}): missing field `version`");
    let long = why(json!({"version": "1", "updateStrategy": {"maxFailed": "x".repeat(500)}}));
    assert!(long.starts_with("spec.updateStrategy.maxFailed: "), "{long}");
}

#[test]
fn something_without_a_name_is_no_object() {
    for json in ["", "5", "{}", r#"{"metadata": {}}"#, r#"{"metadata": {"name": 5}}"#, r#"{"metadata": {"name": "x"}"#]
    {
        assert!(read::<Containerfile>(json).is_err(), "{json}");
    }
}

/// Bytes of memory of a value and of all that it points to.
fn bytes<K: Kind>(object: Value, heap: impl Fn(&K) -> usize) -> usize {
    let object = given::<K>(&burdened(object));
    let content = object.readable().unwrap();
    // Of the Arc, and of the entry in the map, whose key is the object's own.
    let counters = 2 * size_of::<usize>();
    let entry = size_of::<(Arc<str>, Arc<Object<K>>)>() + 1;
    let names = counters + object.id.key().len() + object.id.uid.len() + object.id.version.len();
    counters + size_of::<Object<K>>() + entry + names + heap(content)
}

#[test]
fn little_is_kept_in_memory() {
    let labels = json!({
        "app.kubernetes.io/name": "openmpi", "app.kubernetes.io/instance": "weather-2026-11-30-12",
        "batch.kubernetes.io/job-name": "weather-2026-11-30-12", "job-name": "weather-2026-11-30-12",
        "batch.kubernetes.io/controller-uid": "6f1c5e0a-3b0e-4d42-9a6f-0c2b7f1d9e11",
    });
    let pod = json!({
        "metadata": {
            "name": "weather-2026-11-30-12-worker-113", "namespace": "weather", "uid": "6f1c5e0a-3b0e-4d42-9a6f-0c2b7f1d9e11",
            "resourceVersion": "182736455", "labels": labels,
            "ownerReferences": [{"kind": "Job", "name": "weather-2026-11-30-12", "uid": "u", "controller": true}],
        },
        "spec": {
            "nodeName": "nid001234", "terminationGracePeriodSeconds": 30,
            "containers": [{
                "name": "rank", "image": "registry.example/weather:1", "env": [{"name": "A", "value": "x".repeat(5000)}],
                "resources": {"limits": {"hpe.com/cxi": "4", "cpu": "128", "memory": "500Gi"}},
            }],
        },
        "status": {"phase": "Running", "startTime": "2026-11-30T12:00:00Z", "conditions": [{"type": "Ready", "status": "True"}]},
    });
    let holder = bytes::<Pod>(pod, |pod| {
        let controller = pod.controller.as_ref().map_or(0, |(kind, name)| kind.len() + name.len());
        let resources: usize = pod.resources.iter().map(|name| size_of_val(name) + name.len()).sum();
        pod.labels.bytes() + resources + pod.node.as_ref().map_or(0, |node| node.len()) + controller
    });
    let features = (0..80).map(|n| (format!("feature.node.kubernetes.io/cpu-cpuid.FEATURE{n:03}"), json!("true")));
    let node = json!({
        "metadata": {
            "name": "nid001234", "uid": "6f1c5e0a-3b0e-4d42-9a6f-0c2b7f1d9e11", "resourceVersion": "182736455",
            "labels": features.collect::<serde_json::Map<_, _>>(),
        },
        "spec": {"taints": [{"key": "cxi.hpe.com/updating", "value": "", "effect": "PreferNoSchedule"}]},
        "status": {
            "allocatable": {"cpu": "128", "memory": "500Gi", "hpe.com/cxi": "400"},
            "conditions": [{"type": "Ready", "status": "True"}],
            "images": (0..50).map(|n| json!({"names": [format!("registry.example/image:{n}")]})).collect::<Vec<_>>(),
            "nodeInfo": {"kernelVersion": "6.12.0-55.el10.x86_64", "bootID": "6f1c5e0a-3b0e-4d42-9a6f-0c2b7f1d9e11"},
        },
    });
    let mut of_labels = 0;
    let node = bytes::<Node>(node, |node| {
        let taints: usize =
            node.taints.iter().map(|t| size_of_val(t) + t.key.len() + t.value.len() + t.effect.len()).sum();
        let offered: usize = node.allocatable.iter().map(|one| size_of_val(one) + one.0.len()).sum();
        taints + offered + node.kernel.len() + node.boot_id.len() + node.labels.bytes()
    });
    of_labels += 80 * ("feature.node.kubernetes.io/cpu-cpuid.FEATURE000".len() + "true".len() + 2);
    eprintln!("a holder: {holder} bytes; a Node: {node} bytes, {of_labels} of them its 80 labels");
    assert!(holder < 800, "a holder has {holder} bytes");
    assert!(node - of_labels < 700, "a Node has {} bytes beside its labels", node - of_labels);
}
