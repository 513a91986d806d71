//! How a CXIPreflight gets on: what is written into its status, and nothing that is not written somewhere already.

use cxi_api::{
    CXIPreflightStatus, NodeRollout, Phase, Reason, Timestamp,
    preflight::{CanaryNode, ImageResult, KernelImage, PreflightPhase, Trial},
};

use super::{choice, images, trial};
use crate::{
    driver::scope::{Member, Scope},
    fleet::conditions::Conditions,
    intent::Intent,
    text,
    world::Preflight,
};

/// Where a preflight is, in words.
struct Place {
    phase: PreflightPhase,
    message: Option<String>,
}

impl Place {
    fn at(phase: PreflightPhase, message: impl Into<String>) -> Self {
        Self { phase, message: Some(message.into()) }
    }

    fn failed(message: impl Into<String>) -> Self {
        Self::at(PreflightPhase::Failed, message)
    }

    fn waits(message: impl Into<String>) -> Self {
        Self::at(PreflightPhase::Waiting, message)
    }
}

/// The status of a preflight for whose CXIDriver this is planned. `before` is another preflight that has chosen its node and is not over.
pub fn of(
    scope: &Scope<'_>,
    members: &[Member<'_>],
    preflight: &Preflight,
    candidate: &Intent<'_>,
    before: Option<&Preflight>,
) -> CXIPreflightStatus {
    let mut status = CXIPreflightStatus {
        observed_generation: preflight.generation,
        version: Some(candidate.version.to_owned()),
        revision: Some(candidate.revision.clone()),
        kernels: images::answers(scope, members, preflight, candidate),
        node: preflight.status.node.clone(),
        ..CXIPreflightStatus::default()
    };
    let images_are_there = status.kernels.iter().all(|kernel| kernel.result == ImageResult::Found);
    let module = scope.revision(&candidate.revision);
    let refused = preflight.module_refused.as_ref().filter(|_| match module {
        None => true,
        Some(module) => !module.containerfile && !images_are_there,
    });
    if let Some(why) = refused {
        let what = if module.is_none() { "the API server refuses the Module" } else { "no image can be built" };
        return finish(
            scope.now,
            preflight,
            status,
            Place::failed(format!("release {}: {what}: {why}", candidate.version)),
        );
    }
    // The images were there when the trial began. What is known of them later is of no use for it.
    let began = status.node.as_ref().is_some_and(|node| node.trial.is_some());
    if began {
        status.kernels.clone_from(&preflight.status.kernels);
    }
    let place = match of_images(&status.kernels).filter(|_| !began) {
        Some(place) => place,
        None if !preflight.spec.has_node() => Place { phase: PreflightPhase::Succeeded, message: None },
        None => of_node(scope, members, preflight, candidate, before, &mut status.node),
    };
    finish(scope.now, preflight, status, place)
}

/// The status of a preflight about which nothing can be found out at the moment.
pub fn waiting(now: Timestamp, preflight: &Preflight, message: &str) -> CXIPreflightStatus {
    let status = CXIPreflightStatus { observed_generation: preflight.generation, ..preflight.status.clone() };
    finish(now, preflight, status, Place::waits(message))
}

/// The status of a preflight that asks for what cannot be had.
pub fn refused(now: Timestamp, preflight: &Preflight, message: &str) -> CXIPreflightStatus {
    let status = CXIPreflightStatus { observed_generation: preflight.generation, ..preflight.status.clone() };
    finish(now, preflight, status, Place::failed(message))
}

/// What is to be said of the images, unless all are there.
fn of_images(kernels: &[KernelImage]) -> Option<Place> {
    if kernels.is_empty() {
        return Some(Place::failed(
            "the CXIDriver has no node, so there is no kernel to answer for: name kernels in spec.kernels",
        ));
    }
    let bad: Vec<&KernelImage> = kernels
        .iter()
        .filter(|kernel| matches!(kernel.result, ImageResult::Missing | ImageResult::NoMapping))
        .collect();
    let open = kernels.iter().find(|kernel| matches!(kernel.result, ImageResult::Checking | ImageResult::Building));
    if let Some(open) = open {
        let image = open.image.as_deref().unwrap_or_default();
        let why = open.message.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let message = format!("KMM looks for image {image} (kernel {}){why}", open.kernel);
        return Some(Place::at(PreflightPhase::Images, message));
    }
    let first = bad.first()?;
    let what =
        first.image.as_ref().map_or_else(|| "no image".to_owned(), |image| format!("image {image} is not there"));
    let why = first.message.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
    let more = bad.len() - 1;
    let more = if more == 0 { String::new() } else { format!(" ({} more kernels have none)", text::about(more)) };
    Some(Place::failed(format!("kernel {}: {what}{why}{more}", first.kernel)))
}

fn of_node(
    scope: &Scope<'_>,
    members: &[Member<'_>],
    preflight: &Preflight,
    candidate: &Intent<'_>,
    before: Option<&Preflight>,
    node: &mut Option<CanaryNode>,
) -> Place {
    if candidate.revision == scope.intent.revision && node.as_ref().is_none_or(|node| node.trial.is_none()) {
        return Place::failed(
            "the CXIDriver asks for this release with this source already, so its rollout moves the nodes: name another release in \
             spec.version or another spec.source, or leave spec.node and spec.nodeSelector out to look at images only",
        );
    }
    if let Some(before) = before {
        return Place::waits(format!("CXIPreflight {} has its canary node first", before.name));
    }
    let Some(canary) = node else {
        return match choice::choose(scope, members, preflight) {
            Ok(chosen) => {
                let name = chosen.name.clone();
                *node = Some(chosen);
                Place::waits(format!("node {name} waits to be admitted"))
            }
            Err(message) => Place::waits(message),
        };
    };
    let Some(member) = members.iter().find(|member| member.node.uid == canary.uid) else {
        let name = &canary.name;
        return Place::failed(format!(
            "node {name} is gone or no longer belongs to the CXIDriver: create another CXIPreflight"
        ));
    };
    // By what is stored: it is the same after a restart.
    let Some(record) = member.node.rollout() else {
        return Place::waits(format!("node {} has no place in the rollout yet", canary.name));
    };
    canary.trial = trial::result(preflight, Some(record)).cloned();
    let waits = |what: &str| {
        let why = record.blocked_by.as_ref().map(|why| format!(": {}", why.message)).unwrap_or_default();
        format!("node {} {what}{why}", member.node.name)
    };
    if trial::is_untried(preflight, candidate, Some(record)) {
        return Place::failed(format!(
            "node {} runs the release, and what it showed is not known: it ran the release before, or its CXINode was lost. Create another \
             CXIPreflight",
            member.node.name
        ));
    }
    match &canary.trial {
        None => Place::waits(waits("waits to be admitted")),
        Some(trial) if trial.is_over() => ended(record, trial, &waits),
        Some(_) => match record.phase {
            Phase::Validating => {
                // That the pod runs is said already; what it waits for is not.
                let because = record.blocked_by.as_ref().filter(|why| why.reason != Reason::Validating);
                let because = because.map(|why| format!(": {}", why.message)).unwrap_or_default();
                let name = &member.node.name;
                Place::at(PreflightPhase::Validating, format!("node {name} runs the validation pod{because}"))
            }
            phase if phase.is_settled() => Place::waits(waits("waits to be admitted")),
            _ => Place::at(PreflightPhase::Moving, waits("changes its driver")),
        },
    }
}

/// The release has passed or failed on the node, which may still be on its way back.
fn ended(record: &NodeRollout, trial: &Trial, waits: &dyn Fn(&str) -> String) -> Place {
    if !record.phase.is_settled() || record.transaction.is_some() {
        return Place::at(PreflightPhase::Returning, waits("goes back into service"));
    }
    match &trial.failure {
        Some(failure) if record.phase == Phase::Quarantined => {
            Place::failed(format!("{failure}. The node is out of service, see its CXINode"))
        }
        Some(failure) => Place::failed(failure),
        None if record.phase == Phase::Quarantined => {
            Place::failed("the release passed, but the node did not come back with its own driver, see its CXINode")
        }
        None => Place { phase: PreflightPhase::Succeeded, message: None },
    }
}

fn finish(now: Timestamp, preflight: &Preflight, mut status: CXIPreflightStatus, place: Place) -> CXIPreflightStatus {
    status.phase = Some(place.phase);
    status.message = place.message.map(|message| text::cut(message, text::RECORD));
    status.finished_at = status.is_over().then(|| preflight.status.finished_at.unwrap_or(now));
    status.conditions = conditions(now, preflight, &status);
    status
}

fn conditions(
    now: Timestamp,
    preflight: &Preflight,
    status: &CXIPreflightStatus,
) -> Vec<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition> {
    let old = &preflight.status.conditions;
    let mut set = Conditions { generation: preflight.generation, now, old, new: Vec::new() };
    let message = status.message.as_deref().unwrap_or_default();
    let has = |results: &[ImageResult]| status.kernels.iter().any(|kernel| results.contains(&kernel.result));
    let count = status.kernels.len();
    if has(&[ImageResult::Checking, ImageResult::Building]) || status.kernels.is_empty() {
        set.put_as("ImagesReady", "Unknown", "Checking", message);
    } else if has(&[ImageResult::Missing, ImageResult::NoMapping]) {
        set.put("ImagesReady", false, "ImagesMissing", message);
    } else {
        set.put("ImagesReady", true, "ImagesFound", &format!("the images of {count} kernels are there"));
    }
    let trial = status.node.as_ref().and_then(|node| node.trial.as_ref());
    if let Some(trial) = trial {
        match (&trial.verified_at, &trial.failure) {
            (Some(_), _) => set.put("NodeVerified", true, "Verified", "the driver, the NICs and their links are right"),
            (None, Some(failure)) => set.put("NodeVerified", false, "DriverFailed", failure),
            (None, None) => set.put_as("NodeVerified", "Unknown", "Moving", message),
        }
        match &trial.validation {
            Some(result) if result.exit_code == Some(0) => {
                set.put("ValidationPassed", true, "Passed", "the validation pod ended with exit code 0");
            }
            Some(_) => set.put("ValidationPassed", false, "Failed", trial.failure.as_deref().unwrap_or(message)),
            None => {}
        }
    }
    let over = status.is_over();
    let failed = status.phase == Some(PreflightPhase::Failed);
    let phase = status.phase.unwrap_or(PreflightPhase::Images);
    set.put("Complete", over, phase.as_str(), message);
    set.put(
        "Failed",
        failed,
        if failed { "Failed" } else { "NotFailed" },
        if failed { message } else { "nothing has failed" },
    );
    set.new
}
