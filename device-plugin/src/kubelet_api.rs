//! The words of the kubelet's APIs: their gRPC types, the ids of devices, the name of the resource, and what is allocated.

pub mod device_id;
pub mod pod_resources;
pub mod proto;
pub mod resource_name;
