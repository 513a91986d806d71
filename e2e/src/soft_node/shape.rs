//! What a soft node looks like and how fast it is.

use std::{collections::BTreeMap, time::Duration};

/// Label that node feature discovery gives to a node with a Cassini NIC.
pub const NIC_LABEL: &str = "feature.node.kubernetes.io/pci-1590.present";

/// Kernel of a soft node that does not say otherwise; with a `+`, which image tags cannot hold.
pub const KERNEL: &str = "6.12.117+deb12-amd64";

/// What a soft node looks like.
#[derive(Clone, Debug)]
pub struct NodeShape {
    /// Number of NICs.
    pub nics: usize,
    /// `uname -r`.
    pub kernel: String,
    /// Labels besides those of every kubelet.
    pub labels: BTreeMap<String, String>,
    /// The driver that the host brings, for `source.type: preinstalled`.
    pub host_driver: Option<HostDriver>,
}

/// A driver that is installed on the host.
#[derive(Clone, Debug)]
pub struct HostDriver {
    /// Its release.
    pub version: String,
    /// Whether the host loads it when it starts, or leaves that to whoever asks.
    pub at_boot: bool,
}

impl Default for NodeShape {
    fn default() -> Self {
        Self {
            nics: 2,
            kernel: KERNEL.to_owned(),
            labels: [(NIC_LABEL.to_owned(), "true".to_owned())].into(),
            host_driver: None,
        }
    }
}

/// How long things take on a node.
#[derive(Clone, Debug)]
pub struct Pace {
    /// From a bound pod to started containers.
    pub start: Duration,
    /// From SIGTERM to the end of a process that obeys it.
    pub stop: Duration,
    /// Pulling an image.
    pub pull: Duration,
    /// Loading the driver.
    pub load: Duration,
    /// Unloading the driver, and other work of one-shot pods.
    pub unload: Duration,
    /// From a loaded driver to links that are up.
    pub link_up: Duration,
    /// First wait before a failed container or pull is tried again; doubles up to four times this.
    pub back_off: Duration,
    /// How long a machine is away while it boots.
    pub reboot: Duration,
    /// From the start of a kubelet to device plugins that have registered again.
    pub register: Duration,
    /// Between two renewals of a node's Lease. The node lifecycle controller waits 40 s and more.
    pub lease: Duration,
    /// Between two reports of an agent that sees nothing new.
    pub report: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        let millis = Duration::from_millis;
        Self {
            start: millis(80),
            stop: millis(150),
            pull: millis(150),
            load: millis(300),
            unload: millis(250),
            link_up: millis(200),
            back_off: millis(500),
            reboot: millis(1_500),
            register: millis(300),
            lease: millis(12_000),
            report: millis(20_000),
        }
    }
}
