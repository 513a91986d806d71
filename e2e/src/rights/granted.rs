//! Rights as the table says them, one by one.

use std::collections::BTreeMap;

use cxi_api::names::OPERATOR;
use cxi_manifests::{
    operands,
    rights::{OPERATOR_CLUSTER, OPERATOR_NAMESPACED, OPERATOR_OLM, Rule},
};

use crate::rights::{Right, Scope};

/// What goes with a right.
#[derive(Clone, Copy, Debug)]
pub struct Grant {
    /// Only objects of these names; all when empty.
    pub names: &'static [&'static str],
    /// What it is for.
    pub reason: &'static str,
}

/// All rights of all accounts that every installation grants. What a bundle adds for OLM and an overlay for OpenShift is not among
/// them: scenarios have neither.
pub fn granted() -> BTreeMap<Right, Grant> {
    let ours = [(OPERATOR, Scope::Cluster, OPERATOR_CLUSTER), (OPERATOR, Scope::Namespace, OPERATOR_NAMESPACED)];
    let of_operands = operands::rights().map(|(account, rules)| (account, Scope::Cluster, rules));
    let tables = ours.into_iter().chain(of_operands);
    let rules = tables.flat_map(|(account, scope, rules)| rules.iter().map(move |rule| (account, scope, rule)));
    rules.flat_map(|(account, scope, rule)| of_rule(account, scope, rule)).collect()
}

/// What a bundle adds for OLM. A scenario also runs the operator as OLM does, but without these, and sees it refused.
pub fn granted_by_olm() -> BTreeMap<Right, Grant> {
    OPERATOR_OLM.iter().flat_map(|rule| of_rule(OPERATOR, Scope::Cluster, rule)).collect()
}

fn of_rule(account: &str, scope: Scope, rule: &'static Rule) -> Vec<(Right, Grant)> {
    let right = |resource: &str, verb: &str| Right {
        account: account.to_owned(),
        scope,
        group: rule.group.to_owned(),
        resource: resource.to_owned(),
        verb: verb.to_owned(),
    };
    let pairs = rule.resources.iter().flat_map(|resource| rule.verbs.iter().map(move |verb| (*resource, *verb)));
    pairs.map(|(resource, verb)| (right(resource, verb), Grant { names: rule.names, reason: rule.reason })).collect()
}
