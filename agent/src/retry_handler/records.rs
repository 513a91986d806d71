//! Keeps the state files of the node in step with what the supervisor knows.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use cxi_hardware::{
    PciAddress, Root,
    retry_handler::{Record, State},
};
use tracing::{error, info, warn};

use crate::retry_handler::machine::Inherited;

/// The state files as they were last written.
#[derive(Debug)]
pub(super) struct Records {
    root: Root,
    written: BTreeMap<PciAddress, Record>,
    /// Files that a supervisor before this one wrote.
    foreign: BTreeSet<PciAddress>,
    failing: bool,
}

impl Records {
    /// The files under `root`, and what an earlier supervisor left in them.
    ///
    /// # Errors
    /// When they cannot be listed.
    pub(super) fn open(root: Root) -> io::Result<(Self, Inherited)> {
        let found = Record::read_all(&root)?;
        let foreign = found.keys().copied().collect();
        let inherited = found
            .into_iter()
            .map(|(address, record)| (address, record.map_err(|error| error.to_string())))
            .inspect(|(address, record)| match record {
                Ok(record) => {
                    let (device, state) = (record.device, record.state);
                    warn!(%device, pci = %address, %state, "left by a supervisor that did not end in order");
                }
                Err(error) => warn!(pci = %address, error, "left by a supervisor that did not end in order"),
            })
            .collect();
        Ok((Self { root, written: BTreeMap::new(), foreign, failing: false }, inherited))
    }

    /// NICs whose failure an administrator took note of, by removing its file. Another file that was removed is
    /// written again.
    pub(super) fn acknowledged(&mut self) -> Vec<PciAddress> {
        let gone: Vec<_> =
            self.written.keys().filter(|address| Record::read(&self.root, **address) == Ok(None)).copied().collect();
        let mut acknowledged = Vec::new();
        for address in gone {
            if self.written.remove(&address).is_some_and(|record| record.state == State::Failed) {
                info!(pci = %address, "the failure was acknowledged");
                acknowledged.push(address);
            }
        }
        acknowledged
    }

    /// Makes the files say `wanted`. What could not be written is tried again the next time.
    pub(super) fn publish(&mut self, wanted: BTreeMap<PciAddress, Record>) {
        let gone: Vec<_> =
            self.written.keys().chain(&self.foreign).filter(|address| !wanted.contains_key(address)).copied().collect();
        let mut failure = None;
        for address in gone {
            match Record::remove(&self.root, address) {
                Ok(()) => {
                    self.written.remove(&address);
                    self.foreign.remove(&address);
                }
                Err(error) => failure = Some((address, error)),
            }
        }
        for (address, record) in wanted {
            let before = self.written.get(&address);
            if before == Some(&record) {
                continue;
            }
            if before.is_none_or(|before| (before.state, &before.message) != (record.state, &record.message)) {
                say(&record);
            }
            match record.write(&self.root) {
                Ok(()) => {
                    self.written.insert(address, record);
                    self.foreign.remove(&address);
                }
                Err(error) => failure = Some((address, error)),
            }
        }
        if let (Some((address, error)), false) = (&failure, self.failing) {
            let error = cxi_node::log::chain(error);
            error!(pci = %address, error, "the state file is not up to date, it is tried again");
        }
        self.failing = failure.is_some();
    }
}

fn say(record: &Record) {
    let Record { device, address, state, pid, message, .. } = record;
    let reason = message.as_deref();
    match (state, pid) {
        (State::Failed, _) => error!(%device, pci = %address, %state, reason, "retry handler"),
        (_, Some(pid)) => info!(%device, pci = %address, %state, pid, reason, "retry handler"),
        (_, None) => info!(%device, pci = %address, %state, reason, "retry handler"),
    }
}
