//! What a runtime would refuse is found before the file is written.

use std::collections::BTreeSet;

use super::model::{ContainerEdits, Spec};

/// A specification that no runtime would accept, or not as it is meant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// The version does not have what is used.
    #[error("cdiVersion is {0}, what is used needs {1}")]
    Version(String, &'static str),
    /// The kind is not `vendor/class`.
    #[error("kind {0:?} is not vendor/class of letters, digits, '-', '_' and '.', each beginning with a letter")]
    Kind(String),
    /// There is no device.
    #[error("there is no device")]
    NoDevices,
    /// A device has a name that the specification does not allow.
    #[error("device name {0:?} is not of letters, digits, '-', '_', '.' and ':', between two of the first two sorts")]
    DeviceName(String),
    /// Two devices have one name.
    #[error("two devices are named {0:?}")]
    Twice(String),
    /// A device changes nothing.
    #[error("device {0:?} gives nothing to a container")]
    Nothing(String),
    /// An environment variable is not `NAME=value`.
    #[error("environment variable {0:?} is not of the form NAME=value")]
    Variable(String),
    /// A path is not absolute or goes through `..`.
    #[error("path {0:?} is not an absolute path without '..'")]
    Path(String),
    /// Permissions of a node.
    #[error("permissions {0:?} of a device node are not of r, w and m")]
    Permissions(String),
    /// Two mounts or nodes of one container at one place.
    #[error("two things would be at {0:?} in a container")]
    SamePlace(String),
}

/// Whether a runtime accepts `spec`.
///
/// # Errors
/// The first thing that it would refuse.
pub fn check(spec: &Spec) -> Result<(), SpecError> {
    let lowest = spec.lowest_version();
    if spec.cdi_version != lowest {
        return Err(SpecError::Version(spec.cdi_version.clone(), lowest));
    }
    let kind = spec.kind.split_once('/');
    // A dot in the class needs 0.6.0; nothing here has one.
    if !kind.is_some_and(|(vendor, class)| is_name(vendor) && is_name(class) && !class.contains('.')) {
        return Err(SpecError::Kind(spec.kind.clone()));
    }
    if spec.devices.is_empty() {
        return Err(SpecError::NoDevices);
    }
    let mut names = BTreeSet::new();
    for device in &spec.devices {
        if !is_device_name(&device.name) {
            return Err(SpecError::DeviceName(device.name.clone()));
        }
        if !names.insert(&device.name) {
            return Err(SpecError::Twice(device.name.clone()));
        }
        if device.container_edits.is_empty() {
            return Err(SpecError::Nothing(device.name.clone()));
        }
        check_edits(&[&spec.container_edits, &device.container_edits])?;
    }
    Ok(())
}

fn check_edits(edits: &[&ContainerEdits]) -> Result<(), SpecError> {
    let mut places = BTreeSet::new();
    let mut place = |path: &str| {
        check_path(path)?;
        if places.insert(path.to_owned()) { Ok(()) } else { Err(SpecError::SamePlace(path.to_owned())) }
    };
    for edits in edits {
        for variable in &edits.env {
            if !is_variable(variable) {
                return Err(SpecError::Variable(variable.clone()));
            }
        }
        for node in &edits.device_nodes {
            place(&node.path)?;
            node.host_path.as_deref().map_or(Ok(()), check_path)?;
            if node.permissions.is_empty() || !node.permissions.bytes().all(|bit| b"rwm".contains(&bit)) {
                return Err(SpecError::Permissions(node.permissions.clone()));
            }
        }
        for mount in &edits.mounts {
            place(&mount.container_path)?;
            check_path(&mount.host_path)?;
        }
    }
    Ok(())
}

fn check_path(path: &str) -> Result<(), SpecError> {
    let whole = path.len() > 1 && path.starts_with('/') && !path.contains('\0');
    if whole && path.split('/').all(|part| part != "..") { Ok(()) } else { Err(SpecError::Path(path.to_owned())) }
}

/// Whether `text` is `NAME=value` with a name that a shell could use.
pub fn is_variable(text: &str) -> bool {
    text.split_once('=').is_some_and(|(name, value)| {
        !name.is_empty()
            && !name.starts_with(|first: char| first.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !value.contains('\0')
    })
}

/// Vendors and classes.
fn is_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.ends_with(|last: char| last.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn is_device_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.ends_with(|last: char| last.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::{
        super::model::{Device, DeviceNode, Mount},
        *,
    };

    fn node(path: &str) -> DeviceNode {
        DeviceNode { path: path.into(), host_path: None, permissions: "rw".into() }
    }

    fn good() -> Spec {
        let device_nodes = vec![node("/dev/cxi0")];
        let edits = ContainerEdits { device_nodes, ..ContainerEdits::default() };
        Spec {
            cdi_version: "0.3.0".into(),
            kind: "hpe.com/cxi".into(),
            devices: vec![Device { name: "cxi0".into(), container_edits: edits }],
            container_edits: ContainerEdits::default(),
        }
    }

    #[test]
    fn accepts_what_a_runtime_accepts() {
        assert_eq!(check(&good()), Ok(()));
    }

    #[test]
    fn the_version_is_as_low_as_the_contents_allow() {
        let mut spec = good();
        spec.devices[0].name = "0000:c1:00.0".into();
        assert_eq!(check(&spec), Err(SpecError::Version("0.3.0".into(), "0.5.0")));
        let mut spec = good();
        spec.container_edits.device_nodes =
            vec![DeviceNode { host_path: Some("/host/dev/xpmem".into()), ..node("/dev/xpmem") }];
        assert_eq!(check(&spec), Err(SpecError::Version("0.3.0".into(), "0.5.0")));
        spec.cdi_version = "0.5.0".into();
        assert_eq!(check(&spec), Ok(()));
    }

    type Spoil = fn(&mut Spec);

    #[test]
    fn rejects() {
        let cases: [(&str, Spoil); 14] = [
            ("kind", |spec| spec.kind = "cxi".into()),
            ("kind", |spec| spec.kind = "hpe.com/".into()),
            ("kind", |spec| spec.kind = "1hpe.com/cxi".into()),
            ("kind", |spec| spec.kind = "hpe.com/c.xi".into()),
            ("no device", |spec| spec.devices.clear()),
            ("device name", |spec| spec.devices[0].name = "cxi0:".into()),
            ("two devices", |spec| spec.devices.push(spec.devices[0].clone())),
            ("nothing", |spec| spec.devices[0].container_edits = ContainerEdits::default()),
            ("environment", |spec| spec.container_edits.env.push("=x".into())),
            ("environment", |spec| spec.container_edits.env.push("A B=x".into())),
            ("absolute", |spec| spec.devices[0].container_edits.device_nodes[0].path = "dev/cxi0".into()),
            ("absolute", |spec| {
                let mount = Mount { host_path: "/usr/../etc".into(), container_path: "/x".into(), options: vec![] };
                spec.container_edits.mounts.push(mount);
            }),
            ("permissions", |spec| spec.devices[0].container_edits.device_nodes[0].permissions = "rwx".into()),
            ("two things", |spec| {
                spec.container_edits.device_nodes.push(spec.devices[0].container_edits.device_nodes[0].clone());
            }),
        ];
        for (said, spoil) in cases {
            let mut spec = good();
            spoil(&mut spec);
            let error = check(&spec).unwrap_err().to_string();
            assert!(error.contains(said), "{said}: {error}");
        }
    }
}
