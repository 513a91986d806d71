//! Keeps the inventory in step with the node by scanning it again and again.
//!
//! A scan of eight NICs reads some sixty small files; once a second is cheap and finds every change within two. The
//! kernel has no event for all of it: sysfs has no inotify, and the link is announced to the network namespace of the
//! interface only, which is not this process's.

use std::{collections::BTreeMap, time::Duration};

use cxi_hardware::{
    PciAddress, Root, Scan, ScanError,
    health::Health,
    retry_handler::{Attachment, Expectation},
    scan,
};
use tokio::{
    sync::watch,
    task::{JoinError, spawn_blocking},
    time::{MissedTickBehavior, interval, timeout},
};
use tracing::{error, info, warn};

use crate::nics::{
    attachment::{self, Attachments},
    inventory::Inventory,
};

/// Time between scans.
pub const SCAN_PERIOD: Duration = Duration::from_secs(1);

/// A scan that takes longer hangs in the driver: nothing is known about its NICs until it comes back.
const SCAN_LIMIT: Duration = Duration::from_secs(10);

/// The scanner cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ScannerError {
    /// The very first scan failed: this process cannot see the node's NICs at all.
    #[error("the node's NICs cannot be scanned")]
    First(#[from] ScanError),
    /// A scan panicked or was cancelled.
    #[error("a scan was cut short")]
    Cut(#[from] JoinError),
}

/// Scans once, so that the plugin starts with what is there.
///
/// # Errors
/// When the NICs cannot be listed; a later failure only makes them unhealthy.
pub async fn first(root: &Root, expectation: Expectation) -> Result<Inventory, ScannerError> {
    let mut attachments = Attachments::new(expectation);
    let look = spawn_look(root, attachments.wanted()).await??;
    let inventory = look.inventory(&mut attachments);
    let scan = look.scan;
    report(&Inventory::default(), &inventory);
    report_unidentified(&Scan::default(), &scan);
    Ok(inventory)
}

/// Scans every [`SCAN_PERIOD`] and publishes what changed, until the receivers are dropped.
///
/// # Errors
/// When a scan panics.
pub async fn run(
    root: Root,
    expectation: Expectation,
    inventory: watch::Sender<Inventory>,
) -> Result<(), ScannerError> {
    let mut attachments = Attachments::new(expectation);
    let mut ticks = interval(SCAN_PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    let mut last = Scan::default();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = inventory.closed() => return Ok(()),
        }
        let mut scanning = spawn_look(&root, attachments.wanted());
        let result = if let Ok(result) = timeout(SCAN_LIMIT, &mut scanning).await {
            result?
        } else {
            error!(limit = ?SCAN_LIMIT, "sysfs does not answer: every NIC counts as unhealthy until it does");
            publish(&inventory, inventory.borrow().not_scanned());
            scanning.await?
        };
        let next = match result {
            Ok(look) => {
                report_unidentified(&last, &look.scan);
                let next = look.inventory(&mut attachments);
                last = look.scan;
                failing = false;
                next
            }
            Err(error) => {
                if !failing {
                    error!(error = %cxi_node::log::chain(&error), "every NIC counts as unhealthy until a scan succeeds");
                }
                failing = true;
                inventory.borrow().not_scanned()
            }
        };
        publish(&inventory, next);
    }
}

/// What one scan found.
struct Look {
    scan: Scan,
    attachments: BTreeMap<PciAddress, Attachment>,
}

impl Look {
    fn inventory(&self, attachments: &mut Attachments) -> Inventory {
        Inventory::from_scan(&self.scan, &attachments.take_in(&self.attachments))
    }
}

fn spawn_look(root: &Root, with_attachments: bool) -> tokio::task::JoinHandle<Result<Look, ScanError>> {
    let root = root.clone();
    spawn_blocking(move || {
        let scan = scan(&root)?;
        let attachments = if with_attachments { attachment::read(&root, &scan) } else { BTreeMap::new() };
        Ok(Look { scan, attachments })
    })
}

fn publish(inventory: &watch::Sender<Inventory>, next: Inventory) {
    inventory.send_if_modified(|current| {
        let changed = *current != next;
        if changed {
            report(current, &next);
            *current = next;
        }
        changed
    });
}

fn report(before: &Inventory, after: &Inventory) {
    for (address, nic) in &after.nics {
        let known = before.nics.get(address);
        if known == Some(nic) {
            continue;
        }
        match (&nic.health, known) {
            (Some(Health::Usable), None) => {
                info!(%address, device = %nic.name, numa = nic.numa_node, "NIC found, healthy");
            }
            (Some(Health::Usable), Some(_)) => info!(%address, device = %nic.name, "NIC is healthy"),
            (Some(reason), _) => warn!(%address, device = %nic.name, %reason, "NIC is not healthy"),
            (None, _) => {
                warn!(%address, device = %nic.name, reason = "sysfs could not be read", "NIC is not healthy");
            }
        }
    }
    for (address, nic) in before.nics.iter().filter(|(address, _)| !after.nics.contains_key(address)) {
        warn!(%address, device = %nic.name, "NIC is gone");
    }
}

fn report_unidentified(before: &Scan, after: &Scan) {
    for entry in after.unidentified.iter().filter(|entry| !before.unidentified.contains(entry)) {
        warn!(device = entry.name, reason = %entry.reason, "device cannot be identified and is not offered");
    }
}
