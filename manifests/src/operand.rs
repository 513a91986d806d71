//! What an operand is: one row of the table [`OPERANDS`](crate::operands::OPERANDS).

use std::collections::BTreeMap;

use cxi_api::{
    CXIDriverSpec,
    names::{DRIVER_LABEL, Role, daemonset, retry_handler_value},
};
use k8s_openapi::api::{apps::v1::DaemonSet, core::v1::PodSpec};

use crate::{
    daemonset::{self, gate, gate_with},
    host::HostDirectory,
    images::{ImageField, Images},
    rule::Rule,
};

/// A program that the operator keeps on nodes, by a DaemonSet for each CXIDriver.
#[derive(Clone, Copy, Debug)]
pub struct Operand {
    /// What its pods are for. Its DaemonSets are named after it, see [`Operand::daemonset`].
    pub role: Role,
    /// The node label that its pods need; without one they run on every node that the CXIDriver owns.
    pub gate: Option<Gate>,
    /// The field that names its image, and what runs when it names none.
    pub image: ImageField,
    /// `ServiceAccount` of its pods.
    pub account: &'static str,
    /// What that account may do in the whole cluster. An account without rights gets no token.
    pub rights: &'static [Rule],
    /// Every directory of the host that its pods may see.
    pub host: &'static [HostDirectory],
    /// Whether a CXIDriver asks for it.
    pub wanted: fn(&CXIDriverSpec) -> bool,
    /// Its pods. Gate, account and placement are not its to set: they come from this row.
    pub render: fn(&Context<'_>) -> Pods,
}

/// The node label by which the operator lets an operand onto a node, and takes it away.
#[derive(Clone, Copy, Debug)]
pub enum Gate {
    /// One DaemonSet, on the nodes that carry this label of the CXIDriver, whatever its value.
    Open(fn(&str) -> String),
    /// One DaemonSet for each image, on the nodes whose label of the CXIDriver has the value that stands for it. A pod stays as it
    /// is until its gate closes, whatever becomes of its template.
    ByImage {
        /// The node label of a CXIDriver.
        label: fn(&str) -> String,
        /// Label of its pods: the value of the gate that they belong to.
        instance: &'static str,
    },
}

/// What an operand is rendered from.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// CXIDriver.
    pub driver: &'a str,
    /// What it asks for.
    pub spec: &'a CXIDriverSpec,
    /// The images that the operator brings.
    pub images: &'a Images,
    /// The image that this operand runs.
    pub image: &'a str,
}

/// What differs between the pods of operands.
#[derive(Clone, Debug, Default)]
pub struct Pods {
    /// Annotations of the DaemonSet.
    pub daemonset_annotations: BTreeMap<String, String>,
    /// Annotations of the pods.
    pub annotations: BTreeMap<String, String>,
    /// The pods.
    pub spec: PodSpec,
}

impl Gate {
    /// The node label of a CXIDriver.
    pub fn label(&self) -> fn(&str) -> String {
        match self {
            Self::Open(label) | Self::ByImage { label, .. } => *label,
        }
    }
}

impl Operand {
    /// Name of its DaemonSet; `None` where there is one for each image.
    pub fn daemonset(&self, driver: &str) -> Option<String> {
        let one = !matches!(self.gate, Some(Gate::ByImage { .. }));
        one.then(|| daemonset(self.role, driver))
    }

    /// Whether its pods are replaced node by node when their template changes.
    pub fn rolls(&self) -> bool {
        !matches!(self.gate, Some(Gate::ByImage { .. }))
    }

    /// Its DaemonSet with `image`, and the name.
    pub(crate) fn rendered(
        &self,
        driver: &str,
        spec: &CXIDriverSpec,
        namespace: &str,
        images: &Images,
        image: &str,
    ) -> (String, DaemonSet) {
        let Pods { daemonset_annotations, annotations, spec: mut pod } =
            (self.render)(&Context { driver, spec, images, image });
        let mut name = daemonset(self.role, driver);
        let mut instance = None;
        match self.gate {
            None => {
                let selector = pod.node_selector.get_or_insert_default();
                selector.insert(DRIVER_LABEL.to_owned(), driver.to_owned());
            }
            Some(Gate::Open(label)) => pod.affinity = Some(gate(label(driver))),
            Some(Gate::ByImage { label, instance: key }) => {
                let value = retry_handler_value(image);
                pod.affinity = Some(gate_with(label(driver), value.clone()));
                name = format!("{name}-{value}");
                instance = Some((key, value));
            }
        }
        pod.service_account_name = Some(self.account.to_owned());
        let wanted = daemonset::Wanted {
            driver,
            role: self.role,
            instance,
            name: name.clone(),
            annotations: daemonset_annotations,
            pod_annotations: annotations,
            on_delete: !self.rolls(),
            pod,
        };
        (name, daemonset::daemonset(wanted, namespace))
    }
}
