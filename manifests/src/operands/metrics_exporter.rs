//! The metrics exporter's DaemonSet. Its pods run on every node that the CXIDriver owns, also while the node is worked on: they
//! hold nothing of the driver, and that no driver is loaded is a metric.

use std::collections::BTreeMap;

use cxi_api::{
    CXIDriverSpec,
    driver::MetricsExporter,
    names::{METRICS_EXPORTER_ACCOUNT, Role},
};
use k8s_openapi::{
    api::core::v1::{
        Container, ContainerPort, EnvVar, HTTPGetAction, PodSpec, Probe, SecretVolumeSource, SecurityContext, Volume,
        VolumeMount,
    },
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::retry_handler::expectation;
use crate::{
    daemonset::requests,
    environment::{field, variable},
    host::{HostDirectory, mounts, volumes},
    images::{self, ImageField},
    operand::{Context, Operand, Pods},
    security::{no_capabilities, of_the_host, seccomp},
};

/// What the exporter reads of the host: NICs and counters, whether their devices exist, and the statistics that retry handlers
/// mount later. Its own `/proc/modules` is that of the host.
const HOST: [HostDirectory; 3] = [
    HostDirectory::read("sys", "/sys", "/host/sys"),
    HostDirectory::read("dev", "/dev", "/host/dev"),
    HostDirectory::read("retry-statistics", "/run/cxi", "/host/run/cxi").created().with_later_mounts(),
];

/// The user `nonroot` of distroless images.
const NONROOT: i64 = 65532;

/// Where the exporter finds its certificate.
const CERTIFICATE: &str = "/certificate";

/// The metrics exporter. It asks the API server nothing.
pub const METRICS_EXPORTER: Operand = Operand {
    role: Role::MetricsExporter,
    gate: None,
    image: ImageField {
        field: "spec.metricsExporter.image",
        named: |spec| spec.metrics_exporter.image.as_ref(),
        otherwise: |spec, images| Some(images::agent(spec, images)),
    },
    account: METRICS_EXPORTER_ACCOUNT,
    rights: &[],
    host: &HOST,
    wanted: |spec| spec.metrics_exporter.enabled,
    render,
};

/// The annotations by which a Prometheus without its operator finds what to scrape, as on the pods of the earlier operator.
fn scrape(wanted: &MetricsExporter) -> BTreeMap<String, String> {
    let (scheme, port) = (if wanted.tls.is_some() { "https" } else { "http" }, wanted.port.to_string());
    [("scrape", "true"), ("scheme", scheme), ("port", &port), ("path", "/metrics")]
        .map(|(key, value)| (format!("prometheus.io/{key}"), value.to_owned()))
        .into()
}

fn render(context: &Context<'_>) -> Pods {
    let spec = context.spec;
    let wanted = &spec.metrics_exporter;
    let healthy = Probe {
        http_get: Some(HTTPGetAction {
            path: Some("/healthz".to_owned()),
            port: IntOrString::String("metrics".to_owned()),
            scheme: wanted.tls.as_ref().map(|_| "HTTPS".to_owned()),
            ..HTTPGetAction::default()
        }),
        ..Probe::default()
    };
    let certificate = wanted.tls.as_ref().map(|tls| Volume {
        name: "certificate".to_owned(),
        secret: Some(SecretVolumeSource {
            secret_name: Some(tls.secret_name.clone()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    });
    let certificate_mount = certificate.as_ref().map(|volume| VolumeMount {
        name: volume.name.clone(),
        mount_path: CERTIFICATE.to_owned(),
        read_only: Some(true),
        ..VolumeMount::default()
    });
    let container = Container {
        name: "exporter".to_owned(),
        image: Some(context.image.to_owned()),
        image_pull_policy: Some("IfNotPresent".to_owned()),
        command: Some(vec!["cxi-agent".to_owned()]),
        args: Some(vec!["exporter".to_owned()]),
        // The variables of `cxi-agent exporter --help`.
        env: Some(environment(spec)),
        ports: Some(vec![ContainerPort {
            name: Some("metrics".to_owned()),
            container_port: wanted.port,
            ..ContainerPort::default()
        }]),
        liveness_probe: Some(healthy.clone()),
        readiness_probe: Some(healthy),
        resources: Some(wanted.resources.clone().unwrap_or_else(|| requests("10m", "16Mi"))),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(no_capabilities()),
            read_only_root_filesystem: Some(true),
            run_as_non_root: Some(true),
            run_as_user: Some(NONROOT),
            // Devices of the host are asked for, and what retry handlers write below /run is read.
            se_linux_options: Some(of_the_host()),
            seccomp_profile: Some(seccomp()),
            ..SecurityContext::default()
        }),
        volume_mounts: Some(mounts(&HOST).into_iter().chain(certificate_mount).collect()),
        ..Container::default()
    };
    let pods = PodSpec {
        // It asks the API server nothing.
        automount_service_account_token: Some(false),
        containers: vec![container],
        termination_grace_period_seconds: Some(5),
        tolerations: Some(spec.tolerations.clone()),
        volumes: Some(volumes(&HOST).into_iter().chain(certificate).collect()),
        ..PodSpec::default()
    };
    Pods { annotations: scrape(wanted), spec: pods, ..Pods::default() }
}

/// The variables of `cxi-agent exporter --help`.
fn environment(spec: &CXIDriverSpec) -> Vec<EnvVar> {
    let wanted = &spec.metrics_exporter;
    let mut variables = vec![
        field("NODE_NAME", "spec.nodeName"),
        field("NODE_IPS", "status.hostIPs"),
        variable("CXI_EXPORTER_LISTEN", format!(":{}", wanted.port)),
        variable("SYSFS_ROOT", "/host/sys"),
        variable("DEVFS_ROOT", "/host/dev"),
        variable("RUN_ROOT", "/host/run"),
        variable("CXI_RETRY_HANDLER", expectation(&spec.retry_handler)),
    ];
    if !wanted.counters.is_empty() {
        variables.push(variable("CXI_COUNTERS", wanted.counters.join(",")));
    }
    if wanted.tls.is_some() {
        variables.push(variable("TLS_CERT_FILE", format!("{CERTIFICATE}/tls.crt")));
        variables.push(variable("TLS_KEY_FILE", format!("{CERTIFICATE}/tls.key")));
    }
    variables
}
