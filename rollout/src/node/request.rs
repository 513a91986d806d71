//! What an administrator asks of a node by its label `cxi.hpe.com/upgrade`. It is read once, here.

use std::fmt;

use cxi_api::{NodeRollout, names::UPGRADE_LABEL};

use crate::world::Node;

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Leave the node out of rollouts.
    Skip,
    /// Move the node now, whatever the strategy or a pause between tries says.
    Now,
    /// Try again on a node that failed.
    Retry,
    /// Go back to the revision from before.
    Rollback,
    /// A value that means nothing.
    Unknown(&'a str),
}

impl<'a> Request<'a> {
    const KNOWN: [Self; 4] = [Self::Skip, Self::Now, Self::Retry, Self::Rollback];

    /// What is asked of a node, if anything is.
    pub fn of(node: &'a Node) -> Option<Self> {
        node.labels.get(UPGRADE_LABEL).map(|value| Self::named(value))
    }

    /// What a value of the label asks for.
    pub fn named(value: &'a str) -> Self {
        Self::KNOWN.into_iter().find(|known| known.as_str() == value).unwrap_or(Self::Unknown(value))
    }

    /// The value of the label.
    pub fn as_str(self) -> &'a str {
        match self {
            Self::Skip => "skip",
            Self::Now => "now",
            Self::Retry => "retry",
            Self::Rollback => "rollback",
            Self::Unknown(value) => value,
        }
    }

    /// Whether it asks for the node to be moved.
    pub fn moves(self) -> bool {
        matches!(self, Self::Now | Self::Retry | Self::Rollback)
    }

    /// Whether the record says that this was acted upon already. A request counts once.
    pub fn is_handled(self, record: &NodeRollout) -> bool {
        record.handled_request.as_deref() == Some(self.as_str())
    }

    /// What is wrong with the value, if it means nothing.
    pub fn fault(self) -> Option<String> {
        let Self::Unknown(value) = self else { return None };
        let known = Self::KNOWN.map(Self::as_str).join(", ");
        Some(format!(
            "label {UPGRADE_LABEL} of the node is {value:?}, which means nothing: set it to one of {known}, or remove it"
        ))
    }
}

/// What is wrong with the label of a node, if its value means nothing.
pub fn unknown(node: &Node) -> Option<String> {
    Request::of(node)?.fault()
}

impl fmt::Display for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
