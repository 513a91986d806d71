//! Who may go next. A node is admitted when everything that can be known beforehand speaks for it: nothing is taken away to
//! find out.

use std::collections::{HashMap, HashSet};

use cxi_api::{
    NodeRollout, Phase, Reason, RevisionId, Timestamp,
    driver_status::{InFlight, Rollout},
    names::UPGRADE_LABEL,
    node_report::Nic,
    strategy::UpdateType,
};

use crate::{
    disruption::{self, Allowance},
    drift,
    driver::{Member, Scope},
    installation, ledger,
    obstacle::Obstacle,
    proof::lasting_holder,
    request::Request,
    step,
    world::{Image, ImageState, Node, PodProblem},
};

/// Why a node is not admitted: reason, object (kind, name) and a sentence.
pub type Verdict = (Reason, (&'static str, String), String);

/// Why no node of a CXIDriver may be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Another CXIDriver selects its nodes, or owns them.
    Conflict,
    /// It is being deleted, and its driver is left where it is.
    Orphaning,
}

/// How many nodes may be in flight at once although the budget does not bound them (they have nothing to lose). KMM's client
/// sends 20 requests a second (client-go's default, which KMM does not change) and needs about six for a node; with many
/// more at once, loads would run into their time limit.
const AT_ONCE: usize = 16;

/// What was looked at before the pause between tries, and is not so any more when it comes to that.
const BEFORE_THE_PAUSE: [Reason; 12] = [
    Reason::Budget,
    Reason::Conflict,
    Reason::Orphaning,
    Reason::AgentPolicyMissing,
    Reason::KmmUnavailable,
    Reason::NotConfigured,
    Reason::Skip,
    Reason::UnknownRequest,
    Reason::NotReady,
    Reason::Cordoned,
    Reason::Failed,
    Reason::Halted,
];

/// Enters into the ledger the nodes that may go, and says of the others why not. `closed`: why none may.
pub fn admit<'a>(
    scope: &Scope<'a>,
    rollout: &mut Rollout,
    members: &[Member<'a>],
    obstacle: Option<&Obstacle>,
    closed: Option<Closed>,
) -> HashMap<&'a str, Verdict> {
    let mut verdicts = HashMap::new();
    let in_flight = ledger::names(rollout);
    let mut allowance = reserve(scope, &in_flight, members);
    let preflight = preflight(scope, members);
    let counted = members.iter().filter(|member| !is_skipped(member)).count();
    let budget = scope.driver.spec.update_strategy.budget(counted).unwrap_or(0);
    // A node that cannot be read and is not owned may be one of these.
    let unknown = |node: &&Node| scope.is_hidden(node) && !scope.ownership.owner.contains_key(node.name.as_str());
    let mut unavailable = members.iter().filter(|member| counts(scope, &in_flight, member)).count()
        + scope.world.nodes.values().filter(unknown).count();
    let candidates = order(scope, &in_flight, members);
    let mut room = ledger::Room::left_by(rollout);

    for member in candidates {
        let Some(record) = member.node.rollout() else { continue };
        let stake = stake(scope, member, record);
        let repair = member.seen.repair && drift::kmm_has_acted(member.node, record);
        let foreign = foreign_driver(scope, member.node);
        let verdict = if foreign.is_some() {
            foreign
        } else if !room.fits(member.node) {
            Some((Reason::Budget, ("", String::new()), ledger::FULL.to_owned()))
        } else if repair && closed.is_none() {
            // KMM has acted on labels that were changed by hand: to wait would not keep anything in service.
            None
        } else {
            blocked(scope, rollout, member, record, obstacle, closed, preflight.as_ref(), &allowance).or_else(|| {
                let in_flight = rollout.in_flight.len();
                let full = match stake {
                    Stake::Service { counted } => unavailable - usize::from(counted) >= budget,
                    Stake::Jobs => in_flight >= budget,
                    Stake::Nothing => in_flight >= budget.max(AT_ONCE),
                };
                // Numbers change all the time; the record should not.
                let message = match stake {
                    Stake::Service { .. } | Stake::Jobs => {
                        "the node waits until fewer nodes are unavailable (updateStrategy.maxUnavailable)"
                    }
                    Stake::Nothing => {
                        "the node waits until fewer nodes are in flight: KMM loads drivers on a few nodes at a time"
                    }
                };
                full.then(|| (Reason::Budget, ("", String::new()), message.to_owned()))
            })
        };
        if let Some(verdict) = verdict {
            verdicts.insert(member.node.name.as_str(), verdict);
            continue;
        }
        if stake == (Stake::Service { counted: false }) {
            unavailable += 1;
        }
        allowance.take(&member.holders);
        room.take(member.node);
        rollout.in_flight.push(InFlight {
            node: member.node.name.clone(),
            uid: member.node.uid.clone(),
            attempt: record.attempt + 1,
            admitted_at: scope.now,
        });
    }
    verdicts
}

/// Candidates in the order of admission.
fn order<'m, 'a>(scope: &Scope<'_>, in_flight: &HashSet<&str>, members: &'m [Member<'a>]) -> Vec<&'m Member<'a>> {
    let mut candidates: Vec<&Member<'_>> = members
        .iter()
        .filter(|member| {
            let in_ledger = in_flight.contains(member.node.name.as_str());
            // What is about to change is judged when it has changed.
            let unchanged = member.record.as_deref() == member.node.rollout();
            !in_ledger && (unchanged || member.record.as_deref().is_some_and(|record| record.phase.is_settled()))
        })
        .filter(|member| member.seen.moves)
        .collect();
    candidates.sort_by_cached_key(|member| {
        let node = member.node;
        let asked = member.seen.request.is_some_and(Request::moves);
        let record = node.rollout();
        let at_stake = record.is_some_and(|record| stake(scope, member, record) != Stake::Nothing);
        let homeless = record.and_then(|record| record.revision.as_ref()).is_some_and(|revision| {
            let known = scope.revision(revision);
            known.is_some_and(|known| !known.images.is_empty() && !known.images.contains_key(&node.kernel))
        });
        let own = scope.world.own_node.as_ref() == Some(&node.name);
        // Nothing can hold these up, so they count before the budget is given to others.
        (!member.seen.repair, own, at_stake, !asked, !homeless, member.holders.len(), node.created, node.name.as_str())
    });
    candidates
}

#[allow(clippy::too_many_arguments, reason = "each is a different fact, and they are only passed on here")]
fn blocked(
    scope: &Scope<'_>,
    rollout: &Rollout,
    member: &Member<'_>,
    record: &NodeRollout,
    obstacle: Option<&Obstacle>,
    closed: Option<Closed>,
    preflight: Option<&Verdict>,
    allowance: &Allowance<'_>,
) -> Option<Verdict> {
    let say = |reason: Reason, message: &str| Some((reason, ("", String::new()), message.to_owned()));
    let (driver, node) = (scope.driver, member.node);
    let request = member.seen.request;
    let retry = request.is_some_and(|request| request == Request::Retry && !request.is_handled(record));
    match closed {
        Some(Closed::Conflict) => {
            return say(Reason::Conflict, "another CXIDriver is in the way, see the condition Conflict");
        }
        Some(Closed::Orphaning) => {
            return say(Reason::Orphaning, "the CXIDriver is being deleted, and its driver stays loaded");
        }
        None => {}
    }
    if let Some(obstacle) = obstacle {
        return say(obstacle.kind.reason(), &obstacle.message);
    }
    if request == Some(Request::Skip) {
        return say(Reason::Skip, "the node is labelled cxi.hpe.com/upgrade=skip");
    }
    if let Some(unknown) = request.and_then(Request::fault) {
        return say(Reason::UnknownRequest, &unknown);
    }
    if !node.ready {
        return say(Reason::NotReady, "the node is not Ready");
    }
    if node.cordoned {
        return say(Reason::Cordoned, "the node is cordoned: uncordon it, or leave it to its owner");
    }
    let failure = record.failure.as_ref().filter(|failure| failure.rollout == rollout.id);
    if let Some(failure) = failure.filter(|failure| member.wanted.as_ref() == Some(&failure.revision) && !retry) {
        let why = record.last_error.as_ref().unwrap_or(&failure.message);
        let message = if record.phase == Phase::Quarantined {
            step::out_of_service(why)
        } else {
            format!(
                "revision {} failed here ({}); label the node {UPGRADE_LABEL}=retry to try again",
                failure.revision, failure.message
            )
        };
        return say(Reason::Failed, &message);
    }
    if let Some(halt) = rollout.halted.as_ref().filter(|_| !retry) {
        return say(Reason::Halted, &halt.message);
    }
    if let Some(until) =
        record.retry_after.filter(|until| *until > scope.now && !retry && request != Some(Request::Now))
    {
        let sooner = scope.wake.get().is_none_or(|wake| until < wake);
        if sooner {
            scope.wake.set(Some(until));
        }
        let cause = record.blocked_by.clone().filter(|blocker| !BEFORE_THE_PAUSE.contains(&blocker.reason));
        return Some(match cause {
            Some(blocker) => (blocker.reason, ("", blocker.name), again(&blocker.message, until)),
            None => {
                (Reason::BackOff, ("", String::new()), format!("the operator tries the node again after {until:.0}"))
            }
        });
    }
    if driver.spec.paused {
        return say(Reason::Paused, "spec.paused is set");
    }
    if driver.spec.update_strategy.budget(1) == Some(0) {
        return say(Reason::Frozen, "updateStrategy.maxUnavailable is 0");
    }
    let replaces = record.revision.is_some() && member.wanted.is_some();
    let asked = request.is_some_and(Request::moves);
    if driver.spec.update_strategy.kind == UpdateType::OnDelete && replaces && !asked {
        return say(
            Reason::OnDelete,
            "updateStrategy.type is OnDelete: label the node cxi.hpe.com/upgrade=now to move it",
        );
    }
    if let Some(wanted) = &member.wanted
        && record.revision.as_ref() != Some(wanted)
        && let Some(verdict) = image(scope, node, record, wanted, preflight)
    {
        return Some(verdict);
    }
    let Some(report) = node.report() else {
        return say(
            Reason::AgentSilent,
            "the node agent has not reported in this boot, and without a report the operator proves nothing: look at its pod",
        );
    };
    let holders = &member.holders;
    if let Some(holder) = lasting_holder(node, report, holders) {
        let message = format!("{holder}: end it, then the operator can move the node");
        return Some((Reason::HostHolder, ("Process", String::new()), message));
    }
    disruption::in_the_way(&driver.spec.update_strategy.drain, holders, allowance, scope.now)
}

/// What kept the node the last time, and when it is tried again.
fn again(message: &str, until: Timestamp) -> String {
    const WHEN: &str = "; the operator tries the node again after ";
    let (message, _) = message.split_once(WHEN).unwrap_or((message, ""));
    format!("{message}{WHEN}{until:.0}, or at once with the label {UPGRADE_LABEL}=now")
}

/// A driver of another installation is on the node: KMM loads it, whatever else is there.
fn foreign_driver(scope: &Scope<'_>, node: &Node) -> Option<Verdict> {
    let label = installation::foreign_label(node, &scope.world.namespace)?;
    let message = format!(
        "an operator in another namespace has loaded a driver here (label {label}); take that installation down in order, or, if \
         it is gone, remove the label and reboot the node"
    );
    Some((Reason::AnotherInstallation, ("", String::new()), message))
}

/// What is wrong with the images of the revision that the driver moves to, over the kernels of all its nodes.
fn preflight(scope: &Scope<'_>, members: &[Member<'_>]) -> Option<Verdict> {
    if !scope.driver.spec.preflight.required {
        return None;
    }
    let target = &scope.target;
    members
        .iter()
        .filter(|member| member.wanted.as_ref() == Some(target))
        .find_map(|member| image_of(scope, member.node, target))
}

/// What is wrong with the image that a node needs. A node that is asked back needs only its own.
fn image(
    scope: &Scope<'_>,
    node: &Node,
    record: &NodeRollout,
    wanted: &RevisionId,
    preflight: Option<&Verdict>,
) -> Option<Verdict> {
    if scope.world.was_of_host(record, wanted) {
        return None;
    }
    let preflight = preflight.filter(|_| *wanted == scope.target);
    preflight.cloned().or_else(|| image_of(scope, node, wanted))
}

/// What is wrong with a revision's image for a node's kernel.
pub fn image_of(scope: &Scope<'_>, node: &Node, wanted: &RevisionId) -> Option<Verdict> {
    if scope.is_preinstalled() && *wanted == scope.target {
        return None;
    }
    let because = |reason, message: String| Some((reason, ("Module", format!("cxi-{wanted}")), message));
    let say = |message| because(Reason::ImageMissing, message);
    // The same words while the Module is made, while KMM looks for an image and while it pulls it: a record is not rewritten for that.
    let waits = || format!("KMM has not verified an image of revision {wanted} for kernel {} yet", node.kernel);
    let refused = scope.driver.module_refused.as_ref().filter(|_| *wanted == scope.target);
    let Some(revision) = scope.revision(wanted) else {
        if let Some(other) = scope.world.taken_by(&scope.driver.name, wanted) {
            return say(format!(
                "Module cxi-{wanted} belongs to CXIDriver {other}: names of revisions are short, and these two meet. Change \
                 anything in spec.source, such as a parameter of a module, for another name"
            ));
        }
        return match refused {
            Some(why) => say(format!("the API server refuses Module cxi-{wanted}: {why}")),
            None => because(Reason::ImageUnverified, waits()),
        };
    };
    // An image that is there is needed no more.
    let exists = |image: &Image| image.state == ImageState::Exists;
    let image = revision.images.get(&node.kernel);
    if let Some(why) = refused.filter(|_| !revision.containerfile && !image.is_some_and(exists)) {
        return say(format!("no image of revision {wanted} can be built: {why}"));
    }
    let Some(image) = image else {
        return because(Reason::ImageUnverified, waits());
    };
    let unscheduled = matches!(image.problem, Some(PodProblem::Unscheduled(_)));
    let doing = |reason, doing: &str| {
        let (reference, kernel) = (&image.reference, &node.kernel);
        because(
            reason,
            if unscheduled {
                format!(
                    "KMM's pod for {doing} image {reference} (kernel {kernel}) finds no node, see the condition PreflightPassed"
                )
            } else {
                format!("KMM is {doing} image {reference} (kernel {kernel}); the operator touches no node before")
            },
        )
    };
    match image.state {
        ImageState::Exists => None,
        ImageState::Building => doing(Reason::ImageMissing, "building"),
        ImageState::Signing => doing(Reason::ImageMissing, "signing"),
        ImageState::Unknown if unscheduled => doing(Reason::ImageUnverified, "pulling"),
        ImageState::Missing if scope.driver.spec.source.builds_for(&node.kernel) => say(format!(
            "the build of image {} (kernel {}) failed: KMM keeps the failed build, whose output ends with the reason; remove \
             the cause, then delete the build for KMM to start another",
            image.reference, node.kernel
        )),
        ImageState::Missing if scope.driver.spec.source.builds() => say(format!(
            "image {} does not exist and KMM does not build it, because it is not known for sure whose kernel {} is: name the image \
             to build in in source.builderImage, or build and push it",
            image.reference, node.kernel
        )),
        ImageState::Missing => {
            say(format!("image {} (kernel {}) does not exist: build and push it", image.reference, node.kernel))
        }
        ImageState::Unknown => {
            let problem = image.problem.as_ref();
            match problem {
                Some(PodProblem::Pull(problem)) => say(format!(
                    "image {} (kernel {}) cannot be pulled: {problem}; push it, or correct spec.version or spec.source",
                    image.reference, node.kernel
                )),
                _ => because(Reason::ImageUnverified, waits()),
            }
        }
    }
}

/// Budgets less what nodes in flight still need.
fn reserve<'a>(scope: &Scope<'a>, in_flight: &HashSet<&str>, members: &[Member<'_>]) -> Allowance<'a> {
    let mut allowance = Allowance::new(&scope.world.budgets);
    for member in members.iter().filter(|member| in_flight.contains(member.node.name.as_str())) {
        allowance.take(&member.holders);
    }
    allowance
}

/// Whether an administrator took a node out of the rollout: whatever becomes of it does not hold up the others.
pub fn is_skipped(member: &Member<'_>) -> bool {
    member.seen.request == Some(Request::Skip)
}

/// Whether a node counts as unavailable: in flight, or not in service for whatever reason and not left out.
fn counts(scope: &Scope<'_>, in_flight: &HashSet<&str>, member: &Member<'_>) -> bool {
    let in_flight = in_flight.contains(member.node.name.as_str());
    in_flight
        || !is_skipped(member) && !member.node.rollout().is_some_and(|record| is_in_service(scope, member, record))
}

/// What is lost for a while when a node is taken out of service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stake {
    /// A place for jobs. `counted`: it counts as unavailable at this moment, because its device plugin is away, as while a
    /// newer operator replaces it. It would be back by itself.
    Service { counted: bool },
    /// No place for jobs, but those that hold a NIC go on.
    Jobs,
    /// It has no driver yet, or is broken and empty.
    Nothing,
}

fn stake(scope: &Scope<'_>, member: &Member<'_>, record: &NodeRollout) -> Stake {
    let node = member.node;
    if is_in_service(scope, member, record) {
        return Stake::Service { counted: false };
    }
    let link_is_up = || node.report().is_some_and(|report| report.devices.iter().any(Nic::is_linked));
    // A gate that is not open yet, or closed a moment ago: what the kubelet still offers may be given to a job.
    let still_offered =
        || record.revision.is_some() && node.ready && !node.cordoned && node.offered_of(scope.driver) > 0;
    if rests_open(scope, member, record) && link_is_up() || still_offered() {
        return Stake::Service { counted: true };
    }
    if record.revision.is_some() && !member.holders.is_empty() { Stake::Jobs } else { Stake::Nothing }
}

/// Whether jobs can use a node's NICs: verified in this boot, Ready, not cordoned, and offered.
pub fn is_in_service(scope: &Scope<'_>, member: &Member<'_>, record: &NodeRollout) -> bool {
    let node = member.node;
    let plugin = &scope.driver.spec.device_plugin;
    let offered = node.allocatable.get(&plugin.resource_name).is_some_and(|count| *count > 0);
    rests_open(scope, member, record) && (!plugin.enabled || offered)
}

/// Whether nothing of ours keeps jobs from a node: verified in this boot, Ready, not cordoned, and with its device plugin.
fn rests_open(scope: &Scope<'_>, member: &Member<'_>, record: &NodeRollout) -> bool {
    let node = member.node;
    let Some(revision) = &record.revision else { return false };
    let gate = member.seen.plugin == Some(revision.as_str());
    let rests = matches!(record.phase, Phase::UpToDate | Phase::Pending | Phase::Admitted);
    rests
        && node.is_in_boot_of(record)
        && node.ready
        && !node.cordoned
        && (!scope.driver.spec.device_plugin.enabled || gate)
}
