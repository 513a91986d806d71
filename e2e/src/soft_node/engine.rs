//! Runs the soft nodes: three watches in all, one timer for all nodes, and at most one task at work per node.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cxi_api::{CXINode, names::AGENT};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Node, Pod},
};
use kube::{
    Api, Client, Error,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
    runtime::watcher,
};
use serde_json::Value;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::plain::Plain;
use crate::watch::follow;

use super::{
    node::{Outcome, Write},
    state::State,
};

/// Field manager of a soft kubelet.
const KUBELET: &str = "kubelet";

/// How many nodes write at the same time.
const PARALLEL: usize = 48;

/// How often a node looks again at once before it lets others.
const ROUNDS: usize = 8;

/// How long one write may take.
const WRITE_WITHIN: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Shared {
    state: Mutex<State>,
    wake: mpsc::UnboundedSender<String>,
}

impl Shared {
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // Every change under the lock is complete before anything can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a node look at its state soon.
    pub(crate) fn wake(&self, node: &str) {
        // Fails only after the engine has stopped.
        let _ = self.wake.send(node.to_owned());
    }
}

/// Starts the engine; its tasks end when `stop` is cancelled.
pub(crate) fn start(client: &Client, state: State, stop: &CancellationToken) -> (Arc<Shared>, JoinSet<()>) {
    let (wake, woken) = mpsc::unbounded_channel();
    let shared = Arc::new(Shared { state: Mutex::new(state), wake });
    let mut tasks = JoinSet::new();
    let config = watcher::Config::default;
    tasks.spawn(follow(
        Api::<Plain<Pod>>::all(client.clone()),
        // Unscheduled pods concern no node.
        config().fields("spec.nodeName!="),
        stop.clone(),
        waking(&shared, |state, seen| state.see_pod(&seen)),
    ));
    tasks.spawn(follow(
        Api::<Plain<CXINode>>::all(client.clone()),
        config(),
        stop.clone(),
        waking(&shared, |state, seen| state.see_cxi(&seen)),
    ));
    tasks.spawn(follow(
        Api::<Plain<Node>>::all(client.clone()),
        config(),
        stop.clone(),
        waking(&shared, |state, seen| state.see_node(&seen)),
    ));
    tasks.spawn(dispatch(shared.clone(), woken, client.clone(), stop.clone()));
    (shared, tasks)
}

fn waking<T, F>(shared: &Arc<Shared>, see: F) -> impl FnMut(T) + use<T, F>
where
    F: Fn(&mut State, T) -> Option<String>,
{
    let shared = shared.clone();
    move |seen| {
        let node = see(&mut shared.state(), seen);
        if let Some(node) = node {
            shared.wake(&node);
        }
    }
}

/// When each node is to be looked at.
#[derive(Default)]
struct Agenda {
    due: HashMap<String, Instant>,
    order: BTreeSet<(Instant, String)>,
    at_work: HashSet<String>,
}

impl Agenda {
    fn add(&mut self, node: String, at: Instant) {
        if self.due.get(&node).is_some_and(|due| *due <= at) {
            return;
        }
        if let Some(later) = self.due.insert(node.clone(), at) {
            self.order.remove(&(later, node.clone()));
        }
        self.order.insert((at, node));
    }

    /// The nodes that are due and not at work.
    fn take(&mut self, now: Instant) -> Vec<String> {
        let due: Vec<String> =
            self.order.iter().take_while(|(at, _)| *at <= now).map(|(_, node)| node.clone()).collect();
        let free: Vec<String> = due.into_iter().filter(|node| self.at_work.insert(node.clone())).collect();
        for node in &free {
            if let Some(at) = self.due.remove(node) {
                self.order.remove(&(at, node.clone()));
            }
        }
        free
    }

    fn next(&self) -> Option<Instant> {
        self.order.iter().find(|(_, node)| !self.at_work.contains(node)).map(|(at, _)| *at)
    }
}

async fn dispatch(
    shared: Arc<Shared>,
    mut woken: mpsc::UnboundedReceiver<String>,
    client: Client,
    stop: CancellationToken,
) {
    let mut agenda = Agenda::default();
    let mut working = JoinSet::new();
    let permits = Arc::new(Semaphore::new(PARALLEL));
    loop {
        for node in agenda.take(Instant::now()) {
            let (shared, client, permits) = (shared.clone(), client.clone(), permits.clone());
            working.spawn(async move {
                let _permit = permits.acquire().await;
                let next = step(&shared, &client, &node).await;
                (node, next)
            });
        }
        let next = agenda.next();
        let sleep = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            Some(node) = woken.recv() => agenda.add(node, Instant::now()),
            Some(Ok((node, next))) = working.join_next() => {
                agenda.at_work.remove(&node);
                if let Some(at) = next {
                    agenda.add(node, at);
                }
            }
            () = sleep => {}
        }
    }
}

/// Lets a node get on and writes what it wants written, until it is at rest.
async fn step(shared: &Shared, client: &Client, node: &str) -> Option<Instant> {
    for _ in 0..ROUNDS {
        let (writes, next) = shared.state().advance(node);
        if writes.is_empty() {
            return next;
        }
        for write in writes {
            let outcome = match tokio::time::timeout(WRITE_WITHIN, perform(client, node, &write)).await {
                Ok(Ok(())) => Outcome::Done,
                Ok(Err(Error::Api(status))) if status.code == 404 => Outcome::Gone,
                // Another object of the same name, of which the watch will tell, or a change in between.
                Ok(Err(Error::Api(status))) if status.code == 409 => Outcome::Failed,
                Ok(Err(error)) => {
                    tracing::warn!(node, %error, "soft node could not write");
                    Outcome::Failed
                }
                Err(_) => Outcome::Failed,
            };
            shared.state().written(node, &write, outcome);
        }
    }
    Some(Instant::now())
}

async fn perform(client: &Client, node: &str, write: &Write) -> kube::Result<()> {
    let merge = PatchParams { field_manager: Some(KUBELET.into()), ..PatchParams::default() };
    let nodes: Api<Node> = Api::all(client.clone());
    match write {
        Write::CreateNode(object) => {
            let object: Node = from_json(object)?;
            // A node of that name that is there already is taken over, as a kubelet does.
            ignore_conflict(nodes.create(&PostParams::default(), &object).await)
        }
        Write::NodeStatus(body) => nodes.patch_status(node, &merge, &Patch::Strategic(body)).await.map(|_| ()),
        Write::Lease(body) => {
            let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
            let apply = PatchParams::apply(KUBELET).force();
            leases.patch(node, &apply, &Patch::Apply(body)).await.map(|_| ())
        }
        Write::PodStatus { namespace, name, body, .. } => {
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            pods.patch_status(name, &merge, &Patch::Strategic(body)).await.map(|_| ())
        }
        Write::DeletePod { namespace, name, uid } => {
            let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
            let this = Preconditions { uid: Some(uid.clone()), resource_version: None };
            let at_once = DeleteParams::default().grace_period(0).preconditions(this);
            pods.delete(name, &at_once).await.map(|_| ())
        }
        Write::Report(body) => {
            let cxi: Api<CXINode> = Api::all(client.clone());
            let apply = PatchParams::apply(AGENT).force();
            cxi.patch_status(node, &apply, &Patch::Apply(body)).await.map(|_| ())
        }
    }
}

fn ignore_conflict<T>(result: kube::Result<T>) -> kube::Result<()> {
    match result {
        Err(Error::Api(status)) if status.code == 409 => Ok(()),
        other => other.map(|_| ()),
    }
}

fn from_json<T: serde::de::DeserializeOwned>(value: &Value) -> kube::Result<T> {
    serde_json::from_value(value.clone()).map_err(Error::SerdeError)
}

/// Deletes a Node with its Lease, if they are there.
pub(crate) async fn delete_node(client: &Client, name: &str) -> kube::Result<()> {
    let gone = |result: kube::Result<()>| match result {
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        other => other,
    };
    let nodes: Api<Node> = Api::all(client.clone());
    gone(nodes.delete(name, &DeleteParams::default()).await.map(|_| ()))?;
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    gone(leases.delete(name, &DeleteParams::default()).await.map(|_| ()))
}

/// Waits until all tasks of an engine have ended.
pub(crate) async fn ended(mut tasks: JoinSet<()>) {
    while tasks.join_next().await.is_some() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_taken_once_and_at_its_earliest_time() {
        let mut agenda = Agenda::default();
        let now = Instant::now();
        let later = now + Duration::from_secs(1);
        agenda.add("a".into(), later);
        agenda.add("a".into(), now);
        agenda.add("b".into(), later);
        assert_eq!(agenda.take(now), ["a"]);
        agenda.add("a".into(), now);
        assert!(agenda.take(now).is_empty(), "a is at work");
        assert_eq!(agenda.next(), Some(later));
        agenda.at_work.remove("a");
        assert_eq!(agenda.take(later), ["a", "b"]);
    }
}
