use std::sync::Arc;

use cxi_api::Phase;
use serde_json::json;

use super::*;
use crate::{
    memory::Remembered,
    observe::{
        Identity, Snapshot, build,
        seen::{Kind, Object, read},
    },
};

/// The object that this JSON describes.
fn given<K: Kind>(json: &serde_json::Value) -> Arc<Object<K>> {
    Arc::new(read(&json.to_string()).unwrap().object().expect("an object that counts"))
}

/// A node whose NICs' retry handlers failed so.
fn world(failed: &[Option<&str>]) -> World {
    shared(failed, 100)
}

/// The same where so many pods may share a NIC.
fn shared(failed: &[Option<&str>], capacity: u32) -> World {
    labelled(failed, capacity, &json!({}))
}

/// The same where the node has these labels.
fn labelled(failed: &[Option<&str>], capacity: u32, labels: &serde_json::Value) -> World {
    let nics: Vec<_> = failed
        .iter()
        .enumerate()
        .map(|(number, how)| {
            json!({
                "name": format!("cxi{number}"), "pciAddress": format!("0000:{number}1:00.0"), "link": "up",
                "retryHandlerFailed": how,
            })
        })
        .collect();
    let report = json!({
        "kernel": "k", "bootID": "b", "observedAt": "2026-01-01T00:00:00Z", "sequence": 1, "devices": nics,
    });
    let driver = json!({
        "metadata": { "name": "cassini", "uid": "d" },
        "spec": { "version": "13.0.0", "devicePlugin": { "sharedCapacity": capacity } },
    });
    let rollout = json!({ "driver": "cassini", "phase": Phase::UpToDate, "since": "2026-01-01T00:00:00Z" });
    let object = json!({
        "metadata": { "name": "n1", "uid": "u", "labels": labels }, "status": { "nodeInfo": { "bootID": "b", "kernelVersion": "k" } },
    });
    let record = json!({
        "metadata": {
            "name": "n1", "uid": "r", "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u" }],
        },
        "spec": {}, "status": { "rollout": rollout, "node": report },
    });
    let nodes = vec![given(&object)];
    let records = vec![given(&record)];
    let drivers = vec![given(&driver)];
    build(&Snapshot { drivers, records, nodes, ..Snapshot::default() }, &Remembered::default(), &Identity::default())
}

#[test]
fn a_retry_handler_that_failed_is_said_once_until_it_runs_again() {
    let mut told = Vec::new();
    let mut say = |failed: &[Option<&str>]| news(standing(&world(failed), &Images::default()), &mut told);
    assert_eq!(say(&[None, None]), []);
    let said = say(&[None, Some("it ended by signal 11: segmentation fault")]);
    let [about] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!((about.driver.as_str(), about.node.as_deref(), about.warning), ("cassini", Some("n1"), true));
    assert_eq!(about.reason, "RetryHandlerFailed");
    assert!(about.message.contains("cxi1 (0000:11:00.0) failed: it ended by signal 11"), "{}", about.message);
    assert_eq!(say(&[None, Some("it ended by signal 11: segmentation fault")]), []);
    assert_eq!(say(&[Some("it ended with status 1"), Some("it ended by signal 11: segmentation fault")]).len(), 1);
    assert_eq!(say(&[None, None]), []);
    assert_eq!(say(&[None, Some("it ended by signal 11: segmentation fault")]).len(), 1);
}

#[test]
fn more_ids_than_a_kubelet_takes_are_said_with_what_it_takes() {
    let said = |nics: usize, capacity: u32| standing(&shared(&vec![None; nics], capacity), &Images::default());
    assert_eq!(said(8, 10_000), []);
    assert_eq!(said(12, 7598), []);
    let said = said(12, 10_000);
    let [about] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!((about.driver.as_str(), about.node.as_deref(), about.warning), ("cassini", None, true));
    assert_eq!(about.reason, "SharedCapacityReduced");
    assert!(about.message.contains("sharedCapacity 10000 is too much for nodes with 12 NICs"), "{}", about.message);
    assert!(about.message.ends_with("set sharedCapacity to 7598 or less"), "{}", about.message);
}

#[test]
fn an_upgrade_label_that_means_nothing_is_said_on_the_node_and_its_driver_once() {
    let mut told = Vec::new();
    let mut say = |value: Option<&str>| {
        let labels = value.map_or(json!({}), |value| json!({ "cxi.hpe.com/upgrade": value }));
        news(standing(&labelled(&[None], 100, &labels), &Images::default()), &mut told)
    };
    assert_eq!(say(None), []);
    assert_eq!(say(Some("rollback")), []);
    let said = say(Some("rolback"));
    let [about] = said.as_slice() else { panic!("{said:?}") };
    // A warning about a node is published on the Node and on the CXIDriver, see `Events::publish`.
    assert_eq!((about.driver.as_str(), about.node.as_deref(), about.warning), ("cassini", Some("n1"), true));
    assert_eq!(about.reason, "UnknownRequest");
    assert!(about.message.contains(r#"is "rolback", which means nothing: set it to one of skip, now,"#), "{about:?}");
    assert_eq!(say(Some("rolback")), []);
    assert_eq!(say(Some("Skip")).len(), 1);
    assert_eq!(say(Some("skip")), []);
}
