//! The supervisor of retry handlers as a process, against a tree of a node and a stand-in for `cxi_rh`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use cxi_hardware::retry_handler::{Exit, Record, State};
use cxi_hardware_lab::Tree;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// For everything that has to happen, on a busy machine.
const SOON: Duration = Duration::from_secs(20);
/// Long enough for several looks: something wrong would happen within it.
const A_WHILE: Duration = Duration::from_millis(700);

const STAND_IN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lab/cxi_rh.sh");

const FIRST: &str = "0000:c1:00.0";
const SECOND: &str = "0000:c2:00.0";

/// A node with a supervisor.
struct Node {
    tree: Tree,
    supervisor: Option<Child>,
    /// `cxi_rh` of the node.
    program: PathBuf,
    config: Option<PathBuf>,
}

impl Node {
    /// With these NICs, and no supervisor yet.
    fn with(nics: &[(&str, &str)]) -> Self {
        let tree = Tree::new();
        fs::create_dir_all(tree.path("orders")).unwrap();
        for (device, address) in nics {
            tree.add(device, address);
        }
        Self { tree, supervisor: None, program: STAND_IN.into(), config: None }
    }

    /// With one NIC whose retry handler runs.
    fn running() -> Self {
        let mut node = Self::with(&[("cxi0", FIRST)]);
        node.start();
        node.until("it runs", |node| node.state(FIRST) == Some(State::Running));
        node
    }

    fn agent(&self, task: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cxi-agent"));
        command.arg("retry-handler").args(task).env("STAND_IN_NODE", self.tree.path("")).env("CXI_RH", &self.program);
        command.env("CXI_RETRY_HANDLER_INTERVAL", "100ms");
        for (variable, directory) in
            [("SYSFS_ROOT", "sys"), ("DEVFS_ROOT", "dev"), ("PROCFS_ROOT", "proc"), ("RUN_ROOT", "run")]
        {
            command.env(variable, self.tree.path(directory));
        }
        if let Some(config) = &self.config {
            command.env("CXI_RH_CONFIG", config);
        }
        command
    }

    fn start(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.tree.path("log")).unwrap();
        let child = self.agent(&[]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        self.supervisor = Some(child);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.supervisor.as_ref().unwrap()), signal).unwrap();
    }

    /// Waits for the supervisor's end.
    fn ended(&mut self) -> ExitStatus {
        let mut supervisor = self.supervisor.take().unwrap();
        let began = Instant::now();
        loop {
            if let Some(status) = supervisor.try_wait().unwrap() {
                return status;
            }
            if began.elapsed() > SOON {
                let _ = supervisor.kill();
                panic!("the supervisor does not end: {}", self.log());
            }
            sleep(Duration::from_millis(20));
        }
    }

    fn end_in_order(&mut self) {
        self.signal(Signal::TERM);
        assert_eq!(self.ended().code(), Some(0), "{}", self.log());
    }

    fn order(&self, order: &str, text: &str) {
        // In one step: the stand-in looks at any time.
        self.tree.write("orders/new", text);
        fs::rename(self.tree.path("orders/new"), self.tree.path("orders").join(order)).unwrap();
    }

    fn take_back(&self, order: &str) {
        fs::remove_file(self.tree.path("orders").join(order)).unwrap();
    }

    fn record(&self, address: &str) -> Option<Record> {
        Record::read(&self.tree.root(), address.parse().unwrap()).unwrap()
    }

    fn state(&self, address: &str) -> Option<State> {
        self.record(address).map(|record| record.state)
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let began = Instant::now();
        while !holds(self) {
            assert!(began.elapsed() < SOON, "not within {SOON:?}: {what}; {}\n{:#?}", self.log(), self.history());
            sleep(Duration::from_millis(20));
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.tree.path("log")).unwrap_or_default()
    }

    /// Whether the stand-in for this device handles signals.
    fn serves(&self, device: &str) -> bool {
        self.log().contains(&format!("cxi_rh[{device}]: in service"))
    }

    /// What the stand-ins noted, without process ids and arguments.
    fn history(&self) -> Vec<String> {
        let history = fs::read_to_string(self.tree.path("history")).unwrap_or_default();
        history.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" ")).collect()
    }

    fn starts(&self) -> usize {
        self.history().iter().filter(|line| line.ends_with(" start")).count()
    }

    fn pct_eq(&self, address: &str) -> String {
        fs::read_to_string(self.tree.path("sys/devices").join(address).join("properties/pct_eq")).unwrap()
    }

    fn set_pct_eq(&self, address: &str, number: &str) {
        fs::write(self.tree.path("sys/devices").join(address).join("properties/pct_eq"), number).unwrap();
    }

    /// Whether the readiness probe succeeds, and what it says.
    fn ready(&self) -> (bool, String) {
        let output = self.agent(&["ready"]).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    }

    /// No process and no file is left.
    fn is_clean(&self) {
        for line in fs::read_to_string(self.tree.path("history")).unwrap_or_default().lines() {
            let Some((_, pid)) = line.split_once(" start ") else { continue };
            let pid = pid.split(' ').next().unwrap().parse().unwrap();
            assert!(test_kill_process(Pid::from_raw(pid).unwrap()).is_err(), "{line} still lives");
        }
        let left = |directory: &str| {
            let entries = fs::read_dir(self.tree.path(directory)).unwrap();
            let names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
            names
        };
        assert_eq!(left("run/cxi"), ["retry-handler"]);
        assert_eq!(left("run/cxi/retry-handler"), ["lock"]);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Stand-ins first: they are not ended by the end of their supervisor.
        let history = fs::read_to_string(self.tree.path("history")).unwrap_or_default();
        for pid in history.lines().filter_map(|line| line.split_once(" start ")?.1.split(' ').next()?.parse().ok()) {
            let comm = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            if comm.trim() == "cxi_rh.sh" {
                let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
            }
        }
        if let Some(mut supervisor) = self.supervisor.take() {
            let _ = supervisor.kill();
            let _ = supervisor.wait();
        }
    }
}

#[test]
fn one_is_started_for_each_physical_nic_and_all_end_in_order() {
    let mut node = Node::with(&[("cxi0", FIRST), ("cxi1", SECOND), ("cxi2", "0000:c1:00.1")]);
    node.tree.write("sys/devices/0000:c1:00.1/device", "0x0372\n");
    fs::create_dir(node.tree.path("sys/devices/0000:c1:00.1/physfn")).unwrap();
    let config = node.tree.path("cxi_rh.conf");
    fs::write(&config, format!("rh_stats_dir = \"{}\";\n", node.tree.path("run/cxi").display())).unwrap();
    node.config = Some(config.clone());
    assert!(!node.ready().0);
    node.start();
    node.until("both run", |node| [FIRST, SECOND].iter().all(|address| node.state(address) == Some(State::Running)));
    let record = node.record(FIRST).unwrap();
    assert_eq!((record.device.to_string().as_str(), record.message, record.exit), ("cxi0", None, None));
    assert_eq!(node.pct_eq(FIRST), "17\n");
    assert_eq!(node.ready(), (true, String::new()));
    assert_eq!(node.record("0000:c1:00.1"), None);
    let history = fs::read_to_string(node.tree.path("history")).unwrap();
    let arguments = format!("--device=cxi0 --log-stdout --conf={}", config.display());
    assert!(history.contains(&format!("cxi0 start {} {arguments}\n", record.pid.unwrap())), "{history}");
    assert!(node.tree.path("run/cxi/cxi1/nacks").exists());
    // Both, since only then each handles signals.
    node.until("what they say is in the log", |node| node.serves("cxi0") && node.serves("cxi1"));
    let log = node.log();
    let line = log.lines().find(|line| line.contains("cxi_rh[cxi1]: in service")).unwrap();
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!((line["device"].as_str(), line["pci"].as_str()), (Some("cxi1"), Some(SECOND)), "{line}");

    node.signal(Signal::HUP);
    node.until("their state", |node| node.log().matches("state dump").count() == 2);
    node.end_in_order();
    let mut history = node.history();
    history.sort();
    assert_eq!(
        history,
        [
            "cxi0 SIGHUP",
            "cxi0 SIGTERM",
            "cxi0 end",
            "cxi0 start",
            "cxi1 SIGHUP",
            "cxi1 SIGTERM",
            "cxi1 end",
            "cxi1 start"
        ]
    );
    node.is_clean();
}

#[test]
fn a_crash_is_reported_and_not_repaired_unasked() {
    for (order, exit) in [("3", Exit::Code(3)), ("-SEGV", Exit::Signal(11)), ("-KILL", Exit::Signal(9))] {
        let mut node = Node::with(&[("cxi0", FIRST), ("cxi1", SECOND)]);
        node.start();
        node.until("both run", |node| {
            [FIRST, SECOND].iter().all(|address| node.state(address) == Some(State::Running))
        });
        let other = node.record(SECOND);
        node.order("cxi0.crash", order);
        node.until("the crash is known", |node| node.state(FIRST) == Some(State::Failed));
        let record = node.record(FIRST).unwrap();
        assert_eq!((record.exit, record.pid), (Some(exit), None));
        let message = record.message.unwrap();
        assert!(message.contains(&format!("it ended {exit} and")), "{message}");
        assert!(message.ends_with("cxi_rh[cxi0]: in service\ncxi_rh[cxi0]: fatal: ordered to"), "{message}");
        let (ready, said) = node.ready();
        assert!(!ready && said.contains("cxi0: it ended"), "{said}");
        if order == "3" {
            sleep(A_WHILE);
            assert_eq!((node.starts(), node.state(FIRST)), (2, Some(State::Failed)));
            let restart = |device| node.agent(&["restart", device]).output().unwrap();
            let refused = restart("cxi1");
            let said = String::from_utf8(refused.stderr).unwrap();
            assert!(!refused.status.success() && said.contains("has not failed: its state is Running"), "{said}");
            assert!(!restart("cxi7").status.success());
            assert!(restart("cxi0").status.success());
            node.until("another one runs", |node| node.state(FIRST) == Some(State::Running));
            assert_eq!(node.starts(), 3);
        }
        assert_eq!(node.record(SECOND), other, "the other one is not touched");
        node.end_in_order();
        let sigterms = node.history().iter().filter(|line| line.ends_with("SIGTERM")).count();
        assert_eq!(sigterms, if order == "3" { 2 } else { 1 });
    }
}

#[test]
fn a_deaf_one_is_waited_for() {
    let mut node = Node::running();
    node.order("cxi0.deaf", "");
    node.signal(Signal::TERM);
    node.until("it is asked to end", |node| node.history().contains(&"cxi0 SIGTERM".to_owned()));
    assert_eq!(node.state(FIRST), Some(State::Stopping));
    // Hurry is of no use.
    node.signal(Signal::TERM);
    node.signal(Signal::INT);
    sleep(A_WHILE);
    assert!(node.supervisor.as_mut().unwrap().try_wait().unwrap().is_none(), "it waits");
    assert_eq!(node.history(), ["cxi0 start", "cxi0 SIGTERM"], "asked once");
    node.take_back("cxi0.deaf");
    assert_eq!(node.ended().code(), Some(0));
    node.is_clean();
}

#[test]
fn nics_come_and_go() {
    let mut node = Node::with(&[]);
    node.start();
    node.until("it looks", |node| node.log().contains("supervising"));
    assert_eq!(node.ready(), (true, String::new()), "nothing to wait for");
    node.tree.add("cxi0", FIRST);
    node.until("it runs", |node| node.state(FIRST) == Some(State::Running));
    node.tree.remove("cxi0", FIRST);
    node.until("it ended", |node| node.history().last().is_some_and(|line| line == "cxi0 end"));
    node.until("the record is gone", |node| node.record(FIRST).is_none());
    node.tree.add("cxi1", FIRST);
    node.until("it runs under its new name", |node| node.state(FIRST) == Some(State::Running));
    assert_eq!(node.record(FIRST).unwrap().device.to_string(), "cxi1");
    node.end_in_order();
    node.is_clean();
}

#[test]
fn one_that_the_host_runs_is_left_alone() {
    let mut node = Node::with(&[("cxi0", FIRST)]);
    node.set_pct_eq(FIRST, "5\n");
    node.start();
    node.until("it is seen", |node| node.state(FIRST) == Some(State::Host));
    assert_eq!(node.ready(), (true, String::new()));
    node.set_pct_eq(FIRST, "0\n");
    node.until("its end is seen", |node| node.state(FIRST) == Some(State::Failed));
    assert!(!node.ready().0);
    node.set_pct_eq(FIRST, "6\n");
    node.until("it is back", |node| node.state(FIRST) == Some(State::Host));
    assert_eq!(node.starts(), 0);
    node.end_in_order();
    assert_eq!(node.pct_eq(FIRST), "6\n");
    node.is_clean();
}

#[test]
fn one_that_the_host_starts_at_the_same_moment_wins() {
    let mut node = Node::with(&[("cxi0", FIRST)]);
    node.order("cxi0.late", "");
    node.start();
    node.until("ours starts", |node| node.starts() == 1);
    node.set_pct_eq(FIRST, "5\n");
    node.take_back("cxi0.late");
    node.until("ours gave way", |node| node.state(FIRST) == Some(State::Host));
    sleep(A_WHILE);
    assert_eq!((node.starts(), node.state(FIRST)), (1, Some(State::Host)));
    node.end_in_order();
}

#[test]
fn one_that_is_slow_is_not_ready() {
    let mut node = Node::with(&[("cxi0", FIRST)]);
    node.order("cxi0.late", "");
    node.start();
    node.until("it starts", |node| node.state(FIRST) == Some(State::Starting) && node.starts() == 1);
    let (ready, said) = node.ready();
    assert!(!ready && said.contains("cxi0: no retry handler is attached"), "{said}");
    // It may be told to end before it is attached, and is asked when it can hear.
    node.signal(Signal::TERM);
    node.until("it is to end", |node| node.state(FIRST) == Some(State::Stopping));
    sleep(A_WHILE);
    assert_eq!(node.history(), ["cxi0 start"]);
    node.take_back("cxi0.late");
    assert_eq!(node.ended().code(), Some(0), "{}", node.log());
    assert_eq!(node.history(), ["cxi0 start", "cxi0 SIGTERM", "cxi0 end"]);
    node.is_clean();
}

#[test]
fn no_signal_is_sent_to_one_that_would_die_by_it() {
    let mut node = Node::with(&[("cxi0", FIRST), ("cxi1", SECOND)]);
    node.order("cxi0.unguarded", "");
    node.start();
    node.until("both run", |node| [FIRST, SECOND].iter().all(|address| node.state(address) == Some(State::Running)));
    node.until("the other one handles signals", |node| node.serves("cxi1"));
    node.signal(Signal::HUP);
    node.until("its state", |node| node.history().contains(&"cxi1 SIGHUP".to_owned()));
    node.until("why the other's is not there", |node| node.log().contains("no SIGHUP to one that starts"));
    node.signal(Signal::TERM);
    node.until("the other one has ended", |node| node.record(SECOND).is_none());
    sleep(A_WHILE);
    assert!(node.supervisor.as_mut().unwrap().try_wait().unwrap().is_none(), "it waits");
    assert_eq!((node.state(FIRST), node.pct_eq(FIRST).as_str()), (Some(State::Stopping), "17\n"));
    assert!(!node.history().iter().any(|line| line == "cxi0 SIGTERM" || line == "cxi0 SIGHUP"));
    node.take_back("cxi0.unguarded");
    assert_eq!(node.ended().code(), Some(0), "{}", node.log());
    assert!(node.history().ends_with(&["cxi0 SIGTERM".to_owned(), "cxi0 end".to_owned()]));
    node.is_clean();
}

#[test]
fn an_end_that_was_asked_for_and_is_not_in_order_outlives_its_supervisor() {
    for (order, exit) in [("1", Exit::Code(1)), ("-SEGV", Exit::Signal(11))] {
        let mut node = Node::with(&[("cxi0", FIRST), ("cxi1", SECOND)]);
        node.start();
        node.until("both run", |node| {
            [FIRST, SECOND].iter().all(|address| node.state(address) == Some(State::Running))
        });
        node.order("cxi0.deaf", "");
        node.signal(Signal::TERM);
        node.until("it is asked to end", |node| node.history().contains(&"cxi0 SIGTERM".to_owned()));
        node.order("cxi0.crash", order);
        assert_eq!(node.ended().code(), Some(0), "{}", node.log());
        let left = node.record(FIRST).unwrap();
        assert_eq!((left.state, left.exit, node.record(SECOND)), (State::Failed, Some(exit), None));
        let message = left.message.as_deref().unwrap();
        assert!(message.starts_with(&format!("it ended {exit} when it was asked to")), "{message}");
        assert!(message.ends_with("fatal: ordered to"), "{message}");

        node.take_back("cxi0.deaf");
        node.start();
        node.until("the other one runs", |node| node.state(SECOND) == Some(State::Running));
        sleep(A_WHILE);
        assert_eq!((node.starts(), node.record(FIRST)), (3, Some(left)));
        assert!(!node.ready().0);
        assert!(node.agent(&["restart", "cxi0"]).status().unwrap().success());
        node.until("another one runs", |node| node.state(FIRST) == Some(State::Running));
        node.end_in_order();
        node.is_clean();
    }
}

#[test]
fn what_cannot_work_says_why() {
    let mut node = Node::with(&[("cxi0", FIRST)]);
    node.program = "/nowhere/cxi_rh".into();
    node.start();
    node.until("it says so", |node| node.state(FIRST) == Some(State::Failed));
    let message = node.record(FIRST).unwrap().message.unwrap();
    assert!(message.starts_with("start /nowhere/cxi_rh: No such file"), "{message}");
    node.end_in_order();
    node.is_clean();

    // A configuration that the program refuses is a crash with its words.
    let config = node.tree.path("cxi_rh.conf");
    fs::write(&config, "max_spt_retries = 99;\n").unwrap();
    (node.program, node.config) = (STAND_IN.into(), Some(config));
    node.start();
    node.until("it says so", |node| node.state(FIRST) == Some(State::Failed));
    assert!(node.record(FIRST).unwrap().message.unwrap().ends_with("bad value"));
    node.end_in_order();

    node.config = Some("/nowhere/cxi_rh.conf".into());
    let output = node.agent(&[]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("--config /nowhere/cxi_rh.conf: there is no such file"), "{said}");
}

#[test]
fn after_a_kill_nothing_is_started_until_an_administrator_says_so() {
    let mut node = Node::running();
    let pid = node.record(FIRST).unwrap().pid.unwrap();
    // As at the end of a container: the kernel kills everything in it.
    node.signal(Signal::KILL);
    assert_eq!(node.ended().signal(), Some(9));
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).unwrap();
    node.set_pct_eq(FIRST, "0\n");
    node.start();
    node.until("it is known", |node| node.state(FIRST) == Some(State::Failed));
    let record = node.record(FIRST).unwrap();
    assert!(record.message.unwrap().starts_with("it was killed together with its supervisor"));
    // Another container of the same pod changes nothing, an orderly end of the pod forgets.
    node.signal(Signal::KILL);
    node.ended();
    node.start();
    sleep(A_WHILE);
    assert_eq!((node.starts(), node.state(FIRST)), (1, Some(State::Failed)));
    node.end_in_order();
    assert_eq!(node.record(FIRST), None);
    node.start();
    node.until("a new pod starts one", |node| node.state(FIRST) == Some(State::Running));
    node.end_in_order();
}

#[test]
fn a_second_supervisor_waits_for_the_first() {
    let mut node = Node::running();
    let first = node.supervisor.take().unwrap();
    node.start();
    node.until("it waits", |node| node.log().contains("another supervisor runs on this node"));
    sleep(A_WHILE);
    assert_eq!(node.starts(), 1);
    let second = node.supervisor.replace(first);
    node.end_in_order();
    node.supervisor = second;
    node.until("it takes over", |node| node.starts() == 2 && node.state(FIRST) == Some(State::Running));
    node.end_in_order();
    node.is_clean();
}

#[test]
fn the_stand_in_stands_in() {
    let help = Command::new(STAND_IN).arg("--help").output().unwrap();
    assert!(help.status.success());
    for wrong in [&["-d", "/dev/cxi0"][..], &["--discover=auto"], &[]] {
        assert_eq!(Command::new(STAND_IN).args(wrong).output().unwrap().status.code(), Some(1), "{wrong:?}");
    }
    assert!(Path::new(STAND_IN).is_file());
}
