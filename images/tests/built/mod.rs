//! Images that `cargo xtask images build` has built, and how their containers are run and asked.

use std::{
    env, fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use cxi_containerd::cri;
use cxi_images::Image;
use tempfile::TempDir;

/// How long something may take on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

fn architecture() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

/// The archive of an image.
pub fn archive(image: Image) -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    let target = target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    let path = target.join("images").join(architecture()).join(format!("{image}.tar"));
    assert!(path.is_file(), "{} is missing: cargo xtask images build --profile image", path.display());
    path
}

/// The name that the archive gives the image.
pub fn name(image: Image) -> String {
    format!("localhost/{image}:{}-{}", env!("CARGO_PKG_VERSION"), architecture())
}

/// What pods of the product allow: nothing but to run.
pub fn restricted() -> cri::ContainerConfig {
    let all = vec!["ALL".to_owned()];
    let security_context = cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability { drop_capabilities: all, ..cri::Capability::default() }),
        namespace_options: Some(cri::NamespaceOption { network: cri::NamespaceMode::Node.into() }),
        readonly_rootfs: true,
        no_new_privs: true,
        // The default of this type is the filter of the runtime.
        seccomp: Some(cri::SecurityProfile::default()),
        ..cri::LinuxContainerSecurityContext::default()
    };
    let linux = Some(cri::LinuxContainerConfig { security_context: Some(security_context) });
    cri::ContainerConfig { linux, ..cri::ContainerConfig::default() }
}

/// The same as root, with these capabilities.
pub fn as_root(capabilities: &[&str]) -> cri::ContainerConfig {
    let mut config = restricted();
    let context = config.linux.as_mut().unwrap().security_context.as_mut().unwrap();
    context.run_as_user = Some(cri::Int64Value { value: 0 });
    context.capabilities.as_mut().unwrap().add_capabilities = capabilities.iter().map(|&name| name.into()).collect();
    config
}

/// A directory of the host in a container.
pub fn mount(host: &Path, container: &str, readonly: bool) -> cri::Mount {
    cri::Mount { host_path: host.display().to_string(), container_path: container.into(), readonly }
}

/// A temporary directory that every user may read.
pub fn directory() -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    directory
}

/// Environment variables.
pub fn variables(pairs: &[(&str, &str)]) -> Vec<cri::KeyValue> {
    pairs.iter().map(|(key, value)| cri::KeyValue { key: (*key).into(), value: (*value).into() }).collect()
}

/// Says how long a program took to get ready, and how much memory it has then.
pub fn figures(program: &str, since: Instant, process: u64) {
    let took = since.elapsed().as_millis();
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap().trim();
    println!("{program}: ready after {took} ms, {resident} in memory");
}

/// A port that was free a moment ago.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

/// Status and body of what is served on the loopback address; nothing if nobody answers.
pub fn http(port: u16, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
}

/// Waits until something holds.
pub fn soon(what: &str, mut holds: impl FnMut() -> bool, context: impl Fn() -> String) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}\n{}", context());
        std::thread::sleep(Duration::from_millis(50));
    }
}
