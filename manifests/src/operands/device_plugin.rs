//! The device plugin's DaemonSet. Its pods run exactly on the nodes whose gate label is set.

use cxi_api::{
    CXIDriverSpec,
    driver::{ExtraMount, SharingMode},
    names::{DEVICE_PLUGIN_ACCOUNT, RESOURCE_ANNOTATION, Role, device_plugin_gate},
};
use k8s_openapi::api::core::v1::{Container, EnvVar, PodSpec, SecurityContext, Volume};

use super::retry_handler::expectation;
use crate::{
    environment::{field, variable},
    host::{HostDirectory, mounts, volumes},
    images::ImageField,
    operand::{Context, Gate, Operand, Pods},
    rule::rule,
    security::{no_capabilities, of_the_host, seccomp},
};

/// What the plugin needs of the host. Its `/dev` is not put in the place of the container's: there the kubelet wants a file of
/// its own for the container's last words, and a directory that is only read has no room for it.
const HOST: [HostDirectory; 7] = [
    HostDirectory::write("device-plugins", "/var/lib/kubelet/device-plugins", "/var/lib/kubelet/device-plugins")
        .there(),
    HostDirectory::read("pod-resources", "/var/lib/kubelet/pod-resources", "/var/lib/kubelet/pod-resources").there(),
    HostDirectory::read("sys", "/sys", "/host/sys"),
    HostDirectory::read("dev", "/dev", "/host/dev"),
    // Where libfabric and libcxi are looked for.
    HostDirectory::read("usr", "/usr", "/host/usr"),
    HostDirectory::read("opt", "/opt", "/host/opt").created(),
    // Not where devicePlugin.cdi is off.
    CDI,
];

/// Where kubelets have their files, unless told otherwise (`kubelet --root-dir`). In the device plugin's container they are there
/// always.
const KUBELET_ROOT: &str = "/var/lib/kubelet";

/// Where container runtimes look for what programs wrote at run time (CDI specification, "CDI JSON Definition").
const CDI: HostDirectory = HostDirectory::write("cdi", "/var/run/cdi", "/var/run/cdi").created();

/// The device plugin.
pub const DEVICE_PLUGIN: Operand = Operand {
    role: Role::DevicePlugin,
    gate: Some(Gate::Open(device_plugin_gate)),
    image: ImageField {
        field: "spec.devicePlugin.image",
        named: |spec| spec.device_plugin.image.as_ref(),
        otherwise: |_, images| Some(images.device_plugin.clone()),
    },
    account: DEVICE_PLUGIN_ACCOUNT,
    rights: &[rule("cxi.hpe.com", &["cxinodes"], &["list", "watch"], "what its node is to offer")],
    host: &HOST,
    wanted: |spec| spec.device_plugin.enabled,
    render,
};

fn render(wanted: &Context<'_>) -> Pods {
    let spec = wanted.spec;
    let plugin = &spec.device_plugin;
    let host: Vec<HostDirectory> = HOST.into_iter().filter(|place| plugin.cdi || place.name != CDI.name).collect();
    let pods = PodSpec {
        containers: vec![Container {
            name: "device-plugin".to_owned(),
            image: Some(wanted.image.to_owned()),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            env: Some(environment(spec)),
            resources: plugin.resources.clone(),
            // The kubelet's directories belong to root.
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(false),
                capabilities: Some(no_capabilities()),
                read_only_root_filesystem: Some(true),
                run_as_user: Some(0),
                // The kubelet's sockets are connected to, and one of ours and CDI files are made beside them.
                se_linux_options: Some(of_the_host()),
                seccomp_profile: Some(seccomp()),
                ..SecurityContext::default()
            }),
            volume_mounts: Some(mounts(&host)),
            ..Container::default()
        }],
        priority_class_name: Some("system-node-critical".to_owned()),
        tolerations: Some(spec.tolerations.clone()),
        volumes: Some(of_the_kubelet(volumes(&host), plugin.kubelet_root.as_deref().unwrap_or(KUBELET_ROOT))),
        ..PodSpec::default()
    };
    let resource = [(RESOURCE_ANNOTATION.to_owned(), plugin.resource_name.clone())];
    Pods { daemonset_annotations: resource.into(), spec: pods, ..Pods::default() }
}

/// The volumes where the host's kubelet has its files in `root`.
fn of_the_kubelet(mut volumes: Vec<Volume>, root: &str) -> Vec<Volume> {
    for host in volumes.iter_mut().filter_map(|volume| volume.host_path.as_mut()) {
        if let Some(below) = host.path.strip_prefix(KUBELET_ROOT) {
            host.path = format!("{root}{below}");
        }
    }
    volumes
}

/// The variables of `cxi-device-plugin --help`.
fn environment(spec: &CXIDriverSpec) -> Vec<EnvVar> {
    let plugin = &spec.device_plugin;
    let mode = match plugin.sharing_mode {
        SharingMode::Shared => "shared",
        SharingMode::Exclusive => "exclusive",
    };
    let mut variables = vec![
        field("NODE_NAME", "spec.nodeName"),
        field("POD_NAME", "metadata.name"),
        field("POD_NAMESPACE", "metadata.namespace"),
        variable("CXI_RESOURCE_NAME", &plugin.resource_name),
        variable("CXI_SHARING_MODE", mode),
        variable("CXI_SHARED_CAPACITY", plugin.shared_capacity.to_string()),
        variable("CXI_RETRY_HANDLER", expectation(&spec.retry_handler)),
        variable("SYSFS_ROOT", "/host/sys"),
        variable("DEVFS_ROOT", "/host/dev"),
        variable("HOST_ROOT", "/host"),
        variable("CXI_CDI", plugin.cdi.to_string()),
    ];
    if !plugin.extra_mounts.is_empty() {
        variables.push(variable("CXI_EXTRA_MOUNTS", extra_mounts(&plugin.extra_mounts)));
    }
    if !plugin.extra_devices.is_empty() {
        variables.push(variable("CXI_EXTRA_DEVICES", plugin.extra_devices.join(",")));
    }
    let libraries = &plugin.libraries;
    if libraries.inject {
        variables.push(variable("OFI_ROOT", libraries.ofi_root.join(":")));
        variables.push(variable("CXI_ROOT", libraries.cxi_root.join(":")));
    } else {
        variables.push(variable("CXI_NO_LIBRARIES", "true"));
    }
    variables
}

/// `HOST:CONTAINER:ro|rw`, with commas between; the schema lets no path with either character in.
fn extra_mounts(mounts: &[ExtraMount]) -> String {
    let one = |mount: &ExtraMount| {
        let container = mount.container_path.as_ref().unwrap_or(&mount.host_path);
        format!("{}:{container}:{}", mount.host_path, if mount.writable { "rw" } else { "ro" })
    };
    mounts.iter().map(one).collect::<Vec<_>>().join(",")
}
