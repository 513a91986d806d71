//! A program of a node as a process of its own: how soon it is ready, its memory, and what it costs while nothing happens.

mod goals;

use std::{
    env, fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

pub use goals::{Goals, Times, rounds};

/// How long a program has to come to rest.
const SETTLES: Duration = Duration::from_secs(2);

/// How long it is watched.
const WATCHED: Duration = Duration::from_secs(10);

/// How long it has for an orderly end.
const ENDS: Duration = Duration::from_secs(5);

/// Clock ticks in a second, of `/proc/<pid>/stat`: the kernel's `USER_HZ`.
const TICKS: f64 = 100.0;

/// A running program. It is ended when dropped.
pub struct Process {
    child: Child,
    began: Instant,
    size: u64,
}

impl Process {
    /// Starts `name`: from the directory in `CXI_BENCH_PROGRAMS`, else as it was built beside this example.
    pub fn start(name: &str, configure: impl FnOnce(&mut Command)) -> Self {
        let this = env::current_exe().unwrap();
        let beside = this.ancestors().nth(2).unwrap().to_owned();
        let path = env::var_os("CXI_BENCH_PROGRAMS").map_or(beside, PathBuf::from).join(name);
        let size = fs::metadata(&path).unwrap_or_else(|error| panic!("{}: {error}; build it", path.display())).len();
        let mut command = Command::new(path);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        configure(&mut command);
        Self { began: Instant::now(), child: command.spawn().unwrap(), size }
    }

    /// Names the columns of [`Process::row`].
    pub fn head() {
        println!(
            "{:28} {:>12} {:>11} {:>12} {:>12}",
            "program, 8 NICs", "to ready ms", "RSS KiB", "idle CPU %", "its MiB"
        );
    }

    /// How long it takes from its start until it is ready.
    pub fn ready(&mut self, mut is_ready: impl FnMut() -> bool) -> Duration {
        while !is_ready() {
            assert!(self.child.try_wait().unwrap().is_none(), "the program has ended");
            assert!(self.began.elapsed() < Duration::from_mins(1), "it is not ready within a minute");
            sleep(Duration::from_millis(2));
        }
        self.began.elapsed()
    }

    /// Lets it come to rest, watches it, prints what was seen and holds it against the goals.
    pub fn row(&mut self, name: &str, ready: Duration, goals: &mut Goals) {
        sleep(SETTLES);
        let before = self.ticks();
        sleep(WATCHED);
        let load = (self.ticks() - before) / TICKS / WATCHED.as_secs_f64() * 100.0;
        let resident = self.resident();
        let (milliseconds, size) = (ready.as_secs_f64() * 1000.0, self.size as f64 / f64::from(1 << 20));
        println!("{name:28} {milliseconds:>12.0} {resident:>11} {load:>12.2} {size:>12.1}");
        goals.ready(name, ready);
        goals.resident(name, resident);
    }

    /// Memory that is in RAM, in KiB.
    pub fn resident(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// Clock ticks that it has run so far, in user mode and in the kernel (`proc_pid_stat(5)`).
    fn ticks(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).unwrap();
        // The name in parentheses may hold anything; behind it come state and eleven numbers, then these two.
        let (_, fields) = stat.rsplit_once(')').unwrap();
        fields.split_ascii_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap()).sum()
    }
}

impl Drop for Process {
    /// In order where it can be: a supervisor that is killed leaves what it has started.
    fn drop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let asked = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && asked.elapsed() < ENDS {
            sleep(Duration::from_millis(10));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
