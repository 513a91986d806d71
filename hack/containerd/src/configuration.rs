//! How containerd is configured, and the one pod.

use std::path::Path;

use crate::cri;
use crate::shell_image::IMAGE;

/// Everything in `directory`; copies instead of overlays, which do not lie on each other; the host may forbid to lower
/// the OOM score.
pub fn configuration(directory: &Path, cdi_directory: Option<&Path>) -> String {
    let directory = directory.display();
    let enable_cdi = cdi_directory.is_some();
    let cdi_directory = cdi_directory.unwrap_or(Path::new("/nowhere")).display();
    format!(
        r#"version = 3
root = "{directory}/root"
state = "{directory}/state"
disabled_plugins = ["io.containerd.nri.v1.nri"]
[grpc]
  address = "{directory}/containerd.sock"
[plugins."io.containerd.cri.v1.images"]
  snapshotter = "native"
[plugins."io.containerd.cri.v1.images".pinned_images]
  sandbox = "{IMAGE}"
[plugins."io.containerd.cri.v1.runtime"]
  enable_cdi = {enable_cdi}
  cdi_spec_dirs = ["{cdi_directory}"]
  restrict_oom_score_adj = true
[plugins."io.containerd.transfer.v1.local"]
  unpack_config = [{{ platform = "linux", snapshotter = "native" }}]
"#
    )
}

/// A pod in the node's network, so that no CNI is needed, whose containers' output goes to `logs`.
pub fn sandbox(logs: &Path) -> cri::PodSandboxConfig {
    let namespace_options = Some(cri::NamespaceOption { network: cri::NamespaceMode::Node.into() });
    let security_context = Some(cri::LinuxSandboxSecurityContext { namespace_options });
    cri::PodSandboxConfig {
        metadata: Some(cri::PodSandboxMetadata { name: "p".into(), uid: "u".into(), namespace: "default".into() }),
        log_directory: logs.display().to_string(),
        linux: Some(cri::LinuxPodSandboxConfig { security_context }),
    }
}
