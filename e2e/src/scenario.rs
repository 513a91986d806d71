//! The frame of a scenario: a cluster with nodes, the operator and the oracle. A scenario that ends well calls
//! [`Scenario::finish`], which passes only if the oracle is silent; one that ends otherwise tells what it looked like.

use std::{future::Future, time::Duration};

use anyhow::{Context, Result, ensure};
use cxi_api::{
    Advertise, Blocker, CXIDriverSpec, CXIDriverStatus, NodeRollout, Phase, Reason, RevisionId, names::DEFAULT_RESOURCE,
};
use serde_json::json;
use tokio::runtime::{Handle, RuntimeFlavor};

use crate::{
    harness::{Harness, HarnessOptions},
    operator::Operator,
    oracle::{Allowed, Invariant, Oracle, Violation},
    soft_node::NodeShape,
    table::table,
    truth::Fact,
};

/// Name of the CXIDriver of most scenarios.
pub const DRIVER: &str = "cxi";

/// Driver release that scenarios begin with.
pub const OLD: &str = "13.0.0";

/// Driver release that they move to.
pub const NEW: &str = "13.1.0";

/// Longest time that anything of a scenario may take. Generous: the machine may be busy.
pub const LONG: Duration = Duration::from_mins(4);

/// A running scenario.
pub struct Scenario {
    /// The cluster.
    pub harness: Harness,
    /// Names of the nodes, `n-01` and on.
    pub nodes: Vec<String>,
    operator: Option<Operator>,
    /// Watches until the scenario has finished.
    oracle: Option<Oracle>,
}

impl Scenario {
    /// A cluster with nodes and a running operator, without a CXIDriver.
    ///
    /// # Errors
    /// If something does not start.
    pub async fn start(nodes: usize) -> Result<Self> {
        Self::start_with(HarnessOptions::default(), nodes, &NodeShape::default()).await
    }

    /// [`Scenario::start`] with options, and nodes of another shape.
    ///
    /// # Errors
    /// See [`Scenario::start`].
    pub async fn start_with(options: HarnessOptions, nodes: usize, shape: &NodeShape) -> Result<Self> {
        let mut scenario = Self::on(Harness::start(options).await?, nodes, shape).await?;
        scenario.start_operator(&[])?;
        Ok(scenario)
    }

    /// Nodes and an oracle in a cluster, without an operator yet.
    ///
    /// # Errors
    /// If a node does not become Ready.
    pub async fn on(harness: Harness, nodes: usize, shape: &NodeShape) -> Result<Self> {
        let oracle = Oracle::start(&harness.client, &harness.soft);
        let nodes = harness.soft.add_nodes("n", nodes, shape);
        harness.soft.wait_until_ready(LONG).await?;
        Ok(Self { harness, nodes, operator: None, oracle: Some(oracle) })
    }

    /// A cluster all of whose nodes are verified on [`OLD`], by the CXIDriver [`DRIVER`] after `change` of its spec.
    ///
    /// # Errors
    /// See [`Scenario::start`]; and if the installation does not end.
    pub async fn installed(nodes: usize, change: impl FnOnce(&mut CXIDriverSpec)) -> Result<Self> {
        let scenario = Self::start(nodes).await?;
        scenario.install(change).await?;
        Ok(scenario)
    }

    /// Creates the CXIDriver [`DRIVER`] and waits until all nodes are verified on [`OLD`].
    ///
    /// # Errors
    /// If it does not end.
    pub async fn install(&self, change: impl FnOnce(&mut CXIDriverSpec)) -> Result<()> {
        self.harness.create_driver(DRIVER, OLD, change).await?;
        self.verified().await
    }

    // === the operator ===

    /// Starts the operator, with more arguments than usual.
    ///
    /// # Errors
    /// If its binary is missing.
    pub fn start_operator(&mut self, arguments: &[&str]) -> Result<()> {
        self.operator = Some(self.harness.spawn_operator(arguments)?);
        self.oracle.iter().for_each(|oracle| oracle.operator_runs(true));
        Ok(())
    }

    /// Starts an operator that dies by a fault, as in `7:drop`.
    ///
    /// # Errors
    /// If its binary is missing.
    pub fn start_faulty_operator(&mut self, fault: &str, arguments: &[&str]) -> Result<()> {
        self.operator = Some(self.harness.spawn_faulty_operator(fault, arguments)?);
        self.oracle.iter().for_each(|oracle| oracle.operator_runs(true));
        Ok(())
    }

    /// Starts an operator each of whose turns takes so long, as in `30s`.
    ///
    /// # Errors
    /// If its binary is missing.
    pub fn start_slow_operator(&mut self, turn: &str, arguments: &[&str]) -> Result<()> {
        self.operator = Some(self.harness.spawn_slow_operator(turn, arguments)?);
        self.oracle.iter().for_each(|oracle| oracle.operator_runs(true));
        Ok(())
    }

    /// Kills the operator as a power cut would. It stays away until [`Scenario::start_operator`].
    ///
    /// # Errors
    /// If it cannot be killed.
    pub fn kill_operator(&mut self) -> Result<()> {
        self.oracle.iter().for_each(|oracle| oracle.operator_runs(false));
        let operator = self.operator.take().context("no operator runs")?;
        drop(operator);
        Ok(())
    }

    /// Asks the operator to end, as a kubelet does, and waits until it has.
    ///
    /// # Errors
    /// If none runs, or it ends with an error.
    pub fn stop_operator(&mut self) -> Result<()> {
        let operator = self.operator.take().context("no operator runs")?;
        let status = tokio::task::block_in_place(|| operator.stop())?;
        self.oracle.iter().for_each(|oracle| oracle.operator_runs(false));
        ensure!(status.success(), "the operator ended with {status}");
        Ok(())
    }

    /// Restarts the API server, which is away for at least so long. What only an operator that reaches the API can keep up
    /// with is held against it again from [`Scenario::operator_caught_up`] on; what it must never do is at all times.
    ///
    /// # Errors
    /// If the API server does not come back.
    pub fn restart_api_server(&self, away: Duration) -> Result<()> {
        self.operator_changes();
        tokio::task::block_in_place(|| self.harness.plane.restart_api_server(away)).map_err(Into::into)
    }

    /// Announces that another takes the operator's place, until [`Scenario::operator_caught_up`]: what it must never do still
    /// counts.
    pub fn operator_changes(&self) {
        self.oracle.iter().for_each(|oracle| oracle.operator_runs(false));
    }

    /// Announces that the operator has seen and written everything that it missed.
    pub fn operator_caught_up(&self) {
        self.oracle.iter().for_each(|oracle| oracle.operator_runs(true));
    }

    /// The running operator.
    pub fn operator(&mut self) -> Option<&mut Operator> {
        self.operator.as_mut()
    }

    // === what an administrator does ===

    /// Announces to the oracle what the scenario is about to do itself, for so long.
    pub fn allow(&self, what: &Allowed, time: Duration) {
        self.oracle.iter().for_each(|oracle| oracle.allow(what.clone(), time));
    }

    /// Sets `spec.version`.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub async fn upgrade_to(&self, version: &str) -> Result<()> {
        self.harness.edit_version(DRIVER, version).await
    }

    /// Sets the label `cxi.hpe.com/upgrade` of a node, or takes it away.
    ///
    /// # Errors
    /// If the API server refuses it.
    pub async fn ask(&self, node: &str, request: Option<&str>) -> Result<()> {
        let patch = json!({ "metadata": { "labels": { cxi_api::names::UPGRADE_LABEL: request } } });
        self.harness.patch_node(node, &patch).await
    }

    // === what can be seen ===

    /// Status of the CXIDriver.
    ///
    /// # Errors
    /// If there is none.
    pub async fn status(&self) -> Result<CXIDriverStatus> {
        let driver = self.harness.driver(DRIVER).await?.context("the CXIDriver is gone")?;
        Ok(driver.status.unwrap_or_default())
    }

    /// Status and message of a condition of the CXIDriver.
    ///
    /// # Errors
    /// If there is no CXIDriver.
    pub async fn condition(&self, kind: &str) -> Result<Option<(String, String)>> {
        let conditions = self.status().await?.conditions;
        Ok(conditions.into_iter().find(|c| c.type_ == kind).map(|c| (c.status, c.message)))
    }

    /// Record of a node, if there is one.
    ///
    /// # Errors
    /// If it cannot be read.
    pub async fn record(&self, node: &str) -> Result<Option<NodeRollout>> {
        Ok(self.harness.cxi_node(node).await?.and_then(|node| node.status?.rollout))
    }

    /// Phase of a node.
    ///
    /// # Errors
    /// If its record cannot be read.
    pub async fn phase(&self, node: &str) -> Result<Option<Phase>> {
        Ok(self.record(node).await?.map(|record| record.phase))
    }

    /// Revision of the CXIDriver's spec with another version.
    ///
    /// # Errors
    /// If there is no CXIDriver.
    pub async fn revision(&self, version: &str) -> Result<RevisionId> {
        let mut spec = self.harness.driver(DRIVER).await?.context("the CXIDriver is gone")?.spec;
        version.clone_into(&mut spec.version);
        Ok(spec.revision(DRIVER))
    }

    /// Release of the driver that really runs on a node.
    pub fn driver(&self, node: &str) -> Option<String> {
        self.harness.soft.truth(node)?.driver.map(|build| build.version)
    }

    /// How many shares of NICs the kubelet of a node offers.
    ///
    /// # Errors
    /// If the node is gone.
    pub async fn offered(&self, node: &str) -> Result<i64> {
        let allocatable = self.harness.node(node).await?.status.and_then(|status| status.allocatable);
        let quantity = allocatable.and_then(|all| all.get(DEFAULT_RESOURCE)?.0.parse().ok());
        Ok(quantity.unwrap_or(0))
    }

    /// What happened on a machine, in order.
    pub fn facts(&self, node: &str) -> Vec<Fact> {
        let records = self.harness.soft.records();
        records.into_iter().filter(|record| record.node == node).map(|record| record.fact).collect()
    }

    /// How often a driver was taken out of a node.
    pub fn unloads(&self, node: &str) -> usize {
        let out = |fact: &Fact| matches!(fact, Fact::Unloaded { modules, .. } if !modules.is_empty());
        self.facts(node).iter().filter(|fact| out(fact)).count()
    }

    // === waiting ===

    /// Waits until all nodes are verified on what the spec describes.
    ///
    /// # Errors
    /// If that does not happen.
    pub async fn verified(&self) -> Result<()> {
        self.harness.wait_verified(DRIVER, self.nodes.len(), LONG).await
    }

    /// Waits until something is true.
    ///
    /// # Errors
    /// If it does not become true.
    pub async fn until<F>(&self, what: &str, holds: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = Result<bool>>,
    {
        self.harness.wait_until(what, LONG, async |_| holds().await).await
    }

    /// Waits until a node is in a phase.
    ///
    /// # Errors
    /// If it does not get there.
    pub async fn until_phase(&self, node: &str, phase: Phase) -> Result<()> {
        let what = format!("{node} is {phase}");
        self.until(&what, || async { Ok(self.phase(node).await? == Some(phase)) }).await
    }

    /// Waits until a node says that it is blocked for a reason, and returns what it says.
    ///
    /// # Errors
    /// If it does not.
    pub async fn until_blocked(&self, node: &str, reason: Reason) -> Result<Blocker> {
        let blocker = async || Ok::<_, anyhow::Error>(self.record(node).await?.and_then(|record| record.blocked_by));
        let is = |blocker: &Option<Blocker>| blocker.as_ref().is_some_and(|blocker| blocker.reason == reason);
        loop {
            self.until(&format!("{node} is blocked by {reason:?}"), || async { Ok(is(&blocker().await?)) }).await?;
            if let Some(found) = blocker().await?.filter(|found| found.reason == reason) {
                return Ok(found);
            }
        }
    }

    /// Checks that a condition stays true for a while.
    ///
    /// # Errors
    /// If it was false once.
    pub async fn stays<F>(&self, what: &str, time: Duration, holds: impl Fn() -> F) -> Result<()>
    where
        F: Future<Output = Result<bool>>,
    {
        let end = tokio::time::Instant::now() + time;
        while tokio::time::Instant::now() < end {
            ensure!(holds().await?, "it did not stay so that {what}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    // === the end ===

    /// Checks that every node really runs a release and is to offer all of its NICs, and waits until it does: whoever edits
    /// a gate's label by hand takes the device plugin away for a moment.
    ///
    /// # Errors
    /// If one does not.
    pub async fn all_run(&self, version: &str) -> Result<()> {
        for node in &self.nodes {
            let driver = self.driver(node);
            ensure!(driver.as_deref() == Some(version), "{node} runs {driver:?}, not {version}");
            let record = self.record(node).await?.with_context(|| format!("{node} has no record"))?;
            ensure!(record.advertise == Advertise::All, "{node} does not offer everything");
            self.until(&format!("{node} offers NICs"), || async { Ok(self.offered(node).await? > 0) }).await?;
        }
        Ok(())
    }

    /// Ends the scenario: watches the settled state for some seconds, then asks the oracle.
    ///
    /// # Errors
    /// If the oracle saw a violation, or the control plane cannot be cleaned for the next scenario.
    pub async fn finish(mut self) -> Result<()> {
        self.judge().await?;
        drop(self.operator.take());
        self.harness.give_back().await
    }

    /// Watches the settled state for some seconds and asks the oracle, which then watches no longer. The cluster goes on.
    ///
    /// # Errors
    /// If the oracle saw a violation.
    pub async fn judge(&mut self) -> Result<()> {
        self.judge_all_but(&[]).await
    }

    /// [`Scenario::judge`] where some invariants cannot be held against the nodes.
    ///
    /// # Errors
    /// If the oracle saw a violation of another one.
    pub async fn judge_all_but(&mut self, excepted: &[Invariant]) -> Result<()> {
        let story = self.story().await;
        let oracle = self.oracle.take().context("the oracle was asked before")?;
        let mut violations = oracle.finish().await;
        violations.retain(|violation| !excepted.contains(&violation.invariant));
        ensure!(violations.is_empty(), "the oracle saw\n{}\n\n{story}", lines(&violations));
        Ok(())
    }

    async fn story(&self) -> String {
        let nodes = self.harness.cxi_nodes().await.unwrap_or_default();
        let violations = self.oracle.as_ref().map(Oracle::violations).unwrap_or_default();
        format!("{}\n\noracle:\n{}\n\n{}", table(&nodes), lines(&violations), self.harness.operator_logs())
    }
}

impl Drop for Scenario {
    fn drop(&mut self) {
        if self.oracle.is_none() {
            return;
        }
        let many = |handle: &Handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread;
        let Some(handle) = Handle::try_current().ok().filter(many) else { return };
        let story = tokio::task::block_in_place(|| handle.block_on(self.story()));
        eprintln!("{story}");
    }
}

fn lines(violations: &[Violation]) -> String {
    violations.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
