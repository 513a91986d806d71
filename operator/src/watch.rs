//! Keeps one cache in step with the API server. Each watch has a task of its own, so that one that fails and backs off does
//! not keep the others from being polled.
//!
//! The kind is listed, in pages, and watched from the list's resource version on. (`kube::runtime::watcher` does the same, but keeps
//! that version to itself, and skips events that it cannot read.) A watch that ends is followed by another from where it was.
//! A new list is made
//! - when an event cannot be attributed to an object: what it said is lost otherwise;
//! - when the API server does not know the resource version any more (410);
//! - when the API server's database is older than what was seen: an event of its new history may have any number;
//! - when nothing was heard for a while.

use std::{
    future::Future,
    sync::Arc,
    time::{Duration, Instant},
};

use cxi_node::BackOff;
use futures::{StreamExt, pin_mut};
use kube::api::{ListParams, WatchParams};
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use crate::{
    cache::{Cache, Served},
    endpoint::{Endpoint, Event},
    health::Pulse,
    observe::seen::{Kind, Nameless, Reading, order, read},
};

/// Pause after the first failure; doubles up to [`LONGEST_PAUSE`].
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);

/// Longest pause. Below any time limit of the rollout, and far below the connect timeout, after which pending connections of
/// a client die.
const LONGEST_PAUSE: Duration = Duration::from_secs(3);

/// A watch that says nothing for this long is begun anew, with a list: nothing is learned from silence. Twice the time after
/// which the API server ends a watch by itself (290 s are asked for).
pub const SILENCE: Duration = Duration::from_mins(10);

/// The API server gives up on a list after 60 s.
const ANSWER: Duration = Duration::from_secs(90);

/// Objects in a page of a list. One may have 1.5 MB (etcd's limit), so that a page is not the end of the operator's memory.
const PAGE: u32 = 100;

/// Which objects are watched.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// By labels.
    pub labels: Option<String>,
    /// By fields.
    pub fields: Option<String>,
}

/// Why a list or a watch did not go on.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Kube(kube::Error),
    #[error("{0}")]
    Nameless(#[from] Nameless),
    #[error("no answer within {} s", ANSWER.as_secs())]
    NoAnswer,
    #[error("nothing was heard for {} s", SILENCE.as_secs())]
    Silence,
    #[error("the API server's database is older than what was seen")]
    PutBack,
}

/// Watches until the task is dropped. Whatever ends or fails is begun anew, and what was seen stays.
pub async fn run<K: Kind>(endpoint: Endpoint<K>, selection: Selection, cache: Arc<Cache<K>>, pulse: Pulse) {
    let mut watch = Watch {
        endpoint,
        selection,
        cache,
        pulse,
        back_off: BackOff::new(SHORTEST_PAUSE, LONGEST_PAUSE),
        heard: Instant::now(),
    };
    loop {
        let failure = watch.list_and_follow().await;
        watch.say(&failure, "listing again");
        watch.rest().await;
    }
}

struct Watch<K: Kind> {
    endpoint: Endpoint<K>,
    selection: Selection,
    cache: Arc<Cache<K>>,
    pulse: Pulse,
    back_off: BackOff,
    heard: Instant,
}

impl<K: Kind> Watch<K> {
    /// Lists and watches; returns why a new list is needed.
    async fn list_and_follow(&mut self) -> Failure {
        let mut version = match self.list().await {
            Ok(version) => version,
            Err(failure) => return failure,
        };
        loop {
            match self.follow(&mut version).await {
                Ok(()) => {}
                Err(failure) if failure.is_passing() => self.say(&failure, "going on from where it was"),
                Err(failure) => return failure,
            }
            if self.heard.elapsed() >= SILENCE {
                return Failure::Silence;
            }
            self.rest().await;
            // The API server would take a version of the future for one that comes, and say nothing until then.
            match self.present().await {
                Ok(present) if order(&present) < order(&version) => return Failure::PutBack,
                Ok(_) => self.pulse.beat(),
                Err(failure) if failure.is_passing() => self.say(&failure, "trying again"),
                Err(failure) => return failure,
            }
        }
    }

    /// The whole list; returns its resource version.
    async fn list(&mut self) -> Result<String, Failure> {
        self.cache.list_begins();
        let mut params = ListParams { limit: Some(PAGE), ..self.params() };
        loop {
            let page = answer(self.endpoint.list(&params)).await?;
            self.told();
            page.items.into_iter().for_each(|reading| self.cache.listed(reading));
            params.continue_token = page.next;
            if params.continue_token.is_none() {
                self.cache.list_ends(&page.version);
                return Ok(page.version);
            }
        }
    }

    /// The present resource version.
    async fn present(&self) -> Result<String, Failure> {
        let params = ListParams { limit: Some(1), ..self.params() };
        Ok(answer(self.endpoint.list(&params)).await?.version)
    }

    /// One watch, until the API server ends it; `version` grows with what it tells.
    async fn follow(&mut self, version: &mut String) -> Result<(), Failure> {
        let Selection { labels, fields } = self.selection.clone();
        let params = WatchParams { label_selector: labels, field_selector: fields, ..WatchParams::default() };
        let events = answer(self.endpoint.watch(&params, version)).await?;
        pin_mut!(events);
        loop {
            let left = SILENCE.saturating_sub(self.heard.elapsed());
            let Some(event) = timeout(left, events.next()).await.map_err(|_| Failure::Silence)? else { return Ok(()) };
            let told = self.learn(event?)?;
            if order(&told) < order(version) {
                return Err(Failure::PutBack);
            }
            *version = told;
            self.told();
            self.back_off.reset();
        }
    }

    /// Takes an event in; returns its resource version.
    fn learn(&self, event: Event) -> Result<String, Failure> {
        match event {
            Event::Added(raw) | Event::Modified(raw) => {
                let reading: Reading<K> = read(raw.get())?;
                let version = reading.id.version.to_string();
                self.cache.applied(reading);
                Ok(version)
            }
            Event::Deleted(raw) => {
                let reading: Reading<K> = read(raw.get())?;
                self.cache.deleted(&reading.id);
                Ok(reading.id.version.into())
            }
            Event::Bookmark(bookmark) => {
                self.cache.told_up_to(&bookmark.metadata.resource_version);
                Ok(bookmark.metadata.resource_version)
            }
            Event::Error(status) => Err(kube::Error::Api(status).into()),
        }
    }

    fn params(&self) -> ListParams {
        let Selection { labels, fields } = self.selection.clone();
        ListParams { label_selector: labels, field_selector: fields, ..ListParams::default() }
    }

    fn told(&mut self) {
        self.pulse.beat();
        self.heard = Instant::now();
    }

    async fn rest(&mut self) {
        sleep(self.back_off.next_delay()).await;
    }

    fn say(&self, failure: &Failure, then: &str) {
        let kind = K::kind();
        self.pulse.beat();
        match failure {
            Failure::Silence => debug!(kind, "watch was silent; {then}"),
            _ if failure.is_not_found() => {
                if self.cache.served() != Served::No {
                    warn!(kind, "the API server does not know this kind; asking again until it does");
                }
                self.cache.not_served();
            }
            _ => warn!(kind, error = %failure, "watch failed; {then}"),
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match error {
            kube::Error::SerdeError(error) => Self::Nameless((&error).into()),
            error => Self::Kube(error),
        }
    }
}

impl Failure {
    fn code(&self) -> Option<u16> {
        match self {
            Self::Kube(kube::Error::Api(status)) => Some(status.code),
            _ => None,
        }
    }

    fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// Whether the watch can go on from where it was: the connection broke, or the API server is busy or not itself.
    fn is_passing(&self) -> bool {
        match self {
            Self::Nameless(_) | Self::Silence | Self::PutBack => false,
            Self::Kube(kube::Error::Api(status)) => matches!(status.code, 429 | 500 | 502..=504),
            Self::Kube(_) | Self::NoAnswer => true,
        }
    }
}

async fn answer<T>(asked: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Failure> {
    Ok(timeout(ANSWER, asked).await.map_err(|_| Failure::NoAnswer)??)
}

#[cfg(test)]
#[path = "watch_tests.rs"]
mod tests;
