//! Our package and KMM's in catalogs of the real Operator Lifecycle Manager, and what it makes of them.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cxi_api::crds::crds;
use cxi_control_plane::{ControlPlane, Family, NAMESPACE, OLM_NAMESPACE, Progress, Toolbox};
use cxi_e2e::{operator::log_tail, wait::wait_for};
use cxi_packaging::{
    olm::{self, CHANNEL, Flavour, PACKAGE, Release, catalog},
    release::unpublished,
};
use k8s_openapi::{
    api::apps::v1::Deployment, apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::releases;

/// Longest time that OLM may take for anything. Generous: it does one step of a plan after the other, all of them again after a
/// conflict, and the machine may be busy.
const LONG: Duration = Duration::from_mins(10);

/// The ClusterServiceVersion in the bundle that comes with KMM's module.
pub(crate) const KMM: &str = "kernel-module-management.v0.0.1";

/// This release, whose bundle is committed.
pub(crate) const THIS: &str = env!("CARGO_PKG_VERSION");

/// The next minor release.
pub(crate) fn next() -> Result<String> {
    let minor: u32 = env!("CARGO_PKG_VERSION_MINOR").parse().context("the minor version")?;
    Ok(format!("{}.{}.0", env!("CARGO_PKG_VERSION_MAJOR"), minor + 1))
}

/// Name of the ClusterServiceVersion of a release.
pub(crate) fn csv(version: &str) -> String {
    format!("{PACKAGE}.v{version}")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// An `InstallPlan` that OLM works on.
pub(crate) struct Approved {
    name: String,
    /// ClusterServiceVersions.
    pub(crate) installs: Vec<String>,
}

/// OLM's view of the cluster.
pub(crate) struct Olm {
    client: Client,
    logs: PathBuf,
}

impl Olm {
    /// Serves both catalogs: ours to the package's namespace, KMM's to everybody, as that of the community is.
    pub(crate) fn start(plane: &ControlPlane, client: Client) -> Result<Self> {
        let directory = plane.data_dir().join("catalogs");
        let next = next()?;
        let images = unpublished(&next)?;
        let bundle = directory.join("next");
        for (name, text) in olm::bundle(&Release { version: &next, images: &images, flavour: Flavour::V0 })? {
            write(&bundle.join(name), &text)?;
        }
        let kmm_bundle = Toolbox::ensure(&[Family::Kmm], &Progress::stderr())?.kmm_bundle()?.to_owned();
        let ours = catalog::package(PACKAGE, CHANNEL, &[&csv(THIS), &csv(&next)])?;
        let kmm = catalog::package("kernel-module-management", "alpha", &[KMM])?;
        let catalog = |name: &str, package: String, bundles: &[&Path]| -> Result<String> {
            let mut documents = vec![package];
            for bundle in bundles {
                documents.push(plane.render_bundle(bundle)?);
            }
            write(&directory.join(name).join("catalog.yaml"), &documents.join("\n---\n"))?;
            Ok(plane.serve_catalog(&directory.join(name))?)
        };
        let ours = catalog("ours", ours, &[&root().join("bundle"), &bundle])?;
        let community = catalog("community", kmm, &[&kmm_bundle])?;

        // Everything as it is shipped, but for where the catalog is.
        plane.apply(&shipped("namespace")?.to_string())?;
        plane.apply(&shipped("operatorgroup")?.to_string())?;
        let mut source = shipped("catalogsource")?;
        source["spec"] = json!({ "sourceType": "grpc", "address": ours });
        plane.apply(&source.to_string())?;
        source["metadata"] = json!({ "name": "operatorhubio-catalog", "namespace": OLM_NAMESPACE });
        source["spec"]["address"] = json!(community);
        plane.apply(&source.to_string())?;
        // KMM's bundle has a ServiceMonitor, which OLM does not install where the type is unknown.
        plane.apply(&service_monitors().to_string())?;
        plane.wait_for_crds()?;
        Ok(Self { client, logs: plane.data_dir().to_owned() })
    }

    /// Subscribes to our package, and to nothing else; each version waits for [`Olm::approve`].
    pub(crate) fn subscribe(plane: &ControlPlane) -> Result<()> {
        let mut subscription = shipped("subscription")?;
        subscription["spec"]["installPlanApproval"] = json!("Manual");
        subscription["spec"]["startingCSV"] = json!(csv(THIS));
        plane.apply(&subscription.to_string())?;
        Ok(())
    }

    /// Approves the `InstallPlan` with a ClusterServiceVersion, and says what it is.
    pub(crate) async fn approve(&self, csv: &str) -> Result<Approved> {
        let plans = self.api("InstallPlan", "installplans");
        let names = |plan: &DynamicObject| -> Vec<String> {
            serde_json::from_value(plan.data["spec"]["clusterServiceVersionNames"].clone()).unwrap_or_default()
        };
        let find = || async {
            let plans = plans.list(&ListParams::default()).await.context("list InstallPlans")?;
            // One that OLM has not begun to look at is not its last word: it may make another, after a conflict.
            let waits = |plan: &DynamicObject| plan.data["status"]["phase"] == "RequiresApproval";
            Ok(plans.items.into_iter().find(|plan| waits(plan) && names(plan).iter().any(|name| name == csv)))
        };
        let plan = self.wait(&format!("there is a plan to install {csv}"), find).await?;
        let name = plan.metadata.name.clone().context("the name of the InstallPlan")?;
        let approved = json!({ "spec": { "approved": true } });
        plans.patch(&name, &PatchParams::default(), &Patch::Merge(&approved)).await.context("approve")?;
        Ok(Approved { name, installs: names(&plan) })
    }

    /// Waits until OLM has installed our types.
    pub(crate) async fn types(&self) -> Result<()> {
        let types: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        for name in crds().iter().map(ResourceExt::name_any) {
            let there = || async { Ok(types.get_metadata_opt(&name).await?.map(drop)) };
            self.wait(&format!("there is a type {name}"), there).await?;
        }
        Ok(())
    }

    /// Waits until an `InstallPlan` is complete.
    pub(crate) async fn complete(&self, plan: &Approved) -> Result<()> {
        let plans = self.api("InstallPlan", "installplans");
        let complete = || async {
            let plan = plans.get(&plan.name).await.context("read the InstallPlan")?;
            Ok((plan.data["status"]["phase"] == "Complete").then_some(()))
        };
        self.wait(&format!("{} is complete", plan.name), complete).await
    }

    /// Waits until a ClusterServiceVersion has succeeded.
    pub(crate) async fn succeeded(&self, csv: &str) -> Result<()> {
        let versions = self.versions();
        let succeeded = || async {
            let version = versions.get_opt(csv).await.context("read the ClusterServiceVersion")?;
            Ok(version.filter(|version| version.data["status"]["phase"] == "Succeeded").map(drop))
        };
        self.wait(&format!("{csv} has succeeded"), succeeded).await
    }

    /// Waits until a ClusterServiceVersion is gone.
    pub(crate) async fn gone(&self, csv: &str) -> Result<()> {
        let versions = self.versions();
        let gone = || async {
            let version = versions.get_opt(csv).await.context("read the ClusterServiceVersion")?;
            Ok(version.is_none().then_some(()))
        };
        self.wait(&format!("{csv} is gone"), gone).await
    }

    /// Waits until OLM's Deployment of the operator is that of a release, and returns the flags that its environment stands
    /// for.
    pub(crate) async fn flags(&self, version: &str) -> Result<Vec<String>> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let find = || async {
            let deployment = deployments.get_opt(PACKAGE).await.context("read the Deployment")?;
            let container = deployment.and_then(|d| d.spec?.template.spec?.containers.into_iter().next());
            Ok(container.filter(|c| c.image.as_deref().is_some_and(|image| image.ends_with(&format!(":{version}")))))
        };
        let container = self.wait(&format!("the Deployment runs {version}"), find).await?;
        ensure!(releases::value(&container, "APPLY_AGENT_POLICY")? == "true", "nobody applies the policy for agents");
        let mut flags = releases::flags(&container)?;
        flags.push("--apply-agent-policy".to_owned());
        Ok(flags)
    }

    /// Waits until OLM's Deployment of the operator is gone.
    pub(crate) async fn without_operator(&self) -> Result<()> {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), NAMESPACE);
        let gone = || async {
            let deployment = deployments.get_opt(PACKAGE).await.context("read the Deployment")?;
            Ok(deployment.is_none().then_some(()))
        };
        self.wait("the Deployment is gone", gone).await
    }

    /// Subscriptions of the package's namespace, by the names of their packages.
    pub(crate) async fn subscriptions(&self) -> Result<Vec<String>> {
        let subscriptions = self.api("Subscription", "subscriptions").list(&ListParams::default()).await?;
        let mut names: Vec<_> = subscriptions.items.iter().filter_map(|s| s.data["spec"]["name"].as_str()).collect();
        names.sort_unstable();
        Ok(names.into_iter().map(str::to_owned).collect())
    }

    fn versions(&self) -> Api<DynamicObject> {
        self.api("ClusterServiceVersion", "clusterserviceversions")
    }

    fn api(&self, kind: &str, plural: &str) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("operators.coreos.com", "v1alpha1", kind);
        let resource = ApiResource::from_gvk_with_plural(&kind, plural);
        Api::namespaced_with(self.client.clone(), NAMESPACE, &resource)
    }

    async fn wait<T, A>(&self, what: &str, attempt: impl FnMut() -> A) -> Result<T>
    where
        A: Future<Output = Result<Option<T>>>,
    {
        wait_for(what, LONG, attempt, || self.story()).await
    }

    /// What OLM itself says.
    async fn story(&self) -> String {
        let mut story = Vec::new();
        let kinds = [
            ("Subscription", "subscriptions"),
            ("InstallPlan", "installplans"),
            ("ClusterServiceVersion", "clusterserviceversions"),
        ];
        for (kind, plural) in kinds {
            let objects = self.api(kind, plural).list(&ListParams::default()).await;
            for object in objects.map(|list| list.items).unwrap_or_default() {
                let status = &object.data["status"];
                let said = json!([status["state"], status["phase"], status["message"], status["conditions"]]);
                story.push(format!("{kind} {}: {said}", object.metadata.name.unwrap_or_default()));
            }
        }
        for log in ["olm-catalog.log", "olm-operator.log"] {
            story.push(format!("{log}:\n{}", log_tail(&self.logs.join(log))));
        }
        story.join("\n")
    }
}

/// An object of `olm/install`.
fn shipped(name: &str) -> Result<Value> {
    let path = root().join("olm/install").join(format!("{name}.yaml"));
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    serde_saphyr::from_str(&text).with_context(|| format!("understand {}", path.display()))
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::create_dir_all(path.parent().context("a directory")?)?;
    fs::write(path, text).with_context(|| format!("write {}", path.display()))
}

/// A CRD for `ServiceMonitor`s, which nobody acts on.
fn service_monitors() -> Value {
    let schema = json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": "servicemonitors.monitoring.coreos.com" },
        "spec": {
            "group": "monitoring.coreos.com",
            "scope": "Namespaced",
            "names": { "kind": "ServiceMonitor", "listKind": "ServiceMonitorList", "singular": "servicemonitor", "plural": "servicemonitors" },
            "versions": [{ "name": "v1", "served": true, "storage": true, "schema": schema }],
        },
    })
}
