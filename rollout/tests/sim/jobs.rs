//! Workloads, the scheduler, PodDisruptionBudgets and the Eviction API.

use std::{collections::BTreeMap, time::Duration};

use cxi_api::Timestamp;
use cxi_rollout::world::{DisruptionBudget, Holder, PodHealth, Refusal};

use crate::sim::{RESOURCE, Sim, seconds};

/// What makes pods.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a habit of its own")]
pub struct Workload {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub kind: Kind,
    /// Pods wanted.
    pub replicas: usize,
    /// Only this node, if given.
    pub node: Option<String>,
    /// Whether its pods name the node themselves: no scheduler asks whether they fit.
    pub by_name: bool,
    /// Resource that its pods ask for.
    pub resource: String,
    /// Whether its pods never open the device, so that only the API knows of them.
    pub idle: bool,
    /// Grace period of its pods.
    pub grace: Duration,
    /// Pods that ignore SIGTERM take the whole grace period.
    pub stubborn: bool,
    /// Pods that never end once they are told to (a stuck finalizer).
    pub stuck: bool,
    /// Pods end by themselves after this time, and are not started again.
    pub runtime: Option<Duration>,
    /// How its pods are once their node is Ready.
    pub health: PodHealth,
}

/// What kind of controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Job,
    DaemonSet,
    Static,
}

/// A pod that holds the resource.
#[derive(Clone, Debug)]
pub struct Pod {
    pub holder: Holder,
    /// Whether the kubelet has accepted it: it has a NIC. The API shows that a moment later (`holder.started`).
    pub accepted: bool,
    pub workload: String,
    pub node: String,
    pub started_at: Timestamp,
    /// When it is gone after it was told to end.
    pub gone_at: Option<Timestamp>,
}

/// A PodDisruptionBudget over the pods of some workloads.
#[derive(Clone, Debug)]
pub struct Budget {
    pub name: String,
    pub workloads: Vec<String>,
    pub min_available: usize,
    /// `unhealthyPodEvictionPolicy: AlwaysAllow`.
    pub always_allow: bool,
    /// What the disruption controller says when it cannot count the pods.
    pub sync_failed: Option<String>,
}

impl Budget {
    /// A budget over the pods of one workload.
    pub fn over(workload: &str, min_available: usize) -> Self {
        Self {
            name: workload.into(),
            workloads: vec![workload.into()],
            min_available,
            always_allow: false,
            sync_failed: None,
        }
    }
}

impl Workload {
    /// A job of one pod that runs for ever and ends at once when told to.
    pub fn job(name: &str) -> Self {
        Self {
            name: name.into(),
            labels: [("app".to_owned(), name.to_owned())].into(),
            kind: Kind::Job,
            replicas: 1,
            node: None,
            by_name: false,
            resource: RESOURCE.into(),
            idle: false,
            grace: seconds(30),
            stubborn: false,
            stuck: false,
            runtime: None,
            health: PodHealth::Ready,
        }
    }

    pub fn on(self, node: &str) -> Self {
        Self { node: Some(node.into()), ..self }
    }

    pub fn replicas(self, replicas: usize) -> Self {
        Self { replicas, ..self }
    }

    pub fn for_seconds(self, runtime: u64) -> Self {
        Self { runtime: Some(seconds(runtime)), ..self }
    }

    pub fn of_kind(self, kind: Kind) -> Self {
        Self { kind, ..self }
    }
}

impl Sim {
    /// Adds a workload and lets its pods start.
    pub fn start(&mut self, workload: Workload) {
        self.workloads.push(workload);
        self.jobs();
        self.jobs();
        self.project_holders();
    }

    /// One round of controllers, scheduler and pods.
    pub fn jobs(&mut self) {
        let now = self.now;
        let mut finished: Vec<String> = Vec::new();
        self.admit_pods();
        for pod in &mut self.pods {
            let workload = self.workloads.iter().find(|workload| workload.name == pod.workload);
            let runtime = workload.and_then(|workload| workload.runtime);
            if runtime.is_some_and(|runtime| pod.started_at + runtime <= now) && pod.gone_at.is_none() {
                pod.gone_at = Some(now);
                finished.push(pod.workload.clone());
            }
        }
        for workload in &mut self.workloads {
            if finished.contains(&workload.name) {
                workload.replicas = workload.replicas.saturating_sub(1);
            }
        }
        let nodes = &self.api.nodes;
        self.pods.retain(|pod| pod.gone_at.is_none_or(|gone| gone > now) && nodes.contains_key(&pod.node));
        self.schedule();
        self.project_holders();
    }

    fn health_of(&self, workload: &str) -> PodHealth {
        let workload = self.workloads.iter().find(|known| known.name == workload);
        workload.map_or(PodHealth::Ready, |workload| workload.health)
    }

    /// What kubelets say of the pods that are bound to their nodes: a pod is accepted where the kubelet still has what it asks for, and
    /// refused elsewhere. What it has accepted it reports at its leisure.
    fn admit_pods(&mut self) {
        for index in 0..self.pods.len() {
            let pod = &self.pods[index];
            let Some(node) = self.api.nodes.get(&pod.node).filter(|node| node.ready) else { continue };
            if pod.accepted {
                if !pod.holder.started && !self.dawdles() {
                    self.pods[index].holder.started = true;
                    self.pods[index].holder.health = self.health_of(&self.pods[index].workload);
                }
                continue;
            }
            let resource = &pod.holder.resources[0];
            let offered = node.allocatable.get(resource).copied().unwrap_or(0);
            let taken = self.accepted_on(&pod.node).filter(|other| other.holder.resources[0] == *resource).count();
            if i64::try_from(taken).unwrap() < offered {
                self.pods[index].accepted = true;
                if !self.dawdles() {
                    self.pods[index].holder.started = true;
                    self.pods[index].holder.health = self.health_of(&self.pods[index].workload);
                }
            } else {
                self.pods[index].gone_at = Some(self.now);
            }
        }
    }

    /// Pods that have a NIC of a node.
    pub fn accepted_on<'a>(&'a self, node: &'a str) -> impl Iterator<Item = &'a Pod> {
        self.pods.iter().filter(move |pod| pod.node == node && pod.accepted)
    }

    fn schedule(&mut self) {
        for workload in self.workloads.clone() {
            let running = self.pods.iter().filter(|pod| pod.workload == workload.name && pod.gone_at.is_none()).count();
            for _ in running..workload.replicas {
                let Some(node) = self.pick(&workload) else { break };
                let uid = self.uid("pod");
                self.bind(&workload, &node, uid);
            }
        }
    }

    /// Puts a pod on a node, whatever the scheduler would say.
    pub fn bind(&mut self, workload: &Workload, node: &str, uid: String) {
        let kind = match workload.kind {
            Kind::Job => "Job",
            Kind::DaemonSet => "DaemonSet",
            Kind::Static => "Node",
        };
        let holder = Holder {
            namespace: "jobs".into(),
            name: format!("{}-{uid}", workload.name),
            uid,
            labels: workload.labels.clone(),
            resources: vec![workload.resource.clone()],
            ends: None,
            controller: Some((kind.into(), workload.name.clone())),
            is_static: workload.kind == Kind::Static,
            started: false,
            health: PodHealth::Pending,
            grace: workload.grace,
            unreadable: false,
            refused: None,
        };
        self.pods.push(Pod {
            holder,
            accepted: false,
            workload: workload.name.clone(),
            node: node.into(),
            started_at: self.now,
            gone_at: None,
        });
    }

    fn pick(&self, workload: &Workload) -> Option<String> {
        if workload.by_name {
            return workload.node.clone();
        }
        let fits = |node: &&cxi_rollout::world::Node| {
            let asks = |pod: &&Pod| pod.node == node.name && pod.holder.resources[0] == workload.resource;
            let used = self.pods.iter().filter(asks).count();
            let room = node.allocatable.get(&workload.resource).copied().unwrap_or(0) - i64::try_from(used).unwrap();
            let right = workload.node.as_ref().is_none_or(|wanted| *wanted == node.name);
            // A DaemonSet tolerates a cordon.
            right && node.ready && (!node.cordoned || workload.kind == Kind::DaemonSet) && room > 0
        };
        let candidates = self.api.nodes.values().filter(fits);
        let least = candidates.min_by_key(|node| {
            let avoided = node.taints.iter().any(|taint| taint.effect == "PreferNoSchedule");
            let used = self.pods.iter().filter(|pod| pod.node == node.name).count();
            (avoided, used, node.name.clone())
        });
        least.map(|node| node.name.clone())
    }

    /// Pods and PodDisruptionBudgets as the API shows them.
    pub fn project_holders(&mut self) {
        for (name, node) in &mut self.api.nodes {
            node.holders = self.pods.iter().filter(|pod| pod.node == *name).map(|pod| pod.holder.clone()).collect();
        }
        self.api.disruption_budgets = self.budgets.iter().map(|budget| self.as_object(budget)).collect();
    }

    /// Pods of a budget that are ready and are not being deleted, as the disruption controller counts them.
    fn healthy(&self, budget: &Budget) -> usize {
        let counted = |pod: &&Pod| pod.holder.health == PodHealth::Ready && pod.holder.ends.is_none();
        self.pods.iter().filter(|pod| budget.workloads.contains(&pod.workload)).filter(counted).count()
    }

    /// What the disruption controller writes into the budget's status.
    fn as_object(&self, budget: &Budget) -> DisruptionBudget {
        let covered = |pod: &&Pod| budget.workloads.contains(&pod.workload);
        let spare = |pods: usize| i32::try_from(pods).unwrap() - i32::try_from(budget.min_available).unwrap();
        let expected = self.workloads.iter().filter(|workload| budget.workloads.contains(&workload.name));
        let healthy = self.healthy(budget);
        let counts = budget.sync_failed.is_none();
        DisruptionBudget {
            namespace: "jobs".into(),
            name: budget.name.clone(),
            covers: self.pods.iter().filter(covered).map(|pod| pod.holder.uid.clone()).collect(),
            allowed: if counts { spare(healthy).max(0) } else { 0 },
            most: spare(expected.map(|workload| workload.replicas).sum()),
            spares_unready: budget.always_allow || budget.min_available > 0 && healthy >= budget.min_available,
            broken: budget.sync_failed.clone(),
        }
    }

    /// Whether the Eviction API lets a pod go, or what it says.
    fn may_evict(&self, pod: &Pod) -> Result<(), (Option<String>, &'static str)> {
        if pod.holder.health == PodHealth::Pending {
            return Ok(());
        }
        let mut budgets = self.budgets.iter().filter(|budget| budget.workloads.contains(&pod.workload));
        let Some(budget) = budgets.next() else { return Ok(()) };
        if budgets.next().is_some() {
            return Err((None, "This pod has more than one PodDisruptionBudget"));
        }
        let healthy = self.healthy(budget);
        let enough = budget.min_available > 0 && healthy >= budget.min_available;
        if pod.holder.health == PodHealth::Unready && (budget.always_allow || enough) {
            return Ok(());
        }
        let allows = budget.sync_failed.is_none() && healthy > budget.min_available;
        let name = format!("jobs/{}", budget.name);
        if allows { Ok(()) } else { Err((Some(name), "Cannot evict pod as it would violate the budget")) }
    }

    /// The Eviction API.
    pub fn evict(&mut self, uid: &str, now: Timestamp) {
        let Some(pod) = self.pods.iter().find(|pod| pod.holder.uid == uid) else { return };
        if pod.holder.ends.is_some() {
            return;
        }
        match self.may_evict(pod) {
            Ok(()) => self.end_pod(uid),
            Err((budget, message)) => {
                let refusal = Refusal { retry_at: now + seconds(5), budget, message: message.into() };
                self.operator.refusals.insert(uid.into(), refusal);
            }
        }
    }

    /// Tells a pod to end.
    pub fn end_pod(&mut self, uid: &str) {
        let pod = self.pods.iter().find(|pod| pod.holder.uid == uid);
        let workload = pod.and_then(|pod| self.workloads.iter().find(|workload| workload.name == pod.workload));
        let grace = workload.map_or(seconds(30), |workload| workload.grace);
        self.end_pod_within(uid, grace);
    }

    /// Tells a pod to end in this time; one that ends already is given less time, never more.
    pub fn end_pod_within(&mut self, uid: &str, grace: Duration) {
        let now = self.now;
        let workloads = self.workloads.clone();
        let Some(pod) = self.pods.iter_mut().find(|pod| pod.holder.uid == uid) else { return };
        let workload = workloads.iter().find(|workload| workload.name == pod.workload);
        if pod.holder.ends.is_some_and(|ends| ends <= now + grace) {
            return;
        }
        pod.holder.ends = Some(now + grace);
        pod.gone_at = match workload {
            Some(workload) if workload.stuck => Some(now + seconds(1_000_000_000)),
            Some(workload) if workload.stubborn => Some(now + grace),
            _ => Some(now + grace.min(seconds(2))),
        };
    }
}
