//! The admission policy that keeps node agents to their own nodes. Where the installation cannot carry it, it is
//! applied here, again and again, so that it comes back when another client changes or deletes it. Under every
//! installation it is looked for: no agent is started without it.

use std::{sync::Arc, time::Duration};

use cxi_api::names::{AGENT_POLICY, OPERATOR};
use cxi_manifests::policies::{agent, agent_binding};
use cxi_rollout::world::AgentPolicy;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::{
    Api, Client, Error,
    api::{Patch, PatchParams},
};
use tokio::{sync::Notify, time::sleep};
use tracing::{info, warn};

use crate::{health::Health, memory::Memory};

/// Pause after it was applied.
const EVERY: Duration = Duration::from_mins(10);

/// Pause after it could not be.
const RETRY: Duration = Duration::from_secs(5);

/// Pause between two looks while the policy is in force.
const LOOK: Duration = Duration::from_secs(15);

/// Pause between two looks while it is not.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// Looks for policy and binding until the task is dropped.
pub async fn watch(client: Client, memory: Arc<Memory>, changed: Arc<Notify>) {
    loop {
        if look_once(&client, &memory).await {
            changed.notify_one();
        }
        let in_force = memory.with(|memory| memory.agent_policy == AgentPolicy::InForce);
        sleep(if in_force { LOOK } else { LOOK_AGAIN }).await;
    }
}

/// Looks once. Whether something else is known now; where looking fails, what was seen before stands.
pub async fn look_once(client: &Client, memory: &Memory) -> bool {
    match look(client).await {
        Ok(seen) => memory.with(|memory| std::mem::replace(&mut memory.agent_policy, seen)) != seen,
        Err(error) => {
            warn!(%error, policy = AGENT_POLICY, "cannot see whether agents are kept to their own nodes; trying again");
            false
        }
    }
}

async fn look(client: &Client) -> Result<AgentPolicy, Error> {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    let policy = policies.get_opt(AGENT_POLICY).await?;
    let binding = bindings.get_opt(AGENT_POLICY).await?;
    Ok(judge(policy.as_ref(), binding.as_ref()))
}

/// A policy without rules refuses nothing, nor does one whose binding only warns or is of another.
fn judge(
    policy: Option<&ValidatingAdmissionPolicy>,
    binding: Option<&ValidatingAdmissionPolicyBinding>,
) -> AgentPolicy {
    let refuses =
        policy.and_then(|policy| policy.spec.as_ref()?.validations.as_ref()).is_some_and(|all| !all.is_empty());
    let bound = binding.and_then(|binding| binding.spec.as_ref()).is_some_and(|spec| {
        let denies = spec.validation_actions.as_ref().is_some_and(|actions| actions.iter().any(|one| one == "Deny"));
        denies && spec.policy_name.as_deref() == Some(AGENT_POLICY)
    });
    if refuses && bound { AgentPolicy::InForce } else { AgentPolicy::Missing }
}

/// Works until the task is dropped. The operator is not ready before the policy was applied once.
pub async fn keep_applied(client: Client, health: Health) {
    let mut applied = false;
    loop {
        match apply(&client).await {
            Ok(()) => {
                if !applied {
                    info!(policy = AGENT_POLICY, "agents are kept to their own nodes");
                }
                applied = true;
                health.hold_back(false);
                sleep(EVERY).await;
            }
            Err(error) => {
                warn!(%error, policy = AGENT_POLICY, "cannot apply the policy that keeps agents to their own nodes; trying again");
                sleep(RETRY).await;
            }
        }
    }
}

/// The binding last: alone it would refuse nothing.
async fn apply(client: &Client) -> Result<(), Error> {
    let ours = PatchParams::apply(OPERATOR).force();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    policies.patch(AGENT_POLICY, &ours, &Patch::Apply(agent())).await?;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    bindings.patch(AGENT_POLICY, &ours, &Patch::Apply(agent_binding())).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_rules_that_are_bound_and_deny_are_in_force() {
        let (policy, binding) = (agent(), agent_binding());
        assert_eq!(judge(Some(&policy), Some(&binding)), AgentPolicy::InForce);
        assert_eq!(judge(None, Some(&binding)), AgentPolicy::Missing);
        assert_eq!(judge(Some(&policy), None), AgentPolicy::Missing);
        let mut empty = policy.clone();
        empty.spec.as_mut().unwrap().validations = Some(Vec::new());
        assert_eq!(judge(Some(&empty), Some(&binding)), AgentPolicy::Missing);
        let mut warns = binding.clone();
        warns.spec.as_mut().unwrap().validation_actions = Some(vec!["Warn".into()]);
        assert_eq!(judge(Some(&policy), Some(&warns)), AgentPolicy::Missing);
        let mut of_another = binding;
        of_another.spec.as_mut().unwrap().policy_name = Some("another".into());
        assert_eq!(judge(Some(&policy), Some(&of_another)), AgentPolicy::Missing);
    }
}
