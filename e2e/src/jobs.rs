//! The workload of a scenario: pods, Deployments and Jobs that hold NICs, run by the real controllers and scheduler.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, Result};
use cxi_api::{GoDuration, names::DEFAULT_RESOURCE};
use k8s_openapi::api::{
    apps::v1::Deployment,
    batch::v1::Job,
    core::v1::{Namespace, Pod},
    policy::v1::PodDisruptionBudget,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

use crate::plain::Plain;
use crate::soft_node::{IGNORE_SIGTERM, RUN_FOR};

/// Namespace of the workload.
pub const NAMESPACE: &str = "jobs";

/// Label with the name of the workload that a pod belongs to.
pub const JOB_LABEL: &str = "e2e.cxi.hpe.com/job";

const FIELD_MANAGER: &str = "e2e-scenario";

/// What a pod of a workload is like.
#[derive(Clone, Debug)]
pub struct JobShape {
    /// NIC shares that it asks for; 0 makes a pod without a NIC.
    pub nics: usize,
    /// After that time it succeeds; it runs for ever when absent.
    pub run_for: Option<Duration>,
    /// Whether it ignores SIGTERM and takes its whole grace period.
    pub ignores_sigterm: bool,
    /// Grace period in seconds.
    pub grace: i64,
    /// Node that it must run on; the scheduler chooses when absent.
    pub node: Option<String>,
    /// Labels besides ours.
    pub labels: BTreeMap<String, String>,
    /// CPU that it asks for, in thousandths of a processor; nothing when 0.
    pub millicores: i64,
}

impl Default for JobShape {
    fn default() -> Self {
        Self {
            nics: 1,
            run_for: None,
            ignores_sigterm: false,
            grace: 30,
            node: None,
            labels: BTreeMap::new(),
            millicores: 0,
        }
    }
}

impl JobShape {
    /// A pod on one node.
    pub fn on(node: &str) -> Self {
        Self { node: Some(node.to_owned()), ..Self::default() }
    }

    fn template(&self, name: &str, restart: Option<&str>) -> Value {
        let mut labels = self.labels.clone();
        labels.insert(JOB_LABEL.to_owned(), name.to_owned());
        let mut annotations = BTreeMap::new();
        if let Some(time) = self.run_for {
            annotations.insert(RUN_FOR, GoDuration(time).to_string());
        }
        if self.ignores_sigterm {
            annotations.insert(IGNORE_SIGTERM, "true".to_owned());
        }
        let mut container = json!({ "name": "app", "image": "registry.example/app:1" });
        if self.nics > 0 {
            container["resources"] = json!({ "limits": { DEFAULT_RESOURCE: self.nics.to_string() } });
        }
        if self.millicores > 0 {
            container["resources"]["requests"] = json!({ "cpu": format!("{}m", self.millicores) });
        }
        let mut spec = json!({ "terminationGracePeriodSeconds": self.grace, "containers": [container] });
        if let Some(restart) = restart {
            spec["restartPolicy"] = json!(restart);
        }
        if let Some(node) = &self.node {
            spec["nodeSelector"] = json!({ "kubernetes.io/hostname": node });
        }
        json!({ "metadata": { "labels": labels, "annotations": annotations }, "spec": spec })
    }
}

/// Starts and looks at workloads.
#[derive(Clone)]
pub struct Jobs {
    client: Client,
}

impl Jobs {
    /// Makes the namespace.
    ///
    /// # Errors
    /// If the API server does not take it. The same holds for all methods below.
    pub async fn new(client: Client) -> Result<Self> {
        let jobs = Self { client };
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } });
        let api: Api<Namespace> = Api::all(jobs.client.clone());
        api.patch(NAMESPACE, &apply(), &Patch::Apply(&namespace)).await.context("make namespace jobs")?;
        // Pods need the account, which a controller makes a moment later.
        let account = json!({
            "apiVersion": "v1",
            "kind": "ServiceAccount",
            "metadata": { "name": "default", "namespace": NAMESPACE },
        });
        let api: Api<k8s_openapi::api::core::v1::ServiceAccount> = Api::namespaced(jobs.client.clone(), NAMESPACE);
        api.patch("default", &apply(), &Patch::Apply(&account)).await.context("make service account")?;
        Ok(jobs)
    }

    /// A pod that nobody recreates.
    ///
    /// # Errors
    /// See [`Jobs::new`].
    pub async fn pod(&self, name: &str, shape: &JobShape) -> Result<()> {
        let mut pod = shape.template(name, Some("Never"));
        pod["apiVersion"] = json!("v1");
        pod["kind"] = json!("Pod");
        pod["metadata"]["name"] = json!(name);
        self.api::<Pod>().patch(name, &apply(), &Patch::Apply(&pod)).await.context("make pod")?;
        Ok(())
    }

    /// A Deployment: an evicted pod is recreated at once.
    ///
    /// # Errors
    /// See [`Jobs::new`].
    pub async fn deployment(&self, name: &str, replicas: usize, shape: &JobShape) -> Result<()> {
        let deployment = json!({
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": { "name": name },
            "spec": {
                "replicas": replicas,
                "selector": { "matchLabels": { JOB_LABEL: name } },
                "template": shape.template(name, None),
            },
        });
        let api = self.api::<Deployment>();
        api.patch(name, &apply(), &Patch::Apply(&deployment)).await.context("make deployment")?;
        Ok(())
    }

    /// A batch Job of `pods` pods at the same time, which restarts those that fail.
    ///
    /// # Errors
    /// See [`Jobs::new`].
    pub async fn batch(&self, name: &str, pods: usize, shape: &JobShape) -> Result<()> {
        self.batch_with(name, pods, shape.template(name, Some("Never"))).await
    }

    /// A batch Job with one pod on each of two or more nodes at the same time.
    ///
    /// # Errors
    /// See [`Jobs::new`].
    pub async fn spanning(&self, name: &str, pods: usize, shape: &JobShape) -> Result<()> {
        let mut template = shape.template(name, Some("Never"));
        template["spec"]["affinity"] = json!({ "podAntiAffinity": {
            "requiredDuringSchedulingIgnoredDuringExecution": [{
                "labelSelector": { "matchLabels": { JOB_LABEL: name } },
                "topologyKey": "kubernetes.io/hostname",
            }],
        } });
        self.batch_with(name, pods, template).await
    }

    async fn batch_with(&self, name: &str, pods: usize, template: Value) -> Result<()> {
        let job = json!({
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": { "name": name },
            "spec": {
                "parallelism": pods,
                "completions": pods,
                "backoffLimit": 100,
                // Evictions are not failures of the job.
                "podFailurePolicy": { "rules": [{
                    "action": "Ignore",
                    "onPodConditions": [{ "type": "DisruptionTarget", "status": "True" }],
                }] },
                "template": template,
            },
        });
        self.api::<Job>().patch(name, &apply(), &Patch::Apply(&job)).await.context("make job")?;
        Ok(())
    }

    /// A PodDisruptionBudget over the pods of a workload; `min_available` as many as there are forbids every eviction.
    ///
    /// # Errors
    /// See [`Jobs::new`].
    pub async fn protect(&self, name: &str, min_available: usize) -> Result<()> {
        let budget = json!({
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": { "name": name },
            "spec": {
                "minAvailable": min_available,
                "selector": { "matchLabels": { JOB_LABEL: name } },
            },
        });
        let api = self.api::<PodDisruptionBudget>();
        api.patch(name, &apply(), &Patch::Apply(&budget)).await.context("make disruption budget")?;
        Ok(())
    }

    /// Takes the PodDisruptionBudget of a workload away.
    ///
    /// # Errors
    /// See [`Jobs::new`].
    pub async fn unprotect(&self, name: &str) -> Result<()> {
        let api = self.api::<PodDisruptionBudget>();
        api.delete(name, &DeleteParams::default()).await.context("delete disruption budget")?;
        Ok(())
    }

    /// A pod by its name, if it is there.
    ///
    /// # Errors
    /// See [`Jobs::new`].
    pub async fn get(&self, name: &str) -> Result<Option<Pod>> {
        Ok(self.api::<Plain<Pod>>().get_opt(name).await.context("read pod")?.map(|Plain(pod)| pod))
    }

    /// The pods of a workload that have not ended.
    ///
    /// # Errors
    /// See [`Jobs::new`].
    pub async fn living(&self, name: &str) -> Result<Vec<Pod>> {
        let list = ListParams::default().labels(&format!("{JOB_LABEL}={name}"));
        let pods = self.api::<Plain<Pod>>().list(&list).await.context("list pods")?;
        let phase = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.clone()).unwrap_or_default();
        let pods = pods.items.into_iter().map(|Plain(pod)| pod);
        Ok(pods.filter(|pod| !matches!(phase(pod).as_str(), "Succeeded" | "Failed")).collect())
    }

    /// Names of the nodes on which pods of a workload run.
    ///
    /// # Errors
    /// See [`Jobs::new`].
    pub async fn running_on(&self, name: &str) -> Result<Vec<String>> {
        let running = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        let pods = self.living(name).await?;
        Ok(pods.iter().filter(|pod| running(pod)).filter_map(|p| p.spec.as_ref()?.node_name.clone()).collect())
    }

    fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

fn apply() -> PatchParams {
    PatchParams::apply(FIELD_MANAGER).force()
}
