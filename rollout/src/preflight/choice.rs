//! Which node a CXIPreflight tries its release on.

use cxi_api::preflight::CanaryNode;

use crate::{
    admission::{is_in_service, is_skipped},
    driver::scope::{Member, Scope},
    preflight::trial::OnTrial,
    world::Preflight,
};

/// The canary node, or why there is none and what helps.
pub fn choose(scope: &Scope<'_>, members: &[Member<'_>], preflight: &Preflight) -> Result<CanaryNode, String> {
    let member = match &preflight.spec.node {
        Some(name) => named(scope, members, preflight, name)?,
        None => selected(scope, members, preflight)?,
    };
    let from = member.node.rollout().and_then(|record| record.revision.clone());
    Ok(CanaryNode { name: member.node.name.clone(), uid: member.node.uid.clone(), from, trial: None, released: false })
}

fn named<'m, 'a>(
    scope: &Scope<'_>,
    members: &'m [Member<'a>],
    preflight: &Preflight,
    name: &str,
) -> Result<&'m Member<'a>, String> {
    if let Some(member) = members.iter().find(|member| member.node.name == name) {
        return match member.trial.filter(|trial| trial.preflight.uid != preflight.uid) {
            None => Ok(member),
            Some(OnTrial { preflight, .. }) => Err(format!(
                "spec.node {name} stays on its release for CXIPreflight {}: delete that object",
                preflight.name
            )),
        };
    }
    let driver = &scope.driver.name;
    let help = "delete this CXIPreflight, then create one with another spec.node";
    Err(if !scope.world.nodes.contains_key(name) {
        format!("spec.node {name} is no Node of this cluster: {help}")
    } else if let Some(owner) = scope.world.seen.iter().find(|node| node.name == name).and_then(|node| node.owner) {
        format!("spec.node {name} belongs to CXIDriver {owner}, not to {driver}: {help}")
    } else {
        format!("spec.node {name} is not selected by spec.nodeSelector of CXIDriver {driver}: {help}")
    })
}

fn selected<'m, 'a>(
    scope: &Scope<'_>,
    members: &'m [Member<'a>],
    preflight: &Preflight,
) -> Result<&'m Member<'a>, String> {
    let fits = |member: &&Member<'_>| member.node.carries(&preflight.spec.node_selector);
    let free = |member: &&Member<'_>| {
        member.node.unreadable.is_none()
            && !is_skipped(member)
            && member.trial.is_none()
            && member.node.ours.request.is_none()
    };
    // One that serves and disturbs the fewest; the operator's own node last.
    let key = |member: &&Member<'_>| {
        let node = member.node;
        let serves = node.rollout().is_some_and(|record| is_in_service(scope, member, record));
        let own = scope.world.own_node.as_ref() == Some(&node.name);
        (own, !serves, node.holders.len(), node.created, node.name.clone())
    };
    let chosen = members.iter().filter(fits).filter(free).min_by_key(key);
    chosen.ok_or_else(|| {
        let driver = &scope.driver.name;
        if members.iter().any(|member| fits(&member)) {
            format!(
                "every node of CXIDriver {driver} that has the labels of spec.nodeSelector is on trial for another CXIPreflight, has a \
                 label cxi.hpe.com/upgrade, or cannot be read"
            )
        } else {
            format!("no node of CXIDriver {driver} has the labels of spec.nodeSelector: label one")
        }
    })
}
