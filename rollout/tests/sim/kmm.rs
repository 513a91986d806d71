//! KMM 2.5 on the simulated nodes: version labels → internal labels → what is wanted → worker pods → what is had → ready
//! labels. After its action table, and after what was seen of the real one when things go wrong.

use std::collections::{BTreeMap, BTreeSet};

use cxi_api::{
    RevisionId, Timestamp,
    kmm::NodeModule,
    names::{DRIVER_LABEL, kmm_version_label, kmm_version_ready_label, kmm_worker_label, module_name},
};
use cxi_rollout::world::{Image, ImageState, Worker};
use serde_json::json;

use crate::sim::{NAMESPACE, Sim, seconds};

/// KMM's own state of a node.
#[derive(Clone, Debug, Default)]
pub struct KmmNode {
    /// Worker pods.
    pub workers: Vec<WorkerPod>,
    /// Until when KMM does not look again at a label whose guard was in the way, by Module.
    pub back_off: BTreeMap<String, Timestamp>,
}

/// A worker pod.
#[derive(Clone, Debug)]
pub struct WorkerPod {
    pub module: String,
    pub revision: RevisionId,
    pub version: String,
    pub loads: bool,
    pub config: serde_json::Value,
    pub kernel: String,
    /// When its container ends next.
    pub ends: Timestamp,
    pub restarts: i32,
    pub trouble: Option<String>,
    pub image_missing: bool,
}

/// The image of a release for a kernel.
pub fn image_of(version: &str, kernel: &str) -> String {
    format!("registry/cxi:{version}-{kernel}")
}

impl Sim {
    /// One round of KMM.
    pub fn kmm(&mut self) {
        if !self.kmm_runs {
            return;
        }
        self.kmm_images();
        self.kmm_questions();
        for name in self.node_names() {
            if !self.dawdles() {
                self.kmm_labels(&name);
            }
            if !self.dawdles() {
                self.kmm_wants(&name);
            }
            if !self.dawdles() {
                self.kmm_workers(&name);
            }
            self.project_workers(&name);
        }
        self.kmm_gone_modules();
    }

    /// The `ModuleImagesConfig`: which images the selected nodes need and whether they exist.
    fn kmm_images(&mut self) {
        let mut revisions = std::mem::take(&mut self.api.revisions);
        for revision in &mut revisions {
            let selected = |labels: &BTreeMap<String, String>| labels.get(DRIVER_LABEL) == Some(&revision.driver);
            let kernels: Vec<String> =
                self.api.nodes.values().filter(|node| selected(&node.labels)).map(|node| node.kernel.clone()).collect();
            let old = std::mem::take(&mut revision.images);
            for kernel in kernels {
                let missing = self.missing.contains(&(revision.version.clone(), kernel.clone()));
                let building = self.building.get(&revision.version).copied();
                let state = match (old.get(&kernel), missing) {
                    // Without a Containerfile a build does not begin.
                    (Some(_), false) if building.is_some() && revision.containerfile => {
                        building.unwrap_or(ImageState::Unknown)
                    }
                    (Some(_), true) => ImageState::Missing,
                    (Some(_), false) => ImageState::Exists,
                    (None, _) => ImageState::Unknown,
                };
                let reference = image_of(&revision.version, &kernel);
                revision.images.insert(kernel, Image { reference, state, problem: None });
            }
        }
        self.api.revisions = revisions;
    }

    /// Version labels: ours (M) and KMM's internal one (W). KMM goes by the labels, whether their Module is there or not
    /// (`getLabelsPerModules` in `node_label_module_version_reconciler.go`).
    fn kmm_labels(&mut self, name: &str) {
        let internal = kmm_worker_label(NAMESPACE, "");
        let labelled = self.node(name).labels.keys().filter_map(|key| key.strip_prefix(&internal).map(str::to_owned));
        let modules: BTreeSet<String> = labelled.chain(self.modules()).collect();
        for module in modules {
            let (m_key, w_key) = (kmm_version_label(NAMESPACE, &module), kmm_worker_label(NAMESPACE, &module));
            let ready_key = format!("kmm.node.kubernetes.io/{NAMESPACE}.{module}.ready");
            let now = self.now;
            let node = self.node(name);
            let (m, w) = (node.labels.get(&m_key).cloned(), node.labels.get(&w_key).cloned());
            let ready = node.labels.contains_key(&ready_key);
            match (m, w) {
                (None, Some(_)) => {
                    self.node_mut(name).labels.remove(&w_key);
                    self.machine_mut(name).kmm.back_off.remove(&module);
                }
                (None, None) => {
                    self.machine_mut(name).kmm.back_off.remove(&module);
                }
                (Some(m), None) => {
                    let back_off = self.machines[name].kmm.back_off.get(&module).copied();
                    if ready {
                        // Its work queue tries again later and later, up to 1,000 s.
                        let later = now + seconds(1000);
                        self.machine_mut(name).kmm.back_off.entry(module.clone()).or_insert(later);
                    } else if back_off.is_none_or(|until| until <= now) {
                        self.node_mut(name).labels.insert(w_key, m);
                        self.machine_mut(name).kmm.back_off.remove(&module);
                    }
                }
                (Some(m), Some(w)) if m != w => {
                    self.node_mut(name).labels.remove(&w_key);
                }
                _ => {}
            }
        }
    }

    /// `NodeModulesConfig.spec`.
    fn kmm_wants(&mut self, name: &str) {
        for revision in self.api.revisions.clone() {
            let module = module_name(&revision.id);
            let node = self.node_mut(name);
            let selected = node.labels.get(DRIVER_LABEL) == Some(&revision.driver);
            let w = node.labels.get(&kmm_worker_label(NAMESPACE, &module)).cloned();
            if revision.deleting || !selected || w.is_none() {
                node.kmm_wants.retain(|wanted| wanted.name != module);
                continue;
            }
            let image = revision.images.get(&node.kernel);
            if w.as_deref() != Some(revision.id.as_str()) || image.is_none_or(|image| image.state != ImageState::Exists)
            {
                continue;
            }
            let config = json!({
                "kernelVersion": node.kernel,
                "containerImage": image_of(&revision.version, &node.kernel),
            });
            let entry = NodeModule {
                name: module.clone(),
                namespace: NAMESPACE.into(),
                version: Some(revision.id.to_string()),
                config,
                boot_id: None,
            };
            match node.kmm_wants.iter_mut().find(|wanted| wanted.name == module) {
                Some(old) => *old = entry,
                None => node.kmm_wants.push(entry),
            }
        }
    }

    /// Worker pods and `NodeModulesConfig.status`.
    fn kmm_workers(&mut self, name: &str) {
        self.run_workers(name);
        let node = self.node(name).clone();
        if !node.ready {
            return;
        }
        let mut names: Vec<String> = node.kmm_wants.iter().chain(&node.kmm_has).map(|m| m.name.clone()).collect();
        names.extend(self.machines[name].kmm.workers.iter().map(|worker| worker.module.clone()));
        names.sort();
        names.dedup();
        for module in names {
            let wanted = node.kmm_wants.iter().find(|wanted| wanted.name == module);
            let had = node.kmm_has.iter().find(|had| had.name == module);
            let worker = self.machines[name].kmm.workers.iter().find(|worker| worker.module == module).cloned();
            match (wanted, had, worker) {
                (Some(wanted), _, Some(worker)) => {
                    if worker.loads && worker.restarts > 0 && worker.config != wanted.config {
                        self.end_worker(name, &module);
                    }
                }
                (Some(wanted), None, None) => self.start_worker(name, wanted, true),
                (Some(wanted), Some(had), None) => {
                    if had.config != wanted.config {
                        let unload = had.kernel() == wanted.kernel();
                        self.start_worker(name, if unload { had } else { wanted }, !unload);
                    } else if had.boot_id.as_deref() != Some(node.boot_id.as_str()) {
                        self.start_worker(name, wanted, true);
                    }
                }
                (None, Some(had), worker) => {
                    let this_boot = had.boot_id.as_deref() == Some(node.boot_id.as_str());
                    match worker {
                        _ if !this_boot => {
                            self.node_mut(name).kmm_has.retain(|had| had.name != module);
                            self.end_worker(name, &module);
                        }
                        None => self.start_worker(name, had, false),
                        Some(worker) if worker.loads => self.end_worker(name, &module),
                        Some(_) => {}
                    }
                }
                // A failed load whose label was taken away: no unload worker runs.
                (None, None, Some(_)) => self.end_worker(name, &module),
                (None, None, None) => {}
            }
        }
        self.ready_labels(name);
    }

    fn ready_labels(&mut self, name: &str) {
        for module in self.modules() {
            let ready = format!("kmm.node.kubernetes.io/{NAMESPACE}.{module}.ready");
            let version_ready = kmm_version_ready_label(NAMESPACE, &module);
            let node = self.node_mut(name);
            let wanted = node.kmm_wants.iter().find(|wanted| wanted.name == module);
            let had = node.kmm_has.iter().find(|had| had.name == module);
            match (wanted, had) {
                (Some(wanted), Some(had)) if wanted.config == had.config && !node.labels.contains_key(&ready) => {
                    let version = had.version.clone().unwrap_or_default();
                    node.labels.insert(ready, String::new());
                    node.labels.insert(version_ready, version);
                }
                (None, None) => {
                    node.labels.remove(&ready);
                    node.labels.remove(&version_ready);
                }
                _ => {}
            }
        }
    }

    fn start_worker(&mut self, name: &str, entry: &NodeModule, loads: bool) {
        let Some(revision) = entry.version.as_deref().and_then(|version| version.parse::<RevisionId>().ok()) else {
            return;
        };
        let image = entry.image().unwrap_or_default().to_owned();
        let kernel = entry.kernel().unwrap_or_default().to_owned();
        let version = image.strip_prefix("registry/cxi:").and_then(|tag| tag.strip_suffix(&format!("-{kernel}")));
        let version = version.unwrap_or_default().to_owned();
        let ends = self.now + seconds(2);
        self.machine_mut(name).kmm.workers.push(WorkerPod {
            module: entry.name.clone(),
            revision,
            version,
            loads,
            config: entry.config.clone(),
            kernel,
            ends,
            restarts: 0,
            trouble: None,
            image_missing: false,
        });
    }

    fn end_worker(&mut self, name: &str, module: &str) {
        self.machine_mut(name).kmm.workers.retain(|worker| worker.module != module);
    }

    /// Containers of worker pods whose time has come end, well or badly.
    fn run_workers(&mut self, name: &str) {
        let node = self.node(name);
        if !node.ready || self.machines[name].boots_until.is_some() {
            return;
        }
        let (kernel, boot_id, now) = (node.kernel.clone(), node.boot_id.clone(), self.now);
        let mut workers = std::mem::take(&mut self.machine_mut(name).kmm.workers);
        workers.retain_mut(|worker| {
            if worker.ends > now {
                return true;
            }
            worker.image_missing = self.missing.contains(&(worker.version.clone(), worker.kernel.clone()));
            if worker.image_missing {
                worker.trouble = Some("ImagePullBackOff".into());
                worker.ends = now + seconds(10);
                return true;
            }
            let result = if worker.loads { self.modprobe(name, worker, &kernel) } else { self.rmmod(name) };
            match result {
                Ok(()) => {
                    let entry = NodeModule {
                        name: worker.module.clone(),
                        namespace: NAMESPACE.into(),
                        version: Some(worker.revision.to_string()),
                        config: worker.config.clone(),
                        boot_id: Some(boot_id.clone()),
                    };
                    let has = &mut self.node_mut(name).kmm_has;
                    has.retain(|had| had.name != worker.module);
                    if worker.loads {
                        has.push(entry);
                    }
                    false
                }
                Err(trouble) => {
                    worker.trouble = Some(trouble);
                    worker.restarts += 1;
                    worker.ends = now + seconds(300.min(10 << worker.restarts.min(5)));
                    true
                }
            }
        });
        self.machine_mut(name).kmm.workers = workers;
    }

    fn modprobe(&mut self, name: &str, worker: &WorkerPod, kernel: &str) -> Result<(), String> {
        let now = self.now;
        let machine = self.machine_mut(name);
        if worker.kernel != kernel {
            return Err(format!("modprobe: no modules for kernel {kernel} in the image"));
        }
        if machine.loaded.is_some() {
            // modprobe of what is loaded is a success, whatever release it is.
            return Ok(());
        }
        let foreign =
            machine.modules.iter().any(|(module, id)| *id != super::machine::build_id(&worker.version, kernel, module));
        if foreign {
            return Err("modprobe: disagrees about version of symbol cxi_sl_init".into());
        }
        if machine.bad_versions.contains(&worker.version) {
            machine.insert_partly(&worker.version, kernel);
            return Err("modprobe: could not insert cxi_ss1: Invalid argument".into());
        }
        machine.insert(&worker.version, kernel, now);
        Ok(())
    }

    fn rmmod(&mut self, name: &str) -> Result<(), String> {
        let files = self.open_files(name);
        if let Some(file) = files.first() {
            let holder = file.pod_uid.clone().unwrap_or_else(|| file.command.clone());
            self.oracle.unload_refused(name, &files);
            return Err(format!("modprobe: FATAL: Module cxi_user is in use ({holder})"));
        }
        self.machine_mut(name).clear();
        Ok(())
    }

    fn kmm_gone_modules(&mut self) {
        let in_use = |module: &str, sim: &Self| {
            sim.api.nodes.values().any(|node| {
                node.kmm_wants.iter().chain(&node.kmm_has).any(|entry| entry.name == module)
                    || sim.machines[&node.name].kmm.workers.iter().any(|worker| worker.module == module)
            })
        };
        let gone: Vec<RevisionId> = self
            .api
            .revisions
            .iter()
            .filter(|revision| revision.deleting && !in_use(&module_name(&revision.id), self))
            .map(|revision| revision.id.clone())
            .collect();
        self.api.revisions.retain(|revision| !gone.contains(&revision.id));
    }

    fn modules(&self) -> Vec<String> {
        self.api.revisions.iter().map(|revision| module_name(&revision.id)).collect()
    }

    /// Worker pods as the API shows them.
    pub fn project_workers(&mut self, name: &str) {
        let shown = self.machines[name].kmm.workers.iter().map(|worker| Worker {
            module: worker.module.clone(),
            loads: worker.loads,
            kernel: Some(worker.kernel.clone()),
            restarts: worker.restarts,
            trouble: worker.trouble.clone(),
            image_missing: worker.image_missing,
        });
        self.node_mut(name).workers = shown.collect();
    }
}
