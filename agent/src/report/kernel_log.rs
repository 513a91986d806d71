//! What the kernel says of the stack while something is wrong with it: why a link does not come up. A driver that asks for a file of
//! firmware which is not there binds all the same, and only the kernel's log says so.

use std::{
    collections::{BTreeMap, VecDeque},
    fs, io,
    path::PathBuf,
    time::{Duration, Instant},
};

use cxi_api::Phase;
use cxi_hardware::{Function, Link, PciAddress, Root, Stack};
use tracing::{info, warn};

use crate::report::{nic::SeenNic, node::NodeView};

/// Where the kernel's log is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KernelLog {
    /// Nowhere.
    #[default]
    Unread,
    /// From the kernel, which wants `CAP_SYSLOG` where `kernel.dmesg_restrict` is set.
    Kernel,
    /// From a file with the same text.
    File(PathBuf),
}

/// Most that is read of the log, in bytes: its end.
const LOG_END_BYTES: usize = 64 << 10;

/// Most lines that are reported.
const MAX_REPORTED_LINES: usize = 3;

/// What is wrong for less than this comes right by itself: links take a few seconds.
const TROUBLE_PATIENCE: Duration = Duration::from_secs(5);

/// Time between two readings while something is wrong.
const LOG_READ_PERIOD: Duration = Duration::from_secs(20);

/// The least severe level that is reported: a warning (`KERN_WARNING`). That a file of firmware is missing is one.
const WARNING: u8 = 4;

/// What the stack's lines begin with: its modules, and how they call themselves and their devices. A number or more of a name may follow.
/// Names of processes can be anything, so what merely begins so does not count.
const STACK: [&str; 10] = ["cxi", "cass", "cassini", "sbl", "sl", "slingshot", "hsn", "kfi", "kfabric", "kdreg2"];

/// Facility 0 is the kernel (syslog(3), `LOG_KERN`): what user space writes into the kernel's log has another one.
const FACILITY_BITS: u32 = 3;

/// What one reading needs of those before it.
#[derive(Debug, Default)]
pub(super) struct Reader {
    source: KernelLog,
    wrong_since: Option<Instant>,
    read_at: Option<Instant>,
    /// When no module of the stack was loaded last, in seconds since the boot: what was said before that is of another driver.
    unloaded_at: Option<f64>,
    lines: Vec<String>,
    refused: bool,
}

impl Reader {
    pub(super) fn new(source: KernelLog) -> Self {
        Self { source, ..Self::default() }
    }

    /// What the kernel says that is worth telling of these modules and NICs; nothing while all is well.
    pub(super) fn look_at(
        &mut self,
        root: &Root,
        (stack, nics): (&Stack, &BTreeMap<PciAddress, SeenNic>),
        view: &NodeView,
        now: Instant,
    ) -> Vec<String> {
        if self.source == KernelLog::Unread {
            return Vec::new();
        }
        if stack.modules.is_empty() {
            self.unloaded_at = uptime(root).or(self.unloaded_at);
        }
        if !is_wrong(nics, view) {
            (self.wrong_since, self.read_at) = (None, None);
            self.lines.clear();
            return Vec::new();
        }
        let since = *self.wrong_since.get_or_insert(now);
        let is_old = self.read_at.is_none_or(|at| now.duration_since(at) >= LOG_READ_PERIOD);
        if now.duration_since(since) >= TROUBLE_PATIENCE && is_old {
            self.read_at = Some(now);
            match self.read() {
                Ok(text) => {
                    let told = std::mem::replace(&mut self.lines, lines(&text, self.unloaded_at));
                    for line in self.lines.iter().filter(|line| !told.contains(line)) {
                        info!(line, "the kernel says");
                    }
                }
                Err(error) if !self.refused => {
                    self.refused = true;
                    warn!(%error, "the kernel's log cannot be read: reports do not say why a link is down");
                }
                Err(_) => {}
            }
        }
        self.lines.clone()
    }

    fn read(&self) -> io::Result<String> {
        match &self.source {
            KernelLog::Unread => Ok(String::new()),
            KernelLog::Kernel => end_of_the_log(),
            KernelLog::File(path) => fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
        }
    }
}

/// Whether a driver should run and does not, or the link of a NIC is down.
fn is_wrong(nics: &BTreeMap<PciAddress, SeenNic>, view: &NodeView) -> bool {
    let due = |phase: Phase| phase.traits().driver_is_due;
    let should_run = matches!(view, NodeView::Present(known) if known.phase.is_some_and(due));
    let down = nics.values().any(|seen| seen.nic.function != Ok(Function::Virtual) && seen.nic.link != Ok(Link::Up));
    down || should_run && nics.is_empty()
}

/// Seconds since the boot, which is what the log's lines begin with.
fn uptime(root: &Root) -> Option<f64> {
    fs::read_to_string(root.proc().join("uptime")).ok()?.split_ascii_whitespace().next()?.parse().ok()
}

/// The last lines of the stack in `text` that warn, each once, of those after `after`. A line is `<level>[seconds] words`, in which the
/// time may be missing and the thread may follow it (`CONFIG_PRINTK_CALLER`).
fn lines(text: &str, after: Option<f64>) -> Vec<String> {
    let mut last = VecDeque::new();
    for line in text.lines() {
        let Some((level, rest)) = line.strip_prefix('<').and_then(|rest| rest.split_once('>')) else { continue };
        // The lowest three bits are the level, the others the facility.
        let counts = |level: u32| level >> FACILITY_BITS == 0 && level <= WARNING.into();
        if !level.parse::<u32>().is_ok_and(counts) {
            continue;
        }
        let (time, words) = without_prefix(rest);
        if time.zip(after).is_some_and(|(time, after)| time < after) || !is_of_the_stack(words) {
            continue;
        }
        let words: String = words.chars().map(|of| if of == ' ' || of.is_ascii_graphic() { of } else { ' ' }).collect();
        last.retain(|known| *known != words);
        last.push_back(words);
        if last.len() > MAX_REPORTED_LINES {
            last.pop_front();
        }
    }
    last.into()
}

/// The time that a line begins with, and what it says.
fn without_prefix(line: &str) -> (Option<f64>, &str) {
    let (mut time, mut rest) = (None, line);
    while let Some((inside, words)) = rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        // With the thread in the same brackets or in ones of its own.
        let mut parts = inside.split_ascii_whitespace();
        let first = parts.next().unwrap_or_default();
        let is_thread =
            |part: &str| part.starts_with(['T', 'C']) && part[1..].bytes().all(|byte| byte.is_ascii_digit());
        match first.parse() {
            Ok(seconds) if time.is_none() => time = Some(seconds),
            _ if is_thread(first) => {}
            _ => break,
        }
        rest = words;
    }
    (time, rest.trim())
}

/// By the first word of a line, in which the kernel's own code names itself. A process that is named in a line, as in that of the OOM
/// killer, has a place further on, or its number in brackets.
fn is_of_the_stack(words: &str) -> bool {
    let first = words.split([':', ' ']).next().unwrap_or_default();
    STACK.iter().filter_map(|name| first.strip_prefix(name)).any(|rest| {
        let more = |of: char| of.is_ascii_alphanumeric() || matches!(of, '_' | '-');
        let begins = rest.chars().next().is_none_or(|of| of.is_ascii_digit() || matches!(of, '_' | '-'));
        begins && rest.chars().all(more)
    })
}

/// The end of the kernel's log. Reading takes nothing out: other readers still see all of it.
#[expect(unsafe_code, reason = "no library has this call; /dev/kmsg is no file that a container may open")]
fn end_of_the_log() -> io::Result<String> {
    /// `SYSLOG_ACTION_READ_ALL`, the last messages that fit (syslog(2)).
    const READ_ALL: libc::c_int = 3;
    let mut buffer = vec![0_u8; LOG_END_BYTES];
    let length = libc::c_int::try_from(buffer.len()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the buffer is writable for `length` bytes, and the kernel writes no more.
    let read = unsafe { libc::klogctl(READ_ALL, buffer.as_mut_ptr().cast(), length) };
    let read = usize::try_from(read).map_err(|_| io::Error::last_os_error())?;
    buffer.truncate(read);
    Ok(String::from_utf8_lossy(&buffer).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{nic::tests::nic, node::Known};

    const LOG: &str = "\
<6>[    1.000001] cxi_ss1: loaded
<4>[    2.500000] cxi_ss1 0000:21:00.0: Direct firmware load for cxi/old.bin failed with error -2
<3>[   10.100000][  T321] cxi_ss1 0000:21:00.0: Direct firmware load for cxi/serdes.bin failed with error -2
<4>[   10.200000] nvidia 0000:41:00.0: Direct firmware load for nvidia/x.bin failed with error -2
<4>[   10.250000 T4] sbl: port 0: \u{1}no media
<3>[   10.300000] cxi_ss1 0000:21:00.0: Direct firmware load for cxi/serdes.bin failed with error -2
<4>[   11.000000] hsn0: link is not ready
<12>[   11.100000] hsn0: what user space writes
<4>[   11.200000] Memory cgroup out of memory: Killed process 4711 (cxi_job)
<4>[   11.300000] cassandra: no
<4>[   11.400000] cxi_job[4711]: segfault
<4>cxi_eth: no time
";

    const FIRMWARE: &str = "cxi_ss1 0000:21:00.0: Direct firmware load for cxi/serdes.bin failed with error -2";

    #[test]
    fn warnings_of_the_stack_are_told_once_and_no_others() {
        assert_eq!(lines(LOG, Some(5.0)), [FIRMWARE, "hsn0: link is not ready", "cxi_eth: no time"]);
        assert_eq!(lines(LOG, Some(10.26)), [FIRMWARE, "hsn0: link is not ready", "cxi_eth: no time"]);
        let until = LOG.find("<3>[   10.300000]").unwrap();
        let (old, first) = (
            "cxi_ss1 0000:21:00.0: Direct firmware load for cxi/old.bin failed with error -2",
            "sbl: port 0:  no media",
        );
        assert_eq!(lines(&LOG[..until], None), [old, FIRMWARE, first]);
        assert_eq!(lines(&LOG[..until], Some(5.0)), [FIRMWARE, first]);
        for text in ["", "<", "<4>", "<x>[1.0] cxi", "cxi", "<6>cxi", "<4>[", "<4>[cxi"] {
            let lines = lines(text, None);
            assert!(lines.is_empty(), "{text}: {lines:?}");
        }
    }

    #[test]
    fn any_log_is_lines_or_nothing() {
        cxi_any_input::text(&[LOG], &|text| {
            let lines = lines(text, Some(5.0));
            assert!(lines.len() <= MAX_REPORTED_LINES && lines.iter().all(|line| !line.contains(char::is_control)));
            (!lines.is_empty()).into()
        });
    }

    #[test]
    fn the_log_is_read_only_while_something_stays_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        fs::write(&path, LOG).unwrap();
        let root = Root::default().with_proc(directory.path());
        let mut reader = Reader::new(KernelLog::File(path.clone()));
        let view = |phase| NodeView::Present(Known { phase: Some(phase), ..Known::default() });
        let mut seen = nic(0);
        let mut nics = BTreeMap::from([(seen.nic.address, seen.clone())]);
        let begin = Instant::now();
        let mut after = |seconds, nics: &BTreeMap<PciAddress, SeenNic>, phase| {
            reader.look_at(&root, (&Stack::default(), nics), &view(phase), begin + Duration::from_secs(seconds))
        };
        let nothing = Vec::<String>::new();
        assert_eq!(after(0, &nics, Phase::Verifying), nothing, "all is well");
        // No module is loaded at the tenth second since the boot: what was said before is of another driver.
        fs::write(directory.path().join("uptime"), "10.00 9.00\n").unwrap();
        assert_eq!(after(1, &nics, Phase::Verifying), nothing);
        seen.nic.link = Ok(Link::Down);
        nics.insert(seen.nic.address, seen.clone());
        assert_eq!(after(2, &nics, Phase::UpToDate), nothing, "a link may come up");
        assert_eq!(after(7, &nics, Phase::UpToDate)[0], FIRMWARE);
        fs::write(&path, "").unwrap();
        assert_eq!(after(8, &nics, Phase::UpToDate)[0], FIRMWARE, "it is not read each second");
        assert_eq!(after(27, &nics, Phase::UpToDate), nothing);
        fs::write(&path, LOG).unwrap();
        nics.clear();
        assert_eq!(after(47, &nics, Phase::Pending), nothing, "no driver should run");
        assert_eq!(after(48, &nics, Phase::Verifying), nothing);
        assert_eq!(after(53, &nics, Phase::Verifying)[0], FIRMWARE);
    }

    #[test]
    fn the_kernel_answers_or_says_that_it_may_not() {
        match end_of_the_log() {
            Ok(text) => assert!(text.len() <= 3 * LOG_END_BYTES),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied),
        }
    }
}
