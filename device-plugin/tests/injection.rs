//! What is really inside a container: CDI files of the generator and of the plugin, read by containerd and carried out
//! by runc. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, reason = "a test fails by panicking")]

mod node;

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use cxi_containerd::{Containerd, cri};
use cxi_hardware::NicName;
use cxi_injection::{
    cdi::{self, Destination, Format, PLUGIN_KIND, Subject},
    provision::Provision,
};
use node::Node;

const A: &str = "0000:01:00.0";
const B: &str = "0000:c1:00.0";

/// Numbers of devices of every kernel. No container may open the first one unless it is given to it: the kernel's log.
const NUMBERS: [(&str, &str); 2] = [("1", "11"), ("1", "5")];

/// The beginning of a library for this machine, as elf(5) has it.
fn library() -> Vec<u8> {
    let own = fs::read(std::env::current_exe().unwrap()).unwrap();
    own[..64].to_vec()
}

fn host() -> Node {
    let node = Node::with(&[("cxi0", A, 0), ("cxi1", B, 1)]);
    for (name, (major, minor)) in ["cxi0", "cxi1"].into_iter().zip(NUMBERS) {
        let path = node.path("dev").join(name);
        fs::remove_file(&path).unwrap();
        let status = Command::new("mknod").arg("-m").arg("0666").arg(&path).args(["c", major, minor]).status().unwrap();
        assert!(status.success(), "mknod {}: this test needs root", path.display());
    }
    for directory in ["ofi/2.3.1", "cxi", "cdi"] {
        fs::create_dir_all(node.path(directory)).unwrap();
    }
    fs::write(node.path("ofi/2.3.1/libfabric.so.1.30.0"), library()).unwrap();
    std::os::unix::fs::symlink("2.3.1/libfabric.so.1.30.0", node.path("ofi/libfabric.so.1")).unwrap();
    fs::write(node.path("cxi/libcxi.so.1"), library()).unwrap();
    node
}

fn generator(node: &Node, flags: &[&str]) -> Output {
    let output = Command::new(env!("CARGO_BIN_EXE_cxi-cdi-generator"))
        .env_clear()
        .env("SYSFS_ROOT", node.path("sys"))
        .env("DEVFS_ROOT", node.path("dev"))
        .env("OFI_ROOT", node.path("ofi"))
        .env("CXI_ROOT", node.path("cxi"))
        .arg("--cdi-dir")
        .arg(node.path("cdi"))
        .args(flags)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn named(names: &[&str]) -> cri::ContainerConfig {
    let cdi_devices = names.iter().map(|name| cri::CdiDevice { name: (*name).into() }).collect();
    cri::ContainerConfig { cdi_devices, ..cri::ContainerConfig::default() }
}

const NODES: &str = "cd /dev; for node in cxi*; do [ -c $node ] && stat -c '%n %t:%T' $node; done; true";

#[tokio::test]
async fn containers_have_what_the_cdi_files_say() {
    let node = host();
    let mut runtime = Containerd::start(Some(&node.path("cdi"))).await;
    by_the_generator(&node, &mut runtime).await;
    by_the_plugin(&node, &mut runtime).await;
}

async fn by_the_generator(node: &Node, runtime: &mut Containerd) {
    for format in ["yaml", "json"] {
        let output = generator(node, &["--format", format]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("cxi0 (0000:01:00.0), cxi1 (0000:c1:00.0)"), "{said}");
        let files: Vec<_> = fs::read_dir(node.path("cdi")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(files, [format!("hpe.com-cxi.{format}").as_str()]);
        let all = runtime.run(named(&["hpe.com/cxi=all"])).await.unwrap();
        assert_eq!(runtime.shell(&all, NODES).await, "cxi0 1:b\ncxi1 1:5\n");
    }

    let one = runtime.run(named(&["hpe.com/cxi=0000:c1:00.0"])).await.unwrap();
    assert_eq!(runtime.shell(&one, NODES).await, "cxi1 1:5\n", "the number that the host has");
    let denied = "mknod /cxi0 c 1 11 && ( : > /cxi0 ) 2>&1 && echo opened || echo denied";
    assert!(runtime.shell(&one, denied).await.ends_with("denied\n"), "a device that was not given");

    let config = cri::ContainerConfig {
        envs: vec![cri::KeyValue { key: "FI_LOG_LEVEL".into(), value: "of-the-pod".into() }],
        ..named(&["hpe.com/cxi=cxi0", "hpe.com/cxi=cxi1"])
    };
    let two = runtime.run(config).await.unwrap();
    assert_eq!(runtime.shell(&two, NODES).await, "cxi0 1:b\ncxi1 1:5\n");
    assert_eq!(runtime.shell(&two, ": > /dev/cxi0 && echo opened").await, "opened\n");
    assert_eq!(runtime.shell(&two, "env | grep ^FI_").await, "FI_LOG_LEVEL=of-the-pod\nFI_PROVIDER=cxi\n");
    for path in [node.path("ofi/libfabric.so.1"), node.path("cxi/libcxi.so.1")] {
        let path = path.display();
        let magic = runtime.shell(&two, &format!("head -c 4 {path}")).await;
        assert_eq!(magic, "\u{7f}ELF", "{path}");
        let write = format!("{{ touch {path} && echo written || echo denied; }} 2>&1");
        assert!(runtime.shell(&two, &write).await.contains("Read-only file system"), "{path}");
    }

    // An update of the host's package, which the CDI file knows nothing of.
    fs::write(node.path("ofi/2.3.1/libfabric.so.1.30.1"), library()).unwrap();
    fs::remove_file(node.path("ofi/libfabric.so.1")).unwrap();
    fs::remove_file(node.path("ofi/2.3.1/libfabric.so.1.30.0")).unwrap();
    std::os::unix::fs::symlink("2.3.1/libfabric.so.1.30.1", node.path("ofi/libfabric.so.1")).unwrap();
    let updated = runtime.run(named(&["hpe.com/cxi=1"])).await.unwrap();
    assert_eq!(runtime.shell(&updated, NODES).await, "cxi1 1:5\n", "by the name that HPE's generator has");
    let magic = runtime.shell(&updated, &format!("head -c 4 {}", node.path("ofi/libfabric.so.1").display())).await;
    assert_eq!(magic, "\u{7f}ELF");

    let refused = runtime.run(named(&["hpe.com/cxi=cxi7"])).await.unwrap_err();
    assert!(refused.message().contains("unresolvable CDI devices"), "{refused}");

    generator(node, &["--env", "LD_LIBRARY_PATH=/x", "--no-libraries"]);
    let bare = runtime.run(named(&["hpe.com/cxi=cxi1"])).await.unwrap();
    assert_eq!(runtime.shell(&bare, "env | grep -e ^FI_P -e ^LD_").await, "LD_LIBRARY_PATH=/x\n");
    let mounts = runtime.shell(&bare, "cat /proc/self/mounts").await;
    assert!(!mounts.contains("libcxi"), "{mounts}");
}

/// Names, and the nodes in plain, as `Allocate` answers.
fn as_allocated(node: &Node) -> cri::ContainerConfig {
    let dev = node.path("dev");
    let nics = [(A.parse().unwrap(), NicName::new(0)), (B.parse().unwrap(), NicName::new(1))];
    let bind = format!("{}:/opt/extra", node.path("ofi").display());
    let provision = Provision { binds: vec![bind.parse().unwrap()], nodes: vec![] };
    let subject = Subject { nics: &nics, dev: &dev, provision: &provision, env: &[] };
    let spec = cdi::spec(PLUGIN_KIND, subject).unwrap();
    Destination::new(node.path("cdi"), PLUGIN_KIND, Format::Json).keep(spec.as_ref()).unwrap();

    let devices = ["cxi0", "cxi1"].map(|name| cri::Device {
        container_path: Path::new("/dev").join(name).display().to_string(),
        host_path: dev.join(name).display().to_string(),
        permissions: "rw".into(),
    });
    let names = nics.map(|(address, _)| cdi::kubelet_name(address));
    cri::ContainerConfig { devices: devices.to_vec(), ..named(&names.each_ref().map(String::as_str)) }
}

async fn by_the_plugin(node: &Node, runtime: &mut Containerd) {
    let both = runtime.run(as_allocated(node)).await.unwrap();
    assert_eq!(runtime.shell(&both, NODES).await, "cxi0 1:b\ncxi1 1:5\n");
    assert_eq!(runtime.shell(&both, ": > /dev/cxi0 && echo opened").await, "opened\n");
    assert_eq!(runtime.shell(&both, "ls /opt/extra").await, "2.3.1\nlibfabric.so.1\n");
}

#[tokio::test]
async fn a_runtime_that_passes_over_cdi_names_still_gives_the_nics() {
    let node = host();
    let mut runtime = Containerd::start(None).await;
    let nothing = runtime.run(named(&["no.such/thing=0"])).await.unwrap();
    assert_eq!(runtime.shell(&nothing, NODES).await, "", "it says nothing about names that it does not look up");
    let plain = runtime.run(as_allocated(&node)).await.unwrap();
    assert_eq!(runtime.shell(&plain, NODES).await, "cxi0 1:b\ncxi1 1:5\n");
    assert_eq!(runtime.shell(&plain, ": > /dev/cxi0 && echo opened").await, "opened\n");
}

#[test]
fn the_generator_follows_the_node_and_removes_what_is_stale() {
    let node = Node::with(&[("cxi0", A, 0)]);
    let file = node.path("cdi/hpe.com-cxi.yaml");
    generator(&node, &[]);
    assert!(fs::read_to_string(&file).unwrap().contains("cxi0"));
    let printed = generator(&node, &["--dry-run"]).stdout;
    assert_eq!(fs::read(&file).unwrap(), printed);
    node.remove("cxi0", A);
    let dry = String::from_utf8(generator(&node, &["-n"]).stderr).unwrap();
    assert!(dry.contains("no CXI NICs") && file.exists(), "{dry}");
    let said = String::from_utf8(generator(&node, &[]).stderr).unwrap();
    assert!(said.contains("was removed") && !file.exists(), "{said}");

    let mut watching = Command::new(env!("CARGO_BIN_EXE_cxi-cdi-generator"))
        .args(["--watch", "--no-libraries", "--format", "json"])
        .envs([("SYSFS_ROOT", node.path("sys")), ("DEVFS_ROOT", node.path("dev")), ("CXI_CDI_DIR", node.path("cdi"))])
        .spawn()
        .unwrap();
    let file = node.path("cdi/hpe.com-cxi.json");
    let comes_to = |wanted: &str| {
        let since = std::time::Instant::now();
        while !fs::read_to_string(&file).unwrap_or_default().contains(wanted) {
            assert!(since.elapsed() < node::SOON * 2, "{wanted}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    node.add("cxi3", A, 0);
    comes_to("cxi3");
    node.add("cxi4", B, 0);
    comes_to("cxi4");
    assert!(watching.try_wait().unwrap().is_none());
    cxi_containerd::end(&watching);
    assert!(watching.wait().unwrap().success(), "ends in order");
    assert!(file.exists());
}
