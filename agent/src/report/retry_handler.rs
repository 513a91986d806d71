//! What is seen of retry handlers: the supervisor's state files, and statistics, which are not read with every look.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use cxi_api::device;
use cxi_hardware::{
    AttributeError, AttributeErrorKind, Boot, NicName, PciAddress, Root,
    retry_handler::{
        Attachment, Exit, Record, State, Statistics, StatisticsError, StatisticsReader, statistics_directory,
    },
};
use jiff::Timestamp;

use crate::report::nic::{SeenNic, SeenRetryHandler};

/// How old statistics may be. They change all the time, and each change would be a write to the API server: with 1,000
/// nodes of 8 NICs this makes 27 a second. Metrics are the place for what is more recent.
const STATISTICS_PERIOD: Duration = Duration::from_mins(5);

/// Time until statistics that could not be had are tried again.
const STATISTICS_RETRY_AFTER: Duration = Duration::from_secs(10);

/// How long a look waits for statistics.
const STATISTICS_WAIT: Duration = Duration::from_millis(500);

/// A handler of a NIC: one that was started anew counts anew.
type Key = (PciAddress, NicName, Option<Timestamp>);

/// Statistics, and when they were read.
#[derive(Debug, Default)]
pub(super) struct StatisticsCache {
    reader: StatisticsReader,
    read: BTreeMap<Key, (Instant, Result<Statistics, StatisticsError>)>,
}

impl StatisticsCache {
    /// Looks at the retry handlers of `nics`.
    pub(super) fn look_at(&mut self, root: &Root, boot: &Boot, nics: &mut BTreeMap<PciAddress, SeenNic>, now: Instant) {
        for seen in nics.values_mut() {
            let instance = || Attachment::read(root, &seen.nic).map(|attachment| attachment.instance);
            match Record::read_current(root, boot, seen.nic.address, instance) {
                Ok(record) => seen.retry_handler.record = record,
                Err(error) => seen.retry_handler.problems.push(error),
            }
        }
        let attached = |seen: &&mut SeenNic| seen.details.retry_handler == Ok(true);
        let mut nics: Vec<_> = nics.values_mut().filter(attached).map(|seen| (key(seen), seen)).collect();
        self.read.retain(|known, _| nics.iter().any(|(key, _)| key == known));
        let due: Vec<_> = nics.iter().filter(|(key, _)| self.is_due(key, now)).map(|(key, _)| *key).collect();
        let devices: Vec<_> = due.iter().map(|(_, device, _)| *device).collect();
        let mut answers =
            if devices.is_empty() { BTreeMap::new() } else { self.reader.read(root, &devices, STATISTICS_WAIT) };
        self.read.extend(due.into_iter().filter_map(|key| Some((key, (now, answers.remove(&key.1)?)))));
        for (key, seen) in &mut nics {
            match self.read.get(key) {
                None => {}
                Some((_, Ok(statistics))) => {
                    seen.retry_handler.problems.extend(statistics.errors.iter().cloned());
                    seen.retry_handler.statistics = Some(statistics.clone());
                }
                Some((_, Err(error))) => seen.retry_handler.problems.extend(problem(root, seen.nic.name, error)),
            }
        }
    }

    fn is_due(&self, key: &Key, now: Instant) -> bool {
        self.read.get(key).is_none_or(|(at, answer)| {
            let period = if answer.is_ok() { STATISTICS_PERIOD } else { STATISTICS_RETRY_AFTER };
            now.duration_since(*at) >= period
        })
    }
}

fn key(seen: &SeenNic) -> Key {
    let since = seen.retry_handler.record.as_ref().map(|record| record.since);
    (seen.nic.address, seen.nic.name, since)
}

/// No statistics at all are no problem: not every build of the handler serves them, and what the host runs may serve
/// them where they are not seen here.
fn problem(root: &Root, device: NicName, error: &StatisticsError) -> Option<AttributeError> {
    let unreadable = |kind| {
        Some(AttributeError { path: statistics_directory(root, device), kind: AttributeErrorKind::Unreadable(kind) })
    };
    match error {
        StatisticsError::Absent { .. } => None,
        StatisticsError::Gone { .. } => unreadable(io::ErrorKind::NotConnected),
        StatisticsError::Hung { .. } => unreadable(io::ErrorKind::TimedOut),
        StatisticsError::NoThread { .. } => unreadable(io::ErrorKind::OutOfMemory),
        StatisticsError::Unreadable(error) => Some(error.clone()),
    }
}

impl SeenRetryHandler {
    /// Its part of the CXIDevice, when it is known whether one is `attached`.
    pub(super) fn status(&self, attached: bool) -> device::RetryHandler {
        let record = self.record.as_ref();
        let exit = record.and_then(|record| record.exit);
        device::RetryHandler {
            enabled: attached,
            policy: record.map(|record| match record.state {
                State::Host => device::RetryHandlerPolicy::Host,
                State::Starting | State::Running | State::Stopping | State::Failed => {
                    device::RetryHandlerPolicy::Daemonset
                }
            }),
            state: record.map(|record| match record.state {
                State::Starting => device::RetryHandlerState::Starting,
                State::Running | State::Host => device::RetryHandlerState::Running,
                State::Stopping => device::RetryHandlerState::Stopping,
                State::Failed => device::RetryHandlerState::Failed,
            }),
            since: record.map(|record| record.since),
            exit_code: exit.and_then(|exit| if let Exit::Code(code) = exit { Some(code) } else { None }),
            signal: exit.and_then(|exit| if let Exit::Signal(signal) = exit { Some(signal) } else { None }),
            message: record.and_then(|record| record.message.clone()),
            stats: self.statistics.as_ref().filter(|_| attached).map(stats),
        }
    }
}

fn stats(statistics: &Statistics) -> device::RetryHandlerStats {
    let value = |name| statistics.values.get(name).copied();
    // A C `int` that went on counting past its largest value is a number of 32 bits without sign.
    let count = |name| value(name).map(|count: i32| i64::from(count.cast_unsigned()));
    // A sum with a part missing would be too small.
    let sum = |one: Option<i64>, other: Option<i64>| Some(one? + other?);
    let (timeout_retries, nack_retries) = (count("spt_timeouts"), count("nacks"));
    device::RetryHandlerStats {
        total_retries: sum(timeout_retries, nack_retries),
        timeout_retries,
        nack_retries,
        cancelled_packets: sum(count("pkts_cancelled_o"), count("pkts_cancelled_u")),
        cancelled_connections: count("connections_cancelled"),
        parked_nids: value("parked_nids"),
    }
}
