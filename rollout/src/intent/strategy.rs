//! How nodes move from one revision to the next.

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use cxi_api::{
    Validation,
    strategy::{self, Budget, DrainPolicy, OnTimeout, UpdateStrategy, UpdateType, ValidatedNodes},
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::{Field, Invalid};
use crate::{
    node::selector::{self, Understood},
    world::Holder,
};

/// See the module.
#[derive(Debug)]
pub struct Strategy<'a> {
    /// Whether the operator moves nodes by itself, or when asked.
    pub kind: UpdateType,
    /// How many nodes may be unavailable at once.
    pub budget: Budget,
    /// Whether a node on which a revision fails goes back to its last one.
    pub rolls_back: bool,
    /// How long links and devices may take after a load.
    pub health_check_timeout: Duration,
    /// With how many failed nodes the rollout halts.
    pub max_failed: NonZeroU32,
    /// How pods leave a node.
    pub drain: Drain<'a>,
    /// What each node with another driver has to pass.
    pub test_of_nodes: Option<Test>,
    /// What a canary node has to pass.
    pub test_of_canaries: Option<Test>,
}

/// How pods that hold a NIC leave a node.
#[derive(Debug)]
pub struct Drain<'a> {
    pub policy: DrainPolicy,
    /// How long a node waits for its pods to end.
    pub wait_timeout: Duration,
    /// How long evictions may take.
    pub evict_timeout: Duration,
    /// The longest grace period that a node waits for.
    pub max_grace_period: Duration,
    pub on_timeout: OnTimeout,
    /// Pods that are never evicted.
    pub protected: Protected<'a>,
}

/// Pods that are never evicted.
#[derive(Debug)]
pub enum Protected<'a> {
    None,
    /// Those that the selector matches in these namespaces; everywhere, if no namespace is named.
    Pods {
        selector: Understood<'a>,
        namespaces: &'a [String],
    },
    /// All in these namespaces, because it is not known which are meant. Why the selector cannot be understood.
    All {
        why: String,
        namespaces: &'a [String],
    },
}

/// A test that a node has to pass before jobs get there.
#[derive(Clone, Debug)]
pub struct Test {
    pub pod: Arc<Validation>,
    /// How many NICs it needs; absent where it tests those that the node had before.
    pub nics: Option<usize>,
}

impl<'a> Strategy<'a> {
    pub(super) fn read(written: &'a UpdateStrategy) -> Result<Self, Invalid> {
        let max_failed = u32::try_from(written.max_failed).ok().and_then(NonZeroU32::new);
        let standing = written.validation.as_ref();
        let test = standing.map(|standing| Test::read(&standing.pod)).transpose()?;
        let every_node = standing.is_some_and(|standing| standing.on == ValidatedNodes::EveryNode);
        Ok(Self {
            kind: written.kind,
            budget: Budget::try_from(&written.max_unavailable).map_err(|_| {
                let value = match &written.max_unavailable {
                    IntOrString::Int(number) => number.to_string(),
                    IntOrString::String(word) => format!("{word:?}"),
                };
                Invalid::new(Field::MaxUnavailable, value)
            })?,
            rolls_back: written.rollback_on_failure,
            health_check_timeout: written.health_check_timeout.0,
            max_failed: max_failed.ok_or_else(|| Invalid::new(Field::MaxFailed, written.max_failed.to_string()))?,
            drain: Drain::read(&written.drain),
            test_of_nodes: test.clone().filter(|_| every_node),
            test_of_canaries: test,
        })
    }
}

impl<'a> Drain<'a> {
    fn read(written: &'a strategy::Drain) -> Self {
        let namespaces = &written.protected_namespaces;
        Self {
            policy: written.policy,
            wait_timeout: written.wait_timeout.0,
            evict_timeout: written.evict_timeout.0,
            max_grace_period: written.max_grace_period.0,
            on_timeout: written.on_timeout,
            protected: match written.protected_pods.as_ref().map(selector::understand) {
                None => Protected::None,
                Some(Ok(selector)) => Protected::Pods { selector, namespaces },
                Some(Err(why)) => Protected::All { why, namespaces },
            },
        }
    }
}

impl Protected<'_> {
    /// By what a pod is protected, if it is.
    pub fn why(&self, pod: &Holder) -> Option<String> {
        let counts = |namespaces: &[String]| namespaces.is_empty() || namespaces.contains(&pod.namespace);
        match self {
            Self::Pods { selector, namespaces } if counts(namespaces) && selector.matches(&pod.labels) => {
                Some("drain.protectedPods".to_owned())
            }
            Self::All { why, namespaces } if counts(namespaces) => {
                Some(format!("drain.protectedPods cannot be understood, so it protects every pod: {why}"))
            }
            Self::None | Self::Pods { .. } | Self::All { .. } => None,
        }
    }
}

impl Test {
    pub(super) fn read(written: &Validation) -> Result<Self, Invalid> {
        let count = |nics: i32| {
            let count = usize::try_from(nics).ok().filter(|nics| *nics > 0);
            count.ok_or_else(|| Invalid::new(Field::ValidationNics, nics.to_string()))
        };
        Ok(Self { nics: written.nics.map(count).transpose()?, pod: Arc::new(written.clone()) })
    }
}
