//! Looks again and again for what a container with a NIC gets besides the NIC.

use std::{sync::Arc, time::Duration};

use cxi_injection::{
    libraries::Release,
    provision::{Note, Provision, Sources},
};
use tokio::{
    sync::watch,
    task::{JoinError, spawn_blocking},
    time::sleep,
};
use tracing::{info, warn};

/// Time between two looks for libraries. They change when an administrator updates the host.
pub const LOOK_PERIOD: Duration = Duration::from_secs(30);

/// Looks for the first time.
///
/// # Errors
/// When the look panics.
pub async fn first(sources: &Sources) -> Result<(Arc<Provision>, Vec<Note>), JoinError> {
    let sources = sources.clone();
    let (provision, notes) = spawn_blocking(move || sources.find()).await?;
    report(&Provision::default(), &[], &provision, &notes);
    Ok((Arc::new(provision), notes))
}

/// Looks every [`LOOK_PERIOD`], and when `release` says another release of the driver, and publishes what changed,
/// until the receivers are dropped.
///
/// # Errors
/// When a look panics.
pub async fn run(
    mut sources: Sources,
    mut told: Vec<Note>,
    mut release: watch::Receiver<Option<Release>>,
    provision: watch::Sender<Arc<Provision>>,
) -> Result<(), JoinError> {
    loop {
        tokio::select! {
            () = sleep(LOOK_PERIOD) => {}
            loaded = another(&mut release) => sources.release = loaded,
            () = provision.closed() => return Ok(()),
        }
        let looking = sources.clone();
        let (next, notes) = spawn_blocking(move || looking.find()).await?;
        report(&provision.borrow(), &told, &next, &notes);
        told = notes;
        provision.send_if_modified(|current| {
            let changed = **current != next;
            if changed {
                *current = Arc::new(next);
            }
            changed
        });
    }
}

/// Waits for another release; for ever when the sender is gone, as without an API server.
async fn another(release: &mut watch::Receiver<Option<Release>>) -> Option<Release> {
    if release.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    release.borrow_and_update().clone()
}

fn report(before: &Provision, told: &[Note], after: &Provision, notes: &[Note]) {
    for bind in after.binds.iter().filter(|bind| !before.binds.contains(bind)) {
        info!(host = bind.host, container = bind.container, "containers with a NIC get");
    }
    for note in notes.iter().filter(|note| !told.contains(note)) {
        match note {
            Note::Info(text) => info!("{text}"),
            Note::Warning(text) => warn!("{text}"),
        }
    }
}
