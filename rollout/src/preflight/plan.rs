//! What is done for the CXIPreflights of one CXIDriver.

use cxi_api::{
    CXIPreflightStatus, Timestamp,
    preflight::{After, CXIPreflightSpec},
    source::SOURCES_REQUIRED,
};

use super::{images, question::Question, status};
use crate::{
    action::{Action, Announcement},
    driver::{
        obstacle::Obstacle,
        scope::{Member, Scope},
    },
    fleet::revisions,
    intent::{Intent, Invalid, Lack, Source},
    view::View,
    world::{Driver, Preflight, World},
};

/// Plans the preflights of a CXIDriver whose nodes are looked after. `obstacle` is in the way of the CXIDriver as a whole, in words.
pub fn plan(scope: &Scope<'_>, members: &[Member<'_>], obstacle: Option<&str>) -> Vec<Action> {
    let mut actions = Vec::new();
    let mine = || of_driver(scope.world, scope.driver);
    // One that has chosen a node; the others wait until it is over.
    let mut busy = mine().map(|question| question.preflight).find(|preflight| has_chosen(&preflight.status));
    for question in mine() {
        let preflight = question.preflight;
        if preflight.status.is_over() {
            actions.extend(release(scope, question).or_else(|| expire(scope, members, preflight)));
            continue;
        }
        let Some(candidate) = &question.candidate else { continue };
        let possible = candidate.as_ref().map_err(Invalid::message);
        let possible = possible.and_then(|candidate| match impossible(scope, &preflight.spec, candidate) {
            Some(message) => Err(message),
            None => Ok(candidate),
        });
        let status = match (obstacle, possible) {
            (Some(obstacle), _) => status::waiting(scope.now, preflight, obstacle),
            (None, Err(message)) => status::refused(scope.now, preflight, &message),
            (None, Ok(candidate)) => {
                actions.extend(ask(scope, members, preflight, candidate));
                let before = busy.filter(|other| other.uid != preflight.uid);
                status::of(scope, members, preflight, candidate, before)
            }
        };
        if has_chosen(&status) {
            busy = busy.or(Some(preflight));
        }
        actions.extend(write(scope, preflight, status));
    }
    actions
}

/// The preflights of a CXIDriver.
fn of_driver<'a>(world: &'a View<'a>, driver: &'a Driver) -> impl Iterator<Item = &'a Question<'a>> {
    world.questions().filter(|question| {
        let preflight = question.preflight;
        preflight.spec.driver == driver.name && !preflight.deleting
    })
}

/// The preflights of a CXIDriver whose spec says what cannot be: they wait for it.
pub fn held(world: &View<'_>, driver: &Driver, obstacle: &Obstacle, now: Timestamp) -> Vec<Action> {
    let waiting = of_driver(world, driver).filter(|question| !question.preflight.status.is_over());
    let message = format!("CXIDriver {}: {}", driver.name, obstacle.message);
    waiting.filter_map(|question| wait(now, question.preflight, &message)).collect()
}

/// Writes what a preflight waits for.
fn wait(now: Timestamp, preflight: &Preflight, message: &str) -> Option<Action> {
    let status = status::waiting(now, preflight, message);
    (status != preflight.status).then(|| replaced(preflight, status))
}

/// Replaces the status of a preflight.
fn replaced(preflight: &Preflight, status: CXIPreflightStatus) -> Action {
    let (preflight, uid) = (preflight.name.clone(), preflight.uid.clone());
    Action::WritePreflightStatus { preflight, uid, status: Box::new(status) }
}

/// Whether a canary node is chosen, and the preflight is not over.
fn has_chosen(status: &CXIPreflightStatus) -> bool {
    status.node.is_some() && !status.is_over()
}

/// Preflights whose CXIDriver does not exist or cannot be read: they wait for it.
pub fn homeless(world: &World, now: Timestamp) -> Vec<Action> {
    let known = |name: &String| world.drivers.iter().any(|driver| driver.name == *name);
    let waiting = world
        .preflights
        .iter()
        .filter(|preflight| !preflight.deleting && !preflight.status.is_over() && !known(&preflight.spec.driver));
    let write = |preflight: &Preflight| {
        let driver = &preflight.spec.driver;
        let message = if world.unreadable_drivers.iter().any(|unreadable| unreadable.name == *driver) {
            format!("CXIDriver {driver} cannot be read: correct it first")
        } else {
            format!(
                "spec.driver names CXIDriver {driver}, which does not exist: create it, or delete this CXIPreflight"
            )
        };
        wait(now, preflight, &message)
    };
    waiting.filter_map(write).collect()
}

/// What is asked and cannot be answered, and what helps.
fn impossible(scope: &Scope<'_>, spec: &CXIPreflightSpec, candidate: &Intent<'_>) -> Option<String> {
    if candidate.is_preinstalled() {
        return Some(
            "the hosts bring the driver (source.type preinstalled): there is no image to look for and no release to try. Name a \
             spec.source of type prebuilt or dkms"
                .to_owned(),
        );
    }
    if spec.has_node() && scope.intent.is_preinstalled() {
        return Some(format!(
            "the hosts of CXIDriver {} bring their driver (source.type preinstalled), and a trial beside it is not possible: leave \
             spec.node and spec.nodeSelector out to look at images only",
            scope.driver.name
        ));
    }
    if let Some(other) = scope.world.taken_by(&scope.driver.name, &candidate.revision) {
        return Some(revisions::names_meet(&candidate.revision, other));
    }
    match candidate.source {
        Source::Incomplete(Lack::Repository) => {
            let field = if spec.source.is_some() { "spec.source.image" } else { "source.image of the CXIDriver" };
            Some(format!("{field} is not set: name the repository of the driver images"))
        }
        Source::Incomplete(Lack::Sources) => Some(SOURCES_REQUIRED.to_owned()),
        Source::Images(_) | Source::Preinstalled => None,
    }
}

/// Has KMM look for the images, and makes the Module that the canary node needs. No node carries its label, so KMM loads nothing.
fn ask(scope: &Scope<'_>, members: &[Member<'_>], preflight: &Preflight, candidate: &Intent<'_>) -> Vec<Action> {
    let builds = candidate.source.builds();
    // The Containerfile that images are built by belongs to the Module. What the CXIDriver asks for itself is made for its nodes.
    let needs_module = (preflight.spec.has_node() || builds) && candidate.revision != scope.intent.revision;
    let mut actions: Vec<Action> =
        needs_module.then(|| revisions::create(scope, candidate)).flatten().into_iter().collect();
    // The kernels are written down first: the question is asked once.
    let written = preflight.status.revision.as_ref() == Some(&candidate.revision);
    let kernels = if written { images::to_ask(members, preflight, candidate) } else { Vec::new() };
    let ready = !builds || scope.revision(&candidate.revision).is_some_and(|module| module.containerfile);
    if preflight.images.is_none() && !kernels.is_empty() && ready {
        actions.push(Action::AskForImages {
            preflight: preflight.name.clone(),
            uid: preflight.uid.clone(),
            driver: scope.driver.name.clone(),
            revision: candidate.revision.clone(),
            spec: candidate.for_manifests(),
            kernels,
        });
    }
    actions
}

/// Writes the status, and says once how the preflight ended.
fn write(scope: &Scope<'_>, preflight: &Preflight, status: CXIPreflightStatus) -> Vec<Action> {
    if status == preflight.status {
        return Vec::new();
    }
    let mut actions = Vec::new();
    if status.is_over() {
        let failed = status.message.as_ref();
        let version = status.version.as_deref().unwrap_or_default();
        let message = match failed {
            Some(why) => format!("CXIPreflight {}: {why}", preflight.name),
            None => format!("CXIPreflight {}: release {version} has passed", preflight.name),
        };
        actions.push(Action::Announce(Announcement {
            driver: scope.driver.name.clone(),
            node: status.node.as_ref().map(|node| node.name.clone()),
            warning: failed.is_some(),
            reason: if failed.is_some() { "PreflightFailed" } else { "PreflightPassed" }.to_owned(),
            message,
        }));
    }
    actions.push(replaced(preflight, status));
    actions
}

/// Writes down that a node that was kept is the CXIDriver's again: the CXIDriver asks for the same release. Should it ask for another one
/// later, the node goes with the others.
fn release(scope: &Scope<'_>, question: &Question<'_>) -> Option<Action> {
    let preflight = question.preflight;
    let same = question.readable().is_some_and(|candidate| candidate.revision == scope.intent.revision);
    let mut status = preflight.status.clone();
    let node = status.node.as_mut().filter(|node| !node.released)?;
    if !same || preflight.spec.after != After::Keep {
        return None;
    }
    node.released = true;
    Some(replaced(preflight, status))
}

/// Deletes a preflight that ended long ago, unless a node stays on its release for it.
fn expire(scope: &Scope<'_>, members: &[Member<'_>], preflight: &Preflight) -> Option<Action> {
    let keeps = preflight.spec.after == After::Keep
        && members.iter().any(|member| member.trial.is_some_and(|trial| trial.preflight.uid == preflight.uid));
    let ended = preflight.status.finished_at?;
    if keeps {
        return None;
    }
    let due = ended.checked_add(preflight.spec.ttl_after_finished.0).ok()?;
    if due > scope.now {
        scope.wake_at(due);
        return None;
    }
    Some(Action::DeletePreflight { preflight: preflight.name.clone(), uid: preflight.uid.clone() })
}
