//! `docs/install.md`, command by command, on a real API server.

use std::{env, fs, path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use cxi_control_plane::{ControlPlane, Family, Options, Progress, Tool, Toolbox, prometheus_crds};

/// Commands that do not end, and those for kinds that only OLM v1 brings.
const NOT_HERE: [&str; 2] = ["--watch", "clusterextension.yaml "];

/// The commands of each block in a section.
fn commands(section: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/install.md"))?;
    let (_, rest) = text.split_once(&format!("\n## {section}\n")).with_context(|| format!("no section {section}"))?;
    let section = rest.split("\n## ").next().unwrap_or_default();
    let blocks = section.split("\n```sh\n").skip(1).map(|rest| rest.split("\n```").next().unwrap_or_default());
    let here = |line: &&str| !NOT_HERE.iter().any(|word| line.contains(word));
    Ok(blocks.map(|block| block.lines().filter(here).collect::<Vec<_>>().join("\n")).collect())
}

/// A control plane that nothing is installed on, and the commands that people have.
struct Cluster {
    plane: ControlPlane,
    path: String,
}

impl Cluster {
    fn start() -> Result<Self> {
        let families = [Family::CONTROL_PLANE, &[Family::OlmChecks, Family::Helm]].concat();
        let toolbox = Toolbox::ensure(&families, &Progress::stderr())?;
        let directory = |tool| Ok::<_, anyhow::Error>(toolbox.path(tool)?.parent().context("a directory")?.to_owned());
        let mut path = vec![directory(Tool::Kubectl)?, directory(Tool::Helm)?];
        path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
        let path = env::join_paths(path)?.into_string().ok().context("PATH is no text")?;
        let plane = ControlPlane::start(&toolbox, &Options::default())?;
        let cluster = Self { plane, path };
        for crds in [toolbox.olm_crds()?.to_owned(), prometheus_crds(&Progress::stderr())?] {
            cluster.run(&format!("kubectl create -f '{}'", crds.display()))?;
        }
        cluster.plane.wait_for_crds()?;
        Ok(cluster)
    }

    /// Runs commands in the root of the repository, as somebody with a checkout does.
    fn run(&self, script: &str) -> Result<()> {
        let home = self.plane.data_dir().join("home");
        fs::create_dir_all(&home)?;
        let mut command = Command::new("timeout");
        command.args(["300", "sh", "-euxc", script]).current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(".."));
        command.env("PATH", &self.path).env("KUBECONFIG", self.plane.kubeconfig()).env("HOME", home);
        let output = command.output()?;
        ensure!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        Ok(())
    }
}

#[test]
fn each_way_to_install_works_as_it_is_written() -> Result<()> {
    let cluster = Cluster::start()?;
    let runs = "kubectl -n cxi-operator get deployment cxi-operator && kubectl get crd cxidrivers.cxi.hpe.com";
    let goes = "kubectl delete namespace cxi-operator && kubectl delete -f deploy/crds";

    let [helm] = &commands("Helm")?[..] else { anyhow::bail!("one block for Helm") };
    cluster.run(helm)?;
    cluster.run(runs)?;
    cluster.run("helm uninstall cxi-operator --namespace cxi-operator")?;
    cluster.run(goes)?;

    let kustomize = &commands("kustomize")?[0];
    cluster.run(kustomize)?;
    cluster.run(runs)?;
    cluster.run("kubectl delete -k deploy/kustomize/overlays/default")?;

    for block in commands("One file")? {
        cluster.run(&block)?;
        cluster.run(runs)?;
    }
    let olm = commands("OperatorHub (OLM)")?;
    ensure!(olm.len() == 3, "{olm:#?}");
    for block in olm {
        cluster.run(&block)?;
    }
    cluster.run("kubectl -n cxi-operator get subscription,operatorgroup,podmonitor,networkpolicy")
}
