//! The real Operator Lifecycle Manager beside the control plane: its CRDs, both of its operators, and catalogs.
//!
//! There are no containers: what OLM would run in pods for itself runs here, and a catalog is reached by address. Its two
//! operators listen on port 8080 where that is free, and do without where it is not.

use std::{
    net::{Ipv4Addr, TcpStream},
    path::Path,
    process::Command,
    sync::{MutexGuard, PoisonError},
};

use serde_json::json;

use crate::{
    command,
    control_plane::ControlPlane,
    error::Result,
    process::{Process, wait_until},
    servers::free_port,
    tools::Tool,
};

/// The namespace of OLM itself, in which it looks for catalogs that are everybody's.
pub const OLM_NAMESPACE: &str = "olm";

/// What the operators log once their caches are filled.
const SYNCED: &str = "starting workers";

/// The processes of OLM.
#[derive(Debug, Default)]
pub(crate) struct Olm(Vec<Process>);

impl Olm {
    /// Lets all of them end, without waiting for them.
    pub(crate) fn release(&mut self) {
        self.0.iter_mut().for_each(Process::release);
    }
}

impl ControlPlane {
    /// Installs OLM's CRDs, starts olm-operator and catalog-operator, and returns when their controllers run.
    ///
    /// # Errors
    /// If OLM's family is not in the toolbox, or an operator fails; the error shows the end of its log.
    pub fn start_olm(&self) -> Result<()> {
        let crds = self.toolbox.olm_crds()?.display().to_string();
        let namespace = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": OLM_NAMESPACE } });
        let apply = ["apply", "--server-side", "--force-conflicts", "-f", &crds, "-f", "-"];
        self.kubectl_with_input(&apply, &namespace.to_string())?;
        self.wait_for_crds()?;
        let kubeconfig = self.user_kubeconfig("olm", Some("system:masters"))?;
        let start = |tool: Tool, arguments: &[&str]| {
            let log = self.data_dir().join(format!("{}.log", tool.name()));
            Process::start(tool.name(), self.toolbox.path(tool)?, &log, |command| {
                command
                    .args(["--namespace", OLM_NAMESPACE, "--writeStatusName="])
                    .args(arguments)
                    .env("KUBECONFIG", &kubeconfig)
                    .env("OPERATOR_NAME", "olm-operator")
                    .env("OPERATOR_NAMESPACE", OLM_NAMESPACE);
            })
        };
        // References only: bundles come from the catalog in full, so nothing is unpacked.
        let images = ["--configmapServerImage=none", "--util-image=none", "--opmImage=none"];
        let mut operators =
            [start(Tool::OlmOperator, &["--writePackageServerStatusName="])?, start(Tool::OlmCatalog, &images)?];
        for operator in &mut operators {
            wait_until(operator, "OLM", |process| process.log_text().contains(SYNCED))?;
        }
        self.olm().0.extend(operators);
        Ok(())
    }

    /// What a catalog says of a bundle, from the bundle's directory and in full.
    ///
    /// # Errors
    /// If opm is not in the toolbox, or does not understand the bundle.
    pub fn render_bundle(&self, bundle: &Path) -> Result<String> {
        command::output(Command::new(self.toolbox.path(Tool::Opm)?).args(["render", "-o", "yaml"]).arg(bundle))
    }

    /// Serves the catalog in a directory, and returns the address for a `CatalogSource`.
    ///
    /// # Errors
    /// If opm is not in the toolbox, or does not understand the catalog.
    pub fn serve_catalog(&self, catalog: &Path) -> Result<String> {
        let port = free_port()?;
        let log = self.data_dir().join("catalog.log");
        let mut server = Process::start("opm", self.toolbox.path(Tool::Opm)?, &log, |command| {
            command.arg("serve").arg(catalog).arg(format!("--port={port}")).args([
                "--cache-dir=",
                "--termination-log=",
                "--pprof-addr=",
            ]);
        })?;
        wait_until(&mut server, "the catalog", |_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        self.olm().0.push(server);
        Ok(format!("127.0.0.1:{port}"))
    }

    pub(crate) fn olm(&self) -> MutexGuard<'_, Olm> {
        // Nothing that holds the lock leaves the list half changed.
        self.olm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
