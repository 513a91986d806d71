//! One release of the operator and the next: what a Deployment says of its process, and what is to be seen when it has changed.

use anyhow::{Context, Result};
use cxi_api::names::ROLE_LABEL;
use cxi_control_plane::NAMESPACE;
use cxi_e2e::{
    jobs,
    oracle::Allowed,
    scenario::{LONG, Scenario},
};
use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Container, Pod},
};
use kube::{
    Api,
    api::{DeleteParams, ListParams},
};

/// A variable of a container's environment.
pub(crate) fn value(container: &Container, name: &str) -> Result<String> {
    let variable = container.env.iter().flatten().find(|variable| variable.name == name);
    variable.and_then(|v| v.value.clone()).with_context(|| format!("the operator's container does not set {name}"))
}

/// The flags that stand for the environment of the operator's container.
pub(crate) fn flags(container: &Container) -> Result<Vec<String>> {
    Ok(vec![
        format!("--device-plugin-image={}", value(container, "RELATED_IMAGE_DEVICE_PLUGIN")?),
        format!("--agent-image={}", value(container, "RELATED_IMAGE_AGENT")?),
    ])
}

/// The user of a pod deletes it.
pub(crate) async fn end_pod(scenario: &Scenario, name: &str) -> Result<()> {
    scenario.allow(&Allowed::PodDeletion(format!("{}/{name}", jobs::NAMESPACE)), LONG);
    let pods: Api<Pod> = Api::namespaced(scenario.harness.client.clone(), jobs::NAMESPACE);
    pods.delete(name, &DeleteParams::default()).await.context("delete the job's pod")?;
    Ok(())
}

/// Waits until the device plugin on every node is of a release.
pub(crate) async fn operands_are_of(scenario: &Scenario, version: &str) -> Result<()> {
    let daemonsets: Api<DaemonSet> = Api::namespaced(scenario.harness.client.clone(), NAMESPACE);
    let plugins = ListParams::default().labels(&format!("{ROLE_LABEL}=device-plugin"));
    let nodes = i32::try_from(scenario.nodes.len()).unwrap_or(i32::MAX);
    scenario
        .until("all device plugins are of the new release", || async {
            let plugins = daemonsets.list(&plugins).await?.items;
            let is_new = |plugin: &DaemonSet| {
                let spec = plugin.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
                let image = spec.and_then(|spec| spec.containers.first()?.image.clone()).unwrap_or_default();
                let ready = plugin.status.as_ref().is_some_and(|status| {
                    status.updated_number_scheduled == Some(nodes) && status.number_ready == nodes
                });
                image.ends_with(&format!(":{version}")) && ready
            };
            Ok(plugins.len() == 1 && plugins.iter().all(is_new))
        })
        .await
}
