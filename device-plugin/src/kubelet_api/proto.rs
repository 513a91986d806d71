//! The kubelet's gRPC types, generated from `proto/`.

/// Device plugin protocol.
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
pub mod v1beta1 {
    tonic::include_proto!("v1beta1");

    /// Version that a plugin names when it registers.
    pub const VERSION: &str = "v1beta1";
    /// [`Device::health`] of a device that counts as allocatable.
    pub const HEALTHY: &str = "Healthy";
    /// [`Device::health`] of a device that does not.
    pub const UNHEALTHY: &str = "Unhealthy";
    /// File name of the kubelet's registration socket in the device plugin directory.
    pub const KUBELET_SOCKET: &str = "kubelet.sock";
}

/// PodResources protocol.
#[allow(missing_docs, clippy::pedantic, reason = "generated")]
pub mod podresources {
    tonic::include_proto!("v1");
}
