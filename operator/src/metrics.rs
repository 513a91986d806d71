//! Prometheus metrics of the operator.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use cxi_api::{NodeRollout, Timestamp, preflight::PreflightPhase};
use cxi_rollout::World;
use prometheus_client::{
    encoding::{EncodeLabelSet, text},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram},
    registry::Registry,
};

/// All metrics.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    nodes: Family<DriverPhase, Gauge>,
    blocked: Family<DriverReason, Gauge>,
    preflights: Family<DriverPhase, Gauge>,
    halted: Family<Driver, Gauge>,
    eta: Family<Driver, Gauge>,
    phases: Family<PhaseLabel, Histogram>,
    evictions: Family<DriverResult, Counter>,
    reconcile: Histogram,
    requests: Family<Request, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriverPhase {
    driver: String,
    phase: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriverReason {
    driver: String,
    reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Driver {
    driver: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PhaseLabel {
    phase: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DriverResult {
    driver: String,
    result: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    verb: String,
    resource: String,
    code: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::default();
        // From a link that comes up at once to a job that is waited for.
        let phases =
            || Histogram::new([1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 900.0, 3600.0, 21_600.0, 86_400.0]);
        let metrics = Self {
            registry: Arc::default(),
            nodes: Family::default(),
            blocked: Family::default(),
            preflights: Family::default(),
            halted: Family::default(),
            eta: Family::default(),
            phases: Family::new_with_constructor(phases),
            evictions: Family::default(),
            reconcile: Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0]),
            requests: Family::default(),
        };
        registry.register("cxi_rollout_nodes", "Nodes by phase", metrics.nodes.clone());
        registry.register("cxi_rollout_blocked_nodes", "Nodes by what they wait for", metrics.blocked.clone());
        registry.register("cxi_preflights", "CXIPreflights by phase", metrics.preflights.clone());
        registry.register("cxi_rollout_halted", "Whether the rollout is halted", metrics.halted.clone());
        registry.register(
            "cxi_rollout_eta_seconds",
            "Seconds until the rollout is expected to end; absent when no rollout is under way",
            metrics.eta.clone(),
        );
        registry.register(
            "cxi_rollout_phase_duration_seconds",
            "Time that nodes spent in a phase",
            metrics.phases.clone(),
        );
        registry.register("cxi_rollout_evictions", "Evictions by result", metrics.evictions.clone());
        registry.register(
            "cxi_reconcile_duration_seconds",
            "Time of a turn of the loop: observing, planning and beginning to act",
            metrics.reconcile.clone(),
        );
        registry.register("cxi_api_requests", "Requests to the API server", metrics.requests.clone());
        Self { registry: Arc::new(registry), ..metrics }
    }
}

impl Metrics {
    /// All metrics in the `OpenMetrics` text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }

    /// One turn of the loop.
    pub fn reconciled(&self, took: Duration) {
        self.reconcile.observe(took.as_secs_f64());
    }

    /// An eviction.
    pub fn evicted(&self, driver: &str, result: &str) {
        let labels = DriverResult { driver: driver.to_owned(), result: result.to_owned() };
        self.evictions.get_or_create(&labels).inc();
    }

    /// A request to the API server.
    pub fn requested(&self, verb: &str, resource: String, code: String) {
        self.requests.get_or_create(&Request { verb: verb.to_owned(), resource, code }).inc();
    }

    /// A node left a phase.
    pub fn phase_changed(&self, was: Option<&NodeRollout>, now: &NodeRollout) {
        let Some(was) = was else { return };
        let spent = now.since.duration_since(was.since).unsigned_abs();
        self.phases.get_or_create(&PhaseLabel { phase: was.phase.to_string() }).observe(spent.as_secs_f64());
    }

    /// A `CXIPreflight` more. One without a status is at its beginning.
    fn preflight(&self, driver: &str, phase: Option<PreflightPhase>) {
        let phase = phase.unwrap_or(PreflightPhase::Images).as_str().to_owned();
        self.preflights.get_or_create(&DriverPhase { driver: driver.to_owned(), phase }).inc();
    }

    /// The state of the world.
    pub fn world(&self, world: &World, now: Timestamp) {
        let mut nodes: BTreeMap<(String, String), i64> = BTreeMap::new();
        let mut blocked: BTreeMap<(String, String), i64> = BTreeMap::new();
        for place in world.nodes.values().filter_map(|node| node.rollout()) {
            *nodes.entry((place.driver.clone(), place.phase.to_string())).or_default() += 1;
            if let Some(blocker) = &place.blocked_by {
                *blocked.entry((place.driver.clone(), blocker.reason.to_string())).or_default() += 1;
            }
        }
        self.nodes.clear();
        for ((driver, phase), count) in nodes {
            self.nodes.get_or_create(&DriverPhase { driver, phase }).set(count);
        }
        self.blocked.clear();
        for ((driver, reason), count) in blocked {
            self.blocked.get_or_create(&DriverReason { driver, reason }).set(count);
        }
        self.preflights.clear();
        for preflight in &world.preflights {
            self.preflight(&preflight.spec.driver, preflight.status.phase);
        }
        self.halted.clear();
        self.eta.clear();
        for driver in &world.drivers {
            let label = Driver { driver: driver.name.clone() };
            let rollout = driver.status.rollout.as_ref();
            let halted = rollout.is_some_and(|rollout| rollout.halted.is_some());
            self.halted.get_or_create(&label).set(halted.into());
            if let Some(eta) = rollout.and_then(|rollout| rollout.eta) {
                self.eta.get_or_create(&label).set(eta.duration_since(now).as_secs().max(0));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_the_contract() {
        let metrics = Metrics::default();
        metrics.evicted("d", "blocked");
        metrics.requested("patch", "nodes".into(), "200".into());
        metrics.reconciled(Duration::from_millis(3));
        metrics.preflight("d", None);
        metrics.preflight("d", Some(PreflightPhase::Failed));
        metrics.preflight("d", Some(PreflightPhase::Failed));
        let text = metrics.text();
        for line in [
            "cxi_rollout_evictions_total{driver=\"d\",result=\"blocked\"} 1",
            "cxi_api_requests_total{verb=\"patch\",resource=\"nodes\",code=\"200\"} 1",
            "cxi_reconcile_duration_seconds_count 1",
            "cxi_preflights{driver=\"d\",phase=\"Images\"} 1",
            "cxi_preflights{driver=\"d\",phase=\"Failed\"} 2",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
