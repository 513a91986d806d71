//! A CXINode.

use cxi_api::{CXINode, NodeReport, NodeRollout};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Kind, driver::part, fields::or_default, typed};

/// What counts of a CXINode. Its two halves are written by two, and each is read for itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// UIDs of the Nodes that own it.
    pub owners: Box<[Box<str>]>,
    /// Whether it has a status.
    pub has_status: bool,
    /// `status.rollout`, which the operator writes: where the node is. Without it nothing may be done to the node.
    pub rollout: Result<Option<Box<NodeRollout>>, Box<str>>,
    /// `status.node`, the agent's report. One that cannot be read is none: agents are not trusted, and the rollout waits for
    /// evidence either way.
    pub report: Option<Box<NodeReport>>,
    /// Why there is no report although there is something.
    no_report: Option<Box<str>>,
}

#[derive(Deserialize)]
struct Wire<'a> {
    #[serde(default)]
    metadata: Meta,
    #[serde(borrow, default)]
    status: Option<Status<'a>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Meta {
    #[serde(deserialize_with = "or_default")]
    owner_references: Vec<Owner>,
}

#[derive(Deserialize)]
struct Owner {
    kind: String,
    uid: Box<str>,
}

#[derive(Deserialize)]
struct Status<'a> {
    #[serde(borrow, default)]
    rollout: Option<&'a RawValue>,
    #[serde(borrow, default)]
    node: Option<&'a RawValue>,
}

impl Kind for Record {
    type Api = CXINode;
    type Remains = ();

    fn parse(json: &str) -> Result<Option<Self>, String> {
        let Wire { metadata, status } = serde_json::from_str(json).map_err(|error| super::without_values(&error))?;
        let rollout = status.as_ref().and_then(|status| status.rollout).map(|raw| part("status.rollout", raw.get()));
        let report = status.as_ref().and_then(|status| status.node).map(|raw| typed::<Box<NodeReport>>(raw.get()));
        let (report, no_report) = match report.transpose() {
            Ok(report) => (report, None),
            Err(why) => (None, Some(format!("the agent's report counts for nothing: status.node.{why}").into())),
        };
        let of_nodes = metadata.owner_references.into_iter().filter(|owner| owner.kind == "Node");
        Ok(Some(Self {
            owners: of_nodes.map(|owner| owner.uid).collect(),
            has_status: status.is_some(),
            rollout: rollout.transpose().map_err(Into::into),
            report,
            no_report,
        }))
    }

    fn complaint(&self) -> Option<&str> {
        self.rollout.as_ref().err().or(self.no_report.as_ref()).map(AsRef::as_ref)
    }
}

impl Record {
    /// The node's place in a rollout, if it can be read.
    pub fn place(&self) -> Option<&NodeRollout> {
        self.rollout.as_ref().ok()?.as_deref()
    }
}
