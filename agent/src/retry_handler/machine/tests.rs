//! The machine by tables, and against a node in which anything happens at any time.

mod anything;

use cxi_hardware::retry_handler::State;

use super::{
    handler::{LOST, overdue},
    *,
};

fn address(number: u8) -> PciAddress {
    format!("0000:c{number}:00.0").parse().unwrap()
}

fn nic(attached: bool) -> SeenNic {
    SeenNic { device: NicName::new(0), instance: 7, attached: Ok(attached), obstacle: None }
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_700_000_000 + second).unwrap()
}

/// One NIC and a clock that ticks with every event.
struct Node {
    machine: Machine,
    second: i64,
}

impl Node {
    fn new() -> Self {
        Self::after(BTreeMap::new())
    }

    fn after(inherited: Inherited) -> Self {
        Self { machine: Machine::new("boot".into(), inherited), second: 0 }
    }

    fn step(&mut self, event: Event) -> Vec<Action> {
        self.second += 1;
        self.machine.step(event, at(self.second))
    }

    fn look(&mut self, nic: Option<SeenNic>) -> Vec<Action> {
        let nics = nic.map(|nic| (address(1), nic)).into_iter().collect();
        self.step(Event::Looked(Seen { nics, ..Seen::default() }))
    }

    fn started(&mut self, pid: u32) -> Vec<Action> {
        self.step(Event::Started { address: address(1), pid })
    }

    fn may_be_asked(&mut self, pid: u32) -> Vec<Action> {
        self.step(Event::MayBeAsked { address: address(1), pid })
    }

    fn ended(&mut self, pid: u32, exit: Exit, attached: bool) -> Vec<Action> {
        let said = vec!["fatal: no".to_owned()];
        let (exit, lived, attached) = (Some(exit), Duration::from_secs(1), Some(attached));
        self.step(Event::Ended { address: address(1), pid, how: Ended { exit, lived, said, attached } })
    }

    /// The processes that are to end and were not asked to yet.
    fn held_back(&self) -> Vec<u32> {
        self.machine.held_back().map(|(_, pid)| pid).collect()
    }

    /// Started, attached.
    fn running(pid: u32) -> Self {
        let mut node = Self::new();
        assert_eq!(node.look(Some(nic(false))), [start()]);
        assert_eq!(node.started(pid), []);
        assert_eq!(node.state(), "Starting");
        assert_eq!(node.look(Some(nic(true))), []);
        assert_eq!(node.state(), "Running");
        node
    }

    fn record(&self) -> Option<Record> {
        self.machine.records().remove(&address(1))
    }

    /// State and start of the message.
    fn state(&self) -> String {
        let Some(record) = self.record() else { return "none".into() };
        let message = record.message.unwrap_or_default();
        let start = message.split([';', ':']).next().unwrap_or_default();
        format!("{:?} {start}", record.state).trim().to_owned()
    }
}

fn start() -> Action {
    Action::Start { address: address(1), device: NicName::new(0) }
}

fn terminate(pid: u32) -> Action {
    Action::Terminate { address: address(1), pid }
}

fn tidy_up() -> Action {
    Action::TidyUp(NicName::new(0))
}

const UNASKED: &str = "and this supervisor had not asked it to";
const ASKED: &str = "when it was asked to, which is not in order";

#[test]
fn one_is_started_and_only_one() {
    let mut node = Node::running(9);
    for _ in 0..5 {
        assert_eq!(node.look(Some(nic(true))), []);
    }
    let record = node.record().unwrap();
    assert_eq!((record.pid, record.instance, record.since), (Some(9), 7, at(3)));
}

#[test]
fn what_is_not_complete_is_waited_for() {
    let mut node = Node::new();
    let waiting = SeenNic { obstacle: Some("there is no device node in /dev".into()), ..nic(false) };
    assert_eq!(node.look(Some(waiting)), []);
    assert_eq!(node.state(), "Starting there is no device node in /dev");
    let unknown = SeenNic { attached: Err("pct_eq".into()), ..nic(false) };
    assert_eq!(node.look(Some(unknown)), [], "not known is not free");
    assert_eq!(node.look(Some(nic(false))), [start()]);
    assert_eq!(node.look(Some(nic(false))), [], "it is on its way");
}

#[test]
fn a_crash_is_reported_and_not_repaired() {
    for (exit, said) in [
        (Exit::Code(1), "with status 1"),
        (Exit::Signal(11), "by signal 11"),
        (Exit::Signal(9), "by signal 9"),
        (Exit::Code(0), "with status 0"),
    ] {
        let mut node = Node::running(9);
        assert_eq!(node.ended(9, exit, false), [tidy_up()]);
        for attached in [false, true, false] {
            assert_eq!(node.look(Some(nic(attached))), []);
            assert_eq!(node.state(), format!("Failed it ended {said} {UNASKED}"));
        }
        let record = node.record().unwrap();
        assert_eq!((record.exit, record.pid, record.since), (Some(exit), None, at(4)));
        assert!(record.message.unwrap().ends_with("its last lines:\nfatal: no"));
        assert_eq!(node.step(Event::Acknowledged(address(1))), []);
        assert_eq!(node.look(Some(nic(false))), [start()]);
    }
}

#[test]
fn an_acknowledgement_of_nothing_does_nothing() {
    let mut node = Node::running(9);
    assert_eq!(node.step(Event::Acknowledged(address(1))), []);
    assert_eq!(node.look(Some(nic(true))), []);
    assert_eq!(node.state(), "Running");
}

#[test]
fn one_that_cannot_be_started_says_so() {
    let mut node = Node::new();
    node.look(Some(nic(false)));
    let reason = "start /usr/bin/cxi_rh: no such file".to_owned();
    assert_eq!(node.step(Event::NotStarted { address: address(1), reason }), [tidy_up()]);
    assert_eq!(node.state(), "Failed start /usr/bin/cxi_rh");
    assert_eq!(node.look(Some(nic(false))), []);
}

#[test]
fn an_end_waits_for_every_process() {
    let mut node = Node::running(9);
    assert_eq!(node.may_be_asked(9), [], "it is not to end");
    assert_eq!(node.step(Event::End), []);
    assert_eq!(node.state(), "Stopping");
    assert_eq!(node.held_back(), [9]);
    assert_eq!(node.may_be_asked(8), [], "another one");
    assert_eq!(node.may_be_asked(9), [terminate(9)]);
    assert!(node.held_back().is_empty());
    assert_eq!(node.step(Event::End), [], "asked once");
    assert_eq!(node.may_be_asked(9), [], "asked once");
    assert_eq!(node.state(), "Stopping");
    assert_eq!(node.look(Some(nic(false))), []);
    assert_eq!(node.look(None), []);
    assert!(!node.machine.has_ended());
    assert_eq!(node.ended(9, Exit::Code(0), false), [tidy_up()]);
    assert!(node.machine.has_ended());
    assert_eq!(node.state(), "none");
    assert_eq!(node.look(Some(nic(false))), []);
}

#[test]
fn an_end_while_starting_waits_too() {
    let mut node = Node::new();
    node.look(Some(nic(false)));
    assert_eq!(node.step(Event::End), []);
    assert!(!node.machine.has_ended());
    assert_eq!(node.started(9), []);
    assert_eq!(node.held_back(), [9]);
    assert_eq!(node.look(Some(nic(false))), []);
    assert!(!node.machine.has_ended());
    assert_eq!(node.may_be_asked(9), [terminate(9)]);
    node.ended(9, Exit::Code(0), false);
    assert!(node.machine.has_ended());
    assert_eq!(node.state(), "none");

    let mut node = Node::new();
    node.look(Some(nic(false)));
    node.step(Event::End);
    node.step(Event::NotStarted { address: address(1), reason: String::new() });
    assert!(node.machine.has_ended());
}

#[test]
fn an_end_that_was_asked_for_and_is_not_in_order_is_a_failure() {
    for (exit, said) in
        [(Exit::Code(1), "with status 1"), (Exit::Signal(15), "by signal 15"), (Exit::Signal(11), "by signal 11")]
    {
        let mut node = Node::running(9);
        node.step(Event::End);
        node.may_be_asked(9);
        // Also where another program's is attached by now.
        assert_eq!(node.ended(9, exit, true), []);
        assert!(node.machine.has_ended());
        assert_eq!(node.state(), format!("Failed it ended {said} {ASKED}"));
        assert_eq!(node.step(Event::End), []);
        let left = node.record().unwrap();
        assert_eq!((left.exit, left.pid), (Some(exit), None));
        // The next supervisor starts none either.
        let mut next = Node::after(BTreeMap::from([(address(1), Ok(left))]));
        assert_eq!(next.look(Some(nic(false))), []);
        assert_eq!(next.state(), format!("Failed it ended {said} {ASKED}"));
        assert_eq!(next.look(Some(SeenNic { instance: 8, ..nic(false) })), [start()], "a NIC that was reset");
    }
    let mut node = Node::running(9);
    node.step(Event::End);
    node.may_be_asked(9);
    let how = Ended { exit: None, lived: Duration::from_mins(1), said: vec![], attached: Some(false) };
    node.step(Event::Ended { address: address(1), pid: 9, how });
    assert_eq!(node.state(), format!("Failed it ended in a way that got lost {ASKED}"));
}

#[test]
fn an_end_before_it_could_be_asked_is_as_if_it_was_not_wanted() {
    for (exit, attached, state) in [
        (Exit::Signal(11), false, format!("Failed it ended by signal 11 {UNASKED}")),
        (Exit::Code(0), false, format!("Failed it ended with status 0 {UNASKED}")),
        (Exit::Code(1), false, format!("Failed it ended with status 1 {UNASKED}")),
        // It came second: the driver did not take it.
        (Exit::Code(1), true, "none".to_owned()),
    ] {
        let mut node = Node::new();
        node.look(Some(nic(false)));
        node.started(9);
        node.step(Event::End);
        node.ended(9, exit, attached);
        assert!(node.machine.has_ended());
        assert_eq!(node.state(), state);
    }
}

#[test]
fn failures_and_those_of_others_keep_no_end() {
    let mut node = Node::running(9);
    node.ended(9, Exit::Code(1), false);
    assert_eq!(node.step(Event::End), []);
    assert!(node.machine.has_ended());
    assert_eq!(node.state(), "none");
}

#[test]
fn a_nic_that_is_gone_takes_its_handler_with_it() {
    let mut node = Node::running(9);
    assert_eq!(node.look(None), []);
    assert_eq!(node.look(None), [], "two looks are no proof");
    assert_eq!(node.look(Some(nic(true))), []);
    for _ in 0..2 {
        assert_eq!(node.look(None), []);
    }
    assert!(node.held_back().is_empty());
    assert_eq!(node.look(None), []);
    assert_eq!(node.may_be_asked(9), [terminate(9)]);
    assert_eq!(node.look(None), []);
    assert_eq!(node.ended(9, Exit::Code(1), false), [tidy_up()]);
    assert_eq!(node.state(), "none");
    assert_eq!(node.look(Some(nic(false))), [start()]);
}

#[test]
fn a_nic_that_is_back_before_its_handler_ended_is_known_to_have_failed() {
    let mut node = Node::running(9);
    for _ in 0..3 {
        node.look(None);
    }
    node.may_be_asked(9);
    node.look(Some(nic(true)));
    node.ended(9, Exit::Signal(15), false);
    assert_eq!(node.look(Some(nic(false))), []);
    assert_eq!(node.state(), format!("Failed it ended by signal 15 {ASKED}"));
}

#[test]
fn a_nic_that_cannot_be_identified_is_not_gone() {
    let mut node = Node::running(9);
    for _ in 0..10 {
        let unidentified = BTreeSet::from(["cxi0".to_owned()]);
        assert_eq!(node.step(Event::Looked(Seen { unidentified, ..Seen::default() })), []);
    }
    assert_eq!(node.state(), "Running");
}

#[test]
fn a_nic_that_was_bound_anew_gets_a_new_handler_when_the_old_one_is_gone() {
    let anew = SeenNic { instance: 8, ..nic(false) };
    let mut node = Node::running(9);
    assert_eq!(node.look(Some(anew.clone())), []);
    assert_eq!(node.may_be_asked(9), [terminate(9)]);
    assert_eq!(node.look(Some(anew.clone())), []);
    node.ended(9, Exit::Signal(15), false);
    assert_eq!(node.look(Some(anew.clone())), [start()]);
    // The NIC was reset: what failed before is no matter.
    let mut node = Node::running(9);
    node.ended(9, Exit::Code(1), false);
    assert_eq!(node.look(Some(anew)), [start()]);
}

#[test]
fn one_that_others_run_is_left_alone() {
    let mut node = Node::new();
    assert_eq!(node.look(Some(nic(true))), []);
    assert_eq!(node.state(), "Host");
    assert_eq!(node.look(Some(nic(false))), [], "it may be restarting");
    assert_eq!(node.state(), "Failed the retry handler that ran outside this pod has ended");
    assert_eq!(node.look(Some(nic(true))), []);
    assert_eq!(node.state(), "Host");
    node.look(Some(nic(false)));
    node.step(Event::Acknowledged(address(1)));
    assert_eq!(node.look(Some(nic(false))), [start()]);
}

#[test]
fn one_that_comes_second_has_not_failed() {
    let mut node = Node::new();
    node.look(Some(nic(false)));
    node.started(9);
    assert_eq!(node.ended(9, Exit::Code(1), true), [], "what is there is the other one's");
    assert_eq!(node.state(), "Host");
}

#[test]
fn one_that_does_not_attach_says_so() {
    let mut node = Node::new();
    node.look(Some(nic(false)));
    node.started(9);
    node.second += 31;
    node.look(Some(nic(false)));
    assert_eq!(node.state(), format!("Starting {}", overdue()));
    node.look(Some(nic(true)));
    assert_eq!(node.state(), "Running");
    node.look(Some(nic(false)));
    assert_eq!(node.state(), format!("Starting {LOST}"));
    node.look(Some(SeenNic { attached: Err(String::new()), ..nic(false) }));
    assert_eq!(node.state(), format!("Starting {LOST}"));
}

#[test]
fn what_a_killed_supervisor_left_is_no_reason_to_start_another() {
    let mut running = Node::running(9);
    let left = running.record().unwrap();
    running.ended(9, Exit::Code(1), false);
    let failed = running.record().unwrap();
    let stopping = Record { state: State::Stopping, ..left.clone() };
    let not_started = Record { state: State::Starting, pid: None, ..left.clone() };
    let host = Record { state: State::Host, pid: None, ..left.clone() };
    let killed = "Failed it was killed together with its supervisor";
    let crashed = "Failed it ended with status 1 and this supervisor had not asked it to";
    let garbage = || Err("no JSON".to_owned());
    for (inherited, attached, actions, state) in [
        (Ok(left.clone()), false, vec![], killed),
        (Ok(left.clone()), true, vec![], "Host"),
        (Ok(stopping), false, vec![], killed),
        (Ok(failed.clone()), false, vec![], crashed),
        (Ok(failed.clone()), true, vec![], crashed),
        (Ok(Record { exit: None, ..failed.clone() }), true, vec![], "Host"),
        (Ok(not_started), false, vec![start()], "Starting"),
        (Ok(host.clone()), true, vec![], "Host"),
        (Ok(host), false, vec![], "Failed the retry handler that ran outside this pod has ended"),
        (Ok(Record { instance: 8, ..failed.clone() }), false, vec![start()], "Starting"),
        (Ok(Record { boot_id: "other".into(), ..failed.clone() }), false, vec![start()], "Starting"),
        (garbage(), false, vec![], "Failed what became of an earlier one cannot be told (no JSON)"),
        (garbage(), true, vec![], "Host"),
    ] {
        let mut node = Node::after(BTreeMap::from([(address(1), inherited.clone())]));
        assert_eq!(node.look(Some(nic(attached))), actions, "{inherited:?}");
        assert_eq!(node.state(), state, "{inherited:?}");
    }
    let mut node = Node::after(BTreeMap::from([(address(1), Ok(failed.clone()))]));
    assert_eq!(node.record(), Some(failed), "it stands until a look says otherwise");
    node.look(None);
    assert_eq!(node.record(), None);
}
