//! What a container with a NIC gets besides the NIC: user-space libraries, and what the administrator adds.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use cxi_api::plugin_rules::{DEVICES, PLACES, at_a_device, broken};
use cxi_hardware::DeviceNode;

use crate::{
    bind::Bind,
    host_root::HostRoot,
    libraries::{self, Places, Release},
};

/// What every container with a NIC gets besides the NIC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Provision {
    /// Files and directories, one per place in the container.
    pub binds: Vec<Bind>,
    /// Names of device nodes in the host's `/dev`.
    pub nodes: Vec<String>,
}

/// Where it comes from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources {
    /// The host's file system.
    pub host: HostRoot,
    /// Where libraries are looked for; `None` for no libraries.
    pub libraries: Option<Places>,
    /// Release of the loaded driver, as long as no CXINode says another.
    pub release: Option<Release>,
    /// Binds of the administrator. At the same place in the container, or above it, they win over a library.
    pub extra_mounts: Vec<Bind>,
    /// Names of device nodes, given where they exist.
    pub extra_devices: Vec<DeviceName>,
    /// Where this process has the host's device nodes.
    pub dev: PathBuf,
}

/// What is worth telling of a look at the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Note {
    /// As it may well be meant.
    Info(String),
    /// Something is missing or wrong.
    Warning(String),
}

/// Name of a node in `/dev`, without directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceName(String);

/// The text is not a name in `/dev`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} cannot be given: extra devices {1}")]
pub struct DeviceNameError(String, &'static str);

/// Things of the administrator that cannot be given together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TogetherError {
    /// Mounts.
    #[error("extra mounts {0} (--extra-mount, CXI_EXTRA_MOUNTS)")]
    Mounts(&'static str),
    /// Device nodes.
    #[error("extra devices {0} (--extra-device, CXI_EXTRA_DEVICES)")]
    Devices(&'static str),
}

impl FromStr for DeviceName {
    type Err = DeviceNameError;

    fn from_str(text: &str) -> Result<Self, DeviceNameError> {
        match broken(DEVICES, &[text.to_owned()]) {
            Some(broken) => Err(DeviceNameError(text.into(), broken)),
            None => Ok(Self(text.into())),
        }
    }
}

impl Sources {
    /// Whether what the administrator adds can be given together.
    ///
    /// # Errors
    /// When two things would be at one place in a container.
    pub fn check(&self) -> Result<(), TogetherError> {
        let places: Vec<String> = self.extra_mounts.iter().map(|bind| bind.container.clone()).collect();
        let devices: Vec<String> = self.extra_devices.iter().map(|DeviceName(name)| name.clone()).collect();
        let mounts = broken(PLACES, &places).or_else(|| at_a_device(&places, &devices));
        mounts.map_or(Ok(()), |message| Err(TogetherError::Mounts(message)))?;
        broken(DEVICES, &devices).map_or(Ok(()), |message| Err(TogetherError::Devices(message)))
    }

    /// Looks at the host. The second part says what is worth telling.
    pub fn find(&self) -> (Provision, Vec<Note>) {
        let find = |places| libraries::find(&self.host, places, self.release.as_ref());
        let found = self.libraries.as_ref().map(find).unwrap_or_default();
        let mut notes: Vec<_> = found.notes.into_iter().map(Note::Warning).collect();
        let mut binds = self.extra_mounts.clone();
        for bind in found.binds {
            match self.extra_mounts.iter().find(|extra| bind.is_within(extra)) {
                // In a directory that is mounted read-only, no runtime can make the place for another mount.
                Some(extra) => notes.push(Note::Info(format!(
                    "the host's {} is left out: {} in containers is an extra mount",
                    bind.host, extra.container
                ))),
                None => binds.push(bind),
            }
        }
        let mut devices = Vec::new();
        for DeviceName(name) in &self.extra_devices {
            let path = self.dev.join(name);
            match DeviceNode::at(&path) {
                Ok(DeviceNode::Present) => devices.push(name.clone()),
                // Asked for on every node, whether it has the module or not.
                Ok(DeviceNode::Absent) => {
                    notes.push(Note::Info(format!("{} does not exist and is not given to containers", path.display())));
                }
                Ok(DeviceNode::Other) => notes.push(Note::Warning(format!(
                    "{} is no device node and is not given to containers; remove it, and load its module",
                    path.display()
                ))),
                Err(error) => {
                    notes.push(Note::Warning(format!("{}: {error}; it is not given to containers", path.display())));
                }
            }
        }
        (Provision { binds, nodes: devices }, notes)
    }

    /// The directory of the device nodes on the host.
    pub fn dev_on_host(&self) -> PathBuf {
        self.host.on_host(Path::new(&self.dev))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("")]
    #[case("../sda")]
    #[case("a/b")]
    #[case("..")]
    #[case("cxi0")]
    fn rejects_device_names(#[case] text: &str) {
        let error = text.parse::<DeviceName>().unwrap_err().to_string();
        assert!(error.contains("extra devices must"), "{error}");
    }

    #[test]
    fn two_things_at_one_place_are_refused() {
        let check = |mounts: &[&str], devices: &[&str]| {
            let sources = Sources {
                extra_mounts: mounts.iter().map(|text| text.parse().unwrap()).collect(),
                extra_devices: devices.iter().map(|name| name.parse().unwrap()).collect(),
                ..Sources::default()
            };
            sources.check().map_err(|error| error.to_string())
        };
        assert_eq!(check(&["/opt/a", "/opt/b"], &["xpmem", "kdreg2"]), Ok(()));
        for (mounts, devices, said) in [
            (&["/opt/a", "/opt/b:/opt/a"][..], &[][..], "two mounts cannot be at one place"),
            (&["/opt/a:/dev/xpmem"], &["xpmem"], "at the place of one of extraDevices"),
            (&[], &["xpmem", "kdreg2", "xpmem"], "must name each device once"),
        ] {
            let error = check(mounts, devices).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn the_administrator_wins_and_missing_devices_are_said() {
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink("/dev/full", directory.path().join("kdreg2")).unwrap();
        std::fs::create_dir(directory.path().join("gdrdrv")).unwrap();
        let sources = Sources {
            extra_mounts: vec!["/opt/mine:/opt/cray/lib64".parse().unwrap()],
            extra_devices: ["xpmem", "gdrdrv", "kdreg2"].map(|name| name.parse().unwrap()).to_vec(),
            dev: directory.path().into(),
            ..Sources::default()
        };
        let (provision, notes) = sources.find();
        assert_eq!(provision.binds, sources.extra_mounts);
        assert_eq!(provision.nodes, ["kdreg2"]);
        let [Note::Info(missing), Note::Warning(directory)] = &notes[..] else { panic!("{notes:?}") };
        assert!(missing.contains("xpmem does not exist"), "{missing}");
        assert!(directory.contains("gdrdrv is no device node"), "{directory}");
    }

    #[test]
    fn a_library_in_a_directory_of_the_administrator_is_left_out() {
        let directory = tempfile::tempdir().unwrap();
        for library in ["opt/cray/lib64/libfabric.so.1", "usr/lib64/libcxi.so.1", "usr/lib64/libcxiutils.so.0"] {
            let path = directory.path().join(library);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::copy(std::env::current_exe().unwrap(), path).unwrap();
        }
        let left = |extra: &str| {
            let sources = Sources {
                host: HostRoot::new(directory.path()),
                libraries: Some(Places {
                    ofi: vec!["/opt/cray/lib64".parse().unwrap()],
                    cxi: vec!["/usr/lib64".parse().unwrap()],
                }),
                extra_mounts: vec![extra.parse().unwrap()],
                ..Sources::default()
            };
            let (provision, notes) = sources.find();
            assert_eq!(provision.binds[0], sources.extra_mounts[0]);
            assert_eq!(provision.binds.len() - 1 + notes.len(), 3, "{extra}: {notes:?}");
            provision.binds[1..].iter().map(|bind| bind.container.clone()).collect::<Vec<_>>()
        };
        let all = ["/opt/cray/lib64/libfabric.so.1", "/usr/lib64/libcxi.so.1", "/usr/lib64/libcxiutils.so.0"];
        assert_eq!(left("/opt/mine:/opt/cray/lib64"), all[1..]);
        assert_eq!(left("/opt/mine:/opt"), all[1..]);
        assert_eq!(left("/opt/mine:/usr/lib64:rw"), all[..1]);
        assert_eq!(left("/opt/mine/libcxi.so.1:/usr/lib64/libcxi.so.1"), [all[0], all[2]]);
        assert_eq!(left("/opt/mine:/opt/cray/lib"), all, "another directory whose name begins alike");
    }

    #[test]
    fn any_input_is_a_device_in_dev_or_refused() {
        cxi_any_input::text(&["xpmem", "kdreg2", "a.b-c_d"], &|text| {
            let name = text.parse::<DeviceName>();
            assert!(name.is_err() || Path::new("/dev").join(text).parent() == Some(Path::new("/dev")));
            name.is_ok().into()
        });
    }
}
