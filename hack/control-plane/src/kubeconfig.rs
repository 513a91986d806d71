//! Kubeconfig files, written as JSON, which every client takes as YAML.

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use serde_json::{Value, json};

use crate::{
    error::{Attempt, Result},
    pki::Pair,
};

/// How a user proves who it is.
#[derive(Debug)]
pub(crate) enum Credential<'a> {
    /// A client certificate.
    Certificate(&'a Pair),
    /// A bearer token.
    Token(&'a str),
}

/// The server that a kubeconfig points to.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// As in `https://127.0.0.1:6443`.
    pub(crate) server: String,
    /// The authority that signed the server's certificate, PEM.
    pub(crate) authority: String,
}

impl Cluster {
    /// Writes a kubeconfig for `user` that only this process's user may read.
    pub(crate) fn write(
        &self,
        path: &Path,
        user: &str,
        credential: &Credential<'_>,
        namespace: &str,
    ) -> Result<PathBuf> {
        let text = self.render(user, credential, namespace).to_string();
        fs::write(path, text)
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o600)))
            .attempt(|| format!("write the kubeconfig {}", path.display()))?;
        Ok(path.to_owned())
    }

    fn render(&self, user: &str, credential: &Credential<'_>, namespace: &str) -> Value {
        let credential = match credential {
            Credential::Certificate(pair) => json!({
                "client-certificate-data": BASE64.encode(&pair.certificate),
                "client-key-data": BASE64.encode(&pair.key),
            }),
            Credential::Token(token) => json!({ "token": token }),
        };
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{
                "name": "local",
                "cluster": {
                    "server": self.server,
                    "certificate-authority-data": BASE64.encode(&self.authority),
                },
            }],
            "users": [{ "name": user, "user": credential }],
            "contexts": [{
                "name": "local",
                "context": { "cluster": "local", "user": user, "namespace": namespace },
            }],
            "current-context": "local",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_context_joins_server_and_user() {
        let directory = tempfile::tempdir().unwrap();
        let cluster = Cluster { server: "https://127.0.0.1:1".to_owned(), authority: "PEM".to_owned() };
        let path = directory.path().join("config");
        let path = cluster.write(&path, "ada", &Credential::Token("secret"), "default").unwrap();
        let config: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        assert_eq!(config["clusters"][0]["cluster"]["server"], "https://127.0.0.1:1");
        assert_eq!(config["clusters"][0]["cluster"]["certificate-authority-data"], "UEVN");
        assert_eq!(config["contexts"][0]["context"]["user"], config["users"][0]["name"]);
        assert_eq!(config["users"][0]["user"]["token"], "secret");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
