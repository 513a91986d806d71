//! The node agent's DaemonSet. Its pods run on every node that the CXIDriver owns, from the first moment to the last: nothing
//! can be proved on a node without them, least of all while its gate is closed.

use cxi_api::names::{AGENT_ACCOUNT, Role};
use k8s_openapi::api::core::v1::{Container, PodSpec};

use super::retry_handler::expectation;
use crate::{
    environment::{field, variable},
    host::{HostDirectory, mounts, volumes},
    images::{self, ImageField},
    operand::{Context, Operand, Pods},
    rule::rule,
    security::{READ_KERNEL_LOG, sees_open_files},
};

/// What the agent reads of the host. `/proc` is the host's because the proof that the devices are free is made of the
/// open files of every process. It comes as a directory and not with the host's process ids (`hostPID`): like this the
/// agent sees all processes and has no number to send a signal to. That is against mistakes. It is no wall: an attacker
/// who may see open files comes to the host's own files by `/proc/<pid>/root`, as root.
const HOST: [HostDirectory; 4] = [
    HostDirectory::read("sys", "/sys", "/host/sys"),
    HostDirectory::read("dev", "/dev", "/host/dev"),
    HostDirectory::read("proc", "/proc", "/host/proc"),
    HostDirectory::read("retry-statistics", "/run/cxi", "/host/run/cxi").created().with_later_mounts(),
];

/// The node agent. To which objects it may write is not RBAC's to say, see [`crate::policies`].
pub const AGENT: Operand = Operand {
    role: Role::Agent,
    gate: None,
    image: ImageField {
        field: "spec.agent.image",
        named: images::named_agent,
        otherwise: |_, images| Some(images.agent.clone()),
    },
    account: AGENT_ACCOUNT,
    rights: &[
        rule("cxi.hpe.com", &["cxinodes"], &["list", "watch"], "which phase its report answers"),
        rule("cxi.hpe.com", &["cxinodes/status"], &["patch"], "report what it sees"),
        rule(
            "cxi.hpe.com",
            &["cxidevices"],
            &["list", "watch", "create", "patch", "delete"],
            "one CXIDevice per NIC; to apply one that is not there is to create it",
        ),
        rule("cxi.hpe.com", &["cxidevices/status"], &["patch"], "the NIC as it is"),
    ],
    host: &HOST,
    wanted: |_| true,
    render,
};

fn render(wanted: &Context<'_>) -> Pods {
    let spec = wanted.spec;
    let container = Container {
        name: "report".to_owned(),
        image: Some(wanted.image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec!["cxi-agent".to_owned()]),
        args: Some(vec!["report".to_owned()]),
        // The variables of `cxi-agent report --help`.
        env: Some(vec![
            field("NODE_NAME", "spec.nodeName"),
            variable("SYSFS_ROOT", "/host/sys"),
            variable("DEVFS_ROOT", "/host/dev"),
            variable("PROCFS_ROOT", "/host/proc"),
            variable("RUN_ROOT", "/host/run"),
            variable("CXI_RETRY_HANDLER", expectation(&spec.retry_handler)),
            variable("CXI_KERNEL_LOG", "true"),
        ]),
        resources: spec.agent.as_ref().and_then(|agent| agent.resources.clone()),
        security_context: Some(sees_open_files(&[READ_KERNEL_LOG])),
        volume_mounts: Some(mounts(&HOST)),
        ..Container::default()
    };
    let spec = PodSpec {
        containers: vec![container],
        priority_class_name: Some("system-node-critical".to_owned()),
        termination_grace_period_seconds: Some(5),
        tolerations: Some(spec.tolerations.clone()),
        volumes: Some(volumes(&HOST)),
        ..PodSpec::default()
    };
    Pods { spec, ..Pods::default() }
}
