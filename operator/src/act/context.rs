//! What an action is about, for the log.

use cxi_rollout::Action;

use crate::observe::Snapshot;

/// What an action is about, for the log.
#[derive(Clone, Debug, Default)]
pub struct Context {
    /// What is done.
    pub step: String,
    /// Node.
    pub node: Option<String>,
    /// CXIDriver.
    pub driver: Option<String>,
    /// Phase of the node when it was planned; for a phase change also the new one.
    pub phase: Option<String>,
    /// The rollout.
    pub rollout: Option<String>,
    /// Whether it is of no interest when it succeeds.
    pub quiet: bool,
}

impl Context {
    /// The context of an action.
    pub fn of(action: &Action, seen: &Snapshot) -> Self {
        let node = action.node().map(str::to_owned);
        let place = node.as_deref().and_then(|node| seen.record(node)?.readable()?.place());
        let driver = action.driver().map(str::to_owned).or_else(|| place.map(|place| place.driver.clone()));
        let phase = match action {
            Action::WriteRollout { now, .. } => Some(now.phase.to_string()),
            _ => place.map(|place| place.phase.to_string()),
        };
        let rollout = driver
            .as_deref()
            .and_then(|driver| seen.driver(driver)?.readable()?.status.rollout.as_ref())
            .map(|rollout| rollout.id.clone());
        Self { step: action.to_string(), node, driver, phase, rollout, quiet: action.is_routine() }
    }
}
