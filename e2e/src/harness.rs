//! A whole cluster for a scenario: control plane, KMM, soft nodes, the shipped manifests, and the operator.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::{Context, Result};
use cxi_api::{CXIDriver, CXIDriverSpec, CXINode, Phase, RevisionId, driver::SourceType, names::kmm_version_label};
use cxi_control_plane::NAMESPACE;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::{
    client::{client, without_retries},
    driver_model::Registry,
    jobs::Jobs,
    operator::{AGENT_IMAGE, DEVICE_PLUGIN_IMAGE, FAULTY, Operator, SHIPPED, log_tail},
    plain::Plain,
    planes::{Contents, Plane, Wanted},
    soft_node::{Pace, SoftCluster},
    table::table,
    wait::wait_for,
};

/// Repository of the driver images that exist.
pub const REPOSITORY: &str = "registry.example/cxi-driver";

/// KMM's worker image, as the control plane configures it.
const WORKER_IMAGE: &str = "kmm-worker:test";

/// An image with a retry handler.
pub const RETRY_HANDLER_IMAGE: &str = "registry.example/cxi-retry-handler:test";

/// Another release of it.
pub const NEWER_RETRY_HANDLER_IMAGE: &str = "registry.example/cxi-retry-handler:newer";

/// Time limits that suit machines on which everything takes a fraction of a second.
const OPERATOR_ARGS: [&str; 13] = [
    "--look-gap=300ms",
    "--host-holder-grace=2s",
    "--back-off=3s",
    "--back-off-max=10s",
    "--unselected-grace=2s",
    "--prefetch-timeout=30s",
    "--unload-timeout=30s",
    "--load-timeout=30s",
    "--give-back-timeout=30s",
    "--load-restarts=2",
    // Generous: the machine may be busy, and an operator that loses its Lease ends.
    "--lease-duration=10s",
    "--renew-deadline=8s",
    "--retry-period=500ms",
];

/// Who reports what a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Agents {
    /// The soft node itself, in the operator's types.
    Simulated,
    /// The real node agent, from files that show what the kernel of the node would.
    Real,
}

/// What a scenario wants of its cluster.
#[derive(Clone, Debug)]
pub struct HarnessOptions {
    /// How fast soft nodes are.
    pub pace: Pace,
    /// Driver releases whose images exist.
    pub versions: Vec<String>,
    /// Images without drivers that exist besides those that the harness itself names.
    pub images: Vec<String>,
    /// What the control plane begins with.
    pub contents: Contents,
    /// Who reports what a node is.
    pub agents: Agents,
    /// Whether the API server writes an audit log.
    pub audit: bool,
    /// Whether the data directory with all logs stays.
    pub keep_data: bool,
    /// Arguments of every operator, as `--flag=value`; they win over the harness's own.
    pub operator_args: Vec<String>,
}

impl Default for HarnessOptions {
    fn default() -> Self {
        Self {
            pace: Pace::default(),
            versions: ["13.0.0", "13.1.0", "13.2.0"].map(str::to_owned).to_vec(),
            images: Vec::new(),
            contents: Contents::Everything,
            agents: Agents::Simulated,
            audit: false,
            keep_data: false,
            operator_args: Vec::new(),
        }
    }
}

/// A running cluster. Everything ends when it is dropped, but for a control plane that was given back.
pub struct Harness {
    /// The administrator's client.
    pub client: Client,
    /// The nodes.
    pub soft: SoftCluster,
    /// The workload.
    pub jobs: Jobs,
    /// The servers.
    pub plane: Plane,
    operator_args: Vec<String>,
    operators: AtomicUsize,
}

impl Harness {
    /// Starts everything but nodes and operator.
    ///
    /// # Errors
    /// If a tool is missing or a server fails; the error says which and shows the end of its log.
    pub async fn start(options: HarnessOptions) -> Result<Self> {
        let HarnessOptions { contents, audit, keep_data, .. } = options;
        let plane = Plane::take(Wanted { contents, audit, keep_data }).await?;
        Self::on(plane, options).await
    }

    /// Everything but nodes and operator on a control plane that has our CRDs; of the options those of the control plane
    /// do not count.
    ///
    /// # Errors
    /// If it does not answer, or there is no room for the files of agents.
    pub async fn on(plane: Plane, options: HarnessOptions) -> Result<Self> {
        let HarnessOptions { pace, versions, images, agents, operator_args, .. } = options;
        let client = client(plane.kubeconfig()).await?;
        let mut registry = Registry::default();
        let retry_handlers = [RETRY_HANDLER_IMAGE, NEWER_RETRY_HANDLER_IMAGE];
        for image in [WORKER_IMAGE, DEVICE_PLUGIN_IMAGE, AGENT_IMAGE].into_iter().chain(retry_handlers) {
            registry.add_other(image);
        }
        for image in &images {
            registry.add_other(image);
        }
        for version in &versions {
            registry.publish(REPOSITORY, version);
        }
        let mut soft = SoftCluster::start(client.clone(), registry, pace);
        if agents == Agents::Real {
            soft = soft.with_real_agents(without_retries(plane.kubeconfig()).await?)?;
        }
        let jobs = Jobs::new(client.clone()).await?;
        let operators = AtomicUsize::new(0);
        Ok(Self { client, soft, jobs, plane, operator_args, operators })
    }

    /// Ends the nodes and leaves the control plane, cleaned, to another harness. Operators and oracles must have ended, and
    /// of this only logs may be asked for afterwards.
    ///
    /// # Errors
    /// If the control plane cannot be cleaned.
    pub async fn give_back(&mut self) -> Result<()> {
        self.soft.stop().await;
        self.plane.give_back().await.context("clean the control plane for the next scenario")
    }

    /// Starts an operator with more arguments. Several may run.
    ///
    /// # Errors
    /// If its binary is missing.
    pub fn spawn_operator(&self, arguments: &[&str]) -> Result<Operator> {
        self.spawn(SHIPPED, arguments)
    }

    /// Starts an operator that dies by a fault, as in `7:drop` (see its `--help`).
    ///
    /// # Errors
    /// If its binary is missing.
    pub fn spawn_faulty_operator(&self, fault: &str, arguments: &[&str]) -> Result<Operator> {
        let fault = format!("--fault-write={fault}");
        self.spawn(FAULTY, &[arguments, &[&fault]].concat())
    }

    /// Starts an operator each of whose turns takes so long, as in `30s`.
    ///
    /// # Errors
    /// If its binary is missing.
    pub fn spawn_slow_operator(&self, turn: &str, arguments: &[&str]) -> Result<Operator> {
        let fault = format!("--fault-turn={turn}");
        self.spawn(FAULTY, &[arguments, &[&fault]].concat())
    }

    fn spawn(&self, program: &str, arguments: &[&str]) -> Result<Operator> {
        let number = self.operators.fetch_add(1, Ordering::Relaxed) + 1;
        let configured = self.operator_args.iter().map(String::as_str);
        let arguments = last_of_each(OPERATOR_ARGS.into_iter().chain(configured).chain(arguments.iter().copied()));
        Operator::start(program, &self.plane.operator_kubeconfig()?, NAMESPACE, &self.log(number), arguments)
    }

    /// The ends of all operators' logs.
    pub fn operator_logs(&self) -> String {
        let count = self.operators.load(Ordering::Relaxed);
        let tails = (1..=count).map(|number| format!("operator {number}:\n{}", log_tail(&self.log(number))));
        tails.collect::<Vec<_>>().join("\n")
    }

    /// Nodes with labels and taints, and everything in the operator's namespace, as kubectl shows them.
    fn objects(&self) -> String {
        let nodes = "custom-columns=NODE:.metadata.name,LABELS:.metadata.labels,TAINTS:.spec.taints";
        let asked = [
            vec!["get", "nodes", "-o", nodes],
            vec!["get", "modules,moduleimagesconfigs,daemonsets,pods", "-o", "wide", "-n", NAMESPACE],
            vec!["get", "pods", "-o", "wide", "-n", crate::jobs::NAMESPACE],
        ];
        let answers = asked.iter().map(|arguments| {
            tokio::task::block_in_place(|| self.plane.kubectl(arguments)).unwrap_or_else(|error| format!("{error:#}"))
        });
        answers.collect::<Vec<_>>().join("\n")
    }

    fn log(&self, number: usize) -> PathBuf {
        self.plane.logs().join(format!("operator-{number}.log"))
    }

    // === CXIDrivers ===

    /// A spec for prebuilt images of [`REPOSITORY`] that drains at once.
    pub fn spec(version: &str) -> CXIDriverSpec {
        let mut spec = CXIDriverSpec::new(version);
        spec.source.kind = SourceType::Prebuilt;
        spec.source.image = Some(REPOSITORY.to_owned());
        spec.update_strategy.drain.policy = cxi_api::strategy::DrainPolicy::Evict;
        spec
    }

    /// Creates a CXIDriver of [`Harness::spec`] after `change`.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub async fn create_driver(
        &self,
        name: &str,
        version: &str,
        change: impl FnOnce(&mut CXIDriverSpec),
    ) -> Result<()> {
        let mut spec = Self::spec(version);
        change(&mut spec);
        let driver = CXIDriver::new(name, spec);
        self.drivers().create(&PostParams::default(), &driver).await.context("create CXIDriver")?;
        Ok(())
    }

    /// Merges `patch` into a CXIDriver.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub async fn edit_driver(&self, name: &str, patch: &Value) -> Result<()> {
        let parameters = PatchParams::default();
        self.drivers().patch(name, &parameters, &Patch::Merge(patch)).await.context("edit CXIDriver")?;
        Ok(())
    }

    /// Sets a CXIDriver's version.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub async fn edit_version(&self, name: &str, version: &str) -> Result<()> {
        self.edit_driver(name, &json!({ "spec": { "version": version } })).await
    }

    /// Deletes a CXIDriver; it is gone when its finalizer is.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub async fn delete_driver(&self, name: &str) -> Result<()> {
        self.drivers().delete(name, &DeleteParams::default()).await.context("delete CXIDriver")?;
        Ok(())
    }

    /// A CXIDriver, if it is there.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn driver(&self, name: &str) -> Result<Option<CXIDriver>> {
        self.drivers().get_opt(name).await.context("read CXIDriver")
    }

    /// All CXINodes.
    ///
    /// # Errors
    /// If they cannot be read.
    pub async fn cxi_nodes(&self) -> Result<Vec<CXINode>> {
        let nodes: Api<Plain<CXINode>> = Api::all(self.client.clone());
        let nodes = nodes.list(&ListParams::default()).await.context("list CXINodes")?;
        Ok(nodes.items.into_iter().map(|Plain(node)| node).collect())
    }

    /// One CXINode, if it is there.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn cxi_node(&self, name: &str) -> Result<Option<CXINode>> {
        let nodes: Api<Plain<CXINode>> = Api::all(self.client.clone());
        Ok(nodes.get_opt(name).await.context("read CXINode")?.map(|Plain(node)| node))
    }

    /// A Node.
    ///
    /// # Errors
    /// If it is not there.
    pub async fn node(&self, name: &str) -> Result<Node> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        nodes.get(name).await.with_context(|| format!("read node {name}"))
    }

    /// Merges `patch` into a Node, as the administrator.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub async fn patch_node(&self, name: &str, patch: &Value) -> Result<()> {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let parameters = PatchParams::default();
        nodes.patch(name, &parameters, &Patch::Merge(patch)).await.with_context(|| format!("patch node {name}"))?;
        Ok(())
    }

    /// Key of the label by which KMM loads a revision.
    pub fn version_label(revision: &RevisionId) -> String {
        kmm_version_label(NAMESPACE, &cxi_api::names::module_name(revision))
    }

    // === waiting ===

    /// Waits until `holds`.
    ///
    /// # Errors
    /// If it does not hold within `limit`; the message shows the CXINodes and the ends of the operators' logs.
    pub async fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        holds: impl AsyncFn(&Self) -> Result<bool>,
    ) -> Result<()> {
        let attempt = || async { Ok(holds(self).await?.then_some(())) };
        let context = || async {
            let nodes = self.cxi_nodes().await.unwrap_or_default();
            format!("{}\n{}\n{}", table(&nodes), self.objects(), self.operator_logs())
        };
        wait_for(what, limit, attempt, context).await
    }

    /// Waits until every one of `nodes` is verified on what a CXIDriver's spec describes, and the CXIDriver says so and has
    /// nothing in flight any more.
    ///
    /// # Errors
    /// See [`Harness::wait_until`].
    pub async fn wait_verified(&self, driver: &str, nodes: usize, limit: Duration) -> Result<()> {
        let what = format!("{nodes} nodes of {driver} are verified");
        self.wait_until(&what, limit, async |harness| {
            let Some(object) = harness.driver(driver).await? else { return Ok(false) };
            let target = object.spec.revision(driver);
            let verified = harness.cxi_nodes().await?.iter().filter(|n| is_on(n, driver, &target)).count();
            let status = object.status.unwrap_or_default();
            let available = status.conditions.iter().any(|c| c.type_ == "Available" && c.status == "True");
            let current = status.current_revision.as_ref() == Some(&target);
            let seen = Some(status.observed_generation) == object.metadata.generation;
            let over = status.rollout.is_none_or(|rollout| rollout.in_flight.is_empty());
            Ok(verified == nodes && available && current && seen && over)
        })
        .await
    }

    fn drivers(&self) -> Api<CXIDriver> {
        Api::all(self.client.clone())
    }
}

/// Whether a CXINode rests verified on a revision of a CXIDriver.
pub fn is_on(node: &CXINode, driver: &str, revision: &RevisionId) -> bool {
    let rollout = node.status.as_ref().and_then(|status| status.rollout.as_ref());
    rollout.is_some_and(|r| r.driver == driver && r.phase == Phase::UpToDate && r.revision.as_ref() == Some(revision))
}

/// Of several `--flag=value` of the same flag the last: the operator takes each only once.
fn last_of_each<'a>(arguments: impl Iterator<Item = &'a str>) -> Vec<&'a str> {
    let flag = |argument: &'a str| argument.split_once('=').map_or(argument, |(flag, _)| flag);
    let mut kept: Vec<&str> = Vec::new();
    for argument in arguments {
        kept.retain(|earlier| flag(earlier) != flag(argument));
        kept.push(argument);
    }
    kept
}
