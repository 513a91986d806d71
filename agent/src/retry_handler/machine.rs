//! What should run on this node, decided from what is seen of its NICs and from how processes end. Pure.
//!
//! ```text
//!            no handler attached              attached
//! (seen) ──► Launching ──► Alive ──────────► (Running)
//!    │           │           │ ended unasked
//!    │           └───────────┴──────────► Failed ──► only an administrator, or a NIC that was bound anew
//!    └─ attached ─► Host ── no longer ──────▲
//! ```
//!
//! One retry handler per physical function. What ended unasked, or otherwise than in order when it was asked, is never
//! started again: its NIC is in an unknown state, and the vendor asks for a reboot.

mod handler;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use cxi_api::Timestamp;
use cxi_hardware::{
    NicName, PciAddress,
    retry_handler::{Exit, Record},
};
use handler::{Asked, Attachment, Handler, Standing};

/// A NIC must be missing from this many looks in a row before its retry handler is asked to end: that costs every
/// connection of the NIC, and a directory is not listed in one instant.
const LOOKS_UNTIL_GONE: u32 = 3;

/// One that ends within this time while another one is attached came second: the driver has one place per NIC
/// (`cass_eq.c` answers EEXIST).
const CAME_SECOND_LIMIT: Duration = Duration::from_secs(10);

/// What one look sees.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// NICs that can have a retry handler.
    pub(super) nics: BTreeMap<PciAddress, SeenNic>,
    /// Names of devices that are there and are not known to be one or the other.
    pub(super) unidentified: BTreeSet<String>,
}

/// What one look sees of a NIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SeenNic {
    pub(super) device: NicName,
    /// Differs each time the driver binds it.
    pub(super) instance: u64,
    /// Whether a retry handler is attached; the reason where that is not known.
    pub(super) attached: Result<bool, String>,
    /// Why a retry handler could not be started now.
    pub(super) obstacle: Option<String>,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub(super) enum Event {
    /// A look was taken.
    Looked(Seen),
    /// The process of [`Action::Start`] runs.
    Started { address: PciAddress, pid: u32 },
    /// There is no such process, for this reason.
    NotStarted { address: PciAddress, reason: String },
    /// A process of [`Machine::held_back`] handles SIGTERM by now, or is not waited for any longer.
    MayBeAsked { address: PciAddress, pid: u32 },
    /// A process ended.
    Ended { address: PciAddress, pid: u32, how: Ended },
    /// An administrator took note of a failure and wants another one.
    Acknowledged(PciAddress),
    /// The supervisor is to end.
    End,
}

/// How a process ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// `None` when that got lost.
    pub(super) exit: Option<Exit>,
    /// How long it lived.
    pub(super) lived: Duration,
    /// The last lines it said.
    pub(super) said: Vec<String>,
    /// Whether a retry handler is attached after its end, where that is known.
    pub(super) attached: Option<bool>,
}

/// Something to do at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Start a retry handler; to be answered by [`Event::Started`] or [`Event::NotStarted`].
    Start { address: PciAddress, device: NicName },
    /// Ask the process to end, with SIGTERM.
    Terminate { address: PciAddress, pid: u32 },
    /// Remove what an ended retry handler left in the file system.
    TidyUp(NicName),
}

/// What a supervisor that was killed left behind; the reason where a record makes no sense.
pub(super) type Inherited = BTreeMap<PciAddress, Result<Record, String>>;

/// Every retry handler of the node.
#[derive(Debug)]
pub(super) struct Machine {
    boot_id: String,
    handlers: BTreeMap<PciAddress, Handler>,
    /// Each is used up by the first look that can tell.
    inherited: Inherited,
    ending: bool,
}

impl Machine {
    /// A supervisor of this boot that found `inherited`.
    pub(super) fn new(boot_id: String, inherited: Inherited) -> Self {
        // The NICs of an earlier boot were reset since.
        let of_this_boot = |record: &Result<Record, String>| match record {
            Ok(record) => record.boot_id == boot_id,
            Err(_) => true,
        };
        let inherited = inherited.into_iter().filter(|(_, record)| of_this_boot(record)).collect();
        Self { boot_id, handlers: BTreeMap::new(), inherited, ending: false }
    }

    /// Whether everything that was to end has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ending && !self.handlers.values().any(Handler::is_alive)
    }

    /// Processes that are to end: each is waited for until it handles SIGTERM, and told by [`Event::MayBeAsked`].
    pub(super) fn held_back(&self) -> impl Iterator<Item = (PciAddress, u32)> {
        self.handlers.iter().filter_map(|(address, handler)| Some((*address, handler.held_back()?)))
    }

    /// What others on the node are to know, by NIC.
    pub(super) fn records(&self) -> BTreeMap<PciAddress, Record> {
        let mut records: BTreeMap<_, _> = self
            .handlers
            .iter()
            .map(|(address, handler)| (*address, handler.record(*address, &self.boot_id)))
            .collect();
        // Until a look says otherwise.
        for (address, inherited) in &self.inherited {
            if let Ok(record) = inherited
                && !self.ending
            {
                records.entry(*address).or_insert_with(|| record.clone());
            }
        }
        records
    }

    /// Takes note of `event` and says what to do.
    pub(super) fn step(&mut self, event: Event, now: Timestamp) -> Vec<Action> {
        let mut actions = Vec::new();
        match event {
            Event::Looked(seen) => self.looked(&seen, now, &mut actions),
            Event::Started { address, pid } => {
                if let Some(handler) = self.handlers.get_mut(&address) {
                    handler.standing = Standing::Alive { pid, attachment: Attachment::NotYet, asked: Asked::No };
                    if self.ending {
                        handler.terminate(now);
                    }
                }
            }
            Event::NotStarted { address, reason } => {
                if let Some(handler) = self.handlers.get_mut(&address) {
                    actions.push(Action::TidyUp(handler.device));
                    let message = format!("{reason}; nothing was done to the NIC");
                    handler.become_(Standing::Failed { exit: None, message, was_host: false }, now);
                }
                if self.ending {
                    self.handlers.remove(&address);
                }
            }
            Event::MayBeAsked { address, pid } => {
                let handler = self.handlers.get_mut(&address).filter(|handler| handler.pid() == Some(pid));
                if handler.is_some_and(Handler::ask) {
                    actions.push(Action::Terminate { address, pid });
                }
            }
            Event::Ended { address, pid, how } => {
                let Some(handler) = self.handlers.get_mut(&address).filter(|handler| handler.pid() == Some(pid)) else {
                    return actions;
                };
                if how.attached != Some(true) {
                    actions.push(Action::TidyUp(handler.device));
                }
                match handler.after(&how) {
                    // What the next supervisor has to know outlives this one.
                    Some(standing) if !self.ending || standing != Standing::Host => handler.become_(standing, now),
                    _ => {
                        self.handlers.remove(&address);
                    }
                }
            }
            Event::Acknowledged(address) => {
                self.inherited.remove(&address);
                if self.handlers.get(&address).is_some_and(Handler::has_failed) {
                    self.handlers.remove(&address);
                }
            }
            Event::End if self.ending => {}
            Event::End => {
                self.ending = true;
                for handler in self.handlers.values_mut() {
                    handler.terminate(now);
                }
                self.handlers.retain(|_, handler| handler.is_alive());
            }
        }
        actions
    }

    fn looked(&mut self, seen: &Seen, now: Timestamp, actions: &mut Vec<Action>) {
        for (address, handler) in &mut self.handlers {
            match seen.nics.get(address) {
                Some(nic) if nic.instance == handler.instance && nic.device == handler.device => handler.missing = 0,
                // It is there as another one.
                Some(_) => {
                    handler.missing = LOOKS_UNTIL_GONE;
                    handler.terminate(now);
                }
                None if seen.unidentified.contains(&handler.device.to_string()) => {}
                None => {
                    handler.missing = handler.missing.saturating_add(1);
                    if handler.missing >= LOOKS_UNTIL_GONE {
                        handler.terminate(now);
                    }
                }
            }
        }
        self.handlers.retain(|_, handler| handler.missing < LOOKS_UNTIL_GONE || handler.is_alive());
        if seen.unidentified.is_empty() {
            self.inherited.retain(|address, _| seen.nics.contains_key(address));
        }
        if self.ending {
            return;
        }
        for (address, nic) in &seen.nics {
            match self.handlers.get_mut(address) {
                Some(handler) if handler.missing == 0 => handler.look_at(*address, nic, now, actions),
                // Of an earlier one; it has to end first.
                Some(_) => {}
                None => {
                    let mut handler = match self.inherited.remove(address) {
                        None => Handler::new(nic, now),
                        Some(inherited) => Handler::inherit(inherited, nic, now),
                    };
                    handler.look_at(*address, nic, now, actions);
                    self.handlers.insert(*address, handler);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
