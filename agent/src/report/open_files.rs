//! When the processes of the node are searched for open devices.
//!
//! On a node with thousands of processes a search takes longer than the rest of a look, and most looks need none: while
//! no process has a device open, the driver has no reference to it, and each one that opens or closes it changes their
//! number.

use std::time::{Duration, Instant};

use cxi_api::Timestamp;
use cxi_hardware::{OpenFile, OpenFilesError, Root, open_files_behind};

use crate::report::node::NodeView;

/// The last search.
#[derive(Debug)]
pub(super) struct OpenFilesCache {
    /// How old an answer may be although nothing told of a change.
    oldest: Duration,
    last: Option<Searched>,
}

/// What a search found, and what was known before it began.
#[derive(Debug)]
struct Searched {
    at: Instant,
    question: Question,
    references: u32,
    found: Vec<OpenFile>,
}

/// [`NodeView::question`].
type Question = Option<(String, Option<Timestamp>)>;

impl OpenFilesCache {
    /// No search yet; later no answer is older than `oldest`.
    pub(super) fn new(oldest: Duration) -> Self {
        Self { oldest, last: None }
    }

    /// Who has a device open, of which the driver counts `references`; `None` where the view does not ask.
    ///
    /// # Errors
    /// When a search is due and fails.
    pub(super) fn look(
        &mut self,
        root: &Root,
        view: &NodeView,
        references: u32,
        now: Instant,
    ) -> Result<Option<Vec<OpenFile>>, OpenFilesError> {
        if view.question().is_none() {
            return Ok(None);
        }
        if self.is_due(view, references, now) {
            // What was found before is no answer any more, also when this fails.
            self.last = None;
            let found = open_files_behind(root, references)?;
            self.last = Some(Searched { at: now, question: question(view), references, found });
        }
        Ok(self.last.as_ref().map(|last| last.found.clone()))
    }

    fn is_due(&self, view: &NodeView, references: u32, now: Instant) -> bool {
        let Some(last) = &self.last else { return true };
        let free = references == 0 && last.found.is_empty();
        view.rests_on_holders()
            || last.question != question(view)
            || last.references != references
            || !free && now.duration_since(last.at) >= self.oldest
    }
}

fn question(view: &NodeView) -> Question {
    view.question().map(|(uid, since)| (uid.to_owned(), since))
}

#[cfg(test)]
mod tests {
    use cxi_api::Phase;
    use cxi_hardware::NicName;

    use super::*;
    use crate::report::node::Known;

    const OLDEST: Duration = Duration::from_secs(20);

    fn view(phase: Phase, since: &str) -> NodeView {
        let since = Some(since.parse().unwrap());
        NodeView::Present(Known { uid: "u".into(), since, phase: Some(phase), ..Known::default() })
    }

    #[test]
    fn a_search_is_due_when_its_answer_can_matter() {
        let began = Instant::now();
        let at = |seconds| began + Duration::from_secs(seconds);
        let (since, later) = ("2026-01-01T00:00:01Z", "2026-01-01T00:00:02Z");
        let waiting = view(Phase::Waiting, since);
        let open = OpenFile { pid: 1, command: "app".into(), device: NicName::new(0), pod_uid: None };
        let after = |references, found: &[OpenFile]| {
            let last = Searched { at: began, question: question(&waiting), references, found: found.to_vec() };
            OpenFilesCache { oldest: OLDEST, last: Some(last) }
        };
        let job = after(2, std::slice::from_ref(&open));
        assert!(OpenFilesCache::new(OLDEST).is_due(&waiting, 0, began), "the first");
        assert!(!job.is_due(&waiting, 2, at(1)));
        assert!(job.is_due(&waiting, 3, at(1)), "a process opened one");
        assert!(job.is_due(&waiting, 1, at(1)), "a process closed one");
        assert!(job.is_due(&waiting, 2, at(20)), "one process for another");
        assert!(job.is_due(&view(Phase::Waiting, later), 2, at(1)), "a new question");
        assert!(job.is_due(&view(Phase::Evicting, since), 2, at(1)));

        let free = after(0, &[]);
        assert!(!free.is_due(&waiting, 0, at(1000)), "no process has one open without a reference");
        assert!(free.is_due(&view(Phase::Quiesced, since), 0, at(1)), "but it is proved twice");
        assert!(free.is_due(&view(Phase::Waiting, later), 0, at(1)));
        assert!(after(0, &[open]).is_due(&waiting, 0, at(20)), "it was being closed");
        assert!(after(1, &[]).is_due(&waiting, 1, at(20)), "a user was not found");
    }

    #[test]
    fn a_look_that_is_not_asked_does_not_search_and_a_search_that_fails_is_no_answer() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new(directory.path(), directory.path()).with_proc(directory.path());
        let nowhere = root.clone().with_proc("/nowhere");
        let mut search = OpenFilesCache::new(OLDEST);
        for view in [NodeView::Unknown, NodeView::Absent] {
            assert_eq!(search.look(&nowhere, &view, 7, Instant::now()).unwrap(), None);
        }
        let resting = view(Phase::UpToDate, "2026-01-01T00:00:01Z");
        assert_eq!(search.look(&root, &resting, 1, Instant::now()).unwrap(), Some(vec![]));
        assert_eq!(search.look(&nowhere, &resting, 1, Instant::now()).unwrap(), Some(vec![]), "it is not due");
        search.look(&nowhere, &resting, 2, Instant::now()).unwrap_err();
        search.look(&nowhere, &resting, 1, Instant::now()).unwrap_err();
    }
}
