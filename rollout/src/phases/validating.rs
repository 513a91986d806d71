//! Validating: the driver is verified, and the site's validation pod says whether the node is fit for jobs. The node still offers nothing.

use std::time::Duration;

use cxi_api::{
    NodeReport, NodeRollout, Reason, RevisionId, Why, names::Role, preflight::ValidationResult, transaction::WaitFor,
};

use super::verifying;
use crate::{
    action::{Action, Facts},
    blocked::Blocked,
    intent::Test,
    text,
    transaction::{context::Ctx, decision::Decision},
    world::{OwnPod, PodState},
};

/// How long the retry handler may take to be ready before the test starts without it.
const RETRY_HANDLER: Duration = Duration::from_mins(1);

/// Longest output that is kept, in bytes.
const OUTPUT: usize = 1024;

/// What has to succeed on this node before it is offered, if anything has to.
pub fn wanted<'a>(ctx: &Ctx<'a>, record: &NodeRollout) -> Option<&'a Test> {
    match record.why()? {
        // The driver from before needs no test when it comes back.
        Why::Preflight if !is_under_way(record) => None,
        Why::Preflight => {
            // Also when the CXIDriver asks for the release by now, so that the node is not on trial any more.
            let uid = &record.trial.as_ref()?.preflight;
            let question = ctx.world.questions().find(|question| question.preflight.uid == *uid)?;
            question.readable()?.strategy.test_of_canaries.as_ref()
        }
        Why::Wanted => ctx.strategy().test_of_nodes.as_ref(),
        Why::Rollback | Why::Repair => None,
    }
}

/// Whether a node whose driver was verified goes through this phase.
pub fn is_due(ctx: &Ctx<'_>, record: &NodeRollout) -> bool {
    let replaces = record.transaction.as_ref().is_some_and(|transaction| transaction.work.driver);
    replaces && (record.why() == Some(Why::Preflight) && is_under_way(record) || wanted(ctx, record).is_some())
}

/// Whether the record has a trial that has neither passed nor failed.
fn is_under_way(record: &NodeRollout) -> bool {
    record.trial.as_ref().is_some_and(|trial| !trial.is_over())
}

/// Decides about a node that is being tested.
pub fn decide(ctx: &Ctx<'_>, record: &mut NodeRollout) -> Decision {
    if !ctx.node.is_in_boot_of(record) {
        return verifying::anew(record);
    }
    let goal = record.goal().cloned().filter(|goal| record.transaction.is_some() && ctx.is_labelled(goal));
    let report = ctx.node.report().filter(|report| report.missing_modules().is_empty());
    let (Some(goal), Some(report)) = (goal, report) else {
        // Another client changed a version label or took the driver out, or the record was edited.
        return verifying::anew(record);
    };
    if ctx.is_overtaken(record) {
        return Decision::TurnRound;
    }
    let trial = record.why() == Some(Why::Preflight) && is_under_way(record);
    if trial
        && let Some(trial) = &mut record.trial
        && trial.verified_at.is_none()
    {
        let linked = report.devices.iter().filter(|nic| nic.is_linked()).count();
        trial.verified_at = Some(ctx.now);
        trial.build_ids = report.build_ids();
        trial.nics = i32::try_from(report.devices.len()).ok();
        trial.links = i32::try_from(linked).ok();
        return Decision::stay();
    }
    let Some(test) = wanted(ctx, record) else { return passed(ctx, record, goal, None) };
    match run(ctx, record, &goal, report, test) {
        Answer::Passed(result) => passed(ctx, record, goal, Some(result)),
        Answer::Failed(result, message) => {
            if let Some(trial) = record.trial.as_mut().filter(|_| trial) {
                trial.validation = Some(result);
            }
            Decision::Fail(message)
        }
        Answer::UnderWay(decision) => decision,
    }
}

/// The node has passed: a trial is over, and the next step goes back or into service by what is wanted then.
fn passed(ctx: &Ctx<'_>, record: &mut NodeRollout, goal: RevisionId, result: Option<ValidationResult>) -> Decision {
    if record.why() == Some(Why::Preflight)
        && let Some(trial) = record.trial.as_mut().filter(|trial| !trial.is_over())
    {
        trial.validation = result;
        trial.ended_at = Some(ctx.now);
        return Decision::stay();
    }
    verifying::proved(ctx, record, goal)
}

/// What came of the test.
enum Answer {
    Passed(ValidationResult),
    Failed(ValidationResult, String),
    UnderWay(Decision),
}

fn run(ctx: &Ctx<'_>, record: &NodeRollout, goal: &RevisionId, report: &NodeReport, test: &Test) -> Answer {
    let late = ctx.due_on_node(record.since, test.pod.timeout.0.saturating_add(RETRY_HANDLER));
    let nothing = ValidationResult::default();
    let limit = test.pod.timeout;
    let Some(pod) = ctx.pod(Role::Validation) else {
        let devices: Vec<&str> =
            report.devices.iter().filter(|nic| nic.is_linked()).map(|nic| nic.name.as_str()).collect();
        let before = record.snapshot().filter(|before| !before.devices.is_empty());
        let before = before.map_or(report.devices.len(), |snapshot| snapshot.links_up.len());
        let needed = test.nics.unwrap_or(before).max(1);
        if devices.len() < needed {
            let there = devices.len();
            let message = format!("the validation needs {needed} NICs with a link, and the node has {there}");
            return if late { Answer::Failed(nothing, message) } else { wait(Reason::LinkDown, message) };
        }
        if late {
            return Answer::Failed(nothing, format!("the validation pod was not run within {limit}"));
        }
        if !retry_handler_is_ready(ctx) && !ctx.due(record.since, RETRY_HANDLER) {
            return wait(Reason::Validating, "the node waits for its retry handler before the validation pod starts");
        }
        let version = ctx.revision(goal).map(|known| known.version.clone()).unwrap_or_default();
        let devices = devices.into_iter().take(needed).map(str::to_owned).collect();
        return Answer::UnderWay(Decision::act([Action::StartValidation {
            node: ctx.node.name.clone(),
            uid: ctx.node.uid.clone(),
            driver: ctx.driver.name.clone(),
            revision: goal.clone(),
            attempt: record.attempt,
            facts: Facts { version, devices },
            validation: test.pod.clone(),
            spec: ctx.describing(goal),
        }]));
    };
    answer(ctx, record, pod, late, &format!("{limit}"))
}

/// What the pod says.
fn answer(ctx: &Ctx<'_>, record: &NodeRollout, pod: &OwnPod, late: bool, limit: &str) -> Answer {
    let seconds = || i64::try_from(ctx.elapsed(record.since).as_secs()).ok();
    let said = |code: Option<i32>, words: &str| ValidationResult {
        exit_code: code,
        output: last(words.trim()),
        seconds: seconds(),
    };
    match &pod.state {
        _ if pod.deleting && !late => Answer::UnderWay(Decision::stay()),
        _ if pod.deleting => Answer::Failed(said(None, ""), format!("the validation pod {} does not end", pod.name)),
        PodState::Succeeded { message } => Answer::Passed(said(Some(0), message)),
        PodState::Failed { code, message } => {
            let result = said(Some(*code), message);
            let output = if result.output.is_empty() { String::new() } else { format!(": {}", result.output) };
            Answer::Failed(result, format!("the validation pod failed with exit code {code}{output}"))
        }
        PodState::Running { .. } if late => {
            Answer::Failed(said(None, ""), format!("the validation pod did not end within {limit}"))
        }
        PodState::Running { .. } => wait(Reason::Validating, format!("the validation pod {} runs", pod.name)),
        PodState::Pending { image: Some(image) } => {
            let message = format!("the image of the validation pod cannot be pulled: {}", image.words());
            if late { Answer::Failed(said(None, ""), message) } else { wait(Reason::PodNotRun, message) }
        }
        PodState::Pending { image: None } if late => {
            Answer::Failed(said(None, ""), format!("the validation pod did not start within {limit}"))
        }
        PodState::Pending { image: None } => Answer::UnderWay(Decision::stay()),
        PodState::Unfinished { why } => {
            let message = format!("the kubelet did not run the validation pod: {why}");
            if late {
                return Answer::Failed(said(None, ""), message);
            }
            let delete = Action::DeleteOwnPod { name: pod.name.clone(), uid: pod.uid.clone() };
            let blocked =
                Blocked::new(Reason::PodNotRun, message).on("Pod", &pod.name).awaits(WaitFor::PodNotRun, &pod.uid);
            let over = record.wait.as_ref().filter(|wait| wait.object == pod.uid);
            let over = over.is_some_and(|wait| ctx.due(wait.since, super::SILENT));
            Answer::UnderWay(Decision::wait(blocked).with(over.then_some(delete)))
        }
    }
}

fn wait(reason: Reason, message: impl Into<String>) -> Answer {
    Answer::UnderWay(Decision::wait(Blocked::new(reason, message)))
}

/// Whether the node's retry handler runs, or none is wanted there.
fn retry_handler_is_ready(ctx: &Ctx<'_>) -> bool {
    let wanted = ctx.intent.retry_handler.on_nodes().is_some_and(|handler| handler.selects(&ctx.node.labels));
    !wanted || ctx.pod(Role::RetryHandler).is_some_and(|pod| matches!(pod.state, PodState::Running { ready: true }))
}

/// The last part of an output, cut between lines where it can be.
fn last(words: &str) -> String {
    let mut begin = words.len().saturating_sub(OUTPUT);
    while !words.is_char_boundary(begin) {
        begin += 1;
    }
    let tail = &words[begin..];
    let tail = if begin == 0 { tail } else { tail.split_once('\n').map_or(tail, |(_, rest)| rest) };
    text::bounded(tail, OUTPUT).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_long_output_is_kept() {
        let long = format!("{}\nlast line", "é".repeat(2000));
        assert_eq!(last(&long), "last line");
        assert_eq!(last("short"), "short");
    }
}
