//! Applies the admission policy that keeps node agents to their own nodes, where the installation cannot carry it. It is applied
//! again and again, so that it comes back when somebody changes or deletes it.

use std::time::Duration;

use cxi_api::names::OPERATOR;
use k8s_openapi::api::admissionregistration::v1::{ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding};
use kube::{
    Api, Client, Error,
    api::{Patch, PatchParams},
};
use tokio::time::sleep;
use tracing::{info, warn};

use crate::{
    health::Health,
    policy::{AGENT, agent, agent_binding},
};

/// Pause after it was applied.
const EVERY: Duration = Duration::from_mins(10);

/// Pause after it could not be.
const RETRY: Duration = Duration::from_secs(5);

/// Works until the task is dropped. The operator is not ready before the policy was applied once.
pub async fn keep_applied(client: Client, health: Health) {
    let mut applied = false;
    loop {
        match apply(&client).await {
            Ok(()) => {
                if !applied {
                    info!(policy = AGENT, "agents are kept to their own nodes");
                }
                applied = true;
                health.hold_back(false);
                sleep(EVERY).await;
            }
            Err(error) => {
                warn!(%error, policy = AGENT, "cannot apply the policy that keeps agents to their own nodes; trying again");
                sleep(RETRY).await;
            }
        }
    }
}

/// The binding last: alone it would refuse nothing.
async fn apply(client: &Client) -> Result<(), Error> {
    let ours = PatchParams::apply(OPERATOR).force();
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client.clone());
    policies.patch(AGENT, &ours, &Patch::Apply(agent())).await?;
    let bindings: Api<ValidatingAdmissionPolicyBinding> = Api::all(client.clone());
    bindings.patch(AGENT, &ours, &Patch::Apply(agent_binding())).await?;
    Ok(())
}
