//! Times between two looks, as flags.

use std::time::Duration;

use cxi_api::GoDuration;

/// Below this a node would do little else.
const SHORTEST: Duration = Duration::from_millis(100);

/// A duration of the form `1s` or `1500ms`.
///
/// # Errors
/// When it is none, or too short.
pub fn at_least_a_moment(text: &str) -> Result<Duration, String> {
    let GoDuration(duration) = text.parse().map_err(|error| format!("{error}"))?;
    if duration < SHORTEST { Err(format!("must be at least {}", GoDuration(SHORTEST))) } else { Ok(duration) }
}
