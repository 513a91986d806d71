//! The life of one pod on a soft node: what a kubelet makes of it, as a state machine over time.

use std::time::Duration;

use cxi_api::Timestamp;
use serde_json::Value;

use crate::driver_model::{Registry, Resolved, manifest};

use super::{
    machine::Machine,
    plan::{PodPlan, Restart, Verdict, Work},
    shape::Pace,
};

/// Exit status of a process that was killed.
const KILLED: i32 = 137;

/// How much the back-off grows at most: short, so that a cause that is gone shows soon.
const BACK_OFF_MAX_FACTOR: u32 = 4;

/// A time on both clocks: since the start of the simulation, and of the wall.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    pub(crate) since_start: Duration,
    pub(crate) wall: Timestamp,
}

/// Everything beside the pod itself that decides what happens to it.
pub(crate) struct Host<'a> {
    pub(crate) machine: &'a mut Machine,
    pub(crate) registry: &'a Registry,
    pub(crate) pace: &'a Pace,
    pub(crate) now: Moment,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stage {
    /// Images are being pulled.
    Pulling { until: Duration },
    /// An image is not to be had; the container by its name.
    ImageMissing { container: String, tries: u32, retry_at: Duration },
    /// Containers are being started.
    Starting { until: Duration },
    /// The process runs; at `done` its work is done.
    Running { done: Option<Duration> },
    /// The process ended and is started again later.
    BackOff { retry_at: Duration },
    /// The process was told to end.
    Stopping { until: Duration },
    /// No process will run again.
    Ended(Ended),
}

/// How a pod ended.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ended {
    pub(crate) succeeded: bool,
    pub(crate) exit_code: i32,
    /// Reason of the pod, for pods that the kubelet refused.
    pub(crate) reason: Option<&'static str>,
    /// Termination message.
    pub(crate) message: String,
    pub(crate) at: Timestamp,
}

/// A pod on its node.
#[derive(Clone, Debug)]
pub(crate) struct PodRuntime {
    pub(crate) stage: Stage,
    pub(crate) restarts: u32,
    /// Message of the last run that failed.
    pub(crate) last_failure: Option<String>,
    pub(crate) accepted_at: Timestamp,
    pub(crate) started_at: Option<Timestamp>,
    /// The status that the API server has from us.
    pub(crate) published: Option<Value>,
    /// Whether the final delete was sent.
    pub(crate) buried: bool,
}

impl PodRuntime {
    /// A pod that the kubelet accepted.
    pub(crate) fn accepted(now: Moment, pull: Duration) -> Self {
        Self::at(Stage::Pulling { until: now.since_start + pull }, now)
    }

    /// A pod that the kubelet refused.
    pub(crate) fn refused(now: Moment, message: String) -> Self {
        Self::at(Stage::Ended(Ended::refused(now, message)), now)
    }

    /// A pod that had ended before this kubelet saw it.
    pub(crate) fn over(now: Moment) -> Self {
        Self::at(Stage::Ended(Ended::with(now, true, 0, String::new())), now)
    }

    fn at(stage: Stage, now: Moment) -> Self {
        Self {
            stage,
            restarts: 0,
            last_failure: None,
            accepted_at: now.wall,
            started_at: None,
            published: None,
            buried: false,
        }
    }

    /// Whether a process of the pod runs.
    pub(crate) fn is_running(&self) -> bool {
        matches!(self.stage, Stage::Running { .. } | Stage::Stopping { .. })
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended(_))
    }

    /// Lets the pod get on to `host.now`; returns when something happens next.
    pub(crate) fn advance(&mut self, pod: &PodPlan, host: &mut Host<'_>) -> Option<Duration> {
        let now = host.now.since_start;
        loop {
            if pod.deleted {
                self.terminate(pod, host);
            }
            let due = self.due()?;
            if due > now {
                return Some(due);
            }
            match self.stage.clone() {
                Stage::Pulling { .. } => self.pull(pod, host, 0),
                Stage::ImageMissing { tries, .. } => self.pull(pod, host, tries),
                Stage::Starting { .. } | Stage::BackOff { .. } => self.start(pod, host),
                Stage::Running { .. } => self.finish(pod, host),
                Stage::Stopping { .. } => self.end(pod, host, pod_stopped(pod, host.now)),
                Stage::Ended(_) => return None,
            }
        }
    }

    /// The machine booted: processes are gone. Pods that hold devices are refused by a kubelet that offers none yet.
    pub(crate) fn reboot(&mut self, pod: &PodPlan, host: &mut Host<'_>) {
        if self.has_ended() {
            return;
        }
        self.published = None;
        let was_running = self.is_running();
        if host.machine.allocations.contains_key(&pod.uid) {
            let message = "Allocate failed due to no healthy devices present; cannot allocate unhealthy devices";
            self.end(pod, host, Ended::refused(host.now, message.into()));
        } else if pod.restart == Restart::Never && was_running {
            self.end(pod, host, Ended::with(host.now, false, KILLED, "the node was restarted".into()));
        } else {
            if was_running {
                self.restarts += 1;
            }
            self.stage = Stage::Starting { until: host.now.since_start + host.pace.start };
        }
    }

    /// The process dies and is started again at `retry_at`.
    pub(crate) fn crash(&mut self, pod: &PodPlan, host: &mut Host<'_>, retry_at: Duration) {
        if self.is_running() {
            self.restarts += 1;
            self.last_failure = Some("crashed".into());
            host.machine.close_devices(&pod.uid);
            self.stage = Stage::BackOff { retry_at };
        }
    }

    /// A kubelet that starts refuses a pod whose process does not run and whose devices are not offered.
    pub(crate) fn refuse(&mut self, pod: &PodPlan, host: &mut Host<'_>, message: String) {
        self.end(pod, host, Ended::refused(host.now, message));
    }

    fn due(&self) -> Option<Duration> {
        match &self.stage {
            Stage::Pulling { until } | Stage::Starting { until } | Stage::Stopping { until } => Some(*until),
            Stage::ImageMissing { retry_at, .. } | Stage::BackOff { retry_at } => Some(*retry_at),
            Stage::Running { done } => *done,
            Stage::Ended(_) => None,
        }
    }

    fn pull(&mut self, pod: &PodPlan, host: &mut Host<'_>, tries: u32) {
        let slowness = host.machine.faults.slowness;
        let missing =
            pod.init.iter().chain(&pod.containers).find(|container| !host.machine.pull(pod, container, host.registry));
        self.stage = match missing {
            None => Stage::Starting { until: host.now.since_start + host.pace.start * slowness },
            Some(container) => Stage::ImageMissing {
                container: container.name.clone(),
                tries: tries + 1,
                retry_at: host.now.since_start + back_off(host.pace, tries),
            },
        };
    }

    fn start(&mut self, pod: &PodPlan, host: &mut Host<'_>) {
        let takes = match &pod.work {
            Work::Forever | Work::Plugin(_) | Work::RetryHandler | Work::Validate(Verdict::Hangs) => None,
            Work::For(time) => Some(*time),
            Work::Load(_) | Work::HostDriver | Work::Validate(_) => Some(host.pace.load * host.machine.faults.slowness),
            Work::Unload(_) | Work::Cleanup { .. } => Some(host.pace.unload * host.machine.faults.slowness),
            Work::Pull | Work::Prefetch { .. } | Work::Broken(_) => Some(Duration::ZERO),
        };
        self.started_at = Some(host.now.wall);
        host.machine.open_devices(pod);
        self.stage = Stage::Running { done: takes.map(|time| host.now.since_start + time) };
    }

    /// The process has done its work, for better or worse.
    fn finish(&mut self, pod: &PodPlan, host: &mut Host<'_>) {
        let result = match &pod.work {
            Work::Load(plan) => {
                host.machine.load(plan, host.registry, host.now.since_start, host.pace).map(|()| String::new())
            }
            Work::HostDriver => {
                let links_up_at = host.now.since_start + host.pace.link_up * host.machine.faults.slowness;
                host.machine.load_host_driver(links_up_at).map(|()| String::new())
            }
            Work::Unload(plan) => host.machine.unload(plan).map(|()| String::new()),
            Work::Cleanup { modules } => host.machine.clean_up(modules).map(|()| String::new()),
            Work::Prefetch { image } => Ok(manifest_text(image, host)),
            Work::Validate(Verdict::Fails) => Err("no answer from NID 0x11".to_owned()),
            Work::Validate(_) => Ok("64 KiB: 23 GB/s".to_owned()),
            Work::Broken(message) => Err(message.clone()),
            Work::Forever | Work::For(_) | Work::Plugin(_) | Work::RetryHandler | Work::Pull => Ok(String::new()),
        };
        match (result, pod.restart) {
            (Ok(_), Restart::Always) => self.start(pod, host),
            (Ok(message), _) => self.end(pod, host, Ended::with(host.now, true, 0, message)),
            (Err(message), Restart::Never) => {
                self.end(pod, host, Ended::with(host.now, false, 1, message));
            }
            (Err(message), _) => {
                let retry_at = host.now.since_start + back_off(host.pace, self.restarts);
                self.restarts += 1;
                self.last_failure = Some(message);
                self.stage = Stage::BackOff { retry_at };
            }
        }
    }

    fn terminate(&mut self, pod: &PodPlan, host: &mut Host<'_>) {
        match self.stage {
            Stage::Ended(_) | Stage::Stopping { .. } => {}
            Stage::Running { .. } => {
                let obeys = host.pace.stop * host.machine.faults.slowness;
                let takes = if pod.ignores_sigterm { pod.grace } else { obeys.min(pod.grace) };
                self.stage = Stage::Stopping { until: host.now.since_start + takes };
            }
            _ => {
                let message = "deleted before it ran".to_owned();
                self.end(pod, host, Ended::with(host.now, false, KILLED, message));
            }
        }
    }

    fn end(&mut self, pod: &PodPlan, host: &mut Host<'_>, ended: Ended) {
        host.machine.close_devices(&pod.uid);
        host.machine.allocations.remove(&pod.uid);
        self.stage = Stage::Ended(ended);
    }
}

impl Ended {
    fn with(now: Moment, succeeded: bool, exit_code: i32, message: String) -> Self {
        Self { succeeded, exit_code, reason: None, message, at: now.wall }
    }

    fn refused(now: Moment, message: String) -> Self {
        // Kubelet's word, see pkg/kubelet/lifecycle.
        Self { reason: Some("UnexpectedAdmissionError"), ..Self::with(now, false, KILLED, message) }
    }
}

/// How a process that was told to end does so. A worker of KMM must not look as if it had done its work.
fn pod_stopped(pod: &PodPlan, now: Moment) -> Ended {
    match pod.work {
        Work::Plugin(_) | Work::RetryHandler => Ended::with(now, true, 0, String::new()),
        _ if pod.ignores_sigterm => Ended::with(now, false, KILLED, String::new()),
        // 128 + SIGTERM.
        _ => Ended::with(now, false, 143, String::new()),
    }
}

fn back_off(pace: &Pace, tries: u32) -> Duration {
    pace.back_off * 2_u32.saturating_pow(tries).min(BACK_OFF_MAX_FACTOR)
}

/// What a driver image says of itself: nothing if somebody else made it.
fn manifest_text(image: &str, host: &Host<'_>) -> String {
    match host.registry.inspect(image) {
        Some(Resolved::Driver { build, foreign: false }) => {
            let running = &host.machine.kernel;
            let kernel = if crate::driver_model::kernel_tag(running) == build.kernel { running } else { &build.kernel };
            serde_json::to_string(&manifest(&build, kernel)).unwrap_or_default()
        }
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests;
