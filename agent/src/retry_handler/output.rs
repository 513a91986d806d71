//! What retry handlers say, as log lines of ours.
//!
//! A retry handler must never wait for the reader of its output: while it waits, no lost packet is sent again. So a
//! thread per process does nothing but read, keeps the last lines for the report of a crash, and hands the others on
//! only where there is room; one more thread writes the log.

use std::{
    collections::VecDeque,
    io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Read as _},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread,
};

use cxi_hardware::{NicName, PciAddress};
use tokio::sync::oneshot;
use tracing::{info, warn};

/// Longest line, in bytes; the rest of a longer one is another line.
const MAX_LINE_BYTES: u64 = 1024;

/// How many lines are kept for the report of a crash.
const KEPT_LINES: usize = 10;

/// How many lines may wait for the log.
const WAITING_LINES: usize = 1024;

/// The log of all retry handlers.
#[derive(Clone, Debug)]
pub(super) struct Output {
    lines: SyncSender<Line>,
    lost: Arc<AtomicU64>,
}

#[derive(Debug)]
struct Line {
    device: NicName,
    address: PciAddress,
    text: String,
}

/// The last lines of one process.
#[derive(Debug)]
pub(super) struct Tail {
    lines: Arc<Mutex<VecDeque<String>>>,
    end: oneshot::Receiver<()>,
}

impl Output {
    /// Starts the thread that writes the log.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub(super) fn start() -> io::Result<Self> {
        let (lines, waiting) = sync_channel::<Line>(WAITING_LINES);
        let lost = Arc::new(AtomicU64::new(0));
        let lost_so_far = Arc::clone(&lost);
        thread::Builder::new().name("cxi_rh-log".to_owned()).spawn(move || {
            for Line { device, address, text } in waiting {
                info!(target: "cxi_rh", %device, pci = %address, "{text}");
                let lines = lost_so_far.swap(0, Ordering::Relaxed);
                if lines > 0 {
                    warn!(lines, "lines of retry handlers were dropped: the log is slower than they are");
                }
            }
        })?;
        Ok(Self { lines, lost })
    }

    /// A pipe that is read as long as any process can write to it.
    ///
    /// # Errors
    /// When there is no pipe or no thread to be had.
    pub(super) fn pipe(&self, device: NicName, address: PciAddress) -> io::Result<(PipeWriter, Tail)> {
        let (reader, writer) = io::pipe()?;
        let (ended, end) = oneshot::channel();
        let lines = Arc::default();
        let tail = Tail { lines: Arc::clone(&lines), end };
        let output = self.clone();
        thread::Builder::new().name(format!("{device}-output")).spawn(move || {
            output.read(reader, device, address, &lines);
            // The receiver may have stopped waiting for the end.
            let _ = ended.send(());
        })?;
        Ok((writer, tail))
    }

    fn read(&self, pipe: PipeReader, device: NicName, address: PciAddress, kept: &Mutex<VecDeque<String>>) {
        let mut pipe = BufReader::new(pipe);
        let mut bytes = Vec::new();
        loop {
            bytes.clear();
            match (&mut pipe).take(MAX_LINE_BYTES).read_until(b'\n', &mut bytes) {
                Ok(0) => return,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => return,
            }
            let text = printable(&bytes);
            if text.is_empty() {
                continue;
            }
            let mut kept = lock(kept);
            if kept.len() == KEPT_LINES {
                kept.pop_front();
            }
            kept.push_back(text.clone());
            drop(kept);
            if self.lines.try_send(Line { device, address, text }).is_err() {
                self.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

impl Tail {
    /// Completes when the pipe has no writer any more.
    pub(super) async fn end(&mut self) {
        // An error would say the same: the thread is gone.
        let _ = (&mut self.end).await;
    }

    /// The last lines so far.
    pub(super) fn lines(&self) -> Vec<String> {
        lock(&self.lines).iter().cloned().collect()
    }
}

fn lock(lines: &Mutex<VecDeque<String>>) -> MutexGuard<'_, VecDeque<String>> {
    lines.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line without what could drive a terminal.
fn printable(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let plain = |character: char| if character.is_control() { char::REPLACEMENT_CHARACTER } else { character };
    text.trim_end().replace('\t', " ").chars().map(plain).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[tokio::test]
    async fn a_writer_never_waits_and_its_last_lines_are_kept() {
        // A log that takes nothing.
        let (lines, waiting) = sync_channel(2);
        let output = Output { lines, lost: Arc::default() };
        let (mut writer, mut tail) = output.pipe(NicName::new(0), "0000:c1:00.0".parse().unwrap()).unwrap();
        let long = "x".repeat(3000);
        for number in 0..5000 {
            writeln!(writer, "{number} {long}").unwrap();
        }
        write!(writer, "\n\x1b[31mlast\tone \u{e9}\n\nno newline").unwrap();
        drop(writer);
        tail.end().await;
        let last = tail.lines();
        assert_eq!(last.len(), KEPT_LINES);
        assert_eq!(last[8..], ["\u{fffd}[31mlast one \u{e9}", "no newline"]);
        assert!(last.iter().all(|line| line.len() <= 1024));
        assert_eq!(waiting.try_iter().count(), 2);
        assert_eq!(output.lost.load(Ordering::Relaxed), 3 * 5000 + 2 - 2);
    }

    #[test]
    fn any_input_becomes_one_printable_line() {
        cxi_any_input::bytes(&[b"retry handler of cxi0 is ready\n", "last\tone \u{e9}\n".as_bytes()], &|bytes| {
            let line = printable(bytes);
            assert!(!line.contains(char::is_control), "{line:?}");
            (!line.contains(char::REPLACEMENT_CHARACTER)).into()
        });
    }
}
