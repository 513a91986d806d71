//! `cargo xtask guest`

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use cxi_control_plane::{Family, Progress, Tool, cache};
use cxi_guest::{Flavour, Guest, Kernel, Line, Machine, Node, Tree};

use crate::{
    steps::{cargo, finish, target},
    tools,
};

const MIRROR: &str = "CXI_DEBIAN_MIRROR names another server than http://deb.debian.org to fetch kernels from.\n\n\
                      Examples:\n  cargo xtask guest --kernel 6.1 --flavour amd64\n  \
                      cargo xtask guest --bare --run '/sbin/modprobe -d /images/13.0.0/opt cxi-user; ls /dev/cxi*'";

/// Boots a real Debian kernel in QEMU, with the stand-in driver, and gives a shell in it
///
/// The guest has NICs (the stand-in's), driver images of two releases below /images, the node agent, the device plugin,
/// the CDI generator and KMM's worker. Nothing of this machine is changed; the guest's files are in its memory. Ctrl-A X
/// ends it, and so does leaving the shell. Kernels come from Debian 12 and are kept in the cache. Needs the Debian packages
/// qemu-system-x86, busybox-static, kmod, gcc, make.
#[derive(Debug, Args)]
#[command(after_help = MIRROR)]
pub struct Arguments {
    /// Line of kernels
    #[arg(long, value_enum, default_value = "6.12")]
    kernel: KernelLine,
    /// How the kernel is configured
    #[arg(long, value_enum, default_value = "cloud")]
    flavour: KernelFlavour,
    /// Releases of the stand-in driver to have images of
    #[arg(long = "driver", value_name = "RELEASE", default_values = ["13.0.0", "13.1.0"])]
    drivers: Vec<String>,
    /// How many NICs, 32 at most
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(0..=32))]
    nics: u32,
    /// Memory in MiB
    #[arg(long, default_value_t = 768, value_parser = clap::value_parser!(u32).range(256..))]
    memory: u32,
    /// Words for the kernel's command line
    #[arg(long, value_name = "WORDS", default_value = "")]
    append: String,
    /// Leave our programs and KMM's worker out: nothing but the kernel's side is built
    #[arg(long)]
    bare: bool,
    /// Run this shell script instead of a shell, print what it prints, and end with its status
    #[arg(long, value_name = "SCRIPT")]
    run: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KernelLine {
    /// Debian 12's own
    #[value(name = "6.1")]
    V6_1,
    /// The newer one
    #[value(name = "6.12")]
    V6_12,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum KernelFlavour {
    /// For any machine
    Amd64,
    /// For virtual machines
    Cloud,
    /// With real-time scheduling
    Rt,
}

impl From<KernelLine> for Line {
    fn from(line: KernelLine) -> Self {
        match line {
            KernelLine::V6_1 => Self::V6_1,
            KernelLine::V6_12 => Self::V6_12,
        }
    }
}

impl From<KernelFlavour> for Flavour {
    fn from(flavour: KernelFlavour) -> Self {
        match flavour {
            KernelFlavour::Amd64 => Self::Generic,
            KernelFlavour::Cloud => Self::Cloud,
            KernelFlavour::Rt => Self::RealTime,
        }
    }
}

pub fn run(arguments: &Arguments) -> Result<()> {
    cxi_guest::programs()?;
    let progress = Progress::stderr();
    let kernel = Kernel::ensure(arguments.kernel.into(), arguments.flavour.into(), &progress)?;
    let programs = if arguments.bare { Vec::new() } else { programs()? };
    let node = Node { releases: arguments.drivers.clone(), programs };
    let tree = node.tree(&kernel, &progress)?;
    tree.file("etc/motd", greeting(&kernel, arguments))?;
    let machine = Machine {
        nics: arguments.nics,
        memory: arguments.memory,
        network: true,
        command_line: arguments.append.clone(),
        ..Machine::default()
    };
    match &arguments.run {
        Some(script) => run_script(&machine, &kernel, &tree, script),
        None => shell(machine, &kernel, &tree),
    }
}

/// Builds the programs that run on nodes.
fn programs() -> Result<Vec<PathBuf>> {
    finish(&mut cargo(&["build", "--workspace", "--bins"])).context("the programs cannot be built")?;
    let built = |name: &str| target().join("debug").join(name);
    let worker = tools::ensure(&[Family::KmmWorker])?.path(Tool::KmmWorker)?.to_path_buf();
    Ok(vec![built("cxi-agent"), built("cxi-device-plugin"), built("cxi-cdi-generator"), worker])
}

fn greeting(kernel: &Kernel, arguments: &Arguments) -> String {
    let release = arguments.drivers.first().map_or("13.0.0", String::as_str);
    format!(
        "\nkernel {}; Ctrl-A X ends the guest\n\
         load a driver:  /sbin/modprobe -d /images/{release}/opt -a cxi-user cxi-eth\n\
         its NICs:       ls -l /sys/class/cxi /dev/cxi*\n\
         take it out:    /sbin/modprobe -d /images/{release}/opt -r cxi-user cxi-eth cxi-ss1 cxi-sl cxi-sbl\n\n",
        kernel.release
    )
}

fn run_script(machine: &Machine, kernel: &Kernel, tree: &Tree, script: &str) -> Result<()> {
    let directory = work()?;
    let initrd = directory.path().join("initrd");
    tree.write_initrd(&initrd)?;
    let output = Guest::boot(machine, kernel, &initrd)?.run(script)?;
    print!("{}", output.stdout);
    eprint!("{}", output.stderr);
    if output.status != 0 {
        bail!("the script ended with {}", output.status);
    }
    Ok(())
}

/// QEMU in this terminal.
fn shell(mut machine: Machine, kernel: &Kernel, tree: &Tree) -> Result<()> {
    let directory = work()?;
    let initrd = directory.path().join("initrd");
    tree.write_initrd(&initrd)?;
    machine.command_line.push_str(" guest.shell=yes");
    machine.arguments.extend(["-serial", "mon:stdio", "-serial", "null"].map(str::to_owned));
    let mut command: Command = machine.command(kernel, Path::new(&initrd))?;
    finish(&mut command)
}

/// A directory that goes at the end.
fn work() -> Result<tempfile::TempDir> {
    let cache = cache::directory()?;
    tempfile::tempdir_in(&cache).with_context(|| format!("cannot create a directory in {}", cache.display()))
}
