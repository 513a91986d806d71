//! Watches of the API server that go on through every failure.

use std::{fmt::Debug, pin::pin};

use futures::{Stream, StreamExt as _};
use kube::{
    Resource,
    api::Api,
    runtime::watcher::{self, Event, watcher},
};
use serde::de::DeserializeOwned;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::{BackOff, log::chain};

/// What is known of the one object that is watched.
#[derive(Debug)]
pub enum Sighting<'a, K> {
    /// It is there.
    Present(K),
    /// The API server has no object of this name.
    Absent,
    /// The watch failed. What was known of the object stays as it was.
    Failed(&'a watcher::Error),
}

/// Whether the one object was in the list that is under way.
#[derive(Debug, Default)]
pub struct OneObject {
    is_listed: bool,
}

impl OneObject {
    /// What an event says of the object; nothing for one that only frames a list.
    pub fn sighting<'a, K>(&mut self, event: Result<Event<K>, &'a watcher::Error>) -> Option<Sighting<'a, K>> {
        match event {
            Ok(Event::Init) => self.is_listed = false,
            Ok(Event::InitApply(object)) => {
                self.is_listed = true;
                return Some(Sighting::Present(object));
            }
            Ok(Event::Apply(object)) => return Some(Sighting::Present(object)),
            Ok(Event::InitDone) if self.is_listed => {}
            Ok(Event::InitDone | Event::Delete(_)) => return Some(Sighting::Absent),
            Err(error) => return Some(Sighting::Failed(error)),
        }
        None
    }
}

/// Hands what is known of the object `name` to `on`; never ends. `what` names it in the log.
pub async fn object<K>(api: Api<K>, name: &str, what: &str, mut on: impl FnMut(Sighting<'_, K>))
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut object = OneObject::default();
    let tell = |event: Result<Event<K>, &watcher::Error>| {
        if let Some(sighting) = object.sighting(event) {
            on(sighting);
        }
    };
    events(api, config, what, tell).await;
}

/// Hands every event and every failure to `on`; never ends. The log has a failure once, until the API server answers again.
pub async fn events<K>(
    api: Api<K>,
    config: watcher::Config,
    what: &str,
    mut on: impl FnMut(Result<Event<K>, &watcher::Error>),
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut back_off = BackOff::of_api_calls();
    loop {
        until_a_list_is_needed(watcher(api.clone(), config.clone()), what, &mut back_off, &mut on).await;
    }
}

/// Hands the events of one watch to `on`, until only a new list can tell what is there.
pub async fn until_a_list_is_needed<K>(
    events: impl Stream<Item = watcher::Result<Event<K>>>,
    what: &str,
    back_off: &mut BackOff,
    on: &mut impl FnMut(Result<Event<K>, &watcher::Error>),
) {
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                // A list begins before anything was answered.
                if back_off.is_failing() && !matches!(event, Event::Init) {
                    info!(what, "watching again");
                    back_off.reset();
                }
                on(Ok(event));
            }
            Err(error) => {
                if !back_off.is_failing() {
                    warn!(what, error = chain(&error), "cannot watch; what is known stays as it is");
                }
                on(Err(&error));
                sleep(back_off.next_delay()).await;
                if needs_list(&error) {
                    return;
                }
            }
        }
    }
}

/// Whether only a list can tell what is there. The API server may refuse to go on from where the watch was: the watcher lists again
/// when it is told so in a stream, and asks for the same for ever when the request itself is answered with 410. And after an event
/// that cannot be read it goes on with the next, and what that one said is lost.
fn needs_list(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::WatchStartFailed(kube::Error::Api(status)) => status.code == 410,
        watcher::Error::WatchFailed(kube::Error::SerdeError(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(code: u16) -> kube::Error {
        let status = serde_json::from_value(serde_json::json!({"kind": "Status", "code": code})).unwrap();
        kube::Error::Api(Box::new(status))
    }

    #[test]
    fn an_expired_version_and_a_lost_event_need_a_list() {
        let lost = serde_json::from_str::<u8>("{").unwrap_err();
        assert!(needs_list(&watcher::Error::WatchStartFailed(gone(410))));
        assert!(needs_list(&watcher::Error::WatchFailed(kube::Error::SerdeError(lost))));
        assert!(!needs_list(&watcher::Error::WatchStartFailed(gone(500))));
        assert!(!needs_list(&watcher::Error::InitialListFailed(gone(410))));
    }

    #[test]
    fn an_object_is_absent_when_a_list_ends_without_it() {
        let mut object = OneObject::default();
        let mut told = |event: Event<u8>| match object.sighting(Ok(event)) {
            Some(Sighting::Present(value)) => Some(Some(value)),
            Some(Sighting::Absent) => Some(None),
            Some(Sighting::Failed(_)) | None => None,
        };
        assert_eq!(told(Event::Init), None);
        assert_eq!(told(Event::InitApply(1)), Some(Some(1)));
        assert_eq!(told(Event::InitDone), None);
        assert_eq!(told(Event::Apply(2)), Some(Some(2)));
        assert_eq!(told(Event::Delete(2)), Some(None));
        assert_eq!(told(Event::Init), None);
        assert_eq!(told(Event::InitDone), Some(None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_goes_on_after_a_failure_and_ends_where_a_list_is_needed() {
        let events = [Ok(Event::Apply(1)), Err(watcher::Error::WatchFailed(gone(500))), Ok(Event::Apply(2))];
        let after = [Err(watcher::Error::WatchStartFailed(gone(410))), Ok(Event::Apply(3))];
        let mut seen = Vec::new();
        let mut on = |event: Result<Event<u8>, &watcher::Error>| {
            seen.push(match event {
                Ok(Event::Apply(value)) => Some(value),
                _ => None,
            });
        };
        let events = futures::stream::iter(events.into_iter().chain(after));
        until_a_list_is_needed(events, "numbers", &mut BackOff::of_api_calls(), &mut on).await;
        assert_eq!(seen, [Some(1), None, Some(2), None]);
    }
}
