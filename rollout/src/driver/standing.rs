//! What is in the way of a CXIDriver whose nodes are looked after.

use crate::driver::{obstacle::Obstacle, scope::Scope, selection::Collapse};

/// What is in the way of a CXIDriver whose nodes are looked after.
pub struct Standing<'a> {
    /// Another CXIDriver.
    pub conflict: Option<&'a String>,
    /// Something that it needs and that is not there.
    pub obstacle: Option<Obstacle>,
    /// Too many nodes that are not selected any more.
    pub collapse: Option<Collapse<'a>>,
}

/// Why no node of a CXIDriver may be admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// Another CXIDriver selects its nodes, or owns them.
    Conflict,
    /// It is being deleted, and its driver is left where it is.
    Orphaning,
}

impl Standing<'_> {
    /// Whether nothing is in the way of bringing the nodes to what the spec describes.
    pub fn goes_on(&self, scope: &Scope<'_>) -> bool {
        !scope.driver.deleting && self.conflict.is_none() && self.obstacle.is_none()
    }

    /// Why none of the nodes may be admitted.
    pub fn closed(&self, scope: &Scope<'_>) -> Option<Closed> {
        let orphaning = scope.is_orphaning().then_some(Closed::Orphaning);
        self.conflict.map(|_| Closed::Conflict).or(orphaning)
    }
}
