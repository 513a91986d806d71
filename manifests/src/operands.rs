//! The operands: the DaemonSets of a CXIDriver.

mod agent;
mod device_plugin;
mod exporter;
mod retry_handler;

use std::collections::BTreeSet;

use cxi_api::{
    CXIDriverSpec,
    names::{
        Role, agent_daemonset, device_plugin_daemonset, metrics_exporter_daemonset, retry_handler_daemonset,
        retry_handler_value,
    },
};
use k8s_openapi::api::apps::v1::DaemonSet;

pub use crate::daemonset::tolerate;
use crate::images::Images;

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
