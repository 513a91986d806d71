//! A soft node as a tree of files, for programs that read a node: what the kernel would show in `/sys`, `/dev` and `/proc`.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use cxi_api::{
    NodeReport,
    node_report::{Link, LoadedModule, Nic, OpenFile},
};
use cxi_hardware::Root;

/// Where the tree is that holds now; a link, so that it changes at once.
const NOW: &str = "now";

/// What each retry handler has counted, in its statistics files.
const RETRIES: [(&str, &str); 2] = [("nacks", "5\n"), ("spt_timeouts", "2\n")];

/// The files of one node. They go with it.
#[derive(Debug)]
pub(crate) struct Tree {
    directory: PathBuf,
    generation: u64,
    shown: Option<Seen>,
}

/// What can be seen on a node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Seen {
    /// What an agent reports of it.
    pub(crate) report: NodeReport,
    /// Whether a retry handler serves its NICs.
    pub(crate) retry_handler: bool,
}

impl Tree {
    /// A node that shows nothing yet.
    pub(crate) fn new(directory: PathBuf) -> Self {
        Self { directory, generation: 0, shown: None }
    }

    /// Where programs find the node.
    pub(crate) fn root(&self) -> Root {
        Self::root_in(&self.directory)
    }

    /// Where programs find the node whose tree is in `directory`.
    pub(crate) fn root_in(directory: &Path) -> Root {
        let now = directory.join(NOW);
        Root::new(now.join("sys"), now.join("dev")).with_proc(now.join("proc")).with_run(now.join("run"))
    }

    /// Shows the node as it is, or nothing at all of one that is away.
    ///
    /// # Errors
    /// When a file cannot be written. The tree then is what it was.
    pub(crate) fn show(&mut self, node: Option<Seen>) -> io::Result<()> {
        if self.shown == node {
            return Ok(());
        }
        let before = self.directory.join(self.generation.to_string());
        let link = self.directory.join(NOW);
        match &node {
            Some(node) => {
                self.generation += 1;
                let after = self.directory.join(self.generation.to_string());
                write(&after, node)?;
                let next = self.directory.join("next");
                symlink(&after, &next)?;
                fs::rename(&next, &link)?;
            }
            None => fs::remove_file(&link)?,
        }
        self.shown = node;
        // A reader in the middle of it finds that things have gone, as it would on a node.
        if before.exists() { fs::remove_dir_all(before) } else { Ok(()) }
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // The directory of all trees goes in any case.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

fn write(root: &Path, seen: &Seen) -> io::Result<()> {
    let node = &seen.report;
    for directory in ["sys/class", "sys/module", "dev", "proc", "run"] {
        fs::create_dir_all(root.join(directory))?;
    }
    file(&root.join("proc/sys/kernel/osrelease"), &node.kernel)?;
    file(&root.join("proc/sys/kernel/random/boot_id"), &node.boot_id)?;
    let lines: Vec<String> = node.modules.iter().map(proc_line).collect();
    file(&root.join("proc/modules"), &lines.concat())?;
    for module in &node.modules {
        let directory = root.join("sys/module").join(&module.name);
        file(&directory.join("initstate"), "live\n")?;
        bytes(&directory.join("notes/.note.gnu.build-id"), &build_id_note(&module.build_id))?;
    }
    node.devices.iter().try_for_each(|nic| write_nic(root, nic, seen.retry_handler))?;
    node.open_files.iter().enumerate().try_for_each(|(number, open)| write_open_file(root, number, open))
}

/// A line of `/proc/modules`, see `m_show` in the kernel's `kernel/module/procfs.c`.
fn proc_line(module: &LoadedModule) -> String {
    let holders = if module.holders.is_empty() { "-".to_owned() } else { module.holders.join(",") + "," };
    format!("{} 4096 {} {holders} Live 0x0000000000000000 (OE)\n", module.name, module.refcount)
}

/// An ELF note with a build-id given in hexadecimal.
fn build_id_note(hexadecimal: &str) -> Vec<u8> {
    const GNU_BUILD_ID: u32 = 3;
    let digits: Vec<u32> = hexadecimal.chars().filter_map(|digit| digit.to_digit(16)).collect();
    let id = digits.chunks(2).filter_map(|pair| u8::try_from(pair.iter().fold(0, |byte, half| byte * 16 + half)).ok());
    let id: Vec<u8> = id.collect();
    let length = u32::try_from(id.len()).unwrap_or(u32::MAX);
    let head = [4, length, GNU_BUILD_ID].map(u32::to_ne_bytes).concat();
    [head, b"GNU\0".to_vec(), id].concat()
}

fn write_nic(root: &Path, nic: &Nic, retry_handler: bool) -> io::Result<()> {
    let (name, address) = (&nic.name, &nic.pci_address);
    let device = root.join("sys/devices").join(address);
    let link = if nic.link == Link::Up { "1\n" } else { "0\n" };
    for (path, text) in [
        ("vendor", "0x17db\n"),
        ("device", "0x0501\n"),
        ("numa_node", "0\n"),
        ("resource", "0x0000001000000000 0x000000107fffffff 0x000000000014220c\n"),
        ("properties/link", link),
        ("properties/nid", &format!("{:#x}\n", nid(name))),
        ("port/speed", if nic.link == Link::Up { "BS_200G\n" } else { "NA\n" }),
        ("properties/pct_eq", if retry_handler { "1\n" } else { "0\n" }),
    ] {
        file(&device.join(path), text)?;
    }
    let class_device = device.join("cxi").join(name);
    file(&class_device.join("uevent"), "")?;
    symlink(format!("../../../{address}"), class_device.join("device"))?;
    if retry_handler {
        let statistics = root.join("run/cxi").join(name);
        RETRIES.iter().try_for_each(|(counter, count)| file(&statistics.join(counter), count))?;
    }
    fs::create_dir_all(root.join("sys/class/cxi"))?;
    symlink(format!("../../devices/{address}/cxi/{name}"), root.join("sys/class/cxi").join(name))?;
    // Only root can make a device node. A link to one that no process has open is as good.
    symlink("/dev/full", root.join("dev").join(name))
}

/// An address in the fabric, another for each NIC of a node.
fn nid(device: &str) -> u32 {
    let number: u32 = device.trim_start_matches("cxi").parse().unwrap_or_default();
    0x1a0 + number
}

fn write_open_file(root: &Path, number: usize, open: &OpenFile) -> io::Result<()> {
    let process = root.join("proc").join(open.pid.to_string());
    let cgroup = open.pod_uid.as_ref().map_or_else(
        || "0::/system.slice/host.service\n".to_owned(),
        |uid| format!("0::/kubepods.slice/kubepods-pod{}.slice/cri-containerd-0.scope\n", uid.replace('-', "_")),
    );
    file(&process.join("cgroup"), &cgroup)?;
    file(&process.join("comm"), &open.command)?;
    fs::create_dir_all(process.join("fd"))?;
    // 0 to 2 are every process's own.
    symlink(Path::new("/dev").join(&open.device), process.join("fd").join((number + 3).to_string()))
}

fn file(path: &Path, text: &str) -> io::Result<()> {
    bytes(path, text.as_bytes())
}

fn bytes(path: &Path, content: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    fs::write(path, content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cxi_api::Timestamp;
    use cxi_hardware::{Boot, NicDetails, Stack, open_files, scan};

    fn node() -> Seen {
        let module = |name: &str, holders: &[&str]| LoadedModule {
            name: name.into(),
            build_id: "0123456789abcdef0123456789abcdef01234567".into(),
            refcount: 1,
            holders: holders.iter().map(|holder| (*holder).to_owned()).collect(),
        };
        let open = |pid, pod_uid: Option<&str>| OpenFile {
            device: "cxi0".into(),
            pid,
            command: "app".into(),
            pod_uid: pod_uid.map(str::to_owned),
        };
        let report = NodeReport {
            kernel: "6.1.0".into(),
            boot_id: "00000001-0001-4000-8000-000000000001".into(),
            observed_at: Timestamp::UNIX_EPOCH,
            sequence: 0,
            acknowledged: None,
            modules: vec![module("cxi_ss1", &["cxi_user"]), module("cxi_user", &[])],
            driver_version: None,
            open_files: vec![open(7, None), open(8, Some("5d4e9f43-5d2c-4d3a-9a55-0f0a1f0c2b11"))],
            kernel_messages: vec![],
            devices: vec![Nic {
                name: "cxi0".into(),
                pci_address: "0000:21:00.0".into(),
                link: Link::Up,
                virtual_function: false,
                retry_handler_failed: None,
            }],
        };
        Seen { report, retry_handler: true }
    }

    #[test]
    fn what_is_shown_is_what_the_readers_of_a_node_see() {
        let directory = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(directory.path().join("n"));
        tree.show(Some(node())).unwrap();
        let node = node().report;
        let root = tree.root();

        let boot = Boot::read(&root).unwrap();
        assert_eq!((boot.kernel, boot.boot_id), (node.kernel.clone(), node.boot_id.clone()));
        let stack = Stack::read(&root).unwrap();
        assert_eq!(stack.modules.len(), 2);
        assert_eq!(stack.modules[0].build_id.as_ref(), Some(&node.modules[0].build_id));
        assert_eq!(stack.modules[0].module.holders, ["cxi_user"]);
        assert_eq!(stack.references_to_devices(), 1);
        let holders: Vec<_> = open_files(&root).unwrap().into_iter().map(|open| (open.pid, open.pod_uid)).collect();
        assert_eq!(holders, [(7, None), (8, node.open_files[1].pod_uid.clone())]);
        let nics = scan(&root).unwrap().nics;
        assert_eq!(nics.len(), 1);
        assert_eq!(
            (nics[0].link.clone(), nics[0].address.to_string()),
            (Ok(cxi_hardware::Link::Up), "0000:21:00.0".into())
        );
        let details = NicDetails::read(&root, &nics[0]).unwrap();
        assert_eq!(
            (details.link_speed, details.nid, details.retry_handler),
            (Ok(Some(200)), Ok(Some(0x1a0)), Ok(true))
        );
        assert_eq!(fs::read_to_string(root.run().join("cxi/cxi0/nacks")).unwrap(), "5\n");
    }

    #[test]
    fn a_node_that_is_away_shows_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let mut tree = Tree::new(directory.path().join("n"));
        tree.show(Some(node())).unwrap();
        tree.show(None).unwrap();
        tree.show(None).unwrap();
        assert!(Boot::read(&tree.root()).is_err());
        tree.show(Some(node())).unwrap();
        assert!(Boot::read(&tree.root()).is_ok());
    }
}
