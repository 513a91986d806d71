//! Soft nodes against the real KMM, without our operator: that they behave as KMM expects of a kubelet, and that the
//! driver model tells what really happens when labels are set at the wrong time.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

use std::{collections::BTreeMap, time::Duration};

use cxi_api::{CXINode, kmm::NodeModulesConfig, names};
use cxi_control_plane::NAMESPACE;
use cxi_e2e::{
    client::client,
    driver_model::{Registry, image_reference},
    jobs::{JobShape, Jobs},
    planes::{Plane, Wanted},
    soft_node::{KERNEL, NodeShape, Pace, SoftCluster},
    truth::Fact,
    wait::wait_for,
};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams, PostParams},
};
use serde_json::json;

const REPOSITORY: &str = "registry.example/cxi";
const A: &str = "cxi-aaaa1111";
const B: &str = "cxi-bbbb2222";
const NODE: &str = "n-01";
const OTHER: &str = "n-02";

struct Lab {
    client: Client,
    soft: SoftCluster,
    plane: Plane,
}

impl Lab {
    async fn start() -> Self {
        let plane = Plane::take(Wanted::ORDINARY).await.unwrap();
        let client = client(plane.kubeconfig()).await.unwrap();
        let mut registry = Registry::default();
        registry.add_other("kmm-worker:test");
        registry.publish(REPOSITORY, "13.0.0");
        registry.publish(REPOSITORY, "13.1.0");
        let soft = SoftCluster::start(client.clone(), registry, Pace::default());
        let lab = Self { client, soft, plane };
        lab.module(A, "13.0.0");
        lab.module(B, "13.1.0");
        lab
    }

    fn module(&self, name: &str, version: &str) {
        let module = json!({
            "apiVersion": "kmm.sigs.x-k8s.io/v1beta1",
            "kind": "Module",
            "metadata": { "name": name, "namespace": NAMESPACE },
            "spec": {
                "selector": { "feature.node.kubernetes.io/pci-1590.present": "true" },
                "tolerations": [{ "operator": "Exists" }],
                "moduleLoader": {
                    "serviceAccountName": "default",
                    "container": {
                        "version": name,
                        "modprobe": { "moduleName": "cxi_ss1" },
                        "kernelMappings": [{
                            "regexp": "^.+$",
                            "containerImage": format!("{REPOSITORY}:{version}-${{KERNEL_FULL_VERSION}}"),
                        }],
                    },
                },
            },
        });
        self.plane.apply(&module.to_string()).unwrap();
    }

    /// Sets the label of one Module on a node, or removes it.
    async fn label(&self, node: &str, module: &str, set: bool) {
        let key = names::kmm_version_label(NAMESPACE, module);
        let patch = json!({ "metadata": { "labels": { key: set.then_some(module) } } });
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.patch(node, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    }

    async fn labels(&self, node: &str) -> BTreeMap<String, String> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.get(node).await.unwrap().metadata.labels.unwrap_or_default()
    }

    async fn is_ready(&self, node: &str, module: &str) -> bool {
        let key = names::kmm_version_ready_label(NAMESPACE, module);
        self.labels(node).await.get(&key).is_some_and(|version| version == module)
    }

    /// Modules that KMM has on a node, as far as it knows.
    async fn kmm_has(&self, node: &str) -> Vec<String> {
        let nmcs: Api<NodeModulesConfig> = Api::all(self.client.clone());
        let status = nmcs.get_opt(node).await.unwrap().and_then(|nmc| nmc.status).unwrap_or_default();
        status.modules.into_iter().map(|module| module.name).collect()
    }

    async fn worker(&self, node: &str, module: &str) -> Option<Pod> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), NAMESPACE);
        pods.get_opt(&names::kmm_worker_pod(node, module)).await.unwrap()
    }

    /// Release of the driver that is really in.
    fn driver(&self, node: &str) -> Option<String> {
        self.soft.truth(node).unwrap().driver.map(|build| build.version)
    }

    async fn until(&self, what: &str, holds: impl AsyncFn() -> bool) {
        let attempt = || async { Ok(holds().await.then_some(())) };
        let context = || async {
            let pods: Api<Pod> = Api::all(self.client.clone());
            let pods = pods.list(&ListParams::default()).await.unwrap().items;
            let lines = pods.iter().map(|pod| {
                let status = pod.status.as_ref();
                format!(
                    "{} {:?} {:?} {:?}",
                    pod.metadata.name.clone().unwrap(),
                    pod.spec.as_ref().unwrap().node_name,
                    status.and_then(|s| s.phase.clone()),
                    status.and_then(|s| s.reason.clone())
                )
            });
            let records = self.soft.records().into_iter().map(|r| format!("{} {:?}", r.node, r.fact));
            let logs = std::fs::read_to_string(self.plane.data_dir().join("kmm-manager.log")).unwrap();
            let tail = &logs[logs.len().saturating_sub(3_000)..];
            lines.chain(records).chain([tail.to_owned()]).collect::<Vec<_>>().join("\n")
        };
        wait_for(what, Duration::from_secs(40), attempt, context).await.unwrap();
    }

    async fn load(&self, node: &str, module: &str) {
        self.label(node, module, true).await;
        self.until(&format!("KMM loads {module} on {node}"), async || self.is_ready(node, module).await).await;
    }

    async fn unload(&self, node: &str, module: &str) {
        self.label(node, module, false).await;
        self.until(&format!("KMM unloads {module} from {node}"), async || {
            self.kmm_has(node).await.is_empty()
                && self.worker(node, module).await.is_none()
                && !self.is_ready(node, module).await
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_real_kmm_drives_soft_nodes() {
    let mut lab = Lab::start().await;
    lab.soft.add_nodes("n", 2, &NodeShape::default());

    loads_moves_and_goes_back(&lab).await;
    an_agent_reports_and_a_plugin_offers(&lab).await;
    a_stuck_unload_goes_on_when_the_holder_leaves(&lab).await;
    two_labels_at_once_lose_the_driver_while_kmm_says_it_is_there(&lab).await;
    a_failed_load_leaves_modules_that_nobody_takes_out(&lab).await;
    a_reboot_reloads_by_itself_also_for_another_kernel(&lab).await;
    a_missing_old_image_hangs_the_unload(&lab).await;

    lab.soft.stop().await;
    lab.plane.give_back().await.unwrap();
}

async fn loads_moves_and_goes_back(lab: &Lab) {
    lab.soft.wait_until_ready(Duration::from_secs(30)).await.unwrap();
    lab.load(NODE, A).await;
    assert_eq!(lab.driver(NODE).as_deref(), Some("13.0.0"));
    assert_eq!(lab.driver(OTHER), None, "a node without the label is left alone");
    lab.unload(NODE, A).await;
    assert_eq!(lab.driver(NODE), None);
    lab.load(NODE, B).await;
    assert_eq!(lab.driver(NODE).as_deref(), Some("13.1.0"));
    lab.unload(NODE, B).await;
    lab.load(NODE, A).await;
    assert_eq!(lab.soft.truth(NODE).unwrap().owner.as_deref(), Some(A));
}

async fn an_agent_reports_and_a_plugin_offers(lab: &Lab) {
    let cxi: Api<CXINode> = Api::all(lab.client.clone());
    cxi.create(&PostParams::default(), &CXINode::new(NODE, cxi_api::CXINodeSpec {})).await.unwrap();
    let rollout = |advertise: &str, since: &str| {
        json!({ "status": { "rollout": {
            "driver": "d", "phase": "UpToDate", "since": since, "advertise": advertise,
        } } })
    };
    let set = async |advertise: &str, since: &str| {
        let patch = rollout(advertise, since);
        cxi.patch_status(NODE, &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    };
    set("All", "2026-01-01T00:00:00.123456Z").await;
    let report = async || cxi.get(NODE).await.unwrap().status.and_then(|status| status.node);
    let acknowledged = async || report().await.and_then(|r| r.acknowledged).map(|since| since.to_string());
    lab.until("the agent acknowledges the phase", async || {
        acknowledged().await.as_deref() == Some("2026-01-01T00:00:00.123456Z")
    })
    .await;
    let first = report().await.unwrap();
    assert_eq!(first.modules.len(), 5);
    assert_eq!(first.devices.len(), 2);
    assert_eq!(first.driver_version.as_deref(), Some("13.0.0"));

    plugin(lab);
    let offered = async || {
        let nodes: Api<Node> = Api::all(lab.client.clone());
        let allocatable = nodes.get(NODE).await.unwrap().status.unwrap().allocatable.unwrap();
        allocatable.get("hpe.com/cxi").map(|quantity| quantity.0.clone())
    };
    lab.until("two NICs are offered four times each", async || offered().await.as_deref() == Some("8")).await;

    let jobs = Jobs::new(lab.client.clone()).await.unwrap();
    jobs.pod("holder", &JobShape::on(NODE)).await.unwrap();
    lab.until("the holder is reported", async || report().await.unwrap().open_files.len() == 1).await;
    set("InUse", "2026-01-01T00:00:01Z").await;
    lab.until("only what is in use is offered", async || offered().await.as_deref() == Some("1")).await;
    set("None", "2026-01-01T00:00:02Z").await;
    lab.until("nothing is offered", async || offered().await.as_deref() == Some("0")).await;
    let last = report().await.unwrap();
    assert!(last.sequence > first.sequence);
    lab.until("the new phase is acknowledged", async || {
        acknowledged().await.as_deref() == Some("2026-01-01T00:00:02Z")
    })
    .await;
}

/// A device plugin's DaemonSet, as the operator makes it.
fn plugin(lab: &Lab) {
    let labels = json!({ "cxi.hpe.com/role": "device-plugin" });
    let daemonset = json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": { "name": "cxi-device-plugin-d", "namespace": NAMESPACE },
        "spec": {
            "selector": { "matchLabels": labels },
            "template": {
                "metadata": { "labels": labels },
                "spec": { "containers": [{
                    "name": "device-plugin",
                    "image": "device-plugin:1",
                    "env": [
                        { "name": "CXI_RESOURCE_NAME", "value": "hpe.com/cxi" },
                        { "name": "CXI_SHARING_MODE", "value": "shared" },
                        { "name": "CXI_SHARED_CAPACITY", "value": "4" },
                    ],
                }] },
            },
        },
    });
    lab.plane.apply(&daemonset.to_string()).unwrap();
}

async fn a_stuck_unload_goes_on_when_the_holder_leaves(lab: &Lab) {
    lab.label(NODE, A, false).await;
    let crashes = async || {
        let worker = lab.worker(NODE, A).await?;
        let statuses = worker.status?.container_statuses?;
        let status = statuses.into_iter().find(|status| status.name == "worker")?;
        (status.restart_count > 0).then_some(status.state?.waiting?.reason?)
    };
    lab.until("the unloader crash-loops", async || crashes().await.as_deref() == Some("CrashLoopBackOff")).await;
    assert!(lab.is_ready(NODE, A).await, "KMM still says that it is loaded");
    let refused = |fact: &Fact| matches!(fact, Fact::UnloadRefused { pods, .. } if *pods == ["jobs/holder"]);
    assert!(lab.soft.records().iter().any(|record| record.node == NODE && refused(&record.fact)));
    lab.plane.kubectl(&["delete", "pod", "-n", "jobs", "holder", "--wait=false"]).unwrap();
    lab.until("the unload goes on", async || {
        // KMM's label is the last to go.
        lab.kmm_has(NODE).await.is_empty() && lab.worker(NODE, A).await.is_none() && !lab.is_ready(NODE, A).await
    })
    .await;
    assert_eq!(lab.driver(NODE), None);
}

async fn two_labels_at_once_lose_the_driver_while_kmm_says_it_is_there(lab: &Lab) {
    lab.load(NODE, A).await;
    lab.soft.add_process(NODE, "lnetd").unwrap();
    lab.label(NODE, A, false).await;
    lab.until("the unloader is there", async || lab.worker(NODE, A).await.is_some()).await;
    lab.load(NODE, B).await;
    assert_eq!(lab.driver(NODE).as_deref(), Some("13.0.0"), "B's loader did nothing");
    lab.soft.remove_process(NODE, "lnetd").unwrap();
    lab.until("A's unloader takes the driver out", async || lab.driver(NODE).is_none()).await;
    assert!(lab.is_ready(NODE, B).await && lab.kmm_has(NODE).await.contains(&B.to_owned()));
    lab.until("A's unloader is gone", async || lab.worker(NODE, A).await.is_none()).await;
    lab.unload(NODE, B).await;
}

async fn a_failed_load_leaves_modules_that_nobody_takes_out(lab: &Lab) {
    let failure = cxi_e2e::soft_node::LoadFailure { version: Some("13.1.0".into()), leaves: 2 };
    lab.soft.fail_load(NODE, &failure).unwrap();
    lab.label(NODE, B, true).await;
    lab.until("the loader crash-loops", async || {
        lab.soft.records().iter().any(|r| matches!(&r.fact, Fact::LoadFailed { left, .. } if left.len() == 2))
    })
    .await;
    lab.label(NODE, B, false).await;
    lab.until("the loader is deleted", async || lab.worker(NODE, B).await.is_none()).await;
    lab.soft.mend_load(NODE).unwrap();
    assert_eq!(lab.soft.truth(NODE).unwrap().modules, 2, "no unload worker ran");
    lab.label(NODE, A, true).await;
    lab.until("A fails on symbols", async || {
        let symbols = |fact: &Fact| {
            matches!(fact, Fact::LoadFailed { owner, message, .. }
            if owner == A && message.contains("disagrees about version of symbol"))
        };
        lab.soft.records().iter().any(|record| symbols(&record.fact))
    })
    .await;
    let cleanup = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "name": "cleanup", "namespace": NAMESPACE, "labels": { "cxi.hpe.com/role": "cleanup" } },
        "spec": {
            "nodeName": NODE,
            "restartPolicy": "Never",
            "containers": [{ "name": "cleanup", "image": "agent:1",
                "args": ["remove-modules", "--module", "cxi_sl", "--module", "cxi_sbl"] }],
        },
    });
    lab.plane.apply(&cleanup.to_string()).unwrap();
    lab.until("A loads after the clean-up", async || lab.is_ready(NODE, A).await).await;
    assert_eq!(lab.driver(NODE).as_deref(), Some("13.0.0"));
}

async fn a_reboot_reloads_by_itself_also_for_another_kernel(lab: &Lab) {
    for kernel in [None, Some("6.12.120+deb12-amd64")] {
        let before = lab.soft.truth(NODE).unwrap().boot_id;
        lab.soft.reboot(NODE, kernel).unwrap();
        lab.until("the node booted and KMM loads again", async || {
            let truth = lab.soft.truth(NODE).unwrap();
            truth.boot_id != before && truth.driver.is_some_and(|build| build.version == "13.0.0")
        })
        .await;
        assert_eq!(lab.soft.truth(NODE).unwrap().kernel, kernel.unwrap_or(KERNEL));
    }
}

async fn a_missing_old_image_hangs_the_unload(lab: &Lab) {
    lab.until("KMM is at rest", async || lab.worker(NODE, A).await.is_none()).await;
    let image = image_reference(REPOSITORY, "13.0.0", "6.12.120+deb12-amd64");
    lab.soft.with_registry(|registry| registry.withdraw(&image));
    lab.soft.forget_image(NODE, &image).unwrap();
    lab.label(NODE, A, false).await;
    lab.until("the unloader waits for its image", async || {
        let status = lab.worker(NODE, A).await.and_then(|pod| pod.status);
        let waiting = status.and_then(|s| s.init_container_statuses?.first()?.state.clone()?.waiting);
        waiting.and_then(|waiting| waiting.reason).as_deref() == Some("ImagePullBackOff")
    })
    .await;
    assert_eq!(lab.driver(NODE).as_deref(), Some("13.0.0"));
    lab.soft.with_registry(|registry| registry.restore(&image));
    lab.until("the image is back and the unload goes on", async || lab.driver(NODE).is_none()).await;
}
