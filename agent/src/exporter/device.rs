//! What is exported of one NIC besides its telemetry.

use std::time::{Duration, Instant};

use cxi_hardware::{
    AttributeError, Boot, ErrorCounts, Function, Link, Nic, NicDetails, Root,
    health::{Health, RetryHandler, judge},
    retry_handler::{Attachment, Expectation, Record, State, StatisticsError},
};

use crate::exporter::{
    exposition::{Exposition, Labels, Metric, Value},
    metrics::{
        DEVICE_INFO, HEALTH_STATUS, LINK_DOWN, LINK_LAST_RESTART, LINK_RESTARTS, LINK_SPEED, LINK_STATE,
        LINK_UP_FAILED, NUMA_NODE, PCIE_AER, PCIE_ERRORS, RESOURCE_GROUPS, RETRY_AGE, RETRY_HANDLER_FAILED,
        RETRY_HANDLER_RUNNING, RETRY_STUCK,
    },
    problems::{Problems, Subject},
    retry,
    statistics::Known,
};

/// Age at which statistics of a retry handler that hangs say nothing any more.
const OLDEST_STATISTICS: Duration = Duration::from_mins(5);

/// Windows of the restarts that the vendor's health check counts (more than 5 within an hour, 10 within ten).
const RESTART_WINDOWS: [(&str, u64); 2] = [("1h", 3600), ("10h", 36_000)];

/// The node that a NIC is read on.
#[derive(Clone, Copy, Debug)]
pub struct Node<'a> {
    /// Where it is read.
    pub root: &'a Root,
    /// Its boot; `None` where that is not known, and then no record of a retry handler can be trusted.
    pub boot: Option<&'a Boot>,
    /// What is expected of retry handlers.
    pub retry_handler: Expectation,
    /// Seconds since 1970.
    pub now: u64,
}

/// Adds what `nic` is and what went wrong on it; `None` when it is gone by the end of reading.
pub fn add(
    node: Node<'_>,
    nic: &Nic,
    labels: &Labels,
    exposition: &mut Exposition,
    problems: &mut Problems,
) -> Option<()> {
    let Node { root, now, .. } = node;
    let details = NicDetails::read(root, nic)?;
    let counts = ErrorCounts::read(root, nic)?;
    let attachment = Attachment::read(root, nic)?;
    let mut samples = Samples { device: nic.name.to_string(), labels, exposition, problems };

    let link = match (&nic.link, nic.link_error()) {
        (Ok(link), _) => Ok(Some(*link == Link::Up)),
        (Err(_), None) => Ok(None),
        (Err(_), Some(error)) => Err(error),
    };
    samples.add(&LINK_STATE, link);
    samples.add(&NUMA_NODE, nic.numa_node.as_ref().map(|node| *node));
    // A Gb/s is 125,000,000 bytes per second.
    let speed = |speed: &Option<u32>| speed.map(|speed| u64::from(speed) * 125_000_000);
    samples.add(&LINK_SPEED, details.link_speed.as_ref().map(speed));
    samples.info(nic, &details);

    samples.add(&RESOURCE_GROUPS, counts.resource_groups_available.as_ref().map(|count| *count));
    samples.add(&LINK_DOWN, counts.link_down.as_ref().map(|count| *count));
    samples.add(&LINK_UP_FAILED, counts.link_up_failed.as_ref().map(|count| *count));
    for (severity, count) in
        [("correctable", &counts.aer_correctable), ("nonfatal", &counts.aer_nonfatal), ("fatal", &counts.aer_fatal)]
    {
        samples.add_with(&PCIE_AER, ("severity", severity), count.as_ref().map(|count| *count));
    }
    for (severity, count) in [("corrected", &counts.pcie_corrected), ("uncorrected", &counts.pcie_uncorrected)] {
        samples.add_with(&PCIE_ERRORS, ("severity", severity), count.as_ref().map(|count| *count));
    }
    let restarts = counts.link_restarts.as_ref();
    for (window, seconds) in RESTART_WINDOWS {
        let within = |times: &Vec<u64>| times.iter().filter(|at| now.saturating_sub(**at) < seconds).count() as u64;
        samples.add_with(&LINK_RESTARTS, ("window", window), restarts.map(|times| times.as_ref().map(within)));
    }
    let last = |times: &Option<Vec<u64>>| times.as_ref().and_then(|times| times.iter().max().copied());
    samples.add(&LINK_LAST_RESTART, restarts.map(last));

    samples.health(node, nic, &attachment);
    Some(())
}

/// Adds what is known of the retry handler of `nic`.
pub fn add_statistics(
    known: &Known,
    nic: &Nic,
    labels: &Labels,
    now: Instant,
    exposition: &mut Exposition,
    problems: &mut Problems,
) {
    let device = nic.name.to_string();
    let stuck = matches!(known.error, Some(StatisticsError::Hung { .. }));
    if stuck || known.last.is_some() {
        exposition.add(&RETRY_STUCK, labels, stuck);
    }
    match &known.error {
        // None is what most nodes have where the retry handler runs without them.
        None | Some(StatisticsError::Absent { .. }) => {}
        Some(error) => problems.add(Subject::RetryHandler, &device, error),
    }
    let Some((at, statistics)) = &known.last else { return };
    for error in &statistics.errors {
        problems.add(Subject::RetryHandler, &device, error);
    }
    let age = now.saturating_duration_since(*at);
    exposition.add(&RETRY_AGE, labels, age.as_secs_f64());
    if age < OLDEST_STATISTICS {
        retry::add(exposition, labels, statistics);
    }
}

/// Where samples of one NIC go.
struct Samples<'a> {
    device: String,
    labels: &'a Labels,
    exposition: &'a mut Exposition,
    problems: &'a mut Problems,
}

impl Samples<'_> {
    fn add<T: Into<Value>>(&mut self, metric: &Metric, value: Result<Option<T>, &AttributeError>) {
        match value {
            Ok(Some(value)) => self.exposition.add(metric, self.labels, value),
            Ok(None) => {}
            Err(error) => self.problem(Subject::Attribute, error),
        }
    }

    fn add_with<T: Into<Value>>(
        &mut self,
        metric: &Metric,
        (name, label): (&str, &str),
        value: Result<Option<T>, &AttributeError>,
    ) {
        match value {
            Ok(Some(value)) => self.exposition.add(metric, &self.labels.with(name, label), value),
            Ok(None) => {}
            Err(error) => self.problem(Subject::Attribute, error),
        }
    }

    fn problem(&mut self, subject: Subject, error: &AttributeError) {
        self.problems.add(subject, &self.device, error);
    }

    /// Whether pods can use the NIC, and how its retry handler stands.
    fn health(&mut self, node: Node<'_>, nic: &Nic, attachment: &Attachment) {
        let Attachment { instance, attached } = attachment;
        let record = match node.boot.map(|boot| Record::read_current(node.root, boot, nic.address, || Some(*instance)))
        {
            Some(Ok(record)) => record,
            Some(Err(error)) => {
                self.problem(Subject::RetryHandler, &error);
                None
            }
            None => None,
        };
        if nic.function == Ok(Function::Physical) {
            // Where no retry handler is expected and none runs there is no sample: 0 would be an alert without a cure.
            let told = |attached: bool| attached || record.is_some() || node.retry_handler == Expectation::Attached;
            let running = attached.as_ref().map(|attached| Some(*attached).filter(|attached| told(*attached)));
            self.add(&RETRY_HANDLER_RUNNING, running);
            self.add(&RETRY_HANDLER_FAILED, Ok(record.as_ref().map(|record| record.state == State::Failed)));
        }
        let retry_handler = RetryHandler {
            attached,
            record: record.as_ref(),
            expected: node.retry_handler.without_memory(),
            had_one: false,
        };
        match judge(nic, Some(retry_handler)) {
            Health::Usable => self.add(&HEALTH_STATUS, Ok(Some(true))),
            Health::Unusable(_) => self.add(&HEALTH_STATUS, Ok(Some(false))),
            Health::Unknown(error) => self.problem(Subject::Attribute, &error),
        }
    }

    /// One sample whose labels say what the NIC is. A label without a value is one that Prometheus does not keep.
    fn info(&mut self, nic: &Nic, details: &NicDetails) {
        let id = nic.id.as_ref().ok();
        let function = nic.function.as_ref().ok().map(|function| match function {
            Function::Physical => "pf",
            Function::Virtual => "vf",
        });
        let generation = id.and_then(|id| id.cassini_generation());
        let mac = details.mac.as_ref().ok().and_then(Option::as_ref);
        let nid = details.nid.as_ref().ok().and_then(Option::as_ref);
        let unread = [
            nic.id.as_ref().err(),
            nic.function.as_ref().err(),
            nic.netdev.as_ref().err(),
            details.mac.as_ref().err(),
            details.nid.as_ref().err(),
        ];
        for error in unread.into_iter().flatten() {
            self.problem(Subject::Attribute, error);
        }
        let labels = self
            .labels
            .with("pci_id", &id.map(ToString::to_string).unwrap_or_default())
            .with("cassini_generation", &generation.map(|generation| generation.to_string()).unwrap_or_default())
            .with("type", function.unwrap_or_default())
            .with("mac", &mac.map(ToString::to_string).unwrap_or_default())
            .with("nid", &nid.map(|nid| format!("{nid:#x}")).unwrap_or_default());
        self.exposition.add(&DEVICE_INFO, &labels, true);
    }
}
