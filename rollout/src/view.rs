//! The world with what is looked up in it for node after node, worked out once per plan: nothing in a plan may grow faster than the
//! cluster.

use std::ops::Deref;

use cxi_api::{NodeRollout, RevisionId, names::label_value};

use crate::{
    intent::{Intent, Invalid},
    maps::Map,
    node::{
        disruption::Budgets,
        seen::{Reader, Seen},
    },
    preflight::question::Question,
    world::{Driver, Revision, World},
};

/// See the module.
pub struct View<'a> {
    world: &'a World,
    /// All nodes, by name.
    pub seen: Vec<Seen<'a>>,
    owned: Map<&'a str, Vec<usize>>,
    unreadable: Vec<usize>,
    revisions: Map<&'a RevisionId, Vec<Known<'a>>>,
    intents: Map<&'a str, Result<Intent<'a>, Invalid>>,
    questions: Vec<Question<'a>>,
    /// Which PodDisruptionBudgets cover which pod.
    pub budgets: Budgets<'a>,
}

/// A Module with the value of the label that names its release.
pub struct Known<'a> {
    pub revision: &'a Revision,
    pub label: String,
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
        let mut revisions: Map<&RevisionId, Vec<Known<'_>>> = Map::default();
        for revision in &world.revisions {
            let known = Known { revision, label: label_value(&revision.version) };
            revisions.entry(&revision.id).or_default().push(known);
        }
        let mut reader = Reader::new(world);
        let seen: Vec<Seen<'_>> = world.nodes.values().map(|node| reader.see(node)).collect();
        let mut owned: Map<&str, Vec<usize>> = Map::default();
        for (place, node) in seen.iter().enumerate() {
            if let Some(owner) = node.owner {
                owned.entry(owner).or_default().push(place);
            }
        }
        Self {
            world,
            owned,
            unreadable: (0..seen.len()).filter(|place| seen[*place].unreadable.is_some()).collect(),
            seen,
            revisions,
            intents: world.drivers.iter().map(|driver| (driver.name.as_str(), Intent::of(driver))).collect(),
            questions: world.preflights.iter().map(Question::of).collect(),
            budgets: Budgets::new(&world.disruption_budgets),
        }
    }

    /// The nodes that a CXIDriver owns, by name.
    pub fn nodes_of(&self, driver: &str) -> impl ExactSizeIterator<Item = &Seen<'a>> {
        self.owned.get(driver).map_or(&[][..], Vec::as_slice).iter().map(|place| &self.seen[*place])
    }

    /// The nodes that cannot be read.
    pub fn unreadable_nodes(&self) -> impl Iterator<Item = &Seen<'a>> {
        self.unreadable.iter().map(|place| &self.seen[*place])
    }

    /// The Module of a CXIDriver's revision; none for a revision that the host brings, and none that belongs to another CXIDriver:
    /// names of revisions are short, and may meet.
    pub fn known(&self, driver: &str, id: &RevisionId) -> Option<&Known<'a>> {
        self.revisions.get(id)?.iter().find(|known| known.revision.driver == driver)
    }

    /// See [`Self::known`].
    pub fn revision(&self, driver: &str, id: &RevisionId) -> Option<&'a Revision> {
        self.known(driver, id).map(|known| known.revision)
    }

    /// The CXIDriver other than `driver` whose Module has the name that the revision's Module would have.
    pub fn taken_by(&self, driver: &str, id: &RevisionId) -> Option<&'a str> {
        let mut known = self.revisions.get(id)?.iter().map(|known| known.revision.driver.as_str());
        known.find(|other| *other != driver)
    }

    /// What a CXIDriver asks for, if that can be.
    pub fn intent(&self, driver: &str) -> Option<&Intent<'a>> {
        self.intents.get(driver)?.as_ref().ok()
    }

    /// All CXIDrivers that can be read, with what each asks for.
    pub fn drivers(&self) -> impl Iterator<Item = (&'a Driver, &Result<Intent<'a>, Invalid>)> {
        self.world.drivers.iter().filter_map(|driver| Some((driver, self.intents.get(driver.name.as_str())?)))
    }

    /// All CXIPreflights, the oldest first.
    pub fn questions(&self) -> impl Iterator<Item = &Question<'a>> {
        self.questions.iter()
    }

    /// Whether a node was verified under this revision with a driver that its host brought.
    pub fn was_of_host(&self, record: &NodeRollout, id: &RevisionId) -> bool {
        record.host_revision.as_ref() == Some(id) && self.revision(&record.driver, id).is_none()
    }
}
