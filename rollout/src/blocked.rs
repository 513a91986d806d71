//! What a node waits for, as an administrator is told it.

use cxi_api::{ObjectInTheWay, Reason, transaction::WaitFor};

/// What a node waits for: a word, a sentence that says what would help, and the object in the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blocked {
    pub reason: Reason,
    pub message: String,
    pub object: Option<ObjectInTheWay>,
    /// What a time limit or a later decision depends on, and what exactly: the UID of a pod, or names.
    pub wait: Option<(WaitFor, String)>,
}

impl Blocked {
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into(), object: None, wait: None }
    }

    /// The object in the way.
    pub fn on(self, kind: &str, name: impl Into<String>) -> Self {
        let object = Some(ObjectInTheWay { kind: kind.into(), name: name.into() });
        Self { object, ..self }
    }

    /// What is waited for, with a time.
    pub fn awaits(self, what: WaitFor, object: impl Into<String>) -> Self {
        Self { wait: Some((what, object.into())), ..self }
    }
}
