//! The operands: the programs that the operator keeps on nodes, one file each. A new one is a file here and a line in [`OPERANDS`];
//! what is watched, deleted, allowed and counted follows from the table.

mod agent;
mod device_plugin;
mod metrics_exporter;
mod retry_handler;

use std::collections::BTreeSet;

use cxi_api::{CXIDriverSpec, images::EARLIER_IMAGES};
use k8s_openapi::api::apps::v1::DaemonSet;

pub use crate::{
    daemonset::tolerate,
    operand::{Context, Gate, Operand, Pods},
};
use crate::{images::Images, rule::Rule};

/// Every operand, in the order in which they are applied: nothing is proved on a node without its agent.
pub const OPERANDS: &[Operand] =
    &[agent::AGENT, device_plugin::DEVICE_PLUGIN, metrics_exporter::METRICS_EXPORTER, retry_handler::RETRY_HANDLER];

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
    let rendered = |operand: &Operand, image: &str| operand.rendered(driver, spec, namespace, images, image);
    let mut all = Vec::new();
    for operand in OPERANDS {
        let Some(name) = operand.daemonset(driver) else {
            all.extend(handlers.iter().map(|image| rendered(operand, image)).map(|(name, one)| (name, Some(one))));
            continue;
        };
        let image = operand.image.of(spec, images).filter(|_| (operand.wanted)(spec));
        all.push((name, image.map(|image| rendered(operand, &image).1)));
    }
    all
}

/// The operand whose pods carry this value of the label for roles.
pub fn of_role(label: &str) -> Option<&'static Operand> {
    OPERANDS.iter().find(|operand| operand.role.as_str() == label)
}

/// The accounts of operands that may do something, and what.
pub fn rights() -> impl Iterator<Item = (&'static str, &'static [Rule])> {
    OPERANDS.iter().filter(|operand| !operand.rights.is_empty()).map(|operand| (operand.account, operand.rights))
}

/// Fields of a spec that name an image of the earlier operator, with that image and what runs instead: nothing where only others
/// have what it takes.
pub fn replaced(spec: &CXIDriverSpec, images: &Images) -> Vec<(&'static str, String, Option<String>)> {
    let earlier = OPERANDS.iter().filter_map(|operand| {
        let image = (operand.image.named)(spec).filter(|image| image.starts_with(EARLIER_IMAGES))?;
        Some((operand.image.field, image.clone(), operand.image.of(spec, images)))
    });
    earlier.collect()
}
