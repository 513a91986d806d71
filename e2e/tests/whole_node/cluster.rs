//! A cluster with two whole nodes: the control plane and the operator of the other scenarios, guests, and soft nodes beside
//! them once the guests are installed.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use cxi_api::{names::DEFAULT_RESOURCE, node_report::OpenFile};
use cxi_control_plane::{Family, Progress, Toolbox};
use cxi_e2e::{
    harness::{Harness, HarnessOptions},
    oracle::{Allowed, Invariant},
    scenario::{DRIVER, NEW, OLD, Scenario},
    soft_node::{NIC_LABEL, NodeShape},
    wait::wait_for,
};
use cxi_guest::{Disk, Kernel, TESTED_KERNELS, cluster_node};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::{Api, api::ListParams};
use serde_json::json;
use tempfile::TempDir;

use crate::{images::Images, node::WholeNode};

/// Longest time that anything may take. An emulated processor beside others has its own idea of soon.
pub const LONG: Duration = Duration::from_mins(15);

/// Time limits of the operator that suit emulated processors.
const OPERATOR_ARGS: [&str; 4] =
    ["--prefetch-timeout=10m", "--unload-timeout=10m", "--load-timeout=10m", "--give-back-timeout=10m"];

/// The workload that holds a NIC.
pub const JOB: &str = "job";

/// The pod of [`JOB`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPod {
    /// Its name.
    pub name: String,
    /// Its UID.
    pub uid: String,
    /// Its container.
    pub container: String,
    /// How often that was started again.
    pub restarts: i32,
}

impl JobPod {
    fn read(pod: &Pod) -> Option<Self> {
        let status = pod.status.as_ref()?.container_statuses.as_ref()?.first()?;
        status.state.as_ref()?.running.as_ref()?;
        let container = status.container_id.clone()?;
        Some(Self {
            name: pod.metadata.name.clone()?,
            uid: pod.metadata.uid.clone()?,
            container,
            restarts: status.restart_count,
        })
    }
}

/// The cluster.
pub struct Cluster {
    /// Operator, control plane, soft nodes, oracle.
    pub scenario: Scenario,
    /// The whole nodes.
    pub guests: Vec<WholeNode>,
    /// What is in the images.
    pub images: Images,
    /// How often a kubelet was started again.
    pub restarts: u32,
    kernel: Kernel,
    began: Instant,
    _disk: TempDir,
}

impl Cluster {
    /// Two whole nodes that are Ready, and the operator, without a CXIDriver.
    pub async fn start() -> Result<Self> {
        let began = Instant::now();
        let options = HarnessOptions {
            versions: [OLD, NEW].map(str::to_owned).to_vec(),
            operator_args: OPERATOR_ARGS.map(str::to_owned).to_vec(),
            ..HarnessOptions::default()
        };
        // The one needs a processor, the other mostly time.
        let prepared = tokio::task::spawn_blocking(prepare);
        let harness = Harness::start(options).await?;
        let scenario = Scenario::on(harness, 0, &NodeShape::default()).await?;
        say(began, "the control plane runs");
        let (kernel, images, disk, directory) = prepared.await??;
        say(began, "images and disk are made");
        let mut cluster = Self { scenario, guests: Vec::new(), images, restarts: 0, kernel, began, _disk: directory };
        cluster.boot(&disk).await?;
        cluster.scenario.start_operator(&[])?;
        Ok(cluster)
    }

    async fn boot(&mut self, disk: &Disk) -> Result<()> {
        let kernel = &self.kernel;
        self.guests = tokio::task::block_in_place(|| {
            thread::scope(|scope| {
                let machines = [1, 2].map(|number| scope.spawn(move || WholeNode::boot(number, kernel, disk)));
                machines
                    .into_iter()
                    .map(|machine| machine.join().expect("booting does not panic"))
                    .collect::<Result<_>>()
            })
        })?;
        self.say("the guests have booted");
        for guest in &mut self.guests {
            let user = format!("system:node:{}", guest.name);
            let plane = &self.scenario.harness.plane;
            tokio::task::block_in_place(|| guest.join(&plane.user_kubeconfig(&user, Some("system:nodes"))?))?;
            self.scenario.nodes.push(guest.name.clone());
        }
        self.ready(2).await?;
        self.say("the guests are Ready");
        // Node feature discovery would.
        for guest in &self.guests {
            self.scenario.allow(&Allowed::ForeignEdit(guest.name.clone()), Duration::from_secs(10));
            let label = json!({ "metadata": { "labels": { NIC_LABEL: "true" } } });
            self.scenario.harness.patch_node(&guest.name, &label).await?;
        }
        Ok(())
    }

    /// Adds soft nodes with the kernel of the guests, for which there are images.
    pub async fn add_soft_nodes(&mut self, count: usize) -> Result<()> {
        let shape = NodeShape { kernel: self.kernel.release.clone(), ..NodeShape::default() };
        let names = self.scenario.harness.soft.add_nodes("soft", count, &shape);
        self.scenario.nodes.extend(names);
        self.ready(self.scenario.nodes.len()).await
    }

    /// Waits until so many nodes are Ready.
    async fn ready(&self, count: usize) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.scenario.harness.client.clone());
        let ready = |node: &Node| {
            let conditions = node.status.as_ref().and_then(|status| status.conditions.as_ref());
            conditions.is_some_and(|all| all.iter().any(|is| is.type_ == "Ready" && is.status == "True"))
        };
        let attempt = || async {
            let all = nodes.list(&ListParams::default()).await?;
            Ok((all.iter().filter(|node| ready(node)).count() == count).then_some(()))
        };
        wait_for(&format!("{count} nodes are Ready"), LONG, attempt, || async { String::new() }).await
    }

    /// Waits until all nodes are verified on what the spec describes.
    pub async fn verified(&self) -> Result<()> {
        self.scenario.harness.wait_verified(DRIVER, self.scenario.nodes.len(), LONG).await
    }

    /// Checks that all guests have exactly the modules of a release in their kernels, that none was ever taken out by force,
    /// and that they offer their NICs.
    pub async fn all_run(&mut self, release: &str) -> Result<()> {
        let wanted = self.images.build_ids[release].clone();
        for guest in &mut self.guests {
            let loaded = tokio::task::block_in_place(|| guest.loaded())?;
            ensure!(loaded == wanted, "{} has {loaded:?} loaded, not {wanted:?}", guest.name);
            ensure!(!tokio::task::block_in_place(|| guest.was_forced())?, "a module of {} was forced out", guest.name);
            let offered = self.scenario.offered(&guest.name).await?;
            ensure!(offered > 0, "{} offers no {DEFAULT_RESOURCE}", guest.name);
        }
        Ok(())
    }

    /// The pod of [`JOB`], once its container runs.
    pub async fn job_runs(&self) -> Result<JobPod> {
        let jobs = &self.scenario.harness.jobs;
        let pod = async || {
            let pods = jobs.living(JOB).await?;
            let leaving = |pod: &&Pod| pod.metadata.deletion_timestamp.is_none();
            Ok::<_, anyhow::Error>(pods.iter().filter(leaving).find_map(JobPod::read))
        };
        self.until("the pod runs", async |_| Ok(pod().await?.is_some())).await?;
        pod().await?.context("the pod has just run")
    }

    /// The NIC that a pod has open, as the node agent reports it from the first guest.
    pub async fn held_by(&self, uid: &str) -> Result<String> {
        Ok(self.open_file(uid).await?.device)
    }

    /// The process by which a pod has it open.
    pub async fn pid_of(&self, uid: &str) -> Result<i32> {
        Ok(self.open_file(uid).await?.pid)
    }

    async fn open_file(&self, uid: &str) -> Result<OpenFile> {
        let node = &self.guests[0].name;
        let found = async || {
            let report = self.scenario.harness.cxi_node(node).await?.and_then(|node| node.status?.node);
            let files = report.map(|report| report.open_files).unwrap_or_default();
            Ok::<_, anyhow::Error>(files.into_iter().find(|file| file.pod_uid.as_deref() == Some(uid)))
        };
        self.until("the agent sees the pod hold a NIC", async |_| Ok(found().await?.is_some())).await?;
        found().await?.context("the pod has just held a NIC")
    }

    /// Of the boot that the kubelet of a node tells of.
    pub async fn boot_id(&self, node: &str) -> Result<String> {
        let status = self.scenario.harness.node(node).await?.status.and_then(|status| status.node_info);
        Ok(status.context("a kubelet tells what its node is")?.boot_id)
    }

    /// A guest, for work that waits for it.
    pub fn on<T>(&mut self, number: usize, work: impl FnOnce(&mut WholeNode) -> Result<T>) -> Result<T> {
        let guest = self.guests.get_mut(number).context("there is no such guest")?;
        tokio::task::block_in_place(|| work(guest))
    }

    /// Waits until something is true.
    pub async fn until(&self, what: &str, holds: impl AsyncFn(&Harness) -> Result<bool>) -> Result<()> {
        self.scenario.harness.wait_until(what, LONG, holds).await
    }

    /// Says when something is done.
    pub fn say(&self, what: &str) {
        say(self.began, what);
    }

    /// Asks the oracle, and takes the nodes away.
    pub async fn finish(mut self) -> Result<()> {
        // Its limit for a word of explanation is one for nodes that take no time.
        self.scenario.judge_all_but(&[Invariant::Liveness]).await?;
        self.say("the oracle is silent");
        Ok(())
    }

    /// The guests' logs.
    pub fn logs(&mut self) -> String {
        tokio::task::block_in_place(|| self.guests.iter_mut().map(WholeNode::logs).collect())
    }
}

fn say(began: Instant, what: &str) {
    eprintln!("{:6.1} s  {what}", began.elapsed().as_secs_f64());
}

/// Kernel, images and the disk of the nodes.
fn prepare() -> Result<(Kernel, Images, Disk, TempDir)> {
    let progress = Progress::stderr();
    let (line, flavour) = TESTED_KERNELS[1];
    let kernel = Kernel::ensure(line, flavour, &progress)?;
    let toolbox = Toolbox::ensure(Family::NODE, &progress)?;
    let images = Images::build(&kernel, &toolbox)?;
    let tree = cluster_node::tree(&kernel, &toolbox, &images.all, &progress)?;
    let directory = tempfile::tempdir()?;
    let disk = Disk::write(&tree, &kernel, directory.path())?;
    Ok((kernel, images, disk, directory))
}
