//! How a CXIDriver changes its nodes: `spec.updateStrategy`.

use k8s_openapi::apimachinery::pkg::{apis::meta::v1::LabelSelector, util::intstr::IntOrString};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{duration::GoDuration, limits, validation::Validation};

/// How nodes move from one revision to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateStrategy {
    /// `RollingUpdate` moves nodes by itself, within `maxUnavailable`. `OnDelete` moves a node only when asked by the node
    /// label `cxi.hpe.com/upgrade=now`.
    #[serde(rename = "type")]
    pub kind: UpdateType,
    /// How many of the selected nodes may be unavailable at once, as a number or a percentage. A percentage rounds down but
    /// is at least 1. Nodes that are down for other reasons count. 0 freezes: no node is moved.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "type(self) == int ? self >= 0 && self <= 999999999 : self.matches('^([0-9]{1,9}|(100|[0-9]{1,2})%)$')", "message": "maxUnavailable must be a number from 0 to 999999999 or a percentage from 0% to 100%, such as 3 or \"10%\""}]))]
    pub max_unavailable: IntOrString,
    /// Whether a node on which the new revision fails goes back to the old one. Otherwise it stays closed.
    pub rollback_on_failure: bool,
    /// How long after loading links may take to come up and devices to be healthy again.
    pub health_check_timeout: GoDuration,
    /// How many nodes may fail before the rollout halts. Nothing new is admitted after that until the annotation
    /// `cxi.hpe.com/resume` names the rollout.
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self >= 1", "message": "maxFailed must be 1 or more"}]))]
    pub max_failed: i32,
    /// How pods that hold a NIC leave a node.
    pub drain: Drain,
    /// A test that a node with a new driver has to pass before jobs get there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<StandingValidation>,
}

/// A test that nodes have to pass, and which nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct StandingValidation {
    /// The pod.
    #[serde(flatten)]
    pub pod: Validation,
    /// Which nodes are tested: `EveryNode` that gets another driver, or only `Canaries`: the canary nodes of preflights.
    #[serde(default)]
    pub on: ValidatedNodes,
}

/// See [`StandingValidation::on`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum ValidatedNodes {
    /// Canary nodes.
    Canaries,
    /// All.
    #[default]
    EveryNode,
}

/// When nodes are moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum UpdateType {
    /// By itself.
    #[default]
    RollingUpdate,
    /// When asked.
    OnDelete,
}

/// How pods that hold a NIC leave a node. Other pods are not touched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Drain {
    /// `Evict` asks the Eviction API at once. `WaitThenEvict` waits for running pods up to `waitTimeout`, then evicts.
    /// `WaitForCompletion` never evicts. While a node waits it offers only the NICs that are in use.
    pub policy: DrainPolicy,
    /// How long a node waits for its pods to end (`WaitThenEvict`, `WaitForCompletion`).
    pub wait_timeout: GoDuration,
    /// How long evictions may take, PodDisruptionBudgets included. After it only grace periods that already run are waited for.
    pub evict_timeout: GoDuration,
    /// The longest grace period that a node waits for. A node with a pod that asks for more is not closed; with onTimeout `Force`
    /// the pod gets this much time.
    pub max_grace_period: GoDuration,
    /// What happens when pods are still there at the timeout: `GiveBack` returns the node on the old revision and tries
    /// again later, `Fail` counts it as failed, `Force` deletes the pods.
    pub on_timeout: OnTimeout,
    /// Pods that are never evicted. A node with such a pod waits until the pod has ended. An empty selector protects every pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "limits::label_selector")]
    pub protected_pods: Option<LabelSelector>,
    /// Namespaces in which `protectedPods` counts. Left out, it counts everywhere, and each tenant that may label pods may hold
    /// up a node.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 64), inner(length(min = 1, max = 63)), extend("x-kubernetes-validations" = [{"rule": "self.all(name, !format.dns1123Label().validate(name).hasValue())", "message": "protectedNamespaces must be names of namespaces: lower-case letters, digits and '-'"}]))]
    pub protected_namespaces: Vec<String>,
}

/// See [`Drain::policy`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum DrainPolicy {
    /// Evict at once.
    Evict,
    /// Wait, then evict.
    #[default]
    WaitThenEvict,
    /// Never evict.
    WaitForCompletion,
}

/// See [`Drain::on_timeout`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnTimeout {
    /// Return the node on the old revision.
    #[default]
    GiveBack,
    /// Count the node as failed.
    Fail,
    /// Delete the pods.
    Force,
}

// === impl UpdateStrategy ===

impl Default for UpdateStrategy {
    fn default() -> Self {
        Self {
            kind: UpdateType::default(),
            max_unavailable: IntOrString::String("10%".into()),
            rollback_on_failure: true,
            health_check_timeout: GoDuration::minutes(5),
            max_failed: 1,
            drain: Drain::default(),
            validation: None,
        }
    }
}

impl UpdateStrategy {
    /// How many of `nodes` may be unavailable at once. `None` when the field is nonsense (which the API server refuses).
    pub fn budget(&self, nodes: usize) -> Option<usize> {
        Budget::try_from(&self.max_unavailable).ok().map(|budget| budget.of(nodes))
    }
}

/// How many nodes may be unavailable at once: `maxUnavailable` when it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Budget {
    /// This many; 0 freezes.
    Count(usize),
    /// This many of a hundred, rounded down but at least one; 0 freezes.
    Percent(u8),
}

/// `maxUnavailable` is neither a number nor a percentage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoBudget;

impl TryFrom<&IntOrString> for Budget {
    type Error = NoBudget;

    fn try_from(written: &IntOrString) -> Result<Self, NoBudget> {
        let text = match written {
            IntOrString::Int(number) => return usize::try_from(*number).map(Self::Count).map_err(|_| NoBudget),
            IntOrString::String(text) => text,
        };
        match text.strip_suffix('%') {
            None => text.parse().map(Self::Count).map_err(|_| NoBudget),
            Some(percent) => match percent.parse() {
                Ok(percent) if percent <= 100 => Ok(Self::Percent(percent)),
                _ => Err(NoBudget),
            },
        }
    }
}

impl Budget {
    /// How many of `nodes` may be unavailable.
    pub fn of(self, nodes: usize) -> usize {
        match self {
            Self::Count(count) => count,
            Self::Percent(0) => 0,
            Self::Percent(percent) => (nodes * usize::from(percent) / 100).max(1),
        }
    }

    /// Whether no node may be moved.
    pub fn is_frozen(self) -> bool {
        matches!(self, Self::Count(0) | Self::Percent(0))
    }
}

impl Default for Drain {
    fn default() -> Self {
        Self {
            policy: DrainPolicy::default(),
            wait_timeout: GoDuration::hours(24),
            evict_timeout: GoDuration::minutes(30),
            max_grace_period: GoDuration::hours(1),
            on_timeout: OnTimeout::default(),
            protected_pods: None,
            protected_namespaces: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(IntOrString::String("10%".into()), 50, Some(5))]
    #[case(IntOrString::String("10%".into()), 6, Some(1))]
    #[case(IntOrString::String("0%".into()), 6, Some(0))]
    #[case(IntOrString::String("100%".into()), 6, Some(6))]
    #[case(IntOrString::String("3".into()), 6, Some(3))]
    #[case(IntOrString::Int(0), 6, Some(0))]
    #[case(IntOrString::Int(2), 6, Some(2))]
    #[case(IntOrString::Int(-1), 6, None)]
    #[case(IntOrString::String("101%".into()), 6, None)]
    #[case(IntOrString::String("many".into()), 6, None)]
    fn budgets(#[case] value: IntOrString, #[case] nodes: usize, #[case] expected: Option<usize>) {
        let strategy = UpdateStrategy { max_unavailable: value, ..UpdateStrategy::default() };
        assert_eq!(strategy.budget(nodes), expected);
    }
}
