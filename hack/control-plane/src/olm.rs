//! The real Operator Lifecycle Manager beside the control plane: its CRDs, both of its operators, and catalogs.
//!
//! There are no containers: what OLM would run in pods for itself runs here, and a catalog is reached by address. Its two
//! operators listen on port 8080 where that is free, and do without where it is not. KMM's webhook, which OLM installs with a
//! Service and a certificate of its own making, is reached by that Service and proves itself with that certificate.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    path::Path,
    process::Command,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use crate::{
    addresses::NAMESPACE,
    command,
    control_plane::ControlPlane,
    error::{Error, Result},
    kmm,
    pki::Pair,
    ports::{free_port, on_free_ports},
    process::{Process, wait_until},
    tools::Tool,
};

/// The namespace of OLM itself, in which it looks for catalogs that are everybody's.
pub const OLM_NAMESPACE: &str = "olm";

/// What the operators log once their caches are filled.
const SYNCED: &str = "starting workers";

/// The Service that OLM makes for KMM's webhooks, and its port.
const KMM_WEBHOOK: (&str, u16) = ("kmm-operator-webhook-service", 443);

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
        let names = [Tool::OlmOperator, Tool::OlmCatalog].map(|tool| tool.name().to_owned());
        self.add_ons().extend(names.into_iter().zip(operators));
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
            // It makes a directory for its cache, and would leave it behind when it is killed.
            command.env("TMPDIR", self.data_dir());
            command.arg("serve").arg(catalog).arg(format!("--port={port}")).args([
                "--cache-dir=",
                "--termination-log=",
                "--pprof-addr=",
            ]);
        })?;
        wait_until(&mut server, "the catalog", |_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        self.add_ons().insert(format!("catalog on {port}"), server);
        Ok(format!("127.0.0.1:{port}"))
    }

    /// Runs the webhook server of a KMM that OLM installed in [`NAMESPACE`], as the pod of its Deployment would, and lets the
    /// API server reach it. The manager starts with [`ControlPlane::start_kmm`].
    ///
    /// # Errors
    /// If OLM has not made Service and certificate, [`Options::services`](crate::Options::services) is not set, or the
    /// webhook server fails.
    pub fn adopt_kmm(&self) -> Result<()> {
        on_free_ports(|| self.adopt_kmm_once())
    }

    fn adopt_kmm_once(&self) -> Result<()> {
        let (service, service_port) = KMM_WEBHOOK;
        let address = SocketAddr::new(self.service_address(service)?, service_port);
        let certificate = self.certificate_of_olm(service)?;
        let port = free_port()?;
        // The namespace is somebody else's, with labels that are to stay.
        let objects = kmm::documents(kmm::objects(port).into_iter().filter(|object| object["kind"] != "Namespace"));
        self.kubectl_with_input(&["apply", "--server-side", "--force-conflicts", "-f", "-"], &objects)?;
        let mut webhook = self.start_webhook_server(&certificate)?;
        self.wait_for_crds()?;
        wait_until(&mut webhook, "KMM's webhook server", |_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        self.add_ons().insert(kmm::WEBHOOK_SERVER.to_owned(), webhook);
        let no_way = || unexpected(service, "this control plane was started without a way to Services".to_owned());
        self.services.as_ref().ok_or_else(no_way)?.answer(address, port);
        Ok(())
    }

    /// The address that a Service got.
    fn service_address(&self, name: &str) -> Result<IpAddr> {
        let address = ["get", "service", name, "--namespace", NAMESPACE, "--output=jsonpath={.spec.clusterIP}"];
        let address = self.kubectl(&address)?;
        address.parse().map_err(|_| unexpected(name, format!("its address is {address:?}")))
    }

    /// What OLM made for a Service to prove itself with.
    fn certificate_of_olm(&self, service: &str) -> Result<Pair> {
        let name = format!("{service}-cert");
        let secret = self.kubectl(&["get", "secret", &name, "--namespace", NAMESPACE, "--output=jsonpath={.data}"])?;
        let data: Value = serde_json::from_str(&secret).map_err(|error| unexpected(&name, error.to_string()))?;
        let part = |key: &str| -> Result<String> {
            let text = data[key].as_str().ok_or_else(|| unexpected(&name, format!("it has no {key}")))?;
            let bytes = BASE64.decode(text).map_err(|error| unexpected(&name, error.to_string()))?;
            String::from_utf8(bytes).map_err(|error| unexpected(&name, error.to_string()))
        };
        Ok(Pair { certificate: part("tls.crt")?, key: part("tls.key")? })
    }
}

fn unexpected(what: &str, why: String) -> Error {
    Error::Unexpected { what: what.to_owned(), why }
}
