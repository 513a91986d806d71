//! Flags that say where the host is: the same for the plugin and the CDI generator, with the variables of HPE's
//! generator.

use std::path::PathBuf;

use clap::Args;
use cxi_hardware::Root;

use crate::{
    host_root::HostRoot,
    libraries::{Place, Places, Release},
    provision::{DeviceName, Sources},
};

/// Where the host is.
#[derive(Clone, Debug, Args)]
pub struct HostArgs {
    /// Where the host's /sys is
    #[arg(long, env = "SYSFS_ROOT", default_value = "/sys", value_name = "DIR")]
    pub sysfs_root: PathBuf,

    /// Where the host's /dev is
    #[arg(long, env = "DEVFS_ROOT", default_value = "/dev", value_name = "DIR")]
    pub devfs_root: PathBuf,

    /// Where the host's / is; the directories for libraries are looked for under it
    #[arg(long, env = "HOST_ROOT", default_value = "/", value_name = "DIR")]
    pub host_root: PathBuf,

    /// Directories of the host that may hold libfabric.so.N, with colons between them; the first that has it counts.
    /// After them the linker's cache and the usual directories are tried. {version} in a path is the release of the loaded
    /// driver; then nothing but the list is tried, and containers have what it finds in /opt/cray/lib64
    #[arg(long, env = "OFI_ROOT", default_value = "/opt/cray/lib64", value_delimiter = ':', value_name = "DIR[:DIR]")]
    pub ofi_root: Vec<Place>,

    /// The same for libcxi.so.N and libcxiutils.so.N, which have to be of the driver's release; with {version} containers
    /// have them in /usr/lib64
    #[arg(long, env = "CXI_ROOT", default_value = "/usr/lib64", value_delimiter = ':', value_name = "DIR[:DIR]")]
    pub cxi_root: Vec<Place>,

    /// Release of the loaded driver, for {version} in the two lists, where no CXINode says it
    #[arg(long, env = "CXI_DRIVER_VERSION", value_name = "VERSION")]
    pub driver_version: Option<Release>,

    /// Leave the host's libraries out: images bring their own
    #[arg(long, env = "CXI_NO_LIBRARIES")]
    pub no_libraries: bool,

    /// Other device nodes that every container with a NIC gets, such as xpmem or kdreg2, where the host has them.
    /// Several with commas
    #[arg(long = "extra-device", env = "CXI_EXTRA_DEVICES", value_delimiter = ',', value_name = "NAME")]
    pub extra_devices: Vec<DeviceName>,
}

impl HostArgs {
    /// Where NICs are read.
    pub fn root(&self) -> Root {
        Root::new(&self.sysfs_root, &self.devfs_root)
    }

    /// Where what goes with them comes from.
    pub fn sources(&self) -> Sources {
        let places = Places { ofi: self.ofi_root.clone(), cxi: self.cxi_root.clone() };
        Sources {
            host: HostRoot::new(&self.host_root),
            libraries: (!self.no_libraries).then_some(places),
            release: self.driver_version.clone(),
            extra_mounts: Vec::new(),
            extra_devices: self.extra_devices.clone(),
            dev: self.devfs_root.clone(),
        }
    }
}
