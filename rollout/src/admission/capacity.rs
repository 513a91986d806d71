//! How many more nodes may be taken out of service: `maxUnavailable`, PodDisruptionBudgets, what KMM can do at once, and the room in the
//! ledger.

use cxi_api::{Reason, driver_status::Rollout};

use super::{
    Unit,
    stake::{Stake, counts, is_skipped, stake},
};
use crate::{
    blocked::Blocked,
    driver::{
        ledger,
        scope::{Member, Scope},
    },
    maps::Set,
    node::disruption::Allowance,
};

/// How many nodes may be in flight at once although the budget does not bound them (they have nothing to lose). KMM's client
/// sends 20 requests a second (client-go's default, which KMM does not change) and needs about six for a node; with many
/// more at once, loads would run into their time limit.
const NODES_AT_ONCE: usize = 16;

/// What is left.
pub struct Capacity<'a> {
    /// Evictions that the PodDisruptionBudgets still allow.
    pub allowance: Allowance<'a>,
    budget: usize,
    unavailable: usize,
    room: ledger::Room,
}

impl<'a> Capacity<'a> {
    /// What the nodes in flight and those out of service leave.
    pub fn new(scope: &Scope<'a>, rollout: &Rollout, in_flight: &Set<&str>, members: &[Member<'_>]) -> Self {
        let mut allowance = Allowance::new(&scope.world.budgets);
        for member in members.iter().filter(|member| in_flight.contains(member.node.name.as_str())) {
            allowance.take(&member.node.holders);
        }
        let counted = members.iter().filter(|member| !is_skipped(member)).count();
        // A node that cannot be read and is not owned may be one of these.
        Self {
            allowance,
            budget: scope.intent.strategy.budget.of(counted),
            unavailable: members.iter().filter(|member| counts(scope, in_flight, member)).count()
                + scope.hidden().filter(|node| node.owner.is_none()).count(),
            room: ledger::Room::left_by(rollout),
        }
    }

    /// Why a unit does not fit, if it does not. One that is put right takes no place in service: only the ledger has to have room.
    pub fn full(&self, scope: &Scope<'_>, rollout: &Rollout, unit: &Unit<'_, '_>, put_right: bool) -> Option<Blocked> {
        let says = |message: &str| Some(Blocked::new(Reason::Budget, message));
        if !self.room.fits(unit.members.iter().map(|(member, _)| member.node.node())) {
            return says(ledger::FULL);
        }
        if put_right {
            return None;
        }
        let in_flight = rollout.in_flight.len();
        let (mut more, mut already, mut jobs) = (0, 0, false);
        for (member, record) in &unit.members {
            match stake(scope, member, record) {
                Stake::Service { counted: false } => more += 1,
                Stake::Service { counted: true } => already += 1,
                Stake::Jobs => jobs = true,
                Stake::Nothing => {}
            }
        }
        let size = unit.members.len();
        // Numbers change all the time; the record should not.
        let unavailable = "the node waits until fewer nodes are unavailable (updateStrategy.maxUnavailable)";
        // Those that count already are back by themselves, unless they are moved.
        let serving = more + already;
        if serving > 0 && (self.unavailable - already) + serving > self.budget {
            return says(unavailable);
        }
        if jobs && in_flight + size > self.budget {
            return says(unavailable);
        }
        if in_flight + size > self.budget.max(NODES_AT_ONCE) {
            return says("the node waits until fewer nodes are in flight: KMM loads drivers on a few nodes at a time");
        }
        None
    }

    /// A unit was admitted.
    pub fn take(&mut self, scope: &Scope<'_>, unit: &Unit<'_, '_>) {
        for (member, record) in &unit.members {
            if stake(scope, member, record) == (Stake::Service { counted: false }) {
                self.unavailable += 1;
            }
            self.allowance.take(&member.node.holders);
            self.room.take(member.node);
        }
    }
}
