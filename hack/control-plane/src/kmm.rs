//! The real KMM beside the control plane: its CRDs, its admission webhook and its manager.

use std::{
    fs,
    net::{Ipv4Addr, TcpStream},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use crate::{
    addresses::NAMESPACE,
    control_plane::ControlPlane,
    error::{Attempt, Error, Result},
    pki::Pair,
    ports::{free_port, on_free_ports},
    process::{Process, wait_until},
    tools::Tool,
};

/// The processes of KMM.
const MANAGER: &str = "kmm-manager";
pub(crate) const WEBHOOK_SERVER: &str = "kmm-webhook-server";

const CONFIG_MAP: &str = "kmm-config";

/// What the manager logs once for each controller when its caches are filled.
const MANAGER_STARTED: &str = "Starting workers";

impl ControlPlane {
    /// Installs KMM: CRDs, configuration, service account, and the admission webhook with its server running.
    /// The manager starts with [`ControlPlane::start_kmm`].
    ///
    /// The garbage collector looks for new types every 30 s: until then it leaves objects alone whose owner is of
    /// a type installed here.
    ///
    /// # Errors
    /// If KMM's family is not in the toolbox, or the API server or the webhook server fails.
    pub fn install_kmm(&self) -> Result<()> {
        on_free_ports(|| self.install_kmm_once())
    }

    fn install_kmm_once(&self) -> Result<()> {
        let manifests = self.toolbox.kmm_manifests()?;
        let port = free_port()?;
        let crds = manifests.join("crd/bases").display().to_string();
        self.kubectl_with_input(
            &["apply", "--server-side", "--force-conflicts", "-f", &crds, "-f", "-"],
            &documents(objects(port).into_iter()),
        )?;
        let mut webhook = self.start_webhook_server(&self.authority.server()?)?;
        // Meanwhile the webhook server starts: it needs none of the CRDs.
        self.wait_for_crds()?;
        wait_until(&mut webhook, "KMM's webhook server", |_| TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok())?;
        self.add_ons().insert(WEBHOOK_SERVER.to_owned(), webhook);
        self.register_webhook(&manifests.join("webhook/manifests.yaml"), port)
    }

    /// Starts the KMM manager and returns when its controllers run.
    ///
    /// # Errors
    /// If KMM is not installed, or the manager fails; the error shows the end of its log.
    pub fn start_kmm(&self) -> Result<()> {
        let kubeconfig = self.user_kubeconfig("kmm-manager", Some("system:masters"))?;
        let log = self.data_dir().join("kmm-manager.log");
        let mut add_ons = self.add_ons();
        if add_ons.get_mut(MANAGER).is_some_and(Process::is_running) {
            return Ok(());
        }
        // The log goes on across restarts: what an earlier manager said does not count.
        let offset = fs::metadata(&log).map_or(0, |metadata| metadata.len());
        let manager = self.toolbox.path(Tool::KmmManager)?;
        let mut process = Process::start(MANAGER, manager, &log, |command| {
            command
                .arg(format!("--config={CONFIG_MAP}"))
                .env("KUBECONFIG", &kubeconfig)
                .env("OPERATOR_NAMESPACE", NAMESPACE)
                // References only: no image is ever run here.
                .env("RELATED_IMAGE_WORKER", "kmm-worker:test")
                .env("RELATED_IMAGE_BUILD", "kmm-build:test")
                .env("RELATED_IMAGE_SIGN", "kmm-sign:test");
        })?;
        wait_until(&mut process, "the KMM manager", |process| {
            let log = process.log_text();
            usize::try_from(offset).ok().and_then(|offset| log.get(offset..)).unwrap_or(&log).contains(MANAGER_STARTED)
        })?;
        add_ons.insert(MANAGER.to_owned(), process);
        Ok(())
    }

    /// Kills the KMM manager as SIGKILL does and returns when it is gone. Webhook and objects stay.
    pub fn stop_kmm(&self) {
        self.add_ons().remove(MANAGER);
    }

    /// Whether the KMM manager runs.
    pub fn kmm_running(&self) -> bool {
        self.add_ons().get_mut(MANAGER).is_some_and(Process::is_running)
    }

    pub(crate) fn start_webhook_server(&self, pair: &Pair) -> Result<Process> {
        // A server from an earlier install listens on another port than the configuration now says.
        self.add_ons().remove(WEBHOOK_SERVER);
        let temporary = self.data_dir().join("kmm-webhook");
        // Where controller-runtime looks when it is not told: under the temporary directory.
        let certificates = temporary.join("k8s-webhook-server/serving-certs");
        fs::create_dir_all(&certificates).attempt(|| format!("create {}", certificates.display()))?;
        for (name, text) in [("tls.crt", &pair.certificate), ("tls.key", &pair.key)] {
            let path = certificates.join(name);
            fs::write(&path, text).attempt(|| format!("write {}", path.display()))?;
        }
        let kubeconfig = self.user_kubeconfig("kmm-webhook", Some("system:masters"))?;
        let log = self.data_dir().join("kmm-webhook-server.log");
        let server = self.toolbox.path(Tool::KmmWebhookServer)?;
        Process::start(WEBHOOK_SERVER, server, &log, |command| {
            command
                .arg(format!("--config={CONFIG_MAP}"))
                .args(["--enable-module", "--enable-namespace", "--enable-preflightvalidation"])
                .env("KUBECONFIG", &kubeconfig)
                .env("OPERATOR_NAMESPACE", NAMESPACE)
                .env("TMPDIR", &temporary);
        })
    }

    fn register_webhook(&self, manifest: &Path, port: u16) -> Result<()> {
        let manifest = manifest.display().to_string();
        // kubectl as the YAML parser.
        let text = self.kubectl(&["create", "--dry-run=client", "--output=json", "--filename", &manifest])?;
        let mut configuration = point_webhooks_at(&text, port, &self.authority.certificate())?;
        configuration["metadata"] = json!({ "name": "kmm-validating-webhook" });
        self.apply(&configuration.to_string())?;
        Ok(())
    }
}

/// A stream of JSON documents. Not a List: kubectl would ask for another, slower schema to validate that, which takes the API
/// server a second.
pub(crate) fn documents(objects: impl Iterator<Item = Value>) -> String {
    objects.map(|object| object.to_string()).collect::<Vec<_>>().join("\n")
}

/// What KMM needs beside its own CRDs.
pub(crate) fn objects(webhook_port: u16) -> [Value; 5] {
    let metadata = |name: &str| json!({ "name": name, "namespace": NAMESPACE });
    [
        stand_in("build.openshift.io", "Build", "build", "builds"),
        stand_in("image.openshift.io", "ImageStream", "imagestream", "imagestreams"),
        json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": { "name": NAMESPACE } }),
        // The account that this flavour of KMM gives a worker whose Module names none.
        json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata("kmm-operator-module-loader") }),
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(CONFIG_MAP),
            "data": { "controller_config.yaml": configuration(webhook_port).to_string() },
        }),
    ]
}

/// KMM's configuration. It is read strictly: one unknown key and KMM uses its defaults, which need a cluster.
fn configuration(webhook_port: u16) -> Value {
    json!({
        "healthProbeBindAddress": "0",
        "leaderElection": { "enabled": false },
        "metrics": { "bindAddress": "0", "enableAuthnAuthz": false, "secureServing": false },
        "webhook": { "port": webhook_port },
        "worker": { "firmwareHostPath": "/lib/firmware" },
        "job": { "gcDelay": "0s" },
    })
}

/// A CRD for a type of OpenShift that KMM watches and never sees an object of.
fn stand_in(group: &str, kind: &str, singular: &str, plural: &str) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{group}") },
        "spec": {
            "group": group,
            "scope": "Namespaced",
            "names": { "kind": kind, "listKind": format!("{kind}List"), "singular": singular, "plural": plural },
            "versions": [{
                "name": "v1",
                "served": true,
                "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } },
            }],
        },
    })
}

/// The webhook configuration `text` with every service reference replaced by a URL on the loopback address.
fn point_webhooks_at(text: &str, port: u16, authority: &str) -> Result<Value> {
    let not_understood = |why: String| Error::Unexpected { what: "KMM's webhook manifest".to_owned(), why };
    let mut configuration: Value = serde_json::from_str(text).map_err(|error| not_understood(error.to_string()))?;
    let webhooks = configuration["webhooks"].as_array_mut().ok_or_else(|| not_understood("no webhooks".to_owned()))?;
    for webhook in webhooks {
        let path = webhook["clientConfig"]["service"]["path"]
            .as_str()
            .ok_or_else(|| not_understood("a webhook without a service path".to_owned()))?;
        webhook["clientConfig"] = json!({
            "url": format!("https://127.0.0.1:{port}{path}"),
            "caBundle": BASE64.encode(authority),
        });
    }
    Ok(configuration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_become_urls() {
        let manifest = json!({
            "kind": "ValidatingWebhookConfiguration",
            "metadata": { "name": "x", "creationTimestamp": null },
            "webhooks": [{ "name": "v", "clientConfig": { "service": { "name": "s", "namespace": "n", "path": "/v" } } }],
        });
        let configuration = point_webhooks_at(&manifest.to_string(), 7, "PEM").unwrap();
        let client = &configuration["webhooks"][0]["clientConfig"];
        assert_eq!(*client, json!({ "url": "https://127.0.0.1:7/v", "caBundle": "UEVN" }));
    }

    #[test]
    fn a_manifest_without_webhooks_is_refused() {
        for text in ["", "{}", r#"{"webhooks":[{"clientConfig":{}}]}"#] {
            assert!(point_webhooks_at(text, 7, "PEM").is_err(), "{text}");
        }
    }
}
