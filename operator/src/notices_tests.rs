use cxi_api::Phase;
use serde_json::json;

use super::*;
use crate::observe::seen::given;
use crate::{
    memory::Remembered,
    observe::{Identity, Snapshot, build},
};

/// A node whose NICs' retry handlers failed so.
fn world(failed: &[Option<&str>]) -> World {
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
    let rollout = json!({ "driver": "cassini", "phase": Phase::UpToDate, "since": "2026-01-01T00:00:00Z" });
    let object = json!({
        "metadata": { "name": "n1", "uid": "u" }, "status": { "nodeInfo": { "bootID": "b", "kernelVersion": "k" } },
    });
    let record = json!({
        "metadata": {
            "name": "n1", "uid": "r", "ownerReferences": [{ "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "u" }],
        },
        "spec": {}, "status": { "rollout": rollout, "node": report },
    });
    let nodes = vec![given(&object)];
    let records = vec![given(&record)];
    build(&Snapshot { records, nodes, ..Snapshot::default() }, &Remembered::default(), &Identity::default())
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
