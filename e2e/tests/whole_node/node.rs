//! A whole node: what is true on it, seen without the help of what is tested, and what happens to nodes.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, Result};
use cxi_guest::{Disk, Guest, Kernel, Machine, cluster_node};

/// How many NICs each has.
pub const NICS: u32 = 2;

/// The end of everything that may tell what went wrong.
const LOGS: &str = "
for file in /var/log/kubelet.log /var/log/containerd.log /var/log/pods/*/*/*.log /run/boot.log; do
    echo \"== $file\"
    tail -n 25 $file | cut -c 1-400
done
echo '== kernel'
dmesg | tail -n 25
";

/// A machine with a kubelet.
pub struct WholeNode {
    /// Its name in the cluster.
    pub name: String,
    subnet: u8,
    guest: Guest,
}

impl WholeNode {
    /// Boots a machine that belongs to no cluster yet.
    pub fn boot(number: u8, kernel: &Kernel, disk: &Disk) -> Result<Self> {
        let name = format!("guest-{number}");
        // 10.0.2.0/24 is what QEMU takes when it is not told.
        let subnet = number + 2;
        let machine = Machine {
            name: name.clone(),
            nics: NICS,
            // Kernels patch their code while it runs. Where several emulated processors ran it, a guest has died of that.
            processors: 1,
            network: true,
            subnet,
            reboots: true,
            arguments: disk.arguments().to_vec(),
            ..Machine::default()
        };
        let guest = Guest::boot(&machine, kernel, disk.initrd())?;
        Ok(Self { name, subnet, guest })
    }

    /// Has it join a cluster, as the user of a kubeconfig.
    pub fn join(&mut self, kubeconfig: &Path) -> Result<()> {
        Ok(cluster_node::join(&mut self.guest, self.subnet, kubeconfig)?)
    }

    /// Build-ids of the driver's modules that are in the kernel, by module.
    pub fn loaded(&mut self) -> Result<BTreeMap<String, String>> {
        let script = "for module in $(cut -d' ' -f1 /proc/modules | grep '^cxi_' | grep -v '^cxi_nics$'); do \
                      echo $module $(tail -c 20 /sys/module/$module/notes/.note.gnu.build-id | hexdump -v -e '1/1 \"%02x\"'); \
                      done";
        let printed = self.guest.succeed(script)?;
        let pair = |line: &str| line.split_once(' ').map(|(module, id)| (module.to_owned(), id.to_owned()));
        printed.lines().map(|line| pair(line).context("a module has a build-id")).collect()
    }

    /// Whether a module was ever taken out by force since the machine booted: the kernel remembers (bit 1 of its taint).
    pub fn was_forced(&mut self) -> Result<bool> {
        let taint: u64 = self.guest.succeed("cat /proc/sys/kernel/tainted")?.parse()?;
        Ok(taint & 2 != 0)
    }

    /// Runs a shell script that must succeed, and returns what it printed.
    pub fn shell(&mut self, script: &str) -> Result<String> {
        Ok(self.guest.succeed(script)?)
    }

    /// Starts a shell script outside Kubernetes, and returns its process id.
    pub fn start(&mut self, script: &str) -> Result<u32> {
        Ok(self.guest.start(script)?)
    }

    /// Starts the machine again, without asking anybody on it, and returns when its kernel runs.
    pub fn reboot(&mut self) -> Result<()> {
        self.guest.start("sleep 0.2; reboot -f")?;
        Ok(self.guest.wait_until_ready()?)
    }

    /// Kills the kubelet; containers go on.
    pub fn kill_kubelet(&mut self) -> Result<()> {
        self.shell("kill -9 $(cat /run/kubelet.pid); while [ -e /proc/$(cat /run/kubelet.pid) ]; do sleep 0.1; done")?;
        Ok(())
    }

    /// Starts the kubelet.
    pub fn start_kubelet(&mut self) -> Result<()> {
        self.shell("/sbin/kubelet-start")?;
        Ok(())
    }

    /// What may tell what went wrong.
    pub fn logs(&mut self) -> String {
        let logs = self.guest.run(LOGS).map_or_else(|error| error.to_string(), |output| output.text());
        format!("---- {}\n{logs}\n", self.name)
    }
}
