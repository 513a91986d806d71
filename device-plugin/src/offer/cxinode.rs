//! Follows what this node's CXINode says: `status.rollout.advertise`, and `status.node.driverVersion`, the release that the node
//! agent has recognised by its build-ids.

use cxi_api::{Advertise, CXINode, lenient::Lenient};
use cxi_injection::libraries::Release;
use cxi_node::watch::{self, Sighting};
use kube::{api::Api, runtime::watcher};
use serde_json::Value;
use tokio::sync::watch::Sender;
use tracing::{info, warn};

/// Where what the CXINode says goes.
struct Told {
    advertise: Sender<Option<Advertise>>,
    release: Sender<Option<Release>>,
}

/// Watches the CXINode named `node` and publishes what it says to advertise, `None` until the API server answered; before that
/// the release of the loaded driver, `None` while the CXINode says none.
///
/// Only the two fields are read, so that a plugin goes on working with an operator whose other fields it does not know,
/// and whatever else other clients wrote into the object. What to advertise stays as it is while the API server is
/// away, and also when the field, or what it is in, cannot be read: where the operator took the offer away, a value
/// that cannot be read must not bring it back, and where it did not, such a value must not take the node's NICs away. A
/// plugin that never read a value offers nothing. Returns when the receiver of what to advertise is gone.
pub async fn run(
    client: kube::Client,
    node: String,
    advertise: Sender<Option<Advertise>>,
    release: Sender<Option<Release>>,
) {
    let told = Told { advertise, release };
    let api: Api<Lenient<CXINode>> = Api::all(client);
    let following = watch::object(api, &node, "CXINode", |sighting| told.take_in(sighting));
    tokio::select! {
        () = following => {}
        () = told.advertise.closed() => {}
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

/// What is at a place below `value`. That `null` is there, or nothing at all above it, is an answer; that something is above it that
/// has no members is none.
fn member<'a>(mut value: &'a Value, names: &[&str]) -> Result<Option<&'a Value>, &'a Value> {
    for name in names {
        value = match value {
            Value::Null => return Ok(None),
            Value::Object(members) => match members.get(*name) {
                Some(member) => member,
                None => return Ok(None),
            },
            other => return Err(other),
        };
    }
    Ok(Some(value).filter(|value| !value.is_null()))
}

impl Told {
    fn take_in(&self, sighting: Sighting<'_, Lenient<CXINode>>) {
        match sighting {
            Sighting::Present(node) => self.apply(&node),
            // No CXINode: no CXIDriver owns this node, so no operator asks for restraint.
            Sighting::Absent => set(&self.advertise, Advertise::All),
            Sighting::Failed(error) => {
                if self.advertise.borrow().is_none() && kind_is_unknown(error) {
                    set(&self.advertise, Advertise::All);
                }
            }
        }
    }

    fn apply(&self, node: &Lenient<CXINode>) {
        // Set first: a reader that learns that NICs may be offered already knows what goes with them.
        self.apply_release(node);
        let value = match member(&node.data, &["status", "rollout", "advertise"]) {
            Ok(None) => return set(&self.advertise, Advertise::default()),
            Ok(Some(value)) | Err(value) => value,
        };
        match serde_json::from_value(value.clone()) {
            Ok(wanted) => set(&self.advertise, wanted),
            Err(_) => {
                warn!(%value, "CXINode asks to advertise something unknown; what is advertised stays as it is");
            }
        }
    }

    fn apply_release(&self, node: &Lenient<CXINode>) {
        let said = node.data.pointer("/status/node/driverVersion").and_then(serde_json::Value::as_str);
        let release = match said.map(str::parse::<Release>).transpose() {
            Ok(release) => release,
            Err(error) => {
                warn!(%error, "CXINode names a driver release that is not one; libraries are those of no release");
                None
            }
        };
        self.release.send_if_modified(|current| {
            let changed = *current != release;
            if changed {
                info!(
                    release = release.as_ref().map(tracing::field::display),
                    "the release of the loaded driver changed"
                );
                current.clone_from(&release);
            }
            changed
        });
    }
}

fn set(advertise: &Sender<Option<Advertise>>, wanted: Advertise) {
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
    use cxi_node::{BackOff, watch::OneObject};
    use kube::runtime::watcher::Event;
    use serde_json::json;
    use tokio::sync::watch::channel;

    use super::*;

    fn node(status: &Value) -> Lenient<CXINode> {
        let object = json!({
            "apiVersion": "cxi.hpe.com/v1", "kind": "CXINode", "metadata": {"name": "n"}, "spec": {}, "status": status,
        });
        serde_json::from_value(object).unwrap()
    }

    fn wants(advertise: &str) -> Lenient<CXINode> {
        node(&json!({"rollout": {"driver": "d", "phase": "PhaseOfTheFuture", "advertise": advertise}}))
    }

    fn failure(code: u16) -> watcher::Result<Event<Lenient<CXINode>>> {
        let status = json!({"kind": "Status", "code": code, "reason": if code == 404 { "NotFound" } else { "" }});
        let status = serde_json::from_value(status).unwrap();
        Err(watcher::Error::InitialListFailed(kube::Error::Api(Box::new(status))))
    }

    /// What is known after these events.
    async fn known(
        events: impl IntoIterator<Item = watcher::Result<Event<Lenient<CXINode>>>>,
    ) -> (Option<Advertise>, Option<String>) {
        let told = Told { advertise: channel(None).0, release: channel(None).0 };
        let mut object = OneObject::default();
        let mut on = |event: Result<Event<_>, &watcher::Error>| {
            if let Some(sighting) = object.sighting(event) {
                told.take_in(sighting);
            }
        };
        let events = futures::stream::iter(events.into_iter().collect::<Vec<_>>());
        watch::until_a_list_is_needed(events, "CXINode", &mut BackOff::of_api_calls(), &mut on).await;
        (*told.advertise.borrow(), told.release.borrow().as_ref().map(ToString::to_string))
    }

    /// What is advertised after these events.
    async fn after(events: impl IntoIterator<Item = watcher::Result<Event<Lenient<CXINode>>>>) -> Option<Advertise> {
        known(events).await.0
    }

    fn listed(node: Lenient<CXINode>) -> Vec<watcher::Result<Event<Lenient<CXINode>>>> {
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
    async fn without_a_cxinode_all_are_offered() {
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
    async fn the_release_of_the_driver_is_followed() {
        let runs = |release: Value| node(&json!({"node": {"driverVersion": release}}));
        let release = async |events| known(events).await.1;
        assert_eq!(release(listed(runs(json!("13.0.0")))).await.as_deref(), Some("13.0.0"));
        for (later, expected) in [(json!("13.1.0"), Some("13.1.0")), (json!(null), None), (json!("../etc"), None)] {
            let mut events = listed(runs(json!("13.0.0")));
            events.push(Ok(Event::Apply(runs(later))));
            assert_eq!(release(events).await.as_deref(), expected);
        }
        // The driver stays loaded.
        for later in [Event::Delete(runs(json!(null))), Event::Init, Event::InitDone] {
            let mut events = listed(runs(json!("13.0.0")));
            events.push(Ok(later));
            assert_eq!(release(events).await.as_deref(), Some("13.0.0"));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_event_that_cannot_be_read_is_followed_by_a_list() {
        let lost = serde_json::from_str::<Value>("{").unwrap_err();
        let mut events = listed(wants("InUse"));
        events.push(Err(watcher::Error::WatchFailed(kube::Error::SerdeError(lost))));
        // What comes after it in the same watch is not taken for the whole.
        events.push(Ok(Event::Apply(wants("All"))));
        assert_eq!(after(events).await, Some(Advertise::InUse));
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_not_used_keeps_nothing_from_being_read() {
        let object = json!({
            "apiVersion": "cxi.hpe.com/v1", "kind": "CXINode",
            "metadata": {"name": "n", "managedFields": [{"time": "9999-12-31T23:59:59Z"}], "deletionTimestamp": 5},
            "status": {"rollout": {"advertise": "InUse"}, "node": {"observedAt": "9999-12-31T23:59:59Z", "sequence": {}}},
        });
        assert_eq!(after(listed(serde_json::from_value(object).unwrap())).await, Some(Advertise::InUse));
    }

    #[tokio::test(start_paused = true)]
    async fn a_plugin_that_never_read_a_value_offers_nothing() {
        assert_eq!(after(listed(node(&json!({"rollout": 5})))).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn errors_and_the_unknown_leave_the_last_value() {
        assert_eq!(after([failure(500)]).await, None);
        let unreadable = [json!("x"), json!({"rollout": [1]}), json!({"rollout": {"advertise": 5}})];
        let unreadable = unreadable.iter().map(|status| Ok(Event::Apply(node(status))));
        let known = [failure(404), failure(500), Ok(Event::Init), Ok(Event::Apply(wants("Some")))];
        for error in known.into_iter().chain(unreadable) {
            let mut events = listed(wants("None"));
            events.push(error);
            assert_eq!(after(events).await, Some(Advertise::None));
        }
    }
}
