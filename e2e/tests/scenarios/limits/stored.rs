//! A limit that a newer release brings does not hold up what was stored before it: the operator goes on writing the status of such
//! an object and its finalizers. The API server sees to that for a rule that is false, not for one that cannot be evaluated.

use std::time::Duration;

use anyhow::{Context, Result};
use cxi_api::{CXIDriver, crds::crds};
use cxi_e2e::{
    client::client,
    planes::{Contents, Plane, Wanted},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Api, ApiResource, DynamicObject, Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

/// How soon the API server goes by a changed CRD.
const SOON: Duration = Duration::from_secs(20);

/// What none of today's limits lets in.
fn spec() -> Value {
    json!({
        "version": "13.1.0",
        "nodeSelector": {"bad key!": "not a label", "cxi.hpe.com/driver": "x"},
        "tolerations": [{"operator": "exists"}],
        "source": {
            "image": "https://r/X",
            "kernelMappings": [{"regexp": "(", "image": "https://r/X:1"}, {"literal": "", "image": "r/x:1"}],
            "buildSecrets": ["key", "key", "Net RC"],
            "imagePullSecret": "Pull Secret",
            "sign": {"keySecret": "key", "certSecret": "cert"},
        },
        "devicePlugin": {
            "resourceName": "kubernetes.io/cxi",
            "image": "https://r/X:1",
            "kubeletRoot": "/proc/device-plugins",
            "extraMounts": [{"hostPath": "/"}, {"hostPath": "/"}, {"hostPath": "/dev/cxi0"}],
            "extraDevices": ["cxi0", "cxi0"],
            "libraries": {"ofiRoot": ["/opt/a\u{1}"]},
            "resources": {"limits": {"cpu": "lots"}},
        },
        "updateStrategy": {
            "maxUnavailable": 3_000_000_000_u32,
            "healthCheckTimeout": "999999999999h",
            "drain": {
                "waitTimeout": "9999999h",
                "evictTimeout": "99999h99999h99999h99999h99999h",
                "protectedPods": {
                    "matchLabels": {"bad key!": "a b"},
                    "matchExpressions": [{"key": "bad key!", "operator": "exists"}, {"key": "a", "operator": "In"}],
                },
                "protectedNamespaces": ["Jobs"],
            },
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn the_status_of_what_was_stored_before_a_limit_can_be_written() -> Result<()> {
    let plane = Plane::take(Wanted { contents: Contents::WithoutKmm, ..Wanted::ORDINARY }).await?;
    let client = client(plane.kubeconfig()).await?;
    let today = crds().into_iter().find(|crd| crd.spec.names.kind == "CXIDriver").context("CXIDriver has no CRD")?;
    let definitions = Api::<CustomResourceDefinition>::all(client.clone());
    let replace = async |crd: &Value| -> Result<()> {
        let name = "cxidrivers.cxi.hpe.com";
        let params = PatchParams::default();
        // Fields that a merge leaves out stay: the schema is one value.
        let versions = json!([{"op": "replace", "path": "/spec/versions", "value": crd["spec"]["versions"]}]);
        definitions.patch(name, &params, &Patch::<Value>::Json(serde_json::from_value(versions)?)).await?;
        Ok(())
    };
    let today = serde_json::to_value(today)?;
    let mut before = today.clone();
    loosen(&mut before["spec"]["versions"][0]["schema"]);
    replace(&before).await?;

    let api = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::erase::<CXIDriver>(&()));
    let object = |name: &str| -> Result<DynamicObject> {
        Ok(serde_json::from_value(json!({
            "apiVersion": "cxi.hpe.com/v1", "kind": "CXIDriver", "metadata": {"name": name}, "spec": spec(),
        }))?)
    };
    let begin = Instant::now();
    while let Err(error) = api.create(&PostParams::default(), &object("stored")?).await {
        anyhow::ensure!(begin.elapsed() < SOON, "without limits: {error}");
        sleep(Duration::from_millis(200)).await;
    }
    replace(&today).await?;
    let begin = Instant::now();
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    while api.create(&dry, &object("new")?).await.is_ok() {
        anyhow::ensure!(begin.elapsed() < SOON, "the limits do not come back");
        sleep(Duration::from_millis(200)).await;
    }

    let params = PatchParams::default();
    let status = json!({"status": {"state": "Blocked", "total": 3}});
    api.patch_status("stored", &params, &Patch::Merge(status)).await.context("write the status")?;
    for finalizers in [json!(["cxi.hpe.com/teardown"]), json!([])] {
        let patch = json!({"metadata": {"finalizers": finalizers}});
        api.patch("stored", &params, &Patch::Merge(patch)).await.context("write the finalizers")?;
    }
    // One fault after the other can be put right.
    let patch = json!({"spec": {"updateStrategy": {"drain": {"waitTimeout": "24h"}}}});
    api.patch("stored", &params, &Patch::Merge(patch)).await.context("correct one field")?;
    Ok(())
}

/// Takes out of a schema what limits the values of a type.
fn loosen(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            if fields.get("type").is_none_or(Value::is_string) {
                fields.retain(|key, value| {
                    let limit = ["x-kubernetes-validations", "pattern", "format", "enum"].contains(&key.as_str())
                        || ["maxLength", "minLength", "maxItems", "minItems", "maxProperties"].contains(&key.as_str());
                    // A field may be called like this as well.
                    !limit || value.is_object()
                });
            }
            fields.values_mut().for_each(loosen);
        }
        Value::Array(items) => items.iter_mut().for_each(loosen),
        _ => {}
    }
}
