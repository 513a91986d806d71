//! Images of registries that stand in for those of the internet.

use std::{
    fmt::Write as _,
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use cxi_control_plane::Registry;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::page::Shell;

/// Our images, in the order of images.lock.
const OURS: [&str; 3] = ["cxi-operator", "cxi-device-plugin", "cxi-agent"];

/// Images that the first command of the page asks for, in its order.
const OTHERS: [&str; 5] = [
    "registry.hpc.example/hpe/cxi-driver:13.0.0-5.14.0-570.12.1.el9_6.x86_64",
    "registry.hpc.example/hpe/cxi-driver:13.0.0-5.14.0-570.17.1.el9_6.x86_64",
    "registry.hpc.example/hpe/cxi-driver:13.1.0-5.14.0-570.12.1.el9_6.x86_64",
    "registry.hpc.example/hpe/cxi-driver:13.1.0-5.14.0-570.17.1.el9_6.x86_64",
    "registry.hpc.example/hpe/cxi-rh:13.1.0",
];

/// Registries that images come from.
const REGISTRIES: [&str; 2] = ["ghcr.io", "registry.hpc.example"];

/// An image.
struct Image {
    /// As the page lists it.
    reference: String,
    /// Path and tag below a registry.
    path: String,
    digest: String,
}

/// A registry that has all images, and what makes skopeo ask it for those of [`REGISTRIES`].
pub(super) struct Internet {
    _registry: Registry,
    images: Vec<Image>,
    configuration: PathBuf,
    lock: PathBuf,
}

impl Internet {
    /// Makes all images in a directory, and tells skopeo in somebody's home where they are.
    pub(super) fn start(directory: &Path, home: &Path) -> Result<Self> {
        let registry = Registry::start()?;
        let configuration = home.join(".config/containers/registries.conf");
        fs::create_dir_all(configuration.parent().context("a directory")?)?;
        let mut text = String::new();
        for name in REGISTRIES {
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "[[registry]]\nprefix = \"{name}\"\nlocation = \"{}/{name}\"\ninsecure = true",
                registry.name()
            );
        }
        fs::write(&configuration, text)?;

        let ours = OURS.map(|name| format!("ghcr.io/cxi-operator/{name}:{}", env!("CARGO_PKG_VERSION")));
        let mut images = Vec::new();
        for name in ours.iter().map(String::as_str).chain(OTHERS) {
            let (_, path) = name.split_once('/').context("a registry")?;
            let (repository, _) = name.rsplit_once(':').context("a tag")?;
            let digest = push(directory, name, &format!("{}/{name}", registry.name()))?;
            let is_ours = ours.iter().any(|ours| ours == name);
            let reference = if is_ours { format!("{repository}@{digest}") } else { name.to_owned() };
            images.push(Image { reference, path: path.to_owned(), digest });
        }
        let entry = |(name, image): (&str, &Image)| {
            let repository = format!("ghcr.io/cxi-operator/{name}");
            let entry =
                json!({ "repository": repository, "version": env!("CARGO_PKG_VERSION"), "digest": image.digest });
            (name.to_owned(), entry)
        };
        let lock = directory.join("images.lock");
        let entries: serde_json::Map<_, _> = OURS.into_iter().zip(&images).map(entry).collect();
        fs::write(&lock, Value::Object(entries).to_string())?;
        Ok(Self { _registry: registry, images, configuration, lock })
    }

    /// `images.lock` of the release.
    pub(super) fn lock(&self) -> &Path {
        &self.lock
    }

    /// All images, as the page lists them.
    pub(super) fn references(&self) -> Vec<&str> {
        self.images.iter().map(|image| image.reference.as_str()).collect()
    }

    /// All images, as the page lists them when registries were asked for digests.
    pub(super) fn with_digests(&self) -> Vec<String> {
        let full = |image: &Image| {
            let by_digest = image.reference.contains('@');
            if by_digest { image.reference.clone() } else { format!("{}@{}", image.reference, image.digest) }
        };
        self.images.iter().map(full).collect()
    }

    /// Lets skopeo copy to a registry without TLS.
    pub(super) fn trust(&self, registry: &Registry) -> Result<()> {
        let mut file = File::options().append(true).open(&self.configuration)?;
        writeln!(file, "[[registry]]\nlocation = \"{}\"\ninsecure = true", registry.name())?;
        Ok(())
    }

    /// Every image is below a path of another registry, byte for byte: its digest is that of the list of its architectures, and
    /// a registry takes no such list before it has what is on it.
    pub(super) fn is_mirrored(&self, shell: &Shell, below: &str) -> Result<()> {
        let show = |image: &Image| format!("skopeo inspect --raw docker://{below}/{} | sha256sum", image.path);
        let script = self.images.iter().map(show).collect::<Vec<_>>().join("\n");
        let found = shell.run(&script)?;
        let found = found.lines().filter_map(|line| line.split_whitespace().next());
        let wanted = self.images.iter().filter_map(|image| image.digest.strip_prefix("sha256:"));
        ensure!(found.clone().eq(wanted), "below {below}: {:?}", found.collect::<Vec<_>>());
        Ok(())
    }
}

const ARCHITECTURES: [&str; 2] = ["amd64", "arm64"];

/// Makes an image for both architectures that differs from every other, pushes it, and returns its digest.
fn push(directory: &Path, name: &str, to: &str) -> Result<String> {
    let layout = directory.join(name.replace(['/', ':'], "_"));
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let blob = |media_type: &str, bytes: &[u8]| -> Result<Value> {
        let hex = format!("{:x}", Sha256::digest(bytes));
        fs::write(blobs.join(&hex), bytes)?;
        Ok(json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len() }))
    };
    // An archive without files.
    let layer = blob("application/vnd.oci.image.layer.v1.tar", &[0; 1024])?;
    let mut manifests = Vec::new();
    for architecture in ARCHITECTURES {
        let config = json!({
            "architecture": architecture, "os": "linux", "config": { "Labels": { "name": name } },
            "rootfs": { "type": "layers", "diff_ids": [layer["digest"]] },
        });
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": blob("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes())?, "layers": [layer],
        });
        let mut manifest = blob("application/vnd.oci.image.manifest.v1+json", manifest.to_string().as_bytes())?;
        manifest["platform"] = json!({ "architecture": architecture, "os": "linux" });
        manifests.push(manifest);
    }
    let media_type = "application/vnd.oci.image.index.v1+json";
    let index = json!({ "schemaVersion": 2, "mediaType": media_type, "manifests": manifests });
    let mut index = blob(media_type, index.to_string().as_bytes())?;
    let digest = index["digest"].as_str().context("a digest")?.to_owned();
    index["annotations"] = json!({ "org.opencontainers.image.ref.name": "this" });
    fs::write(layout.join("oci-layout"), json!({ "imageLayoutVersion": "1.0.0" }).to_string())?;
    fs::write(layout.join("index.json"), json!({ "schemaVersion": 2, "manifests": [index] }).to_string())?;

    let mut copy = Command::new("skopeo");
    copy.args(["copy", "--quiet", "--all", "--preserve-digests", "--dest-tls-verify=false"]);
    copy.arg(format!("oci:{}:this", layout.display())).arg(format!("docker://{to}"));
    let output = copy.output().context("run skopeo: apt-get install skopeo")?;
    ensure!(output.status.success(), "push {to}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(digest)
}
