//! Times in a record that no clock of today can have written. The clock of an earlier leader was ahead, and what it wrote would keep
//! every timer of the node from running until that time comes.

use std::time::Duration;

use cxi_api::{NodeRollout, Timestamp};

use crate::{settings::Settings, transaction::draft::Draft};

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
pub fn put_right(stored: &NodeRollout, now: Timestamp, settings: &Settings) -> Option<Box<NodeRollout>> {
    let longest = settings.back_off_max.saturating_add(AHEAD);
    let ahead = |time: Option<Timestamp>| time.is_some_and(|time| is_ahead(time, now));
    let closed_at = stored.transaction.as_ref().and_then(|transaction| transaction.closed_at);
    let said = stored.blocked_by.as_ref().map(|blocker| blocker.since);
    let waited = stored.wait.as_ref().map(|wait| wait.since);
    let paused = stored.pause.as_ref().map(|pause| pause.until);

    let mut right = Draft::of(stored);
    if ahead(Some(stored.since)) || ahead(stored.evidence_since) {
        right.since = now;
        right.evidence_since = None;
    }
    if ahead(closed_at)
        && let Some(transaction) = &mut right.transaction
    {
        transaction.closed_at = Some(now);
    }
    if ahead(said)
        && let Some(blocker) = &mut right.blocked_by
    {
        blocker.since = now;
    }
    if ahead(waited)
        && let Some(wait) = &mut right.wait
    {
        wait.since = now;
    }
    let too_late = |until: Timestamp| Duration::try_from(until.duration_since(now)).is_ok_and(|left| left > longest);
    if paused.is_some_and(too_late)
        && let Some(pause) = &mut right.pause
    {
        pause.until = now.checked_add(settings.back_off_after(stored)).unwrap_or(now);
    }
    right.changed()
}
