//! One operator works at a time: the one that holds the Lease. The others keep their caches warm.
//!
//! As in client-go, the clocks of two machines are never compared: a Lease has run out when it has not *changed* for
//! its duration, by the watcher's own clock. Two may still work for a moment; every write is guarded for that.

use std::time::{Duration, Instant};

use cxi_api::names::OPERATOR;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{act::record_parameters, flags::LeaseTimes};

/// Why leadership ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Lease could not be renewed in time, or another operator has it.
    #[error("lost the Lease: {0}")]
    Lost(String),
}

/// What to do with the Lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: create it.
    Create,
    /// No operator has it, or it has run out: take it.
    Take,
    /// It is ours: renew it.
    Renew,
    /// Another operator has it.
    Wait,
}

/// Decides. `changed` is when the Lease was first seen as it is now.
pub fn decide(lease: Option<&LeaseSpec>, me: &str, changed: Instant, now: Instant, duration: Duration) -> Step {
    let Some(lease) = lease else { return Step::Create };
    match lease.holder_identity.as_deref() {
        None | Some("") => Step::Take,
        Some(holder) if holder == me => Step::Renew,
        Some(_) => {
            let stated = lease.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
            let lasts = stated.map_or(duration, Duration::from_secs);
            if now.saturating_duration_since(changed) > lasts { Step::Take } else { Step::Wait }
        }
    }
}

/// A candidate for the Lease.
pub struct Candidate {
    leases: Api<Lease>,
    me: String,
    times: LeaseTimes,
    seen: Option<(Option<LeaseSpec>, Instant)>,
}

impl Candidate {
    /// A candidate with a name that no other process has.
    pub fn new(client: Client, namespace: &str, me: String, times: LeaseTimes) -> Self {
        Self { leases: Api::namespaced(client, namespace), me, times, seen: None }
    }

    /// Returns when the Lease is ours; `false` when stopped before.
    pub async fn win(&mut self, stop: &CancellationToken) -> bool {
        loop {
            match timeout(self.times.deadline, self.attempt()).await {
                Ok(Ok(true)) => {
                    info!(identity = self.me, "leading");
                    return true;
                }
                Ok(Ok(false)) => {}
                Ok(Err(kube::Error::Api(status))) if status.code == 403 => warn!(
                    error = status.message,
                    "not allowed to use Leases in the operator's namespace; its RoleBinding must name the namespace that it \
                     runs in (a package of OLM is bound to {}); trying again",
                    cxi_manifests::rights::NAMESPACE
                ),
                Ok(Err(error)) => warn!(%error, "cannot get at the Lease; trying again"),
                Err(_) => warn!("no answer about the Lease; trying again"),
            }
            tokio::select! {
                () = stop.cancelled() => return false,
                () = sleep(self.times.retry) => {}
            }
        }
    }

    /// Renews the Lease until stopped, then gives it up once `done`.
    ///
    /// # Errors
    /// When the Lease is lost: then the process must end at once.
    pub async fn hold(&mut self, done: &CancellationToken) -> Result<(), Error> {
        let mut renewed = Instant::now();
        loop {
            tokio::select! {
                () = done.cancelled() => {
                    self.release().await;
                    return Ok(());
                }
                () = sleep(self.times.retry) => {}
            }
            let left = self.times.deadline.saturating_sub(renewed.elapsed());
            let began = Instant::now();
            match timeout(left, self.attempt()).await {
                Ok(Ok(true)) => renewed = began,
                Ok(Ok(false)) => return Err(Error::Lost("another operator has it".to_owned())),
                Ok(Err(error)) => debug!(%error, "cannot renew the Lease; trying again"),
                Err(_) => debug!("no answer about the Lease"),
            }
            if renewed.elapsed() >= self.times.deadline {
                return Err(Error::Lost(format!("not renewed for {} s", self.times.deadline.as_secs())));
            }
        }
    }

    /// Whether the Lease is ours after one try.
    async fn attempt(&mut self) -> Result<bool, kube::Error> {
        let lease = self.leases.get_opt(OPERATOR).await?;
        let spec = lease.as_ref().and_then(|lease| lease.spec.clone());
        let now = Instant::now();
        let changed = match &self.seen {
            Some((seen, at)) if *seen == spec => *at,
            _ => now,
        };
        self.seen = Some((spec.clone(), changed));
        let held = lease.as_ref().map(|_| spec.clone().unwrap_or_default());
        let wanted = match decide(held.as_ref(), &self.me, changed, now, self.times.duration) {
            Step::Wait => return Ok(false),
            Step::Create | Step::Take => self.taken(spec.as_ref()),
            Step::Renew => LeaseSpec { renew_time: micro_now(), ..spec.unwrap_or_default() },
        };
        let written = match lease {
            None => {
                let metadata = ObjectMeta { name: Some(OPERATOR.to_owned()), ..ObjectMeta::default() };
                let lease = Lease { metadata, spec: Some(wanted) };
                self.leases.create(&record_parameters(), &lease).await
            }
            // With the resource version that was read: of two who take it, one fails.
            Some(lease) => {
                let lease = Lease { spec: Some(wanted), ..lease };
                self.leases.replace(OPERATOR, &record_parameters(), &lease).await
            }
        };
        match written {
            Ok(lease) => {
                self.seen = Some((lease.spec, now));
                Ok(true)
            }
            // Another client wrote: look again.
            Err(kube::Error::Api(status)) if status.code == 409 => {
                debug!("another client wrote the Lease meanwhile");
                Err(kube::Error::Api(status))
            }
            Err(error) => Err(error),
        }
    }

    fn taken(&self, before: Option<&LeaseSpec>) -> LeaseSpec {
        let transitions = before.and_then(|before| before.lease_transitions).unwrap_or(0);
        let by_other = before.is_some_and(|before| before.holder_identity.as_deref() != Some(&self.me));
        LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(self.times.duration.as_secs()).ok(),
            acquire_time: micro_now(),
            renew_time: micro_now(),
            lease_transitions: Some(transitions.saturating_add(i32::from(by_other))),
            ..LeaseSpec::default()
        }
    }

    /// Gives the Lease up, so that the next operator need not wait for it to run out.
    async fn release(&self) {
        let give_up = async {
            let mut lease = self.leases.get(OPERATOR).await?;
            let spec = lease.spec.get_or_insert_default();
            if spec.holder_identity.as_deref() == Some(&self.me) {
                spec.holder_identity = Some(String::new());
                spec.lease_duration_seconds = Some(1);
                spec.renew_time = micro_now();
                self.leases.replace(OPERATOR, &record_parameters(), &lease).await?;
            }
            Ok::<(), kube::Error>(())
        };
        match timeout(self.times.retry, give_up).await {
            Ok(Ok(())) => debug!("gave up the Lease"),
            Ok(Err(error)) => warn!(%error, "could not give up the Lease; it will run out"),
            Err(_) => warn!("could not give up the Lease in time; it will run out"),
        }
    }
}

#[allow(clippy::unnecessary_wraps, reason = "the type of the field")]
fn micro_now() -> Option<MicroTime> {
    Some(MicroTime(jiff::Timestamp::now()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const DURATION: Duration = Duration::from_secs(15);

    fn lease(holder: Option<&str>, seconds: Option<i32>) -> LeaseSpec {
        LeaseSpec {
            holder_identity: holder.map(str::to_owned),
            lease_duration_seconds: seconds,
            ..LeaseSpec::default()
        }
    }

    #[rstest]
    #[case::none(None, 0, Step::Create)]
    #[case::nobodys(Some(lease(None, None)), 0, Step::Take)]
    #[case::given_up(Some(lease(Some(""), Some(1))), 0, Step::Take)]
    #[case::mine(Some(lease(Some("me"), Some(15))), 100, Step::Renew)]
    #[case::fresh(Some(lease(Some("other"), Some(15))), 15, Step::Wait)]
    #[case::run_out(Some(lease(Some("other"), Some(15))), 16, Step::Take)]
    #[case::lasts_longer(Some(lease(Some("other"), Some(60))), 59, Step::Wait)]
    #[case::says_nothing(Some(lease(Some("other"), None)), 16, Step::Take)]
    #[case::nonsense(Some(lease(Some("other"), Some(-5))), 14, Step::Wait)]
    fn table(#[case] lease: Option<LeaseSpec>, #[case] unchanged: u64, #[case] expected: Step) {
        let changed = Instant::now();
        let now = changed + Duration::from_secs(unchanged);
        assert_eq!(decide(lease.as_ref(), "me", changed, now, DURATION), expected);
    }
}
