//! An administrator wants another retry handler after a failure.

use anyhow::{Context as _, bail};
use cxi_hardware::{
    NicName, Root,
    retry_handler::{Record, State},
};

/// Takes note of the failure of `device`'s retry handler by removing its state file, upon which the supervisor starts
/// another one. Those of other NICs are not touched.
///
/// # Errors
/// When it has not failed, or that cannot be told.
pub(super) fn acknowledge(root: &Root, device: NicName) -> anyhow::Result<()> {
    let mut unreadable = Vec::new();
    for (address, record) in Record::read_all(root).context("list the state files")? {
        match record {
            Ok(record) if record.device == device => {
                if record.state != State::Failed {
                    bail!("the retry handler of {device} has not failed: its state is {}", record.state);
                }
                return Record::remove(root, address).context("remove the state file");
            }
            Ok(_) => {}
            Err(error) => unreadable.push(error.to_string()),
        }
    }
    if unreadable.is_empty() {
        bail!("no retry handler of {device} is supervised on this node");
    }
    bail!("no retry handler of {device} is found, and not everything can be read: {}", unreadable.join("; "))
}
