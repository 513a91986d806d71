//! Kubelets: the device plugin's DaemonSet pods, what they offer, one-shot pods, and reboots that come to their end.

use cxi_api::{
    Advertise,
    driver::SharingMode,
    names::{DRIVER_LABEL, Role},
};
use cxi_manifests::operands::OPERANDS;
use cxi_rollout::world::{ImageTrouble, OwnPod, PodState};
use serde_json::json;

use crate::sim::{
    Sim,
    machine::{STACK, build_id},
};

impl Sim {
    /// One round of a node's kubelet.
    pub fn kubelet(&mut self, name: &str) {
        self.finish_boot(name);
        if self.machines[name].boots_until.is_some() || !self.node(name).ready || self.dawdles() {
            return;
        }
        self.end_pods(name);
        for operand in OPERANDS {
            if let Some(gate) = operand.gate {
                self.gated_pods(name, operand.role, gate.label());
            }
        }
        self.one_shot_pods(name);
        self.offer(name);
    }

    fn finish_boot(&mut self, name: &str) {
        let now = self.now;
        let machine = self.machine_mut(name);
        if machine.boots_until.is_some_and(|until| until <= now) {
            machine.boots_until = None;
            let host_driver = machine.host_driver.clone();
            let kernel = self.node(name).kernel.clone();
            if let Some(version) = host_driver {
                self.machine_mut(name).insert(&version, &kernel, now);
            }
            self.node_mut(name).ready = true;
        }
    }

    fn end_pods(&mut self, name: &str) {
        let stays = self.machines[name].retry_handler_stays;
        self.node_mut(name).pods.retain(|pod| !pod.deleting || stays && pod.role == Role::RetryHandler);
    }

    /// What the DaemonSet controller and the kubelet make of a gate.
    fn gated_pods(&mut self, name: &str, role: Role, gate: fn(&str) -> String) {
        let wanting: Vec<String> = self
            .daemonsets
            .keys()
            .filter(|driver| self.node(name).labels.contains_key(&gate(driver)))
            .cloned()
            .collect();
        let serves = role == Role::RetryHandler;
        let machine = &self.machines[name];
        let (ready, started) = (!(serves && machine.retry_handler_fails), machine.serves.clone());
        let labels = self.node(name).labels.clone();
        for pod in &mut self.node_mut(name).pods {
            if pod.role == role {
                // A retry handler is of the DaemonSet that its gate names.
                let another = serves && labels.get(&gate(&pod.driver)) != started.as_ref();
                pod.deleting |= !wanting.contains(&pod.driver) || another;
                pod.state = PodState::Running { ready };
            }
        }
        for driver in wanting {
            let there = |pod: &OwnPod| pod.role == role && pod.driver == driver;
            if self.node(name).pods.iter().any(there) {
                continue;
            }
            let uid = self.uid(role.as_str());
            if serves {
                self.machine_mut(name).serves = labels.get(&gate(&driver)).cloned();
            }
            let pod = OwnPod {
                role,
                driver,
                revision: None,
                name: uid.clone(),
                uid,
                state: PodState::Pending { image: None },
                deleting: false,
            };
            self.node_mut(name).pods.push(pod);
        }
    }

    fn offer(&mut self, name: &str) {
        let advertise = self.node(name).rollout().map(|record| record.advertise);
        if let Some(advertise) = advertise {
            self.machine_mut(name).advertise = advertise;
        }
        let machine = self.machines[name].clone();
        for driver in self.api.drivers.clone() {
            let running = self.node(name).pods.iter().any(|pod| {
                pod.role == Role::DevicePlugin
                    && pod.driver == driver.name
                    && !pod.deleting
                    && matches!(pod.state, PodState::Running { .. })
            });
            let mine = self.node(name).labels.get(cxi_api::names::DRIVER_LABEL) == Some(&driver.name);
            if !mine && !running {
                continue;
            }
            // The plugin offers under the name that its DaemonSet was applied with.
            let Some(resource) = self.daemonsets.get(&driver.name).cloned() else {
                self.withdraw(name, None);
                continue;
            };
            let each = match driver.spec.device_plugin.sharing_mode {
                SharingMode::Shared => i64::from(driver.spec.device_plugin.shared_capacity),
                SharingMode::Exclusive => 1,
            };
            let lame = machine.plugin_lame_with.is_some() && machine.plugin_lame_with == machine.loaded;
            let healthy = i64::try_from(machine.links_up(self.now)).unwrap() * each - i64::from(lame);
            let holds = |pod: &&crate::sim::Pod| pod.holder.resources.contains(&resource);
            let in_use = i64::try_from(self.accepted_on(name).filter(holds).count()).unwrap();
            let offered = if !running
                || machine.plugin_away
                || machine.plugin_broken_with.is_some() && machine.plugin_broken_with == machine.loaded
            {
                0
            } else {
                match machine.advertise {
                    Advertise::All => healthy,
                    Advertise::InUse => healthy.min(in_use),
                    Advertise::None => 0,
                }
            };
            self.withdraw(name, Some(&resource));
            self.node_mut(name).allocatable.insert(resource, offered);
        }
    }

    /// What is not offered any more stays on the Node, as nothing, until the kubelet is restarted.
    fn withdraw(&mut self, name: &str, but: Option<&String>) {
        for (resource, count) in &mut self.node_mut(name).allocatable {
            if Some(resource) != but {
                *count = 0;
            }
        }
    }

    fn one_shot_pods(&mut self, name: &str) {
        let kernel = self.node(name).kernel.clone();
        let mut pods = std::mem::take(&mut self.node_mut(name).pods);
        for pod in pods.iter_mut().filter(|pod| matches!(pod.state, PodState::Pending { .. }) && !pod.deleting) {
            let one_shot = pod.role.is_one_shot();
            if let Some(why) = self.machines[name].refuses_pods.clone().filter(|_| one_shot) {
                pod.state = PodState::Unfinished { why };
                continue;
            }
            if self.machines[name].pull_fails && one_shot {
                let words = "ImagePullBackOff: the registry does not answer: i/o timeout".to_owned();
                pod.state = PodState::Pending { image: Some(ImageTrouble::Unpulled(words)) };
                continue;
            }
            match pod.role {
                Role::DevicePlugin | Role::Agent | Role::MetricsExporter | Role::RetryHandler => {}
                Role::HostDriver => {
                    let now = self.now;
                    let on_host = self.machines[name].host_driver.clone();
                    pod.state = match on_host {
                        Some(version) => {
                            self.machine_mut(name).insert(&version, &kernel, now);
                            PodState::Succeeded { message: String::new() }
                        }
                        None => PodState::Failed { code: 1, message: "FATAL: Module cxi-user not found".into() },
                    };
                }
                Role::Prefetch => {
                    let version = pod.revision.as_ref().and_then(|id| self.version_of(id)).unwrap_or_default();
                    let missing = self.missing.contains(&(version.clone(), kernel.clone()));
                    if missing || self.machines[name].image_unknown {
                        let words = format!("ImagePullBackOff: {version} for {kernel} cannot be pulled: not found");
                        pod.state = PodState::Pending { image: Some(ImageTrouble::Missing(words)) };
                    } else if self.foreign.contains(&version) {
                        pod.state = PodState::Succeeded { message: String::new() };
                    } else {
                        let modules: Vec<_> = STACK
                            .iter()
                            .map(|module| json!({"name": module, "buildID": build_id(&version, &kernel, module)}))
                            .collect();
                        let manifest = json!({"driverVersion": version, "kernel": kernel, "modules": modules});
                        pod.state = PodState::Succeeded { message: manifest.to_string() };
                    }
                }
                Role::Validation => {
                    // What the site's test makes of a release is in its name.
                    let machine = &self.machines[name];
                    let image = machine.validates.clone().unwrap_or_default();
                    pod.state = match image.as_str() {
                        "fails" => PodState::Failed { code: 3, message: "ping: no answer from 0x11".into() },
                        "hangs" => PodState::Running { ready: true },
                        "missing" => PodState::Pending { image: Some(ImageTrouble::Unpulled("ErrImagePull".into())) },
                        _ => PodState::Succeeded { message: "64 KiB: 23 GB/s".into() },
                    };
                }
                Role::Cleanup => {
                    let busy = !self.open_files(name).is_empty();
                    let machine = self.machine_mut(name);
                    if busy || machine.cleanup_fails {
                        pod.state = PodState::Failed { code: 1, message: "cxi_sl has reference count 1".into() };
                    } else {
                        machine.clear();
                        pod.state = PodState::Succeeded { message: String::new() };
                    }
                }
            }
        }
        self.node_mut(name).pods = pods;
        for driver in &mut self.api.drivers {
            let nodes = self.api.nodes.values();
            let owned = nodes.filter(|node| node.labels.get(DRIVER_LABEL) == Some(&driver.name)).count();
            let everywhere = OPERANDS.iter().filter(|operand| operand.gate.is_none());
            driver.pods_ready = everywhere.map(|operand| (operand.role, i32::try_from(owned).unwrap())).collect();
        }
    }
}
