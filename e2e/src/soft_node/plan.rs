//! What a pod asks of its kubelet, read from the pod's spec once.

use std::{collections::BTreeMap, time::Duration};

use clap::Parser;
use cxi_api::names::ROLE_LABEL;
use cxi_device_plugin::{
    cli::Args,
    kubelet_api::{device_id::Sharing, resource_name::ResourceName},
};
use k8s_openapi::api::core::v1::{Container, Pod};
use serde::Deserialize;

/// Pod annotation: how long the pod's process runs before it ends with success, such as `20s`.
pub const RUN_FOR: &str = "e2e.cxi.hpe.com/run-for";

/// Pod annotation: `"true"` makes the process ignore SIGTERM, so that it takes its whole grace period.
pub const IGNORE_SIGTERM: &str = "e2e.cxi.hpe.com/ignore-sigterm";

/// KMM's label of worker pods (`Load` or `Unload`). Source: KMM `internal/pod/workerpodmanager.go`.
const WORKER_ACTION: &str = "kmm.node.kubernetes.io/worker-action";

/// KMM's annotation of worker pods: what to load, as YAML.
const WORKER_CONFIG: &str = "kmm.node.kubernetes.io/worker-config";

/// KMM's label with the name of the Module.
const MODULE_NAME: &str = "kmm.node.kubernetes.io/module.name";

/// KMM's label of pods that find out whether an image exists.
const PULL_POD: &str = "kmm.node.kubernetes.io/pull-pod-type";

/// Seconds of grace of a pod that does not say (Kubernetes' default).
const DEFAULT_GRACE: i64 = 30;

/// A pod on a node.
#[derive(Clone, Debug)]
pub(crate) struct PodPlan {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) restart: Restart,
    pub(crate) grace: Duration,
    pub(crate) deleted: bool,
    /// Whether the API already shows a terminal phase.
    pub(crate) terminal: bool,
    pub(crate) init: Vec<ContainerPlan>,
    pub(crate) containers: Vec<ContainerPlan>,
    /// Extended resources.
    pub(crate) requests: BTreeMap<String, i64>,
    pub(crate) ignores_sigterm: bool,
    pub(crate) work: Work,
}

#[derive(Clone, Debug)]
pub(crate) struct ContainerPlan {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) always_pull: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Restart {
    Always,
    OnFailure,
    Never,
}

/// What the pod's process does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Work {
    /// Runs until it is told to end.
    Forever,
    /// Runs for a time, then ends with success.
    For(Duration),
    /// Has every NIC open until it is told to end.
    RetryHandler,
    /// Offers the NICs to the kubelet.
    Plugin(PluginPlan),
    /// KMM's worker loads the driver.
    Load(WorkerPlan),
    /// KMM's worker unloads the driver.
    Unload(WorkerPlan),
    /// Ends as soon as its image is there.
    Pull,
    /// Ends as soon as its images are there, and says what is in the one named `manifest`.
    Prefetch { image: String },
    /// Takes modules out.
    Cleanup { modules: Vec<String> },
    /// Has the host load the driver that it brings.
    HostDriver,
    /// Tests the node, and passes or fails as its first argument says.
    Validate(Verdict),
    /// A spec that makes no sense to the node: it fails with this message.
    Broken(String),
}

/// What comes of a test of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Passes,
    Fails,
    Hangs,
}

/// How a device plugin offers NICs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PluginPlan {
    pub(crate) resource: ResourceName,
    /// Ids per NIC.
    pub(crate) sharing: Sharing,
}

/// What a KMM worker is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WorkerPlan {
    pub(crate) owner: String,
    pub(crate) image: String,
    pub(crate) kernel: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WorkerConfig {
    container_image: String,
    kernel_version: String,
}

impl PodPlan {
    /// Reads a pod; `None` if it has no UID (which the API server never sends).
    pub(crate) fn read(pod: &Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        let spec = pod.spec.as_ref()?;
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        let seconds =
            metadata.deletion_grace_period_seconds.or(spec.termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE);
        let annotation = |key| metadata.annotations.as_ref().and_then(|a| a.get(key));
        Some(Self {
            namespace: metadata.namespace.clone()?,
            name: metadata.name.clone()?,
            uid: metadata.uid.clone()?,
            restart: match spec.restart_policy.as_deref() {
                Some("Never") => Restart::Never,
                Some("OnFailure") => Restart::OnFailure,
                _ => Restart::Always,
            },
            grace: Duration::from_secs(u64::try_from(seconds).unwrap_or(0)),
            deleted: metadata.deletion_timestamp.is_some(),
            terminal: matches!(phase, Some("Succeeded" | "Failed")),
            init: spec.init_containers.iter().flatten().map(ContainerPlan::read).collect(),
            containers: spec.containers.iter().map(ContainerPlan::read).collect(),
            requests: extended_requests(&spec.containers),
            ignores_sigterm: annotation(IGNORE_SIGTERM).is_some_and(|value| value == "true"),
            work: Work::read(pod, &spec.containers),
        })
    }

    /// Whether every image must be one that the registry knows; other pods run any image.
    pub(crate) fn needs_known_images(&self) -> bool {
        matches!(self.work, Work::Load(_) | Work::Unload(_) | Work::Pull | Work::Prefetch { .. })
    }
}

impl ContainerPlan {
    fn read(container: &Container) -> Self {
        Self {
            name: container.name.clone(),
            image: container.image.clone().unwrap_or_default(),
            always_pull: container.image_pull_policy.as_deref() == Some("Always"),
        }
    }
}

impl Work {
    fn read(pod: &Pod, containers: &[Container]) -> Self {
        let label = |key| pod.metadata.labels.as_ref().and_then(|l| l.get(key)).map(String::as_str);
        let annotation = |key| pod.metadata.annotations.as_ref().and_then(|a| a.get(key));
        let Some(first) = containers.first() else { return Self::Broken("no container".into()) };
        if let Some(action) = label(WORKER_ACTION) {
            let config = annotation(WORKER_CONFIG).map_or("", String::as_str);
            return match serde_saphyr::from_str::<WorkerConfig>(config) {
                Err(error) => Self::Broken(format!("worker configuration: {error}")),
                Ok(config) => {
                    let plan = WorkerPlan {
                        owner: label(MODULE_NAME).unwrap_or_default().to_owned(),
                        image: config.container_image,
                        kernel: config.kernel_version,
                    };
                    if action == "Load" { Self::Load(plan) } else { Self::Unload(plan) }
                }
            };
        }
        if label(PULL_POD).is_some() {
            return Self::Pull;
        }
        match label(ROLE_LABEL) {
            Some("device-plugin") => return PluginPlan::read(first).map_or_else(Self::Broken, Self::Plugin),
            Some("prefetch") => {
                return match containers.iter().find(|c| c.name == "manifest") {
                    Some(container) => Self::Prefetch { image: container.image.clone().unwrap_or_default() },
                    None => Self::Broken("no container named manifest".into()),
                };
            }
            Some("retry-handler") => return Self::RetryHandler,
            Some("cleanup") => return Self::Cleanup { modules: cleanup_modules(first) },
            Some("host-driver") => return Self::HostDriver,
            Some("validation") => {
                return Self::Validate(match first.args.iter().flatten().next().map(String::as_str) {
                    Some("fail") => Verdict::Fails,
                    Some("hang") => Verdict::Hangs,
                    _ => Verdict::Passes,
                });
            }
            _ => {}
        }
        match annotation(RUN_FOR).map(|text| text.parse::<cxi_api::GoDuration>()) {
            None => Self::Forever,
            Some(Ok(duration)) => Self::For(duration.0),
            Some(Err(error)) => Self::Broken(error.to_string()),
        }
    }
}

impl PluginPlan {
    /// What the plugin makes of its container's variables, which it is given as flags here; or why it does not start.
    fn read(container: &Container) -> Result<Self, String> {
        let flags = container.env.iter().flatten().filter_map(|variable| {
            let flag = match variable.name.as_str() {
                "CXI_RESOURCE_NAME" => "--resource-name",
                "CXI_SHARING_MODE" => "--sharing-mode",
                "CXI_SHARED_CAPACITY" => "--shared-capacity",
                _ => return None,
            };
            Some(format!("{flag}={}", variable.value.as_ref()?))
        });
        let line = ["cxi-device-plugin", "--standalone"].map(str::to_owned).into_iter().chain(flags);
        let config = Args::try_parse_from(line).map_err(|error| error.to_string())?.into_config();
        Ok(Self { resource: config.resource, sharing: config.sharing })
    }
}

/// The values of `--module` of a clean-up pod's command line.
fn cleanup_modules(container: &Container) -> Vec<String> {
    let line: Vec<&String> = container.command.iter().flatten().chain(container.args.iter().flatten()).collect();
    let mut modules = Vec::new();
    let mut words = line.into_iter();
    while let Some(word) = words.next() {
        if word == "--module" {
            modules.extend(words.next().cloned());
        } else if let Some(module) = word.strip_prefix("--module=") {
            modules.push(module.to_owned());
        }
    }
    modules
}

/// Sum of the extended resources that the containers ask for.
pub(crate) fn extended_requests(containers: &[Container]) -> BTreeMap<String, i64> {
    let mut sum = BTreeMap::new();
    for resources in containers.iter().filter_map(|c| c.resources.as_ref()) {
        // Extended resources have equal requests and limits, and either may be left out.
        let mut wanted: BTreeMap<&String, i64> = BTreeMap::new();
        for (name, quantity) in [&resources.limits, &resources.requests].into_iter().flatten().flatten() {
            if let (true, Ok(number)) = (name.contains('/'), quantity.0.parse()) {
                wanted.insert(name, number);
            }
        }
        for (name, number) in wanted {
            *sum.entry(name.clone()).or_insert(0) += number;
        }
    }
    sum.retain(|_, total| *total > 0);
    sum
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn plan(labels: &Value, annotations: &Value, containers: &Value) -> PodPlan {
        let pod = json!({
            "metadata": { "name": "p", "namespace": "n", "uid": "u", "labels": labels, "annotations": annotations },
            "spec": { "containers": containers },
        });
        PodPlan::read(&serde_json::from_value(pod).unwrap()).unwrap()
    }

    #[test]
    fn reads_a_worker_of_kmm() {
        let config = "containerImage: reg/cxi:13.0.0-6.1\nimagePullPolicy: IfNotPresent\nkernelVersion: 6.1+x\nmodprobe:\n  moduleName: cxi_ss1\n";
        let pod = plan(
            &json!({ "kmm.node.kubernetes.io/worker-action": "Load", "kmm.node.kubernetes.io/module.name": "cxi-a" }),
            &json!({ "kmm.node.kubernetes.io/worker-config": config }),
            &json!([{ "name": "worker", "image": "kmm-worker:test" }]),
        );
        let worker = WorkerPlan { owner: "cxi-a".into(), image: "reg/cxi:13.0.0-6.1".into(), kernel: "6.1+x".into() };
        assert_eq!(pod.work, Work::Load(worker));
        assert!(pod.needs_known_images());
    }

    #[test]
    fn reads_the_pods_of_the_operator() {
        let role = |role: &str| json!({ "cxi.hpe.com/role": role });
        let env =
            json!([{ "name": "CXI_SHARED_CAPACITY", "value": "4" }, { "name": "CXI_SHARING_MODE", "value": "shared" }]);
        let pod = plan(&role("device-plugin"), &json!({}), &json!([{ "name": "p", "env": env }]));
        let shared = Sharing::Shared { capacity: 4.try_into().unwrap() };
        assert_eq!(pod.work, Work::Plugin(PluginPlan { resource: "hpe.com/cxi".parse().unwrap(), sharing: shared }));
        let args = json!(["remove-modules", "--module", "cxi_eth", "--module=cxi_user"]);
        let pod = plan(&role("cleanup"), &json!({}), &json!([{ "name": "c", "args": args }]));
        assert_eq!(pod.work, Work::Cleanup { modules: vec!["cxi_eth".into(), "cxi_user".into()] });
        let pod = plan(&role("host-driver"), &json!({}), &json!([{ "name": "modprobe" }]));
        assert_eq!(pod.work, Work::HostDriver);
        let pod = plan(&role("prefetch"), &json!({}), &json!([{ "name": "manifest", "image": "i:1" }]));
        assert_eq!(pod.work, Work::Prefetch { image: "i:1".into() });
    }

    #[test]
    fn sums_the_extended_resources_of_a_job() {
        let limits = json!({ "limits": { "hpe.com/cxi": "2", "cpu": "1" }, "requests": { "hpe.com/cxi": "2" } });
        let containers = json!([{ "name": "a", "resources": limits }, { "name": "b", "resources": limits }]);
        let pod = plan(&json!({}), &json!({ RUN_FOR: "20s", IGNORE_SIGTERM: "true" }), &containers);
        assert_eq!(pod.requests, [("hpe.com/cxi".to_owned(), 4)].into());
        assert_eq!(pod.work, Work::For(Duration::from_secs(20)));
        assert!(pod.ignores_sigterm);
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let worker = json!({ "kmm.node.kubernetes.io/worker-action": "Load" });
        let plugin = json!({ "cxi.hpe.com/role": "device-plugin" });
        let env = json!([{ "name": "CXI_SHARING_MODE", "value": "both" }]);
        for (labels, annotations) in [(worker, json!({})), (plugin, json!({})), (json!({}), json!({ RUN_FOR: "soon" }))]
        {
            let pod = plan(&labels, &annotations, &json!([{ "name": "a", "env": env }]));
            assert!(matches!(pod.work, Work::Broken(_)), "{:?}", pod.work);
        }
    }
}
