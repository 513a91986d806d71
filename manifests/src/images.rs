//! Which image an operand runs.

use cxi_api::{CXIDriverSpec, driver::own_image, names::EARLIER_IMAGES};

/// The operator's own operand images, for CXIDrivers that name none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// The device plugin.
    pub device_plugin: String,
    /// The node agent, which is also metrics exporter, retry handler's supervisor and one-shot pods.
    pub agent: String,
}

/// The image that a spec names, or the one that the operator brings.
pub fn chosen(named: Option<&String>, ours: &str) -> String {
    own_image(named).map_or(ours, String::as_str).to_owned()
}

/// Image of the node agent, also for one-shot pods.
pub fn agent(spec: &CXIDriverSpec, images: &Images) -> String {
    chosen(spec.agent.as_ref().and_then(|agent| agent.image.as_ref()), &images.agent)
}

/// Fields of a spec that name an image of the earlier operator, with that image and what runs instead: nothing where only others
/// have what it takes.
pub fn replaced(spec: &CXIDriverSpec, images: &Images) -> Vec<(&'static str, String, Option<String>)> {
    let agent_image = agent(spec, images);
    let table = [
        ("spec.devicePlugin.image", spec.device_plugin.image.as_ref(), Some(&images.device_plugin)),
        ("spec.metricsExporter.image", spec.metrics_exporter.image.as_ref(), Some(&agent_image)),
        ("spec.agent.image", spec.agent.as_ref().and_then(|agent| agent.image.as_ref()), Some(&images.agent)),
        ("spec.retryHandler.image", spec.retry_handler.image.as_ref(), None),
    ];
    let earlier = table.into_iter().filter_map(|(field, image, ours)| {
        let image = image.filter(|image| image.starts_with(EARLIER_IMAGES))?;
        Some((field, image.clone(), ours.cloned()))
    });
    earlier.collect()
}
