//! The command lines of etcd and the Kubernetes servers.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::json;

use crate::{
    error::{Attempt, Result},
    options::Options,
    pki::{Authority, signing_keys},
    ports::Ports,
    request_log,
};

/// The files that the servers read, in the data directory.
#[derive(Debug)]
pub(crate) struct Files {
    pub(crate) authority: PathBuf,
    certificate: PathBuf,
    key: PathBuf,
    tokens_private: PathBuf,
    tokens_public: PathBuf,
    audit_policy: PathBuf,
    /// Where the audit log goes if there is one.
    pub(crate) audit_log: PathBuf,
    /// What requests of our service accounts are logged by, and where, if they are.
    request_log: Option<(PathBuf, PathBuf)>,
}

impl Files {
    /// Writes them all.
    pub(crate) fn write(directory: &Path, authority: &Authority, request_log: Option<PathBuf>) -> Result<Self> {
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).attempt(|| format!("write {}", path.display()))?;
            Ok(path)
        };
        let (server, tokens) = (authority.server()?, signing_keys()?);
        let request_policy = write("request-policy.json", &request_log::policy().to_string())?;
        Ok(Self {
            authority: write("ca.crt", &authority.certificate())?,
            certificate: write("apiserver.crt", &server.certificate)?,
            key: write("apiserver.key", &server.key)?,
            tokens_private: write("service-accounts.key", &tokens.private)?,
            tokens_public: write("service-accounts.pub", &tokens.public)?,
            audit_policy: write("audit-policy.json", &audit_policy().to_string())?,
            audit_log: directory.join("audit.log"),
            request_log: request_log.map(|log| (request_policy, log)),
        })
    }
}

/// Writes with their bodies, reads by their metadata, both when complete. Leases and events would drown the rest.
fn audit_policy() -> serde_json::Value {
    let noise = [
        json!({ "group": "coordination.k8s.io", "resources": ["leases"] }),
        json!({ "group": "", "resources": ["events"] }),
        json!({ "group": "events.k8s.io", "resources": ["events"] }),
    ];
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            { "level": "Metadata", "resources": noise },
            { "level": "RequestResponse", "verbs": ["create", "update", "patch", "delete", "deletecollection"] },
            { "level": "Metadata" },
        ],
    })
}

/// Arguments of etcd. Nothing survives the process, so nothing needs to reach the disk.
pub(crate) fn etcd(data: &Path, ports: Ports) -> Vec<String> {
    let client = format!("http://127.0.0.1:{}", ports.etcd);
    let peer = format!("http://127.0.0.1:{}", ports.etcd_peer);
    vec![
        flag("data-dir", data.display()),
        flag("listen-client-urls", &client),
        flag("advertise-client-urls", &client),
        flag("listen-peer-urls", &peer),
        flag("initial-advertise-peer-urls", &peer),
        flag("initial-cluster", format_args!("default={peer}")),
        "--unsafe-no-fsync".to_owned(),
    ]
}

/// Arguments of kube-apiserver.
pub(crate) fn apiserver(data: &Path, files: &Files, ports: Ports, options: &Options) -> Vec<String> {
    let mut arguments = vec![
        flag("etcd-servers", format_args!("http://127.0.0.1:{}", ports.etcd)),
        flag("bind-address", "127.0.0.1"),
        flag("advertise-address", "127.0.0.1"),
        flag("secure-port", ports.apiserver),
        flag("cert-dir", data.join("certificates").display()),
        flag("tls-cert-file", files.certificate.display()),
        flag("tls-private-key-file", files.key.display()),
        flag("client-ca-file", files.authority.display()),
        flag("service-account-issuer", "https://kubernetes.default.svc"),
        flag("service-account-key-file", files.tokens_public.display()),
        flag("service-account-signing-key-file", files.tokens_private.display()),
        flag("authorization-mode", "Node,RBAC"),
        flag("service-cluster-ip-range", "10.96.0.0/16"),
        flag("endpoint-reconciler-type", "none"),
        flag("allow-privileged", "true"),
    ];
    // A server writes one log; the one that was asked for comes first.
    let logged = files.request_log.as_ref().map(|(policy, log)| (policy, log));
    if let Some((policy, log)) = options.audit.then_some((&files.audit_policy, &files.audit_log)).or(logged) {
        arguments.push(flag("audit-policy-file", policy.display()));
        arguments.push(flag("audit-log-path", log.display()));
        // In MiB. At 100, its default, a server with a hundred nodes begins another file, and who counts loses the first.
        arguments.push(flag("audit-log-maxsize", 100_000));
    }
    arguments.extend(options.apiserver_args.iter().cloned());
    arguments
}

/// Arguments of kube-controller-manager. The `ttl` controller only annotates nodes, which would show up as writes
/// of ours in every count.
pub(crate) fn controller_manager(kubeconfig: &Path, files: &Files) -> Vec<String> {
    let mut arguments = client(kubeconfig);
    arguments.extend([
        flag("controllers", "*,-ttl"),
        flag("use-service-account-credentials", "true"),
        flag("service-account-private-key-file", files.tokens_private.display()),
        flag("root-ca-file", files.authority.display()),
    ]);
    arguments
}

/// Arguments of kube-scheduler.
pub(crate) fn scheduler(kubeconfig: &Path) -> Vec<String> {
    client(kubeconfig)
}

/// What both clients of the API server take: no port of their own, and a rate limit that never shows in a test.
fn client(kubeconfig: &Path) -> Vec<String> {
    vec![
        flag("kubeconfig", kubeconfig.display()),
        flag("leader-elect", "false"),
        flag("bind-address", "127.0.0.1"),
        flag("secure-port", "0"),
        flag("kube-api-qps", "500"),
        flag("kube-api-burst", "1000"),
    ]
}

fn flag(name: &str, value: impl std::fmt::Display) -> String {
    format!("--{name}={value}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_differ() {
        let ports = Ports::choose().unwrap();
        assert_ne!(ports.etcd, ports.etcd_peer);
        assert_ne!(ports.etcd, ports.apiserver);
        assert_ne!(ports.etcd_peer, ports.apiserver);
    }

    #[test]
    fn options_reach_the_api_server() {
        let directory = tempfile::tempdir().unwrap();
        let files = |log| Files::write(directory.path(), &Authority::new().unwrap(), log).unwrap();
        let (unlogged, logged) = (files(None), files(Some("/requests.log".into())));
        let ports = Ports { etcd: 1, etcd_peer: 2, apiserver: 3 };
        let with = |files: &Files, options: &Options| apiserver(directory.path(), files, ports, options).join(" ");
        let arguments = |options: &Options| with(&unlogged, options);
        let plain = arguments(&Options::default());
        assert!(plain.contains("--secure-port=3") && !plain.contains("audit"), "{plain}");
        let options = Options { audit: true, apiserver_args: vec!["--v=4".to_owned()], ..Options::default() };
        let all = arguments(&options);
        assert!(all.contains("--audit-log-path=") && all.ends_with("--v=4"), "{all}");
        assert!(with(&logged, &Options::default()).contains("--audit-log-path=/requests.log"));
        assert_eq!(with(&logged, &options).matches("--audit-log-path=").count(), 1);
    }
}
