//! A guest that is a node of a cluster: kubelet, containerd, runc and CNI plugins, with images that need no registry.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use cxi_control_plane::{API_SERVICE, Process, Progress, Tool, Toolbox};
use serde_json::Value;

use crate::{
    Guest, Kernel, Node, Tree,
    error::{Attempt, Error, Result},
    program,
};

/// Name of the image that pods' sandboxes run, which somebody has to bring.
pub const PAUSE_IMAGE: &str = "localhost/pause:1";

/// Where containerd keeps images.
const STORE: &str = "var/lib/containerd";

/// How long a containerd may take that only takes images in: a second alone.
const IMPORT: Duration = Duration::from_mins(2);

/// An image in an archive of the forms that `ctr images import` reads.
#[derive(Clone, Debug)]
pub struct Image {
    /// The archive.
    pub archive: PathBuf,
    /// The name that the archive gives it.
    pub name: String,
    /// Names that it is to have besides, each with registry and tag.
    pub more_names: Vec<String>,
}

/// The root of a node that belongs to no cluster yet.
///
/// # Errors
/// When the toolbox lacks a family of [`cxi_control_plane::Family::NODE`], or a program of the distribution is missing.
pub fn tree(kernel: &Kernel, toolbox: &Toolbox, images: &[Image], progress: &Progress) -> Result<Tree> {
    let tree = Node::default().tree(kernel, progress)?;
    for (tool, directory) in [
        (Tool::Kubelet, "bin"),
        (Tool::Containerd, "bin"),
        (Tool::ContainerdShim, "bin"),
        (Tool::Ctr, "bin"),
        (Tool::CniBridge, "opt/cni/bin"),
        (Tool::CniHostLocal, "opt/cni/bin"),
        (Tool::CniLoopback, "opt/cni/bin"),
    ] {
        tree.copy(toolbox.path(tool)?, &format!("{directory}/{}", tool.name()))?;
    }
    // The kubelet mounts with the distribution's.
    for (name, package) in [("runc", "runc"), ("mount", "mount"), ("umount", "mount")] {
        tree.program(&program::need(name, package)?, &format!("bin/{name}"))?;
    }
    for module in ["overlay", "bridge", "veth"] {
        tree.kernel_module(module)?;
    }
    tree.file("etc/containerd/config.toml", include_str!("root/node/containerd.toml"))?;
    tree.file("etc/kubernetes/kubelet.yaml", include_str!("root/node/kubelet.yaml"))?;
    tree.file("etc/kubernetes/service", API_SERVICE.to_string())?;
    tree.file("etc/cni/pods.conflist", include_str!("root/node/pods.conflist"))?;
    tree.file("etc/resolv.conf", "")?;
    tree.file("etc/hosts", "127.0.0.1 localhost\n")?;
    tree.script("sbin/kubelet-start", include_str!("root/node/kubelet-start"))?;
    tree.script("etc/boot.d/node", include_str!("root/node/start"))?;
    for directory in ["var/log", "var/lib/kubelet", "opt"] {
        tree.make_directory(directory)?;
    }
    import(&tree, toolbox, images)?;
    Ok(tree)
}

/// Has a containerd of this machine take images in where the guest's will look for them.
fn import(tree: &Tree, toolbox: &Toolbox, images: &[Image]) -> Result<()> {
    // Short: a unix socket's path has at most 107 bytes.
    let work = tempfile::tempdir().attempt(|| "create a temporary directory".to_owned())?;
    let at = |name: &str| work.path().join(name);
    tree.make_directory(STORE)?;
    let configuration = format!(
        "version = 3\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\", \
         \"io.containerd.cri.v1.images\", \"io.containerd.cri.v1.runtime\", \"io.containerd.nri.v1.nri\"]\n[grpc]\n  \
         address = \"{}\"\n",
        tree.path(STORE).display(),
        at("state").display(),
        at("socket").display(),
    );
    fs::write(at("config.toml"), configuration).attempt(|| "write containerd's configuration".to_owned())?;
    let mut containerd = Process::start("containerd", toolbox.path(Tool::Containerd)?, &at("log"), |command| {
        command.arg("--config").arg(at("config.toml"));
    })?;
    let ctr = |arguments: &[&str]| {
        let mut ctr = Command::new(toolbox.path(Tool::Ctr)?);
        program::output(ctr.arg("--address").arg(at("socket")).args(["--namespace", "k8s.io"]).args(arguments))
    };
    let began = Instant::now();
    while let Err(error) = ctr(&["version"]) {
        containerd.check()?;
        if began.elapsed() > IMPORT {
            return Err(error);
        }
        sleep(Duration::from_millis(50));
    }
    for Image { archive, name, more_names } in images {
        // Unpacked when the first container of it begins.
        ctr(&["images", "import", "--no-unpack", &archive.display().to_string()])?;
        for more in more_names {
            ctr(&["images", "tag", "--force", name, more])?;
        }
    }
    ctr(&["images", "label", PAUSE_IMAGE, "io.cri-containerd.pinned=pinned"])?;
    containerd.stop();
    Ok(())
}

/// Has a guest with the root of [`tree`] join the cluster of a kubeconfig of this machine. It stays a node when it reboots.
///
/// # Errors
/// When the kubeconfig cannot be read, or the guest does not answer.
pub fn join(guest: &mut Guest, subnet: u8, kubeconfig: &Path) -> Result<()> {
    let text = fs::read(kubeconfig).attempt(|| format!("read {}", kubeconfig.display()))?;
    let (kubeconfig, port) = seen_from_guest(&text, subnet).ok_or_else(|| Error::Unexpected {
        what: kubeconfig.display().to_string(),
        why: "no server on the loopback address".to_owned(),
    })?;
    guest.succeed(&format!(
        "cat >/etc/kubernetes/kubeconfig <<'END'\n{kubeconfig}\nEND\necho {port} >/etc/kubernetes/port; sync; \
         /etc/boot.d/node"
    ))?;
    Ok(())
}

/// A kubeconfig with the address that this machine has in a guest's network, and the API server's port.
fn seen_from_guest(kubeconfig: &[u8], subnet: u8) -> Option<(Value, u16)> {
    let mut config: Value = serde_json::from_slice(kubeconfig).ok()?;
    let cluster = config.pointer_mut("/clusters/0/cluster")?;
    let port = cluster["server"].as_str()?.strip_prefix("https://127.0.0.1:")?.parse().ok()?;
    cluster["server"] = format!("https://10.0.{subnet}.2:{port}").into();
    // The name in the server's certificate is still the one of this machine.
    cluster["tls-server-name"] = "127.0.0.1".into();
    Some((config, port))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_guest_sees_the_server_at_another_address() {
        let config = |server: &str| json!({"clusters": [{"cluster": {"server": server}}]}).to_string();
        let (seen, port) = seen_from_guest(config("https://127.0.0.1:40123").as_bytes(), 3).unwrap();
        assert_eq!(port, 40123);
        let cluster = json!({"server": "https://10.0.3.2:40123", "tls-server-name": "127.0.0.1"});
        assert_eq!(seen["clusters"][0]["cluster"], cluster);
        assert!(seen_from_guest(config("https://example.com:6443").as_bytes(), 3).is_none());
    }
}
