//! How a control plane is started.

/// How a control plane is started.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Whether the API server writes an audit log: writes with their bodies, reads by their metadata.
    pub audit: bool,
    /// More arguments of kube-apiserver, after ours.
    pub apiserver_args: Vec<String>,
    /// Whether what answers for a Service can be told to the API server, for webhooks that somebody else registers.
    pub services: bool,
    /// Whether the data directory with all logs stays after the end, to be looked at.
    pub keep_data: bool,
}
