//! A virtual machine under QEMU, with an emulated processor: KVM is not everywhere, and where it is, it may be one that no
//! kernel of a distribution runs under.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{error::Result, kernel::Kernel, program};

/// What the machine has.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name, for itself and in messages.
    pub name: String,
    /// Memory in MiB.
    pub memory: u32,
    /// Processors.
    pub processors: u32,
    /// NICs with the ids of Cassini; they need the module of [`crate::driver::nics`] in the root.
    pub nics: u32,
    /// Whether it has a network: the host is 10.0.2.2 there, with what listens on its loopback addresses.
    pub network: bool,
    /// Third number of its network's addresses. Guests do not see each other, but those that somebody else is to tell apart
    /// by their addresses need different ones.
    pub subnet: u8,
    /// Whether it starts again when its kernel says so, or ends.
    pub reboots: bool,
    /// More words for the kernel's command line.
    pub command_line: String,
    /// More arguments for QEMU, such as disks.
    pub arguments: Vec<String>,
}

impl Default for Machine {
    /// One processor, 768 MiB, four NICs, no network.
    fn default() -> Self {
        Self {
            name: "guest".to_owned(),
            memory: 768,
            processors: 1,
            nics: 4,
            network: false,
            subnet: 2,
            reboots: false,
            command_line: String::new(),
            arguments: Vec::new(),
        }
    }
}

/// Everything that QEMU emulates, but for what it emulates slowly: moving memory byte by byte, which kernels do where a
/// processor says that it is good at it (a copied page takes four times as long), and a fifth level of page tables. Without
/// them a node takes a fifth less of this machine's time.
const PROCESSOR: &str = "max,-erms,-fsrm,-la57";

/// Where QEMU is.
///
/// # Errors
/// [`crate::Error::Missing`] when it is not installed.
pub fn qemu() -> Result<PathBuf> {
    program::need("qemu-system-x86_64", "qemu-system-x86")
}

impl Machine {
    /// The command that runs it with `kernel` and `initrd`; serial ports are up to the caller.
    ///
    /// # Errors
    /// When QEMU is missing.
    pub fn command(&self, kernel: &Kernel, initrd: &Path) -> Result<Command> {
        let mut command = Command::new(qemu()?);
        command.args(self.arguments(kernel, initrd));
        Ok(command)
    }

    pub(crate) fn arguments(&self, kernel: &Kernel, initrd: &Path) -> Vec<String> {
        let mut words: Vec<String> =
            ["-accel", "tcg", "-M", "pc", "-cpu", PROCESSOR, "-nodefaults", "-no-user-config", "-display", "none"]
                .map(str::to_owned)
                .to_vec();
        let mut add = |option: &str, value: String| words.extend([option.to_owned(), value]);
        add("-name", self.name.clone());
        add("-m", self.memory.to_string());
        add("-smp", self.processors.to_string());
        add("-kernel", kernel.vmlinuz().display().to_string());
        add("-initrd", initrd.display().to_string());
        add("-append", self.words());
        if self.network {
            add("-nic", format!("user,model=virtio-net-pci,net=10.0.{}.0/24", self.subnet));
        } else {
            add("-nic", "none".to_owned());
        }
        if !self.reboots {
            words.push("-no-reboot".to_owned());
        }
        words.extend(self.arguments.iter().cloned());
        words
    }

    /// The kernel's command line. An emulated processor needs no mitigations, and they cost much there.
    fn words(&self) -> String {
        let network = if self.network { format!("guest.network={}", self.subnet) } else { String::new() };
        let mut words =
            format!("console=ttyS0 quiet panic=-1 mitigations=off guest.name={} guest.nics={}", self.name, self.nics);
        for word in [&network, &self.command_line] {
            if !word.is_empty() {
                words.push(' ');
                words.push_str(word);
            }
        }
        words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_says_what_the_guest_has() {
        let machine = Machine { nics: 2, network: true, command_line: "a=b".into(), ..Machine::default() };
        assert!(machine.words().ends_with("guest.name=guest guest.nics=2 guest.network=2 a=b"));
        assert!(Machine::default().words().ends_with("guest.nics=4"));
    }
}
