//! Reads statistics of retry handlers without ever waiting for one that hangs.
//!
//! A read from a file system in user space takes as long as its server likes, and the kernel aborts no read that
//! the server has begun. So each reading is a thread of its own, the caller waits only for a while, and a device
//! whose thread has not come back gets no second one.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError, sync_channel},
    thread,
    time::{Duration, Instant},
};

use super::{Statistics, statistics_directory};
use crate::{AttributeError, NicName, Root};

/// There are no statistics of a retry handler.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StatisticsError {
    /// None are there: no handler runs, or it runs without them, or they are not visible here.
    #[error("{}: no statistics of a retry handler", directory.display())]
    Absent {
        /// Where they would be.
        directory: PathBuf,
    },
    /// The handler died and left its mount behind.
    #[error("{}: the retry handler that served these statistics is gone", directory.display())]
    Gone {
        /// Where they were.
        directory: PathBuf,
    },
    /// The handler does not answer.
    #[error("{}: the retry handler does not answer", directory.display())]
    Hung {
        /// Where it serves them.
        directory: PathBuf,
    },
    /// They are there and not one of them has a value; this is one of the reasons.
    #[error(transparent)]
    Unreadable(AttributeError),
    /// No thread could be had for reading.
    #[error("start a thread to read {}", directory.display())]
    NoThread {
        /// What it was to read.
        directory: PathBuf,
    },
}

type Answer = Result<Statistics, StatisticsError>;

/// Reads statistics; keep one for the life of the process, since it knows which threads still hang.
#[derive(Debug, Default)]
pub struct StatisticsReader {
    hanging: BTreeMap<PathBuf, Receiver<Answer>>,
}

impl StatisticsReader {
    /// The statistics of `devices`, all of them within `limit`. Blocks the thread it is called on up to that.
    pub fn read(&mut self, root: &Root, devices: &[NicName], limit: Duration) -> BTreeMap<NicName, Answer> {
        self.read_with(root, devices, limit, |directory| Statistics::read(&directory))
    }

    fn read_with(
        &mut self,
        root: &Root,
        devices: &[NicName],
        limit: Duration,
        read: impl Fn(PathBuf) -> Answer + Clone + Send + 'static,
    ) -> BTreeMap<NicName, Answer> {
        let until = Instant::now() + limit;
        // A thread that came back meanwhile brings an answer to an earlier question.
        self.hanging.retain(|_, answer| matches!(answer.try_recv(), Err(TryRecvError::Empty)));
        let asked: Vec<_> = devices.iter().map(|device| (*device, self.ask(root, *device, read.clone()))).collect();
        let wait = |(device, asked): (NicName, Result<(PathBuf, Receiver<Answer>), StatisticsError>)| {
            let (directory, answer) = match asked {
                Ok(asked) => asked,
                Err(error) => return (device, Err(error)),
            };
            let answered = answer.recv_timeout(until.saturating_duration_since(Instant::now()));
            let answered = answered.unwrap_or_else(|error| {
                if error == RecvTimeoutError::Timeout {
                    self.hanging.insert(directory.clone(), answer);
                }
                Err(StatisticsError::Hung { directory })
            });
            (device, answered)
        };
        asked.into_iter().map(wait).collect()
    }

    fn ask(
        &self,
        root: &Root,
        device: NicName,
        read: impl Fn(PathBuf) -> Answer + Send + 'static,
    ) -> Result<(PathBuf, Receiver<Answer>), StatisticsError> {
        let directory = statistics_directory(root, device);
        if self.hanging.contains_key(&directory) {
            return Err(StatisticsError::Hung { directory });
        }
        let (sender, answer) = sync_channel(1);
        let what = directory.clone();
        let started = thread::Builder::new().name(format!("statistics-{device}")).spawn(move || {
            // The caller may have stopped waiting.
            let _ = sender.send(read(what));
        });
        match started {
            Ok(_) => Ok((directory, answer)),
            Err(_) => Err(StatisticsError::NoThread { directory }),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        sync::{
            Arc,
            atomic::{AtomicUsize, Ordering},
        },
    };

    use super::*;

    /// A named pipe without a writer: opening it takes for ever, as a file of a hung handler does.
    fn hang(path: &std::path::Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn one_that_hangs_keeps_no_caller_and_answers_again_when_it_recovers() {
        let directory = tempfile::tempdir().unwrap();
        let root = Root::new("/nowhere", "/nowhere").with_run(directory.path());
        let devices = [0, 1, 2].map(NicName::new);
        for device in &devices[..2] {
            fs::create_dir_all(statistics_directory(&root, *device)).unwrap();
        }
        let pipe = statistics_directory(&root, devices[0]).join("nacks");
        hang(&pipe);
        fs::write(statistics_directory(&root, devices[1]).join("nacks"), "1\n").unwrap();

        let mut reader = StatisticsReader::default();
        let read = |reader: &mut StatisticsReader, limit| {
            let answers: Vec<_> = reader.read(&root, &devices, limit).into_values().collect();
            <[Answer; 3]>::try_from(answers).unwrap()
        };
        // Long enough for the others on a busy machine, and the one that hangs does not keep them.
        let [hung, fine, absent] = read(&mut reader, Duration::from_secs(2));
        assert!(matches!(hung, Err(StatisticsError::Hung { .. })), "{hung:?}");
        assert_eq!(fine.unwrap().values, BTreeMap::from([("nacks", 1)]));
        assert!(matches!(absent, Err(StatisticsError::Absent { .. })), "{absent:?}");
        // Known to hang: the caller does not wait for it again.
        let began = Instant::now();
        let [hung, fine, _] = read(&mut reader, Duration::from_mins(1));
        assert!(matches!(hung, Err(StatisticsError::Hung { .. })) && fine.is_ok());
        assert!(began.elapsed() < Duration::from_secs(30));

        fs::write(&pipe, "7\n").unwrap();
        fs::remove_file(&pipe).unwrap();
        fs::write(&pipe, "8\n").unwrap();
        let began = Instant::now();
        loop {
            if let [Ok(recovered), ..] = read(&mut reader, Duration::from_secs(5)) {
                assert_eq!(recovered.values, BTreeMap::from([("nacks", 8)]));
                break;
            }
            assert!(began.elapsed() < Duration::from_secs(30));
            thread::sleep(Duration::from_millis(5));
        }
    }

    #[test]
    fn a_hanging_device_has_one_thread_however_often_it_is_asked() {
        let root = Root::default();
        let started = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&started);
        let stuck = move |_| {
            count.fetch_add(1, Ordering::SeqCst);
            loop {
                thread::park();
            }
        };
        let mut reader = StatisticsReader::default();
        for _ in 0..50 {
            let answers = reader.read_with(&root, &[NicName::new(0)], Duration::from_millis(1), stuck.clone());
            assert!(matches!(answers[&NicName::new(0)], Err(StatisticsError::Hung { .. })));
        }
        thread::sleep(Duration::from_millis(50));
        assert_eq!(started.load(Ordering::SeqCst), 1);
    }
}
