//! The selected telemetry counters of each NIC, as samples.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use cxi_hardware::{AttributeError, AttributeErrorKind, Nic, PciAddress, Root, Telemetry, TelemetryDirectory};
use tracing::warn;

use crate::exporter::{
    counters::{Behaviour, Known, known, split_number},
    exposition::{Exposition, Kind, Labels},
    selection::Selection,
};

/// How long a list of counters is believed. It only changes with the device, and one that was made while the driver was
/// still filling the directory has holes.
const LISTING_PERIOD: Duration = Duration::from_mins(1);

/// Reads counters, and remembers which there are.
#[derive(Debug)]
pub struct Counters {
    selection: Selection,
    listings: BTreeMap<PciAddress, Listing>,
    /// Terms of the selection that were found to be about nothing.
    idle: BTreeSet<String>,
}

/// The selected counters of one device.
#[derive(Debug)]
struct Listing {
    directory: TelemetryDirectory,
    at: Instant,
    counters: Vec<Counter>,
}

/// One counter, and the sample it becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Counter {
    file: String,
    metric: String,
    kind: Kind,
    help: Cow<'static, str>,
    label: Option<(&'static str, String)>,
}

impl Counter {
    /// No document says whether an unknown counter only grows, so its metric has the type `unknown`.
    fn new(file: String) -> Self {
        let (stem, kind, help, label) = if let Some(Known { family, member }) = known(&file) {
            let kind = match family.behaviour {
                Behaviour::Counts => Kind::Counter,
                Behaviour::Level => Kind::Gauge,
            };
            (family.name, kind, family.help.into(), family.label.zip(member.map(str::to_owned)))
        } else {
            let (stem, number) = split_number(&file);
            let help = format!("Telemetry counter {stem} of the driver").into();
            (stem, Kind::Unknown, help, number.map(|number| ("index", number.to_owned())))
        };
        let ending = if kind == Kind::Counter { "_total" } else { "" };
        Self { metric: format!("cxi_telemetry_{stem}{ending}"), kind, help, label, file }
    }
}

impl Counters {
    /// Reads what `selection` selects.
    pub fn new(selection: Selection) -> Self {
        Self { selection, listings: BTreeMap::new(), idle: BTreeSet::new() }
    }

    /// Adds the counters of `nic`. Gives back what could not be read; what is not there is not read.
    pub fn add(&mut self, root: &Root, nic: &Nic, labels: &Labels, exposition: &mut Exposition) -> Vec<AttributeError> {
        let telemetry = match Telemetry::find(root, nic) {
            Ok(Some(telemetry)) => telemetry,
            Ok(None) => return Vec::new(),
            Err(error) => return vec![error],
        };
        let listing = match self.listing(nic, &telemetry, Instant::now()) {
            Ok(listing) => listing,
            Err(error) => return vec![error],
        };
        let mut errors = Vec::new();
        for counter in &listing.counters {
            match telemetry.read(&counter.file) {
                Ok(value) => {
                    let labels =
                        counter.label.as_ref().map_or_else(|| labels.clone(), |(name, value)| labels.with(name, value));
                    let help = || counter.help.clone();
                    exposition.add_named(counter.metric.clone().into(), counter.kind, help, labels, value.into());
                }
                Err(AttributeError { kind: AttributeErrorKind::Missing, .. }) => {}
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// Forgets devices that are not among `present`.
    pub fn retain(&mut self, present: impl Fn(PciAddress) -> bool) {
        self.listings.retain(|address, _| present(*address));
    }

    fn listing(&mut self, nic: &Nic, telemetry: &Telemetry, now: Instant) -> Result<&Listing, AttributeError> {
        let directory = telemetry.directory();
        let is_current = |listing: &Listing| {
            listing.directory == directory && now.saturating_duration_since(listing.at) < LISTING_PERIOD
        };
        if !self.listings.get(&nic.address).is_some_and(is_current) {
            let mut names = telemetry.names()?;
            names.sort_unstable();
            for term in self.selection.idle(&names).map(ToString::to_string) {
                if self.idle.insert(term.clone()) {
                    warn!(term, device = %nic.name, "no counter of this NIC is named so; see --counters");
                }
            }
            names.retain(|name| self.selection.selects(name));
            let counters = names.into_iter().map(Counter::new).collect();
            self.listings.insert(nic.address, Listing { directory, at: now, counters });
        }
        Ok(&self.listings[&nic.address])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(file: &str) -> (String, Kind, Option<(&'static str, String)>) {
        let Counter { metric, kind, label, .. } = Counter::new(file.to_owned());
        (metric, kind, label)
    }

    #[test]
    fn names_are_the_drivers_and_numbers_are_labels() {
        for (file, metric, kind, label) in [
            ("pct_spt_timeouts", "cxi_telemetry_pct_spt_timeouts_total", Kind::Counter, None),
            ("hni_pkts_sent_by_tc_3", "cxi_telemetry_hni_pkts_sent_by_tc_total", Kind::Counter, Some(("tc", "3"))),
            ("hni_rx_ok_36_to_63", "cxi_telemetry_hni_rx_ok_total", Kind::Counter, Some(("size", "36_to_63"))),
            ("pct_prf_spt_status_spt_in_use", "cxi_telemetry_pct_prf_spt_status_spt_in_use", Kind::Gauge, None),
            ("cq_sts_tle_in_use_2", "cxi_telemetry_cq_sts_tle_in_use", Kind::Unknown, Some(("index", "2"))),
            ("rmu_ptl_success_cntr", "cxi_telemetry_rmu_ptl_success_cntr", Kind::Unknown, None),
        ] {
            let label = label.map(|(name, value)| (name, value.to_owned()));
            assert_eq!(counter(file), (metric.to_owned(), kind, label));
        }
    }
}
