//! The last known statistics of retry handlers, read in the background so that no scrape waits for one that hangs.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

use cxi_hardware::{
    NicName, Root,
    retry_handler::{Statistics, StatisticsError, StatisticsReader},
};

/// How long one round of readings waits for a retry handler that may just be busy. One that is known to hang is not
/// waited for.
const HANDLER_PATIENCE: Duration = Duration::from_secs(1);

/// Reads statistics when asked, on a thread of its own.
#[derive(Debug)]
pub struct Background(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    /// What the next round reads; `None` when no scrape asked since the last began.
    wanted: Option<Vec<NicName>>,
    /// Rounds asked for, begun and done.
    asked: u64,
    done: u64,
    ended: bool,
    known: BTreeMap<NicName, Known>,
}

/// What is known of one retry handler.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// The last statistics that were read, and when. They stay while the retry handler hangs, and go when it is gone.
    pub last: Option<(Instant, Statistics)>,
    /// Why there are none newer.
    pub error: Option<StatisticsError>,
}

/// A question that was asked.
#[derive(Clone, Copy, Debug)]
pub struct Asked(u64);

impl Background {
    /// Starts the thread. It ends with this value, or when its reading comes back.
    ///
    /// # Errors
    /// When no thread can be had.
    pub fn start(root: Root) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let background = Arc::clone(&shared);
        thread::Builder::new().name("statistics".into()).spawn(move || background.serve(&root))?;
        Ok(Self(shared))
    }

    /// Has the statistics of `devices` read; what was known of others is forgotten.
    pub fn ask(&self, devices: Vec<NicName>) -> Asked {
        let mut state = self.0.lock();
        state.wanted = Some(devices);
        state.asked += 1;
        self.0.changed.notify_all();
        Asked(state.asked)
    }

    /// What is known once that question is answered, or at `until`.
    pub fn known(&self, Asked(asked): Asked, until: Instant) -> BTreeMap<NicName, Known> {
        let state = self.0.lock();
        let limit = until.saturating_duration_since(Instant::now());
        let waited = self.0.changed.wait_timeout_while(state, limit, |state| state.done < asked);
        waited.unwrap_or_else(PoisonError::into_inner).0.known.clone()
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.0.lock().ended = true;
        self.0.changed.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, root: &Root) {
        let mut reader = StatisticsReader::default();
        loop {
            let idle = |state: &mut State| state.wanted.is_none() && !state.ended;
            let mut state = self.changed.wait_while(self.lock(), idle).unwrap_or_else(PoisonError::into_inner);
            if state.ended {
                return;
            }
            let (devices, round) = (state.wanted.take().unwrap_or_default(), state.asked);
            drop(state);
            let answers = reader.read(root, &devices, HANDLER_PATIENCE);
            let now = Instant::now();
            let mut state = self.lock();
            state.known.retain(|device, _| answers.contains_key(device));
            for (device, answer) in answers {
                state.known.entry(device).or_default().learn(answer, now);
            }
            state.done = round;
            self.changed.notify_all();
        }
    }
}

impl Known {
    fn learn(&mut self, answer: Result<Statistics, StatisticsError>, now: Instant) {
        match answer {
            Ok(statistics) => *self = Self { last: Some((now, statistics)), error: None },
            // It says nothing about the retry handler; what it said last may still hold.
            Err(error @ (StatisticsError::Hung { .. } | StatisticsError::NoThread { .. })) => self.error = Some(error),
            Err(error) => *self = Self { last: None, error: Some(error) },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use cxi_hardware::retry_handler::statistics_directory;

    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_mins(1)
    }

    /// A named pipe without a writer: opening it takes for ever, as a file of a hung handler does.
    fn hang(path: &Path) {
        let _ = fs::remove_file(path);
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn what_was_known_stays_while_the_retry_handler_hangs_and_goes_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::default().with_run(directory.path());
        let device = NicName::new(0);
        let statistics = statistics_directory(&root, device);
        fs::create_dir_all(&statistics).unwrap();
        fs::write(statistics.join("nacks"), "5\n").unwrap();
        let background = Background::start(root).unwrap();
        let read = || background.known(background.ask(vec![device]), soon()).remove(&device).unwrap();
        let first = read();
        assert_eq!(first.last.as_ref().unwrap().1.values, BTreeMap::from([("nacks", 5)]));
        assert_eq!(first.error, None);

        hang(&statistics.join("nacks"));
        for _ in 0..3 {
            let hung = read();
            assert_eq!(hung.last, first.last);
            assert!(matches!(hung.error, Some(StatisticsError::Hung { .. })), "{hung:?}");
        }

        // A writer, so that the reading that hangs comes back; then nothing is there.
        fs::write(statistics.join("nacks"), "6\n").unwrap();
        fs::remove_file(statistics.join("nacks")).unwrap();
        let until = soon();
        loop {
            let gone = read();
            if matches!(gone.error, Some(StatisticsError::Absent { .. })) {
                assert_eq!(gone.last, None);
                break;
            }
            assert!(Instant::now() < until, "{gone:?}");
            thread::sleep(Duration::from_millis(5));
        }
        assert!(background.known(background.ask(Vec::new()), soon()).is_empty(), "forgotten");
    }

    #[test]
    fn no_scrape_waits_longer_than_asked_for() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::default().with_run(directory.path());
        let statistics = statistics_directory(&root, NicName::new(0));
        fs::create_dir_all(&statistics).unwrap();
        hang(&statistics.join("nacks"));
        let background = Background::start(root).unwrap();
        let asked = background.ask(vec![NicName::new(0)]);
        assert!(background.known(asked, Instant::now()).is_empty());
    }
}
