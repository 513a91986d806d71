//! Carries out what the machine decides, and tells it what happens.

use std::{
    collections::{BTreeMap, VecDeque},
    future::pending,
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use cxi_hardware::{
    Boot, NicName, PciAddress, Root, ScanError,
    retry_handler::{state_directory, statistics_directory},
};
use cxi_node::log::chain;
use rustix::process::Signal;
use tokio::{
    sync::Notify,
    task::{JoinError, JoinHandle, JoinSet, spawn_blocking},
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::retry_handler::{
    lock,
    machine::{Action, Ended, Event, Machine, Seen},
    mounts, observe,
    output::Output,
    process::{self, End, Program},
    records::Records,
    signals,
};

/// How long to wait for the driver's word on who is attached after a process ended.
const ATTACHED_LIMIT: Duration = Duration::from_secs(2);

/// Time between two questions whether a process that is to end handles SIGTERM yet.
const HELD_BACK_PERIOD: Duration = Duration::from_millis(50);

/// Time between two log lines about processes that do not end.
const REMINDER_PERIOD: Duration = Duration::from_secs(30);

/// What is supervised.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) root: Root,
    pub(super) program: Program,
    /// Time between two looks at the NICs.
    pub(super) interval: Duration,
}

/// Signals for the supervisor.
#[derive(Clone, Debug, Default)]
pub(super) struct Orders {
    /// Ask every process to end, wait for that, and end.
    pub(super) end: CancellationToken,
    /// Have every process write its state to its log.
    pub(super) dump: Arc<Notify>,
}

/// A process of the set that ended.
type Gone = (PciAddress, u32, End);

/// A process that lives.
struct Living {
    device: NicName,
    started: Instant,
}

struct Supervisor {
    config: Config,
    output: Output,
    machine: Machine,
    records: Records,
    processes: JoinSet<Gone>,
    pids: BTreeMap<u32, Living>,
    blind: bool,
}

/// Supervises until told to end, and then until every process has ended.
///
/// # Errors
/// Only before anything was started.
pub(super) async fn run(config: Config, orders: Orders) -> anyhow::Result<()> {
    let directory = state_directory(&config.root);
    let locking = lock::take(&directory);
    let _lock = tokio::select! {
        lock = locking => lock.with_context(|| format!("take the lock in {}", directory.display()))?,
        () = orders.end.cancelled() => return Ok(()),
    };
    let boot_id = Boot::read(&config.root).context("which boot this is")?.boot_id;
    let (records, inherited) =
        Records::open(config.root.clone()).with_context(|| format!("read {}", directory.display()))?;
    let output = Output::start().context("start a thread for the log")?;
    let machine = Machine::new(boot_id, inherited);
    let processes = JoinSet::new();
    let mut supervisor =
        Supervisor { config, output, machine, records, processes, pids: BTreeMap::new(), blind: false };
    info!("supervising");
    supervisor.run(orders).await;
    info!("every retry handler of this pod has ended");
    Ok(())
}

impl Supervisor {
    async fn run(&mut self, orders: Orders) {
        let mut look: Option<JoinHandle<Result<Seen, ScanError>>> = None;
        let mut next_look = Instant::now();
        let mut next_question = Instant::now();
        let mut reminder = None;
        while !self.machine.has_ended() {
            tokio::select! {
                () = orders.end.cancelled(), if reminder.is_none() => {
                    info!("asking every retry handler to end");
                    reminder = Some(Instant::now() + REMINDER_PERIOD);
                    self.happen(Event::End);
                }
                Some(ended) = self.processes.join_next() => {
                    self.ended(ended).await;
                    // A look that began before this says nothing about what is so after it.
                    look = None;
                    next_look = Instant::now();
                }
                seen = finished(&mut look) => {
                    look = None;
                    next_look = Instant::now() + self.config.interval;
                    self.looked(seen);
                }
                () = sleep_until(next_look), if look.is_none() => {
                    let root = self.config.root.clone();
                    look = Some(spawn_blocking(move || observe::see(&root)));
                }
                () = sleep_until(next_question), if self.machine.held_back().next().is_some() => {
                    self.ask_if_they_listen();
                    next_question = Instant::now() + HELD_BACK_PERIOD;
                }
                () = orders.dump.notified() => self.dump(),
                () = at(reminder) => {
                    self.remind();
                    reminder = Some(Instant::now() + REMINDER_PERIOD);
                }
            }
        }
        // Also what an earlier supervisor left, when the end came before the first look.
        self.records.publish(self.machine.records());
    }

    fn looked(&mut self, seen: Result<Result<Seen, ScanError>, JoinError>) {
        match seen {
            Ok(Ok(seen)) => {
                if std::mem::take(&mut self.blind) {
                    info!("the NICs can be listed again");
                }
                for address in self.records.acknowledged() {
                    self.happen(Event::Acknowledged(address));
                }
                self.happen(Event::Looked(seen));
            }
            Ok(Err(error)) => self.is_blind(&chain(&error)),
            Err(error) => self.is_blind(&chain(&error)),
        }
    }

    fn is_blind(&mut self, error: &str) {
        if !std::mem::replace(&mut self.blind, true) {
            error!(error, "the NICs cannot be listed: everything stays as it is");
        }
    }

    async fn ended(&mut self, ended: Result<Gone, JoinError>) {
        let (address, pid, end) = match ended {
            Ok(ended) => ended,
            Err(error) => {
                error!(error = chain(&error), "lost sight of a retry handler");
                return;
            }
        };
        if let Some(Living { device, .. }) = self.pids.remove(&pid) {
            let exit = end.exit.map_or_else(|| "in a way that got lost".to_owned(), |exit| exit.to_string());
            info!(%device, pci = %address, pid, exit, "retry handler ended");
        }
        let attached = self.is_attached(address).await;
        let End { exit, lived, said } = end;
        self.happen(Event::Ended { address, pid, how: Ended { exit, lived, said, attached } });
    }

    async fn is_attached(&self, address: PciAddress) -> Option<bool> {
        let root = self.config.root.clone();
        let seen = timeout(ATTACHED_LIMIT, spawn_blocking(move || observe::see(&root))).await;
        seen.ok()?.ok()?.ok()?.nics.get(&address)?.attached.clone().ok()
    }

    /// Tells the machine and does what it says.
    fn happen(&mut self, event: Event) {
        let mut events = VecDeque::from([event]);
        while let Some(event) = events.pop_front() {
            for action in self.machine.step(event, cxi_node::clock::now()) {
                match action {
                    Action::Start { address, device } => events.push_back(self.start(address, device)),
                    Action::Terminate { address, pid } => {
                        if let Err(error) = process::terminate(pid) {
                            // Its end is on the way.
                            warn!(pci = %address, pid, error = chain(&error), "SIGTERM could not be sent");
                        }
                    }
                    Action::TidyUp(device) => {
                        let directory = statistics_directory(&self.config.root, device);
                        if let Err(error) = mounts::sweep(&directory) {
                            let directory = directory.display();
                            warn!(%device, %directory, error = chain(&error), "what it left could not be removed");
                        }
                    }
                }
            }
        }
        self.records.publish(self.machine.records());
    }

    fn start(&mut self, address: PciAddress, device: NicName) -> Event {
        let directory = statistics_directory(&self.config.root, device);
        if let Err(error) = mounts::prepare(&directory) {
            let (directory, error) = (directory.display(), chain(&error));
            warn!(%device, %directory, error, "no directory for its statistics: it runs without them");
        }
        match self.config.program.start(device, address, &self.output) {
            Ok(process) => {
                let pid = process.pid;
                self.pids.insert(pid, Living { device, started: Instant::now() });
                self.processes.spawn(async move { (address, pid, process.end().await) });
                Event::Started { address, pid }
            }
            Err(error) => {
                let program = self.config.program.path.display();
                Event::NotStarted { address, reason: format!("start {program}: {}", chain(&error)) }
            }
        }
    }

    /// Those that are to end and handle SIGTERM by now are asked to.
    fn ask_if_they_listen(&mut self) {
        let held_back: Vec<_> = self.machine.held_back().collect();
        for (address, pid) in held_back {
            let age = self.pids.get(&pid).map_or(Duration::MAX, |living| living.started.elapsed());
            let handles = signals::handles(pid, Signal::TERM);
            if signals::may_terminate(&handles, age) {
                if !matches!(handles, Ok(true)) {
                    warn!(pci = %address, pid, "SIGTERM although it handles none after so long: it hangs, or never will");
                }
                self.happen(Event::MayBeAsked { address, pid });
            }
        }
    }

    fn dump(&self) {
        for (pid, Living { device, .. }) in &self.pids {
            let sent = match signals::handles(*pid, Signal::HUP) {
                Ok(true) => process::dump(*pid),
                Ok(false) => {
                    info!(%device, pid, "no SIGHUP to one that starts: it would end by it");
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = sent {
                warn!(%device, pid, error = chain(&error), "SIGHUP could not be sent");
            }
        }
    }

    fn remind(&self) {
        for (pid, Living { device, .. }) in &self.pids {
            warn!(%device, pid, "has not ended yet; it is waited for and never killed, that would leave the NIC undefined");
        }
    }
}

/// Completes with the look that is going on; never without one.
async fn finished<T>(look: &mut Option<JoinHandle<T>>) -> Result<T, JoinError> {
    match look {
        Some(look) => look.await,
        None => pending().await,
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => pending().await,
    }
}
