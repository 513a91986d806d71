//! The operands' DaemonSets: which there should be, and whether they are as they should be.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use cxi_api::{
    CXIDriver, CXIDriverSpec,
    names::{
        DRIVER_LABEL, ROLE_LABEL, Role, agent_daemonset, metrics_exporter_daemonset, retry_handler_daemonset,
        services_gate, services_value,
    },
};
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::ResourceExt;

use crate::{
    memory::{Applied, Remembered},
    observe::Snapshot,
    render::{HASH_ANNOTATION, Images, OPERANDS, RESOURCE_ANNOTATION, Services, WantedOperand, operands},
};

/// Of operands whose pods are not looked at one by one, what the DaemonSet says of them: `numberReady` counts nodes that should have a pod and have a ready one.
pub fn pods_ready(driver: &str, seen: &Snapshot) -> BTreeMap<Role, i32> {
    let names = [(Role::Agent, agent_daemonset(driver)), (Role::MetricsExporter, metrics_exporter_daemonset(driver))];
    let ready = |(role, name): (Role, String)| Some((role, seen.daemonset(&name)?.status.as_ref()?.number_ready));
    names.into_iter().filter_map(ready).collect()
}

/// The DaemonSets of the operands of a CXIDriver that are there.
pub fn operands_of<'a>(driver: &'a str, seen: &'a Snapshot) -> impl Iterator<Item = &'a Arc<DaemonSet>> {
    seen.daemonsets.iter().filter(move |daemonset| {
        let labels = daemonset.labels();
        let role = labels.get(ROLE_LABEL).is_some_and(|role| OPERANDS.iter().any(|known| known.as_str() == role));
        role && labels.get(DRIVER_LABEL).is_some_and(|owner| owner == driver)
    })
}

/// The DaemonSets as they should be, and those that should not be there any more.
pub fn wanted_operands(
    driver: &str,
    spec: &CXIDriverSpec,
    seen: &Snapshot,
    images: &Images,
    namespace: &str,
) -> Vec<WantedOperand> {
    let mut wanted = operands(driver, spec, namespace, images, &services(driver, spec, seen));
    let gate = services_gate(driver);
    let open: BTreeSet<_> = seen.nodes.iter().filter_map(|node| node.labels().get(&gate)).collect();
    let stays: BTreeSet<_> = open.into_iter().map(|value| retry_handler_daemonset(driver, value)).collect();
    let names = operands_of(driver, seen).map(|daemonset| daemonset.name_any());
    let left: Vec<_> =
        names.filter(|name| !stays.contains(name) && !wanted.iter().any(|(known, _)| known == name)).collect();
    wanted.extend(left.into_iter().map(|name| (name, None)));
    wanted
}

/// See [`Services`]. A node on its way may go back to what it came from.
fn services(driver: &str, spec: &CXIDriverSpec, seen: &Snapshot) -> Services {
    let gate = services_gate(driver);
    let labels: HashMap<String, _> = seen.nodes.iter().map(|node| (node.name_any(), node.labels())).collect();
    let places = seen.records.iter().filter_map(|record| {
        let place = record.status.as_ref()?.rollout.as_ref().filter(|place| place.driver == driver)?;
        Some((labels.get(&record.name_any())?.get(&gate), place))
    });
    let kept = places.flat_map(|(open, place)| {
        let on_its_way = place.cause.is_some() && spec.retry_handler.runs_on_nodes();
        let images = place.services.iter().map(|served| &served.image);
        images.filter(move |image| on_its_way || open == Some(&services_value(image))).cloned()
    });
    kept.chain(spec.retry_handler.image_on_nodes().cloned()).collect()
}

/// Whether each DaemonSet is there exactly when it should, as it was rendered, and unchanged since. After a restart nobody
/// knows whether one was changed; it is then applied once more.
pub fn operands_current(
    driver: &CXIDriver,
    seen: &Snapshot,
    memory: &Remembered,
    images: &Images,
    namespace: &str,
) -> bool {
    let name = driver.name_any();
    let wanted = wanted_operands(&name, &driver.spec, seen, images, namespace);
    wanted.iter().all(|(name, wanted)| match (wanted, seen.daemonset(name)) {
        (None, None) => true,
        (None, Some(_)) | (Some(_), None) => false,
        (Some(wanted), Some(found)) => {
            found.metadata.deletion_timestamp.is_none()
                && memory.applied.get(name) == Some(&applied(found))
                && applied_hash(wanted) == applied_hash(found)
        }
    })
}

/// The DaemonSet as it is to be remembered after it was applied.
pub fn applied(daemonset: &DaemonSet) -> Applied {
    Applied {
        uid: daemonset.uid().unwrap_or_default(),
        generation: daemonset.metadata.generation.unwrap_or_default(),
        hash: applied_hash(daemonset),
    }
}

/// Hash of the DaemonSet as rendered.
pub fn applied_hash(daemonset: &DaemonSet) -> String {
    daemonset.annotations().get(HASH_ANNOTATION).cloned().unwrap_or_default()
}

/// Every resource under which a CXIDriver offers NICs, or did so earlier.
pub fn resource_names(seen: &Snapshot) -> BTreeSet<String> {
    let wanted = seen.drivers.iter().flat_map(|driver| {
        let earlier = driver.status.iter().flat_map(|status| status.resource_names.iter().cloned());
        earlier.chain([driver.spec.device_plugin.resource_name.clone()])
    });
    let offered = seen.daemonsets.iter().filter_map(|ds| ds.annotations().get(RESOURCE_ANNOTATION).cloned());
    wanted.chain(offered).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A node with its gate open for one image, whose record knows images by revision.
    fn seen(open: &str, on_its_way: bool, images: &[&str]) -> Snapshot {
        let gate = services_gate("cassini");
        let node = json!({ "metadata": { "name": "n1", "labels": { gate: services_value(open) } } });
        let served = |(number, image): (usize, &&str)| json!({ "revision": format!("{number:08x}"), "image": image });
        let services: Vec<_> = images.iter().enumerate().map(served).collect();
        let cause = on_its_way.then_some("Revision");
        let rollout = json!({
            "driver": "cassini", "phase": "UpToDate", "since": "2026-01-01T00:00:00Z", "cause": cause, "services": services,
        });
        let record = json!({ "metadata": { "name": "n1" }, "spec": {}, "status": { "rollout": rollout } });
        Snapshot {
            nodes: vec![Arc::new(serde_json::from_value(node).unwrap())],
            records: vec![Arc::new(serde_json::from_value(record).unwrap())],
            ..Snapshot::default()
        }
    }

    fn images(spec: &CXIDriverSpec, seen: &Snapshot) -> Vec<String> {
        services("cassini", spec, seen).into_iter().collect()
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
    fn what_no_node_needs_any_more_goes_and_what_one_runs_stays_although_nobody_knows_its_image() {
        let mut spec = CXIDriverSpec::new("13.1.0");
        spec.retry_handler.image = Some("new".into());
        let rendered = |image: &str| {
            let services = [image.to_owned()].into();
            let all = operands("cassini", &spec, "ns", &Images::default(), &services);
            Arc::new(all.into_iter().last().unwrap().1.unwrap())
        };
        let mut seen = seen("forgotten", false, &[]);
        seen.daemonsets = vec![rendered("forgotten"), rendered("old"), rendered("new")];
        let wanted = wanted_operands("cassini", &spec, &seen, &Images::default(), "ns");
        let name = |image: &str| retry_handler_daemonset("cassini", &services_value(image));
        let gone: Vec<_> = wanted.iter().filter(|(_, wanted)| wanted.is_none()).map(|(name, _)| name.clone()).collect();
        assert_eq!(gone, [name("old")]);
        assert!(!wanted.iter().any(|(known, _)| *known == name("forgotten")), "nobody touches it");
        assert_eq!(operands_of("another", &seen).count(), 0);
    }
}
