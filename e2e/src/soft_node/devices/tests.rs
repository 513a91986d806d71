//! What a soft node offers and gives, with the files that real programs read.

use std::{fs, path::PathBuf};

use cxi_api::Timestamp;
use cxi_hardware::open_files;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::{
    driver_model::Registry,
    soft_node::{
        HostDriver, NodeShape, Pace,
        node::{CxiSeen, Write},
        runtime::{Moment, Stage},
        tree::Tree,
    },
};

const RESOURCE: &str = "hpe.com/cxi";

/// A node with two NICs and their driver.
struct Bench {
    node: SoftNode,
    pods: Pods,
    now: Duration,
    offered: Option<(i64, i64)>,
    directory: TempDir,
}

impl Bench {
    /// One whose plugin has these variables.
    fn new(variables: &Value) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::new(directory.path().join("n"));
        let host_driver = Some(HostDriver { version: "1.8.3".into(), at_boot: true });
        let shape = NodeShape { host_driver, ..NodeShape::default() };
        let mut node = SoftNode::new("n", shape, moment(Duration::ZERO)).read_by(tree);
        node.registered = true;
        let mut bench = Self { node, pods: Pods::new(), now: Duration::ZERO, offered: None, directory };
        let plugin = json!([{ "name": "p", "env": variables }]);
        bench.add("plugin", &json!({ "cxi.hpe.com/role": "device-plugin" }), &plugin);
        bench
    }

    fn shared() -> Self {
        Self::new(&json!([{ "name": "CXI_SHARED_CAPACITY", "value": "4" }]))
    }

    fn add(&mut self, name: &str, labels: &Value, containers: &Value) {
        let pod = json!({
            "metadata": { "name": name, "namespace": "d", "uid": name, "labels": labels },
            "spec": { "containers": containers, "restartPolicy": "Always" },
        });
        self.pods.insert(name.into(), PodPlan::read(&serde_json::from_value(pod).unwrap()).unwrap());
        self.go_on();
    }

    /// Adds a pod that asks for NICs.
    fn ask(&mut self, name: &str, nics: usize) {
        let limits = json!({ "limits": { RESOURCE: nics.to_string() } });
        self.add(name, &json!({}), &json!([{ "name": "app", "image": "app:1", "resources": limits }]));
    }

    fn advertise(&mut self, advertise: Advertise) {
        self.node.see_cxi(Some(CxiSeen { uid: "u".into(), since: None, advertise }));
        self.go_on();
    }

    fn restart_kubelet(&mut self) {
        self.node.restart_kubelet(&self.pods, &Registry::default(), &Pace::default(), moment(self.now));
        self.go_on();
    }

    /// Lets some seconds pass.
    fn go_on(&mut self) {
        let end = self.now + Duration::from_secs(5);
        while self.now < end {
            let (writes, next) =
                self.node.advance(&self.pods, &Registry::default(), &Pace::default(), moment(self.now));
            for write in &writes {
                if let Write::NodeStatus(body) = write {
                    let count = |of: &str| Some(body["status"][of][RESOURCE].as_str()?.parse().unwrap());
                    self.offered = count("capacity").zip(count("allocatable"));
                }
                self.node.written(write, crate::soft_node::node::Outcome::Done, moment(self.now));
            }
            let soon = self.now + Duration::from_millis(10);
            self.now = next.filter(|next| writes.is_empty() && *next > soon).unwrap_or(soon).min(end);
        }
    }

    /// A file of the node.
    fn file(&self, path: &str) -> PathBuf {
        self.directory.path().join("n/now").join(path)
    }

    /// NICs of the ids that a pod has, in order.
    fn nics(&self, pod: &str) -> Vec<String> {
        let ids = self.node.machine.allocations[pod].iter().flat_map(|allocation| &allocation.ids);
        let mut nics: Vec<String> = ids.map(|id| id.split('-').next().unwrap().to_owned()).collect();
        nics.sort();
        nics
    }

    fn healthy(&self) -> Vec<&String> {
        self.node.offers[RESOURCE].healthy().collect()
    }

    /// Why the kubelet refused a pod.
    fn refusal(&self, pod: &str) -> Option<String> {
        match &self.node.pods[pod].stage {
            Stage::Ended(ended) if ended.reason.is_some() => Some(ended.message.clone()),
            _ => None,
        }
    }
}

fn moment(since_start: Duration) -> Moment {
    Moment { since_start, wall: Timestamp::UNIX_EPOCH }
}

const A: &str = "0000:21:00.0";
const B: &str = "0000:41:00.0";

#[test]
fn a_nic_is_withdrawn_by_what_its_files_say() {
    let mut bench = Bench::shared();
    assert_eq!(bench.offered, Some((8, 8)));
    let link = bench.file("sys/devices/0000:21:00.0/properties/link");
    fs::write(&link, "0\n").unwrap();
    bench.go_on();
    assert_eq!(bench.offered, Some((8, 4)));
    fs::remove_file(bench.file("dev/cxi1")).unwrap();
    bench.go_on();
    assert_eq!(bench.offered, Some((8, 0)));
    fs::write(&link, "1\n").unwrap();
    bench.go_on();
    assert!(bench.healthy().iter().all(|id| id.starts_with(A)) && bench.offered == Some((8, 4)));
}

#[test]
fn a_pod_with_two_nics_has_both_open() {
    let mut bench = Bench::shared();
    bench.ask("two", 2);
    bench.ask("one", 1);
    bench.ask("another", 1);
    assert_eq!(bench.nics("two"), [A, B]);
    assert_ne!(bench.nics("one"), bench.nics("another"), "the plugin spreads pods");
    let tree = bench.node.tree.as_ref().unwrap();
    let mut open: Vec<_> = open_files(&tree.root()).unwrap().into_iter().map(|open| open.device.to_string()).collect();
    open.sort();
    assert_eq!(open, ["cxi0", "cxi0", "cxi1", "cxi1"]);
}

#[test]
fn in_use_offers_exactly_what_pods_have() {
    let mut bench = Bench::shared();
    bench.ask("pod", 2);
    bench.advertise(Advertise::InUse);
    let has: Vec<String> = bench.node.machine.allocated(RESOURCE).into_iter().collect();
    assert_eq!((has.len(), bench.healthy()), (2, has.iter().collect()));
    assert_eq!(bench.offered, Some((8, 2)));
    bench.ask("late", 1);
    let none = format!("requested number of devices unavailable for {RESOURCE}. Requested: 1, Available: 0");
    assert!(bench.refusal("late").unwrap().contains(&none));
}

#[test]
fn a_kubelet_that_starts_again_refuses_a_pod_whose_devices_are_not_offered() {
    for (advertise, refused) in [(Advertise::All, false), (Advertise::InUse, false), (Advertise::None, true)] {
        let mut bench = Bench::shared();
        bench.ask("pod", 1);
        let pod = bench.pods["pod"].clone();
        let long = bench.now + Duration::from_mins(1);
        bench.node.crash(&pod, long, &Registry::default(), &Pace::default(), moment(bench.now));
        bench.advertise(advertise);
        bench.restart_kubelet();
        assert_eq!(bench.refusal("pod").is_some(), refused, "{advertise:?}");
    }
}

#[test]
fn an_exclusive_nic_goes_to_one_pod() {
    let mut bench = Bench::new(&json!([{ "name": "CXI_SHARING_MODE", "value": "exclusive" }]));
    assert_eq!(bench.offered, Some((2, 2)));
    for pod in ["a", "b", "c"] {
        bench.ask(pod, 1);
    }
    assert_eq!((bench.nics("a"), bench.nics("b")), (vec![A.to_owned()], vec![B.to_owned()]));
    assert!(bench.refusal("c").is_some());
}

#[test]
fn a_node_without_files_has_what_its_files_would_show() {
    let mut bench = Bench::shared();
    for links_down in [false, true] {
        if links_down {
            bench.node.machine.faults.links_down.insert("1.8.3".into());
        }
        bench.go_on();
        let shown = scan(&bench.node.tree.as_ref().unwrap().root()).unwrap();
        assert_eq!((shown.nics.len(), &shown), (2, &report::scan(&bench.node.machine, bench.now)));
    }
}
