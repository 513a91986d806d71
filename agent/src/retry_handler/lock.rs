//! Only one supervisor at a time on a node.

use std::{
    fs::{self, File},
    io,
    path::Path,
    time::Duration,
};

use rustix::fs::{FlockOperation, flock};
use tokio::time::sleep;
use tracing::{info, warn};

/// Time between two attempts.
const LOCK_RETRY_PERIOD: Duration = Duration::from_secs(1);

/// The right to supervise; given back when dropped, and by the kernel when the process ends in whatever way.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Takes the lock of `directory`, which is made, and waits for the process that has it.
///
/// # Errors
/// When there can be no such lock.
pub(super) async fn take(directory: &Path) -> io::Result<Lock> {
    fs::create_dir_all(directory)?;
    let file = File::options().create(true).append(true).open(directory.join("lock"))?;
    let mut waiting = false;
    loop {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => break,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !waiting {
                    warn!("another supervisor runs on this node: waiting until it has ended");
                }
                waiting = true;
                sleep(LOCK_RETRY_PERIOD).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    if waiting {
        info!("the other supervisor has ended");
    }
    Ok(Lock { _file: file })
}
