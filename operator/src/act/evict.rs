//! How pods leave a node: through the Eviction API, which obeys PodDisruptionBudgets; deleted only when the admin said so.

use std::time::Duration;

use cxi_rollout::world::{Holder, Refusal};
use k8s_openapi::api::core::v1;
use kube::{Api, api::DeleteParams, core::Status};
use serde_json::{Value, json};

use crate::{
    act::{
        Error, Parts,
        ledger::jittered,
        request::{created_by_us, deleted, only},
    },
    endpoint::Endpoint,
    memory::Refused,
};

/// Pause after a budget's first refusal; doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_secs(5);

/// Longest pause after a refusal.
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// What the answer to an eviction means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The pod is not there any more.
    Gone,
    /// Not now.
    Refused {
        /// Name of the PodDisruptionBudget, if that is what is in the way.
        budget: Option<String>,
        /// For how long.
        pause: Duration,
    },
    /// Something else went wrong.
    Failed,
}

/// Reads the answer to an eviction that was not accepted, refused `times` times before.
pub fn classify(status: &Status, times: u32) -> Answer {
    let growing = (PAUSE * 2_u32.saturating_pow(times.min(6))).min(PAUSE_MAX);
    match status.code {
        404 | 409 => Answer::Gone,
        429 => {
            let details = status.details.as_ref();
            let cause = details.and_then(|d| d.causes.iter().find(|cause| cause.reason == "DisruptionBudget"));
            if let Some(cause) = cause {
                return Answer::Refused { budget: Some(budget_name(&cause.message)), pause: jittered(growing) };
            }
            let wait = Duration::from_secs(details.map_or(0, |details| details.retry_after_seconds).into());
            Answer::Refused { budget: None, pause: if wait.is_zero() { jittered(growing) } else { wait } }
        }
        // Only an administrator can help.
        500 if status.message.contains("more than one PodDisruptionBudget") => {
            Answer::Refused { budget: None, pause: PAUSE_MAX }
        }
        _ => Answer::Failed,
    }
}

/// The name in `The disruption budget NAME needs 2 healthy pods …` (kube-apiserver `pkg/registry/core/pod/storage`).
fn budget_name(message: &str) -> String {
    let rest = message.split_once("disruption budget ").map_or("", |(_, rest)| rest);
    rest.split_whitespace().next().unwrap_or_default().trim_matches('"').to_owned()
}

/// The body of the request. (`Api::evict` of kube 5.0 sends its options under a name that the API server does not know, so
/// that the precondition is lost.)
fn eviction(pod: &Holder) -> Value {
    json!({
        "apiVersion": "policy/v1",
        "kind": "Eviction",
        "metadata": { "namespace": pod.namespace, "name": pod.name },
        "deleteOptions": { "preconditions": { "uid": pod.uid } },
    })
}

impl Parts {
    /// Asks for an eviction, once per pod.
    pub(super) async fn evict(&self, driver: &str, pod: &Holder) -> Result<(), Error> {
        if pod.ends.is_some() || self.memory.with(|memory| memory.evicted.contains(&pod.uid)) {
            return Ok(());
        }
        let api: Api<v1::Pod> = Api::namespaced(self.client.clone(), &pod.namespace);
        let answer: Result<Value, kube::Error> =
            api.create_subresource("eviction", &pod.name, &created_by_us(), &eviction(pod)).await;
        let status = match answer {
            Ok(_) => {
                self.memory.with(|memory| {
                    memory.refusals.remove(&pod.uid);
                    memory.evicted.insert(pod.uid.clone());
                });
                self.metrics.evicted(driver, "evicted");
                return Ok(());
            }
            Err(kube::Error::Api(status)) => status,
            Err(error) => {
                self.metrics.evicted(driver, "error");
                return Err(error.into());
            }
        };
        let times = self.memory.with(|memory| memory.refusals.get(&pod.uid).map_or(0, |known| known.times));
        match classify(&status, times) {
            Answer::Gone => {
                self.metrics.evicted(driver, "gone");
                Err(Error::stale("the pod is gone"))
            }
            Answer::Refused { budget, pause } => {
                let blocked = budget.is_some();
                let refusal = Refusal {
                    retry_at: self.clock.now() + pause,
                    budget: budget.map(|name| format!("{}/{name}", pod.namespace)),
                    message: said(&status),
                };
                let refused = Refused { refusal, times: times.saturating_add(1) };
                self.memory.with(|memory| memory.refusals.insert(pod.uid.clone(), refused));
                self.metrics.evicted(driver, if blocked { "blocked" } else { "refused" });
                Ok(())
            }
            Answer::Failed => {
                self.metrics.evicted(driver, "error");
                Err(kube::Error::Api(status).into())
            }
        }
    }

    /// Deletes a pod, and gives it `grace` to end. For one that ends already the API server shortens the time.
    pub(super) async fn force_delete(&self, driver: &str, pod: &Holder, grace: Duration) -> Result<(), Error> {
        let seconds = u32::try_from(grace.as_secs()).unwrap_or(u32::MAX);
        let parameters = DeleteParams { grace_period_seconds: Some(seconds), ..only(&pod.uid) };
        let answer = Endpoint::within(&self.client, &pod.namespace).delete(&pod.name, &parameters).await?;
        deleted(&self.caches.holders, &pod.uid, answer);
        self.metrics.evicted(driver, "deleted");
        Ok(())
    }
}

/// The server's words, with those about the budget.
fn said(status: &Status) -> String {
    let causes = status.details.iter().flat_map(|details| &details.causes).map(|cause| cause.message.as_str());
    std::iter::once(status.message.as_str()).chain(causes).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn status(code: u16, message: &str, details: &Value) -> Status {
        serde_json::from_value(json!({"code": code, "message": message, "details": details})).unwrap()
    }

    #[test]
    fn a_budget_is_named_and_the_pause_grows() {
        let details = json!({"causes": [{
            "reason": "DisruptionBudget",
            "message": "The disruption budget mpi-pdb needs 2 healthy pods and has 2 currently",
        }]});
        let status = status(429, "Cannot evict pod as it would violate the pod's disruption budget.", &details);
        for (times, least, most) in [(0, 4, 5), (1, 8, 10), (9, 48, 60)] {
            let Answer::Refused { budget, pause } = classify(&status, times) else { panic!("not refused") };
            assert_eq!(budget.as_deref(), Some("mpi-pdb"));
            assert!(pause >= Duration::from_secs(least) && pause <= Duration::from_secs(most), "{pause:?}");
        }
        assert!(said(&status).contains("mpi-pdb"));
    }

    #[rstest]
    #[case(404, "", Answer::Gone)]
    #[case(409, "the UID in the precondition does not match", Answer::Gone)]
    #[case(429, "busy", Answer::Refused { budget: None, pause: Duration::from_secs(7) })]
    #[case(500, "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.", Answer::Refused { budget: None, pause: PAUSE_MAX })]
    #[case(500, "etcd is gone", Answer::Failed)]
    #[case(403, "no", Answer::Failed)]
    fn answers(#[case] code: u16, #[case] message: &str, #[case] expected: Answer) {
        assert_eq!(classify(&status(code, message, &json!({"retryAfterSeconds": 7})), 0), expected);
    }
}
