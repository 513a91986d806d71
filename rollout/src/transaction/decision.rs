//! What a phase decides about a node. A phase looks, and returns one of these; [`crate::record`] is the only place that writes it into
//! the node's record. So a step either writes the node's next place or performs the effects of the present one, never both.

use cxi_api::{
    Phase, RevisionId, Timestamp,
    transaction::{Wait, WaitFor},
};

use crate::{action::Action, blocked::Blocked};

/// See the module.
#[derive(Debug)]
pub enum Decision {
    /// The node stays in its phase.
    Stay(Stay),
    /// The node enters a phase, with the time since when evidence counts if that is not the beginning of the phase.
    Enter(Enter),
    /// After a reboot the transaction goes on in this phase: nothing that was verified in an earlier boot counts.
    BeginBoot(Phase),
    /// The transaction of this number begins, which the ledger has admitted.
    Begin(i32),
    /// The transaction is not wanted any more: the node returns on its present revision.
    CallOff,
    /// The transaction is taken back before anything was unloaded, and tried again later.
    GiveBack(GiveBack),
    /// The unload was decided, and KMM was not told of it: the driver is verified again. With a reason, the next try waits.
    TakeBack(Option<Blocked>),
    /// The node is on its way to what is no longer wanted, and turns round. That is no failure.
    TurnRound,
    /// The driver failed on this node, in words.
    Fail(String),
    /// The node stays out of service until an administrator helps, in words.
    Quarantine(String),
    /// The driver is off the node, as it was wanted.
    Unloaded,
    /// The node is in service with this revision.
    Finish(RevisionId),
}

/// What is done with a node that stays in its phase.
#[derive(Debug, Default)]
pub struct Stay {
    /// What its record says of it.
    pub says: Says,
    /// What is done for the phase once the record is as it should be.
    pub effects: Vec<Action>,
}

/// What the record of a node that stays says.
#[derive(Debug, Default)]
pub enum Says {
    /// The same as before.
    #[default]
    Same,
    /// Nothing: all is well.
    Nothing,
    /// This.
    This(Blocked),
}

/// How a node enters a phase.
#[derive(Debug)]
pub struct Enter {
    /// Which.
    pub phase: Phase,
    /// Evidence of this earlier step counts, too.
    pub evidence_since: Option<Timestamp>,
    /// What its record says from the beginning.
    pub says: Option<Blocked>,
}

/// How a transaction is taken back.
#[derive(Debug)]
pub struct GiveBack {
    /// Why.
    pub why: Blocked,
    /// Whether the pause before the next try stays as it is; otherwise it doubles with each try in a row.
    pub steady: bool,
    /// Whether the revision counts as failed on the node.
    pub failure: bool,
}

impl Decision {
    /// The node stays, and its record says the same as before.
    pub fn stay() -> Self {
        Self::Stay(Stay::default())
    }

    /// The node stays and waits for something.
    pub fn wait(blocked: Blocked) -> Self {
        Self::Stay(Stay { says: Says::This(blocked), effects: Vec::new() })
    }

    /// The node stays, and these are done.
    pub fn act(effects: impl IntoIterator<Item = Action>) -> Self {
        Self::stay().with(effects)
    }

    /// Adds what is done for a phase in which the node stays. A decision that writes the node's next place has no effects.
    pub fn with(mut self, more: impl IntoIterator<Item = Action>) -> Self {
        if let Self::Stay(stay) = &mut self {
            stay.effects.extend(more);
        }
        self
    }

    /// The node enters a phase.
    pub fn enter(phase: Phase) -> Self {
        Self::Enter(Enter { phase, evidence_since: None, says: None })
    }

    /// The node enters a phase in which evidence of the step that began at `since` counts, too.
    pub fn enter_with(phase: Phase, since: Timestamp) -> Self {
        Self::Enter(Enter { phase, evidence_since: Some(since), says: None })
    }

    /// The transaction is taken back, and the pause before the next try grows.
    pub fn give_back(why: Blocked) -> Self {
        Self::GiveBack(GiveBack { why, steady: false, failure: false })
    }
}

/// The wait of a record, if it is for this.
pub fn waits_for<'a>(wait: Option<&'a Wait>, what: WaitFor, object: &str) -> Option<&'a Wait> {
    wait.filter(|wait| wait.what == what && wait.object == object)
}
