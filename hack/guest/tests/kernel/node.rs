//! A guest as a node: KMM's worker does to it what KMM would have it do, and the node agent reports what it sees.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use cxi_api::{CXIDriverSpec, CXINode, KernelModule, Timestamp, node_report::NodeReport};
use cxi_guest::{Guest, Kernel, Machine, Output};
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::runtime::Runtime;

use crate::{
    images::Images,
    lab::{self, Slot},
};

/// All modules, sorted.
pub const STACK: [&str; 5] = KernelModule::names([
    KernelModule::CxiEth,
    KernelModule::CxiSbl,
    KernelModule::CxiSl,
    KernelModule::CxiSs1,
    KernelModule::CxiUser,
]);

/// Time for a report; in an emulated processor beside others a look takes its time.
const SOON: Duration = Duration::from_mins(2);

/// Where KMM mounts the worker's configuration.
pub const WORKER_CONFIG: &str = "/etc/kmm-worker/config.yaml";

/// Where KMM has firmware put on the node, as far as the worker is told.
pub const FIRMWARE_HOST_PATH: &str = "/var/lib/firmware";

/// A node.
pub struct Node {
    pub guest: Guest,
    kernel: Kernel,
    name: String,
    images: Images,
    runtime: Runtime,
    nodes: Api<CXINode>,
    // Last: another guest may only begin when this one has ended.
    _slot: Slot,
}

impl Node {
    /// Boots `machine`, whose name is the node's, with the usual root, and has the node agent report.
    pub fn boot(machine: &Machine, kernel: &Kernel) -> Self {
        Self::boot_with(machine, kernel, &lab::initrd(kernel))
    }

    /// The same with another root, which has the usual images.
    pub fn boot_with(machine: &Machine, kernel: &Kernel, initrd: &Path) -> Self {
        Self::boot_from(machine, kernel, initrd, Images::by_make(kernel))
    }

    /// The same with these images instead of the usual ones.
    pub fn boot_with_images(machine: &Machine, kernel: &Kernel, images: Images) -> Self {
        let initrd = images.initrd(kernel);
        Self::boot_from(machine, kernel, &initrd, images)
    }

    fn boot_from(machine: &Machine, kernel: &Kernel, initrd: &Path, images: Images) -> Self {
        let slot = Slot::take();
        let name = machine.name.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let nodes = runtime.block_on(api());
        let node: CXINode = serde_json::from_value(json!({
            "apiVersion": "cxi.hpe.com/v1", "kind": "CXINode", "metadata": {"name": name}, "spec": {},
        }))
        .unwrap();
        runtime.block_on(nodes.create(&PostParams::default(), &node)).unwrap();
        let machine = Machine { network: true, ..machine.clone() };
        let mut guest = Guest::boot(&machine, kernel, initrd).unwrap();
        guest.succeed(&format!("cat >/etc/kubeconfig <<'END'\n{}\nEND", kubeconfig())).unwrap();
        guest
            .start(&format!(
                "KUBECONFIG=/etc/kubeconfig exec cxi-agent report --node-name {name} --interval 500ms --kernel-log >/run/agent.log 2>&1"
            ))
            .unwrap();
        Self { guest, kernel: kernel.clone(), name, images, runtime, nodes, _slot: slot }
    }

    /// What the init container of KMM's worker pod does: copies the modules for this kernel, and firmware, out of the image.
    pub fn extract(&mut self, image: &str) -> Output {
        self.guest
            .run(&format!(
                "rm -rf /tmp/opt; mkdir -p /tmp/opt/lib/modules; \
                 cp -R {image}/opt/lib/modules/$(uname -r) /tmp/opt/lib/modules && \
                 mkdir -p /tmp/opt/lib/firmware && cp -R {image}/opt/lib/firmware/* /tmp/opt/lib/firmware"
            ))
            .unwrap()
    }

    /// The same with the programs of the image and nothing else, as in a container of it; without firmware.
    fn extract_inside(&mut self, image: &str) -> Output {
        let kernel = &self.kernel.release;
        self.guest
            .run(&format!(
                "rm -rf /tmp/opt; mkdir -p {image}/tmp; mount -o bind /tmp {image}/tmp; \
                 PATH=/bin chroot {image} /bin/sh -c \
                 'mkdir -p /tmp/opt/lib/modules; cp -R /opt/lib/modules/{kernel} /tmp/opt/lib/modules'; \
                 status=$?; umount {image}/tmp; exit $status"
            ))
            .unwrap()
    }

    /// Has KMM's worker load what was extracted, as the Module says that the operator makes.
    pub fn load(&mut self) -> Output {
        self.worker("load", &json!({}))
    }

    /// The same for unloading.
    pub fn unload(&mut self) -> Output {
        self.worker("unload", &json!({}))
    }

    /// The same with a `source.modprobe`.
    pub fn worker(&mut self, action: &str, modprobe: &Value) -> Output {
        self.worker_at(WORKER_CONFIG, action, modprobe)
    }

    /// The same with the worker's configuration in another file.
    pub fn worker_at(&mut self, file: &str, action: &str, modprobe: &Value) -> Output {
        let config = worker_config(&self.kernel.release, modprobe);
        let firmware = modprobe.get("firmwarePath").map(|_| format!("--firmware-path {FIRMWARE_HOST_PATH}"));
        self.guest
            .run(&format!(
                "rm -rf /etc/kmm-worker; mkdir -p /etc/kmm-worker {FIRMWARE_HOST_PATH}; cat >{file} <<'END'\n{config}\nEND\n\
                 exec kmm-worker kmod {action} {file} {}",
                firmware.unwrap_or_default()
            ))
            .unwrap()
    }

    /// Extracts and loads a release, which must work.
    pub fn install(&mut self, release: &str) {
        let image = format!("/images/{release}");
        let output = if self.images.have_programs() { self.extract_inside(&image) } else { self.extract(&image) };
        assert_eq!(output.status, 0, "{}", output.text());
        let output = self.load();
        assert_eq!(output.status, 0, "{}", output.text());
    }

    /// Unloads, which must work.
    pub fn remove(&mut self) {
        let output = self.unload();
        assert_eq!(output.status, 0, "{}", output.text());
    }

    /// Build-ids of a release by the manifest in its image.
    pub fn build_ids(&self, release: &str) -> BTreeMap<String, String> {
        self.images.build_ids(&self.kernel, release)
    }

    /// Asks the agent as the operator does at the beginning of a phase, saying which release is expected, and waits for the
    /// answer to that.
    pub fn proof(&mut self, expected: &str) -> NodeReport {
        let since = Timestamp::now();
        let rollout = json!({
            "driver": "fabric", "phase": "Verifying", "since": since,
            "expected": {
                "revision": "r", "kernel": self.kernel.release, "driverVersion": expected,
                "buildIDs": self.build_ids(expected),
            },
        });
        let patch = Patch::Merge(json!({"status": {"rollout": rollout}}));
        self.runtime.block_on(self.nodes.patch_status(&self.name, &PatchParams::default(), &patch)).unwrap();
        self.report_when("answers the phase", |report| report.acknowledged == Some(since))
    }

    /// Waits for a report of which `holds`.
    pub fn report_when(&mut self, what: &str, holds: impl Fn(&NodeReport) -> bool) -> NodeReport {
        let began = Instant::now();
        loop {
            let node = self.runtime.block_on(self.nodes.get(&self.name)).unwrap();
            let report = node.status.and_then(|status| status.node);
            match report {
                Some(report) if holds(&report) => return report,
                report if began.elapsed() > SOON => {
                    let log = self.guest.run("tail -20 /run/agent.log; dmesg | tail -20").unwrap().text();
                    panic!("no report {what} within {SOON:?}; the last is {report:#?}; agent and kernel said:\n{log}");
                }
                _ => std::thread::sleep(Duration::from_millis(100)),
            }
        }
    }

    /// The modules of the stack that the kernel has, sorted.
    pub fn loaded(&mut self) -> Vec<String> {
        let list = self.guest.succeed("cut -d' ' -f1 /proc/modules | grep '^cxi_' | grep -v '^cxi_nics$' | sort; true");
        list.unwrap().lines().map(str::to_owned).collect()
    }

    /// Whether a module was ever taken out by force: the kernel remembers (bit 1 of its taint, `R`).
    pub fn was_forced(&mut self) -> bool {
        let taint: u64 = self.guest.succeed("cat /proc/sys/kernel/tainted").unwrap().parse().unwrap();
        taint & 2 != 0
    }

    /// The end of the kernel's log.
    pub fn dmesg(&mut self) -> String {
        self.guest.succeed("dmesg | tail -60").unwrap()
    }
}

/// Whether `report` proves that `build_ids` and nothing else is loaded.
pub fn proves(report: &NodeReport, build_ids: &BTreeMap<String, String>) -> bool {
    let loaded: BTreeMap<_, _> =
        report.modules.iter().map(|module| (module.name.clone(), module.build_id.clone())).collect();
    loaded == *build_ids
}

async fn api() -> Api<CXINode> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = kube::config::Kubeconfig::read_from(lab::PLANE.kubeconfig()).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default()).await.unwrap();
    Api::all(kube::Client::try_from(config).unwrap())
}

/// The administrator's, with the address that the host has in a guest's network.
fn kubeconfig() -> String {
    let mut config: Value = serde_json::from_slice(&fs::read(lab::PLANE.kubeconfig()).unwrap()).unwrap();
    let cluster = &mut config["clusters"][0]["cluster"];
    let server = cluster["server"].as_str().unwrap().replace("127.0.0.1", "10.0.2.2");
    cluster["server"] = server.into();
    // The name in the server's certificate is still the one of the host.
    cluster["tls-server-name"] = "127.0.0.1".into();
    config.to_string()
}

/// What KMM's worker is given for the Module of a CXIDriver: KMM's `ModuleConfig`, with the arguments that the operator sets,
/// as YAML like KMM's.
fn worker_config(kernel: &str, modprobe: &Value) -> String {
    let source = json!({"type": "prebuilt", "image": "registry.example.com/cxi-driver", "modprobe": modprobe});
    let spec: CXIDriverSpec = serde_json::from_value(json!({"version": lab::A, "source": source})).unwrap();
    let revision = spec.revision("fabric");
    let module = cxi_manifests::kmm::module("fabric", &spec, &revision, "cxi-operator");
    let container = module.spec.module_loader.unwrap().container;
    let modprobe = serde_json::to_value(&container.modprobe).unwrap();
    let config = json!({"kernelVersion": kernel, "containerImage": "registry.example.com/cxi-driver:13.0.0", "modprobe": modprobe});
    serde_saphyr::to_string(&config).unwrap()
}
