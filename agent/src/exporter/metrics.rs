//! The metrics of a node, apart from telemetry counters: names, types and meanings.

use crate::exporter::exposition::{Kind, Metric};

const fn gauge(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Gauge, help }
}

const fn counter(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: Kind::Counter, help }
}

pub const DRIVER_LOADED: Metric =
    gauge("cxi_driver_loaded", "Whether a kernel module of the driver is loaded: 1 yes, 0 no");
pub const DEVICE_COUNT: Metric = gauge("cxi_device_count", "NICs that the driver has on this node");
pub const LINK_STATE: Metric = gauge("cxi_device_link_state", "State of the link: 1 up, 0 down; absent when not known");
pub const HEALTH_STATUS: Metric = gauge(
    "cxi_device_health_status",
    "Whether pods can use the NIC: 1 healthy, 0 unhealthy (link down, device node missing, retry handler failed or missing); absent when not known",
);
pub const DEVICE_INFO: Metric = gauge("cxi_device_info", "What a NIC is; always 1");
pub const NUMA_NODE: Metric = gauge("cxi_device_numa_node", "NUMA node of a NIC; absent where the platform names none");
pub const LINK_SPEED: Metric =
    gauge("cxi_device_link_speed_bytes_per_second", "Speed that the link runs at; absent while it has none");
pub const RESOURCE_GROUPS: Metric = gauge(
    "cxi_device_resource_groups_available",
    "Resource groups that can still be made; at 0 no application gets an endpoint",
);
pub const LINK_DOWN: Metric =
    counter("cxi_device_link_down_total", "How often the link went down since the driver was loaded (Cassini 2)");
pub const LINK_UP_FAILED: Metric = counter(
    "cxi_device_link_up_failed_total",
    "How often the link was started and did not come up since the driver was loaded (Cassini 2)",
);
pub const LINK_RESTARTS: Metric = gauge(
    "cxi_device_link_restarts",
    "Restarts of the link by the driver within the window (1h, 10h); the driver remembers the last ten",
);
pub const LINK_LAST_RESTART: Metric = gauge(
    "cxi_device_link_last_restart_timestamp_seconds",
    "When the driver last restarted the link, in seconds since 1970; absent when it never did",
);
pub const PCIE_AER: Metric =
    counter("cxi_device_pcie_aer_errors_total", "PCIe errors by severity, from Advanced Error Reporting of the kernel");
pub const PCIE_ERRORS: Metric = counter(
    "cxi_device_pcie_errors_total",
    "PCIe errors that the NIC has counted itself, corrected or not; looked at by the driver every minute",
);
pub const RETRY_HANDLER_RUNNING: Metric = gauge(
    "cxi_retry_handler_running",
    "Whether a retry handler is attached to the NIC: 1 yes, 0 no; absent where none is and none has to be",
);
pub const RETRY_HANDLER_FAILED: Metric = gauge(
    "cxi_retry_handler_failed",
    "Whether the retry handler ended unasked and has not been replaced: 1 yes, 0 no; absent where it is not supervised by this product",
);
pub const RETRY: Metric = counter(
    "cxi_retry_total",
    "Packets that the retry handler had to deal with: timeouts and NACKs; since it was started",
);
pub const RETRY_NACK: Metric =
    counter("cxi_retry_nack_total", "Packets that the retry handler had to deal with because the target refused them");
pub const RETRY_TIMEOUT: Metric = counter(
    "cxi_retry_timeout_total",
    "Packets that the retry handler had to deal with because no response came in time",
);
pub const RETRY_NACKS_BY_REASON: Metric =
    counter("cxi_retry_handler_nacks_total", "NACKs by the reason that the target gave");
pub const RETRY_CANCELLED_PACKETS: Metric = counter(
    "cxi_retry_handler_cancelled_packets_total",
    "Packets given up; the application gets an error. By ordering of the packet",
);
pub const RETRY_CANCELS: Metric =
    counter("cxi_retry_handler_cancels_total", "Packets given up after too many NACKs, by the reason of the last");
pub const RETRY_CANCELLED_CONNECTIONS: Metric =
    counter("cxi_retry_handler_cancelled_connections_total", "Connections given up");
pub const RETRY_CONNECTION_TIMEOUTS: Metric = counter(
    "cxi_retry_handler_connection_timeouts_total",
    "Timeouts of connections by side: source (SCT) or target (TCT)",
);
pub const RETRY_IN_USE: Metric = gauge(
    "cxi_retry_handler_in_use",
    "Entries of a transport table in use, as the retry handler sees it: srb, spt, smt, sct, trs, mst, tct",
);
pub const RETRY_PARKED: Metric = gauge(
    "cxi_retry_handler_parked",
    "Destinations that get no packets for now because they do not answer: nids or switches",
);
pub const RETRY_AGE: Metric = gauge(
    "cxi_retry_handler_statistics_age_seconds",
    "Time since the retry handler's statistics were read; values older than five minutes are left out",
);
pub const RETRY_STUCK: Metric = gauge(
    "cxi_retry_handler_statistics_stuck",
    "Whether the retry handler does not answer when its statistics are read: 1 yes, 0 no; absent where it has none",
);
pub const SCRAPE_ERRORS: Metric = counter(
    "cxi_scrape_errors_total",
    "What could not be read, by kind: device_discovery, modules, attribute, telemetry, retry_handler; see the log",
);
pub const SCRAPE_DURATION: Metric =
    gauge("cxi_scrape_duration_seconds", "How long reading the node took for this scrape");
pub const BUILD_INFO: Metric = gauge("cxi_exporter_build_info", "Version of the exporter; always 1");

/// All of the above.
pub const ALL: &[Metric] = &[
    DRIVER_LOADED,
    DEVICE_COUNT,
    LINK_STATE,
    HEALTH_STATUS,
    DEVICE_INFO,
    NUMA_NODE,
    LINK_SPEED,
    RESOURCE_GROUPS,
    LINK_DOWN,
    LINK_UP_FAILED,
    LINK_RESTARTS,
    LINK_LAST_RESTART,
    PCIE_AER,
    PCIE_ERRORS,
    RETRY_HANDLER_RUNNING,
    RETRY_HANDLER_FAILED,
    RETRY,
    RETRY_NACK,
    RETRY_TIMEOUT,
    RETRY_NACKS_BY_REASON,
    RETRY_CANCELLED_PACKETS,
    RETRY_CANCELS,
    RETRY_CANCELLED_CONNECTIONS,
    RETRY_CONNECTION_TIMEOUTS,
    RETRY_IN_USE,
    RETRY_PARKED,
    RETRY_AGE,
    RETRY_STUCK,
    SCRAPE_ERRORS,
    SCRAPE_DURATION,
    BUILD_INFO,
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_follow_the_rules_of_prometheus() {
        let names: BTreeSet<_> = ALL.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), ALL.len());
        for Metric { name, kind, help } in ALL {
            assert!(name.starts_with("cxi_"), "{name}");
            assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
            assert!(!help.is_empty() && !help.ends_with('.'), "{name}");
        }
    }

    #[test]
    fn the_six_of_the_older_operator_are_there() {
        for name in [
            "cxi_device_link_state",
            "cxi_device_health_status",
            "cxi_retry_total",
            "cxi_retry_nack_total",
            "cxi_retry_timeout_total",
            "cxi_driver_loaded",
        ] {
            assert!(ALL.iter().any(|metric| metric.name == name), "{name}");
        }
    }
}
