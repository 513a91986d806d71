//! `docs/install.md`, command by command, on a real API server; and the commands of `docs/uninstall.md` that take away what each way
//! has installed.

use anyhow::{Context, Result, ensure};
use cxi_control_plane::{ControlPlane, Family, Options, Progress, Tool, Toolbox, prometheus_crds};

use crate::page::{Page, Shell, commands};

/// Commands that do not end, and those for kinds that only OLM v1 brings.
const NOT_HERE: [&str; 2] = ["--watch", "clusterextension.yaml "];

/// The blocks of a section, without what cannot run here.
fn blocks(page: &Page, section: &str) -> Result<Vec<String>> {
    let here = |line: &&str| !NOT_HERE.iter().any(|word| line.contains(word));
    let blocks = page.section(section)?.blocks("sh").into_iter();
    Ok(blocks.map(|block| block.lines().filter(here).collect::<Vec<_>>().join("\n")).collect())
}

/// How something that was installed in a way is taken away.
fn removal(way: &str) -> Result<String> {
    let page = Page::read("uninstall.md")?.section("With the drivers")?.after(&format!("\n| {way} |"))?;
    commands(&page, &["helm", "kubectl"]).first().map(|&command| command.to_owned()).context("a command")
}

/// A control plane that nothing is installed on, and the commands that people have.
struct Cluster {
    shell: Shell,
    _plane: ControlPlane,
}

impl Cluster {
    fn start() -> Result<Self> {
        let families = [Family::CONTROL_PLANE, &[Family::OlmChecks]].concat();
        let toolbox = Toolbox::ensure(&families, &Progress::stderr())?;
        let plane = ControlPlane::start(&toolbox, &Options::default())?;
        let shell = Shell::of(&plane)?.with_tool(Family::Helm, Tool::Helm)?;
        for crds in [toolbox.olm_crds()?.to_owned(), prometheus_crds(&Progress::stderr())?] {
            shell.run(&format!("kubectl create -f '{}'", crds.display()))?;
        }
        plane.wait_for_crds()?;
        Ok(Self { shell, _plane: plane })
    }

    fn run(&self, script: &str) -> Result<()> {
        self.shell.run(script).map(drop)
    }

    /// Nothing is left, not even what waits.
    fn is_empty(&self) -> Result<()> {
        let all = "kubectl get crds,namespaces,clusterroles,clusterrolebindings,validatingadmissionpolicies -o name";
        let all = self.shell.run(all)?;
        let left: Vec<_> = all.lines().filter(|name| name.contains("cxi")).collect();
        ensure!(left.is_empty(), "these are left: {left:?}");
        Ok(())
    }
}

#[test]
fn each_way_to_install_works_as_it_is_written_and_so_does_its_removal() -> Result<()> {
    let cluster = Cluster::start()?;
    let page = Page::read("install.md")?;
    let runs = "kubectl -n cxi-operator get deployment cxi-operator && kubectl get crd cxidrivers.cxi.hpe.com";

    let [helm] = &blocks(&page, "Helm")?[..] else { anyhow::bail!("one block for Helm") };
    cluster.run(helm)?;
    cluster.run(runs)?;
    cluster.run(&removal("Helm")?)?;
    cluster.run("kubectl get crd cxidrivers.cxi.hpe.com && kubectl get namespace cxi-operator")?;
    let rest = Page::read("uninstall.md")?.after("\nOLM and Helm leave CRDs and namespace")?;
    cluster.run(rest.blocks("sh").first().context("what takes away what Helm leaves")?)?;
    cluster.is_empty()?;

    let kustomize = &blocks(&page, "kustomize")?[0];
    cluster.run(kustomize)?;
    cluster.run(runs)?;
    cluster.run(&removal("kustomize")?)?;
    cluster.is_empty()?;

    let one_file = blocks(&page, "One file")?;
    ensure!(one_file.len() == 1, "{one_file:#?}");
    cluster.run(&one_file[0])?;
    cluster.run(runs)?;
    cluster.run(&removal("one file")?)?;
    cluster.is_empty()?;

    // What is beside a bundle applies where the operator's namespace is.
    cluster.run(&one_file[0])?;
    let olm = blocks(&page, "OperatorHub (OLM)")?;
    ensure!(olm.len() == 3, "{olm:#?}");
    for block in olm {
        cluster.run(&block)?;
    }
    cluster.run("kubectl -n cxi-operator get subscription,operatorgroup,podmonitor,networkpolicy")
}
