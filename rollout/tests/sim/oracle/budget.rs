//! I1 budget and I7 stop on failure: who enters the ledger.

use cxi_api::{CXIDriverStatus, Phase, driver_status::Rollout, names::UPGRADE_LABEL};
use cxi_rollout::world::{Driver, Node};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::sim::{Seen, Sim, apply::version_labels};

impl Sim {
    /// A status that was written: whom it admits, and what it says.
    pub(super) fn check_status(&mut self, name: &str, status: &CXIDriverStatus, seen: &Seen, before: Option<&Driver>) {
        let Some(old) = before.cloned() else { return };
        self.demand(status.observed_generation == old.generation, "I12", || {
            format!("{name}: observedGeneration {} is not {}", status.observed_generation, old.generation)
        });
        self.check_admission(&old, status, seen);
        self.check_available(name, status, seen);
    }

    fn check_admission(&mut self, old: &Driver, status: &CXIDriverStatus, seen: &Seen) {
        let empty = Vec::new();
        let was = old.status.rollout.as_ref().map_or(&empty, |rollout| &rollout.in_flight);
        let Some(rollout) = &status.rollout else { return };
        let new: Vec<&Node> = rollout
            .in_flight
            .iter()
            .filter(|entry| !was.iter().any(|old| old.node == entry.node && old.uid == entry.uid))
            .filter_map(|entry| seen.nodes.get(&entry.node))
            .collect();
        if new.is_empty() {
            return;
        }
        let mine: Vec<&Node> = seen
            .nodes
            .values()
            .filter(|node| node.labels.get(cxi_api::names::DRIVER_LABEL) == Some(&old.name))
            .collect();
        let skipped = |node: &&&Node| node.labels.get(UPGRADE_LABEL).is_some_and(|request| request == "skip");
        let counted = mine.len() - mine.iter().filter(skipped).count();
        let budget = budget(&old.spec.update_strategy.max_unavailable, counted);
        let flying =
            |node: &Node| rollout.in_flight.iter().any(|entry| entry.node == node.name && entry.uid == node.uid);
        let unavailable = mine.iter().filter(|node| flying(node) || !skipped(node) && !serves(old, node)).count();
        self.check_unselected(old, &mine, &new, budget);
        let taken: Vec<&str> =
            new.iter().filter(|node| serves(old, node) && !broken(node)).map(|node| node.name.as_str()).collect();
        self.demand(taken.is_empty() || unavailable <= budget, "I1", || {
            format!("{taken:?} are admitted: {unavailable} unavailable, {budget} allowed")
        });
        self.check_halt(old, rollout, &new, seen);
        self.check_trials(old, rollout, &new, seen);
        for node in &new {
            let skip = node.labels.get(UPGRADE_LABEL).is_some_and(|request| request == "skip");
            self.demand(!skip || broken(node), "admission", || format!("{} is to be skipped", node.name));
            self.demand(!old.spec.paused || broken(node), "admission", || format!("{} although paused", node.name));
        }
    }

    /// When more nodes stop to be selected at once than the budget allows, none of them is taken down.
    fn check_unselected(&mut self, old: &Driver, mine: &[&Node], new: &[&Node], budget: usize) {
        let selected =
            |node: &Node| old.spec.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
        let begun = |node: &Node| node.rollout().is_some_and(cxi_api::NodeRollout::is_taken_down);
        let nics = |node: &Node| node.report().is_some_and(|report| !report.devices.is_empty());
        let runs = |node: &Node| node.rollout().is_some_and(|record| record.revision.is_some());
        let leaving = mine.iter().filter(|node| !selected(node) && !begun(node) && nics(node) && runs(node)).count();
        let limit = old.max_unselected.unwrap_or(budget.max(1));
        for node in new.iter().filter(|node| !old.deleting && !selected(node) && runs(node) && nics(node)) {
            let leaves = node.rollout().is_some_and(|record| record.target_revision.is_none());
            self.demand(!leaves || leaving <= limit || broken(node), "selector", || {
                format!("{} is taken down with {leaving} others, {limit} may go", node.name)
            });
        }
    }

    /// C9: what a preflight moves is the node that it has chosen, alone.
    fn check_trials(&mut self, old: &Driver, rollout: &Rollout, new: &[&Node], seen: &Seen) {
        let trying: Vec<&&Node> = new.iter().filter(|node| is_on_trial(seen, old, node)).collect();
        for node in trying {
            let others: Vec<&str> =
                rollout.in_flight.iter().map(|entry| entry.node.as_str()).filter(|name| *name != node.name).collect();
            self.demand(others.is_empty() || broken(node), "C9", || {
                format!("{} is admitted for a preflight while {others:?} are in flight", node.name)
            });
        }
    }

    fn check_halt(&mut self, old: &Driver, rollout: &Rollout, new: &[&Node], seen: &Seen) {
        let halted = old.status.rollout.as_ref().filter(|old| old.id == rollout.id).is_some_and(|r| r.halted.is_some());
        for node in new {
            let retry = node.labels.get(UPGRADE_LABEL).is_some_and(|request| request == "retry");
            let tries = is_on_trial(seen, old, node);
            self.demand(!halted || retry || tries || broken(node), "I7", || {
                format!("{} is admitted to a rollout that halted", node.name)
            });
        }
        let most = usize::try_from(old.spec.update_strategy.max_failed).unwrap();
        let many = rollout.failed.len() >= most;
        let fine = !many || rollout.halted.is_some();
        self.demand(fine, "I7", || format!("{} failures, no halt", rollout.failed.len()));
    }
}

/// Whether a preflight of the driver has chosen the node for another release than the driver asks for, and has no answer yet.
fn is_on_trial(seen: &Seen, driver: &Driver, node: &Node) -> bool {
    let selected = driver.spec.node_selector.iter().all(|(key, value)| node.labels.get(key) == Some(value));
    if driver.deleting || !selected {
        return false;
    }
    let chosen = seen.preflights.iter().filter(|known| known.spec.driver == driver.name && !known.status.is_over());
    let target = driver.spec.revision(&driver.name);
    // A node that runs the release already has nothing to try: its preflight fails, and the node goes with the others.
    let runs = node.rollout().and_then(|record| record.revision.as_ref());
    let mut chosen = chosen.filter(|known| {
        let candidate = known.candidate.as_ref().map(|candidate| &candidate.revision);
        candidate.is_some_and(|candidate| *candidate != target) && candidate != runs
    });
    chosen
        .any(|known| known.status.node.as_ref().is_some_and(|canary| canary.uid == node.uid && canary.trial.is_none()))
}

/// Own reading of `maxUnavailable`.
fn budget(value: &IntOrString, nodes: usize) -> usize {
    match value {
        IntOrString::Int(number) => usize::try_from(*number).unwrap(),
        IntOrString::String(text) => match text.strip_suffix('%').map(|percent| percent.parse::<usize>().unwrap()) {
            Some(0) => 0,
            Some(percent) => (nodes * percent / 100).max(1),
            None => text.parse().unwrap(),
        },
    }
}

/// Whether jobs can use a node.
fn serves(driver: &Driver, node: &Node) -> bool {
    let plugin = &driver.spec.device_plugin;
    let offered = node.allocatable.get(&plugin.resource_name).is_some_and(|count| *count > 0);
    let rests = node.rollout().is_some_and(|record| {
        record.revision.is_some() && matches!(record.phase, Phase::UpToDate | Phase::Pending | Phase::Admitted)
    });
    rests && node.ready && !node.cordoned && (offered || !plugin.enabled)
}

/// Whether somebody changed a node's version labels, so that KMM has acted on it already.
fn broken(node: &Node) -> bool {
    let labels = version_labels(node);
    let Some(record) = node.rollout() else { return false };
    match &record.revision {
        Some(revision) => labels.len() != 1 || labels[0].1 != revision.as_str(),
        None => labels.len() > 1,
    }
}
