//! What stands in the file: a device per NIC, by each of its names, and one for all of them.

use std::path::Path;

use cxi_hardware::{NicName, PciAddress};

use super::{
    check::{SpecError, check},
    model::{ContainerEdits, Device, DeviceNode, Mount, Spec},
};
use crate::provision::Provision;

/// Kind of the devices that `cxi-cdi-generator` names, the same as HPE's generator has.
pub const GENERATOR_KIND: &str = "hpe.com/cxi";

/// Kind of the devices that the plugin names. Another one than [`GENERATOR_KIND`], because a runtime resolves neither
/// of two devices of one name in one directory.
pub const PLUGIN_KIND: &str = "device-plugin.cxi.hpe.com/nic";

/// Name of the device that is every NIC.
pub const ALL: &str = "all";

/// The NICs and what comes with them.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// NICs that have a device node, by address and present name; each address and each name once.
    pub nics: &'a [(PciAddress, NicName)],
    /// The directory in which the runtime finds the device nodes: the host's `/dev`.
    pub dev: &'a Path,
    /// What every container with a NIC gets.
    pub provision: &'a Provision,
    /// Environment of every container with a NIC, `NAME=value`. The client that starts the container cannot override a
    /// variable set here, and a variable cannot be different for each NIC: of several devices in one container the last
    /// wins. So nothing that names NICs belongs here.
    pub env: &'a [String],
}

/// The specification of `subject`, or nothing without NICs: a file without devices would be refused by every reader.
///
/// # Errors
/// When something of it is such that no runtime would accept it.
pub fn spec(kind: &str, subject: Subject<'_>) -> Result<Option<Spec>, SpecError> {
    if subject.nics.is_empty() {
        return Ok(None);
    }
    let node = |name: NicName| device_node(subject.dev, &name.to_string());
    let edits = |nodes| ContainerEdits { device_nodes: nodes, ..ContainerEdits::default() };
    let mut nics = subject.nics.to_vec();
    nics.sort_by_key(|(_, name)| *name);
    let mut devices = Vec::with_capacity(3 * nics.len() + 1);
    for (address, name) in &nics {
        let mut names = vec![address.to_string(), name.to_string()];
        if kind == GENERATOR_KIND {
            // The only names that HPE's generator has.
            names.push(name.number().to_string());
        }
        devices.extend(
            names.into_iter().map(|of_device| Device { name: of_device, container_edits: edits(vec![node(*name)]) }),
        );
    }
    let every = nics.iter().map(|(_, name)| node(*name)).collect();
    devices.push(Device { name: ALL.into(), container_edits: edits(every) });

    let mut spec = Spec {
        cdi_version: String::new(),
        kind: kind.into(),
        devices,
        container_edits: ContainerEdits {
            env: subject.env.to_vec(),
            device_nodes: subject.provision.nodes.iter().map(|name| device_node(subject.dev, name)).collect(),
            mounts: subject.provision.binds.iter().map(mount).collect(),
        },
    };
    spec.cdi_version = spec.lowest_version().into();
    check(&spec)?;
    Ok(Some(spec))
}

/// The full name by which the kubelet passes on the NIC at `address`.
pub fn kubelet_name(address: PciAddress) -> String {
    format!("{PLUGIN_KIND}={address}")
}

/// The node called `name`. In the container it is where libcxi opens it, with the number that the host has.
fn device_node(dev: &Path, name: &str) -> DeviceNode {
    let path = format!("/dev/{name}");
    let host = dev.join(name).to_string_lossy().into_owned();
    DeviceNode { host_path: Some(host).filter(|host| *host != path), path, permissions: "rw".into() }
}

fn mount(bind: &crate::bind::Bind) -> Mount {
    let access = if bind.read_only { "ro" } else { "rw" };
    Mount {
        host_path: bind.host.clone(),
        container_path: bind.container.clone(),
        options: ["rbind", access, "nosuid", "nodev"].map(str::to_owned).to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bind::Bind;

    fn provision() -> Provision {
        let bind =
            |host: &str, container: &str| Bind { host: host.into(), container: container.into(), read_only: true };
        Provision {
            binds: vec![bind("/opt/cray/libfabric/2.3.1/lib64/libfabric.so.1.30", "/opt/cray/lib64/libfabric.so.1")],
            nodes: vec!["kdreg2".into()],
        }
    }

    fn nic(address: &str, number: u32) -> (PciAddress, NicName) {
        (address.parse().unwrap(), NicName::new(number))
    }

    #[test]
    fn a_device_per_nic_by_three_names_and_all_of_them() {
        let nics = [nic("0000:c1:00.0", 10), nic("0000:21:00.0", 9)];
        let provision = provision();
        let env = ["FI_PROVIDER=cxi".to_owned()];
        let subject = Subject { nics: &nics, dev: Path::new("/dev"), provision: &provision, env: &env };
        let spec = spec(GENERATOR_KIND, subject).unwrap().unwrap();
        assert_eq!(spec.cdi_version, "0.5.0");
        let devices: Vec<_> = spec
            .devices
            .iter()
            .map(|device| {
                let nodes = device.container_edits.device_nodes.iter();
                (device.name.as_str(), nodes.map(|node| node.path.as_str()).collect::<Vec<_>>())
            })
            .collect();
        let expected = [
            ("0000:21:00.0", vec!["/dev/cxi9"]),
            ("cxi9", vec!["/dev/cxi9"]),
            ("9", vec!["/dev/cxi9"]),
            ("0000:c1:00.0", vec!["/dev/cxi10"]),
            ("cxi10", vec!["/dev/cxi10"]),
            ("10", vec!["/dev/cxi10"]),
            ("all", vec!["/dev/cxi9", "/dev/cxi10"]),
        ];
        assert_eq!(devices, expected);
        assert_eq!(spec.container_edits.env, env);
        assert_eq!(spec.container_edits.device_nodes[0].path, "/dev/kdreg2");
        assert_eq!(spec.container_edits.mounts[0].container_path, "/opt/cray/lib64/libfabric.so.1");
        assert!(spec.container_edits.mounts[0].options.contains(&"ro".to_owned()));
    }

    #[test]
    fn a_host_that_has_its_nodes_elsewhere_is_named_and_the_container_has_them_in_dev() {
        let nics = [nic("0000:21:00.0", 0)];
        let provision = Provision::default();
        let subject = Subject { nics: &nics, dev: Path::new("/tmp/x/dev"), provision: &provision, env: &[] };
        let spec = spec(PLUGIN_KIND, subject).unwrap().unwrap();
        let node = &spec.devices[0].container_edits.device_nodes[0];
        assert_eq!((node.path.as_str(), node.host_path.as_deref()), ("/dev/cxi0", Some("/tmp/x/dev/cxi0")));
        let names: Vec<_> = spec.devices.iter().map(|device| device.name.as_str()).collect();
        assert_eq!(names, ["0000:21:00.0", "cxi0", ALL], "no client asks the plugin for numbers");
        assert_eq!(kubelet_name(nics[0].0), "device-plugin.cxi.hpe.com/nic=0000:21:00.0");
    }

    #[test]
    fn no_nics_are_no_file_and_nonsense_is_refused() {
        let provision = provision();
        let subject = Subject { nics: &[], dev: Path::new("/dev"), provision: &provision, env: &[] };
        assert_eq!(spec(GENERATOR_KIND, subject), Ok(None));
        let nics = [nic("0000:21:00.0", 0)];
        let env = ["FI_PROVIDER".to_owned()];
        let spoiled = Subject { nics: &nics, env: &env, ..subject };
        assert_eq!(spec(GENERATOR_KIND, spoiled), Err(SpecError::Variable("FI_PROVIDER".into())));
    }
}
