//! Large clusters: how long a plan takes as they grow, and how much the engine writes about them.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that meets what cannot be ends there")]

#[path = "scale/clusters.rs"]
mod clusters;

use std::sync::Arc;

use cxi_api::{
    CXIDriverStatus, Phase, Reason, RevisionId, Timestamp, names::Role, node::Failure, node_report::NodeReport,
};
use cxi_rollout::{
    Action, Settings, World, plan,
    world::{OwnPod, PodState},
};
use k8s_openapi::apimachinery::pkg::{apis::meta::v1::Condition, util::intstr::IntOrString};
use rstest::rstest;

use clusters::{GOAL, Shape, carry_out, name, now, time, upgrading};

/// A status is never larger, whatever the cluster.
const STATUS: usize = 64 * 1024;

/// How much longer than in an optimised build a plan may take here, beside other tests.
const HERE: u32 = 5;

/// With four times as many nodes, pods and budgets a plan takes four times as long, and a little more for the processor's caches; were
/// anything quadratic, it would take sixteen times as long. The smaller cluster is too large for the caches as well: one that fits
/// there is planned more than twice as fast for each node.
#[rstest]
#[case::no_budgets(|_| Shape::None)]
#[case::budgets_over_several_nodes(|nodes| Shape::Spread(nodes / 2))]
#[case::a_budget_for_each_node(|_| Shape::OneEach)]
#[case::one_tenants_budgets(|nodes| Shape::OneTenant(nodes))]
fn the_time_of_a_plan_grows_with_the_cluster(#[case] shape: fn(usize) -> Shape) {
    let took = |nodes: usize| time(&upgrading(nodes, shape(nodes)), 5);
    let (small, large) = (took(2000), took(8000));
    let ratio = large.as_secs_f64() / small.as_secs_f64();
    assert!(ratio < 10.0, "four times as many nodes took {ratio:.1} times as long: {small:?}, {large:?}");
    let goal = GOAL * 8 / 5;
    assert!(large < goal * HERE, "8,000 nodes took {large:?}; the goal of an optimised build is {goal:?}");
}

/// What the shapes are for: each budget over a node's pods is looked at.
#[test]
fn the_clusters_are_what_they_seem() {
    let reason = |world: &World, node: usize| Some(world.nodes[&name(node)].rollout()?.blocked_by.as_ref()?.reason);
    assert_eq!(reason(&upgrading(20, Shape::None), 19), Some(Reason::Budget));
    for shape in [Shape::Spread(5), Shape::OneEach] {
        assert_eq!(reason(&upgrading(20, shape), 19), Some(Reason::DisruptionBudget), "{shape:?}");
    }
    assert_eq!(reason(&upgrading(20, Shape::OneTenant(9)), 0), Some(Reason::MultipleDisruptionBudgets));
}

/// The longest name that a node may have.
fn longest(number: usize) -> String {
    format!("{number:05}.{}", "x".repeat(247))
}

/// Nodes with the longest names, all of which may go at once.
fn large(nodes: usize) -> World {
    let mut world = upgrading(0, Shape::None);
    Arc::make_mut(&mut world.drivers[0].spec).update_strategy.max_unavailable = IntOrString::String("100%".into());
    for node in upgrading(nodes, Shape::None).nodes.into_values() {
        let name = longest(world.nodes.len());
        world.nodes.insert(name.clone(), cxi_rollout::world::Node { name, ..node });
    }
    world
}

/// The status after a few plans.
fn status(world: &mut World) -> CXIDriverStatus {
    for _ in 0..3 {
        let plan = plan(world, now(), &Settings::default());
        carry_out(world, plan);
    }
    world.drivers[0].status.clone()
}

#[track_caller]
fn assert_small(status: &CXIDriverStatus) {
    let length = serde_json::to_string(status).unwrap().len();
    assert!(length <= STATUS, "{length} bytes");
}

/// A message as long as an answer of a server or the log of a worker, which costs twice as much as JSON.
fn words() -> String {
    "\"no\u{1}\" ".repeat(10_000)
}

fn fail(world: &mut World) {
    let rollout = world.drivers[0].status.rollout.clone().unwrap();
    let in_flight: Vec<String> = rollout.in_flight.iter().map(|entry| entry.node.clone()).collect();
    for node in world.nodes.values_mut().filter(|node| !in_flight.contains(&node.name)) {
        let record = node.record.as_mut().unwrap().rollout.as_mut().unwrap();
        let revision: RevisionId = rollout.to.clone().unwrap();
        record.failure = Some(Failure {
            revision,
            rollout: rollout.id.clone(),
            in_preflight: false,
            phase: Some(Phase::Loading),
            message: words(),
            at: now(),
        });
        record.phase = Phase::Quarantined;
        record.revision = None;
        record.advertise = cxi_api::Advertise::None;
        record.last_error = Some(words());
    }
}

#[test]
fn a_status_stays_small_whatever_happens_on_ten_thousand_nodes() {
    let mut world = large(10_000);
    let all = status(&mut world);
    assert_small(&all);
    let in_flight = all.rollout.unwrap().in_flight.len();
    assert!((100..300).contains(&in_flight), "{in_flight} nodes in flight");

    // Those that are not in flight fail, with much to say.
    fail(&mut world);
    let failed = status(&mut world);
    assert_small(&failed);
    let rollout = failed.rollout.unwrap();
    assert_eq!(usize::try_from(rollout.failed_nodes).unwrap(), 10_000 - in_flight);
    assert!(rollout.halted.is_some() && rollout.failed.len() == 16);

    // And all agents fall silent.
    for node in world.nodes.values_mut() {
        node.record.as_mut().unwrap().report = None;
    }
    assert_small(&status(&mut world));
}

/// `maxFailed` counts nodes that the list has no room for.
#[rstest]
#[case(100, 99, false)]
#[case(100, 100, true)]
fn more_nodes_may_fail_than_are_named(#[case] limit: i32, #[case] fails: usize, #[case] halts: bool) {
    let mut world = large(fails);
    Arc::make_mut(&mut world.drivers[0].spec).paused = true;
    Arc::make_mut(&mut world.drivers[0].spec).update_strategy.max_failed = limit;
    status(&mut world);
    fail(&mut world);
    let rollout = status(&mut world).rollout.unwrap();
    assert_eq!((usize::try_from(rollout.failed_nodes).unwrap(), rollout.halted.is_some()), (fails, halts));
    assert_eq!(rollout.failed.len(), 16);
}

/// What a server says at length is cut in a node's record too.
#[test]
fn a_record_stays_small() {
    let mut world = large(1);
    status(&mut world);
    let node = world.nodes.values_mut().next().unwrap();
    let trouble = PodState::Failed { code: 1, message: words() };
    let target = node.rollout().unwrap().target_revision.clone();
    node.pods.push(OwnPod {
        role: Role::Prefetch,
        driver: world.drivers[0].name.clone(),
        revision: target,
        name: "prefetch".into(),
        uid: "prefetch".into(),
        state: trouble,
        deleting: false,
    });
    for attempt in 0..40 {
        let at = now() + std::time::Duration::from_secs(attempt * 86_400);
        let plan = plan(&world, at, &Settings::default());
        carry_out(&mut world, plan);
    }
    let record = world.nodes.values().next().unwrap().rollout().unwrap();
    assert!(record.last_error.as_ref().is_some_and(|error| error.len() > 500), "{record:?}");
    assert!(record.history.len() > 5, "{record:?}");
    let length = serde_json::to_string(record).unwrap().len();
    assert!(length < 16 * 1024, "{length} bytes");
}

/// What the conditions say, without when.
fn said(world: &World) -> Vec<(String, String)> {
    let said = |condition: &Condition| (condition.type_.clone(), condition.message.clone());
    world.drivers[0].status.conditions.iter().map(said).collect()
}

/// Agents start one after the other, in any order; the conditions say so in rough numbers.
#[test]
fn conditions_do_not_change_with_every_agent_that_starts() {
    let mut world = upgrading(300, Shape::OneEach);
    let reports: Vec<Option<NodeReport>> =
        world.nodes.values_mut().map(|node| node.record.as_mut().unwrap().report.take()).collect();
    status(&mut world);
    let (mut before, mut changes) = (said(&world), 0);
    for start in 0..300 {
        let place = start * 7 % 300;
        world.nodes.get_mut(&name(place)).unwrap().record.as_mut().unwrap().report = reports[place].clone();
        let at: Timestamp = now() + std::time::Duration::from_secs(u64::try_from(start).unwrap());
        let plan = plan(&world, at, &Settings::default());
        let written = plan.actions.iter().any(|action| matches!(action, Action::WriteDriverStatus { .. }));
        carry_out(&mut world, plan);
        let after = said(&world);
        assert!(written || after == before);
        changes += usize::from(after != before);
        before = after;
    }
    assert!((5..100).contains(&changes), "{changes} changes");
}
