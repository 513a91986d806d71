//! What the product does, scenario by scenario. In each the oracle watches; what a test asserts comes on top.

mod agent_policy;
mod budgets;
mod by_hand;
mod calm;
mod drain;
mod failure;
mod hardening;
mod holders;
mod hostile;
mod images;
mod invalid;
mod nodes;
mod one_shot;
mod pace;
mod preflight;
mod preinstalled;
mod reboots;
mod retry_handler;
mod revert;
mod teardown;
mod told;
mod untidy;

use cxi_api::{Blocker, Phase, Reason, strategy::DrainPolicy};

use crate::sim::{Sim, build::spec};

/// The phases from admission to the last before the label is removed.
const BEFORE_UNLOADING: [Phase; 5] =
    [Phase::Admitted, Phase::Waiting, Phase::Closing, Phase::Evicting, Phase::Quiesced];

/// A cluster on 13.0.0 that evicts at once.
fn evicting(nodes: usize) -> Sim {
    let mut wanted = spec("13.0.0");
    wanted.update_strategy.drain.policy = DrainPolicy::Evict;
    Sim::installed(nodes, wanted)
}

/// Asks for another release.
fn upgrade(sim: &mut Sim, version: &str) {
    sim.edit(|spec| spec.version = version.into());
}

/// What a node waits for.
fn reason(sim: &Sim, node: &str) -> Option<Reason> {
    Some(sim.node(node).rollout()?.blocked_by.as_ref()?.reason)
}

/// What a node waits for, in words.
fn message(sim: &Sim, node: &str) -> String {
    let blocker = sim.node(node).rollout().and_then(|record| record.blocked_by.clone());
    let words = |blocker: Blocker| {
        let object = blocker.object.map(|object| object.name).unwrap_or_default();
        format!("{object} {}", blocker.message)
    };
    blocker.map(words).unwrap_or_default()
}

/// What a condition of the driver says.
fn says(sim: &Sim, name: &str) -> String {
    let conditions = &sim.driver().status.conditions;
    conditions.iter().find(|condition| condition.type_ == name).map(|it| it.message.clone()).unwrap_or_default()
}

/// How often a node's driver was replaced: boots aside, the number of transactions that ended well.
fn evictions(sim: &Sim) -> usize {
    sim.writes.get("evictions").copied().unwrap_or(0)
}

/// Whether a condition of the driver is true.
fn condition(sim: &Sim, name: &str) -> bool {
    sim.driver().status.conditions.iter().any(|condition| condition.type_ == name && condition.status == "True")
}
