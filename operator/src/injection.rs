//! Whether the cluster puts retry handlers into pods (`retryHandler.mode: sidecar`): it serves `MutatingAdmissionPolicies`, and
//! the one that does it is installed. It is looked at only while some CXIDriver wants it.

use std::{sync::Arc, time::Duration};

use cxi_api::names::SIDECAR_POLICY;
use cxi_rollout::world::Injection;
use kube::{
    Api, Client, Error,
    core::{ApiResource, DynamicObject, GroupVersionKind},
};
use tokio::{sync::Notify, time::sleep};
use tracing::warn;

use crate::{memory::Memory, observe::Caches};

/// Pause between two looks.
const EVERY: Duration = Duration::from_secs(15);

/// Pause while no CXIDriver wants sidecars. The operator asks nothing of the API server then.
const IDLE: Duration = Duration::from_secs(1);

const GROUP: &str = "admissionregistration.k8s.io";

const VERSION: &str = "v1";

/// Looks until the task is dropped.
pub async fn watch(client: Client, caches: Arc<Caches>, memory: Arc<Memory>, changed: Arc<Notify>) {
    loop {
        if !caches
            .drivers
            .all()
            .iter()
            .filter_map(|driver| driver.readable())
            .any(|driver| driver.spec.retry_handler.runs_in_pods())
        {
            sleep(IDLE).await;
            continue;
        }
        match look(&client).await {
            Ok(seen) => {
                let before = memory.with(|memory| std::mem::replace(&mut memory.injection, seen));
                if before != seen {
                    changed.notify_one();
                }
            }
            // What was seen before stands.
            Err(error) => warn!(%error, "cannot see whether retry handlers are put into pods; trying again"),
        }
        sleep(EVERY).await;
    }
}

async fn look(client: &Client) -> Result<Injection, Error> {
    let served = client.list_api_group_resources(&format!("{GROUP}/{VERSION}")).await?;
    if !served.resources.iter().any(|resource| resource.name == "mutatingadmissionpolicies") {
        return Ok(Injection::NotServed);
    }
    for kind in ["MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding"] {
        let plural =
            if kind.ends_with("Binding") { "mutatingadmissionpolicybindings" } else { "mutatingadmissionpolicies" };
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind), plural);
        let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
        if api.get_opt(SIDECAR_POLICY).await?.is_none() {
            return Ok(Injection::NotInstalled);
        }
    }
    Ok(Injection::InForce)
}
