//! Node agents are started only where an admission policy keeps them to their own nodes.

use crate::world::AgentPolicy;

/// What keeps agents from being started, in words; nothing where the policy is in force.
pub fn unguarded(policy: AgentPolicy) -> Option<&'static str> {
    let message = match policy {
        AgentPolicy::InForce => return None,
        AgentPolicy::Missing => {
            "the ValidatingAdmissionPolicy cxi-agent, which keeps node agents to their own nodes, or its binding is missing: apply \
             deploy/policy/agent.yaml (Helm: agentPolicy.enabled; under OLM the operator applies it); no operand is started or changed \
             until then, those that run stay"
        }
        AgentPolicy::Unknown => {
            "the operator does not know yet whether the ValidatingAdmissionPolicy cxi-agent is there, and starts and changes no operand \
             until it does: if this stays, the operator's log says why"
        }
    };
    Some(message)
}
