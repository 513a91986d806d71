//! The retry handler's DaemonSet. Its pods run exactly on the nodes whose gate for it is open, and are replaced only when that
//! gate closes and opens: a retry handler that goes from under a job takes the job's lost packets with it.

use cxi_api::{
    driver::RetryHandler,
    names::{RETRY_HANDLER_ACCOUNT, RETRY_HANDLER_LABEL, Role, retry_handler_gate},
};
use k8s_openapi::{
    api::core::v1::{
        Container, EmptyDirVolumeSource, ExecAction, PodSpec, Probe, ResourceRequirements, SecurityContext, Volume,
        VolumeMount,
    },
    apimachinery::pkg::api::resource::Quantity,
};

use crate::{
    daemonset::requests,
    host::{HostDirectory, mounts, volumes},
    images::{self, ImageField},
    operand::{Context, Gate, Operand, Pods},
    security::{no_capabilities, seccomp},
};

/// What the retry handler needs of the host: `/dev`, because NICs come later, and the place where it mounts its statistics.
const HOST: [HostDirectory; 2] = [
    HostDirectory::write("dev", "/dev", "/dev"),
    HostDirectory::write("retry-statistics", "/run/cxi", "/run/cxi").created().with_own_mounts(),
];

/// Where the supervisor is put beside the image's `cxi_rh`.
const SUPERVISOR: &str = "/supervisor/cxi-agent";

/// How long `cxi_rh` may take to end. Ended by force it leaves its NIC in an unknown state, which only a reboot ends
/// (HPE, `cxi_rh` `main.c`); it normally takes less than a second.
const GRACE_SECONDS: i64 = 3600;

/// The retry handler: a DaemonSet for each of [`super::RetryHandlers`].
pub const RETRY_HANDLER: Operand = Operand {
    role: Role::RetryHandler,
    gate: Some(Gate::ByImage { label: retry_handler_gate, instance: RETRY_HANDLER_LABEL }),
    image: ImageField {
        field: "spec.retryHandler.image",
        named: |spec| spec.retry_handler.image.as_ref(),
        otherwise: |_, _| None,
    },
    account: RETRY_HANDLER_ACCOUNT,
    rights: &[],
    host: &HOST,
    wanted: |spec| spec.retry_handler.runs_on_nodes(),
    render,
};

/// What device plugin, node agent and exporter expect of the retry handler of a NIC (their `--retry-handler`). libfabric refuses a NIC
/// without one, and one that ended unasked leaves the NIC in an unknown state. Where only some nodes have our DaemonSet, or the
/// hosts run what they like, nothing is missed that was never there; what comes and goes with pods is not missed at all.
pub fn expectation(wanted: &RetryHandler) -> &'static str {
    let everywhere = wanted.daemonset.as_ref().is_none_or(|settings| settings.node_selector.is_empty());
    if wanted.runs_on_nodes() && everywhere {
        "attached"
    } else if wanted.runs_in_pods() {
        "ignore"
    } else {
        "stay"
    }
}

fn render(wanted: &Context<'_>) -> Pods {
    let Context { spec, images, image, .. } = *wanted;
    let settings = spec.retry_handler.daemonset.clone().unwrap_or_default();
    let agent = images::agent(spec, images);
    let ready = [SUPERVISOR, "retry-handler", "ready"].map(str::to_owned);
    let shared =
        VolumeMount { name: "supervisor".to_owned(), mount_path: "/supervisor".to_owned(), ..VolumeMount::default() };
    let mut volumes = volumes(&HOST);
    volumes.push(Volume {
        name: "supervisor".to_owned(),
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
    let mut mounts = mounts(&HOST);
    mounts.push(VolumeMount { read_only: Some(true), ..shared.clone() });
    let tolerations = if settings.tolerations.is_empty() { &spec.tolerations } else { &settings.tolerations };
    let spec = PodSpec {
        automount_service_account_token: Some(false),
        init_containers: Some(vec![install(&agent, shared)]),
        containers: vec![Container {
            name: "retry-handler".to_owned(),
            image: Some(image.to_owned()),
            image_pull_policy: Some("IfNotPresent".to_owned()),
            command: Some(vec![SUPERVISOR.to_owned()]),
            args: Some(vec!["retry-handler".to_owned()]),
            // There is no liveness probe: what it would do is to end retry handlers by force.
            readiness_probe: Some(Probe {
                exec: Some(ExecAction { command: Some(ready.to_vec()) }),
                period_seconds: Some(5),
                timeout_seconds: Some(5),
                ..Probe::default()
            }),
            resources: Some(settings.resources.unwrap_or_else(resources)),
            // It maps registers of the NIC and creates a system service (CAP_SYS_ADMIN in the host's user namespace), pins
            // memory, opens devices that come later, and mounts what others are to see: Kubernetes allows mount propagation
            // to the host to privileged containers only.
            security_context: Some(SecurityContext {
                privileged: Some(true),
                read_only_root_filesystem: Some(true),
                run_as_user: Some(0),
                ..SecurityContext::default()
            }),
            termination_message_policy: Some("FallbackToLogsOnError".to_owned()),
            volume_mounts: Some(mounts),
            ..Container::default()
        }],
        node_selector: (!settings.node_selector.is_empty()).then_some(settings.node_selector),
        priority_class_name: Some("system-node-critical".to_owned()),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        tolerations: Some(tolerations.clone()),
        volumes: Some(volumes),
        ..PodSpec::default()
    };
    Pods { spec, ..Pods::default() }
}

/// Copies the supervisor to where the container with `cxi_rh` finds it.
fn install(agent: &str, shared: VolumeMount) -> Container {
    Container {
        name: "supervisor".to_owned(),
        image: Some(agent.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec!["cxi-agent".to_owned()]),
        args: Some(vec!["install".to_owned(), SUPERVISOR.to_owned()]),
        resources: Some(resources()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(no_capabilities()),
            read_only_root_filesystem: Some(true),
            run_as_user: Some(0),
            seccomp_profile: Some(seccomp()),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(vec![shared]),
        ..Container::default()
    }
}

/// The limit of memory is what is asked for, so that other pods' needs cannot take it away. That the kernel takes
/// others first when a node has none left is the doing of the pod's priority, `system-node-critical`. CPU has no limit:
/// all the `cxi_rh` of a node share it, and would be held back just when many packets are lost.
fn resources() -> ResourceRequirements {
    let limit = ("memory".to_owned(), Quantity("128Mi".to_owned()));
    ResourceRequirements { limits: Some([limit].into()), ..requests("100m", "128Mi") }
}
