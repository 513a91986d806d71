//! When nothing goes wrong.

use rstest::rstest;

use crate::sim::{Sim, Workload, build::spec};

#[test]
fn installs() {
    let mut sim = Sim::new(6, spec("13.0.0"));
    sim.settle();
    sim.assert_all_up_to_date();
}

#[rstest]
#[case(3)]
fn upgrades_idle_nodes(#[case] nodes: usize) {
    let mut sim = Sim::installed(nodes, spec("13.0.0"));
    sim.edit(|spec| spec.version = "13.1.0".into());
    sim.settle();
    sim.assert_all_up_to_date();
    let total: usize = sim.writes.values().sum();
    eprintln!("writes per node: {:.1} {:?}", total as f64 / nodes as f64, sim.writes);
}

#[test]
fn jobs() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    sim.edit(|spec| spec.update_strategy.drain.policy = cxi_api::strategy::DrainPolicy::Evict);
    sim.start(Workload::job("a").replicas(6));
    sim.edit(|spec| spec.version = "13.1.0".into());
    sim.settle();
    sim.assert_all_up_to_date();
}
