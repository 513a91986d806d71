//! The oracle: watches the API and the machines beside the operator, independent of its code, and checks the invariants of
//! the ordered upgrade at every event. A scenario passes only if the oracle saw no violation.

mod checks;
mod facts;
mod judge;
mod world;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cxi_api::{CXIDriver, CXINode, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, Client, ResourceExt, runtime::watcher};
use tokio::{task::JoinSet, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use crate::{
    plain::Plain,
    soft_node::SoftCluster,
    watch::{Seen, follow},
};

pub use facts::{CxiFacts, DriverFacts, NodeFacts, PodFacts};
pub use judge::{Invariant, Judge, Violation};
pub use world::{Allowance, Allowed, Event};

/// Between two looks at checks that depend on time.
const TICK: Duration = Duration::from_millis(250);

/// How long the end of a scenario is watched, so that checks of the settled state have their say: longer than the settle
/// time of every check that looks at counters.
const AFTERMATH: Duration = Duration::from_millis(6_500);

/// Watches a cluster from its start to [`Oracle::finish`].
pub struct Oracle {
    judge: Arc<Mutex<Judge>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Oracle {
    /// Starts watching. Nodes of `soft` that exist already are known.
    pub fn start(client: &Client, soft: &SoftCluster) -> Self {
        let judge = Arc::new(Mutex::new(Judge::default()));
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let all = watcher::Config::default;

        // The machines first: the API's story is behind the truth, never ahead.
        let mut records = soft.subscribe();
        let (truth, stopped) = (judge.clone(), stop.clone());
        tasks.spawn(async move {
            while let Some(Some(record)) = stopped.run_until_cancelled(records.recv()).await {
                tell(&truth, Event::Truth(record));
            }
        });
        tasks.spawn(follow(
            Api::<Plain<Node>>::all(client.clone()),
            all(),
            stop.clone(),
            telling(&judge, |node: &Node| Event::Node(NodeFacts::read(node)), |node| Event::NodeGone(node.name_any())),
        ));
        tasks.spawn(follow(
            Api::<Plain<Pod>>::all(client.clone()),
            all().fields("spec.nodeName!="),
            stop.clone(),
            telling(
                &judge,
                |pod: &Pod| Event::Pod(PodFacts::read(pod)),
                |pod| Event::PodGone(pod.uid().unwrap_or_default()),
            ),
        ));
        tasks.spawn(follow(
            Api::<Plain<CXINode>>::all(client.clone()),
            all(),
            stop.clone(),
            telling(
                &judge,
                |node: &CXINode| Event::Cxi(Box::new(CxiFacts::read(node))),
                |node| Event::CxiGone(node.name_any()),
            ),
        ));
        tasks.spawn(follow(
            Api::<Plain<CXIDriver>>::all(client.clone()),
            all(),
            stop.clone(),
            telling(
                &judge,
                |driver: &CXIDriver| Event::Driver(Box::new(DriverFacts::read(driver))),
                |driver| Event::DriverGone(driver.name_any()),
            ),
        ));
        let (ticking, stopped) = (judge.clone(), stop.clone());
        tasks.spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            while stopped.run_until_cancelled(ticks.tick()).await.is_some() {
                tell(&ticking, Event::Tick);
            }
        });
        Self { judge, stop, tasks }
    }

    /// Announces what the scenario is about to do itself, for so long.
    pub fn allow(&self, what: Allowed, time: Duration) {
        let until = Timestamp::now() + time;
        tell(&self.judge, Event::Allow(Allowance { what, until }));
    }

    /// Announces that an operator runs from now on and reaches the API, or that none does. Waits are only held against one
    /// that does.
    pub fn operator_runs(&self, runs: bool) {
        tell(&self.judge, Event::Operator { runs });
    }

    /// How many Nodes it knows.
    pub fn nodes(&self) -> usize {
        lock(&self.judge).nodes()
    }

    /// What was found so far.
    pub fn violations(&self) -> Vec<Violation> {
        lock(&self.judge).violations().to_vec()
    }

    /// Watches the settled state for some seconds, stops, and returns everything that was found.
    pub async fn finish(mut self) -> Vec<Violation> {
        tokio::time::sleep(AFTERMATH).await;
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        self.violations()
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn telling<K>(
    judge: &Arc<Mutex<Judge>>,
    applied: impl Fn(&K) -> Event + Send + 'static,
    gone: impl Fn(&K) -> Event + Send + 'static,
) -> impl FnMut(Seen<K>) + Send + 'static
where
    K: 'static,
{
    let judge = judge.clone();
    move |seen| match seen {
        Seen::Applied(object) => tell(&judge, applied(&object)),
        Seen::Gone(object) => tell(&judge, gone(&object)),
        Seen::Synced => {}
    }
}

fn tell(judge: &Mutex<Judge>, event: Event) {
    let mut judge = lock(judge);
    // Under the lock, so that times do not go back.
    judge.observe(Timestamp::now(), event);
}

fn lock(judge: &Mutex<Judge>) -> MutexGuard<'_, Judge> {
    // A check that panicked has failed its scenario already.
    judge.lock().unwrap_or_else(PoisonError::into_inner)
}
