//! Follows this node's CXINode: who it is, which phase the node is in, what its modules should be.

use std::collections::BTreeMap;

use cxi_api::{CXINode, Phase, Timestamp, lenient::Lenient};
use cxi_node::watch::Sighting;
use kube::api::Api;
use serde::Deserialize;
use tokio::sync::watch;
use tracing::{info, warn};

/// What is known of the CXINode.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) enum NodeView {
    /// The API server did not say yet.
    #[default]
    Unknown,
    /// There is none: no CXIDriver asks for reports.
    Absent,
    /// There is one.
    Present(Known),
}

/// The parts of a CXINode that a report needs.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Known {
    /// UID of the CXINode.
    pub(super) uid: String,
    /// `status.rollout.since`: when the node's present phase began.
    pub(super) since: Option<Timestamp>,
    /// `status.rollout.phase`; `None` for one that this agent does not know.
    pub(super) phase: Option<Phase>,
    /// What the modules of known driver releases are: of the one that comes, and of the one before it.
    pub(super) expected: Vec<ExpectedDriver>,
    /// `status.node.sequence`: of the last report written; 0 before the first.
    pub(super) sequence: i64,
}

/// The part of `status.rollout.expected` and `previous` that names a driver release.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ExpectedDriver {
    /// Driver release.
    #[serde(default)]
    pub(super) driver_version: Option<String>,
    /// Build-id by module name.
    #[serde(rename = "buildIDs", default)]
    pub(super) build_ids: BTreeMap<String, String>,
}

impl NodeView {
    /// What a look answers: a look that was begun with another one answers another question.
    pub(super) fn question(&self) -> Option<(&str, Option<Timestamp>)> {
        match self {
            Self::Present(known) => Some((&known.uid, known.since)),
            Self::Unknown | Self::Absent => None,
        }
    }

    /// Whether the driver may be unloaded before a look that begins now is over. In the phases in which it may not be, the
    /// operator has taken nothing away yet; before it unloads it waits for a report that answers a later phase.
    pub(super) fn may_unload(&self) -> bool {
        match self {
            Self::Present(Known { phase: Some(phase), .. }) => !phase.traits().offers,
            Self::Present(_) | Self::Unknown | Self::Absent => true,
        }
    }

    /// Whether the operator goes by who has a device open now. It does from the moment at which the node is closed until it is in
    /// service again; in the phases before, in which jobs run for hours, and in the one in which nothing happens it does not.
    pub(super) fn rests_on_holders(&self) -> bool {
        match self {
            Self::Present(Known { phase: Some(phase), .. }) => phase.is_on_the_node(),
            Self::Present(Known { phase: None, since, .. }) => since.is_some(),
            Self::Unknown | Self::Absent => false,
        }
    }
}

/// Publishes what is known of the CXINode `node`; ends only when the receiver is dropped. Only the fields needed are
/// read, so that an agent goes on working with an operator whose other fields it does not know.
pub(super) async fn follow(api: Api<Lenient<CXINode>>, node: String, view: watch::Sender<NodeView>) {
    let set = |next: NodeView| {
        view.send_if_modified(|current| {
            let changed = *current != next;
            if changed && next == NodeView::Absent {
                info!("there is no CXINode for this node: nothing is reported");
            }
            *current = next;
            changed
        });
    };
    let following = cxi_node::watch::object(api, &node, "CXINode", |sighting| match sighting {
        Sighting::Present(node) => set(NodeView::Present(known(&node))),
        Sighting::Absent => set(NodeView::Absent),
        Sighting::Failed(_) => {}
    });
    tokio::select! {
        () = following => {}
        () = view.closed() => {}
    }
}

fn known(node: &Lenient<CXINode>) -> Known {
    let status = |pointer: &str| node.data.pointer(pointer).filter(|value| !value.is_null()).cloned();
    let since = status("/status/rollout/since").and_then(|since| {
        let parsed = serde_json::from_value(since.clone()).ok();
        if parsed.is_none() {
            warn!(%since, "CXINode's phase began at no time that can be read: reports do not answer it");
        }
        parsed
    });
    Known {
        uid: node.metadata.uid.clone().unwrap_or_default(),
        since,
        phase: status("/status/rollout/phase").and_then(|phase| serde_json::from_value(phase).ok()),
        expected: ["/status/rollout/expected", "/status/rollout/previous"]
            .into_iter()
            .filter_map(|of| status(of).and_then(|expected| serde_json::from_value(expected).ok()))
            .collect(),
        sequence: status("/status/node/sequence").and_then(|sequence| sequence.as_i64()).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(status: &Value) -> Known {
        let object = json!({
            "apiVersion": "cxi.hpe.com/v1", "kind": "CXINode", "metadata": {"name": "n", "uid": "u"}, "status": status,
        });
        known(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn fields_are_found_among_others_and_the_unknown_is_absent() {
        let known = read(&json!({
            "rollout": {
                "phase": "PhaseOfTheFuture", "since": "2026-01-01T00:00:00.5Z",
                "expected": {"revision": "r", "kernel": "k", "driverVersion": "13.0.0", "buildIDs": {"cxi_ss1": "ab"}},
            },
            "node": {"sequence": 41, "kernel": 5},
        }));
        assert_eq!(known.since, Some("2026-01-01T00:00:00.5Z".parse().unwrap()));
        assert_eq!(known.sequence, 41);
        assert_eq!(known.phase, None);
        assert_eq!(known.expected[0].driver_version.as_deref(), Some("13.0.0"));
        let nothing = Known { uid: "u".into(), ..Known::default() };
        for status in [json!(null), json!({}), json!({"rollout": null}), json!({"rollout": {"since": "soon"}})] {
            assert_eq!(read(&status), nothing);
        }
    }

    #[test]
    fn only_a_phase_before_the_node_is_closed_keeps_the_driver() {
        let keeps = |phase: &str| !NodeView::Present(read(&json!({"rollout": {"phase": phase}}))).may_unload();
        let kept: Vec<_> = Phase::ALL.iter().map(Phase::to_string).filter(|phase| keeps(phase)).collect();
        assert_eq!(kept, ["UpToDate", "Pending", "Admitted", "Waiting"]);
        assert!(!keeps("PhaseOfTheFuture"));
        assert!(NodeView::Unknown.may_unload() && NodeView::Absent.may_unload());
    }

    #[test]
    fn holders_matter_from_the_closing_until_the_node_is_in_service() {
        let rests = |rollout: Value| NodeView::Present(read(&json!({"rollout": rollout}))).rests_on_holders();
        let since = "2026-01-01T00:00:00Z";
        let phases = Phase::ALL.iter().map(Phase::to_string);
        let matter: Vec<_> = phases.filter(|phase| rests(json!({"phase": phase, "since": since}))).collect();
        let expected = [
            "Closing",
            "Evicting",
            "Quiesced",
            "Unloading",
            "Loading",
            "Verifying",
            "Validating",
            "Returning",
            "RollingBack",
        ];
        assert_eq!(matter, expected);
        assert!(rests(json!({"phase": "PhaseOfTheFuture", "since": since})));
        assert!(!rests(json!(null)), "nothing is asked");
        assert!(!NodeView::Unknown.rests_on_holders() && !NodeView::Absent.rests_on_holders());
    }
}
