//! The images as they were built: what is in them, and that they run as they run on clusters. `cargo xtask images build` comes
//! first; containers need root.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod built;

use std::{fs, path::Path, time::Instant};

use built::{archive, as_root, figures, http, mount, name, restricted, soon, variables};
use cxi_containerd::{Container, Containerd, cri};
use cxi_control_plane::{ControlPlane, Family, NAMESPACE, Options, Progress, Toolbox};
use cxi_images::{Archive, Image, MAX_BYTES};
use tempfile::TempDir;

/// User that images run as which do not need root.
const NOBODY_IN_PARTICULAR: &str = "65532:65532";

fn user(image: Image) -> &'static str {
    match image {
        Image::Operator | Image::Agent => NOBODY_IN_PARTICULAR,
        // The kubelet's directories belong to root.
        Image::DevicePlugin => "0:0",
    }
}

#[test]
fn built_images_hold_programs_papers_and_nothing_else() {
    for image in Image::ALL {
        let archive = Archive::read(&archive(image)).unwrap();
        let mut wanted: Vec<_> = image.programs().iter().map(|program| format!("usr/bin/{program}")).collect();
        wanted.extend(["licenses/LICENSE".into(), format!("licenses/{image}.licences.txt")]);
        wanted.push(format!("usr/share/sbom/{image}.cdx.json"));
        wanted.sort();
        let mut found: Vec<_> = archive.files.iter().map(|file| file.path.clone()).collect();
        found.sort();
        assert_eq!(found, wanted);
        for file in &archive.files {
            let mode = if file.path.starts_with("usr/bin/") { "-r-xr-xr-x" } else { "-r--r--r--" };
            assert_eq!((file.mode.as_str(), file.owner.as_str()), (mode, "0/0"), "{}", file.path);
            assert!(file.size > 0, "{}", file.path);
        }
        assert!(archive.unpacked() <= MAX_BYTES, "{image}: {} bytes", archive.unpacked());
        assert_eq!(archive.user, user(image), "{image}");
        assert_eq!(archive.entrypoint, [format!("/usr/bin/{image}")]);
        for (label, value) in [("version", env!("CARGO_PKG_VERSION")), ("licenses", "Apache-2.0")] {
            assert_eq!(archive.labels[&format!("org.opencontainers.image.{label}")], value);
        }
        assert!(archive.revision().len() >= 40, "{}", archive.revision());
        assert!(archive.labels["org.opencontainers.image.source"].starts_with("https://"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn built_images_run_as_on_a_cluster() {
    let mut runtime = Containerd::start(None).await;
    for image in Image::ALL {
        runtime.import(&archive(image));
    }
    say_who_they_are(&mut runtime).await;
    let plane = plane();
    the_operator_gets_ready(&mut runtime, &plane).await;
    the_agent_reports(&mut runtime, &plane).await;
    drop(plane);
    the_exporter_serves(&mut runtime).await;
    the_agent_hands_over_its_supervisor(&mut runtime).await;
    the_device_plugin_waits_for_the_kubelet(&mut runtime).await;
    the_generator_finds_nothing(&mut runtime).await;
}

async fn say_who_they_are(runtime: &mut Containerd) {
    for image in Image::ALL {
        for program in image.programs() {
            let version = format!("{program} {}", env!("CARGO_PKG_VERSION"));
            for (flag, wanted) in [("--version", version.as_str()), ("--help", "Usage: ")] {
                let command = vec![(*program).to_owned(), flag.to_owned()];
                let container =
                    runtime.run_image(&name(image), cri::ContainerConfig { command, ..restricted() }).await.unwrap();
                let status = runtime.wait_for_end(&container).await;
                let said = runtime.output(&container);
                assert!(status == 0 && said.contains(wanted), "{program} {flag}: {status}, {said}");
            }
        }
    }
}

/// The kernel's word on what a container's process may do. `capabilities` are those of the kernel's bit mask.
async fn is_confined(runtime: &mut Containerd, container: &Container, user: &str, capabilities: u64) {
    let process = runtime.process(container).await;
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    let found = ["Uid:", "CapEff:", "CapBnd:", "NoNewPrivs:", "Seccomp:"].map(field);
    let mask = format!("{capabilities:016x}");
    // 2: a filter of system calls.
    assert_eq!(found, [user, &mask, &mask, "1", "2"]);
    let mounts = fs::read_to_string(format!("/proc/{process}/mounts")).unwrap();
    let root = mounts.lines().find(|line| line.split(' ').nth(1) == Some("/")).unwrap();
    assert!(root.split(' ').nth(3).unwrap().split(',').any(|option| option == "ro"), "{root}");
}

/// A real API server with what is installed, and nothing else of a cluster.
fn plane() -> ControlPlane {
    let toolbox = Toolbox::ensure(Family::CONTROL_PLANE, &Progress::stderr()).unwrap();
    let plane = ControlPlane::start(&toolbox, &Options::default()).unwrap();
    plane.install_kmm().unwrap();
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy");
    for what in ["rbac/namespace.yaml", "crds", "rbac"] {
        let path = deploy.join(what).display().to_string();
        plane.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", &path]).unwrap();
    }
    plane.wait_for_crds().unwrap();
    plane
}

/// What the kubelet gives a pod of an account, to be put into a configuration: its token in files, the API server in the
/// environment.
fn in_cluster(plane: &ControlPlane, account: &str, config: &mut cri::ContainerConfig) -> TempDir {
    let files = built::directory();
    let token = plane.kubectl(&["create", "token", account, "--namespace", NAMESPACE]).unwrap();
    fs::write(files.path().join("token"), token.trim()).unwrap();
    fs::write(files.path().join("namespace"), NAMESPACE).unwrap();
    fs::copy(plane.ca_path(), files.path().join("ca.crt")).unwrap();
    config.mounts.push(mount(files.path(), "/var/run/secrets/kubernetes.io/serviceaccount", true));
    let port = plane.server_url().rsplit(':').next().unwrap();
    config.envs.extend(variables(&[("KUBERNETES_SERVICE_HOST", "127.0.0.1"), ("KUBERNETES_SERVICE_PORT", port)]));
    files
}

async fn the_operator_gets_ready(runtime: &mut Containerd, plane: &ControlPlane) {
    let listen = built::free_port();
    let args = vec![format!("--listen=127.0.0.1:{listen}"), "--log-format=text".into()];
    let mut config = cri::ContainerConfig { args, ..restricted() };
    let _files = in_cluster(plane, "cxi-operator", &mut config);
    let container = runtime.run_image(&name(Image::Operator), config).await.unwrap();
    let since = Instant::now();
    for (path, wanted) in [("/healthz", "ok"), ("/readyz", "ok"), ("/metrics", "# EOF")] {
        let answers = || http(listen, path).is_some_and(|(status, body)| status == 200 && body.contains(wanted));
        soon(&format!("{path} of the operator"), answers, || runtime.output(&container));
    }
    figures("cxi-operator", since, runtime.process(&container).await);
    is_confined(runtime, &container, "65532", 0).await;
    assert_eq!(runtime.stop(&container).await, 0, "{}", runtime.output(&container));
}

/// With what its DaemonSet gives it: files of a node, and what it takes to see whose open files are what.
async fn the_agent_reports(runtime: &mut Containerd, plane: &ControlPlane) {
    let node = r#"{"apiVersion": "cxi.hpe.com/v1", "kind": "CXINode", "metadata": {"name": "n1"}, "spec": {}}"#;
    plane.apply(node).unwrap();
    let files = self::node();
    let mut config = cri::ContainerConfig {
        command: vec!["cxi-agent".into(), "report".into()],
        envs: variables(&[
            ("NODE_NAME", "n1"),
            ("SYSFS_ROOT", "/host/sys"),
            ("DEVFS_ROOT", "/host/dev"),
            ("PROCFS_ROOT", "/host/proc"),
        ]),
        mounts: vec![mount(files.path(), "/host", true)],
        ..as_root(&["DAC_READ_SEARCH", "SYS_PTRACE", "SYSLOG"])
    };
    let _files = in_cluster(plane, "cxi-agent", &mut config);
    let container = runtime.run_image(&name(Image::Agent), config).await.unwrap();
    let since = Instant::now();
    let reported = || {
        let path = "jsonpath={.status.node.kernel}";
        plane.kubectl(&["get", "cxinode", "n1", "-o", path]).is_ok_and(|said| said == KERNEL)
    };
    soon("the agent's report", reported, || runtime.output(&container));
    figures("cxi-agent report", since, runtime.process(&container).await);
    // linux/capability.h
    let (dac_read_search, sys_ptrace, syslog) = (1 << 2, 1 << 19, 1 << 34);
    is_confined(runtime, &container, "0", dac_read_search | sys_ptrace | syslog).await;
    assert_eq!(runtime.stop(&container).await, 0, "{}", runtime.output(&container));
}

/// Kernel of [`node`].
const KERNEL: &str = "6.12.1";

/// A node without NICs.
fn node() -> TempDir {
    let node = built::directory();
    for directory in ["sys/class", "sys/module", "dev", "proc/sys/kernel/random", "run", "plugins", "cdi"] {
        fs::create_dir_all(node.path().join(directory)).unwrap();
    }
    let boot_id = "0f6cb5d2-6b7d-4bd6-9c6c-6f1f1e1b2a3c";
    for (file, text) in [("modules", ""), ("sys/kernel/osrelease", KERNEL), ("sys/kernel/random/boot_id", boot_id)] {
        fs::write(node.path().join("proc").join(file), text).unwrap();
    }
    node
}

async fn the_exporter_serves(runtime: &mut Containerd) {
    let node = node();
    let listen = built::free_port();
    let args = ["exporter", "--node-name=n1", &format!("--listen=127.0.0.1:{listen}")].map(str::to_owned).to_vec();
    let config = cri::ContainerConfig {
        command: vec!["cxi-agent".into()],
        args,
        envs: variables(&[("SYSFS_ROOT", "/host/sys"), ("DEVFS_ROOT", "/host/dev"), ("RUN_ROOT", "/host/run")]),
        mounts: vec![mount(node.path(), "/host", true)],
        ..restricted()
    };
    let container = runtime.run_image(&name(Image::Agent), config).await.unwrap();
    let since = Instant::now();
    for (path, wanted) in [("/healthz", ""), ("/metrics", "node=\"n1\"")] {
        let answers = || http(listen, path).is_some_and(|(status, body)| status == 200 && body.contains(wanted));
        soon(&format!("{path} of the exporter"), answers, || runtime.output(&container));
    }
    figures("cxi-agent exporter", since, runtime.process(&container).await);
    is_confined(runtime, &container, "65532", 0).await;
    assert_eq!(runtime.stop(&container).await, 0, "{}", runtime.output(&container));
}

/// As the init container of retry handlers, which runs as root.
async fn the_agent_hands_over_its_supervisor(runtime: &mut Containerd) {
    let shared = built::directory();
    let config = cri::ContainerConfig {
        command: vec!["cxi-agent".into()],
        args: vec!["install".into(), "/supervisor/cxi-agent".into()],
        mounts: vec![mount(shared.path(), "/supervisor", false)],
        ..as_root(&[])
    };
    let container = runtime.run_image(&name(Image::Agent), config).await.unwrap();
    let status = runtime.wait_for_end(&container).await;
    assert_eq!(status, 0, "{}", runtime.output(&container));
    // It is put beside another program, in an image with other libraries or none: it must run anywhere.
    let ran =
        std::process::Command::new(shared.path().join("cxi-agent")).arg("--version").env_clear().output().unwrap();
    assert!(ran.status.success());
}

async fn the_device_plugin_waits_for_the_kubelet(runtime: &mut Containerd) {
    let node = node();
    let config = cri::ContainerConfig {
        args: ["--standalone", "--device-plugin-dir=/plugins"].map(str::to_owned).to_vec(),
        envs: variables(&[("HOST_ROOT", "/host"), ("SYSFS_ROOT", "/host/sys"), ("DEVFS_ROOT", "/host/dev")]),
        mounts: vec![mount(node.path(), "/host", true), mount(&node.path().join("plugins"), "/plugins", false)],
        ..restricted()
    };
    let container = runtime.run_image(&name(Image::DevicePlugin), config).await.unwrap();
    let since = Instant::now();
    soon("the device plugin starts", || runtime.output(&container).contains("starting"), || runtime.output(&container));
    figures("cxi-device-plugin", since, runtime.process(&container).await);
    is_confined(runtime, &container, "0", 0).await;
    assert_eq!(runtime.stop(&container).await, 0, "{}", runtime.output(&container));
}

async fn the_generator_finds_nothing(runtime: &mut Containerd) {
    let node = node();
    let config = cri::ContainerConfig {
        command: vec!["cxi-cdi-generator".into(), "--no-libraries".into()],
        envs: variables(&[("SYSFS_ROOT", "/host/sys"), ("DEVFS_ROOT", "/host/dev"), ("CXI_CDI_DIR", "/host/cdi")]),
        mounts: vec![mount(node.path(), "/host", false)],
        ..restricted()
    };
    let container = runtime.run_image(&name(Image::DevicePlugin), config).await.unwrap();
    assert_eq!(runtime.wait_for_end(&container).await, 0);
    let said = runtime.output(&container);
    assert!(said.contains("no CXI NICs"), "{said}");
}
