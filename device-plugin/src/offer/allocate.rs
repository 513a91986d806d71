//! What a container gets for the ids that the kubelet chose.

use std::collections::{BTreeMap, HashMap};

use cxi_hardware::PciAddress;
use cxi_injection::{Bind, cdi};

use crate::{
    kubelet_api::{
        device_id::DeviceId,
        proto::v1beta1::{CdiDevice, ContainerAllocateResponse, DeviceSpec, Mount},
    },
    offer::{Gate, Published},
};

/// Why a container cannot have what the kubelet asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AllocateError {
    /// No id at all: an answer without devices would start a container without a NIC.
    #[error("no device ids were asked for")]
    Nothing,
    /// The id is not of a form that this plugin hands out in its sharing mode.
    #[error("device id {0:?} is not one of this plugin's")]
    NotAnId(String),
    /// The id's NIC is not on this node.
    #[error("device id {0} names a NIC that is not on this node")]
    NoSuchNic(DeviceId),
    /// The NIC has no device node to hand out.
    #[error("device id {0} names a NIC without a device node")]
    NoDeviceNode(DeviceId),
    /// The node is closed; the kubelet chose from an older list.
    #[error("this node offers no NICs while its driver is being changed")]
    Closed,
}

/// Tells libfabric to use the provider for CXI NICs (`fi_provider(7)`).
const PROVIDER: (&str, &str) = ("FI_PROVIDER", "cxi");

/// Tells that provider which NICs to use, as a list with commas (`fi_cxi(7)`). It matters where a container sees more
/// device nodes than it was given, as privileged ones do.
const DEVICES: &str = "FI_CXI_DEVICE_NAME";

/// The same for programs made for the slingshot-operator: how many NICs the container has, and which where it is one. That
/// one gave every NIC where they are shared, and named none then.
const COUNT: &str = "CXI_DEVICE_COUNT";
const DEVICE: &str = "CXI_DEVICE";

/// What one container gets.
#[derive(Clone, Debug, PartialEq)]
pub struct Allocation {
    /// The answer to the kubelet.
    pub response: ContainerAllocateResponse,
    /// How many different NICs are in it.
    pub nics: usize,
    /// How many the container asked for: one with each id.
    pub asked: usize,
}

impl Allocation {
    /// What is worth telling an administrator: ids of a shared NIC are not NICs, and a pod may ask for more than the node has.
    pub fn shortage(&self) -> Option<String> {
        let Self { nics, asked, .. } = self;
        (nics < asked).then(|| {
            format!(
                "a container asked for {asked} NICs and gets {nics}: this node has no more that it could be given, \
                and a shared NIC has several ids"
            )
        })
    }
}

/// The ids of one container to what it gets: one device node per NIC, however many ids of it are among them, with what
/// libfabric needs. The environment is the kubelet's to set, also with CDI, so that a pod can say otherwise.
///
/// With CDI the device nodes are given by name and in plain. The plain ones are for a runtime that does not do CDI: it
/// says nothing about names, and a container must not start without its NIC for that. A runtime that does replaces a
/// node at the same path.
///
/// A NIC whose link went down after the kubelet chose it is given nevertheless: links come back, and a container that
/// has the NIC sees the state itself. With [`Gate::InUse`] everything is given: the node only waits, and a pod whose
/// admission crossed the change may need an id for its next container.
///
/// # Errors
/// When one of the ids cannot be given. Nothing is given then.
pub fn allocate(published: &Published, ids: &[String]) -> Result<Allocation, AllocateError> {
    if published.gate == Gate::Closed {
        return Err(AllocateError::Closed);
    }
    if ids.is_empty() {
        return Err(AllocateError::Nothing);
    }
    let mut nics: BTreeMap<_, PciAddress> = BTreeMap::new();
    for text in ids {
        let id: DeviceId = text
            .parse()
            .ok()
            .filter(|id| published.sharing.has(*id))
            .ok_or_else(|| AllocateError::NotAnId(text.clone()))?;
        let nic = published.inventory.nics.get(&id.address).ok_or(AllocateError::NoSuchNic(id))?;
        if nic.has_no_device_node() {
            return Err(AllocateError::NoDeviceNode(id));
        }
        nics.insert(nic.name, id.address);
    }
    let names: Vec<_> = nics.keys().map(ToString::to_string).collect();
    let mut response = ContainerAllocateResponse {
        envs: environment(&names),
        devices: names.iter().map(|name| device_node(name)).collect(),
        ..Default::default()
    };
    if published.cdi {
        response.cdi_devices = nics.into_values().map(|nic| CdiDevice { name: cdi::kubelet_name(nic) }).collect();
    } else {
        response.devices.extend(published.provision.nodes.iter().map(|name| device_node(name)));
        response.mounts = published.provision.binds.iter().map(mount).collect();
    }
    Ok(Allocation { response, nics: names.len(), asked: ids.len() })
}

fn environment(names: &[String]) -> HashMap<String, String> {
    let mut variables =
        vec![(PROVIDER.0, PROVIDER.1.to_owned()), (DEVICES, names.join(",")), (COUNT, names.len().to_string())];
    if let [name] = names {
        variables.push((DEVICE, name.clone()));
    }
    variables.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The paths are the host's: the kubelet reads them, wherever this process sees the host's /dev.
fn device_node(name: &str) -> DeviceSpec {
    let path = format!("/dev/{name}");
    DeviceSpec { container_path: path.clone(), host_path: path, permissions: "rw".into() }
}

fn mount(bind: &Bind) -> Mount {
    Mount { host_path: bind.host.clone(), container_path: bind.container.clone(), read_only: bind.read_only }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use cxi_hardware::health::{Defect, Health};
    use cxi_injection::provision::Provision;

    use super::*;
    use crate::{
        kubelet_api::device_id::Sharing,
        nics::inventory::Inventory,
        offer::tests::{inventory, open, shared},
    };

    const A: &str = "0000:01:00.0";
    const B: &str = "0000:c1:00.0";

    fn published(sharing: Sharing) -> Published {
        open(inventory(&[(A, Some(0)), (B, Some(1))]), sharing)
    }

    fn paths(published: &Published, ids: &[&str]) -> Result<Vec<String>, AllocateError> {
        let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
        let devices = allocate(published, &ids)?.response.devices;
        assert!(devices.iter().all(|node| node.permissions == "rw" && node.host_path == node.container_path));
        Ok(devices.into_iter().map(|node| node.host_path).collect())
    }

    #[test]
    fn ids_become_device_nodes_once_per_nic() {
        let shared = published(shared(10));
        assert_eq!(paths(&shared, &["0000:c1:00.0-3"]).unwrap(), ["/dev/cxi1"]);
        assert_eq!(paths(&shared, &["0000:c1:00.0-3", "0000:c1:00.0-4"]).unwrap(), ["/dev/cxi1"]);
        assert_eq!(paths(&shared, &["0000:c1:00.0-3", "0000:01:00.0-0"]).unwrap(), ["/dev/cxi0", "/dev/cxi1"]);
        assert_eq!(paths(&published(Sharing::Exclusive), &[A]).unwrap(), ["/dev/cxi0"]);
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        let shared = published(shared(10));
        for id in ["cxi0", "", A, "0000:01:00.0-10"] {
            let expected = Err(AllocateError::NotAnId(id.into()));
            assert_eq!(paths(&shared, &["0000:01:00.0-0", id]), expected);
        }
        let foreign = "0000:02:00.0-0";
        assert_eq!(paths(&shared, &[foreign]), Err(AllocateError::NoSuchNic(foreign.parse().unwrap())));
        assert_eq!(paths(&shared, &[]), Err(AllocateError::Nothing));
    }

    #[test]
    fn gives_a_nic_whose_link_is_down_but_not_one_without_a_node() {
        let id = "0000:01:00.0-0";
        for (defect, expected) in [
            (Defect::LinkDown, Ok(vec!["/dev/cxi0".to_owned()])),
            (Defect::NoDeviceNode, Err(AllocateError::NoDeviceNode(id.parse().unwrap()))),
        ] {
            let mut published = published(shared(10));
            published.inventory.nics.get_mut(&A.parse().unwrap()).unwrap().health = Some(Health::Unusable(defect));
            assert_eq!(paths(&published, &[id]), expected);
        }
    }

    #[test]
    fn gives_nothing_while_closed() {
        let open = published(shared(10));
        let closed = Published { gate: Gate::Closed, ..open.clone() };
        assert_eq!(paths(&closed, &["0000:01:00.0-0"]), Err(AllocateError::Closed));
        let in_use = Published { gate: Gate::InUse(BTreeSet::new()), ..open.clone() };
        assert_eq!(paths(&in_use, &["0000:01:00.0-0"]).unwrap(), ["/dev/cxi0"]);
        let empty = Published { inventory: Inventory::default(), ..open };
        assert!(matches!(paths(&empty, &["0000:01:00.0-0"]), Err(AllocateError::NoSuchNic(_))));
    }

    #[test]
    fn more_ids_than_nics_are_said() {
        let shared = published(shared(10));
        let allocation = |ids: &[&str]| {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            allocate(&shared, &ids).unwrap()
        };
        let (a, b) = (["0000:01:00.0-0", "0000:01:00.0-1"], ["0000:c1:00.0-0", "0000:c1:00.0-1"]);
        let said = allocation(&[a[0], a[1], b[0], b[1]]).shortage().unwrap();
        assert!(said.contains("asked for 4 NICs and gets 2"), "{said}");
        assert_eq!(allocation(&[a[0], b[1]]).shortage(), None);
        assert_eq!(allocation(&[a[1]]).shortage(), None);
    }

    #[test]
    fn one_nic_is_named_and_several_are_counted() {
        let variable = |sharing: Sharing, ids: &[&str], name: &str| {
            let ids: Vec<_> = ids.iter().map(ToString::to_string).collect();
            allocate(&published(sharing), &ids).unwrap().response.envs.get(name).cloned()
        };
        let one_of_shared = ["0000:c1:00.0-0", "0000:c1:00.0-1"];
        for (sharing, ids) in [(Sharing::Exclusive, &[B][..]), (shared(10), &one_of_shared)] {
            assert_eq!(variable(sharing, ids, "CXI_DEVICE").unwrap(), "cxi1");
            assert_eq!(variable(sharing, ids, "CXI_DEVICE_COUNT").unwrap(), "1");
        }
        assert_eq!(variable(Sharing::Exclusive, &[A, B], "CXI_DEVICE"), None);
        assert_eq!(variable(Sharing::Exclusive, &[A, B], "CXI_DEVICE_COUNT").unwrap(), "2");
    }

    #[test]
    fn what_libfabric_needs_comes_with_the_nics() {
        let provision = Provision {
            binds: vec!["/usr/lib64/libcxi.so.1.5:/usr/lib64/libcxi.so.1".parse().unwrap()],
            nodes: vec!["kdreg2".into()],
        };
        let plain = Published { provision: provision.into(), ..published(shared(10)) };
        let ids = ["0000:c1:00.0-3".to_owned(), "0000:01:00.0-0".to_owned()];
        let response = allocate(&plain, &ids).unwrap().response;
        let nodes = |response: &ContainerAllocateResponse| {
            response.devices.iter().map(|node| node.container_path.clone()).collect::<Vec<_>>()
        };
        let environment = [("FI_PROVIDER", "cxi"), ("FI_CXI_DEVICE_NAME", "cxi0,cxi1"), ("CXI_DEVICE_COUNT", "2")];
        let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        assert_eq!(response.envs, environment);
        assert_eq!(nodes(&response), ["/dev/cxi0", "/dev/cxi1", "/dev/kdreg2"]);
        assert_eq!(response.mounts[0].container_path, "/usr/lib64/libcxi.so.1");
        assert!(response.mounts[0].read_only && response.cdi_devices.is_empty());

        let response = allocate(&Published { cdi: true, ..plain }, &ids).unwrap().response;
        assert_eq!(response.envs, environment);
        assert_eq!(nodes(&response), ["/dev/cxi0", "/dev/cxi1"], "also for a runtime that does not know the names");
        assert!(response.mounts.is_empty());
        let names: Vec<_> = response.cdi_devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["device-plugin.cxi.hpe.com/nic=0000:01:00.0", "device-plugin.cxi.hpe.com/nic=0000:c1:00.0"]);
    }
}
