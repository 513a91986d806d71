//! What containers may do on their node.

use k8s_openapi::api::core::v1::{AppArmorProfile, Capabilities, SELinuxOptions, SeccompProfile, SecurityContext};

/// What it takes to see whose open files are what: the first opens `/proc/<pid>/fd` of other users' processes, the second
/// reads the links in it. Without either the kernel refuses, and nothing can be proved.
const SEE_OPEN_FILES: [&str; 2] = ["DAC_READ_SEARCH", "SYS_PTRACE"];

/// What it takes to read the kernel's log where the host keeps it from ordinary users (`kernel.dmesg_restrict`), and for the runtime's
/// filter to let the call pass. It allows nothing but that, and to see addresses of the kernel.
pub const READ_KERNEL_LOG: &str = "SYSLOG";

/// No capability.
pub fn no_capabilities() -> Capabilities {
    Capabilities { drop: Some(vec!["ALL".to_owned()]), add: None }
}

/// The runtime's filter of system calls.
pub fn seccomp() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}

/// `SELinux`'s type of containers that are part of the host. That of ordinary ones (`container_t`) may not touch what the host has
/// labelled: each use says what of that it needs.
pub fn of_the_host() -> SELinuxOptions {
    SELinuxOptions { type_: Some("spc_t".to_owned()), ..SELinuxOptions::default() }
}

/// For a container that runs the host's `modprobe` in the host's files.
pub fn loads_modules() -> SecurityContext {
    let add = ["SYS_CHROOT", "SYS_MODULE"].map(str::to_owned).to_vec();
    SecurityContext {
        allow_privilege_escalation: Some(false),
        app_armor_profile: Some(AppArmorProfile { type_: "Unconfined".to_owned(), localhost_profile: None }),
        capabilities: Some(Capabilities { add: Some(add), ..no_capabilities() }),
        read_only_root_filesystem: Some(true),
        run_as_user: Some(0),
        // The host's files are read, and modules loaded.
        se_linux_options: Some(of_the_host()),
        // The filter of containerd and CRI-O lets the calls that load modules pass with the capability.
        seccomp_profile: Some(seccomp()),
        ..SecurityContext::default()
    }
}

/// For a container that looks at the open files of every process of the node, with `more` capabilities.
pub fn sees_open_files(more: &[&str]) -> SecurityContext {
    let capabilities = SEE_OPEN_FILES.iter().chain(more).map(|name| (*name).to_owned()).collect();
    SecurityContext {
        allow_privilege_escalation: Some(false),
        // The profiles of containerd and CRI-O let a container look at processes under the same profile only.
        app_armor_profile: Some(AppArmorProfile { type_: "Unconfined".to_owned(), localhost_profile: None }),
        capabilities: Some(Capabilities { add: Some(capabilities), ..no_capabilities() }),
        read_only_root_filesystem: Some(true),
        run_as_user: Some(0),
        // Processes of others are looked at.
        se_linux_options: Some(of_the_host()),
        seccomp_profile: Some(seccomp()),
        ..SecurityContext::default()
    }
}
