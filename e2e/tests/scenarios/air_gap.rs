//! `docs/air-gap.md`, command by command: images go from registries that stand in for those of the internet to one of a site, by
//! both ways of the page, a containerd that is told of the mirror as the page says finds them there, and so does an installation.
//!
//! Images are made up. What matters of them is that each has bytes of its own and two architectures.

mod images;

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, ensure};
use cxi_containerd::Containerd;
use cxi_control_plane::{ControlPlane, Family, NAMESPACE, Options, Progress, Registry, Tool, Toolbox};
use serde_json::json;
use tempfile::TempDir;
use tokio::task::block_in_place;

use crate::page::{Page, Shell, commands, root};
use images::Internet;

const PAGE: &str = "air-gap.md";

/// Commands that cannot run here: oc-mirror is not to be had as source.
const NOT_HERE: &str = "oc mirror ";

/// Registry of the site, in the page.
const MIRROR: &str = "mirror.site.example";

/// The page's blocks of commands.
fn blocks() -> Result<[String; 7]> {
    let blocks = Page::read(PAGE)?.blocks("sh");
    blocks.try_into().map_err(|blocks: Vec<_>| anyhow::anyhow!("tell this test of all commands: {blocks:#?}"))
}

/// The command that lists KMM's images, where OLM has installed KMM.
pub(crate) fn images_of_kmm(plane: &ControlPlane) -> Result<()> {
    let [_, _, kmm, ..] = blocks()?;
    let listed = Shell::of(plane)?.run(&kmm)?;
    let listed: Vec<_> = listed.lines().collect();
    for part in ["operator", "webhook-server", "worker"] {
        let wanted = format!("/kernel-module-management-{part}:");
        ensure!(listed.iter().any(|image| image.contains(&wanted)), "no {part} in {listed:?}");
    }
    Ok(())
}

/// A site without a way to the internet, and somebody in front of it who has one.
struct Site {
    shell: Shell,
    plane: ControlPlane,
    internet: Internet,
    files: TempDir,
}

impl Site {
    fn new() -> Result<Self> {
        let toolbox = Toolbox::ensure(Family::CONTROL_PLANE, &Progress::stderr())?;
        let plane = ControlPlane::start(&toolbox, &Options::default())?;
        let files = tempfile::tempdir()?;
        let shell = Shell::of(&plane)?.with_tool(Family::Helm, Tool::Helm)?;
        let internet = Internet::start(files.path(), shell.home())?;
        // A checkout of a release: its images.lock has digests.
        let programs = files.path().join("bin");
        fs::create_dir(&programs)?;
        let xtask = format!(
            "#!/bin/sh\n[ \"$1\" = xtask ] && shift && exec '{}' \"$@\" --lock '{}'\n",
            program("xtask")?.display(),
            internet.lock().display()
        );
        let cargo = programs.join("cargo");
        fs::write(&cargo, xtask)?;
        fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755))?;
        Ok(Self { shell: shell.with_programs(programs)?, plane, internet, files })
    }

    /// Runs commands of the page with its flags of the first command, files, and a mirror.
    fn run(&self, block: &str, mirror: &Registry) -> Result<String> {
        let flags = blocks()?[0].replacen("cargo xtask mirror-list", "", 1).replace("\\\n", "");
        let disk = self.files.path().join("disk");
        let here: Vec<_> = block.lines().filter(|line| !line.starts_with(NOT_HERE)).collect();
        let script = here.join("\n").replace('…', flags.trim()).replace(MIRROR, &mirror.name());
        let script = script.replace("/media/disk", &disk.display().to_string());
        let script = script.replace("imageset.yaml", &self.files.path().join("imageset.yaml").display().to_string());
        self.shell.run(&script)
    }

    /// A registry of the site, into which skopeo copies without TLS.
    fn mirror(&self) -> Result<Registry> {
        let mirror = Registry::start()?;
        self.internet.trust(&mirror)?;
        Ok(mirror)
    }
}

/// A program of this workspace that was built beside this test.
fn program(name: &str) -> Result<PathBuf> {
    let this = env::current_exe()?;
    let mut places = this.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    places.find(|path| path.is_file()).with_context(|| format!("build it first: cargo build --package {name}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn images_reach_a_site_without_internet_as_the_page_says() -> Result<()> {
    let site = block_in_place(Site::new)?;
    let [list, resolve, _kmm, direct, disk, oc_mirror, see] = blocks()?;
    block_in_place(|| the_page_lists_kernels_and_images(&site, &list))?;

    let mirror = site.mirror()?;
    block_in_place(|| {
        let resolved = site.run(&resolve, &mirror)?;
        ensure!(resolved.lines().eq(site.internet.with_digests()), "{resolved}");
        site.run(&direct, &mirror)?;
        site.internet.is_mirrored(&site.shell, &format!("{}/cxi", mirror.name())).context("copied directly")?;
        let other = site.mirror()?;
        site.run(&disk, &other)?;
        site.internet.is_mirrored(&site.shell, &format!("{}/cxi", other.name())).context("copied by a disk")?;
        the_page_makes_a_configuration_for_oc_mirror(&site, &oc_mirror, &mirror)
    })?;
    nodes_find_the_mirror(&site, &mirror).await?;
    block_in_place(|| what_is_installed_names_the_mirror(&site, &mirror, &see))
}

fn the_page_lists_kernels_and_images(site: &Site, list: &str) -> Result<()> {
    for (name, kernel) in [("n1", "6.1.0-56-amd64"), ("n2", "6.1.0-56-amd64"), ("n3", "5.14.0-570.12.1.el9_6.x86_64")] {
        let info = json!({
            "architecture": "amd64", "bootID": "", "containerRuntimeVersion": "", "kernelVersion": kernel, "kubeProxyVersion": "",
            "kubeletVersion": "", "machineID": "", "operatingSystem": "linux", "osImage": "", "systemUUID": "",
        });
        let node =
            json!({ "apiVersion": "v1", "kind": "Node", "metadata": { "name": name }, "status": { "nodeInfo": info } });
        // Validation by kubectl would ask for a schema of everything first.
        site.plane.kubectl_with_input(&["create", "--validate=false", "-f", "-"], &node.to_string())?;
    }
    let page = Page::read(PAGE)?.section("1. List what is needed")?;
    let [kernels] = commands(&page, &["kubectl"])[..] else { anyhow::bail!("one command within lines") };
    ensure!(site.shell.run(kernels)? == "5.14.0-570.12.1.el9_6.x86_64\n6.1.0-56-amd64\n", "kernels of the nodes");

    let listed = site.shell.run(list)?;
    let listed: Vec<_> = listed.lines().collect();
    ensure!(listed == site.internet.references(), "{listed:#?}");
    Ok(())
}

fn the_page_makes_a_configuration_for_oc_mirror(site: &Site, block: &str, mirror: &Registry) -> Result<()> {
    let not_here = block.lines().filter(|line| line.starts_with(NOT_HERE)).count();
    ensure!(not_here == 2 && block.lines().count() == 3, "{block}");
    site.run(block, mirror)?;
    let text = fs::read_to_string(site.files.path().join("imageset.yaml"))?;
    let set: serde_json::Value = serde_saphyr::from_str(&text)?;
    let names =
        set["mirror"]["additionalImages"].as_array().into_iter().flatten().filter_map(|image| image["name"].as_str());
    ensure!(names.eq(site.internet.references()), "{text}");
    Ok(())
}

/// The page's configuration of containerd, for each registry that the list names.
async fn nodes_find_the_mirror(site: &Site, mirror: &Registry) -> Result<()> {
    let section = Page::read(PAGE)?.section("3. Let nodes find them")?;
    let blocks = section.blocks("toml");
    let [hosts] = &blocks[..] else { anyhow::bail!("one configuration: {blocks:#?}") };
    ensure!(section.code().contains(&"/etc/containerd/certs.d/ghcr.io/hosts.toml"), "where the file is");
    let directory = site.files.path().join("certs.d");
    for registry in ["ghcr.io", "registry.hpc.example"] {
        let here = directory.join(registry);
        fs::create_dir_all(&here)?;
        let text = hosts
            .replace("ghcr.io", registry)
            .replace(&format!("https://{MIRROR}"), &format!("http://{}", mirror.name()));
        // Nothing else may answer.
        fs::write(here.join("hosts.toml"), text.replace(&format!("https://{registry}"), "http://127.0.0.1:1"))?;
    }
    let containerd = Containerd::start(None).await;
    for image in site.internet.references() {
        block_in_place(|| containerd.fetch(&directory, image)).map_err(anyhow::Error::msg).context(image.to_owned())?;
    }
    let other = block_in_place(|| containerd.fetch(&directory, "ghcr.io/somebody/else:1"));
    ensure!(other.is_err(), "an image that nobody has was found");
    Ok(())
}

/// Helm and kustomize with the names of the mirror.
fn what_is_installed_names_the_mirror(site: &Site, mirror: &Registry, see: &str) -> Result<()> {
    let section = Page::read(PAGE)?.section("3. Let nodes find them")?;
    let flag = *section.code().iter().find(|code| code.starts_with("--set ")).context("the flag for Helm")?;
    let flag = flag.replace(MIRROR, &mirror.name());
    site.shell.run(&format!(
        "kubectl create namespace {NAMESPACE}
         helm install cxi-operator deploy/helm/cxi-operator --namespace {NAMESPACE} {flag}"
    ))?;
    let pods = format!("kubectl -n {NAMESPACE} get pods -o name | grep -c cxi-operator");
    let deployment = "until [ \"$(kubectl -n cxi-operator get deployment cxi-operator -o jsonpath='{.status.replicas}')\" = 2 ]; do sleep 0.2; done";
    site.shell.run(&format!("{deployment}; [ \"$({pods})\" = 2 ]"))?;
    let seen = site.run(see, mirror)?;
    let name = format!("{}/cxi/cxi-operator/cxi-operator:{}", mirror.name(), env!("CARGO_PKG_VERSION"));
    ensure!(seen.split_whitespace().take(2).eq(["2", name.as_str()]), "{seen}");

    let airgap = overlay(site.files.path(), &format!("{}/cxi", mirror.name()))?;
    let kustomized = site.shell.run(&format!("kubectl kustomize '{}'", airgap.display()))?;
    let helmed = site.shell.run(&format!("helm get manifest cxi-operator --namespace {NAMESPACE}"))?;
    for (way, text) in [("Helm", helmed), ("kustomize", kustomized)] {
        let mut named: Vec<_> = text
            .split_whitespace()
            .map(|word| word.trim_matches('"'))
            .filter(|word| word.starts_with(&mirror.name()))
            .collect();
        named.sort_unstable();
        ensure!(named.len() == 3 && !text.contains("ghcr.io/"), "{way}: {named:?}");
        for image in named {
            site.shell.run(&format!("skopeo inspect --raw docker://{image}")).context(way)?;
        }
    }
    Ok(())
}

/// The overlay `airgap` with another mirror named in it, in a copy of `deploy/`.
fn overlay(files: &Path, registry: &str) -> Result<PathBuf> {
    let copy = files.join("deploy");
    let status = std::process::Command::new("cp").arg("-r").arg(root().join("deploy")).arg(&copy).status()?;
    ensure!(status.success(), "copy deploy/");
    let overlay = copy.join("kustomize/overlays/airgap");
    let file = overlay.join("mirror.yaml");
    let text = fs::read_to_string(&file)?;
    let (before, after) = text.split_once("registry: ").context("the registry in mirror.yaml")?;
    let (_, after) = after.split_once('\n').context("the end of the line")?;
    fs::write(&file, format!("{before}registry: {registry}\n{after}"))?;
    Ok(overlay)
}
