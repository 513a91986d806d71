//! Who may go next. A node is admitted when everything that can be known beforehand speaks for it: nothing is taken away to
//! find out. What may stand against it is a list of rules, each in a file of its own.

mod capacity;
mod image;
mod order;
mod rules;
mod stake;

use cxi_api::{
    NodeRollout,
    driver_status::{InFlight, Rollout},
};

use crate::{
    blocked::Blocked,
    driver::{
        ledger,
        obstacle::Obstacle,
        scope::{Member, Scope},
        standing::{Closed, Standing},
    },
    maps::Map,
    node::{disruption::Allowance, drift, request::Request},
};

use capacity::Capacity;
pub use image::of_fleet as images_of;
pub use stake::{is_in_service, is_skipped};

/// What holds for all nodes of a CXIDriver.
pub struct Fleet<'a> {
    pub scope: &'a Scope<'a>,
    /// Why none may be admitted.
    pub closed: Option<Closed>,
    pub obstacle: Option<&'a Obstacle>,
    /// What is wrong with the images of the target, where all have to be there first.
    pub images: Option<Blocked>,
}

/// A node that waits, with what the rules ask of it.
pub struct Candidate<'c> {
    pub fleet: &'c Fleet<'c>,
    /// The ledger with the nodes that were admitted before.
    pub rollout: &'c Rollout,
    /// What the PodDisruptionBudgets allow beside these nodes.
    pub allowance: &'c Allowance<'c>,
    pub member: &'c Member<'c>,
    pub record: &'c NodeRollout,
}

/// Nodes that are admitted together or not at all, in the order of admission.
pub struct Unit<'m, 'a> {
    pub members: Vec<(&'m Member<'a>, &'m NodeRollout)>,
}

impl Candidate<'_> {
    /// Whether another try was asked for and has not begun yet.
    fn retries(&self) -> bool {
        let request = self.member.node.ours.request;
        request.is_some_and(|request| request == Request::Retry && !request.is_handled(self.record))
    }

    /// Whether the CXIDriver waits for nothing of this node: KMM has acted on labels that were changed by hand, and to wait would not
    /// keep anything in service.
    fn is_put_right(&self) -> bool {
        self.fleet.closed.is_none() && self.member.repair && drift::kmm_has_acted(self.member.node, self.record)
    }
}

/// Enters into the ledger the nodes that may go, and says of the others why not.
pub fn admit<'a>(
    scope: &Scope<'a>,
    rollout: &mut Rollout,
    members: &[Member<'a>],
    standing: &Standing<'_>,
) -> Map<&'a str, Blocked> {
    let mut verdicts = Map::default();
    let in_flight = ledger::names(rollout);
    let units = order::units(scope, &in_flight, members);
    let mut capacity = Capacity::new(scope, rollout, &in_flight, members);
    let preflight = scope.intent.asks_for_all_images;
    let fleet = Fleet {
        scope,
        closed: standing.closed(scope),
        obstacle: standing.obstacle.as_ref(),
        images: preflight.then(|| image::of_fleet(scope, members)).flatten().map(|(_, blocked)| blocked),
    };
    for unit in units {
        if let Some((node, blocked)) = refused(&fleet, rollout, &capacity, &unit) {
            verdicts.extend(unit.members.iter().map(|(member, _)| {
                let other = member.node.name.as_str();
                (other, if other == node { blocked.clone() } else { with(node, &blocked) })
            }));
            continue;
        }
        capacity.take(scope, &unit);
        rollout.in_flight.extend(unit.members.iter().map(|(member, record)| InFlight {
            node: member.node.name.clone(),
            uid: member.node.uid.clone(),
            attempt: record.next_attempt(),
            admitted_at: scope.now,
        }));
    }
    verdicts
}

/// The node for which a unit may not be admitted, and why.
fn refused<'a>(
    fleet: &Fleet<'_>,
    rollout: &Rollout,
    capacity: &Capacity<'_>,
    unit: &Unit<'_, 'a>,
) -> Option<(&'a str, Blocked)> {
    let mut put_right = true;
    for (member, record) in &unit.members {
        let candidate = Candidate { fleet, rollout, allowance: &capacity.allowance, member, record };
        if let Some(blocked) = rules::first(&candidate) {
            return Some((&member.node.name, blocked));
        }
        put_right &= candidate.is_put_right();
    }
    let (first, _) = unit.members.first()?;
    Some((&first.node.name, capacity.full(fleet.scope, rollout, unit, put_right)?))
}

/// What another node of a unit waits for.
fn with(node: &str, blocked: &Blocked) -> Blocked {
    let message = format!("the node is moved together with node {node}: {}", blocked.message);
    Blocked::new(blocked.reason, message).on("Node", node)
}
