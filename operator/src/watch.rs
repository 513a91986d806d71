//! Keeps one cache in step with the API server. Each watch has a task of its own, so that one that fails and backs off does
//! not keep the others from being polled.

use std::{fmt::Debug, sync::Arc, time::Duration};

use futures::{StreamExt, pin_mut};
use kube::{
    Api, Resource,
    core::DeserializeGuard,
    runtime::watcher::{self, Config, Error, Event, watcher},
};
use serde::de::DeserializeOwned;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::{
    cache::{Cache, Served},
    health::Pulse,
};

/// Pause after the first failure; doubles up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(200);

/// Longest pause. Below any time limit of the rollout, and far below the connect timeout, after which pending connections of
/// a client die.
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// A watch that says nothing for this long is begun anew, with a list: nothing is learned from silence. Twice the time after
/// which the API server ends a watch by itself (`kube::runtime` asks for 290 s).
pub const SILENCE: Duration = Duration::from_mins(10);

/// Watches until the task is dropped. The kind is listed, then watched; whatever ends or fails is begun anew, and what was
/// seen stays.
pub async fn run<K>(api: Api<DeserializeGuard<K>>, config: Config, cache: Arc<Cache<K>>, pulse: Pulse)
where
    K: Resource<DynamicType = ()> + Clone + PartialEq + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let mut pause = PAUSE;
    loop {
        let events = watcher(api.clone(), config.clone());
        pin_mut!(events);
        while let Ok(Some(event)) = timeout(SILENCE, events.next()).await {
            pulse.beat();
            match event {
                Ok(event) => {
                    if matches!(event, Event::InitDone | Event::Apply(_) | Event::Delete(_)) {
                        pause = PAUSE;
                    }
                    cache.observe(event);
                }
                Err(error) => {
                    failed(&cache, &error);
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
        }
        debug!(kind = cache.kind(), "watch was silent; listing again");
    }
}

fn failed<K: Resource<DynamicType = ()> + Clone + PartialEq>(cache: &Cache<K>, error: &Error) {
    let kind = cache.kind();
    if !is_not_found(error) {
        warn!(kind, %error, "watch failed; trying again");
        return;
    }
    if cache.served() != Served::No {
        warn!(kind, "the API server does not know this kind; asking again until it does");
    }
    cache.not_served();
}

fn is_not_found(error: &Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 404,
        _ => false,
    }
}
