//! The two facts without which no driver is unloaded or loaded. A value of these types can only be made here, from
//! observations; it is never stored and never outlives the tick in which it was made.

use cxi_api::{
    KernelModule, NodeReport, NodeRollout, Timestamp,
    names::{KMM_WORKER_PREFIX, RETRY_HANDLER_GATE_PREFIX, Role},
    node_report::OpenFile,
};

use crate::{
    evidence::{
        labels::{foreign_label, version_labels},
        looks::Steps,
    },
    settings::Settings,
    world::{Holder, Look, Node, OwnPod, PodState},
};

/// Kernel modules of the driver, users before what they use.
pub const CXI_MODULES: [&str; 5] = KernelModule::names(KernelModule::UNLOAD);

/// The device is free: it is not offered any more, and two uncached looks, both after that, with reports that answer this very
/// phase, found no pod, no process and no kernel module on it.
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
    /// These pods are bound to the node, and its kubelet has neither accepted nor refused them.
    Undecided(Vec<Holder>),
    /// A process outside Kubernetes or a foreign kernel module holds it; in words.
    Host(String),
    /// The resource is still offered, or the plugin still there.
    Offered,
    /// The retry handler runs, or may be started at any time.
    RetryHandler,
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
    /// Proves that no pod, no process and no kernel module holds the device.
    ///
    /// Only looks count that the present step of `record` ordered, or the step whose evidence it took over, and only reports that
    /// answer one of the two. Of these looks the last ones in a row must be clean, and two of them must be `look_gap` apart.
    ///
    /// # Errors
    /// What stands against it.
    pub fn prove(node: &Node, record: &NodeRollout, settings: &Settings) -> Result<Self, NotQuiet> {
        let steps = Steps::of(record);
        let looks: Vec<&Look> = steps.looks(node).collect();
        if let Some(last) = looks.last() {
            check_pods(last)?;
        }
        // It may open a device between two looks.
        let tests = |pod: &OwnPod| {
            let ended =
                matches!(pod.state, PodState::Succeeded { .. } | PodState::Failed { .. } | PodState::Unfinished { .. });
            pod.role == Role::Validation && !ended
        };
        if node.pods.iter().any(tests) {
            return Err(NotQuiet::Host("the validation pod has not ended".into()));
        }
        // What the retry handler has open is no obstacle of its own: it ends when its gate is closed.
        if serves(node) {
            return Err(NotQuiet::RetryHandler);
        }
        if let Some(last) = looks.last() {
            check(node, last, steps)?;
        }
        let clean: Vec<&Look> =
            looks.iter().rev().copied().take_while(|look| check(node, look, steps).is_ok()).collect();
        let gap = |a: &Look, b: &Look| b.at.duration_since(a.at).unsigned_abs();
        match clean.as_slice() {
            [last, .., first] => {
                let both = |holder: &&Holder| last.sees(&holder.uid);
                let undecided: Vec<Holder> = first.holders.iter().filter(both).cloned().collect();
                if !undecided.is_empty() {
                    return Err(NotQuiet::Undecided(undecided));
                }
                if gap(first, last) < settings.look_gap {
                    return Err(NotQuiet::LookAgain(first.at + settings.look_gap));
                }
                Ok(Self { node_uid: node.uid.clone() })
            }
            [only] => Err(NotQuiet::LookAgain(only.at + settings.look_gap)),
            [] => Err(NotQuiet::LookAgain(record.since)),
        }
    }

    /// UID of the Node that the proof is about.
    pub fn node_uid(&self) -> &str {
        &self.node_uid
    }
}

/// Whether one look speaks for it. A pod that the kubelet has not accepted is left to the comparison of two looks: the first finds
/// the node closed, and what is bound to a closed node afterwards is refused.
fn check(node: &Node, look: &Look, steps: Steps) -> Result<(), NotQuiet> {
    check_pods(look)?;
    if look.retry_handler_pods > 0 {
        return Err(NotQuiet::RetryHandler);
    }
    let Some(report) = look.report.as_ref().filter(|report| steps.answered_by(report)) else {
        return Err(NotQuiet::AgentSilent);
    };
    host_holder(node, report).map_or(Ok(()), |holder| Err(NotQuiet::Host(holder)))
}

fn check_pods(look: &Look) -> Result<(), NotQuiet> {
    let held: Vec<Holder> = look.holders.iter().filter(|holder| holder.started).cloned().collect();
    if !held.is_empty() {
        return Err(NotQuiet::Pods(held));
    }
    if !look.is_closed() {
        return Err(NotQuiet::Offered);
    }
    Ok(())
}

/// Whether a pod is one that the kubelet cannot have accepted, because it was bound to the node after a look of this step had found
/// the node closed.
pub fn is_refused(node: &Node, record: &NodeRollout, holder: &Holder) -> bool {
    let earlier = |look: &Look| look.is_closed() && !look.sees(&holder.uid);
    !holder.started && Steps::of(record).looks(node).any(earlier)
}

/// Whether the retry handler runs on a node, or its gate is open.
pub fn serves(node: &Node) -> bool {
    node.labels_below(RETRY_HANDLER_GATE_PREFIX).next().is_some()
        || node.pods.iter().any(|pod| pod.role == Role::RetryHandler)
}

/// Who holds the device although the agent does not know of all who do, for which it leaves out `acknowledged`: a file that was
/// handed on through a socket or is mapped after it was closed, say.
pub fn hidden_holder(node: &Node, report: &NodeReport) -> Option<String> {
    let users = report
        .modules
        .iter()
        .find(|module| module.name == KernelModule::CHARACTER_DEVICES.name() && module.refcount > 0);
    let module = users.filter(|_| report.acknowledged.is_none())?;
    let unseen = || {
        format!(
            "the device is in use ({} references to cxi_user), and the node agent finds no process that has it open",
            module.refcount
        )
    };
    Some(host_holder(node, report).unwrap_or_else(unseen))
}

/// Open files of the device but those of the retry handler that runs on the node: it ends when its gate is closed.
pub fn open_files<'a>(node: &Node, report: &'a NodeReport) -> impl Iterator<Item = &'a OpenFile> {
    let handlers = node.pods.iter().filter(|pod| pod.role == Role::RetryHandler);
    let handlers: Vec<&str> = handlers.map(|pod| pod.uid.as_str()).collect();
    let serving = move |file: &OpenFile| file.pod_uid.as_deref().is_some_and(|uid| handlers.contains(&uid));
    report.open_files.iter().filter(move |file| !serving(file))
}

/// Who holds the device outside Kubernetes, in words: a process, or a kernel module that is not part of the stack.
pub fn host_holder(node: &Node, report: &NodeReport) -> Option<String> {
    lasting_holder(node, report, &[])
}

/// The same while pods still run: who will hold the device when `leaving` have been evicted.
pub fn lasting_holder(node: &Node, report: &NodeReport, leaving: &[&Holder]) -> Option<String> {
    let mut leaving: Vec<_> = leaving.iter().map(|holder| (end(&holder.uid), holder.uid.as_str())).collect();
    leaving.sort_unstable();
    let pods = open_files(node, report).map(|file| (file, file.pod_uid.as_deref().map(|uid| (end(uid), uid))));
    let mut pods: Vec<_> = pods.collect();
    pods.dedup_by(|(_, pod), (_, before)| pod == before);
    let lasts = |pod: &(_, Option<_>)| pod.1.is_none_or(|pod| leaving.binary_search(&pod).is_err());
    let file = pods.into_iter().find(lasts).map(|(file, _)| match &file.pod_uid {
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

/// The end of a UID, by which UIDs differ. To read the ends of all first is faster than to wait for the memory with each comparison.
fn end(uid: &str) -> u64 {
    uid.as_bytes().last_chunk().map_or(0, |end| u64::from_ne_bytes(*end))
}

impl Unloaded {
    /// Proves that no driver is loaded. Only a report that answers one of `steps` counts.
    ///
    /// # Errors
    /// What stands against it.
    pub fn prove(node: &Node, namespace: &str, steps: Steps) -> Result<Self, StillLoaded> {
        if let Some(label) = version_labels(node, namespace).next() {
            return Err(StillLoaded::Labelled(label.0.clone()));
        }
        if let Some(label) = foreign_label(node, namespace) {
            return Err(StillLoaded::Labelled(label.clone()));
        }
        if let Some(doing) = kmm_at_work(node, namespace) {
            return Err(StillLoaded::KmmBusy(doing));
        }
        let Some(report) = node.report().filter(|report| steps.answered_by(report)) else {
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
    if let Some((label, _)) = node.labels_below(&internal).next() {
        return Some(format!("KMM has not removed the label {label} yet"));
    }
    let module = node.kmm_wants.first().or(node.kmm_has.first())?;
    Some(format!("KMM still lists Module {}", module.name))
}
