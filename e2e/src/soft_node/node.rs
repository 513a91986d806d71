//! One soft node: a machine, its kubelet with the device manager, and the agent. Pure: it says what it wants written.

use std::{collections::BTreeMap, time::Duration};

use cxi_api::{Advertise, NodeReport, Timestamp};
use cxi_device_plugin::nics::inventory::Inventory;
use serde_json::{Value, json};

use crate::driver_model::Registry;

use super::{
    machine::Machine,
    plan::PodPlan,
    plugin::Offer,
    render::{self, NodeInfo, NodeReady},
    report,
    runtime::{Host, Moment, PodRuntime},
    shape::{NodeShape, Pace},
    tree::{Seen, Tree},
};

/// How long a write that failed waits to be tried again.
const RETRY: Duration = Duration::from_millis(300);

/// Pods of a node, by UID.
pub(crate) type Pods = BTreeMap<String, PodPlan>;

/// Whether the machine is there.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Power {
    On,
    /// Boots until then, with another kernel if given.
    Booting {
        until: Duration,
        kernel: Option<String>,
    },
    /// Cut off: nothing is written.
    Lost,
}

/// What the agent and the device plugin of the node see of their CXINode.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct CxiSeen {
    pub(crate) uid: String,
    pub(crate) since: Option<Timestamp>,
    pub(crate) advertise: Advertise,
}

/// Something that must be written to the API server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Write {
    CreateNode(Value),
    NodeStatus(Value),
    Lease(Value),
    PodStatus { namespace: String, name: String, uid: String, body: Value },
    DeletePod { namespace: String, name: String, uid: String },
    Report(Value),
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    /// The object is not there, or is another one of the same name.
    Gone,
    Failed,
}

#[derive(Debug)]
pub(crate) struct SoftNode {
    pub(crate) name: String,
    pub(crate) shape: NodeShape,
    pub(crate) power: Power,
    pub(crate) machine: Machine,
    pub(crate) pods: BTreeMap<String, PodRuntime>,
    pub(crate) cxi: Option<CxiSeen>,
    pub(crate) registered: bool,
    /// Not the same in two lives of a node of the same name.
    life: i64,
    boots: u32,
    /// Device plugins have registered with this kubelet from then on.
    pub(super) plugins_from: Duration,
    /// Resources that were ever offered, with the number of ids: the kubelet remembers them.
    pub(super) capacity: BTreeMap<String, i64>,
    /// What the device plugins that run have sent, by resource.
    pub(super) offers: BTreeMap<String, Offer>,
    /// What they found last on the node.
    pub(super) inventory: Inventory,
    published_status: Option<Value>,
    published_report: Option<NodeReport>,
    report_due: Duration,
    lease_due: Duration,
    retry_at: Option<Duration>,
    sequence: i64,
    /// What the real programs of a node read, if they run in place of ours.
    pub(super) tree: Option<Tree>,
}

impl SoftNode {
    pub(crate) fn new(name: &str, shape: NodeShape, now: Moment) -> Self {
        let life = now.wall.as_millisecond();
        let machine = Machine::new(&shape, boot_id(name, life, 1));
        Self {
            name: name.to_owned(),
            shape,
            power: Power::On,
            machine,
            pods: BTreeMap::new(),
            cxi: None,
            registered: false,
            life,
            boots: 1,
            plugins_from: now.since_start,
            capacity: BTreeMap::new(),
            offers: BTreeMap::new(),
            inventory: Inventory::default(),
            published_status: None,
            published_report: None,
            report_due: Duration::ZERO,
            lease_due: Duration::ZERO,
            retry_at: None,
            sequence: life,
            tree: None,
        }
    }

    /// Lets real programs report and offer, which read `tree`.
    pub(crate) fn read_by(mut self, tree: Tree) -> Self {
        self.tree = Some(tree);
        self
    }

    /// Lets the node get on to `now`: what it wants written, and when to come again.
    pub(crate) fn advance(
        &mut self,
        pods: &Pods,
        registry: &Registry,
        pace: &Pace,
        now: Moment,
    ) -> (Vec<Write>, Option<Duration>) {
        self.forget_pods(pods);
        match &self.power {
            Power::Lost => {
                self.show(None);
                return (self.last_words(), None);
            }
            Power::Booting { until, .. } if *until > now.since_start => {
                let until = *until;
                self.show(None);
                return (self.last_words(), Some(until));
            }
            Power::Booting { kernel, .. } => {
                let kernel = kernel.clone();
                self.boot(kernel, pods, registry, pace, now);
            }
            Power::On => {}
        }
        if !self.registered {
            return (vec![Write::CreateNode(self.object())], None);
        }
        if let Some(at) = self.retry_at.take_if(|at| *at > now.since_start) {
            self.retry_at = Some(at);
            return (Vec::new(), Some(at));
        }
        self.retry_at = None;
        self.hear_plugins(pods, now.since_start);
        let next = self.advance_pods(pods, registry, pace, now);
        let mut writes = self.pod_writes(pods);
        if self.tree.is_some() {
            let report = report::observe(&self.machine, None, now.since_start);
            self.show(Some(Seen { report, retry_handler: self.machine.is_served() }));
        }
        self.hear_plugins(pods, now.since_start);
        writes.extend(self.status_write());
        if self.tree.is_none() {
            writes.extend(self.report_write(pace, now));
        }
        if self.lease_due <= now.since_start {
            writes.push(Write::Lease(render::lease(&self.name, now.wall)));
            self.lease_due = now.since_start + pace.lease;
        }
        let register = (self.plugins_from > now.since_start).then_some(self.plugins_from);
        let report = (self.tree.is_none() && self.cxi.is_some()).then_some(self.report_due);
        let (links, look) = (self.machine.links_due(now.since_start), self.next_look(now.since_start));
        let next = [next, register, links, look, report, Some(self.lease_due)].into_iter().flatten().min();
        (writes, next)
    }

    /// Notes what became of a write.
    pub(crate) fn written(&mut self, write: &Write, outcome: Outcome, now: Moment) {
        if outcome == Outcome::Failed {
            self.retry_at = Some(now.since_start + RETRY);
        }
        match write {
            Write::Lease(_) if outcome != Outcome::Done => self.lease_due = Duration::ZERO,
            Write::Report(_) if outcome != Outcome::Done => self.published_report = None,
            _ if outcome == Outcome::Failed => {}
            Write::CreateNode(_) => self.registered = true,
            Write::NodeStatus(body) => self.published_status = Some(body.clone()),
            Write::PodStatus { uid, body, .. } => {
                if let Some(runtime) = self.pods.get_mut(uid) {
                    runtime.published = Some(body.clone());
                }
            }
            Write::DeletePod { uid, .. } => {
                // The watch takes the pod away; until then nothing more is to be done for it.
                if let Some(runtime) = self.pods.get_mut(uid) {
                    runtime.buried = true;
                }
            }
            Write::Lease(_) | Write::Report(_) => {}
        }
    }

    /// Whether the API server has the node's present status.
    pub(crate) fn is_published(&self) -> bool {
        self.published_status.is_some()
    }

    // === faults ===

    pub(crate) fn reboot(&mut self, until: Duration, kernel: Option<String>) {
        self.power = Power::Booting { until, kernel };
        self.published_status = None;
    }

    pub(crate) fn lose(&mut self) {
        self.power = Power::Lost;
        self.published_status = None;
    }

    pub(crate) fn recover(&mut self) {
        self.power = Power::On;
        self.republish();
        self.lease_due = Duration::ZERO;
    }

    /// Writes everything again: somebody else may have changed it.
    pub(crate) fn republish(&mut self) {
        self.published_status = None;
        for runtime in self.pods.values_mut() {
            runtime.published = None;
        }
    }

    /// Notes what the agent sees of its CXINode.
    pub(crate) fn see_cxi(&mut self, seen: Option<CxiSeen>) {
        if seen.as_ref().map(|cxi| &cxi.uid) != self.cxi.as_ref().map(|cxi| &cxi.uid) {
            self.published_report = None;
        }
        self.cxi = seen;
    }

    /// Notes what the API server shows of the node's readiness; a kubelet that lives puts it right.
    pub(crate) fn see_ready(&mut self, ready: bool) {
        if !ready && self.power == Power::On {
            self.published_status = None;
        }
    }

    /// The kubelet starts again: device plugins register anew, and pods with devices whose process does not run are
    /// refused unless their devices are offered.
    pub(crate) fn restart_kubelet(&mut self, pods: &Pods, registry: &Registry, pace: &Pace, now: Moment) {
        self.plugins_from = now.since_start + pace.register;
        let refused: Vec<String> = self
            .pods
            .iter()
            .filter(|(uid, runtime)| {
                !runtime.is_running()
                    && !runtime.has_ended()
                    && self.machine.allocations.contains_key(*uid)
                    && !self.offers_what_it_has(uid)
            })
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in refused {
            if let (Some(runtime), Some(pod)) = (self.pods.get_mut(&uid), pods.get(&uid)) {
                let mut host = Host { machine: &mut self.machine, registry, pace, now };
                runtime.refuse(pod, &mut host, "Allocate failed due to no healthy devices present".into());
            }
        }
        self.published_status = None;
    }

    pub(crate) fn crash(&mut self, pod: &PodPlan, until: Duration, registry: &Registry, pace: &Pace, now: Moment) {
        if let Some(runtime) = self.pods.get_mut(&pod.uid) {
            let mut host = Host { machine: &mut self.machine, registry, pace, now };
            runtime.crash(pod, &mut host, until);
        }
    }

    // === steps ===

    fn forget_pods(&mut self, pods: &Pods) {
        let gone: Vec<String> = self.pods.keys().filter(|uid| !pods.contains_key(*uid)).cloned().collect();
        for uid in gone {
            // Deleted by force while its process ran: a kubelet kills it.
            self.machine.close_devices(&uid);
            self.machine.allocations.remove(&uid);
            self.pods.remove(&uid);
        }
    }

    fn boot(&mut self, kernel: Option<String>, pods: &Pods, registry: &Registry, pace: &Pace, now: Moment) {
        self.boots += 1;
        self.machine.boot(boot_id(&self.name, self.life, self.boots), kernel);
        for (uid, runtime) in &mut self.pods {
            if let Some(pod) = pods.get(uid) {
                let mut host = Host { machine: &mut self.machine, registry, pace, now };
                runtime.reboot(pod, &mut host);
            }
        }
        self.plugins_from = now.since_start + pace.register;
        self.recover();
    }

    fn advance_pods(&mut self, pods: &Pods, registry: &Registry, pace: &Pace, now: Moment) -> Option<Duration> {
        let mut next: Option<Duration> = None;
        for (uid, pod) in pods {
            if !self.pods.contains_key(uid) {
                let runtime = self.accept(pod, pace, now);
                self.pods.insert(uid.clone(), runtime);
            }
            let mut host = Host { machine: &mut self.machine, registry, pace, now };
            let due = self.pods.get_mut(uid).and_then(|runtime| runtime.advance(pod, &mut host));
            next = [next, due].into_iter().flatten().min();
        }
        next
    }

    fn accept(&mut self, pod: &PodPlan, pace: &Pace, now: Moment) -> PodRuntime {
        if pod.terminal {
            return PodRuntime::over(now);
        }
        match self.allocate(pod) {
            Err(message) => return PodRuntime::refused(now, message),
            Ok(allocations) if allocations.is_empty() => {}
            Ok(allocations) => {
                self.machine.allocations.insert(pod.uid.clone(), allocations);
            }
        }
        PodRuntime::accepted(now, pace.pull * self.machine.faults.slowness)
    }

    fn pod_writes(&self, pods: &Pods) -> Vec<Write> {
        let mut writes = Vec::new();
        for (uid, pod) in pods {
            let Some(runtime) = self.pods.get(uid).filter(|runtime| !runtime.buried) else { continue };
            let (namespace, name) = (pod.namespace.clone(), pod.name.clone());
            let body = render::pod_status(pod, runtime);
            if !pod.terminal && runtime.published.as_ref() != Some(&body) {
                writes.push(Write::PodStatus {
                    namespace: namespace.clone(),
                    name: name.clone(),
                    uid: uid.clone(),
                    body,
                });
            }
            if pod.deleted && runtime.has_ended() {
                writes.push(Write::DeletePod { namespace, name, uid: uid.clone() });
            }
        }
        writes
    }

    fn status_write(&self) -> Option<Write> {
        let body = self.status(NodeReady::Yes, self.resources());
        (self.published_status.as_ref() != Some(&body)).then_some(Write::NodeStatus(body))
    }

    /// What the API server shows of a machine that is away.
    fn last_words(&self) -> Vec<Write> {
        if !self.registered {
            return Vec::new();
        }
        let ready = if self.power == Power::Lost { NodeReady::Unknown } else { NodeReady::No };
        let resources = self.capacity.iter().map(|(name, count)| (name.clone(), (*count, 0))).collect();
        let body = self.status(ready, resources);
        if self.published_status.as_ref() == Some(&body) { Vec::new() } else { vec![Write::NodeStatus(body)] }
    }

    fn status(&self, ready: NodeReady, resources: BTreeMap<String, (i64, i64)>) -> Value {
        let info = NodeInfo { name: &self.name, boot_id: &self.machine.boot_id, kernel: &self.machine.kernel };
        let resources: Vec<_> = resources.into_iter().map(|(name, (all, offered))| (name, all, offered)).collect();
        render::node_status(ready, &info, &resources)
    }

    fn report_write(&mut self, pace: &Pace, now: Moment) -> Option<Write> {
        let cxi = self.cxi.as_ref()?;
        // `since` was read before the machine is looked at.
        let report = report::observe(&self.machine, cxi.since, now.since_start);
        if self.published_report.as_ref() == Some(&report) && now.since_start < self.report_due {
            return None;
        }
        self.published_report = Some(report.clone());
        self.report_due = now.since_start + pace.report;
        self.sequence += 1;
        let report = NodeReport { observed_at: now.wall, sequence: self.sequence, ..report };
        Some(Write::Report(json!({
            "apiVersion": "cxi.hpe.com/v1",
            "kind": "CXINode",
            // With the UID the write fails for another object of the same name, and never creates one.
            "metadata": { "name": self.name, "uid": cxi.uid },
            "status": { "node": report },
        })))
    }

    fn show(&mut self, node: Option<Seen>) {
        if let Some(Err(error)) = self.tree.as_mut().map(|tree| tree.show(node)) {
            tracing::error!(node = self.name, %error, "the files of a soft node could not be written");
        }
    }

    fn object(&self) -> Value {
        let mut labels = json!({
            "kubernetes.io/hostname": self.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            // A kubelet still sets the old names too; otherwise a controller adds them some time later.
            "beta.kubernetes.io/os": "linux",
            "beta.kubernetes.io/arch": "amd64",
        });
        for (key, value) in &self.shape.labels {
            labels[key] = json!(value);
        }
        json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": { "name": self.name, "labels": labels },
            "spec": {},
        })
    }
}

/// A boot id as the kernel makes them, of one boot in one life of a node.
fn boot_id(node: &str, life: i64, boot: u32) -> String {
    let name = node.bytes().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193));
    format!("{name:08x}-{:04x}-4000-8000-{:012x}", boot & 0xffff, life & 0xffff_ffff_ffff)
}
