//! The operands' DaemonSets: which there should be, and whether they are as they should be.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use cxi_api::{
    CXIDriverSpec,
    names::{
        DRIVER_LABEL, RENDERED_ANNOTATION, ROLE_LABEL, Role, daemonset, retry_handler_daemonset, retry_handler_gate,
        retry_handler_value,
    },
};
use cxi_manifests::{
    images::Images,
    operands::{Gate, OPERANDS, Operand, RetryHandlers, WantedOperand, of_role, operands, tolerate},
};
use k8s_openapi::api::apps::v1;
use kube::ResourceExt;

use crate::{
    Snapshot,
    remembered::{Applied, Remembered},
    seen::{self, DaemonSet, Object},
};

/// Of operands whose pods are not looked at one by one, what the DaemonSet says of them: `numberReady` counts nodes that should have a pod and have a ready one.
pub fn pods_ready(driver: &str, seen: &Snapshot) -> BTreeMap<Role, i32> {
    let everywhere = OPERANDS.iter().filter(|operand| operand.gate.is_none());
    everywhere.filter_map(|operand| Some((operand.role, found(operand, driver, seen)?.number_ready?))).collect()
}

/// Of operands that are replaced node by node, on how many nodes a pod of an earlier template runs, or none of the present one does yet.
pub fn pods_outdated(driver: &str, seen: &Snapshot) -> BTreeMap<Role, i32> {
    let outdated = |operand: &Operand| Some((operand.role, found(operand, driver, seen)?.number_outdated?));
    OPERANDS.iter().filter(|operand| operand.rolls()).filter_map(outdated).filter(|(_, left)| *left > 0).collect()
}

/// The one DaemonSet of an operand.
fn found<'a>(operand: &Operand, driver: &str, seen: &'a Snapshot) -> Option<&'a DaemonSet> {
    seen.daemonset(&operand.daemonset(driver)?)?.readable()
}

/// The DaemonSets of the operands of a CXIDriver that are there.
pub fn operands_of<'a>(driver: &'a str, seen: &'a Snapshot) -> impl Iterator<Item = &'a Arc<Object<DaemonSet>>> {
    seen.daemonsets.iter().filter(move |daemonset| {
        let Some(DaemonSet { labels, .. }) = daemonset.readable() else { return false };
        let is_operand = labels.get(ROLE_LABEL).is_some_and(|role| of_role(role).is_some());
        is_operand && labels.get(DRIVER_LABEL).is_some_and(|owner| owner == driver)
    })
}

/// Names under which the DaemonSets of a CXIDriver offer NICs.
pub fn offered_by(driver: &str, seen: &Snapshot) -> Vec<String> {
    operands_of(driver, seen).filter_map(|found| found.readable()?.resource.as_deref().map(str::to_owned)).collect()
}

/// The DaemonSets as they should be, and those that should not be there any more.
pub fn wanted_operands(
    driver: &str,
    spec: &CXIDriverSpec,
    seen: &Snapshot,
    images: &Images,
    namespace: &str,
) -> Vec<WantedOperand> {
    let mut wanted = operands(driver, spec, namespace, images, &retry_handlers(driver, spec, seen));
    let gate = retry_handler_gate(driver);
    let open: BTreeSet<_> = seen.nodes.iter().filter_map(|node| node.readable()?.labels.get(&gate)).collect();
    let stays: BTreeSet<_> = open.into_iter().map(|value| retry_handler_daemonset(driver, value)).collect();
    for (_, operand) in &mut wanted {
        if let Some(daemonset) = operand {
            let (nodes, down) = nodes_of(driver, daemonset, seen);
            tolerate(daemonset, nodes, down);
        }
    }
    // It is not known which retry handler a node needs that cannot be read.
    let unknown = needs_unknown(seen);
    let may_go = |found: &DaemonSet| !unknown || found.labels.get(ROLE_LABEL) != Some(Role::RetryHandler.as_str());
    let found = operands_of(driver, seen).filter(|daemonset| daemonset.readable().is_some_and(may_go));
    let names = found.map(|daemonset| daemonset.id.name().to_owned());
    let left: Vec<_> =
        names.filter(|name| !stays.contains(name) && !wanted.iter().any(|(known, _)| known == name)).collect();
    wanted.extend(left.into_iter().map(|name| (name, None)));
    wanted
}

/// On how many nodes a DaemonSet should have a pod, and how many of them are not Ready.
fn nodes_of(driver: &str, daemonset: &v1::DaemonSet, seen: &Snapshot) -> (usize, usize) {
    let gate = daemonset.labels().get(ROLE_LABEL).and_then(|role| match of_role(role)?.gate? {
        Gate::Open(label) => Some(label(driver)),
        Gate::ByImage { .. } => None,
    });
    let is_open = |node: &seen::Node| gate.as_ref().is_none_or(|gate| node.labels.get(gate).is_some());
    let should = |node: &&seen::Node| node.labels.get(DRIVER_LABEL) == Some(driver) && is_open(node);
    let nodes: Vec<_> = seen.nodes.iter().filter_map(|node| node.readable()).filter(should).collect();
    (nodes.len(), nodes.iter().filter(|node| !node.ready).count())
}

/// Whether there is a node of which it is not known which retry handler it needs.
fn needs_unknown(seen: &Snapshot) -> bool {
    let unknown = |record: &seen::Record| record.rollout.is_err();
    seen.nodes.iter().any(|node| node.content.is_err())
        || seen.records.iter().any(|record| record.readable().is_none_or(unknown))
}

/// See [`RetryHandlers`]. A node on its way may go back to what it came from.
fn retry_handlers(driver: &str, spec: &CXIDriverSpec, seen: &Snapshot) -> RetryHandlers {
    let gate = retry_handler_gate(driver);
    let labels: HashMap<&str, _> =
        seen.nodes.iter().filter_map(|node| Some((node.id.name(), &node.readable()?.labels))).collect();
    let places = seen.records.iter().filter_map(|record| {
        let place = record.readable()?.place().filter(|place| place.driver == driver)?;
        Some((labels.get(record.id.name())?.get(&gate), place))
    });
    let kept = places.flat_map(|(open, place)| {
        let on_its_way = place.transaction.is_some() && spec.retry_handler.runs_on_nodes();
        let images = place.retry_handlers.iter().map(|served| &served.image);
        images.filter(move |image| on_its_way || open == Some(retry_handler_value(image).as_str())).cloned()
    });
    kept.chain(spec.retry_handler.image_on_nodes().cloned()).collect()
}

/// Which of the DaemonSets are as they should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Current {
    /// All of them.
    pub all: bool,
    /// That of the device plugin.
    pub plugin: bool,
}

/// Whether each DaemonSet is there exactly when it should, as it was rendered, and unchanged since. After a restart it is not known
/// whether one was changed; it is then applied once more.
pub fn operands_current(
    name: &str,
    spec: &CXIDriverSpec,
    seen: &Snapshot,
    memory: &Remembered,
    images: &Images,
    namespace: &str,
) -> Current {
    let plugin = daemonset(Role::DevicePlugin, name);
    let wanted = wanted_operands(name, spec, seen, images, namespace);
    let current = |name: &String, wanted: &Option<v1::DaemonSet>| match (wanted, seen.daemonset(name)) {
        (None, None) => true,
        (None, Some(_)) | (Some(_), None) => false,
        (Some(wanted), Some(found)) => {
            let deleting = found.readable().is_some_and(|content| content.deleting);
            let known = memory.applied.get(name);
            !deleting && known == Some(&applied(found, wanted)) && hash_of(found, wanted) == applied_hash(wanted)
        }
    };
    let outdated: Vec<&String> =
        wanted.iter().filter(|(name, wanted)| !current(name, wanted)).map(|(name, _)| name).collect();
    Current { all: outdated.is_empty(), plugin: !outdated.contains(&&plugin) }
}

/// The DaemonSet as it is to be remembered after `wanted` was applied.
pub fn applied(found: &Object<DaemonSet>, wanted: &v1::DaemonSet) -> Applied {
    Applied {
        uid: found.id.uid.to_string(),
        generation: found.readable().map(|content| content.generation).unwrap_or_default(),
        hash: hash_of(found, wanted),
    }
}

/// Hash of what was applied. One that cannot be read counts as what it should be: it is applied once, not for ever.
fn hash_of(found: &Object<DaemonSet>, wanted: &v1::DaemonSet) -> String {
    found
        .readable()
        .map_or_else(|| applied_hash(wanted), |content| content.hash.as_deref().unwrap_or_default().to_owned())
}

/// Hash of the DaemonSet as rendered.
pub fn applied_hash(daemonset: &v1::DaemonSet) -> String {
    daemonset.annotations().get(RENDERED_ANNOTATION).cloned().unwrap_or_default()
}

/// Every resource that a CXIDriver names or named, also one that cannot be read, or that a device plugin of ours still offers.
pub fn resource_names(seen: &Snapshot) -> BTreeSet<String> {
    let of_driver = |driver: &Arc<Object<seen::Driver>>| match &driver.content {
        Ok(driver) => {
            let mut names = driver.status.resource_names.clone();
            names.push(driver.spec.device_plugin.resource_name.clone());
            names
        }
        Err(unreadable) => unreadable.remains.resources.clone(),
    };
    let offered = seen.daemonsets.iter().filter_map(|ds| ds.readable()?.resource.as_deref().map(str::to_owned));
    seen.drivers.iter().flat_map(of_driver).chain(offered).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use cxi_api::names::device_plugin_gate;

    use super::*;
    use crate::seen::given;

    /// A node with its gate open for one image, whose record knows images by revision.
    fn seen(open: &str, on_its_way: bool, images: &[&str]) -> Snapshot {
        let gate = retry_handler_gate("cassini");
        let node = json!({ "metadata": { "name": "n1", "labels": { gate: retry_handler_value(open) } } });
        let served = |(number, image): (usize, &&str)| json!({ "revision": format!("{number:08x}"), "image": image });
        let handlers: Vec<_> = images.iter().enumerate().map(served).collect();
        let transaction = on_its_way.then(|| json!({ "why": "Wanted" }));
        let rollout = json!({
            "driver": "cassini", "phase": "UpToDate", "since": "2026-01-01T00:00:00Z", "transaction": transaction, "retryHandlers": handlers,
        });
        let record = json!({ "metadata": { "name": "n1" }, "spec": {}, "status": { "rollout": rollout } });
        Snapshot { nodes: vec![given(&node)], records: vec![given(&record)], ..Snapshot::default() }
    }

    fn images(spec: &CXIDriverSpec, seen: &Snapshot) -> Vec<String> {
        retry_handlers("cassini", spec, seen).into_iter().collect()
    }

    #[test]
    fn there_is_a_retry_handler_of_every_image_that_a_node_keeps_or_may_go_back_to() {
        let mut spec = CXIDriverSpec::new("13.1.0");
        spec.retry_handler.image = Some("new".into());
        assert_eq!(images(&spec, &seen("old", false, &["older", "old"])), ["new", "old"]);
        assert_eq!(images(&spec, &seen("new", false, &["older", "old", "new"])), ["new"]);
        assert_eq!(images(&spec, &seen("new", true, &["old", "new"])), ["new", "old"], "it may go back");
        spec.retry_handler.mode = cxi_api::driver::RetryHandlerMode::None;
        assert_eq!(images(&spec, &seen("old", true, &["older", "old"])), ["old"], "until no pod holds a NIC");
        assert_eq!(images(&CXIDriverSpec::new("1"), &Snapshot::default()), Vec::<String>::new());
    }

    #[test]
    fn a_node_that_is_down_keeps_no_other_from_a_new_operand() {
        let gate = device_plugin_gate("cassini");
        let node = |number: usize, ready: &str, gated: bool| {
            let mut labels = serde_json::Map::from_iter([(DRIVER_LABEL.to_owned(), json!("cassini"))]);
            if gated {
                labels.insert(gate.clone(), json!(""));
            }
            let conditions = json!([{ "type": "Ready", "status": ready }]);
            let metadata = json!({ "name": format!("n{number}"), "labels": labels });
            given(&json!({ "metadata": metadata, "status": { "conditions": conditions } }))
        };
        let rendered = |last: &str, gated: bool| {
            let nodes =
                (1..=6).map(|number| node(number, if number == 6 { last } else { "True" }, number < 6 || gated));
            let seen = Snapshot { nodes: nodes.collect(), ..Snapshot::default() };
            let wanted =
                wanted_operands("cassini", &CXIDriverSpec::new("13.1.0"), &seen, &Images::default(), "cxi-operator");
            let of = |(name, daemonset): WantedOperand| {
                let most = daemonset?.spec?.update_strategy?.rolling_update?.max_unavailable?;
                Some((name, serde_json::to_value(most).unwrap()))
            };
            wanted.into_iter().filter_map(of).collect::<BTreeMap<_, _>>()
        };
        let (agent, plugin) = (daemonset(Role::Agent, "cassini"), daemonset(Role::DevicePlugin, "cassini"));
        let exporter = daemonset(Role::MetricsExporter, "cassini");
        let calm = rendered("True", true);
        assert!([&agent, &plugin, &exporter].into_iter().all(|name| calm[name] == "10%"), "{calm:?}");
        let down = rendered("Unknown", true);
        assert!([&agent, &plugin, &exporter].into_iter().all(|name| down[name] == 2), "{down:?}");
        assert_eq!(rendered("Unknown", false)[&plugin], "10%", "the plugin should not be on it");
    }

    #[test]
    fn nodes_with_an_earlier_template_are_counted() {
        let daemonset = |generation: i64, observed: i64, desired: i32, updated: i32| {
            let status = json!({
                "observedGeneration": observed, "desiredNumberScheduled": desired, "updatedNumberScheduled": updated,
                "currentNumberScheduled": desired, "numberMisscheduled": 0, "numberReady": desired,
            });
            let metadata = json!({ "name": daemonset(Role::Agent, "cassini"), "generation": generation });
            let object = given(&json!({ "metadata": metadata, "status": status }));
            let seen = Snapshot { daemonsets: vec![object], ..Snapshot::default() };
            pods_outdated("cassini", &seen).get(&Role::Agent).copied()
        };
        assert_eq!(daemonset(2, 2, 6, 6), None);
        assert_eq!(daemonset(2, 2, 6, 5), Some(1));
        assert_eq!(daemonset(2, 1, 6, 6), Some(6), "the controller has not seen it");
    }

    #[test]
    fn what_no_node_needs_any_more_goes_and_what_one_runs_stays_although_its_image_is_not_known() {
        let mut spec = CXIDriverSpec::new("13.1.0");
        spec.retry_handler.image = Some("new".into());
        let rendered = |image: &str| {
            let handlers = [image.to_owned()].into();
            let all = operands("cassini", &spec, "ns", &Images::default(), &handlers);
            given(&serde_json::to_value(all.into_iter().last().unwrap().1.unwrap()).unwrap())
        };
        let mut seen = seen("forgotten", false, &[]);
        seen.daemonsets = vec![rendered("forgotten"), rendered("old"), rendered("new")];
        let wanted = wanted_operands("cassini", &spec, &seen, &Images::default(), "ns");
        let name = |image: &str| retry_handler_daemonset("cassini", &retry_handler_value(image));
        let gone: Vec<_> = wanted.iter().filter(|(_, wanted)| wanted.is_none()).map(|(name, _)| name.clone()).collect();
        assert_eq!(gone, [name("old")]);
        assert!(!wanted.iter().any(|(known, _)| *known == name("forgotten")), "it is left as it is");
        assert_eq!(operands_of("another", &seen).count(), 0);
    }
}
