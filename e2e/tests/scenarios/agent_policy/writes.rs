//! What agents try, and whether they may.

use anyhow::{Context, Result, bail};
use kube::{
    Api, Client,
    api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// What an agent tries. The body names kind and object.
#[derive(Debug)]
pub enum Write {
    Apply(Value),
    ApplyStatus(Value),
    Merge(Value),
    MergeStatus(Value),
    /// The operations of a JSON patch.
    Json(Value, Value),
    /// PUT.
    Replace(Value),
    Create(Value),
    Evict(Value),
    Delete(Value),
    DeleteAll(Value),
    /// No write, but as little an agent's business.
    Read(Value),
}

impl Write {
    /// Sends it.
    pub async fn send(&self, client: &Client) -> Result<(), kube::Error> {
        let (Self::Apply(body)
        | Self::ApplyStatus(body)
        | Self::Merge(body)
        | Self::MergeStatus(body)
        | Self::Json(body, _)
        | Self::Replace(body)
        | Self::Create(body)
        | Self::Evict(body)
        | Self::Delete(body)
        | Self::DeleteAll(body)
        | Self::Read(body)) = self;
        let name = body["metadata"]["name"].as_str().unwrap_or_default();
        let api = api(client, body);
        let apply = PatchParams::apply("cxi-agent").force();
        let merge = PatchParams::default();
        match self {
            Self::Apply(_) => api.patch(name, &apply, &Patch::Apply(body)).await.map(drop),
            Self::ApplyStatus(_) => api.patch_status(name, &apply, &Patch::Apply(body)).await.map(drop),
            Self::Merge(_) => api.patch(name, &merge, &Patch::Merge(body)).await.map(drop),
            Self::MergeStatus(_) => api.patch_status(name, &merge, &Patch::Merge(body)).await.map(drop),
            Self::Json(_, operations) => {
                let operations = serde_json::from_value(operations.clone()).map_err(kube::Error::SerdeError)?;
                api.patch(name, &merge, &Patch::<()>::Json(operations)).await.map(drop)
            }
            Self::Replace(_) => api.replace(name, &PostParams::default(), &object(body)?).await.map(drop),
            Self::Create(_) => api.create(&PostParams::default(), &object(body)?).await.map(drop),
            Self::Evict(_) => {
                let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": body["metadata"] });
                api.create_subresource::<_, Value>("eviction", name, &PostParams::default(), &eviction).await.map(drop)
            }
            Self::Read(_) => api.get(name).await.map(drop),
            Self::Delete(_) => api.delete(name, &DeleteParams::default()).await.map(drop),
            Self::DeleteAll(_) => {
                api.delete_collection(&DeleteParams::default(), &ListParams::default()).await.map(drop)
            }
        }
    }

    /// Is accepted.
    pub async fn works(self, client: &Client) -> Result<()> {
        self.send(client).await.with_context(|| format!("an agent needs this: {self:?}"))
    }

    /// Refused by whoever says `because`.
    pub async fn refused(self, client: &Client, because: &str) -> Result<()> {
        match self.send(client).await {
            Ok(()) => bail!("an agent must not do this: {self:?}"),
            Err(kube::Error::Api(status)) if status.code == 403 && status.message.contains(because) => Ok(()),
            Err(error) => Err(error).with_context(|| format!("not refused because {because:?}: {self:?}")),
        }
    }
}

fn object(body: &Value) -> Result<DynamicObject, kube::Error> {
    serde_json::from_value(body.clone()).map_err(kube::Error::SerdeError)
}

pub fn api(client: &Client, object: &Value) -> Api<DynamicObject> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let (group, version) = object["apiVersion"].as_str().unwrap_or_default().split_once('/').unwrap_or(("", "v1"));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
    match object["metadata"]["namespace"].as_str() {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
        None => Api::all_with(client.clone(), &resource),
    }
}

pub fn cxi(kind: &str, name: &str) -> Value {
    json!({ "apiVersion": "cxi.hpe.com/v1", "kind": kind, "metadata": { "name": name } })
}

pub fn report_of(node: &str) -> Value {
    let mut object = cxi("CXINode", node);
    object["status"] = json!({ "node": {
        "kernel": "6.12", "bootID": "b", "observedAt": "2026-01-01T00:00:00Z", "sequence": 1,
    } });
    object
}

pub fn phase_of(node: &str, phase: &str) -> Value {
    let mut object = cxi("CXINode", node);
    object["status"] = json!({ "rollout": {
        "driver": "cassini", "phase": phase, "since": "2026-01-01T00:00:00Z", "attempt": 1,
    } });
    object
}

pub fn device(name: &str, label: &str) -> Value {
    let mut object = cxi("CXIDevice", name);
    object["metadata"]["labels"] = json!({ "cxi.hpe.com/node": label });
    object["spec"] = json!({});
    object
}

pub fn device_status(name: &str, node: &str) -> Value {
    let mut object = cxi("CXIDevice", name);
    object["status"] = json!({
        "node": node, "device": "cxi0", "pciAddress": "0000:21:00.0", "linkState": "up", "health": { "status": "Healthy" },
    });
    object
}
