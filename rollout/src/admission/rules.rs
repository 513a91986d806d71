//! What may stand against the admission of a node: rules in the order in which they are asked. The first that objects is what an
//! administrator is told, so the order is policy: what nothing can be done about comes first, what time heals comes last.

mod agent;
mod back_off;
mod closed;
mod disruption;
mod failure;
mod foreign_driver;
mod halt;
mod holders;
mod images;
mod node;
mod obstacle;
mod pause;
mod preflight;
mod request;
mod strategy;

use super::Candidate;
use crate::blocked::Blocked;

/// Why a node is not admitted; nothing when the rule does not object.
type Rule = fn(&Candidate<'_>) -> Option<Blocked>;

/// Holds for every node, also for one whose labels have to be put right.
const ALWAYS: &[Rule] = &[foreign_driver::rule];

const RULES: &[Rule] = &[
    closed::rule,
    obstacle::rule,
    request::rule,
    node::rule,
    failure::rule,
    halt::rule,
    back_off::rule,
    pause::rule,
    strategy::rule,
    preflight::rule,
    images::rule,
    agent::rule,
    holders::rule,
    disruption::rule,
];

/// What the first rule that objects says.
pub fn first(candidate: &Candidate<'_>) -> Option<Blocked> {
    let first = |rules: &[Rule]| rules.iter().find_map(|rule| rule(candidate));
    first(ALWAYS).or_else(|| if candidate.is_put_right() { None } else { first(RULES) })
}
