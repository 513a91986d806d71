//! Times in a record that no clock of today can have written. The clock of an earlier leader was ahead, and what it wrote would keep
//! every timer of the node from running until that time comes.

use std::time::Duration;

use cxi_api::{NodeRollout, Timestamp};

use crate::settings::Settings;

/// How far ahead of the operator's clock a stored time may be. Clocks of a cluster's nodes agree better than this.
const AHEAD: Duration = Duration::from_mins(1);

/// The time at which a step begins that follows one that began at `earlier`. It differs from `earlier` even if the clock stands
/// still or goes back a little.
pub fn after(earlier: Timestamp, now: Timestamp) -> Timestamp {
    if is_ahead(earlier, now) {
        return now;
    }
    earlier.checked_add(Duration::from_micros(1)).map_or(now, |floor| now.max(floor))
}

/// Whether a time is in the future, by more than clocks may differ.
fn is_ahead(time: Timestamp, now: Timestamp) -> bool {
    time.duration_since(now).is_positive() && time.duration_since(now).unsigned_abs() > AHEAD
}

/// A record whose times are in the future, with its phase begun anew now; nothing when its times can be right. What is known of the
/// node stays. Evidence for the step is looked for again, because the step has another name now.
pub fn put_right(stored: &NodeRollout, now: Timestamp, settings: &Settings) -> Option<NodeRollout> {
    let longest = settings.back_off_max.saturating_add(AHEAD);
    let mut right = stored.clone();
    if is_ahead(stored.since, now) || stored.evidence_since.is_some_and(|since| is_ahead(since, now)) {
        right.since = now;
        right.evidence_since = None;
    }
    let closed_at = right.transaction.as_mut().and_then(|transaction| transaction.closed_at.as_mut());
    let said = right.blocked_by.as_mut().map(|blocker| &mut blocker.since);
    let waited = right.wait.as_mut().map(|wait| &mut wait.since);
    for time in [closed_at, said, waited].into_iter().flatten().filter(|time| is_ahead(**time, now)) {
        *time = now;
    }
    let too_late = |until: &Timestamp| Duration::try_from(until.duration_since(now)).is_ok_and(|left| left > longest);
    if let Some(pause) = right.pause.as_mut().filter(|pause| too_late(&pause.until)) {
        pause.until = now.checked_add(settings.back_off_after(stored)).unwrap_or(now);
    }
    (right != *stored).then_some(right)
}
