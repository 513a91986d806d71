//! What others do to nodes by mistake: labels that vanish, values that mean nothing, nodes that are down for long.

use cxi_api::{Phase, Reason, names::UPGRADE_LABEL};
use rstest::rstest;

use super::{condition, message, reason, says, upgrade};
use crate::sim::{Sim, build::spec};

const COLLAPSED: &str = "SelectorCollapsed";

/// Node Feature Discovery takes its labels off all nodes, one after the other, and puts them back much later.
#[rstest]
#[case(0)]
#[case(1)]
fn labels_that_vanish_from_all_nodes_unload_nothing(#[case] rounds: usize) {
    let mut sim = Sim::installed(5, spec("13.0.0"));
    for node in ["n1", "n2", "n3", "n4", "n5"] {
        sim.deselect(node);
        // Within the time for which a node may lose its label and be left alone.
        for _ in 0..rounds {
            sim.round();
        }
    }
    sim.pass(3600);
    assert!(condition(&sim, COLLAPSED), "{}", sim.describe());
    assert!(says(&sim, COLLAPSED).contains("cxi.hpe.com/max-unselected"), "{}", says(&sim, COLLAPSED));
    assert_eq!(sim.events.iter().filter(|event| event.reason == COLLAPSED).count(), 1);
    for node in ["n1", "n2", "n3", "n4", "n5"] {
        assert_eq!(sim.node(node).rollout().unwrap().attempt, 1, "{node} is not touched");
        assert!(sim.node(node).allocatable["hpe.com/cxi"] > 0);
    }
    // A new release waits for the labels too: what nodes are meant is not known.
    upgrade(&mut sim, "13.1.0");
    sim.pass(3600);
    sim.assert_runs("n1", "13.0.0");
    for node in ["n1", "n2", "n3", "n4", "n5"] {
        sim.select(node);
    }
    sim.settle();
    assert!(!condition(&sim, COLLAPSED));
    sim.assert_all_up_to_date();
}

/// The administrator means it.
#[test]
fn nodes_that_are_to_leave_leave_once_the_annotation_says_so() {
    let mut sim = Sim::installed(4, spec("13.0.0"));
    for node in ["n1", "n2", "n3"] {
        sim.deselect(node);
    }
    sim.pass(600);
    assert!(condition(&sim, COLLAPSED));
    sim.driver_mut("cxi").max_unselected = Some(3);
    sim.settle();
    for node in ["n1", "n2", "n3"] {
        assert!(sim.machines[node].loaded.is_none(), "{}", sim.describe());
        assert!(sim.node(node).record.is_none());
    }
    sim.assert_up_to_date("n4");
    assert!(!condition(&sim, COLLAPSED));
}

/// Nodes whose NICs are gone have nothing to lose, and one node at a time may leave as ever.
#[test]
fn as_many_nodes_as_the_budget_allows_leave_without_a_question() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    sim.deselect("n1");
    sim.settle();
    assert!(sim.machines["n1"].loaded.is_none());
    sim.deselect("n2");
    sim.settle();
    assert!(sim.machines["n2"].loaded.is_none());
    sim.assert_up_to_date("n3");
}

/// A node that is down for long holds up the others, until it is left out.
#[test]
fn a_node_that_is_skipped_does_not_use_up_the_budget() {
    let mut sim = Sim::installed(3, spec("13.0.0"));
    sim.node_mut("n1").ready = false;
    upgrade(&mut sim, "13.1.0");
    sim.pass(3600);
    assert_eq!(reason(&sim, "n2"), Some(Reason::Budget));
    assert!(condition(&sim, "Blocked"));
    assert!(says(&sim, "Blocked").contains("n1"), "{}", says(&sim, "Blocked"));
    sim.ask("n1", "skip");
    sim.until("the others", |sim| sim.driver().status.updated == 2);
    sim.assert_up_to_date("n2");
    sim.assert_up_to_date("n3");
}

/// `Skip` is not `skip`: whoever wrote it meant something, and that was hardly that the node is moved.
#[test]
fn a_request_that_means_nothing_is_said_and_moves_nothing() {
    let mut sim = Sim::installed(2, spec("13.0.0"));
    sim.ask("n1", "Skip");
    sim.settle();
    assert_eq!(reason(&sim, "n1"), Some(Reason::UnknownRequest), "{}", sim.describe());
    upgrade(&mut sim, "13.1.0");
    sim.settle();
    assert_eq!(reason(&sim, "n1"), Some(Reason::UnknownRequest));
    assert!(message(&sim, "n1").contains("skip, now, retry, rollback"), "{}", message(&sim, "n1"));
    sim.assert_runs("n1", "13.0.0");
    sim.assert_up_to_date("n2");
    sim.unlabel("n1", UPGRADE_LABEL);
    sim.settle();
    sim.assert_all_up_to_date();
    assert_eq!(sim.phase("n1"), Some(Phase::UpToDate));
}

/// What the API server says to the Module is what the administrator reads.
#[test]
fn a_module_that_is_refused_is_shown() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.refuses_modules = Some("admission webhook denied the request: invalid regexp".into());
    upgrade(&mut sim, "13.1.0");
    sim.pass(120);
    assert_eq!(reason(&sim, "n1"), Some(Reason::ImageMissing));
    assert!(message(&sim, "n1").contains("invalid regexp"), "{}", message(&sim, "n1"));
    assert!(says(&sim, "PreflightPassed").contains("invalid regexp"));
    sim.refuses_modules = None;
    sim.settle();
    sim.assert_all_up_to_date();
}

/// What is wrong with the layout of a release is what the administrator reads, not that KMM has not looked yet.
#[test]
fn a_layout_that_cannot_be_used_is_shown() {
    let mut sim = Sim::installed(1, spec("13.0.0"));
    sim.edit(|spec| {
        spec.source.kind = cxi_api::driver::SourceType::Dkms;
        spec.source.builder_image = Some("registry/builder:1".into());
        let reference = cxi_api::layout::LayoutReference { name: "stack".into(), key: "layout.yaml".into() };
        spec.source.dkms = Some(cxi_api::driver::Dkms { layout: Some(reference), ..Default::default() });
    });
    sim.settle();
    sim.refuses_layouts = Some("ConfigMap stack: trees[0].kind: unknown variant".into());
    sim.image("13.1.0", crate::sim::KERNEL, false);
    upgrade(&mut sim, "13.1.0");
    sim.pass(120);
    assert_eq!(reason(&sim, "n1"), Some(Reason::ImageMissing));
    assert!(message(&sim, "n1").contains("can be built: ConfigMap stack: trees[0].kind"), "{}", message(&sim, "n1"));
    assert!(says(&sim, "PreflightPassed").contains("trees[0].kind"));
    sim.assert_runs("n1", "13.0.0");
    sim.refuses_layouts = None;
    sim.image("13.1.0", crate::sim::KERNEL, true);
    sim.settle();
    sim.assert_all_up_to_date();
}
