//! Large clusters in the middle of an upgrade, as the engine sees them: what its time and what it writes are measured on. Used by the
//! tests here and by `cargo xtask bench plan`.

use std::{collections::BTreeMap, hint::black_box, time::Duration};

use cxi_api::{
    Advertise, CXIDriverSpec, CXIDriverStatus, KernelModule, NodeReport, NodeRollout, Phase, RevisionId, Timestamp,
    driver::SourceType,
    kmm::NodeModule,
    names::{
        DRIVER_LABEL, DRIVER_VERSION_LABEL, device_plugin_gate, kmm_version_label, kmm_version_ready_label, module_name,
    },
};
use cxi_rollout::{
    Action, Plan, Settings, World,
    action::NodeChange,
    plan,
    world::{
        AgentPolicy, DisruptionBudget, Driver, Holder, Image, ImageState, Injection, Node, PodHealth, Record, Revision,
        Taint,
    },
};
use rustix::time::{ClockId, clock_gettime};

/// Pods that hold a NIC, on each node.
pub const HOLDERS: usize = 8;

/// PodDisruptionBudgets over them.
#[derive(Clone, Copy, Debug)]
pub enum Shape {
    /// None.
    None,
    /// So many, each over the pods of as many nodes as any other.
    Spread(usize),
    /// One over each node's pods.
    OneEach,
    /// So many, all of them over the same 50 pods of one tenant.
    OneTenant(usize),
}

/// What every node of this cluster needs: the namespace of the operator, the driver's name, kernel and resource.
const NAMESPACE: &str = "cxi-operator";
const DRIVER: &str = "cassini";
const KERNEL: &str = "6.4.0-150600.23.60-default";
const RESOURCE: &str = "hpe.com/cxi";

/// A second of the cluster's life.
pub fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap_or_default()
}

fn spec(version: &str) -> CXIDriverSpec {
    let mut spec = CXIDriverSpec::new(version);
    spec.source.kind = SourceType::Prebuilt;
    spec.source.image = Some("registry.example/slingshot/cxi-driver".into());
    spec.retry_handler.image = Some("registry.example/slingshot/cxi-rh".into());
    spec.node_selector = [("feature.node.kubernetes.io/pci-1590.present".to_owned(), "true".to_owned())].into();
    spec
}

/// Name of a node.
pub fn name(number: usize) -> String {
    format!("x{number:05}c0s17b0n0")
}

fn uid(kind: char, number: usize) -> String {
    format!("{kind}f6cb5d2-6b7d-4bd6-9c6c-{number:012}")
}

/// A cluster that goes from one release to the next, with pods on every node. It comes to rest as far as it can: what the engine
/// writes has been written.
pub fn upgrading(nodes: usize, shape: Shape) -> World {
    let (old, new) = (spec("13.0.0").revision(DRIVER), spec("13.1.0").revision(DRIVER));
    let mut world = World {
        namespace: NAMESPACE.into(),
        kmm_present: true,
        agent_policy: AgentPolicy::InForce,
        drivers: vec![driver()],
        nodes: (0..nodes).map(|number| (name(number), node(number, &old))).collect(),
        revisions: vec![revision(&old, "13.0.0"), revision(&new, "13.1.0")],
        disruption_budgets: budgets(nodes, shape),
        ..World::default()
    };
    for _ in 0..3 {
        let plan = plan(&world, now(), &Settings::default());
        carry_out(&mut world, plan);
    }
    world
}

fn driver() -> Driver {
    Driver {
        name: DRIVER.into(),
        uid: uid('d', 0),
        generation: 1,
        created: now(),
        deleting: false,
        orphan: false,
        offered: Vec::new(),
        installation: None,
        max_unselected: None,
        module_refused: None,
        finalizer: true,
        resume: None,
        spec: std::sync::Arc::new(spec("13.1.0")),
        status: CXIDriverStatus::default(),
        operands_current: true,
        plugin_current: true,
        pods_ready: BTreeMap::new(),
        pods_outdated: BTreeMap::new(),
        injection: Injection::default(),
        sidecar: None,
    }
}

fn revision(id: &RevisionId, version: &str) -> Revision {
    let reference = format!("registry.example/slingshot/cxi-driver:{version}-{KERNEL}");
    let image = Image { reference, state: ImageState::Exists, problem: None };
    Revision {
        driver: DRIVER.into(),
        id: id.clone(),
        version: version.into(),
        created: now(),
        deleting: false,
        images: [(KERNEL.to_owned(), image)].into(),
        containerfile: false,
    }
}

fn node(number: usize, on: &RevisionId) -> Node {
    let name = name(number);
    let module = module_name(on);
    let mut labels: BTreeMap<String, String> =
        (0..40).map(|cpu| (format!("feature.node.kubernetes.io/cpu-cpuid.{cpu}"), "true".to_owned())).collect();
    labels.extend([
        ("feature.node.kubernetes.io/pci-1590.present".to_owned(), "true".to_owned()),
        ("kubernetes.io/hostname".to_owned(), name.clone()),
        (DRIVER_LABEL.to_owned(), DRIVER.to_owned()),
        (DRIVER_VERSION_LABEL.to_owned(), "13.0.0".to_owned()),
        (device_plugin_gate(DRIVER), on.to_string()),
        (kmm_version_label(NAMESPACE, &module), on.to_string()),
        (kmm_version_ready_label(NAMESPACE, &module), on.to_string()),
    ]);
    let loaded: Option<NodeModule> = serde_json::from_value(serde_json::json!({
        "name": module, "namespace": NAMESPACE, "config": {}, "version": on.as_str(), "bootID": "boot",
    }))
    .ok();
    Node {
        uid: uid('n', number),
        created: now(),
        labels,
        taints: Vec::new(),
        ready: true,
        cordoned: false,
        kernel: KERNEL.into(),
        boot_id: "boot".into(),
        allocatable: [(RESOURCE.to_owned(), 400)].into(),
        record: Some(Record { uid: uid('r', number), rollout: Some(place(on)), report: report(number) }),
        unreadable: None,
        stale_record: None,
        holders: (0..HOLDERS).map(|pod| holder(number * HOLDERS + pod)).collect(),
        kmm_wants: loaded.clone().into_iter().collect(),
        kmm_has: loaded.into_iter().collect(),
        workers: Vec::new(),
        pods: Vec::new(),
        looks: Vec::new(),
        name,
    }
}

fn place(on: &RevisionId) -> NodeRollout {
    NodeRollout {
        driver: DRIVER.into(),
        revision: Some(on.clone()),
        version: None,
        target_revision: Some(on.clone()),
        phase: Phase::UpToDate,
        since: now() - Duration::from_hours(1),
        evidence_since: None,
        attempt: 1,
        advertise: Advertise::All,
        transaction: None,
        trial: None,
        check: None,
        blocked_by: None,
        wait: None,
        boot_id: Some("boot".into()),
        expected: None,
        previous: None,
        host_revision: None,
        retry_handlers: Vec::new(),
        failure: None,
        pause: None,
        handled_request: None,
        last_error: None,
        history: Vec::new(),
    }
}

fn report(number: usize) -> Option<NodeReport> {
    let modules = KernelModule::names(KernelModule::UNLOAD).map(|name| {
        let build_id = format!("{name}-0123456789abcdef0123456789abcdef01234567");
        serde_json::json!({ "name": name, "buildID": build_id, "refcount": 0 })
    });
    let nics: Vec<_> = (0..4)
        .map(|nic| {
            let (name, address) = (format!("cxi{nic}"), format!("0000:{nic:02x}:00.0"));
            serde_json::json!({ "name": name, "pciAddress": address, "link": "up" })
        })
        .collect();
    let pods = (0..HOLDERS).map(|pod| uid('p', number * HOLDERS + pod));
    let files: Vec<_> = pods
        .flat_map(|pod| {
            (0..4)
                .map(move |nic| serde_json::json!({ "device": format!("cxi{nic}"), "pid": 4000 + nic, "podUID": pod }))
        })
        .collect();
    let report = serde_json::json!({
        "kernel": KERNEL, "bootID": "boot", "observedAt": "2027-01-15T08:00:00Z", "sequence": 7, "modules": modules,
        "devices": nics, "openFiles": files,
    });
    serde_json::from_value(report).ok()
}

fn holder(number: usize) -> Holder {
    Holder {
        namespace: "jobs".into(),
        name: format!("job-{number}"),
        uid: uid('p', number),
        labels: [("app".to_owned(), format!("job-{}", number / HOLDERS))].into(),
        resources: vec![RESOURCE.into()],
        ends: None,
        controller: Some(("Job".into(), format!("job-{}", number / HOLDERS))),
        is_static: false,
        started: true,
        health: PodHealth::Ready,
        grace: Duration::from_secs(30),
        unreadable: false,
        refused: None,
    }
}

fn budgets(nodes: usize, shape: Shape) -> Vec<DisruptionBudget> {
    let all = nodes * HOLDERS;
    let budget = |number: usize, covers: Vec<String>| DisruptionBudget {
        namespace: "jobs".into(),
        name: format!("pdb-{number:05}"),
        covers,
        allowed: 0,
        most: 1,
        spares_unready: false,
        broken: None,
    };
    let pods = |range: std::ops::Range<usize>| range.map(|pod| uid('p', pod)).collect();
    match shape {
        Shape::None => Vec::new(),
        Shape::Spread(many) => {
            let each = all.div_ceil(many.max(1));
            (0..many).map(|number| budget(number, pods(number * each..((number + 1) * each).min(all)))).collect()
        }
        Shape::OneEach => {
            (0..nodes).map(|number| budget(number, pods(number * HOLDERS..(number + 1) * HOLDERS))).collect()
        }
        Shape::OneTenant(many) => (0..many).map(|number| budget(number, pods(0..50.min(all)))).collect(),
    }
}

/// Writes what a plan writes. What the plan has others do is not done.
pub fn carry_out(world: &mut World, plan: Plan) {
    for action in plan.actions {
        match action {
            Action::WriteDriverStatus { driver, status, .. } => {
                let driver = world.drivers.iter_mut().find(|known| known.name == driver);
                if let Some(driver) = driver {
                    driver.status = *status;
                }
            }
            Action::WriteRollout { node, now, .. } => {
                if let Some(record) = world.nodes.get_mut(&node).and_then(|node| node.record.as_mut()) {
                    record.rollout = Some(*now);
                }
            }
            Action::PatchNode { node, changes, .. } => {
                let Some(node) = world.nodes.get_mut(&node) else { continue };
                for change in changes {
                    change_node(node, change);
                }
            }
            _ => {}
        }
    }
}

fn change_node(node: &mut Node, change: NodeChange) {
    match change {
        NodeChange::SetLabel { key, value, .. } => drop(node.labels.insert(key, value)),
        NodeChange::RemoveLabel { key, .. } => drop(node.labels.remove(&key)),
        NodeChange::AddTaint { taint: Taint { key, value, effect }, .. } => {
            node.taints.push(Taint { key, value, effect });
        }
        NodeChange::RemoveTaint { index, .. } => drop(node.taints.remove(index)),
    }
}

/// What a plan should take on 5,000 nodes, in an optimised build, on a machine that has a processor to spare.
pub const GOAL: Duration = Duration::from_millis(50);

/// Time of a processor that a plan takes: the shortest of several, because a machine does other things as well.
pub fn time(world: &World, runs: usize) -> Duration {
    let once = || {
        let began = worked();
        black_box(plan(black_box(world), now(), &Settings::default()));
        worked().saturating_sub(began)
    };
    (0..runs.max(1)).map(|_| once()).min().unwrap_or_default()
}

/// Time that this thread has had a processor, which does not grow while others have it.
fn worked() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::try_from(time).unwrap_or_default()
}
