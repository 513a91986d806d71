//! What scrapes could not read: counted, and logged when it begins and when it is over.

use std::{collections::BTreeMap, fmt::Display};

use tracing::{info, warn};

use crate::exporter::{
    exposition::{Exposition, Labels},
    metrics::SCRAPE_ERRORS,
};

/// What could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Which NICs there are.
    DeviceDiscovery,
    /// Which modules are loaded.
    Modules,
    /// An attribute of a NIC.
    Attribute,
    /// A telemetry counter.
    Telemetry,
    /// The statistics of a retry handler, or what its supervisor says.
    RetryHandler,
}

impl Subject {
    const ALL: [Self; 5] = [Self::DeviceDiscovery, Self::Modules, Self::Attribute, Self::Telemetry, Self::RetryHandler];

    fn name(self) -> &'static str {
        match self {
            Self::DeviceDiscovery => "device_discovery",
            Self::Modules => "modules",
            Self::Attribute => "attribute",
            Self::Telemetry => "telemetry",
            Self::RetryHandler => "retry_handler",
        }
    }
}

/// Problems of one scrape: the first of each subject and device, and how many there are.
#[derive(Debug, Default)]
pub struct Problems(BTreeMap<(Subject, String), (String, u64)>);

impl Problems {
    /// Adds one; `device` is empty where it is about the node.
    pub fn add(&mut self, subject: Subject, device: &str, problem: &dyn Display) {
        let (_, count) = self.0.entry((subject, device.to_owned())).or_insert_with(|| (problem.to_string(), 0));
        *count += 1;
    }

    /// Adds all of `other`.
    pub fn append(&mut self, mut other: Self) {
        self.0.append(&mut other.0);
    }
}

/// Problems of all scrapes so far.
#[derive(Debug, Default)]
pub struct History {
    last: Problems,
    totals: BTreeMap<Subject, u64>,
}

impl History {
    /// Takes in the problems of a scrape.
    pub fn learn(&mut self, problems: Problems) {
        for ((subject, device), (first, count)) in &problems.0 {
            *self.totals.entry(*subject).or_default() += count;
            if !self.last.0.contains_key(&(*subject, device.clone())) {
                warn!(subject = subject.name(), device, count, "cannot be read: {first}");
            }
        }
        for (subject, device) in self.last.0.keys() {
            if !problems.0.contains_key(&(*subject, device.clone())) {
                info!(subject = subject.name(), device, "can be read again, or is gone");
            }
        }
        self.last = problems;
    }

    /// Adds the counts; those that are 0 too, so that a first problem is an increase.
    pub fn expose(&self, exposition: &mut Exposition, node: &Labels) {
        for subject in Subject::ALL {
            let count = self.totals.get(&subject).copied().unwrap_or_default();
            exposition.add(&SCRAPE_ERRORS, &node.with("type", subject.name()), count);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exporter::exposition::Format;

    #[test]
    fn problems_add_up_over_scrapes() {
        let mut history = History::default();
        for _ in 0..2 {
            let mut problems = Problems::default();
            problems.add(Subject::Telemetry, "cxi0", &"a");
            problems.add(Subject::Telemetry, "cxi0", &"b");
            problems.add(Subject::Telemetry, "cxi1", &"c");
            history.learn(problems);
        }
        history.learn(Problems::default());
        let mut exposition = Exposition::default();
        history.expose(&mut exposition, &Labels::new(&[("node", "n1")]));
        let text = exposition.text(Format::Text);
        assert!(text.contains("cxi_scrape_errors_total{node=\"n1\",type=\"telemetry\"} 6\n"), "{text}");
        assert!(text.contains("cxi_scrape_errors_total{node=\"n1\",type=\"modules\"} 0\n"), "{text}");
    }
}
