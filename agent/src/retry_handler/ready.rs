//! Whether every NIC of the node has its retry handler: the readiness probe.

use anyhow::bail;
use cxi_hardware::{
    Root,
    retry_handler::{Record, State},
};

use crate::retry_handler::observe;

/// Asks the driver, and the state files for failures.
///
/// # Errors
/// With a sentence for every NIC that has none.
pub(super) fn check(root: &Root) -> anyhow::Result<()> {
    let mut missing = Vec::new();
    for (address, nic) in observe::see(root)?.nics {
        let device = nic.device;
        match (nic.attached, Record::read(root, address)) {
            (_, Ok(Some(Record { state: State::Failed, message, .. }))) => {
                missing.push(format!("{device}: {}", message.unwrap_or_default()));
            }
            (Ok(true), Ok(_)) => {}
            (Ok(false), _) => missing.push(format!("{device}: no retry handler is attached")),
            (Err(reason), _) => missing.push(format!("{device}: {reason}")),
            (_, Err(error)) => missing.push(format!("{device}: {error}")),
        }
    }
    if !missing.is_empty() {
        bail!("not ready: {}", missing.join("; "));
    }
    Ok(())
}
