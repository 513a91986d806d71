//! Place of a node in a rollout, and one table of what each place means. A new phase is a row; every question that the
//! operator, the agent and the tests ask of a phase is answered from it.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::names::Role;

/// Place of a node in a rollout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
pub enum Phase {
    /// Verified on the wanted revision and in service.
    UpToDate,
    /// Not on the wanted revision; waits for admission.
    #[default]
    Pending,
    /// Admitted: the image is being pulled, nothing was taken away yet.
    Admitted,
    /// Waits for its pods to end; offers only the NICs in use.
    Waiting,
    /// The device plugin is being taken away.
    Closing,
    /// Pods that hold a NIC are being evicted.
    Evicting,
    /// No pod and no process seems to hold a NIC; the operator proves it.
    Quiesced,
    /// KMM takes the old driver out.
    Unloading,
    /// KMM puts the new driver in.
    Loading,
    /// Evidence from the node is awaited.
    Verifying,
    /// The site's validation pod tests the new driver, while no job can get there.
    Validating,
    /// NICs are being offered again.
    Returning,
    /// The new revision failed; the operator prepares the node for the rollback.
    RollingBack,
    /// Out of service until an administrator or a new revision helps.
    Quarantined,
}

/// How far a phase is from service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// No transaction is under way.
    Settled,
    /// A transaction is under way, and nothing has been taken away yet.
    Begun,
    /// The node offers nothing, its driver is loaded, and the transaction can be taken back without a reload. All such phases
    /// together have one deadline.
    Closed,
    /// The driver is being unloaded, loaded or verified.
    Exchanging,
    /// The driver is verified, and the node is given back.
    Returning,
}

/// What a phase means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traits {
    /// How far it is from service.
    pub stage: Stage,
    /// Whether a node with a driver offers its NICs, all of them or those in use. In all other phases the driver may be unloaded before
    /// the next phase is written.
    pub offers: bool,
    /// Whether the operator looks at the node without a cache.
    pub looks: bool,
    /// Whether a driver should be loaded, although nothing says yet that it is.
    pub driver_is_due: bool,
    /// The one-shot pods that may be at work.
    pub pods: &'static [Role],
}

const NO_PODS: &[Role] = &[];

impl Phase {
    /// Every phase, in order.
    pub const ALL: [Self; 14] = [
        Self::UpToDate,
        Self::Pending,
        Self::Admitted,
        Self::Waiting,
        Self::Closing,
        Self::Evicting,
        Self::Quiesced,
        Self::Unloading,
        Self::Loading,
        Self::Verifying,
        Self::Validating,
        Self::Returning,
        Self::RollingBack,
        Self::Quarantined,
    ];

    /// What the phase means: the table.
    pub const fn traits(self) -> Traits {
        use Stage::{Begun, Closed, Exchanging, Returning, Settled};
        const fn row(stage: Stage, pods: &'static [Role]) -> Traits {
            Traits { stage, offers: false, looks: false, driver_is_due: false, pods }
        }
        match self {
            Self::UpToDate | Self::Pending => Traits { offers: true, ..row(Settled, NO_PODS) },
            Self::Admitted => Traits { offers: true, ..row(Begun, &[Role::Prefetch]) },
            Self::Waiting => Traits { offers: true, ..row(Begun, NO_PODS) },
            Self::Closing | Self::Evicting | Self::Quiesced => Traits { looks: true, ..row(Closed, NO_PODS) },
            Self::Unloading => Traits { looks: true, ..row(Exchanging, &[Role::Cleanup]) },
            Self::Loading => Traits { driver_is_due: true, ..row(Exchanging, NO_PODS) },
            Self::Verifying => Traits { driver_is_due: true, ..row(Exchanging, &[Role::Prefetch, Role::HostDriver]) },
            Self::Validating => Traits { driver_is_due: true, ..row(Exchanging, &[Role::Validation]) },
            Self::Returning => row(Returning, NO_PODS),
            Self::RollingBack => Traits { looks: true, driver_is_due: true, ..row(Exchanging, NO_PODS) },
            Self::Quarantined => Traits { driver_is_due: true, ..row(Settled, NO_PODS) },
        }
    }

    /// Whether a transaction in this phase can be taken back without a driver reload.
    pub fn is_cancellable(self) -> bool {
        matches!(self.traits().stage, Stage::Begun | Stage::Closed)
    }

    /// Whether the node rests: no transaction is under way.
    pub fn is_settled(self) -> bool {
        self.traits().stage == Stage::Settled
    }

    /// Whether the phase is about what the node does: from the moment at which it is closed until it is in service again. Such a phase
    /// begins again, time limits and all, when a node that was not Ready is back, and who has a device open matters in it.
    pub fn is_on_the_node(self) -> bool {
        self.traits().stage >= Stage::Closed
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_phase_is_listed_once_and_has_a_row() {
        let schema = serde_json::to_value(schemars::schema_for!(Phase)).unwrap();
        let described = schema["oneOf"].as_array().unwrap().len();
        let listed: std::collections::BTreeSet<Phase> = Phase::ALL.into();
        assert_eq!((listed.len(), Phase::ALL.len()), (described, described));
        for phase in Phase::ALL {
            let row = phase.traits();
            assert!(!phase.is_settled() || row.pods.is_empty(), "{phase}: no one-shot pod works for a node at rest");
            assert!(row.stage != Stage::Closed || row.looks, "{phase}: a closed node is looked at");
        }
    }
}
