//! Directories of the host in containers.

use k8s_openapi::api::core::v1::{HostPathVolumeSource, Volume, VolumeMount};

/// A directory of the host.
#[derive(Clone, Copy, Debug)]
pub struct HostDirectory {
    /// Name of the volume.
    pub name: &'static str,
    /// Where the host has it.
    pub host: &'static str,
    /// Where the container sees it.
    pub container: &'static str,
    /// Whether it is only read.
    pub read_only: bool,
    /// What happens when the host has none, as Kubernetes spells it: nothing is looked at when empty, and the runtime makes one.
    pub type_: &'static str,
    /// Who sees what is mounted below it later, as Kubernetes spells it; no container when empty.
    pub propagation: Option<&'static str>,
    /// Whether `read_only` holds for the directory only, and not for what is mounted below it.
    pub shallow: bool,
}

impl HostDirectory {
    /// One that is only read.
    pub const fn read(name: &'static str, host: &'static str, container: &'static str) -> Self {
        Self { name, host, container, read_only: true, type_: "", propagation: None, shallow: false }
    }

    /// One that is written to.
    pub const fn write(name: &'static str, host: &'static str, container: &'static str) -> Self {
        Self { name, host, container, read_only: false, type_: "", propagation: None, shallow: false }
    }

    /// Made when the host has none.
    pub const fn created(self) -> Self {
        Self { type_: "DirectoryOrCreate", ..self }
    }

    /// Pods do not start where the host has none.
    pub const fn there(self) -> Self {
        Self { type_: "Directory", ..self }
    }

    /// The container sees what the host mounts below it later.
    pub const fn with_later_mounts(self) -> Self {
        Self { propagation: Some("HostToContainer"), ..self }
    }

    /// What is mounted below it stays as writable as the host has it.
    pub const fn shallow(self) -> Self {
        Self { shallow: true, ..self }
    }

    /// The host sees what the container mounts below it.
    pub const fn with_own_mounts(self) -> Self {
        Self { propagation: Some("Bidirectional"), ..self }
    }
}

/// Mounts of directories of the host.
pub fn mounts(directories: &[HostDirectory]) -> Vec<VolumeMount> {
    let mount = |directory: &HostDirectory| VolumeMount {
        name: directory.name.to_owned(),
        mount_path: directory.container.to_owned(),
        read_only: Some(directory.read_only),
        // Otherwise what is mounted below, as /sys/fs/cgroup, could be written to. Runtimes know how to since containerd 2.0
        // and runc 1.1 on Linux 5.12; Kubernetes allows it without propagation only.
        recursive_read_only: (directory.read_only && directory.propagation.is_none() && !directory.shallow)
            .then(|| "IfPossible".to_owned()),
        mount_propagation: directory.propagation.map(str::to_owned),
        ..VolumeMount::default()
    };
    directories.iter().map(mount).collect()
}

/// The volumes that go with [`mounts`].
pub fn volumes(directories: &[HostDirectory]) -> Vec<Volume> {
    let volume = |directory: &HostDirectory| Volume {
        name: directory.name.to_owned(),
        host_path: Some(HostPathVolumeSource {
            path: directory.host.to_owned(),
            type_: (!directory.type_.is_empty()).then(|| directory.type_.to_owned()),
        }),
        ..Volume::default()
    };
    directories.iter().map(volume).collect()
}
