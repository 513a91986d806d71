//! The only part of the operator that writes. It carries out what the engine planned: a bounded number of requests at a time,
//! never two to one object, each guarded so that it fails when it was decided on a stale view.
//!
//! A write that succeeded is in the caches before the next plan is made. One that failed is planned again, after a pause that
//! grows; what is planned then may be something else.

mod context;
mod driver;
pub mod evict;
mod layout;
mod ledger;
mod listed;
mod look;
mod node;
mod objects;
pub mod patch;
mod preflight;
mod record;
mod request;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cxi_manifests::kmm;
use cxi_rollout::{
    Action, Settings,
    action::{Announcement, Subject},
};
use futures::FutureExt;
use kube::Client;
use tokio::{
    sync::{Notify, Semaphore},
    time::timeout,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{debug, info, warn};

use crate::{
    clock::Clock,
    events::Events,
    memory::Memory,
    metrics::Metrics,
    observe::{Caches, Identity, Snapshot},
};
pub use context::Context;
use ledger::{Ledger, Turn};
pub use request::created_by_us as record_parameters;

/// Requests at a time about single nodes and pods.
const AT_ONCE: usize = 16;

/// Requests at a time about what serves all nodes, such as a status. Theirs is another queue: they would wait behind those of
/// a thousand nodes.
const FOR_ALL_AT_ONCE: usize = 4;

/// No request takes longer. After that it is not known whether the API server carried it out; the caches will tell.
const REQUEST: Duration = Duration::from_secs(30);

/// An action that has waited this long for its turn is planned again instead.
const STALE: Duration = Duration::from_secs(5);

/// Why an action was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What it was decided on is not so any more.
    #[error("decided on a stale view: {0}")]
    Stale(String),
    /// The API server said no, or could not be reached.
    #[error("{}", words(.0))]
    Api(#[from] kube::Error),
    /// What a CXIDriver leads to is not valid, because something of the CXIDriver is not.
    #[error("the API server refuses {kind} {name}: {why}")]
    Refused {
        /// Kind of the object.
        kind: &'static str,
        /// Its name.
        name: String,
        /// The API server's words.
        why: String,
    },
    /// The layout that images are to be built by cannot be used.
    #[error("no image can be built: {0}")]
    Layout(String),
    /// An operand would end as soon as it starts, because of a field that the CRD let in before it had its present rules.
    #[error("DaemonSet {name} stays as it is, because its pods would not start: {}", faults.join("; "))]
    Unfit {
        /// Its name.
        name: String,
        /// The fields, and what helps.
        faults: Vec<String>,
    },
    /// An object that a look needs cannot be read.
    #[error("{0} cannot be read: {1}")]
    Unreadable(String, String),
    /// No answer in time. The API server may have carried the request out.
    #[error("no answer within {} s", REQUEST.as_secs())]
    TimedOut,
    /// A bug; the message is in the log.
    #[error("it ended in a panic")]
    Panicked,
    /// A value that cannot be written as JSON.
    #[error("cannot write it as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    fn stale(why: impl Into<String>) -> Self {
        Self::Stale(why.into())
    }

    /// 404: it is gone. 409: another client wrote or created it. 422: a `test` of the patch failed.
    fn is_stale(&self) -> bool {
        match self {
            Self::Stale(_) => true,
            Self::Api(kube::Error::Api(status)) => matches!(status.code, 404 | 409 | 422),
            _ => false,
        }
    }
}

/// The API server's own words; kube would add the whole answer.
fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => format!("{} ({} {})", status.message, status.code, status.reason),
        other => other.to_string(),
    }
}

/// Carries out actions.
#[derive(Clone)]
pub struct Actor(Arc<Inner>);

/// What actions are carried out with.
pub struct Parts {
    /// Client that does not retry by itself: the default one would sit on a refused eviction for minutes.
    pub client: Client,
    /// Where answers to writes go.
    pub caches: Arc<Caches>,
    /// Where looks and refusals go.
    pub memory: Arc<Memory>,
    /// Who we are.
    pub identity: Identity,
    /// Time limits.
    pub settings: Settings,
    /// The clock.
    pub clock: Clock,
    /// Events.
    pub events: Events,
    /// Counters.
    pub metrics: Metrics,
    /// Told when an action is done.
    pub finished: Arc<Notify>,
}

struct Inner {
    parts: Parts,
    gate: Semaphore,
    gate_for_all: Semaphore,
    ledger: Mutex<Ledger>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Actor {
    /// An actor that starts nothing any more once `stop` is cancelled.
    pub fn new(parts: Parts, stop: CancellationToken) -> Self {
        Self(Arc::new(Inner {
            parts,
            gate: Semaphore::new(AT_ONCE),
            gate_for_all: Semaphore::new(FOR_ALL_AT_ONCE),
            ledger: Mutex::default(),
            tasks: TaskTracker::new(),
            stop,
        }))
    }

    /// A mark to be taken before a snapshot is made, see [`Actor::submit`].
    pub fn epoch(&self) -> u64 {
        self.ledger().epoch()
    }

    /// Starts the actions that were planned on `seen`, which was made after the mark `epoch`. What is under way already, was
    /// done since that mark, or has to pause, is left out. Returns when to plan again for the sake of what had to pause.
    pub fn submit(&self, actions: Vec<Action>, seen: &Arc<Snapshot>, epoch: u64) -> Option<Instant> {
        let mut again: Option<Instant> = None;
        for action in actions {
            if let Action::Announce(announcement) = action {
                self.0.parts.events.publish(&announcement, seen, &self.0.tasks);
                continue;
            }
            let target = action.subject();
            match self.ledger().begin(&target, &action, epoch, Instant::now()) {
                Turn::Go => self.start(action, target, seen.clone()),
                Turn::Busy => {}
                Turn::NotBefore(at) => again = Some(again.map_or(at, |again| again.min(at))),
            }
        }
        again
    }

    /// Waits until what is under way is done.
    pub async fn finish(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    fn start(&self, action: Action, target: Subject, seen: Arc<Snapshot>) {
        let actor = self.clone();
        let planned = Instant::now();
        self.0.tasks.spawn(async move {
            // A bug in one action must not keep its object locked for ever.
            let result = AssertUnwindSafe(actor.carry_out(&action, &target, &seen, planned)).catch_unwind().await;
            let result = result.unwrap_or(Some(Err(Error::Panicked)));
            if let Some(result) = &result {
                report(&Context::of(&action, &seen), result);
            }
            if let Some(about) = result.as_ref().and_then(|result| refused(&action, result)) {
                actor.0.parts.events.publish(&about, &seen, &actor.0.tasks);
            }
            actor.ledger().end(&target, &action, result.as_ref(), Instant::now());
            actor.0.parts.finished.notify_one();
        });
    }

    /// `None` when it was not even tried.
    async fn carry_out(
        &self,
        action: &Action,
        target: &Subject,
        seen: &Snapshot,
        planned: Instant,
    ) -> Option<Result<(), Error>> {
        let gate = if target.serves_all_nodes() { &self.0.gate_for_all } else { &self.0.gate };
        let _permit = gate.acquire().await.ok()?;
        if self.0.stop.is_cancelled() || planned.elapsed() > STALE {
            return None;
        }
        let outcome = timeout(REQUEST, self.0.parts.execute(action, seen)).await;
        Some(outcome.unwrap_or(Err(Error::TimedOut)))
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an administrator is told of an object that the API server refuses, or that cannot be made, because something of the CXIDriver
/// is not valid.
fn refused(action: &Action, result: &Result<(), Error>) -> Option<Announcement> {
    let error = result.as_ref().err()?;
    let (driver, reason) = match (action, error) {
        (Action::ApplyOperands { driver, .. }, Error::Refused { .. } | Error::Unfit { .. }) => {
            (driver, "OperandRefused")
        }
        (Action::CreateModule { driver, .. } | Action::CreateContainerfile { driver, .. }, Error::Refused { .. }) => {
            (driver, "ModuleRefused")
        }
        (Action::CreateContainerfile { driver, .. }, Error::Layout(_)) => (driver, "LayoutRefused"),
        _ => return None,
    };
    let (driver, reason, message) = (driver.clone(), reason.to_owned(), error.to_string());
    Some(Announcement { driver, node: None, warning: true, reason, message })
}

impl Parts {
    async fn execute(&self, action: &Action, seen: &Snapshot) -> Result<(), Error> {
        match action {
            Action::AddFinalizer { driver } => self.add_finalizer(driver, seen).await,
            Action::RemoveFinalizer { driver } => self.remove_finalizer(driver, seen).await,
            Action::WriteDriverStatus { driver, status, .. } => self.write_status(driver, status, seen).await,
            Action::CreateModule { driver, revision, spec } => self.create_module(driver, revision, spec, seen).await,
            Action::CreateContainerfile { driver, revision, spec } => {
                self.create_containerfile(driver, revision, spec, seen).await
            }
            Action::AskForImages { preflight, uid, driver, revision, spec, kernels } => {
                let namespace = &self.identity.namespace;
                let question = kmm::question(preflight, uid, driver, spec, revision, kernels, namespace);
                self.ask_for_images(&question).await
            }
            Action::WritePreflightStatus { preflight, uid, status } => {
                self.write_preflight(preflight, uid, status, seen).await
            }
            Action::DeletePreflight { preflight, uid } => self.delete_preflight(preflight, uid).await,
            Action::DeleteModule { revision } => self.delete_module(revision, seen).await,
            Action::ApplyOperands { driver, spec } => self.apply_operands(driver, spec, seen).await,
            Action::DeleteOperands { driver } => self.delete_operands(driver, seen).await,
            Action::CreateRecord { node, uid } => self.create_record(node, uid).await,
            Action::DeleteRecord { node, uid } => self.delete_record(node, uid).await,
            Action::WriteRollout { node, uid, was, now } => {
                self.write_rollout(node, uid, was.as_deref(), now, seen).await
            }
            Action::PatchNode { node, uid, changes } => self.patch_node(node, uid, changes, seen).await,
            Action::Unload { node, uid, label, value, proof } => {
                self.unload(node, uid, (label, value), proof, seen).await
            }
            Action::Load { node, uid, label, value, proof } => self.load(node, uid, (label, value), proof, seen).await,
            Action::StartPrefetch { .. }
            | Action::StartCleanup { .. }
            | Action::StartHostDriver { .. }
            | Action::StartValidation { .. } => self.start_pod(action).await,
            Action::DeleteOwnPod { name, uid } => self.delete_own_pod(name, uid).await,
            Action::Evict { driver, pod, .. } => self.evict(driver, pod).await,
            Action::ForceDelete { driver, pod, grace, .. } => self.force_delete(driver, pod, *grace).await,
            Action::Look { node, resources, step } => self.look(node, resources, *step, seen).await,
            Action::SayUnreadable { driver, uid, message } => self.say_unreadable(driver, uid, message).await,
            // Not a write to an object that plans depend on.
            Action::Announce(_) => Ok(()),
        }
    }
}

/// The one place that logs steps: each line says which node, driver, phase and rollout it is about.
fn report(context: &Context, result: &Result<(), Error>) {
    let Context { step, node, driver, phase, rollout, quiet } = context;
    let (node, driver, phase, rollout) = (node.as_deref(), driver.as_deref(), phase.as_deref(), rollout.as_deref());
    match result {
        Ok(()) if *quiet => debug!(node, driver, phase, rollout, "{step}"),
        Ok(()) => info!(node, driver, phase, rollout, "{step}"),
        Err(error) if error.is_stale() => debug!(node, driver, phase, rollout, %error, "{step}: not done"),
        Err(error) => warn!(node, driver, phase, rollout, %error, "{step} failed; it will be tried again"),
    }
}
