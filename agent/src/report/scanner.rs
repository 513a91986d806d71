//! Looks at the node again and again, and at once when there is a new question.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use cxi_api::Timestamp;
use cxi_hardware::AttributeError;
use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, error, info, warn};

use crate::report::{
    node::NodeView,
    scan::{NodeScan, NodeScanError},
};

/// A look that takes longer hangs in the kernel; nothing is reported until it comes back.
const LOOK_LIMIT: Duration = Duration::from_secs(10);

/// A look, and what was known before it began.
#[derive(Clone, Debug)]
pub(super) struct Taken {
    /// The CXINode before the look began: the look answers its `since` and no later one.
    pub(super) view: NodeView,
    /// When it began, by the node's clock.
    pub(super) at: Timestamp,
    /// What was seen.
    pub(super) look: NodeScan,
}

/// The task that looks.
pub(super) struct Scanner {
    /// Time between the beginnings of two looks.
    pub(super) interval: Duration,
    /// What is known of the CXINode.
    pub(super) view: watch::Receiver<NodeView>,
    /// Where looks go; a failed one goes nowhere.
    pub(super) looks: watch::Sender<Option<Arc<Taken>>>,
}

impl Scanner {
    /// Looks with `look`, which is told what is known, until the receiver of looks or the sender of what is known of
    /// the CXINode is dropped.
    pub(super) async fn run(
        mut self,
        mut look: impl FnMut(&NodeView) -> Result<NodeScan, NodeScanError> + Send + 'static,
    ) {
        let mut said = Said::default();
        loop {
            let began = Instant::now();
            let view = self.view.borrow_and_update().clone();
            let at = cxi_node::clock::now();
            let known = view.clone();
            let mut looking = spawn_blocking(move || {
                let result = look(&known);
                (look, result)
            });
            let finished = if let Ok(finished) = timeout(LOOK_LIMIT, &mut looking).await {
                finished
            } else {
                error!(limit = ?LOOK_LIMIT, "the kernel does not answer: nothing is reported until it does");
                looking.await
            };
            // A look that panicked ends the task, and with it the report.
            let Ok((again, result)) = finished else { return };
            look = again;
            said.about(&result);
            if let Ok(look) = result {
                self.looks.send_replace(Some(Arc::new(Taken { view: view.clone(), at, look })));
            }
            tokio::select! {
                () = sleep_until(began + self.interval) => {}
                open = another_question(&mut self.view, &view) => if !open { return },
                () = self.looks.closed() => return,
            }
        }
    }
}

/// Waits until the CXINode asks something else than `asked`; false when the sender is dropped.
async fn another_question(view: &mut watch::Receiver<NodeView>, asked: &NodeView) -> bool {
    let asked = asked.question();
    view.wait_for(|view| view.question() != asked).await.is_ok()
}

/// What was logged, so that it is said once.
#[derive(Debug, Default)]
struct Said {
    /// Whether a look ever succeeded, or failed twice in a row: at the start what it reads may not be there yet.
    begun: bool,
    failing: bool,
    misses: bool,
    problems: BTreeSet<String>,
}

impl Said {
    fn about(&mut self, result: &Result<NodeScan, NodeScanError>) {
        let look = match result {
            Ok(look) => look,
            Err(error) => {
                let error = cxi_node::log::chain(error);
                if !self.begun {
                    self.begun = true;
                    debug!(error, "cannot look at the node yet");
                    return;
                }
                if !self.failing {
                    error!(error, "cannot look at the node: nothing is reported until it works");
                }
                self.failing = true;
                return;
            }
        };
        self.begun = true;
        if std::mem::take(&mut self.failing) {
            info!("the node can be looked at again");
        }
        let misses = look.misses_a_user();
        if misses && !self.misses {
            let references = look.stack.references_to_devices();
            warn!(
                references,
                "the devices are in use and no process is found that has one open: is this the host's /proc? \
                 Until this is over, reports do not prove that the devices are free"
            );
        }
        self.misses = misses;
        let problems: BTreeSet<_> = look.problems.iter().map(AttributeError::to_string).collect();
        for problem in problems.difference(&self.problems) {
            warn!(problem, "an attribute has no usable value");
        }
        self.problems = problems;
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::mpsc};

    use cxi_hardware::{Boot, Root, Stack};

    use super::*;
    use crate::report::node::Known;

    fn phase(since: &str) -> NodeView {
        NodeView::Present(Known { uid: "u".into(), since: Some(since.parse().unwrap()), ..Known::default() })
    }

    fn nothing() -> NodeScan {
        NodeScan {
            boot: Boot { kernel: String::new(), boot_id: String::new() },
            stack: Stack::default(),
            open_files: Some(vec![]),
            nics: BTreeMap::new(),
            unidentified: vec![],
            problems: vec![],
            kernel_messages: vec![],
        }
    }

    #[tokio::test]
    async fn a_look_answers_the_phase_before_which_it_began_and_no_later_one() {
        let (first, second) = (phase("2026-01-01T00:00:01Z"), phase("2026-01-01T00:00:02Z"));
        let (view_sender, view) = watch::channel(first.clone());
        let (look_sender, mut looks) = watch::channel(None);
        let (began_sender, mut began) = tokio::sync::mpsc::unbounded_channel();
        let (finish, may_finish) = mpsc::channel();
        let looker = Scanner { interval: Duration::from_hours(1), view, looks: look_sender };
        let running = tokio::spawn(looker.run(move |_| {
            began_sender.send(()).unwrap();
            may_finish.recv().unwrap();
            Ok(nothing())
        }));
        began.recv().await.unwrap();
        view_sender.send_replace(second.clone());
        finish.send(()).unwrap();
        let mut next = async || {
            looks.changed().await.unwrap();
            looks.borrow_and_update().clone().unwrap().view.clone()
        };
        assert_eq!(next().await, first, "the phase changed while it looked");
        // Not after the interval: at once.
        began.recv().await.unwrap();
        finish.send(()).unwrap();
        assert_eq!(next().await, second);
        // What is no question, such as its own report coming back, does not wake it.
        let NodeView::Present(known) = second else { panic!("present") };
        view_sender.send_replace(NodeView::Present(Known { sequence: 7, ..known }));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(began.try_recv().is_err());
        drop(looks);
        running.await.unwrap();
    }

    /// Keeps what is logged.
    #[derive(Clone, Default)]
    struct Kept(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Kept {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_look_that_fails_at_the_start_is_an_error_only_when_the_next_one_fails_too() {
        let kept = Kept::default();
        let writer = kept.clone();
        let errors = || String::from_utf8(kept.0.lock().unwrap().clone()).unwrap().matches("ERROR").count();
        let empty = tempfile::tempdir().unwrap();
        let fails = || {
            Err(NodeScanError::Boot(
                Boot::read(&Root::new(empty.path(), empty.path()).with_proc(empty.path())).unwrap_err(),
            ))
        };
        let dispatch = cxi_node::log::dispatch(cxi_node::log::Format::Text, None, move || writer.clone());
        tracing::dispatcher::with_default(&dispatch, || {
            let mut said = Said::default();
            said.about(&fails());
            assert_eq!(errors(), 0, "the files may not be there yet");
            said.about(&fails());
            said.about(&fails());
            assert_eq!(errors(), 1, "said once");
            said.about(&Ok(nothing()));
            said.about(&fails());
            assert_eq!(errors(), 2, "after a look that succeeded");
        });
    }
}
