//! Follows `status.rollout.advertise` of this node's CXINode.

use std::time::Duration;

use cxi_api::{Advertise, CXINode};
use futures::{Stream, StreamExt as _};
use kube::api::{Api, ApiResource, DynamicObject};
use kube::runtime::watcher::{self, Event, watcher};
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

/// Waiting time after a failed watch; doubled up to [`MAX_DELAY`] while it keeps failing.
const MIN_DELAY: Duration = Duration::from_millis(200);

/// The operator waits for this plugin to follow, so a node must not lag for long after an outage of the API server.
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Watches the CXINode named `node` and publishes what it says to advertise; `None` until the API server answered.
///
/// Only the one field is read, so that a plugin goes on working with an operator whose other fields it does not know.
/// While the API server is away the last value stays. Returns when nobody listens any more.
pub async fn run(client: kube::Client, node: String, advertise: watch::Sender<Option<Advertise>>) {
    let api: Api<DynamicObject> = Api::all_with(client, &ApiResource::erase::<CXINode>(&()));
    let config = watcher::Config::default().fields(&format!("metadata.name={node}"));
    let following = async {
        loop {
            follow(watcher(api.clone(), config.clone()), &advertise).await;
        }
    };
    tokio::select! {
        () = following => {}
        () = advertise.closed() => {}
    }
}

/// Follows one watch; returns when it has to be begun anew with a list.
async fn follow(
    events: impl Stream<Item = watcher::Result<Event<DynamicObject>>>,
    advertise: &watch::Sender<Option<Advertise>>,
) {
    let mut events = std::pin::pin!(events);
    let mut delay = MIN_DELAY;
    // Whether the list under way had the object.
    let mut listed = false;
    while let Some(event) = events.next().await {
        match event {
            Ok(event) => {
                delay = MIN_DELAY;
                match event {
                    Event::Init => listed = false,
                    Event::InitApply(node) => {
                        listed = true;
                        apply(advertise, &node);
                    }
                    Event::Apply(node) => apply(advertise, &node),
                    Event::InitDone if listed => {}
                    // No CXINode: no CXIDriver owns this node, so nobody asks for restraint.
                    Event::InitDone | Event::Delete(_) => set(advertise, Advertise::All),
                }
            }
            Err(error) => {
                if advertise.borrow().is_none() && kind_is_unknown(&error) {
                    set(advertise, Advertise::All);
                }
                warn!(error = %cxi_program::log::chain(&error), "watch the CXINode; what is advertised stays as it is");
                sleep(delay).await;
                delay = (delay * 2).min(MAX_DELAY);
                if is_expired(&error) {
                    return;
                }
            }
        }
    }
}

/// Whether the API server has no such kind, so that there is no CXINode. Taken for an answer only at the beginning:
/// later it is more likely an API server that is not itself.
fn kind_is_unknown(error: &watcher::Error) -> bool {
    matches!(
        error,
        watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.is_not_found()
    )
}

/// Whether the API server refuses to go on from where the watch was. The watcher lists again when it is told so in a
/// stream, and asks for the same for ever when the request itself is answered with 410.
fn is_expired(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::WatchStartFailed(kube::Error::Api(status)) if status.code == 410)
}

fn apply(advertise: &watch::Sender<Option<Advertise>>, node: &DynamicObject) {
    let Some(value) = node.data.pointer("/status/rollout/advertise").filter(|value| !value.is_null()) else {
        return set(advertise, Advertise::default());
    };
    match serde_json::from_value(value.clone()) {
        Ok(wanted) => set(advertise, wanted),
        Err(_) => {
            warn!(%value, "CXINode asks to advertise something unknown; what is advertised stays as it is");
        }
    }
}

fn set(advertise: &watch::Sender<Option<Advertise>>, wanted: Advertise) {
    advertise.send_if_modified(|current| {
        let changed = *current != Some(wanted);
        if changed {
            info!(advertise = ?wanted, "what this node advertises changed");
            *current = Some(wanted);
        }
        changed
    });
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(status: &Value) -> DynamicObject {
        let object = json!({
            "apiVersion": "cxi.hpe.com/v1", "kind": "CXINode", "metadata": {"name": "n"}, "spec": {}, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    fn wants(advertise: &str) -> DynamicObject {
        node(&json!({"rollout": {"driver": "d", "phase": "PhaseOfTheFuture", "advertise": advertise}}))
    }

    fn failure(code: u16) -> watcher::Result<Event<DynamicObject>> {
        let status = json!({"kind": "Status", "code": code, "reason": if code == 404 { "NotFound" } else { "" }});
        let status = serde_json::from_value(status).unwrap();
        Err(watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status))))
    }

    /// What is advertised after these events.
    async fn after(events: impl IntoIterator<Item = watcher::Result<Event<DynamicObject>>>) -> Option<Advertise> {
        let (sender, receiver) = watch::channel(None);
        follow(futures::stream::iter(events.into_iter().collect::<Vec<_>>()), &sender).await;
        *receiver.borrow()
    }

    fn listed(node: DynamicObject) -> Vec<watcher::Result<Event<DynamicObject>>> {
        vec![Ok(Event::Init), Ok(Event::InitApply(node)), Ok(Event::InitDone)]
    }

    #[tokio::test(start_paused = true)]
    async fn the_field_is_followed() {
        assert_eq!(after([]).await, None);
        assert_eq!(after(listed(wants("InUse"))).await, Some(Advertise::InUse));
        let mut events = listed(wants("InUse"));
        events.push(Ok(Event::Apply(wants("None"))));
        assert_eq!(after(events).await, Some(Advertise::None));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_asking_for_restraint_is_all() {
        assert_eq!(after([Ok(Event::Init), Ok(Event::InitDone)]).await, Some(Advertise::All));
        for status in [json!(null), json!({}), json!({"rollout": {"driver": "d"}})] {
            assert_eq!(after(listed(node(&status))).await, Some(Advertise::All));
        }
        let mut events = listed(wants("None"));
        events.push(Ok(Event::Delete(wants("None"))));
        assert_eq!(after(events).await, Some(Advertise::All));
        let mut events = listed(wants("None"));
        events.extend([Ok(Event::Init), Ok(Event::InitDone)]);
        assert_eq!(after(events).await, Some(Advertise::All));
        assert_eq!(after([failure(404)]).await, Some(Advertise::All));
    }

    #[tokio::test(start_paused = true)]
    async fn errors_and_the_unknown_leave_the_last_value() {
        assert_eq!(after([failure(500)]).await, None);
        for error in [failure(404), failure(500), Ok(Event::Init), Ok(Event::Apply(wants("Some")))] {
            let mut events = listed(wants("None"));
            events.push(error);
            assert_eq!(after(events).await, Some(Advertise::None));
        }
    }
}
