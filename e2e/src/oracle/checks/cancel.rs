//! I9: a node that comes back before its unload began kept its driver.

use std::collections::BTreeMap;

use cxi_api::{Phase, Timestamp};

use crate::{
    oracle::{
        judge::{Check, Found, Invariant},
        world::{Change, World},
    },
    truth::Fact,
};

/// A transaction that may still be taken back.
struct Try {
    /// What happened to the driver since it began.
    touched: Option<String>,
    /// Whether the machine booted, which is nobody's reload.
    booted: bool,
}

#[derive(Default)]
pub(crate) struct Cancel {
    tries: BTreeMap<String, Try>,
}

impl Check for Cancel {
    fn observe(&mut self, world: &World, change: &Change, at: Timestamp, found: &mut Found) {
        match change {
            Change::Cxi { name, after, .. } => {
                let phase = after.as_ref().and_then(|after| after.rollout.as_ref()).map(|rollout| rollout.phase);
                match phase {
                    Some(phase) if phase.is_cancellable() => {
                        self.tries.entry(name.clone()).or_insert(Try { touched: None, booted: false });
                    }
                    Some(Phase::Returning | Phase::UpToDate | Phase::Pending) => {
                        let given_back = self.tries.remove(name).filter(|attempt| !attempt.booted);
                        if let Some(what) = given_back.and_then(|attempt| attempt.touched)
                            && !world.labels_by_hand(at, name)
                        {
                            let message = format!("{name} came back without an unload, but {what}");
                            found.tell(at, Invariant::Cancel, message);
                        }
                    }
                    // Past the point of no return, or gone.
                    _ => {
                        self.tries.remove(name);
                    }
                }
            }
            Change::Truth(record) => {
                let Some(attempt) = self.tries.get_mut(&record.node) else { return };
                match &record.fact {
                    Fact::Booted { .. } => attempt.booted = true,
                    Fact::Loaded { owner, .. } => attempt.touched = Some(format!("{owner} was loaded")),
                    Fact::Unloaded { owner, .. } => attempt.touched = Some(format!("{owner} was unloaded")),
                    _ => {}
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::checks::story::Story;
    use rstest::rstest;

    #[rstest]
    #[case::taken_back(&[Phase::Admitted, Phase::Closing], false, &[])]
    #[case::reloaded(&[Phase::Admitted, Phase::Closing], true, &[Invariant::Cancel])]
    #[case::moved(&[Phase::Closing, Phase::Unloading], true, &[])]
    fn a_node(#[case] phases: &[Phase], #[case] unloads: bool, #[case] violated: &[Invariant]) {
        let mut story = Story::begin(1);
        for phase in phases {
            story.phase("n1", *phase);
        }
        if unloads {
            let old = story.old.clone();
            story.unloaded("n1", &old);
        }
        story.phase("n1", Phase::Returning);
        story.phase("n1", Phase::UpToDate);
        assert_eq!(story.violated(), violated);
    }
}
