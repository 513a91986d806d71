//! The world with what is looked up in it for node after node, worked out once per plan: nothing in a plan may grow faster than the
//! cluster.

use std::{collections::HashMap, ops::Deref};

use cxi_api::{NodeRollout, RevisionId};

use crate::{
    node::disruption::Budgets,
    world::{Driver, Preflight, Revision, World},
};

/// See the module.
pub struct View<'a> {
    world: &'a World,
    revisions: HashMap<&'a str, Vec<&'a Revision>>,
    targets: HashMap<&'a str, (&'a Driver, RevisionId)>,
    /// Which PodDisruptionBudgets cover which pod.
    pub budgets: Budgets<'a>,
}

impl Deref for View<'_> {
    type Target = World;

    fn deref(&self) -> &World {
        self.world
    }
}

impl<'a> View<'a> {
    /// Looks at the world once.
    pub fn new(world: &'a World) -> Self {
        let target = |driver: &'a Driver| (driver, driver.spec.revision(&driver.name));
        let mut revisions: HashMap<&str, Vec<&Revision>> = HashMap::new();
        for revision in &world.revisions {
            revisions.entry(revision.id.as_str()).or_default().push(revision);
        }
        Self {
            world,
            revisions,
            targets: world.drivers.iter().map(|driver| (driver.name.as_str(), target(driver))).collect(),
            budgets: Budgets::new(&world.disruption_budgets),
        }
    }

    /// The Module of a CXIDriver's revision; none for a revision that the host brings, and none that belongs to another CXIDriver:
    /// names of revisions are short, and may meet.
    pub fn revision(&self, driver: &str, id: &RevisionId) -> Option<&'a Revision> {
        let known = self.revisions.get(id.as_str())?;
        known.iter().copied().find(|revision| revision.driver == driver)
    }

    /// The CXIDriver other than `driver` whose Module has the name that the revision's Module would have.
    pub fn taken_by(&self, driver: &str, id: &RevisionId) -> Option<&'a str> {
        let known = self.revisions.get(id.as_str())?;
        known.iter().copied().find(|revision| revision.driver != driver).map(|revision| revision.driver.as_str())
    }

    /// A CXIDriver with the revision that its spec describes.
    pub fn target(&self, driver: &str) -> Option<(&'a Driver, &RevisionId)> {
        self.targets.get(driver).map(|(driver, target)| (*driver, target))
    }

    /// All CXIPreflights, the oldest first.
    pub fn preflights(&self) -> impl Iterator<Item = &'a Preflight> + use<'a> {
        self.world.preflights.iter()
    }

    /// Whether a node was verified under this revision with a driver that its host brought.
    pub fn was_of_host(&self, record: &NodeRollout, id: &RevisionId) -> bool {
        record.host_revision.as_ref() == Some(id) && self.revision(&record.driver, id).is_none()
    }
}
