//! CXIPreflights, as users create them, and what the operator's view adds to them.

use std::{collections::BTreeMap, sync::Arc};

use cxi_api::{
    CXIPreflightStatus, Validation,
    preflight::{CXIPreflightSpec, PreflightPhase},
};
use cxi_rollout::{
    World,
    world::{Candidate, Image, ImageState, Preflight},
};

use crate::sim::{Sim, kmm::image_of};

/// A question about a release, of the CXIDriver `cxi`.
pub fn question(version: &str) -> CXIPreflightSpec {
    serde_json::from_value(serde_json::json!({ "driver": "cxi", "version": version })).unwrap()
}

/// A question whose answer is tried on a node.
pub fn trial(version: &str, node: &str) -> CXIPreflightSpec {
    CXIPreflightSpec { node: Some(node.to_owned()), ..question(version) }
}

/// A validation pod of an image.
pub fn validation(image: &str) -> Validation {
    serde_json::from_value(serde_json::json!({ "image": image })).unwrap()
}

impl Sim {
    /// `kubectl create cxipreflight`.
    pub fn ask_about(&mut self, name: &str, spec: CXIPreflightSpec) {
        let preflight = Preflight {
            name: name.to_owned(),
            uid: self.uid("preflight"),
            generation: 1,
            created: self.now,
            deleting: false,
            spec,
            status: CXIPreflightStatus::default(),
            candidate: None,
            mapped: BTreeMap::new(),
            module_refused: None,
            images: None,
        };
        self.api.preflights.push(preflight);
    }

    /// `kubectl delete cxipreflight`.
    pub fn forget_question(&mut self, name: &str) {
        self.api.preflights.retain(|known| known.name != name);
    }

    pub fn answer_to(&self, name: &str) -> &CXIPreflightStatus {
        &self.api.preflights.iter().find(|known| known.name == name).unwrap_or_else(|| panic!("no {name}")).status
    }

    pub fn preflight_phase(&self, name: &str) -> Option<PreflightPhase> {
        self.api.preflights.iter().find(|known| known.name == name)?.status.phase
    }

    /// What the operator works out about preflights from other objects.
    pub fn candidates(world: &mut World) {
        let kernels: Vec<String> = world.nodes.values().map(|node| node.kernel.clone()).collect();
        for preflight in &mut world.preflights {
            let driver = world.drivers.iter().find(|driver| driver.name == preflight.spec.driver);
            preflight.candidate = driver.map(|driver| {
                let spec = preflight.spec.candidate(&driver.spec);
                Candidate { revision: spec.revision(&driver.name), spec: Arc::new(spec) }
            });
            let Some(candidate) = &preflight.candidate else { continue };
            let asked = kernels.iter().chain(&preflight.spec.kernels);
            let named = candidate.spec.source.image.is_some();
            // KMM takes no other names.
            let has_three_parts = |kernel: &str| kernel.split(['.', ',', '-']).count() >= 3;
            preflight.mapped = asked
                .filter(|kernel| named && has_three_parts(kernel))
                .map(|kernel| (kernel.clone(), image_of(&candidate.spec.version, kernel)))
                .collect();
        }
    }

    /// KMM looks for the images that it was asked about.
    pub fn kmm_questions(&mut self) {
        let mut world = std::mem::take(&mut self.api.preflights);
        for preflight in &mut world {
            let Some(images) = &mut preflight.images else { continue };
            let version = preflight.spec.version.clone().unwrap_or_default();
            for kernel in self.questions.get(&preflight.uid).into_iter().flatten() {
                let missing = self.missing.contains(&(version.clone(), kernel.clone()));
                let state = match images.get(kernel) {
                    None => ImageState::Unknown,
                    Some(_) if missing => ImageState::Missing,
                    Some(_) => ImageState::Exists,
                };
                let reference = image_of(&version, kernel);
                images.insert(kernel.clone(), Image { reference, state, problem: None });
            }
        }
        self.api.preflights = world;
    }
}
