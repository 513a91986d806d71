//! A right of an account, and what it is for.

use k8s_openapi::api::rbac::v1::PolicyRule;

/// A rule and its reason.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Resources.
    pub resources: &'static [&'static str],
    /// Verbs.
    pub verbs: &'static [&'static str],
    /// Only objects of these names; all when empty.
    pub names: &'static [&'static str],
    /// What it is for.
    pub reason: &'static str,
}

/// A rule for objects of all names.
pub const fn rule(
    group: &'static str,
    resources: &'static [&'static str],
    verbs: &'static [&'static str],
    reason: &'static str,
) -> Rule {
    Rule { group, resources, verbs, names: &[], reason }
}

impl Rule {
    /// The rule as RBAC has it.
    pub fn policy(&self) -> PolicyRule {
        let owned = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect::<Vec<_>>();
        PolicyRule {
            api_groups: Some(owned(&[self.group])),
            resources: Some(owned(self.resources)),
            verbs: owned(self.verbs),
            resource_names: (!self.names.is_empty()).then(|| owned(self.names)),
            ..PolicyRule::default()
        }
    }
}
