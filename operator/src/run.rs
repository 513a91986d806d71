//! Puts the operator together and runs it until it is told to stop.

use std::{
    process,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::{Context, Result};
use kube::{Client, Config};
use tokio::{sync::Notify, task::JoinSet, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    act::{Actor, Parts},
    agent_policy, client,
    clock::Clock,
    events::Events,
    flags::Flags,
    health::Health,
    http, injection,
    leader::Candidate,
    memory::Memory,
    metrics::Metrics,
    observe::{Caches, Identity},
    reconcile::{self, Loop},
    side::Side,
};

/// The loop takes a turn at least every 30 s.
const LOOP_PULSE: Duration = Duration::from_mins(2);

/// How long the first plan waits for the first look at the policy for agents.
const FIRST_LOOK: Duration = Duration::from_secs(5);

/// Actions under way may take this long after the signal to stop; Kubernetes kills after 30 s.
const FINISH: Duration = Duration::from_secs(20);

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the operator cannot start, or loses its Lease: then it must not write any more, and the process is to end.
pub async fn run(flags: Flags) -> Result<()> {
    let identity =
        Identity { namespace: flags.namespace()?, own_node: flags.node_name.clone(), images: flags.images() };
    let times = flags.lease()?;
    let stop = cxi_node::stop_signal().context("cannot listen for signals")?;
    let metrics = Metrics::default();
    let config = Config::infer().await.context("cannot find a cluster to connect to")?;
    let client = connect(config, &metrics, &flags)?;
    let health = Health::default();
    let listener = http::listen(flags.listen).await?;
    info!(namespace = identity.namespace, address = %listener.local_addr()?, "operator starts");

    let changed = Arc::new(Notify::new());
    let caches = Arc::new(Caches::new(&changed));
    let mut watches = caches.watch(&client, &identity.namespace, &health);
    let mut side = Side::default();
    side.spawn("watches whether all is read", reconcile::keep_ready(caches.clone(), health.clone()));
    if flags.apply_agent_policy {
        health.hold_back(true);
        side.spawn("applies the policy for agents", agent_policy::keep_applied(client.clone(), health.clone()));
    }
    let ended = CancellationToken::new();
    let answers = http::serve(listener, flags.node_ips.clone(), health.clone(), metrics.clone(), ended.clone());
    let server = tokio::spawn(answers);

    let name = instance();
    let mut candidate =
        (!flags.no_leader_election).then(|| Candidate::new(client.clone(), &identity.namespace, name.clone(), times));
    let leads = match &mut candidate {
        Some(candidate) => tokio::select! {
            leads = candidate.win(&stop) => leads,
            error = side.ended() => return Err(error),
        },
        None => true,
    };
    let outcome = if leads {
        let working = assemble(&flags, client.clone(), caches.clone(), identity, metrics, changed.clone(), name, &stop);
        let (memory, poke) = (working.memory.clone(), changed.clone());
        side.spawn("looks for the policy that adds sidecars", injection::watch(client.clone(), caches, memory, poke));
        // Before the first plan: it would say of every CXIDriver that nothing is known of the policy for agents.
        let _ = timeout(FIRST_LOOK, agent_policy::look_once(&client, &working.memory)).await;
        let looks = agent_policy::watch(client, working.memory.clone(), changed);
        side.spawn("looks for the policy for agents", looks);
        work(working, candidate, &health, &stop, &mut watches, &mut side).await
    } else {
        Ok(())
    };
    ended.cancel();
    let _ = timeout(Duration::from_secs(1), server).await;
    outcome
}

#[allow(clippy::too_many_arguments, reason = "these are the parts")]
fn assemble(
    flags: &Flags,
    client: Client,
    caches: Arc<Caches>,
    identity: Identity,
    metrics: Metrics,
    changed: Arc<Notify>,
    name: String,
    stop: &CancellationToken,
) -> Loop {
    let memory = Arc::new(Memory::default());
    let clock = Clock::default();
    let settings = flags.settings();
    let parts = Parts {
        events: Events::new(client.clone(), name),
        client,
        caches: caches.clone(),
        memory: memory.clone(),
        identity: identity.clone(),
        settings: settings.clone(),
        clock: clock.clone(),
        metrics: metrics.clone(),
        finished: changed.clone(),
    };
    let actor = Actor::new(parts, stop.clone());
    Loop {
        caches,
        memory,
        actor,
        identity,
        settings,
        clock,
        metrics,
        changed,
        slow: AtomicBool::new(false),
        #[cfg(feature = "faults")]
        delay: flags.fault_turn.0,
    }
}

/// Plans and acts until stopped, or until the Lease is lost.
async fn work(
    working: Loop,
    candidate: Option<Candidate>,
    health: &Health,
    stop: &CancellationToken,
    watches: &mut JoinSet<()>,
    side: &mut Side,
) -> Result<()> {
    let released = CancellationToken::new();
    let hold = {
        let released = released.clone();
        async move {
            if let Some(mut candidate) = candidate {
                return candidate.hold(&released).await;
            }
            released.cancelled().await;
            Ok(())
        }
    };
    let mut hold = tokio::spawn(hold);
    let pulse = health.expect("reconcile loop", LOOP_PULSE);
    tokio::select! {
        () = working.run(&pulse, stop) => {}
        lost = &mut hold => lost.context("the task that holds the Lease failed")??,
        _ = watches.join_next() => anyhow::bail!("a watch ended"),
        error = side.ended() => return Err(error),
    }
    info!("stopping: actions under way finish, none starts");
    if timeout(FINISH, working.actor.finish()).await.is_err() {
        warn!("actions under way did not finish in time");
    }
    released.cancel();
    hold.await.context("the task that holds the Lease failed")??;
    info!("stopped");
    Ok(())
}

#[cfg(not(feature = "faults"))]
fn connect(config: Config, metrics: &Metrics, _: &Flags) -> Result<Client> {
    client::build(config, metrics).context("cannot connect to the cluster")
}

#[cfg(feature = "faults")]
fn connect(config: Config, metrics: &Metrics, flags: &Flags) -> Result<Client> {
    let client = match flags.fault_write {
        Some(fault) => client::build_with_fault(config, metrics, fault),
        None => client::build(config, metrics),
    };
    client.context("cannot connect to the cluster")
}

/// A name that no other process has: that of the pod, and the process.
fn instance() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let now = jiff::Timestamp::now().as_microsecond();
    format!("{}_{}_{now}", host.trim(), process::id())
}
