//! The two facts without which no driver is unloaded or loaded. A value of these types can only be made here, from
//! observations; it is never stored and never outlives the tick in which it was made.

use cxi_api::{
    NodeReport, Timestamp,
    names::{KMM_VERSION_PREFIX, KMM_WORKER_PREFIX, Role, SERVICES_GATE_PREFIX},
    node_report::OpenFile,
};

use crate::{
    settings::Settings,
    world::{Holder, Look, Node},
};

/// Kernel modules of the CXI stack, holders before what they hold. Source: module dependencies of the HPE driver, where
/// `cxi_user` and `cxi_eth` use `cxi_ss1`, which uses `cxi_sl` and `cxi_sbl`.
pub const CXI_MODULES: [&str; 5] = ["cxi_user", "cxi_eth", "cxi_ss1", "cxi_sl", "cxi_sbl"];

/// Nobody holds the device: it is not offered any more, and two uncached looks, both after that, with reports that answer
/// this very phase, found no pod, no process and no kernel module on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quiesced {
    node_uid: String,
}

/// No driver is loaded: KMM has and does nothing on the node, and a report that answers this very phase shows no module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unloaded {
    node_uid: String,
}

/// Why the device is not proved to be free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotQuiet {
    /// Pods hold it.
    Pods(Vec<Holder>),
    /// A process outside Kubernetes or a foreign kernel module holds it; in words.
    Host(String),
    /// The resource is still offered, or the plugin still there.
    Offered,
    /// The retry handler runs, or may be started at any time.
    Services,
    /// The agent has not answered this phase yet.
    AgentSilent,
    /// Not enough looks yet; the next one makes sense at this time.
    LookAgain(Timestamp),
}

/// Why it is not proved that no driver is loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StillLoaded {
    /// One of our version labels is on the node.
    Labelled(String),
    /// KMM is not done: its worker, its internal label or its status entry is there.
    KmmBusy(String),
    /// The agent has not answered this phase yet.
    AgentSilent,
    /// KMM is done, but these modules are in the kernel.
    Leftovers(Vec<String>),
}

impl Quiesced {
    /// Proves that nobody holds the device.
    ///
    /// `since` is when the present phase began (which is after the node was closed): only looks after it count, and only
    /// reports that acknowledge it.
    ///
    /// # Errors
    /// What stands against it.
    pub fn prove(node: &Node, since: Timestamp, settings: &Settings) -> Result<Self, NotQuiet> {
        let looks: Vec<&Look> = node.looks.iter().filter(|look| look.at > since).collect();
        for look in &looks {
            check_pods(look)?;
        }
        // What the retry handler has open is no obstacle of its own: it ends when its gate is closed.
        if serves(node) || looks.iter().any(|look| look.service_pods > 0) {
            return Err(NotQuiet::Services);
        }
        for look in &looks {
            check_report(node, look, since)?;
        }
        let gap = |a: &Look, b: &Look| b.at.duration_since(a.at).unsigned_abs();
        match looks.as_slice() {
            [first, .., last] if gap(first, last) >= settings.look_gap => Ok(Self { node_uid: node.uid.clone() }),
            [] => Err(NotQuiet::LookAgain(since)),
            [first, ..] => Err(NotQuiet::LookAgain(first.at + settings.look_gap)),
        }
    }

    /// UID of the Node that the proof is about.
    pub fn node_uid(&self) -> &str {
        &self.node_uid
    }
}

fn check_pods(look: &Look) -> Result<(), NotQuiet> {
    if !look.holders.is_empty() {
        return Err(NotQuiet::Pods(look.holders.clone()));
    }
    if look.allocatable > 0 || look.plugin_pods > 0 {
        return Err(NotQuiet::Offered);
    }
    Ok(())
}

/// Whether the retry handler runs on a node, or its gate is open.
pub fn serves(node: &Node) -> bool {
    node.labels.keys().any(|key| key.starts_with(SERVICES_GATE_PREFIX))
        || node.pods.iter().any(|pod| pod.role == Role::RetryHandler)
}

fn check_report(node: &Node, look: &Look, since: Timestamp) -> Result<(), NotQuiet> {
    let Some(report) = look.report.as_ref().filter(|report| answers(report, since)) else {
        return Err(NotQuiet::AgentSilent);
    };
    host_holder(node, report).map_or(Ok(()), |holder| Err(NotQuiet::Host(holder)))
}

/// Who holds the device although the agent does not know of all who do, for which it leaves out `acknowledged`: a file that was
/// handed on through a socket or is mapped after it was closed, say.
pub fn hidden_holder(node: &Node, report: &NodeReport) -> Option<String> {
    let users = report.modules.iter().find(|module| module.name == "cxi_user" && module.refcount > 0);
    let module = users.filter(|_| report.acknowledged.is_none())?;
    let nobody =
        || format!("the device is in use ({} references to cxi_user) by what no process shows", module.refcount);
    Some(host_holder(node, report).unwrap_or_else(nobody))
}

/// Whether a report was made for the phase that began at `since`, or for a later one.
pub fn answers(report: &NodeReport, since: Timestamp) -> bool {
    report.acknowledged.is_some_and(|acknowledged| acknowledged >= since)
}

/// Open files of the device but those of the retry handler that runs on the node: it ends when its gate is closed.
pub fn open_files<'a>(node: &Node, report: &'a NodeReport) -> impl Iterator<Item = &'a OpenFile> {
    let serving = |file: &OpenFile| {
        let services = node.pods.iter().filter(|pod| pod.role == Role::RetryHandler);
        services.map(|pod| &pod.uid).any(|uid| file.pod_uid.as_ref() == Some(uid))
    };
    report.open_files.iter().filter(move |file| !serving(file))
}

/// Who holds the device outside Kubernetes, in words: a process, or a kernel module that is not part of the stack.
pub fn host_holder(node: &Node, report: &NodeReport) -> Option<String> {
    lasting_holder(node, report, &[])
}

/// The same while pods still run: who will hold the device when `leaving` have been evicted.
pub fn lasting_holder(node: &Node, report: &NodeReport, leaving: &[&Holder]) -> Option<String> {
    let lasts = |file: &&OpenFile| !leaving.iter().any(|holder| file.pod_uid.as_ref() == Some(&holder.uid));
    let file = open_files(node, report).find(lasts).map(|file| match &file.pod_uid {
        Some(uid) => format!("process {} ({}) of pod {uid} has {} open", file.pid, file.command, file.device),
        None => format!("process {} ({}) has {} open", file.pid, file.command, file.device),
    });
    let foreign = || {
        report.modules.iter().find_map(|module| {
            let holder = module.holders.iter().find(|holder| !CXI_MODULES.contains(&holder.as_str()))?;
            Some(format!("kernel module {holder} uses {}", module.name))
        })
    };
    file.or_else(foreign)
}

impl Unloaded {
    /// Proves that no driver is loaded.
    ///
    /// `since` is when the present phase began: only a report that acknowledges it counts.
    ///
    /// # Errors
    /// What stands against it.
    pub fn prove(node: &Node, namespace: &str, since: Timestamp) -> Result<Self, StillLoaded> {
        if let Some(label) = version_labels(node, namespace).next() {
            return Err(StillLoaded::Labelled(label.0.clone()));
        }
        if let Some(doing) = kmm_at_work(node, namespace) {
            return Err(StillLoaded::KmmBusy(doing));
        }
        let Some(report) = node.report().filter(|report| answers(report, since)) else {
            return Err(StillLoaded::AgentSilent);
        };
        let leftovers: Vec<String> = CXI_MODULES
            .iter()
            .filter(|name| report.modules.iter().any(|module| module.name == **name))
            .map(|name| (*name).to_owned())
            .collect();
        if leftovers.is_empty() {
            Ok(Self { node_uid: node.uid.clone() })
        } else {
            Err(StillLoaded::Leftovers(leftovers))
        }
    }

    /// UID of the Node that the proof is about.
    pub fn node_uid(&self) -> &str {
        &self.node_uid
    }
}

/// What KMM has or does on a node, in words; nothing when it is done with it.
pub fn kmm_at_work(node: &Node, namespace: &str) -> Option<String> {
    let internal = format!("{KMM_WORKER_PREFIX}{namespace}.cxi-");
    if let Some(worker) = node.workers.first() {
        let doing = if worker.loads { "loads" } else { "unloads" };
        return Some(format!("a KMM worker {doing} Module {}", worker.module));
    }
    if let Some(label) = node.labels.keys().find(|key| key.starts_with(&internal)) {
        return Some(format!("KMM has not removed the label {label} yet"));
    }
    let module = node.kmm_wants.first().or(node.kmm_has.first())?;
    Some(format!("KMM still lists Module {}", module.name))
}

/// KMM version labels of our Modules on a node: key and value.
pub fn version_labels<'a>(node: &'a Node, namespace: &str) -> impl Iterator<Item = (&'a String, &'a String)> {
    let prefix = format!("{KMM_VERSION_PREFIX}{namespace}.cxi-");
    node.labels.iter().filter(move |(key, _)| key.starts_with(&prefix))
}
