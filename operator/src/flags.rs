//! Flags and environment.

use std::{fs, net::SocketAddr, time::Duration};

use clap::Parser;
use cxi_api::GoDuration;
use cxi_manifests::images::Images;
use cxi_node::{http::NodeIps, log::Format};
use cxi_rollout::Settings;

/// Where Kubernetes tells a pod its namespace.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// The operator for HPE Slingshot (CXI) NICs: runs one driver release per CXIDriver and upgrades nodes in order
///
/// Connects to the cluster that it runs in, or to that of KUBECONFIG. Durations are written as in 90s, 5m or 1h30m.
#[derive(Clone, Debug, Parser)]
#[command(version)]
pub struct Flags {
    /// Namespace of the operator, its KMM Modules and pods; inside a cluster that of its own pod
    #[arg(long, env = "OPERATOR_NAMESPACE")]
    namespace: Option<String>,
    /// Node that the operator itself runs on; it is upgraded last
    #[arg(long, env = "NODE_NAME")]
    pub node_name: Option<String>,
    /// Image of the device plugin, for CXIDrivers that name none
    #[arg(long, env = "RELATED_IMAGE_DEVICE_PLUGIN", default_value = "cxi-device-plugin:latest")]
    device_plugin_image: String,
    /// Image of the node agent, for CXIDrivers that name none
    #[arg(long, env = "RELATED_IMAGE_AGENT", default_value = "cxi-agent:latest")]
    agent_image: String,
    /// Apply the admission policy that keeps node agents to their own nodes, at start and every ten minutes, for installations
    /// that cannot carry it, as by OLM; the operator is not ready before it is applied
    #[arg(long, env = "APPLY_AGENT_POLICY", default_value_t)]
    pub apply_agent_policy: bool,
    /// Address of /healthz, /readyz and /metrics
    #[arg(long, default_value = "0.0.0.0:8080")]
    pub listen: SocketAddr,
    /// Addresses of the node that the operator runs on, from which its kubelet probes: connections from there have places of their own
    #[arg(long, env = "NODE_IPS", value_name = "IP,…", default_value = "")]
    pub node_ips: NodeIps,
    /// Format of the log on standard error; the environment variable `RUST_LOG` chooses what is logged
    #[arg(long, value_enum, default_value_t)]
    pub log_format: Format,
    /// Work without the Lease that keeps a second replica idle
    #[arg(long)]
    pub no_leader_election: bool,
    /// A leader that has not renewed its Lease for this long has lost it
    #[arg(long, value_name = "DURATION", default_value = "15s")]
    lease_duration: GoDuration,
    /// A leader that cannot renew its Lease for this long ends; less than the lease duration
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    renew_deadline: GoDuration,
    /// Pause between two looks at the Lease
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    retry_period: GoDuration,
    /// Pulling the driver image on a node may take this long; then the node waits its turn again
    #[arg(long, value_name = "DURATION", default_value = "15m")]
    prefetch_timeout: GoDuration,
    /// KMM may take this long to unload a driver; then the node has failed, but nothing is forced
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    unload_timeout: GoDuration,
    /// KMM may take this long to load a driver; then the node has failed
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    load_timeout: GoDuration,
    /// The device plugin may take this long to offer the NICs again; then the node has failed
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    give_back_timeout: GoDuration,
    /// Time between the two checks that must both find the device free
    #[arg(long, value_name = "DURATION", default_value = "2s")]
    look_gap: GoDuration,
    /// How long a process outside Kubernetes may hold the device before the node is given back
    #[arg(long, value_name = "DURATION", default_value = "15s")]
    host_holder_grace: GoDuration,
    /// How long a node is left alone after a try that was taken back; doubles with each try
    #[arg(long, value_name = "DURATION", default_value = "30m")]
    back_off: GoDuration,
    /// Longest time that a node is left alone
    #[arg(long, value_name = "DURATION", default_value = "24h")]
    back_off_max: GoDuration,
    /// Restarts of a KMM load worker after which the load has failed before its time limit
    #[arg(long, value_name = "COUNT", default_value_t = 3)]
    load_restarts: i32,
    /// How long a node must not be selected before its driver is taken away
    #[arg(long, value_name = "DURATION", default_value = "30s")]
    unselected_grace: GoDuration,
    /// Tests only: the N-th write is dropped before it is sent, or its answer is lost; then the process ends
    #[cfg(feature = "faults")]
    #[arg(long, value_name = "N:drop|lose", hide = true)]
    pub fault_write: Option<crate::faults::Fault>,
    /// Tests only: each turn of the operator takes so much longer
    #[cfg(feature = "faults")]
    #[arg(long, value_name = "DURATION", default_value = "0s", hide = true)]
    pub fault_turn: GoDuration,
}

/// What is wrong with the flags.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No namespace.
    #[error("the operator does not know its namespace; set --namespace or OPERATOR_NAMESPACE")]
    NoNamespace,
    /// The Lease's times do not fit.
    #[error("--retry-period must be shorter than --renew-deadline, and that shorter than --lease-duration")]
    LeaseTimes,
}

/// Times of the Lease.
#[derive(Clone, Copy, Debug)]
pub struct LeaseTimes {
    /// How long it is held without renewal.
    pub duration: Duration,
    /// How long a leader tries to renew it.
    pub deadline: Duration,
    /// Pause between tries.
    pub retry: Duration,
}

impl Flags {
    /// The operator's namespace.
    ///
    /// # Errors
    /// When neither flag, environment nor the pod's files name one.
    pub fn namespace(&self) -> Result<String, Error> {
        let from_file = || fs::read_to_string(NAMESPACE_FILE).ok().map(|text| text.trim().to_owned());
        let namespace = self.namespace.clone().or_else(from_file);
        namespace.filter(|name| !name.is_empty()).ok_or(Error::NoNamespace)
    }

    /// Operand images for CXIDrivers that name none.
    pub fn images(&self) -> Images {
        Images { device_plugin: self.device_plugin_image.clone(), agent: self.agent_image.clone() }
    }

    /// Times of the Lease.
    ///
    /// # Errors
    /// When they do not fit together.
    pub fn lease(&self) -> Result<LeaseTimes, Error> {
        let (duration, deadline, retry) = (self.lease_duration.0, self.renew_deadline.0, self.retry_period.0);
        if retry < deadline && deadline < duration && duration >= Duration::from_secs(1) {
            Ok(LeaseTimes { duration, deadline, retry })
        } else {
            Err(Error::LeaseTimes)
        }
    }

    /// Time limits of the engine.
    pub fn settings(&self) -> Settings {
        Settings {
            prefetch: self.prefetch_timeout.0,
            unload: self.unload_timeout.0,
            load: self.load_timeout.0,
            give_back: self.give_back_timeout.0,
            look_gap: self.look_gap.0,
            host_holder: self.host_holder_grace.0,
            back_off: self.back_off.0,
            back_off_max: self.back_off_max.0,
            load_restarts: self.load_restarts,
            unselected: self.unselected_grace.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;
    use cxi_images::Image;
    use cxi_manifests::operator;

    use super::*;

    #[test]
    fn every_variable_of_the_deployment_is_one_that_the_operator_reads_and_the_port_is_its_default() {
        let command = Flags::command();
        let read: Vec<_> = command.get_arguments().filter_map(|a| a.get_env()?.to_str()).collect();
        let operands = Image::ALL.into_iter().filter_map(|image| Some((image.variable()?, image.name().to_owned())));
        let images = operator::Images { operator: "cxi-operator".to_owned(), operands: operands.collect() };
        let container = operator::pod_template(&images).spec.unwrap().containers.remove(0);
        let names = container.env.unwrap().into_iter().map(|variable| variable.name);
        for name in names.chain([operator::APPLY_AGENT_POLICY.to_owned()]) {
            assert!(read.contains(&name.as_str()), "{name} is not among {read:?}");
        }
        let listen = command.get_arguments().find(|a| a.get_id() == "listen").unwrap();
        assert_eq!(listen.get_default_values(), [format!("0.0.0.0:{}", operator::PORT).as_str()]);
    }

    #[test]
    fn defaults_are_those_of_the_engine() {
        let flags = Flags::parse_from(["cxi-operator", "--namespace", "ns"]);
        assert_eq!(flags.settings(), Settings::default());
        assert_eq!(flags.lease().unwrap().duration, Duration::from_secs(15));
        assert_eq!(flags.namespace().unwrap(), "ns");
    }

    #[test]
    fn refuses_lease_times_that_do_not_fit() {
        let flags = Flags::parse_from(["cxi-operator", "--renew-deadline", "20s"]);
        assert!(matches!(flags.lease(), Err(Error::LeaseTimes)));
    }
}
