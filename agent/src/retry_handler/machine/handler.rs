//! One retry handler: where it stands, and what a look changes about that. Pure.

use std::time::Duration;

use cxi_api::Timestamp;
use cxi_hardware::{
    NicName, PciAddress,
    retry_handler::{Exit, Record, State},
};

use super::{Action, CAME_SECOND_LIMIT, Ended, LOOKS_UNTIL_GONE, SeenNic};

/// A retry handler that is not attached after this time has a problem. It takes well below a second on a sound NIC.
const ATTACH_LIMIT: Duration = Duration::from_secs(30);

/// What an administrator may do about a failure.
const REMEDY: &str = "the vendor asks for a reboot of the node, since the state of the NIC is unknown; \
                      `cxi-agent retry-handler restart` in this pod starts another one all the same";

pub(super) const LOST: &str = "the process runs, and the NIC says that no retry handler is attached any more";

pub(super) fn overdue() -> String {
    format!("the process runs, and the NIC says after {} s that no retry handler is attached", ATTACH_LIMIT.as_secs())
}

/// The retry handler of a NIC.
#[derive(Debug)]
pub(super) struct Handler {
    pub(super) device: NicName,
    pub(super) instance: u64,
    pub(super) since: Timestamp,
    /// How many looks in a row did not see its NIC.
    pub(super) missing: u32,
    pub(super) standing: Standing,
}

/// Where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It cannot be started yet.
    Waiting {
        why: String,
    },
    /// It is being started.
    Launching,
    Alive {
        pid: u32,
        attachment: Attachment,
        asked: Asked,
    },
    Failed {
        exit: Option<Exit>,
        message: String,
        was_host: bool,
    },
    Host,
}

/// Whether a process was asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    No,
    /// It is to end, and whether it handles the signal yet is not known.
    Soon,
    Yes,
}

/// What the NIC says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attachment {
    NotYet,
    Overdue,
    Attached,
    Lost,
}

impl Standing {
    /// It ended, and not in order.
    fn ended(exit: Option<Exit>, asked: Asked, said: &[String]) -> Self {
        let how = exit.map_or_else(|| "in a way that got lost".to_owned(), |exit| exit.to_string());
        let why = match asked {
            Asked::No | Asked::Soon => "and this supervisor had not asked it to",
            Asked::Yes => "when it was asked to, which is not in order",
        };
        let mut message = format!("it ended {how} {why}; {REMEDY}");
        if !said.is_empty() {
            message.push_str("; its last lines:\n");
            message.push_str(&said.join("\n"));
        }
        Self::Failed { exit, message, was_host: false }
    }

    fn fresh() -> Self {
        Self::Waiting { why: "not looked at yet".to_owned() }
    }

    /// There was one, and its end was not seen. Unless it is still attached, which it is only where processes outlive
    /// their supervisor.
    fn lost(what: &str, nic: &SeenNic) -> Self {
        if nic.attached == Ok(true) {
            return Self::Host;
        }
        Self::Failed { exit: None, message: format!("{what}; {REMEDY}"), was_host: false }
    }
}

impl Handler {
    /// Of a NIC of which nothing was known.
    pub(super) fn new(nic: &SeenNic, now: Timestamp) -> Self {
        let SeenNic { device, instance, .. } = *nic;
        Self { device, instance, since: now, missing: 0, standing: Standing::fresh() }
    }

    /// Of a NIC of which a supervisor that was killed left a record.
    pub(super) fn inherit(inherited: Result<Record, String>, nic: &SeenNic, now: Timestamp) -> Self {
        let fresh = Self::new(nic, now);
        match inherited {
            Ok(record) if record.instance != nic.instance || record.device != nic.device => fresh,
            Ok(record) => match record.state {
                // Without an exit it was none that ran here.
                State::Failed if record.exit.is_none() && nic.attached == Ok(true) => {
                    Self { standing: Standing::Host, ..fresh }
                }
                State::Failed => {
                    let message = record.message.unwrap_or_default();
                    let standing = Standing::Failed { exit: record.exit, message, was_host: false };
                    Self { since: record.since, standing, ..fresh }
                }
                State::Host => Self { since: record.since, standing: Standing::Host, ..fresh },
                // Its process lived in the container of the supervisor that was killed.
                State::Starting | State::Running | State::Stopping if record.pid.is_some() => {
                    Self { standing: Standing::lost("it was killed together with its supervisor", nic), ..fresh }
                }
                State::Starting | State::Running | State::Stopping => fresh,
            },
            Err(reason) => {
                let what = format!("what became of an earlier one cannot be told ({reason})");
                Self { standing: Standing::lost(&what, nic), ..fresh }
            }
        }
    }

    /// What others on the node are to know.
    pub(super) fn record(&self, address: PciAddress, boot_id: &str) -> Record {
        let (state, pid, exit, message) = match &self.standing {
            Standing::Waiting { why } => (State::Starting, None, None, Some(why.clone())),
            Standing::Launching => (State::Starting, None, None, None),
            Standing::Alive { pid, asked: Asked::Soon | Asked::Yes, .. } => (State::Stopping, Some(*pid), None, None),
            Standing::Alive { pid, attachment, asked: Asked::No } => match attachment {
                Attachment::Attached => (State::Running, Some(*pid), None, None),
                Attachment::NotYet => (State::Starting, Some(*pid), None, None),
                Attachment::Overdue => (State::Starting, Some(*pid), None, Some(overdue())),
                Attachment::Lost => (State::Starting, Some(*pid), None, Some(LOST.to_owned())),
            },
            Standing::Failed { exit, message, .. } => (State::Failed, None, *exit, Some(message.clone())),
            Standing::Host => (State::Host, None, None, None),
        };
        Record {
            device: self.device,
            address,
            state,
            pid,
            since: self.since,
            exit,
            message,
            boot_id: boot_id.to_owned(),
            instance: self.instance,
        }
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match self.standing {
            Standing::Alive { pid, .. } => Some(pid),
            _ => None,
        }
    }

    /// Whether there is a process, or will be in a moment.
    pub(super) fn is_alive(&self) -> bool {
        matches!(self.standing, Standing::Alive { .. } | Standing::Launching)
    }

    /// The process that is to end as soon as it handles the signal.
    pub(super) fn held_back(&self) -> Option<u32> {
        match self.standing {
            Standing::Alive { pid, asked: Asked::Soon, .. } => Some(pid),
            _ => None,
        }
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.standing, Standing::Failed { .. })
    }

    pub(super) fn become_(&mut self, standing: Standing, now: Timestamp) {
        if self.standing != standing {
            self.standing = standing;
            self.since = now;
        }
    }

    /// Its process is to end.
    pub(super) fn terminate(&mut self, now: Timestamp) {
        if let Standing::Alive { pid, attachment, asked: Asked::No } = self.standing {
            self.become_(Standing::Alive { pid, attachment, asked: Asked::Soon }, now);
        }
    }

    /// Its process can be asked now; whether it is to be.
    pub(super) fn ask(&mut self) -> bool {
        match &mut self.standing {
            Standing::Alive { asked: asked @ Asked::Soon, .. } => {
                *asked = Asked::Yes;
                true
            }
            _ => false,
        }
    }

    /// What it is after its process ended; `None` when there is nothing to tell.
    pub(super) fn after(&self, how: &Ended) -> Option<Standing> {
        let Standing::Alive { asked, .. } = self.standing else { return None };
        // The NIC that it served is not there any more.
        if self.missing >= LOOKS_UNTIL_GONE {
            return None;
        }
        match how.exit {
            Some(Exit::Code(0)) if asked == Asked::Yes => None,
            // The driver did not take it, so it changed nothing.
            Some(Exit::Code(1..))
                if asked != Asked::Yes && how.lived < CAME_SECOND_LIMIT && how.attached == Some(true) =>
            {
                Some(Standing::Host)
            }
            exit => Some(Standing::ended(exit, asked, &how.said)),
        }
    }

    pub(super) fn look_at(&mut self, address: PciAddress, nic: &SeenNic, now: Timestamp, actions: &mut Vec<Action>) {
        match &self.standing {
            Standing::Waiting { .. } => {
                let standing = match (&nic.attached, &nic.obstacle) {
                    (Ok(true), _) => Standing::Host,
                    (Err(reason), _) | (Ok(false), Some(reason)) => Standing::Waiting { why: reason.clone() },
                    (Ok(false), None) => {
                        actions.push(Action::Start { address, device: nic.device });
                        Standing::Launching
                    }
                };
                self.become_(standing, now);
            }
            Standing::Alive { pid, attachment, asked: Asked::No } => {
                let overdue = now.duration_since(self.since).unsigned_abs() > ATTACH_LIMIT;
                let attachment = match (&nic.attached, attachment) {
                    (Ok(true), _) => Attachment::Attached,
                    (Ok(false), Attachment::Attached | Attachment::Lost) => Attachment::Lost,
                    (Ok(false), Attachment::NotYet) if overdue => Attachment::Overdue,
                    (Ok(false) | Err(_), before) => *before,
                };
                self.become_(Standing::Alive { pid: *pid, attachment, asked: Asked::No }, now);
            }
            Standing::Host if nic.attached == Ok(false) => {
                let message = "the retry handler that ran outside this pod has ended: start it again where it was, or \
                               have one started here with `cxi-agent retry-handler restart` in this pod"
                    .to_owned();
                self.become_(Standing::Failed { exit: None, message, was_host: true }, now);
            }
            Standing::Failed { was_host: true, .. } if nic.attached == Ok(true) => self.become_(Standing::Host, now),
            Standing::Launching | Standing::Alive { .. } | Standing::Failed { .. } | Standing::Host => {}
        }
    }
}
