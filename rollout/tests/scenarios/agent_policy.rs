//! The admission policy that keeps node agents to their own nodes: no agent starts without it.

use cxi_api::Reason;
use cxi_rollout::world::AgentPolicy;
use rstest::rstest;

use super::{condition, reason, upgrade};
use crate::sim::{Sim, build::spec};

fn blocked(sim: &Sim) -> (String, String) {
    let conditions = &sim.driver().status.conditions;
    let blocked = conditions.iter().find(|condition| condition.type_ == "Blocked").unwrap();
    (blocked.reason.clone(), blocked.message.clone())
}

#[rstest]
#[case(AgentPolicy::Missing)]
#[case(AgentPolicy::Unknown)]
fn no_operand_is_started_before_it(#[case] policy: AgentPolicy) {
    let mut sim = Sim::new(2, spec("13.0.0"));
    sim.api.agent_policy = policy;
    sim.settle();
    assert!(condition(&sim, "Blocked"));
    let (reason, message) = blocked(&sim);
    assert_eq!(reason, "AgentPolicyMissing");
    assert!(message.contains("cxi-agent"), "{message}");
    assert!(sim.daemonsets.is_empty() && sim.api.revisions.is_empty(), "{}", sim.describe());
    sim.api.agent_policy = AgentPolicy::InForce;
    sim.settle();
    sim.assert_all_up_to_date();
    assert!(!condition(&sim, "Blocked"));
}

#[test]
fn operands_stay_when_it_goes_and_no_node_is_admitted_until_it_is_back() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.api.agent_policy = AgentPolicy::Missing;
    upgrade(&mut sim, "13.1.0");
    sim.driver_mut("cxi").operands_current = false;
    sim.driver_mut("cxi").plugin_current = false;
    let objects = sim.writes.get("objects").copied();
    sim.settle();
    assert_eq!(blocked(&sim).0, "AgentPolicyMissing");
    assert_eq!(sim.writes.get("objects").copied(), objects, "nothing is applied");
    assert!(sim.daemonsets.contains_key("cxi"));
    for node in ["n1", "n2"] {
        sim.assert_runs(node, "13.0.0");
        assert_eq!(reason(&sim, node), Some(Reason::AgentPolicyMissing));
    }
    sim.api.agent_policy = AgentPolicy::InForce;
    sim.settle();
    sim.assert_all_up_to_date();
}

#[test]
fn a_cxidriver_can_be_deleted_without_it() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.api.agent_policy = AgentPolicy::Missing;
    sim.delete_driver("cxi");
    sim.settle();
    assert!(sim.api.drivers.is_empty(), "{}", sim.describe());
}
