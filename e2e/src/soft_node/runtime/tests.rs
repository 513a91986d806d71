//! Pods on a machine, without an API server.

use super::*;
use crate::{
    driver_model::image_reference,
    soft_node::{HostDriver, NodeShape, plugin::Allocation},
    truth::Fact,
};
use serde_json::json;

const KERNEL: &str = "6.1+x";
const REPOSITORY: &str = "reg/cxi";

struct Bench {
    machine: Machine,
    registry: Registry,
    pace: Pace,
    now: Duration,
}

impl Bench {
    fn new() -> Self {
        let mut registry = Registry::default();
        registry.publish(REPOSITORY, "A");
        registry.publish(REPOSITORY, "B");
        registry.add_other("kmm-worker:test");
        let machine = Machine::new(&NodeShape { kernel: KERNEL.into(), ..NodeShape::default() }, "boot-1".into());
        Self { machine, registry, pace: Pace::default(), now: Duration::ZERO }
    }

    fn host(&mut self) -> Host<'_> {
        Host {
            machine: &mut self.machine,
            registry: &self.registry,
            pace: &self.pace,
            now: Moment { since_start: self.now, wall: Timestamp::UNIX_EPOCH },
        }
    }

    /// Gives a pod a device.
    fn give(&mut self, uid: &str) {
        let allocation = Allocation { nodes: vec!["cxi0".into()], ..Allocation::default() };
        self.machine.allocations.insert(uid.to_owned(), vec![allocation]);
    }

    /// Starts a pod and lets it run for `time`.
    fn run(&mut self, pod: &PodPlan, time: Duration) -> PodRuntime {
        let mut runtime = PodRuntime::accepted(self.host().now, Duration::ZERO);
        self.go_on(pod, &mut runtime, time);
        runtime
    }

    fn go_on(&mut self, pod: &PodPlan, runtime: &mut PodRuntime, time: Duration) {
        let end = self.now + time;
        while let Some(next) = runtime.advance(pod, &mut self.host()).filter(|next| *next <= end) {
            self.now = next;
        }
        self.now = end;
    }
}

fn pod(metadata: &serde_json::Value, spec: &serde_json::Value) -> PodPlan {
    PodPlan::read(&serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap()).unwrap()
}

fn worker(action: &str, version: &str, kernel: &str) -> PodPlan {
    let image = image_reference(REPOSITORY, version, kernel);
    let config = format!("containerImage: {image}\nkernelVersion: {kernel}\n");
    pod(
        &json!({ "name": "w", "namespace": "n", "uid": format!("{action}{version}"),
            "labels": { "kmm.node.kubernetes.io/worker-action": action, "kmm.node.kubernetes.io/module.name": format!("cxi-{version}") },
            "annotations": { "kmm.node.kubernetes.io/worker-config": config } }),
        &json!({ "restartPolicy": "OnFailure",
            "initContainers": [{ "name": "image-extractor", "image": image }],
            "containers": [{ "name": "worker", "image": "kmm-worker:test" }] }),
    )
}

fn job(uid: &str, deleted: bool) -> PodPlan {
    let mut plan = pod(
        &json!({ "name": uid, "namespace": "n", "uid": uid }),
        &json!({ "terminationGracePeriodSeconds": 5, "containers": [{ "name": "c", "image": "job:1" }] }),
    );
    plan.deleted = deleted;
    plan
}

fn succeeded(runtime: &PodRuntime) -> bool {
    matches!(&runtime.stage, Stage::Ended(ended) if ended.succeeded)
}

const LONG: Duration = Duration::from_secs(10);

#[test]
fn a_worker_loads_and_unloads() {
    let mut bench = Bench::new();
    assert!(succeeded(&bench.run(&worker("Load", "A", KERNEL), LONG)));
    assert!(bench.machine.driver.is_complete() && bench.machine.links_up(bench.now));
    assert!(succeeded(&bench.run(&worker("Unload", "A", KERNEL), LONG)));
    assert!(bench.machine.driver.modules().is_empty());
}

#[test]
fn a_worker_crash_loops_until_the_holder_is_gone_and_the_attempt_is_on_record() {
    let mut bench = Bench::new();
    bench.run(&worker("Load", "A", KERNEL), LONG);
    let holder = job("holder", false);
    bench.give("holder");
    let mut held = bench.run(&holder, LONG);
    let unload = worker("Unload", "A", KERNEL);
    let mut runtime = bench.run(&unload, LONG);
    assert!(matches!(runtime.stage, Stage::BackOff { .. } | Stage::Running { .. }), "{:?}", runtime.stage);
    assert!(runtime.restarts > 1 && runtime.last_failure.as_deref().is_some_and(|m| m.contains("in use")));
    let violation = |fact: &Fact| matches!(fact, Fact::UnloadRefused { pods, .. } if *pods == ["n/holder"]);
    assert!(bench.machine.facts.iter().any(violation));
    bench.go_on(&job("holder", true), &mut held, LONG);
    bench.go_on(&unload, &mut runtime, LONG);
    assert!(succeeded(&runtime));
}

#[test]
fn a_missing_image_is_waited_for() {
    let mut bench = Bench::new();
    let image = image_reference(REPOSITORY, "A", KERNEL);
    bench.registry.withdraw(&image);
    let load = worker("Load", "A", KERNEL);
    let mut runtime = bench.run(&load, LONG);
    assert!(matches!(&runtime.stage, Stage::ImageMissing { container, tries, .. }
        if container == "image-extractor" && *tries > 1));
    bench.registry.restore(&image);
    bench.go_on(&load, &mut runtime, LONG);
    assert!(succeeded(&runtime));
}

#[test]
fn an_unknown_worker_image_is_a_missing_image() {
    let mut bench = Bench::new();
    let mut load = worker("Load", "A", KERNEL);
    load.containers[0].image = "kmm-worker:typo".into();
    let runtime = bench.run(&load, LONG);
    assert!(matches!(&runtime.stage, Stage::ImageMissing { container, .. } if container == "worker"));
}

#[test]
fn an_image_that_was_pulled_is_there_although_the_registry_lost_it() {
    let mut bench = Bench::new();
    bench.run(&worker("Load", "A", KERNEL), LONG);
    let image = image_reference(REPOSITORY, "A", KERNEL);
    bench.registry.withdraw(&image);
    assert!(succeeded(&bench.run(&worker("Unload", "A", KERNEL), LONG)));
    bench.machine.forget_image(&image);
    let runtime = bench.run(&worker("Load", "A", KERNEL), LONG);
    assert!(matches!(runtime.stage, Stage::ImageMissing { .. }));
}

#[test]
fn a_load_for_another_kernel_fails() {
    let mut bench = Bench::new();
    let runtime = bench.run(&worker("Load", "A", "6.2"), LONG);
    assert!(runtime.restarts > 0 && bench.machine.driver.modules().is_empty());
}

#[test]
fn a_deleted_worker_has_not_succeeded() {
    let mut bench = Bench::new();
    let mut load = worker("Load", "A", KERNEL);
    let mut runtime = bench.run(&load, Duration::from_millis(100));
    load.deleted = true;
    bench.go_on(&load, &mut runtime, LONG);
    assert!(runtime.has_ended() && !succeeded(&runtime));
    assert!(bench.machine.driver.modules().is_empty());
}

#[test]
fn sigterm_takes_as_long_as_the_process_lets_it() {
    for (ignores, at_once, takes) in [(false, true, 1), (true, false, 5)] {
        let mut bench = Bench::new();
        let mut plan = job("j", false);
        plan.ignores_sigterm = ignores;
        let mut runtime = bench.run(&plan, LONG);
        plan.deleted = true;
        bench.go_on(&plan, &mut runtime, Duration::from_secs(1));
        assert_eq!(runtime.has_ended(), at_once);
        bench.go_on(&plan, &mut runtime, Duration::from_secs(takes));
        assert!(runtime.has_ended());
    }
}

#[test]
fn a_prefetch_hands_over_the_manifest_of_our_images_only() {
    let mut bench = Bench::new();
    let image = image_reference(REPOSITORY, "B", KERNEL);
    let prefetch = pod(
        &json!({ "name": "p", "namespace": "n", "uid": "p", "labels": { "cxi.hpe.com/role": "prefetch" } }),
        &json!({ "restartPolicy": "Never", "containers": [{ "name": "manifest", "image": image }] }),
    );
    let message = |runtime: PodRuntime| match runtime.stage {
        Stage::Ended(ended) => ended.message,
        stage => panic!("{stage:?}"),
    };
    let text = message(bench.run(&prefetch, LONG));
    let manifest = cxi_driver_image_format::ImageManifest::parse(&text).unwrap();
    assert_eq!((manifest.driver_version.as_str(), manifest.kernel.as_str()), ("B", KERNEL));
    bench.registry.mark_foreign(&image);
    assert_eq!(message(bench.run(&prefetch, LONG)), "");
}

#[test]
fn a_reboot_restarts_workers_and_refuses_pods_with_devices() {
    let mut bench = Bench::new();
    bench.give("j");
    let plan = job("j", false);
    let mut runtime = bench.run(&plan, LONG);
    bench.machine.boot("boot-2".into(), None);
    runtime.reboot(&plan, &mut bench.host());
    assert!(matches!(&runtime.stage, Stage::Ended(e) if e.reason == Some("UnexpectedAdmissionError")));
    assert!(bench.machine.allocations.is_empty());
    let load = worker("Load", "A", KERNEL);
    let mut runtime = bench.run(&load, Duration::from_millis(100));
    runtime.reboot(&load, &mut bench.host());
    bench.go_on(&load, &mut runtime, LONG);
    assert!(succeeded(&runtime) && runtime.restarts == 1);
}

#[test]
fn a_host_loads_the_driver_it_brings_when_it_boots_or_when_it_is_asked() {
    let modprobe = pod(
        &json!({ "name": "m", "namespace": "n", "uid": "m", "labels": { "cxi.hpe.com/role": "host-driver" } }),
        &json!({ "restartPolicy": "Never", "containers": [{ "name": "modprobe", "image": "agent:1" }] }),
    );
    let brings = |at_boot| {
        let shape =
            NodeShape { host_driver: Some(HostDriver { version: "1.8.3".into(), at_boot }), ..NodeShape::default() };
        Bench { machine: Machine::new(&shape, "boot-1".into()), ..Bench::new() }
    };
    let mut at_boot = brings(true);
    assert!(at_boot.machine.links_up(at_boot.now));
    assert!(succeeded(&at_boot.run(&modprobe, LONG)), "what is loaded stays");
    let mut asked = brings(false);
    assert!(asked.machine.driver.bound().is_none());
    assert!(succeeded(&asked.run(&modprobe, LONG)) && asked.machine.links_up(asked.now));
    let mut nothing = Bench::new();
    let runtime = nothing.run(&modprobe, LONG);
    assert!(matches!(&runtime.stage, Stage::Ended(e) if e.exit_code == 1 && e.message.contains("not found")));
}
