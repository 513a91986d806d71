//! Puts together what all answers to the kubelet are made from, and keeps the CDI file in step with it.

use std::{path::Path, sync::Arc, time::Duration};

use cxi_hardware::{NicName, PciAddress};
use cxi_injection::{
    cdi::{self, Change, Destination, FileError, PLUGIN_KIND, SpecError, Subject},
    provision::Provision,
};
use tokio::{
    sync::watch,
    task::{JoinError, spawn_blocking},
    time::{MissedTickBehavior, interval},
};
use tracing::{error, info, warn};

use crate::{
    kubelet_api::device_id::Sharing,
    nics::inventory::Inventory,
    offer::{Gate, Published},
};

/// Time between two looks whether the CDI file is as it was written.
const LOOK_PERIOD: Duration = Duration::from_secs(5);

/// A source is gone.
#[derive(Debug, thiserror::Error)]
pub enum PublisherError {
    /// A task that finds something out has ended.
    #[error("a task that looks at the node ended")]
    SourceLost,
    /// Writing the CDI file panicked.
    #[error("the CDI file could not be looked at")]
    Cut(#[from] JoinError),
}

/// The CDI file cannot be kept.
#[derive(Debug, thiserror::Error)]
enum CdiError {
    #[error(transparent)]
    Spec(#[from] SpecError),
    #[error(transparent)]
    File(#[from] FileError),
}

/// Where the parts come from.
#[derive(Debug)]
pub struct Publisher {
    /// The NICs.
    pub inventory: watch::Receiver<Inventory>,
    /// What may be offered; `None` while it is not known.
    pub gate: watch::Receiver<Option<Gate>>,
    /// What comes with a NIC.
    pub provision: watch::Receiver<Arc<Provision>>,
    /// Ids per NIC.
    pub sharing: Sharing,
    /// The CDI file, if there is to be one.
    pub cdi: Option<Destination>,
}

impl Publisher {
    /// The present state. When this returns, the CDI file says what goes with it, or the state says that there is none.
    ///
    /// # Errors
    /// When writing the file panics. When it fails, containers are given everything in plain.
    pub async fn published(&mut self) -> Result<Published, PublisherError> {
        let inventory = self.inventory.borrow_and_update().clone();
        let gate = self.gate.borrow_and_update().clone().unwrap_or(Gate::Open);
        let provision = Arc::clone(&self.provision.borrow_and_update());
        let cdi = self.keep_file(&inventory, &provision).await?;
        let sharing = self.sharing.within_the_list(inventory.nics.len());
        Ok(Published { inventory, sharing, gate, provision, cdi })
    }

    /// Publishes every change until the receivers are dropped.
    ///
    /// # Errors
    /// When a source is lost.
    pub async fn run(mut self, published: watch::Sender<Arc<Published>>) -> Result<(), PublisherError> {
        let mut looks = interval(LOOK_PERIOD);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = None;
        loop {
            let next = self.published().await?;
            if told != Some(next.sharing) {
                told = Some(next.sharing);
                report_sharing(self.sharing, &next);
            }
            published.send_if_modified(|current| {
                let changed = **current != next;
                if changed {
                    *current = Arc::new(next);
                }
                changed
            });
            tokio::select! {
                changed = self.inventory.changed() => changed.map_err(|_| PublisherError::SourceLost)?,
                changed = self.gate.changed() => changed.map_err(|_| PublisherError::SourceLost)?,
                changed = self.provision.changed() => changed.map_err(|_| PublisherError::SourceLost)?,
                _ = looks.tick(), if self.cdi.is_some() => {}
                () = published.closed() => return Ok(()),
            }
        }
    }

    /// Whether there is a CDI file that names every NIC of `inventory` that has a node.
    async fn keep_file(&self, inventory: &Inventory, provision: &Arc<Provision>) -> Result<bool, JoinError> {
        let Some(destination) = self.cdi.clone() else { return Ok(false) };
        let (nics, provision) = (with_nodes(inventory), Arc::clone(provision));
        let kept = spawn_blocking(move || {
            let subject = Subject { nics: &nics, dev: Path::new("/dev"), provision: &provision, env: &[] };
            let spec = cdi::spec(PLUGIN_KIND, subject)?;
            let change = destination.keep(spec.as_ref())?;
            match change {
                Change::None => {}
                Change::Written => info!(file = %destination.path().display(), nics = nics.len(), "CDI file written"),
                Change::Removed => info!(file = %destination.path().display(), "no NICs: CDI file removed"),
            }
            Ok::<_, CdiError>(spec.is_some())
        });
        Ok(kept.await?.unwrap_or_else(|error| {
            let error = cxi_node::log::chain(&error);
            error!(error, "no CDI file: containers are given devices and mounts in plain");
            false
        }))
    }
}

/// Says it where fewer pods may share a NIC than was asked for.
fn report_sharing(wanted: Sharing, published: &Published) {
    if let (Sharing::Shared { capacity: wanted }, Sharing::Shared { capacity }) = (wanted, published.sharing)
        && capacity < wanted
    {
        warn!(
            nics = published.inventory.nics.len(), %wanted, %capacity,
            "fewer pods may share a NIC than was asked for: the kubelet takes a list of at most 4 MiB; lower the shared capacity"
        );
    }
}

/// The NICs that a container can be given.
fn with_nodes(inventory: &Inventory) -> Vec<(PciAddress, NicName)> {
    let given = inventory.nics.iter().filter(|(_, nic)| !nic.has_no_device_node());
    given.map(|(address, nic)| (*address, nic.name)).collect()
}
