//! What is in the way of a CXIDriver as a whole. No node is admitted until it is gone.

use cxi_api::{
    Reason,
    names::{KMM_MAX_NAME, module_name},
    source::SOURCES_REQUIRED,
};

use crate::{
    driver::{agents, scope::Scope},
    intent::{Field, Invalid, Lack, Source},
};

/// What is in the way, and a sentence that says what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    pub kind: Kind,
    pub message: String,
}

/// What can be in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The admission policy that keeps node agents to their own nodes is not in force.
    AgentPolicyMissing,
    /// `source.image` is not set.
    ImageRepositoryRequired,
    /// `source.type` is dkms, and nothing says what to build.
    DriverSourceRequired,
    /// KMM is not installed or does not answer.
    KmmUnavailable,
    /// The namespace of the operator is longer than KMM allows.
    NamespaceTooLong,
    /// A field of the spec says what cannot be.
    Invalid(Field),
}

impl Kind {
    /// The reason of the condition `Blocked`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::AgentPolicyMissing => "AgentPolicyMissing",
            Self::ImageRepositoryRequired => "ImageRepositoryRequired",
            Self::DriverSourceRequired => "DriverSourceRequired",
            Self::KmmUnavailable => "KMMUnavailable",
            Self::NamespaceTooLong => "NamespaceTooLong",
            Self::Invalid(Field::MaxUnavailable) => "InvalidMaxUnavailable",
            Self::Invalid(Field::MaxFailed) => "InvalidMaxFailed",
            Self::Invalid(Field::RevisionHistoryLimit) => "InvalidRevisionHistoryLimit",
            Self::Invalid(Field::ValidationNics) => "InvalidValidation",
        }
    }

    /// The reason of `blockedBy` on the driver's nodes.
    pub fn reason(self) -> Reason {
        match self {
            Self::AgentPolicyMissing => Reason::AgentPolicyMissing,
            Self::KmmUnavailable => Reason::KmmUnavailable,
            Self::ImageRepositoryRequired | Self::DriverSourceRequired | Self::NamespaceTooLong | Self::Invalid(_) => {
                Reason::NotConfigured
            }
        }
    }
}

impl From<&Invalid> for Obstacle {
    fn from(invalid: &Invalid) -> Self {
        Self::new(Kind::Invalid(invalid.field), invalid.message())
    }
}

impl Obstacle {
    fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }

    /// What is in the way of a driver; the first of several.
    pub fn of(scope: &Scope<'_>) -> Option<Self> {
        if scope.driver.deleting {
            // What the spec lacks does not keep the operator from taking down what is loaded.
            let message = "KMM is not installed or does not answer: no driver is unloaded until then";
            let missing = !scope.world.kmm_present && !scope.intent.is_preinstalled();
            return missing.then(|| Self::new(Kind::KmmUnavailable, message));
        }
        let unguarded = agents::unguarded(scope.world.agent_policy);
        unguarded
            .map(|message| Self::new(Kind::AgentPolicyMissing, message))
            .or_else(|| if scope.intent.is_preinstalled() { None } else { of_kmm(scope) })
    }
}

/// What KMM needs and does not have.
fn of_kmm(scope: &Scope<'_>) -> Option<Obstacle> {
    let source = scope.intent.source;
    let namespace = &scope.world.namespace;
    let length = namespace.len() + module_name(&scope.intent.revision).len();
    if source == Source::Incomplete(Lack::Repository) {
        let message = "source.image is not set: name the repository of the driver images, or use source.type preinstalled if the \
                       hosts bring the driver";
        Some(Obstacle::new(Kind::ImageRepositoryRequired, message))
    } else if source == Source::Incomplete(Lack::Sources) {
        Some(Obstacle::new(Kind::DriverSourceRequired, SOURCES_REQUIRED))
    } else if !scope.world.kmm_present {
        let message = "KMM is not installed or does not answer: install Kernel Module Management 2.5 or newer; no node is changed \
                       until then";
        Some(Obstacle::new(Kind::KmmUnavailable, message))
    } else if length > KMM_MAX_NAME {
        let message = format!(
            "the operator's namespace {namespace:?} is too long: KMM allows {KMM_MAX_NAME} characters for the names of namespace and \
             Module together"
        );
        Some(Obstacle::new(Kind::NamespaceTooLong, message))
    } else {
        None
    }
}
