//! A node's record as a step changes it.

use std::ops::{Deref, DerefMut};

use cxi_api::NodeRollout;

/// A record that is copied when it changes for the first time. Most nodes rest, and their records stay as they are: what looks at
/// every resting node takes a `&mut Draft`, because a `&mut NodeRollout` made of it is a copy already.
pub struct Draft<'a> {
    stored: &'a NodeRollout,
    copy: Option<Box<NodeRollout>>,
}

impl<'a> Draft<'a> {
    /// A record as it is stored.
    pub fn of(stored: &'a NodeRollout) -> Self {
        Self { stored, copy: None }
    }

    /// The record as it is now, if it is another.
    pub fn changed(self) -> Option<Box<NodeRollout>> {
        self.copy.filter(|copy| **copy != *self.stored)
    }
}

impl Deref for Draft<'_> {
    type Target = NodeRollout;

    fn deref(&self) -> &NodeRollout {
        self.copy.as_deref().unwrap_or(self.stored)
    }
}

impl DerefMut for Draft<'_> {
    fn deref_mut(&mut self) -> &mut NodeRollout {
        self.copy.get_or_insert_with(|| Box::new(self.stored.clone()))
    }
}
