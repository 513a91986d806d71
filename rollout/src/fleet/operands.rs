//! The conditions of the operands: each is true only when its pods are ready on every node that should have one.

use cxi_api::{Phase, names::Role};

use crate::{
    driver::scope::{Member, Scope},
    fleet::conditions::Conditions,
    intent::RetryHandler,
    phases::SILENT,
    text::{about, some},
    world::{Injection, Node, PodState},
};

/// While more agents than this are silent, the names of some do not help: most of them are about to start.
const FEW: usize = 20;

/// Puts the conditions of the operands that are wanted, or that are not gone yet.
pub fn put(set: &mut Conditions<'_>, scope: &Scope<'_>, members: &[Member<'_>]) {
    if scope.intent.offer.is_some() {
        let expected = members.iter().filter(|member| member.node.plugin.is_some() && should_serve(scope, member));
        let (ready, pods) = gated(scope, Role::DevicePlugin, "device plugin", expected);
        set.put("DevicePluginReady", ready, reason(ready), &pods);
    }
    agent(set, scope, members);
    updated(set, scope, members);
    retry_handler(set, scope, members);
    if scope.intent.exports_metrics {
        let (ready, pods) = pods(scope, Role::MetricsExporter, "metrics exporter", members.len());
        set.put("MetricsExporterReady", ready, reason(ready), &pods);
    }
}

/// Whether every node runs the present template of the operands that DaemonSets replace node by node. Nodes that are not Ready keep
/// the earlier one, and keep no other node from the new one.
fn updated(set: &mut Conditions<'_>, scope: &Scope<'_>, members: &[Member<'_>]) {
    const TYPE: &str = "OperandsUpdated";
    let name = |role| match role {
        Role::Agent => "node agent",
        Role::DevicePlugin => "device plugin",
        _ => "metrics exporter",
    };
    let outdated = &scope.driver.pods_outdated;
    if outdated.is_empty() {
        set.put(TYPE, true, "AllUpdated", "every node runs the present template of its operands");
        return;
    }
    let counts: Vec<String> = outdated.iter().map(|(role, nodes)| format!("{} on {nodes}", name(*role))).collect();
    let mut message = format!("these nodes do not run the present template yet: {}", counts.join(", "));
    let down = members.iter().filter(|member| !member.node.ready).map(|member| member.node.name.as_str());
    let down: Vec<&str> = down.collect();
    if !down.is_empty() {
        message = format!("{message}; not Ready, and left behind: {}", some(down));
    }
    set.put(TYPE, false, "RollingOut", &message);
}

fn agent(set: &mut Conditions<'_>, scope: &Scope<'_>, members: &[Member<'_>]) {
    let silent = members.iter().filter(|member| member.node.report().is_none());
    let silent: Vec<&str> = silent.map(|member| member.node.name.as_str()).collect();
    let (ready, pods) = pods(scope, Role::Agent, "node agent", members.len());
    if !silent.is_empty() {
        let message = if silent.len() > FEW {
            format!("no report from the agents of {} nodes", about(silent.len()))
        } else {
            format!("no report from the agent of {}", some(silent.iter().copied()))
        };
        set.put("AgentReady", false, "NodesSilent", &message);
    } else if ready {
        set.put("AgentReady", true, "AllReport", "the agents of all nodes run and report");
    } else {
        set.put("AgentReady", false, reason(false), &pods);
    }
}

fn retry_handler(set: &mut Conditions<'_>, scope: &Scope<'_>, members: &[Member<'_>]) {
    const TYPE: &str = "RetryHandlerReady";
    let wanted = &scope.intent.retry_handler;
    let left = members.iter().filter(|member| member.node.retry_handler.is_some()).count();
    if let Some(on_nodes) = wanted.on_nodes() {
        let serves = |member: &&Member<'_>| {
            member.node.retry_handler.is_some() && should_serve(scope, member) && on_nodes.selects(&member.node.labels)
        };
        let expected = members.iter().filter(serves);
        let (ready, mut pods) = gated(scope, Role::RetryHandler, "retry handler", expected);
        let outdated = |member: &&Member<'_>| member.node.retry_handler.is_some_and(|runs| runs != on_nodes.gate);
        let outdated: Vec<&str> = members.iter().filter(outdated).map(|member| member.node.name.as_str()).collect();
        if !outdated.is_empty() {
            pods = format!(
                "{pods}; an earlier image runs on {} until no pod there holds a NIC",
                some(outdated.iter().copied())
            );
        }
        set.put(TYPE, ready, reason(ready), &pods);
    } else if left > 0 {
        let message = format!("the retry handler pods of {} nodes stay until no pod there holds a NIC", about(left));
        set.put(TYPE, false, "StillOnNodes", &message);
    } else if matches!(wanted, RetryHandler::InPods) {
        let (ready, reason, message) = match scope.driver.injection {
            Injection::InForce => {
                (true, "Injected", "new pods that ask for a NIC get a retry handler, where their namespace asks for it")
            }
            Injection::NotServed => (
                false,
                "MutatingAdmissionPolicyNotServed",
                "this cluster does not serve MutatingAdmissionPolicies (Kubernetes 1.36 does), which add the sidecar: use \
                 retryHandler.mode daemonset",
            ),
            Injection::NotInstalled => (
                false,
                "PolicyNotInstalled",
                "the MutatingAdmissionPolicy that adds the sidecar is not installed: apply deploy/policy/retry-handler.yaml",
            ),
            Injection::Unknown => {
                (false, "NotSeenYet", "the operator does not know yet whether the cluster adds the sidecar")
            }
        };
        set.put(TYPE, ready, reason, message);
    } else if matches!(wanted, RetryHandler::ImageMissing) {
        let message = "spec.retryHandler.image must name an image with HPE's cxi_rh in it (see docs/retry-handler.md); if the \
                       hosts run it themselves or none is wanted, set retryHandler.mode to none";
        set.put(TYPE, false, "ImageRequired", message);
    } else if matches!(wanted, RetryHandler::LeftToTheHost) {
        let message = "the operator runs no retry handler in this mode: CXIDevices say in status.retryHandler.enabled whether a NIC \
                       has one";
        set.put_as(TYPE, "Unknown", "LeftToTheHost", message);
    }
}

/// Whether a node rests, or should by now: then a pod belongs there where the gate is open, whatever becomes of it.
fn should_serve(scope: &Scope<'_>, member: &Member<'_>) -> bool {
    member.record().is_some_and(|record| match record.phase {
        phase if phase.traits().offers => true,
        // The pod is on its way, for a moment.
        Phase::Returning => scope.now.duration_since(record.since).unsigned_abs() >= SILENT,
        _ => false,
    })
}

/// Of the nodes that should have a pod of `role`, those without a ready one are named.
fn gated<'a>(
    scope: &Scope<'_>,
    role: Role,
    name: &str,
    expected: impl Iterator<Item = &'a Member<'a>>,
) -> (bool, String) {
    let (with, without): (Vec<&Node>, Vec<&Node>) = expected.map(|member| member.node.node()).partition(|node| {
        let ready = PodState::Running { ready: true };
        let mut pods = node.pods.iter().filter(|pod| pod.role == role && pod.driver == scope.driver.name);
        node.ready && pods.any(|pod| !pod.deleting && pod.state == ready)
    });
    let (ready, all) = (with.len(), with.len() + without.len());
    let mut message = ready_of(ready, name, all);
    if !without.is_empty() && without.len() <= FEW {
        message = format!("{message}: none is ready on {}", some(without.iter().map(|node| node.name.as_str())));
    }
    (without.is_empty(), message)
}

/// How many of how many. The first number is rough while it grows.
fn ready_of(ready: usize, name: &str, all: usize) -> String {
    let ready = if ready == all { ready.to_string() } else { about(ready) };
    format!("{ready} {name} pods are ready, {all} nodes should have one")
}

fn pods(scope: &Scope<'_>, role: Role, name: &str, expected: usize) -> (bool, String) {
    let ready = scope.driver.pods_ready.get(&role).copied().unwrap_or_default();
    let ready = usize::try_from(ready).unwrap_or_default();
    (ready >= expected, ready_of(ready, name, expected))
}

fn reason(ready: bool) -> &'static str {
    if ready { "PodsReady" } else { "PodsNotReady" }
}
