//! Looks at the NICs that can have a retry handler.

use cxi_hardware::{Function, Nic, Root, ScanError, retry_handler::Attachment, scan};

use crate::retry_handler::machine::{Seen, SeenNic};

/// Looks at the node under `root`.
///
/// # Errors
/// When the NICs cannot be listed, which is not "none".
pub(super) fn see(root: &Root) -> Result<Seen, ScanError> {
    let scan = scan(root)?;
    let unidentified = scan.unidentified.iter().map(|entry| entry.name.clone()).collect();
    let mut seen = Seen { unidentified, ..Seen::default() };
    for (address, nic) in scan.by_address() {
        // `cxi_rh` refuses virtual functions: their physical function's serves them.
        if nic.function == Ok(Function::Virtual) {
            continue;
        }
        let Some(attachment) = Attachment::read(root, nic) else { continue };
        let seen_nic = SeenNic {
            device: nic.name,
            instance: attachment.instance,
            attached: attachment.attached.map_err(|error| error.to_string()),
            obstacle: obstacle(nic),
        };
        seen.nics.insert(address, seen_nic);
    }
    Ok(seen)
}

fn obstacle(nic: &Nic) -> Option<String> {
    match (&nic.function, &nic.device_node) {
        (Err(error), _) => Some(format!("physical or virtual function is not known: {error}")),
        (_, Err(error)) => Some(error.to_string()),
        (_, Ok(false)) => Some("there is no device node in /dev".to_owned()),
        (Ok(_), Ok(true)) => None,
    }
}
