//! An image with a shell, made of busybox.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::program::{program, run};

/// Its name. Pods are made of it too.
pub const IMAGE: &str = "localhost/injection:1";

/// An image of a shell, as an archive of the form of the Open Container Initiative.
pub fn build(directory: &Path) -> PathBuf {
    let busybox = fs::read(program("busybox", "busybox-static")).unwrap();
    let root = directory.join("image-root");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::write(root.join("bin/busybox"), busybox).unwrap();
    run("chmod", &["0755", &root.join("bin/busybox").display().to_string()]);
    for name in ["sh", "sleep", "cat", "stat", "env", "mknod", "head", "ls", "grep", "touch"] {
        symlink("busybox", root.join("bin").join(name)).unwrap();
    }
    let layout = directory.join("image");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs).unwrap();
    let layer = directory.join("layer.tar");
    run("tar", &["-C", &root.display().to_string(), "-cf", &layer.display().to_string(), "."]);

    let blob = |media_type: &str, bytes: &[u8]| {
        let digest = Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").unwrap();
            text
        });
        fs::write(blobs.join(&digest), bytes).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len()})
    };
    let text = |value: &Value| serde_json::to_vec(value).unwrap();
    let layer = blob("application/vnd.oci.image.layer.v1.tar", &fs::read(layer).unwrap());
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Entrypoint": ["/bin/sleep", "3600"], "Env": ["PATH=/bin", "FI_LOG_LEVEL=of-the-image"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = blob("application/vnd.oci.image.config.v1+json", &text(&config));
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": manifest_type, "config": config, "layers": [layer]});
    let mut manifest = blob(manifest_type, &text(&manifest));
    manifest["annotations"] = json!({"io.containerd.image.name": IMAGE});
    fs::write(layout.join("index.json"), text(&json!({"schemaVersion": 2, "manifests": [manifest]}))).unwrap();
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
    let archive = directory.join("image.tar");
    run("tar", &["-C", &layout.display().to_string(), "-cf", &archive.display().to_string(), "."]);
    archive
}
