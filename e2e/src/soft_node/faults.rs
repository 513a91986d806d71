//! What can go wrong on a soft node, at the scenario's word.

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Context, Result, ensure};

use crate::driver_model::{LoadFault, STACK};

use super::{SoftCluster, node::Pods, node::SoftNode, state::State};

/// A load that fails.
#[derive(Clone, Debug, Default)]
pub struct LoadFailure {
    /// Driver release that fails; any when absent.
    pub version: Option<String>,
    /// How many modules of the stack get in before the failure and stay in.
    pub leaves: usize,
}

impl SoftCluster {
    /// Loads fail on the node until [`SoftCluster::mend_load`].
    ///
    /// # Errors
    /// If there is no such node. The same holds for every fault below.
    pub fn fail_load(&self, node: &str, failure: &LoadFailure) -> Result<()> {
        let fault = LoadFault {
            version: failure.version.clone(),
            leaves: STACK.into_iter().take(failure.leaves.min(STACK.len() - 1)).collect(),
            message: "modprobe: ERROR: could not insert 'cxi_ss1': No such device".into(),
        };
        self.change(node, |node| node.machine.faults.load = Some(fault))
    }

    /// Ends [`SoftCluster::fail_load`].
    ///
    /// # Errors
    /// If there is no such node.
    pub fn mend_load(&self, node: &str) -> Result<()> {
        self.change(node, |node| node.machine.faults.load = None)
    }

    /// Cuts the node off from every registry, or ends that. Images that were pulled stay.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn set_registry_reachable(&self, node: &str, reachable: bool) -> Result<()> {
        self.change(node, |node| node.machine.faults.registry_unreachable = !reachable)
    }

    /// Removes an image from the node, as the kubelet's image garbage collection does.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn forget_image(&self, node: &str, image: &str) -> Result<()> {
        self.change(node, |node| node.machine.forget_image(image))
    }

    /// A process outside Kubernetes opens a device and keeps it.
    ///
    /// # Errors
    /// If there is no such node, or no driver is loaded there: then there is no device to open.
    pub fn add_process(&self, node: &str, command: &str) -> Result<()> {
        let opened = self.ask(node, |node| {
            let there = node.machine.driver.is_complete();
            if there {
                node.machine.start_process(command);
            }
            there
        })?;
        ensure!(opened, "{command} cannot open a device of {node}: no driver is loaded");
        Ok(())
    }

    /// The processes of that name end.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn remove_process(&self, node: &str, command: &str) -> Result<()> {
        self.change(node, |node| node.machine.processes.retain(|process| process.name != command))
    }

    /// With these driver releases the node's links do not come up. An empty list mends it.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn hold_links_down(&self, node: &str, versions: &[&str]) -> Result<()> {
        let versions: BTreeSet<String> = versions.iter().map(|version| (*version).to_owned()).collect();
        self.change(node, |node| node.machine.faults.links_down = versions)
    }

    /// The retry handler of the node's first NIC ended unasked, in these words of the agent; `None` mends it.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn fail_retry_handler(&self, node: &str, how: Option<&str>) -> Result<()> {
        self.change(node, |node| node.machine.faults.retry_handler = how.map(str::to_owned))
    }

    /// Reboots the machine, into another kernel if given.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn reboot(&self, node: &str, kernel: Option<&str>) -> Result<()> {
        self.change_in_state(node, |state, _| {
            let until = state.now().since_start + state.pace.reboot;
            if let Some(node) = state.nodes.get_mut(node) {
                node.reboot(until, kernel.map(str::to_owned));
            }
        })
    }

    /// Cuts the node off: it is not Ready any more, as the node lifecycle controller would see it after its grace period,
    /// and it writes nothing until [`SoftCluster::recover`].
    ///
    /// # Errors
    /// If there is no such node.
    pub fn lose(&self, node: &str) -> Result<()> {
        self.change(node, SoftNode::lose)
    }

    /// Brings a lost node back.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn recover(&self, node: &str) -> Result<()> {
        self.change(node, SoftNode::recover)
    }

    /// Everything on the node takes `factor` times as long; 1 is the usual pace.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn slow_down(&self, node: &str, factor: u32) -> Result<()> {
        self.change(node, |node| node.machine.faults.slowness = factor.max(1))
    }

    /// The kubelet starts again.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn restart_kubelet(&self, node: &str) -> Result<()> {
        self.change_in_state(node, |state, pods| {
            let now = state.now();
            if let Some(node) = state.nodes.get_mut(node) {
                node.restart_kubelet(pods, &state.registry, &state.pace, now);
            }
        })
    }

    /// The process of a pod dies and starts again after `down`.
    ///
    /// # Errors
    /// If there is no such node.
    pub fn crash_pod(&self, node: &str, namespace: &str, name: &str, down: Duration) -> Result<()> {
        self.change_in_state(node, |state, pods| {
            let now = state.now();
            let pod = pods.values().find(|pod| pod.namespace == namespace && pod.name == name);
            if let (Some(node), Some(pod)) = (state.nodes.get_mut(node), pod) {
                node.crash(pod, now.since_start + down, &state.registry, &state.pace, now);
            }
        })
    }

    fn change(&self, node: &str, change: impl FnOnce(&mut SoftNode)) -> Result<()> {
        self.ask(node, change)
    }

    fn ask<T>(&self, name: &str, change: impl FnOnce(&mut SoftNode) -> T) -> Result<T> {
        let mut state = self.shared.state();
        let answer = change(state.nodes.get_mut(name).with_context(|| format!("no soft node {name}"))?);
        state.collect_facts(name);
        drop(state);
        self.shared.wake(name);
        Ok(answer)
    }

    fn change_in_state(&self, name: &str, change: impl FnOnce(&mut State, &Pods)) -> Result<()> {
        let mut state = self.shared.state();
        ensure!(state.nodes.contains_key(name), "no soft node {name}");
        let pods = state.pods.get(name).cloned().unwrap_or_default();
        change(&mut state, &pods);
        state.collect_facts(name);
        drop(state);
        self.shared.wake(name);
        Ok(())
    }
}
