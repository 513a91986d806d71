//! Turns what a retry handler counts into samples. Pure.

use cxi_hardware::retry_handler::Statistics;

use crate::exporter::{
    exposition::{Exposition, Labels, Metric},
    metrics::{
        RETRY, RETRY_CANCELLED_CONNECTIONS, RETRY_CANCELLED_PACKETS, RETRY_CANCELS, RETRY_CONNECTION_TIMEOUTS,
        RETRY_IN_USE, RETRY_NACK, RETRY_NACKS_BY_REASON, RETRY_PARKED, RETRY_TIMEOUT,
    },
};

type Label = (&'static str, &'static str);

/// Counts of events: file, metric, label.
const EVENTS: &[(&str, &Metric, Option<Label>)] = &[
    ("nacks", &RETRY_NACK, None),
    ("spt_timeouts", &RETRY_TIMEOUT, None),
    ("nack_no_matching_conn", &RETRY_NACKS_BY_REASON, Some(("reason", "no_matching_conn"))),
    ("nack_no_target_conn", &RETRY_NACKS_BY_REASON, Some(("reason", "no_target_conn"))),
    ("nack_no_target_mst", &RETRY_NACKS_BY_REASON, Some(("reason", "no_target_mst"))),
    ("nack_no_target_trs", &RETRY_NACKS_BY_REASON, Some(("reason", "no_target_trs"))),
    ("nack_resource_busy", &RETRY_NACKS_BY_REASON, Some(("reason", "resource_busy"))),
    ("nack_sequence_error", &RETRY_NACKS_BY_REASON, Some(("reason", "sequence_error"))),
    ("nack_trs_pend_rsp", &RETRY_NACKS_BY_REASON, Some(("reason", "trs_pend_rsp"))),
    ("pkts_cancelled_o", &RETRY_CANCELLED_PACKETS, Some(("ordering", "ordered"))),
    ("pkts_cancelled_u", &RETRY_CANCELLED_PACKETS, Some(("ordering", "unordered"))),
    ("cancel_no_matching_conn", &RETRY_CANCELS, Some(("reason", "no_matching_conn"))),
    ("cancel_resource_busy", &RETRY_CANCELS, Some(("reason", "resource_busy"))),
    ("cancel_tct_closed", &RETRY_CANCELS, Some(("reason", "tct_closed"))),
    ("cancel_trs_pend_rsp", &RETRY_CANCELS, Some(("reason", "trs_pend_rsp"))),
    ("connections_cancelled", &RETRY_CANCELLED_CONNECTIONS, None),
    ("sct_timeouts", &RETRY_CONNECTION_TIMEOUTS, Some(("side", "source"))),
    ("tct_timeouts", &RETRY_CONNECTION_TIMEOUTS, Some(("side", "target"))),
];

/// Levels: file, metric, label.
const LEVELS: &[(&str, &Metric, Label)] = &[
    ("mst_in_use", &RETRY_IN_USE, ("table", "mst")),
    ("sct_in_use", &RETRY_IN_USE, ("table", "sct")),
    ("smt_in_use", &RETRY_IN_USE, ("table", "smt")),
    ("spt_in_use", &RETRY_IN_USE, ("table", "spt")),
    ("srb_in_use", &RETRY_IN_USE, ("table", "srb")),
    ("tct_in_use", &RETRY_IN_USE, ("table", "tct")),
    ("trs_in_use", &RETRY_IN_USE, ("table", "trs")),
    ("parked_nids", &RETRY_PARKED, ("kind", "nids")),
    ("parked_switches", &RETRY_PARKED, ("kind", "switches")),
];

/// Adds the samples of one NIC.
///
/// The retry handler counts in a C `int`. Its bits are read as a number without sign, so that a count goes on after 2³¹
/// and starts again at 2³², which Prometheus takes for a restart of the retry handler.
pub fn add(exposition: &mut Exposition, nic: &Labels, statistics: &Statistics) {
    let count = |file: &str| statistics.values.get(file).map(|count| count.cast_unsigned());
    for (file, metric, label) in EVENTS {
        if let Some(count) = count(file) {
            let labels = label.map_or_else(|| nic.clone(), |(name, value)| nic.with(name, value));
            exposition.add(metric, &labels, count);
        }
    }
    // A sum with a part missing would be too small.
    if let (Some(timeouts), Some(nacks)) = (count("spt_timeouts"), count("nacks")) {
        exposition.add(&RETRY, nic, u64::from(timeouts) + u64::from(nacks));
    }
    for (file, metric, (name, value)) in LEVELS {
        if let Some(level) = statistics.values.get(file) {
            exposition.add(metric, &nic.with(name, value), f64::from(*level));
        }
    }
}

#[cfg(test)]
mod tests {
    use cxi_hardware::retry_handler::{Kind, kind};

    use super::*;
    use crate::exporter::exposition::{self, Format};

    fn text(values: &[(&'static str, i32)]) -> String {
        let mut exposition = Exposition::default();
        let statistics = Statistics { values: values.iter().copied().collect(), errors: Vec::new() };
        add(&mut exposition, &Labels::new(&[("device", "cxi0")]), &statistics);
        exposition.text(Format::Text)
    }

    #[test]
    fn the_total_is_timeouts_and_nacks() {
        let text = text(&[("spt_timeouts", 323), ("nacks", 1200), ("nack_resource_busy", 3), ("parked_nids", 2)]);
        for line in [
            "cxi_retry_total{device=\"cxi0\"} 1523\n",
            "cxi_retry_nack_total{device=\"cxi0\"} 1200\n",
            "cxi_retry_timeout_total{device=\"cxi0\"} 323\n",
            "cxi_retry_handler_nacks_total{device=\"cxi0\",reason=\"resource_busy\"} 3\n",
            "cxi_retry_handler_parked{device=\"cxi0\",kind=\"nids\"} 2\n",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn what_is_missing_is_not_zero_and_counts_go_on_past_the_sign() {
        let text = text(&[("nacks", i32::MIN)]);
        assert!(text.contains("cxi_retry_nack_total{device=\"cxi0\"} 2147483648\n"), "{text}");
        assert!(!text.contains("cxi_retry_total") && !text.contains("timeout"), "{text}");
    }

    #[test]
    fn files_are_those_of_the_retry_handler() {
        for (file, metric, _) in EVENTS {
            assert_eq!((kind(file), metric.kind), (Some(Kind::Counter), exposition::Kind::Counter), "{file}");
        }
        for (file, metric, _) in LEVELS {
            assert_eq!((kind(file), metric.kind), (Some(Kind::Gauge), exposition::Kind::Gauge), "{file}");
        }
    }
}
