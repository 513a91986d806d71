//! The images that are on the nodes from the beginning, because there is no registry: those of this repository, driver images
//! that the pipeline makes of the stand-in, KMM's worker, and a program that holds a NIC.

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    thread,
};

use anyhow::{Context, Result, ensure};
use cxi_control_plane::{Progress, Tool, Toolbox};
use cxi_driver_image_builder::unpack;
use cxi_driver_image_format::{ImageManifest, KernelName};
use cxi_driver_image_lab::Lab;
use cxi_e2e::{
    harness::REPOSITORY,
    operator::{AGENT_IMAGE, DEVICE_PLUGIN_IMAGE},
    scenario::{NEW, OLD},
};
use cxi_guest::{
    Kernel, Tree,
    cluster_node::{Image, PAUSE_IMAGE},
};
use tempfile::TempDir;

/// Has the first NIC of its container open, if there is one, until it is asked to end; says which, and the last line of its libcxi.
const APP: &str = "#!/bin/sh
trap 'exit 0' TERM
set -- /dev/cxi[0-9]*
if [ -e \"$1\" ]; then
    exec 3<>\"$1\" || exit 1
    echo \"holding $1\"
    echo \"libcxi is of $(tail -n 1 /usr/lib64/libcxi.so.1)\"
fi
sleep 1000000 3<&- &
wait $!
";

/// Images in archives.
pub struct Images {
    /// All of them.
    pub all: Vec<Image>,
    /// Build-ids by module, of each release, as the manifest in its image says.
    pub build_ids: BTreeMap<String, BTreeMap<String, String>>,
    _directory: TempDir,
}

impl Images {
    /// Builds them, but for ours, which are there already.
    pub fn build(kernel: &Kernel, toolbox: &Toolbox) -> Result<Self> {
        let directory = tempfile::tempdir()?;
        let lab = Lab::ensure(&Progress::stderr())?;
        let mut all = vec![ours("cxi-agent", AGENT_IMAGE)?, ours("cxi-device-plugin", DEVICE_PLUGIN_IMAGE)?];
        all.extend(programs(&lab, kernel, toolbox, directory.path())?);
        let mut build_ids = BTreeMap::new();
        for (release, built) in [OLD, NEW].into_iter().zip(drivers(&lab, kernel, directory.path())) {
            let (image, manifest) = built?;
            all.push(image);
            build_ids.insert(release.to_owned(), manifest.build_ids());
        }
        let [old, new] = [OLD, NEW].map(|release| &build_ids[release]);
        ensure!(old.len() == 5 && old.iter().all(|(module, id)| new[module] != *id), "{build_ids:?}");
        Ok(Self { all, build_ids, _directory: directory })
    }
}

/// An image of this repository, as `cargo xtask images build` left it, under the name that the operator is told.
fn ours(name: &str, in_cluster: &str) -> Result<Image> {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let this = env::current_exe()?;
    let target = this.ancestors().nth(3).context("a test lies in target/debug/deps")?;
    let archive = target.join("images").join(architecture).join(format!("{name}.tar"));
    ensure!(archive.is_file(), "{} is missing: cargo xtask images build --profile image", archive.display());
    let name = format!("localhost/{name}:{}-{architecture}", env!("CARGO_PKG_VERSION"));
    Ok(Image { archive, name, more_names: vec![in_cluster.to_owned()] })
}

/// The driver images of both releases, built at the same time.
fn drivers(lab: &Lab, kernel: &Kernel, directory: &Path) -> [Result<(Image, ImageManifest)>; 2] {
    thread::scope(|scope| {
        let builds = [OLD, NEW].map(|release| scope.spawn(move || driver(lab, kernel, release, directory)));
        builds.map(|build| build.join().expect("building does not panic"))
    })
}

/// A driver image of the pipeline, and its manifest.
fn driver(lab: &Lab, kernel: &Kernel, release: &str, directory: &Path) -> Result<(Image, ImageManifest)> {
    let kernel: KernelName = kernel.release.parse()?;
    let step = Progress::stderr().step(&format!("driver image {release} for {kernel}"));
    let built = lab.stand_in(release, &kernel, &directory.join("logs"))?;
    step.done();
    let contents = unpack::image(&lab.buildah, &built.reference)?;
    let manifest = ImageManifest::parse(&contents.manifest.context("an image of the pipeline has a manifest")?)?;
    let name = format!("{REPOSITORY}:{release}-{}", kernel.in_tag());
    Ok((archive(lab, &built.reference, name, directory)?, manifest))
}

/// KMM's worker with the modprobe of this machine, a program that holds a NIC, and the one that holds a pod together.
fn programs(lab: &Lab, kernel: &Kernel, toolbox: &Toolbox, directory: &Path) -> Result<Vec<Image>> {
    let root = Tree::new(kernel)?;
    root.copy(toolbox.path(Tool::KmmWorker)?, "usr/local/bin/worker")?;
    root.script("app", APP)?;
    let root = root.finished()?.display().to_string();
    let images = [
        ("docker.io/library/kmm-worker:test", r#"["/usr/local/bin/worker"]"#, "201:201"),
        ("registry.example/app:1", r#"["/app"]"#, "0:0"),
        (PAUSE_IMAGE, r#"["/bin/sleep", "1000000000"]"#, "0:0"),
    ];
    let buildah = &lab.buildah;
    let mut all = Vec::new();
    for (number, (name, entrypoint, user)) in images.into_iter().enumerate() {
        let container = buildah.run(["from", "scratch"])?.trim().to_owned();
        buildah.run(["copy", "--quiet", &container, &root, "/"])?;
        let path = "PATH=/sbin:/bin";
        buildah.run(["config", "--entrypoint", entrypoint, "--user", user, "--env", path, &container])?;
        let reference = format!("localhost/cxi-whole-node-program:{number}");
        buildah.run(["commit", "--quiet", "--rm", &container, &reference])?;
        all.push(archive(lab, &reference, name.to_owned(), directory)?);
    }
    Ok(all)
}

/// An image of the storage as an archive.
fn archive(lab: &Lab, reference: &str, name: String, directory: &Path) -> Result<Image> {
    let file: PathBuf = directory.join(format!("{}.tar", name.replace(['/', ':'], "-")));
    lab.buildah.run(["push", "--quiet", reference, &format!("oci-archive:{}:{name}", file.display())])?;
    Ok(Image { archive: file, name, more_names: Vec::new() })
}
