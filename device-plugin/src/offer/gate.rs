//! Turns what the node is to advertise into the set of ids that may be offered.

use std::{collections::BTreeSet, time::Duration};

use cxi_api::Advertise;
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use crate::{kubelet_api::pod_resources::PodResourcesLister, offer::Gate};

/// Time between two looks at what is allocated, while that matters.
pub const IN_USE_PERIOD: Duration = Duration::from_secs(1);

/// The task that says what to advertise is gone.
#[derive(Debug, thiserror::Error)]
#[error("the task that says what to advertise has ended")]
pub struct AdvertiseLost;

/// Follows `advertise` until the receivers of `gate` are dropped. Both are `None` until they are known.
///
/// With [`Advertise::InUse`] the gate changes only on an answer of the kubelet: until the first one, and through any
/// time in which there is none, it stays as it is. An error is not "nothing is allocated".
///
/// # Errors
/// When the sender of `advertise` is gone.
pub async fn run(
    mut advertise: watch::Receiver<Option<Advertise>>,
    mut lister: PodResourcesLister,
    gate: watch::Sender<Option<Gate>>,
) -> Result<(), AdvertiseLost> {
    let mut silent = false;
    loop {
        let wanted = *advertise.borrow_and_update();
        match wanted {
            None => {}
            Some(wanted @ (Advertise::All | Advertise::None)) => set(&gate, Gate::of(wanted, BTreeSet::new())),
            Some(wanted @ Advertise::InUse) => {
                let answer = tokio::select! {
                    answer = lister.in_use() => answer,
                    changed = advertise.changed() => { changed.map_err(|_| AdvertiseLost)?; continue }
                    () = gate.closed() => return Ok(()),
                };
                match answer {
                    Ok(ids) => {
                        silent = false;
                        set(&gate, Gate::of(wanted, ids));
                    }
                    Err(error) => {
                        if !silent {
                            warn!(error = %cxi_node::log::chain(&error), "what is allocated is not known: the offer stays as it is");
                        }
                        silent = true;
                    }
                }
            }
        }
        tokio::select! {
            changed = advertise.changed() => changed.map_err(|_| AdvertiseLost)?,
            () = sleep(IN_USE_PERIOD), if wanted == Some(Advertise::InUse) => {}
            () = gate.closed() => return Ok(()),
        }
    }
}

fn set(gate: &watch::Sender<Option<Gate>>, next: Gate) {
    gate.send_if_modified(|current| {
        let changed = current.as_ref() != Some(&next);
        if changed {
            match &next {
                Gate::Open => info!("offering every healthy NIC"),
                Gate::InUse(ids) => info!(allocated = ids.len(), "offering only what is allocated"),
                Gate::Closed => info!("offering nothing"),
            }
            *current = Some(next);
        }
        changed
    });
}
