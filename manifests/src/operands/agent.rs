//! The node agent's DaemonSet. Its pods run on every node that the CXIDriver owns, from the first moment to the last: nothing
//! can be proved on a node without them, least of all while its gate is closed.

use cxi_api::{
    CXIDriverSpec,
    names::{AGENT_ACCOUNT, DRIVER_LABEL, Role, agent_daemonset},
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Container, PodSpec},
};

use crate::{
    daemonset::{Operand, daemonset},
    environment::{field, variable},
    host::{HostDirectory, mounts, volumes},
    images::{self, Images},
    operands::retry_handler::expectation,
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

/// The DaemonSet.
pub fn agent(driver: &str, spec: &CXIDriverSpec, namespace: &str, images: &Images) -> DaemonSet {
    let operand = Operand {
        driver,
        role: Role::Agent,
        instance: None,
        name: agent_daemonset(driver),
        annotations: [].into(),
        pod_annotations: [].into(),
        on_delete: false,
        pod: pod(driver, spec, images),
    };
    daemonset(operand, namespace)
}

fn pod(driver: &str, spec: &CXIDriverSpec, images: &Images) -> PodSpec {
    let container = Container {
        name: "report".to_owned(),
        image: Some(images::agent(spec, images)),
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
    PodSpec {
        containers: vec![container],
        node_selector: Some([(DRIVER_LABEL.to_owned(), driver.to_owned())].into()),
        priority_class_name: Some("system-node-critical".to_owned()),
        service_account_name: Some(AGENT_ACCOUNT.to_owned()),
        termination_grace_period_seconds: Some(5),
        tolerations: Some(spec.tolerations.clone()),
        volumes: Some(volumes(&HOST)),
        ..PodSpec::default()
    }
}
