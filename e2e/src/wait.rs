//! Waiting for something to become true, with a message that says what did not.

use std::{
    future::Future,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Shortest time between two looks.
const POLL: Duration = Duration::from_millis(50);

/// So many looks fit into a time limit: who has much time need not look so often.
const LOOKS: u32 = 2_000;

/// Polls `attempt` until it returns something and returns that.
///
/// # Errors
/// If `attempt` fails, or returned nothing within `limit`; `context` is asked then what it looks like instead.
pub async fn wait_for<T, A, C>(
    what: &str,
    limit: Duration,
    mut attempt: impl FnMut() -> A,
    context: impl FnOnce() -> C,
) -> Result<T>
where
    A: Future<Output = Result<Option<T>>>,
    C: Future<Output = String>,
{
    let since = Instant::now();
    loop {
        if let Some(found) = attempt().await? {
            return Ok(found);
        }
        if since.elapsed() >= limit {
            bail!("within {} s it did not happen that {what}\n{}", limit.as_secs(), context().await);
        }
        tokio::time::sleep(POLL.max(limit / LOOKS)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn says_what_did_not_happen_and_what_it_looks_like() {
        let never = || async { Ok(None::<()>) };
        let error = wait_for("pigs fly", Duration::ZERO, never, || async { "they walk".into() }).await;
        let text = error.unwrap_err().to_string();
        assert!(text.contains("pigs fly") && text.contains("they walk"), "{text}");
    }
}
