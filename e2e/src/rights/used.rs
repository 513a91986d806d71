//! What was asked of API servers, by their own account.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context, Result};
use cxi_control_plane::NAMESPACE;
use serde::Deserialize;

use crate::rights::{Right, Scope};

/// `User-Agent` of tests that borrow an account to see what it may not do.
pub const PROBE: &str = "cxi-probe";

/// Requests of our accounts.
#[derive(Debug, Default)]
pub struct Requests {
    /// Allowed by our own roles: how often.
    pub used: BTreeMap<Right, usize>,
    /// Refused because no role allows them: how often, with the name of one object.
    pub refused: BTreeMap<Right, (usize, String)>,
}

/// An audit event (`audit.k8s.io/v1`).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    user: User,
    #[serde(default)]
    user_agent: String,
    object_ref: Option<Object>,
    #[serde(default)]
    response_status: Response,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Response {
    code: u16,
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Object {
    api_group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
}

impl Requests {
    /// Adds those of a log.
    ///
    /// # Errors
    /// If it cannot be read. A last line that is not whole is left out: its server was killed.
    pub fn read(&mut self, log: &Path) -> Result<()> {
        let file = File::open(log).with_context(|| format!("open {}", log.display()))?;
        for line in BufReader::new(file).lines() {
            let line = line.with_context(|| format!("read {}", log.display()))?;
            if let Ok(event) = serde_json::from_str(&line) {
                self.add(event);
            }
        }
        Ok(())
    }

    fn add(&mut self, event: Event) {
        let account = event.user.username.strip_prefix("system:serviceaccount:").and_then(|name| {
            let (namespace, account) = name.split_once(':')?;
            (namespace == NAMESPACE).then(|| account.to_owned())
        });
        // A watch that ends was counted when it began.
        let began = event.stage == "ResponseStarted" || event.verb != "watch";
        let (Some(account), Some(object), true) = (account, event.object_ref, began) else { return };
        if event.user_agent == PROBE {
            return;
        }
        let say = |key: &str| event.annotations.get(&format!("authorization.k8s.io/{key}")).map_or("", String::as_str);
        let resource = match object.subresource.as_str() {
            "" => object.resource,
            subresource => format!("{}/{subresource}", object.resource),
        };
        let mut right = Right { account, scope: Scope::Cluster, group: object.api_group, resource, verb: event.verb };
        // To apply what is not there is to create it: asked for in the same request, and not written down by itself.
        let Response { code, message } = event.response_status;
        let may_not_create = code == 403 && message.contains("cannot create resource");
        if say("decision") == "forbid" || may_not_create {
            if object.namespace == NAMESPACE {
                right.scope = Scope::Namespace;
            }
            if may_not_create {
                "create".clone_into(&mut right.verb);
            }
            self.refused.entry(right).or_insert((0, object.name)).0 += 1;
            return;
        }
        // Whatever others allow, as Kubernetes allows everybody to ask which APIs there are, is not from our table.
        let binding =
            |kind: &str, name: &str| say("reason").starts_with(&format!("RBAC: allowed by {kind} \"{name}\""));
        if binding("RoleBinding", &format!("{}/{NAMESPACE}", right.account)) {
            right.scope = Scope::Namespace;
        } else if !binding("ClusterRoleBinding", &right.account) {
            return;
        }
        if right.verb == "patch" && code == 201 {
            let created = Right { verb: "create".to_owned(), ..right.clone() };
            *self.used.entry(created).or_default() += 1;
        }
        *self.used.entry(right).or_default() += 1;
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// What an API server writes; `by` is the reason for which it allows, and nothing is allowed without.
    pub fn event(verb: &str, object: &Value, by: &str) -> Value {
        let decision = if by.is_empty() { "forbid" } else { "allow" };
        json!({
            "stage": "ResponseComplete", "verb": verb, "userAgent": "x", "objectRef": object,
            "user": { "username": "system:serviceaccount:cxi-operator:cxi-agent" },
            "annotations": {
                "authorization.k8s.io/decision": decision,
                "authorization.k8s.io/reason": format!("RBAC: allowed by {by} of … to …"),
            },
        })
    }

    pub fn requests(events: &[Value]) -> Requests {
        let log = tempfile::NamedTempFile::new().unwrap();
        let lines: Vec<_> = events.iter().map(Value::to_string).collect();
        std::fs::write(log.path(), lines.join("\n") + "\n{\"stage\":").unwrap();
        let mut requests = Requests::default();
        requests.read(log.path()).unwrap();
        requests
    }

    pub fn right(scope: Scope, resource: &str, verb: &str) -> Right {
        let group = "cxi.hpe.com".to_owned();
        Right { account: "cxi-agent".into(), scope, group, resource: resource.into(), verb: verb.into() }
    }

    #[test]
    fn requests_are_told_apart() {
        let node = json!({ "apiGroup": "cxi.hpe.com", "resource": "cxinodes", "name": "n1" });
        let status = json!({ "apiGroup": "cxi.hpe.com", "resource": "cxinodes", "subresource": "status", "namespace": NAMESPACE });
        let ours = "ClusterRoleBinding \"cxi-agent\"";
        let mut watch = event("watch", &node, ours);
        watch["stage"] = json!("ResponseStarted");
        let mut probe = event("delete", &node, "");
        probe["userAgent"] = json!(PROBE);
        let mut other = event("delete", &node, "");
        other["user"]["username"] = json!("system:serviceaccount:kube-system:cxi-agent");
        let mut created = event("patch", &status, ours);
        created["responseStatus"] = json!({ "code": 201 });
        let mut not_created = event("patch", &node, ours);
        not_created["responseStatus"] = json!({ "code": 403, "message": "… cannot create resource \"cxinodes\" …" });
        let requests = requests(&[
            created,
            not_created,
            event("patch", &status, "RoleBinding \"cxi-agent/cxi-operator\""),
            event("get", &node, "ClusterRoleBinding \"cxi-agent-more\""),
            event("get", &node, "ClusterRoleBinding \"system:discovery\""),
            watch.clone(),
            event("watch", &node, ours),
            event("delete", &node, ""),
            event("delete", &status, ""),
            probe,
            other,
        ]);
        let used = [
            (right(Scope::Cluster, "cxinodes", "watch"), 1),
            (right(Scope::Cluster, "cxinodes/status", "patch"), 1),
            (right(Scope::Cluster, "cxinodes/status", "create"), 1),
            (right(Scope::Namespace, "cxinodes/status", "patch"), 1),
        ];
        assert_eq!(requests.used, BTreeMap::from(used));
        let refused = [
            (right(Scope::Cluster, "cxinodes", "create"), (1, "n1".to_owned())),
            (right(Scope::Cluster, "cxinodes", "delete"), (1, "n1".to_owned())),
            (right(Scope::Namespace, "cxinodes/status", "delete"), (1, String::new())),
        ];
        assert_eq!(requests.refused, BTreeMap::from(refused));
    }
}
