//! Which image an operand runs.

use cxi_api::{CXIDriverSpec, images::own_image};

/// The operator's own operand images, for CXIDrivers that name none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Images {
    /// The device plugin.
    pub device_plugin: String,
    /// The node agent, which is also metrics exporter, retry handler's supervisor and one-shot pods.
    pub agent: String,
}

/// The field of a CXIDriver that names an image, and what runs when it names none.
#[derive(Clone, Copy, Debug)]
pub struct ImageField {
    /// The field, as in `spec.agent.image`.
    pub field: &'static str,
    /// What it says.
    pub named: fn(&CXIDriverSpec) -> Option<&String>,
    /// What runs otherwise; `None` where the operator brings none.
    pub otherwise: fn(&CXIDriverSpec, &Images) -> Option<String>,
}

impl ImageField {
    /// The image that runs. One of the earlier operator's counts as none: it cannot work with this one.
    pub fn of(&self, spec: &CXIDriverSpec, images: &Images) -> Option<String> {
        own_image((self.named)(spec)).cloned().or_else(|| (self.otherwise)(spec, images))
    }
}

/// Image of the node agent, also for one-shot pods.
pub fn agent(spec: &CXIDriverSpec, images: &Images) -> String {
    own_image(named_agent(spec)).unwrap_or(&images.agent).clone()
}

/// The image that a CXIDriver names for the node agent.
pub fn named_agent(spec: &CXIDriverSpec) -> Option<&String> {
    spec.agent.as_ref().and_then(|agent| agent.image.as_ref())
}
