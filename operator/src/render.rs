//! Builders of the objects that the operator creates. Pure: what they make depends on their arguments only.

mod agent;
pub mod containerfile;
mod daemonset;
mod device_plugin;
mod exporter;
pub mod images;
mod modprobe;
mod module;
mod one_shot;
mod retry_handler;
mod security;

use std::collections::{BTreeMap, BTreeSet};

use cxi_api::{
    CXIDriverSpec, RevisionId,
    names::{
        DRIVER_LABEL, MANAGED_BY_LABEL, OPERATOR, ROLE_LABEL, Role, agent_daemonset, device_plugin_daemonset,
        metrics_exporter_daemonset, retry_handler_daemonset, retry_handler_value,
    },
};
use k8s_openapi::api::apps::v1::DaemonSet;
use sha2::{Digest, Sha256};

pub use containerfile::containerfile;
pub use daemonset::{HASH_ANNOTATION, tolerate};
pub use device_plugin::RESOURCE_ANNOTATION;
pub use module::{MODULE_LOADER, module};
pub use one_shot::{Cleanup, HostDriver, Prefetch, cleanup, host_driver, prefetch};

/// The operator's own operand images, for CXIDrivers that name none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// The device plugin.
    pub device_plugin: String,
    /// The node agent, which is also metrics exporter, retry handler's supervisor and one-shot pods.
    pub agent: String,
}

/// The operands that are DaemonSets.
pub const OPERANDS: [Role; 4] = [Role::Agent, Role::DevicePlugin, Role::RetryHandler, Role::MetricsExporter];

/// Which images of the retry handler have to have a DaemonSet: that of the spec, and those that nodes keep until they are
/// drained or go back to.
pub type RetryHandlers = BTreeSet<String>;

/// A DaemonSet and how it should be; `None` when it should not exist.
pub type WantedOperand = (String, Option<DaemonSet>);

/// The DaemonSets of a CXIDriver.
pub fn operands(
    driver: &str,
    spec: &CXIDriverSpec,
    namespace: &str,
    images: &Images,
    handlers: &RetryHandlers,
) -> Vec<WantedOperand> {
    let mut wanted = vec![
        (agent_daemonset(driver), Some(agent::agent(driver, spec, namespace, images))),
        (device_plugin_daemonset(driver), device_plugin::device_plugin(driver, spec, namespace, images)),
        (metrics_exporter_daemonset(driver), exporter::exporter(driver, spec, namespace, images)),
    ];
    wanted.extend(handlers.iter().map(|image| {
        let daemonset = retry_handler::retry_handler(driver, spec, namespace, images, image);
        (retry_handler_daemonset(driver, &retry_handler_value(image)), Some(daemonset))
    }));
    wanted
}

/// Labels of everything that is made for a CXIDriver.
fn labels(driver: &str) -> BTreeMap<String, String> {
    [(MANAGED_BY_LABEL.to_owned(), OPERATOR.to_owned()), (DRIVER_LABEL.to_owned(), driver.to_owned())].into()
}

/// Labels of pods of ours.
fn pod_labels(driver: &str, role: Role) -> BTreeMap<String, String> {
    let mut labels = labels(driver);
    labels.insert(ROLE_LABEL.to_owned(), role.as_str().to_owned());
    labels
}

/// Ten hexadecimal digits that stand for `parts`.
fn short_hash(parts: &[&str]) -> String {
    let mut digest = Sha256::new();
    for part in parts {
        digest.update(part.as_bytes());
        digest.update([0]);
    }
    format!("{:x}", digest.finalize())[..10].to_owned()
}

/// Whether a CXIDriver's spec still describes a revision; only then can its Module be made.
pub fn describes(driver: &str, spec: &CXIDriverSpec, revision: &RevisionId) -> bool {
    RevisionId::of(driver, spec) == *revision
}

#[cfg(test)]
mod tests;
