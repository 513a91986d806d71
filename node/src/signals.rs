//! The signals that tell a program to stop.

use std::{io, process};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Exit status of a program that a second signal ended, as shells give it for SIGINT.
const INTERRUPTED: i32 = 130;

/// Cancelled by the first SIGTERM or SIGINT; the second ends the process at once.
///
/// # Errors
/// If the process cannot listen to signals. Must be called in a tokio runtime.
pub fn stop_signal() -> io::Result<CancellationToken> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    let token = stop.clone();
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if token.is_cancelled() {
                warn!("second signal: ending at once");
                process::exit(INTERRUPTED);
            }
            info!("signal received: ending");
            token.cancel();
        }
    });
    Ok(stop)
}
