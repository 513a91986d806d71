//! Letting time pass: the operator plans and writes, then everybody else has a turn, then the clock moves. Where nothing
//! happens the clock jumps to the next time at which something is due.

use cxi_api::{Phase, Timestamp, driver::SourceType};
use cxi_rollout::{Action, Plan, World};

use crate::sim::{Sim, seconds};

/// No scenario needs more rounds.
const ROUNDS: usize = 20_000;

impl Sim {
    /// Somebody else, by the dice, moves between two writes of the operator.
    pub fn somebody_else(&mut self) {
        let names = self.node_names();
        let sides = u64::try_from(names.len().max(1)).unwrap();
        let who = self.roll(4);
        let node = names.get(usize::try_from(self.roll(sides)).unwrap());
        match (who, node) {
            (0, _) => self.kmm(),
            (1, _) => self.jobs(),
            (2, Some(node)) => self.kubelet(node),
            (_, Some(node)) => self.agent(node),
            (_, None) => {}
        }
        self.count_versions();
        self.oracle_state();
    }

    /// What the engine plans on this world.
    pub fn plan(&self, world: &World) -> Plan {
        cxi_rollout::plan(world, self.clock(), &self.settings)
    }

    /// The operator's turn: one plan, carried out whole. The number of actions that did something.
    pub fn operate(&mut self) -> (usize, Option<Timestamp>) {
        let seen = self.snapshot();
        let plan = self.plan(&seen);
        self.oracle_plan(&plan);
        let done = plan.actions.iter().filter(|action| self.apply(action, &seen).is_ok()).count();
        (done, plan.wake)
    }

    /// Prints an action and what came of it, where `SIM_TRACE` is set.
    pub fn trace(&self, action: &Action, refused: Option<&str>) {
        if std::env::var_os("SIM_TRACE").is_none() {
            return;
        }
        let at = self.now.as_second() - 1_800_000_000;
        if let Some(refused) = refused {
            eprint!("({refused}) ");
        }
        match action {
            Action::WriteRollout { node, now, .. } => {
                let why = now.blocked_by.as_ref().map(|b| format!("{}: {}", b.reason, b.message));
                let (revision, goal) = (&now.revision, now.goal());
                eprintln!(
                    "{at:>6} {node} -> {} adv={:?} rev={revision:?} goal={goal:?} why={:?} {why:?}",
                    now.phase,
                    now.advertise,
                    now.why()
                );
            }
            Action::WriteDriverStatus { driver, status, .. } => {
                let flight = status.rollout.as_ref().map(|rollout| {
                    let names: Vec<_> = rollout.in_flight.iter().map(|e| format!("{}#{}", e.node, e.attempt)).collect();
                    (names, rollout.halted.is_some())
                });
                eprintln!("{at:>6} {driver} {:?} {}/{} {flight:?}", status.state, status.updated, status.total);
            }
            Action::Unload { node, value, .. } => eprintln!("{at:>6} {node} unload {value}"),
            Action::Load { node, value, .. } => eprintln!("{at:>6} {node} load {value}"),
            other => eprintln!("{at:>6} {other:?}"),
        }
    }

    /// Everybody else's turn.
    pub fn environment(&mut self) {
        self.kmm();
        for name in self.node_names() {
            self.kubelet(&name);
            self.agent(&name);
        }
        self.jobs();
        self.count_versions();
        self.oracle_state();
    }

    /// One round. Whether anything happened.
    pub fn round(&mut self) -> bool {
        let before = self.api.clone();
        let (done, wake) = self.operate();
        self.environment();
        let busy = done > 0 || self.api != before;
        self.now = if busy { self.now + seconds(1) } else { self.next(wake) };
        busy
    }

    /// The next time at which something is due; at least a second from now.
    fn next(&self, wake: Option<Timestamp>) -> Timestamp {
        let soon = self.now + seconds(1);
        let pods = self.pods.iter().flat_map(|pod| {
            let workload = self.workloads.iter().find(|workload| workload.name == pod.workload);
            let ends = workload.and_then(|workload| workload.runtime).map(|runtime| pod.started_at + runtime);
            pod.gone_at.into_iter().chain(ends)
        });
        let machines = self.machines.values().flat_map(|machine| {
            let links = machine.loaded_at.map(|at| at + machine.link_delay);
            let workers = machine.kmm.workers.iter().map(|worker| worker.ends);
            let labels = machine.kmm.back_off.values().copied();
            machine.boots_until.into_iter().chain(links).chain(workers).chain(labels).collect::<Vec<_>>()
        });
        let wake = wake.map(|wake| wake - jiff::SignedDuration::from_secs(self.skew));
        let due = pods.chain(machines).chain(wake).filter(|at| *at > self.now).min();
        // Rounded up to whole seconds.
        let due = due.map(|at| Timestamp::from_second(at.as_second() + i64::from(at.subsec_nanosecond() > 0)).unwrap());
        let due = due.map_or(self.now + seconds(60), |due| due.max(soon));
        self.horizon.map_or(due, |horizon| due.min(horizon.max(soon)))
    }

    /// Runs until `done`, for at most `limit` virtual seconds. Whether it came so far.
    pub fn run_until(&mut self, limit: u64, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + seconds(limit);
        self.horizon = Some(end);
        for _ in 0..ROUNDS {
            if done(self) {
                return true;
            }
            if self.now >= end {
                return false;
            }
            self.round();
        }
        panic!("{ROUNDS} rounds were not enough:\n{}", self.describe());
    }

    /// Runs until `done`; panics with a picture of the cluster when that takes longer than a virtual day and a half.
    #[track_caller]
    pub fn until(&mut self, what: &str, done: impl Fn(&Self) -> bool) {
        assert!(self.run_until(130_000, done), "{what} did not come about:\n{}", self.describe());
    }

    /// Runs until a node is in a phase.
    #[track_caller]
    pub fn until_phase(&mut self, node: &str, phase: Phase) {
        self.until(&format!("{node} in {phase}"), |sim| sim.phase(node) == Some(phase));
    }

    /// Lets virtual seconds pass.
    pub fn pass(&mut self, limit: u64) {
        self.run_until(limit, |_| false);
    }

    /// Runs until nothing happens any more: no write, and no timer that would make one within two minutes.
    #[track_caller]
    pub fn settle(&mut self) {
        let (mut quiet, mut idle) = (0, 0);
        self.horizon = None;
        for _ in 0..ROUNDS {
            let writes: usize = self.writes.values().sum();
            quiet = if self.round() { 0 } else { quiet + 1 };
            idle = if self.writes.values().sum::<usize>() > writes { 0 } else { idle + 1 };
            // Something that keeps failing (a worker pod) changes all the time without anything coming of it.
            if quiet >= 3 || idle >= 400 {
                self.oracle_quiet();
                return;
            }
        }
        panic!("it does not come to rest:\n{}", self.describe());
    }

    pub fn phase(&self, node: &str) -> Option<Phase> {
        Some(self.api.nodes.get(node)?.rollout()?.phase)
    }

    /// A picture of the cluster.
    pub fn describe(&self) -> String {
        use std::fmt::Write;
        let mut text = String::new();
        for driver in &self.api.drivers {
            let s = &driver.status;
            writeln!(text, "{} {:?} {}/{} {:#?}", driver.name, s.state, s.updated, s.total, s.rollout).unwrap();
        }
        for (name, node) in &self.api.nodes {
            let record = node.rollout().map(|record| {
                let record = cxi_api::NodeRollout { history: Vec::new(), ..record.clone() };
                format!("{record:?}")
            });
            let machine = &self.machines[name];
            writeln!(text, "{name} ready={} {}", node.ready, record.unwrap_or_default()).unwrap();
            writeln!(text, "   labels {:?}", node.labels).unwrap();
            writeln!(text, "   loaded {:?} workers {:?} pods {:?}", machine.loaded, node.workers, node.pods).unwrap();
            writeln!(text, "   has {:?} wants {:?}", node.kmm_has, node.kmm_wants).unwrap();
            writeln!(text, "   alloc {:?} holders {:?}", node.allocatable, node.holders).unwrap();
        }
        text
    }

    /// Every selected node is verified on what the spec asks for, in the API and in truth, and in service.
    #[track_caller]
    pub fn assert_all_up_to_date(&self) {
        for (name, node) in &self.api.nodes {
            if node.labels.contains_key(crate::sim::SELECTOR) {
                self.assert_up_to_date(name);
            }
        }
        let status = &self.driver().status;
        assert_eq!((status.updated, status.failed), (status.total, 0), "{}", self.describe());
    }

    /// A node is verified on what the spec of `cxi` asks for and in service.
    #[track_caller]
    pub fn assert_up_to_date(&self, name: &str) {
        assert_eq!(self.phase(name), Some(Phase::UpToDate), "{name}\n{}", self.describe());
        self.assert_runs(name, &self.driver().spec.version.clone());
    }

    /// A node runs a release, in service.
    #[track_caller]
    pub fn assert_runs(&self, name: &str, version: &str) {
        let node = self.node(name);
        let machine = &self.machines[name];
        assert_eq!(machine.loaded.as_deref(), Some(version), "{name}\n{}", self.describe());
        let resource = &self.driver().spec.device_plugin.resource_name;
        assert!(node.allocatable.get(resource).is_some_and(|n| *n > 0), "{name}\n{}", self.describe());
        // Nothing tells the release of a driver that the host brings.
        let host_driver = self.driver().spec.source.kind == SourceType::Preinstalled;
        let label = node.labels.get(cxi_api::names::DRIVER_VERSION_LABEL).map(String::as_str);
        assert_eq!(label, Some(version).filter(|_| !host_driver), "{name}");
    }
}
