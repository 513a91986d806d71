//! Keeps the `CXIDevices` of this node in step with its NICs.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use cxi_api::{
    CXIDevice,
    device::{CXIDeviceStatus, DEVICE_LABEL, NODE_LABEL, device_name, node_label_value},
    lenient::Lenient,
    names,
};
use cxi_hardware::retry_handler::Expectation;
use cxi_node::BackOff;
use kube::{
    api::{Api, DeleteParams, Patch, PatchParams, Preconditions},
    runtime::watcher::{self, Event},
};
use serde_json::{Value, json};
use tokio::{
    sync::{mpsc, watch},
    time::{sleep, timeout},
};
use tracing::{info, warn};

use crate::report::{REQUEST_LIMIT, content, device, node::NodeView, scanner::Taken};

/// A CXIDevice as it is, or should be, in the API server.
#[derive(Clone, Debug, PartialEq)]
struct Content {
    /// UID of the CXINode that owns it.
    owner: String,
    /// Labels that say where it is.
    labels: [String; 2],
    /// Its status; `None` for one that cannot be read or was never written.
    status: Option<CXIDeviceStatus>,
}

/// A CXIDevice in the API server.
#[derive(Clone, Debug)]
struct Stored {
    uid: String,
    /// `resourceVersion` of what was seen of it last, in an event or in the answer to an own write.
    version: String,
    content: Content,
}

/// Why a CXIDevice is not as it should be.
#[derive(Debug, thiserror::Error)]
enum WriteError {
    #[error("{verb} CXIDevice {name}")]
    Kube { verb: &'static str, name: String, source: kube::Error },
    #[error("{verb} CXIDevice {name}: no answer within {REQUEST_LIMIT:?}")]
    NoAnswer { verb: &'static str, name: String },
}

/// What is in the API server, as far as events and answers to own writes tell.
#[derive(Debug, Default)]
struct Inventory {
    /// What is expected of the NICs' retry handlers.
    retry_handler: Expectation,
    stored: BTreeMap<String, Stored>,
    /// Whether a list was complete: before that nothing can be said to be missing.
    synced: bool,
    listing: BTreeSet<String>,
}

/// Hands on every event of this node's `CXIDevices` until the receiver is dropped.
pub(super) async fn follow(
    api: Api<Lenient<CXIDevice>>,
    node: String,
    events: mpsc::UnboundedSender<Event<Lenient<CXIDevice>>>,
) {
    let config = watcher::Config::default().labels(&format!("{NODE_LABEL}={}", node_label_value(&node)));
    let following = cxi_node::watch::events(api, config, "CXIDevices", |event| {
        // When the receiver is gone this task ends too.
        if let Ok(event) = event {
            let _ = events.send(event);
        }
    });
    tokio::select! {
        () = following => {}
        () = events.closed() => {}
    }
}

/// Writes and deletes `CXIDevices` until there are no more looks.
pub(super) async fn run(
    api: Api<Lenient<CXIDevice>>,
    node: String,
    retry_handler: Expectation,
    mut events: mpsc::UnboundedReceiver<Event<Lenient<CXIDevice>>>,
    mut looks: watch::Receiver<Option<Arc<Taken>>>,
) {
    let mut inventory = Inventory { retry_handler, ..Inventory::default() };
    let mut back_off = BackOff::of_api_calls();
    loop {
        while let Ok(event) = events.try_recv() {
            let _ = inventory.learn(event);
        }
        let taken = looks.borrow_and_update().clone();
        if let Some(taken) = taken.filter(|_| inventory.synced) {
            match inventory.step(&api, &node, &taken).await {
                Ok(()) => back_off.reset(),
                Err(error) => {
                    if !back_off.is_failing() {
                        warn!(error = cxi_node::log::chain(&error), "the inventory is not in step, it is tried again");
                    }
                    sleep(back_off.next_delay()).await;
                }
            }
        }
        // A failed step is repeated with the next look; looks come every moment. So is one that others undid, and not
        // at once: they may go on undoing it.
        loop {
            tokio::select! {
                changed = looks.changed() => match changed {
                    Ok(()) => break,
                    Err(_) => return,
                },
                event = events.recv() => match event {
                    Some(event) => if inventory.learn(event) { break },
                    None => return,
                },
            }
        }
    }
}

impl Inventory {
    /// Whether this is news that should not wait for the next look.
    fn learn(&mut self, event: Event<Lenient<CXIDevice>>) -> bool {
        match event {
            Event::Init => self.listing.clear(),
            Event::InitApply(object) => {
                self.listing.extend(object.metadata.name.clone());
                self.insert(object);
            }
            Event::Apply(object) => self.insert(object),
            Event::InitDone => {
                self.stored.retain(|name, _| self.listing.contains(name));
                self.synced = true;
                return true;
            }
            Event::Delete(object) => {
                let name = object.metadata.name.unwrap_or_default();
                // An event about an earlier one of the same name says nothing about this one.
                if self.stored.get(&name).is_some_and(|stored| Some(&stored.uid) == object.metadata.uid.as_ref()) {
                    self.stored.remove(&name);
                    return true;
                }
            }
        }
        false
    }

    /// What this process wrote it knows better than an event that is older, or is of that write. A later event tells of
    /// what another client wrote, which is compared with what should be there.
    fn insert(&mut self, object: Lenient<CXIDevice>) {
        let Some(stored) = Stored::read(&object) else { return };
        let name = object.metadata.name.unwrap_or_default();
        let is_known = |known: &Stored| known.uid == stored.uid && !is_later(&stored.version, &known.version);
        if !self.stored.get(&name).is_some_and(is_known) {
            self.stored.insert(name, stored);
        }
    }

    async fn step(&mut self, api: &Api<Lenient<CXIDevice>>, node: &str, taken: &Taken) -> Result<(), WriteError> {
        let NodeView::Present(known) = &taken.view else { return Ok(()) };
        let version = content::driver_version(&taken.look, known);
        let mut kept: BTreeSet<String> =
            taken.look.unidentified.iter().map(|device| device_name(node, device)).collect();
        for nic in taken.look.nics.values() {
            let status = device::status(node, nic, version.as_deref(), self.retry_handler);
            let name = device_name(node, &status.device);
            let labels = [node_label_value(node), status.device.clone()];
            let wanted = Content { owner: known.uid.clone(), labels, status: Some(status) };
            kept.insert(name.clone());
            self.write(api, node, &name, wanted).await?;
        }
        let gone: Vec<_> = self.stored.keys().filter(|name| !kept.contains(*name)).cloned().collect();
        for name in gone {
            self.delete(api, &name).await?;
        }
        Ok(())
    }

    async fn write(
        &mut self,
        api: &Api<Lenient<CXIDevice>>,
        node: &str,
        name: &str,
        wanted: Content,
    ) -> Result<(), WriteError> {
        let stored = self.stored.get(name);
        if stored.is_some_and(|stored| stored.content == wanted) {
            return Ok(());
        }
        let parameters = PatchParams::apply(names::AGENT).force();
        let same = |stored: &Stored| stored.content.owner == wanted.owner && stored.content.labels == wanted.labels;
        if !stored.is_some_and(same) {
            let object = metadata(node, name, &wanted);
            let patch = Patch::Apply(&object);
            let object = answer("create", name, api.patch(name, &parameters, &patch)).await?;
            if let Some(stored) = Stored::read(&object) {
                info!(device = name, "NIC found");
                self.stored.insert(name.to_owned(), stored);
            }
        }
        let object = json!({
            "apiVersion": "cxi.hpe.com/v1", "kind": "CXIDevice", "metadata": {"name": name}, "status": &wanted.status,
        });
        let patch = Patch::Apply(&object);
        match answer("update", name, api.patch_status(name, &parameters, &patch)).await {
            Ok(object) => {
                let uid = object.metadata.uid.unwrap_or_default();
                let version = object.metadata.resource_version.unwrap_or_default();
                self.stored.insert(name.to_owned(), Stored { uid, version, content: wanted });
                Ok(())
            }
            Err(error) => {
                if error.code() == Some(404) {
                    self.stored.remove(name);
                }
                Err(error)
            }
        }
    }

    async fn delete(&mut self, api: &Api<Lenient<CXIDevice>>, name: &str) -> Result<(), WriteError> {
        let uid = self.stored.get(name).map(|stored| stored.uid.clone());
        let parameters =
            DeleteParams { preconditions: Some(Preconditions { uid, resource_version: None }), ..Default::default() };
        match answer("delete", name, api.delete(name, &parameters)).await {
            Ok(_) => info!(device = name, "NIC is gone"),
            // Gone already, or another one by now, of which an event will tell.
            Err(error) if matches!(error.code(), Some(404 | 409)) => {}
            Err(error) => return Err(error),
        }
        self.stored.remove(name);
        Ok(())
    }
}

/// The object without its status. Blocks nothing: the CXINode's deletion does not wait for its devices.
fn metadata(node: &str, name: &str, wanted: &Content) -> Value {
    let [node_label, device_label] = &wanted.labels;
    json!({
        "apiVersion": "cxi.hpe.com/v1",
        "kind": "CXIDevice",
        "metadata": {
            "name": name,
            "labels": {NODE_LABEL: node_label, DEVICE_LABEL: device_label},
            "ownerReferences": [
                {"apiVersion": "cxi.hpe.com/v1", "kind": "CXINode", "name": node, "uid": wanted.owner},
            ],
        },
        "spec": {},
    })
}

async fn answer<T>(
    verb: &'static str,
    name: &str,
    request: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, WriteError> {
    match timeout(REQUEST_LIMIT, request).await {
        Ok(answer) => answer.map_err(|source| WriteError::Kube { verb, name: name.to_owned(), source }),
        Err(_) => Err(WriteError::NoAnswer { verb, name: name.to_owned() }),
    }
}

impl WriteError {
    /// The status code of the API server's refusal.
    fn code(&self) -> Option<u16> {
        match self {
            Self::Kube { source: kube::Error::Api(status), .. } => Some(status.code),
            _ => None,
        }
    }
}

impl Stored {
    fn read(object: &Lenient<CXIDevice>) -> Option<Self> {
        let owners = object.metadata.owner_references.iter().flatten();
        let owner = owners.filter(|owner| owner.kind == "CXINode").map(|owner| owner.uid.clone()).next();
        let label = |key| object.metadata.labels.as_ref().and_then(|labels| labels.get(key)).cloned();
        let status = object.data.get("status").and_then(|status| serde_json::from_value(status.clone()).ok());
        let content = Content {
            owner: owner.unwrap_or_default(),
            labels: [NODE_LABEL, DEVICE_LABEL].map(|key| label(key).unwrap_or_default()),
            status,
        };
        let version = object.metadata.resource_version.clone().unwrap_or_default();
        Some(Self { uid: object.metadata.uid.clone()?, version, content })
    }
}

/// Whether `version` is later than `known`. Both are numbers that grow in every API server that keeps its objects in etcd;
/// elsewhere another one counts as later, which costs a write that changes nothing.
fn is_later(version: &str, known: &str) -> bool {
    match (version.parse::<u128>(), known.parse::<u128>()) {
        (Ok(version), Ok(known)) => version > known,
        _ => version != known,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(version: &str, device: &str) -> Lenient<CXIDevice> {
        let object = json!({
            "apiVersion": "cxi.hpe.com/v1", "kind": "CXIDevice",
            "metadata": {"name": "n-cxi0", "uid": "u", "resourceVersion": version, "labels": {DEVICE_LABEL: device}},
        });
        serde_json::from_value(object).unwrap()
    }

    #[test]
    fn only_an_event_after_the_own_write_tells_what_is_there() {
        let mut inventory = Inventory::default();
        inventory.stored.insert("n-cxi0".into(), Stored::read(&object("90", "own")).unwrap());
        for (version, device, known) in [
            ("89", "old", "own"),
            // As text this would be later.
            ("9", "older", "own"),
            ("90", "the same", "own"),
            ("100", "foreign", "foreign"),
            ("opaque", "another", "another"),
            ("opaque", "the same", "another"),
        ] {
            assert!(!inventory.learn(Event::Apply(object(version, device))), "it waits for the next look");
            assert_eq!(inventory.stored["n-cxi0"].content.labels[1], known, "{version}");
        }
    }
}
