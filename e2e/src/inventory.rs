//! What a cluster holds, and taking out of it what has come since.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use kube::{
    Api, Client, Error, ResourceExt,
    api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams},
    core::ApiResource,
    discovery::{Discovery, verbs},
};
use serde_json::{Value, json};

/// Kinds that the servers themselves keep up, each at its own time.
const OF_THE_SERVERS: [&str; 10] = [
    "APIService",
    "ComponentStatus",
    "Endpoints",
    "EndpointSlice",
    "Event",
    "FlowSchema",
    "IPAddress",
    "PriorityLevelConfiguration",
    "ServiceCIDR",
    "StorageVersion",
];

/// Namespace of the servers' own objects.
const SERVERS_NAMESPACE: &str = "kube-system";

/// Kinds whose controllers make other objects: they go first.
const OWNERS: [&str; 6] = ["CXIDriver", "CronJob", "Job", "Deployment", "DaemonSet", "ReplicaSet"];

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    kind: String,
    namespace: Option<String>,
    name: String,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kind, namespace, name } = self;
        match namespace {
            Some(namespace) => write!(f, "{kind} {namespace}/{name}"),
            None => write!(f, "{kind} {name}"),
        }
    }
}

/// Every object of a cluster that is not the servers' own, with what it says apart from its status.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    objects: BTreeMap<Key, Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    resource: ApiResource,
    finalizers: bool,
    content: Value,
}

impl Inventory {
    /// Lists everything.
    ///
    /// # Errors
    /// If the API server cannot be asked.
    pub async fn take(client: &Client) -> Result<Self> {
        let discovery = Discovery::new(client.clone()).run_aggregated().await.context("discover what is served")?;
        let served = discovery.groups().flat_map(kube::discovery::ApiGroup::resources_by_stability);
        let kinds = served.filter(|(resource, can)| {
            let ours = !OF_THE_SERVERS.contains(&resource.kind.as_str());
            ours && can.supports_operation(verbs::LIST) && can.supports_operation(verbs::DELETE)
        });
        let lists = try_join_all(kinds.map(|(resource, _)| list(client, resource))).await?;
        Ok(Self { objects: lists.into_iter().flatten().collect() })
    }

    /// What of `earlier` is gone or says something else now.
    pub fn lost(&self, earlier: &Self) -> Vec<String> {
        let changed = earlier.objects.iter().filter_map(|(key, before)| match self.objects.get(key) {
            None => Some(format!("{key} is gone")),
            Some(now) if now.content != before.content => Some(format!("{key} was changed")),
            Some(_) => None,
        });
        changed.collect()
    }

    /// What was not there earlier, in the order in which it is to be deleted.
    pub fn added(&self, earlier: &Self) -> Vec<Key> {
        let mut added: Vec<Key> =
            self.objects.keys().filter(|key| !earlier.objects.contains_key(*key)).cloned().collect();
        let rank = |key: &Key| OWNERS.iter().position(|kind| *kind == key.kind).unwrap_or(OWNERS.len());
        added.sort_by_key(rank);
        added
    }

    /// Deletes an object of this inventory at once, whoever wanted to have a say in that.
    ///
    /// # Errors
    /// If the API server refuses it, or the object is none of this inventory's.
    pub async fn delete(&self, client: &Client, key: &Key) -> Result<()> {
        let entry = self.objects.get(key).with_context(|| format!("{key} is not in the inventory"))?;
        let api = api(client, &entry.resource, key.namespace.as_deref());
        if entry.finalizers {
            let none = json!({ "metadata": { "finalizers": null } });
            unless_gone(api.patch(&key.name, &PatchParams::default(), &Patch::Merge(&none)).await)
                .with_context(|| format!("take the finalizers of {key}"))?;
        }
        unless_gone(api.delete(&key.name, &DeleteParams::background().grace_period(0)).await)
            .with_context(|| format!("delete {key}"))
    }
}

/// Passes when the object was there, and when it was gone already.
fn unless_gone<T>(outcome: kube::Result<T>) -> kube::Result<()> {
    match outcome {
        Err(Error::Api(status)) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

fn api(client: &Client, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

async fn list(client: &Client, resource: ApiResource) -> Result<Vec<(Key, Entry)>> {
    let found = api(client, &resource, None).list(&ListParams::default()).await;
    let found = found.with_context(|| format!("list {}", resource.plural))?;
    // Empty for some kinds, absent for others.
    let rest = found.metadata.continue_.unwrap_or_default();
    ensure!(rest.is_empty(), "the list of {} is not whole", resource.plural);
    let objects = found.items.into_iter().filter(|object| !is_of_the_servers(&resource.kind, object));
    Ok(objects.map(|object| entry(&resource, &object)).collect())
}

/// What the controller manager puts into every namespace, what lives in its own, and roles that it composes.
fn is_of_the_servers(kind: &str, object: &DynamicObject) -> bool {
    let name = object.name_any();
    object.namespace().as_deref() == Some(SERVERS_NAMESPACE)
        || (kind, name.as_str()) == ("ConfigMap", "kube-root-ca.crt")
        || (kind, name.as_str()) == ("ServiceAccount", "default")
        || object.labels().contains_key("kubernetes.io/bootstrapping")
}

fn entry(resource: &ApiResource, object: &DynamicObject) -> (Key, Entry) {
    let key = Key { kind: resource.kind.clone(), namespace: object.namespace(), name: object.name_any() };
    let mut content = object.data.clone();
    if let Some(fields) = content.as_object_mut() {
        fields.remove("status");
    }
    // KMM labels a namespace that has Modules.
    if resource.kind != "Namespace" {
        content["labels"] = json!(object.labels());
        content["annotations"] = json!(object.annotations());
    }
    (key, Entry { resource: resource.clone(), finalizers: !object.finalizers().is_empty(), content })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inventory(objects: &[(&str, &str, i32)]) -> Inventory {
        let resource = ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&());
        let entry = |content: i32| Entry { resource: resource.clone(), finalizers: false, content: json!(content) };
        let key = |kind: &str, name: &str| Key { kind: kind.into(), namespace: None, name: name.into() };
        Inventory { objects: objects.iter().map(|(kind, name, content)| (key(kind, name), entry(*content))).collect() }
    }

    #[test]
    fn what_came_what_went_and_what_changed() {
        let before = inventory(&[("Role", "kept", 1), ("Role", "edited", 1), ("Role", "deleted", 1)]);
        let after = inventory(&[("Role", "kept", 1), ("Role", "edited", 2), ("Node", "n", 1), ("DaemonSet", "d", 1)]);
        assert_eq!(after.lost(&before), ["Role deleted is gone", "Role edited was changed"]);
        let added: Vec<_> = after.added(&before).iter().map(ToString::to_string).collect();
        assert_eq!(added, ["DaemonSet d", "Node n"], "owners first");
    }
}
