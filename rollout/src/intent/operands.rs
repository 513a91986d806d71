//! The operands that are wanted.

use std::collections::BTreeMap;

use cxi_api::{
    driver::{self, DevicePlugin, RetryHandlerMode},
    names::retry_handler_value,
};

/// How NICs are offered.
#[derive(Clone, Copy, Debug)]
pub struct Offer<'a>(&'a DevicePlugin);

/// The retry handler that is wanted.
#[derive(Debug)]
pub enum RetryHandler<'a> {
    /// One pod on each node.
    OnNodes(OnNodes<'a>),
    /// In each pod that asks for a NIC.
    InPods,
    /// The operator is to run one, and no image holds it.
    ImageMissing,
    /// In the kernel, or by the host.
    LeftToTheHost,
    /// None.
    Off,
}

/// A retry handler in one pod on each node.
#[derive(Debug)]
pub struct OnNodes<'a> {
    /// Its image.
    pub image: &'a String,
    /// Value of the gate of this image.
    pub gate: String,
    selector: Option<&'a BTreeMap<String, String>>,
}

impl<'a> Offer<'a> {
    pub(super) fn new(written: &'a DevicePlugin) -> Self {
        Self(written)
    }

    /// How many pods can be given each of a node's NICs.
    pub fn of_each(self, nics: usize) -> i64 {
        self.0.ids_of_each(nics)
    }
}

impl<'a> RetryHandler<'a> {
    pub(super) fn read(written: &'a driver::RetryHandler) -> Self {
        if let Some(image) = written.image_on_nodes() {
            let selector = written.daemonset.as_ref().map(|daemonset| &daemonset.node_selector);
            Self::OnNodes(OnNodes { image, gate: retry_handler_value(image), selector })
        } else if written.runs_in_pods() {
            Self::InPods
        } else if written.lacks_image() {
            Self::ImageMissing
        } else if written.enabled && written.mode == RetryHandlerMode::Kernel {
            Self::LeftToTheHost
        } else {
            Self::Off
        }
    }

    /// That in one pod on each node.
    pub fn on_nodes(&self) -> Option<&OnNodes<'a>> {
        match self {
            Self::OnNodes(on_nodes) => Some(on_nodes),
            Self::InPods | Self::ImageMissing | Self::LeftToTheHost | Self::Off => None,
        }
    }
}

impl OnNodes<'_> {
    /// Whether it is for nodes with these labels.
    pub fn selects(&self, labels: &BTreeMap<String, String>) -> bool {
        self.selector.into_iter().flatten().all(|(key, value)| labels.get(key) == Some(value))
    }
}
