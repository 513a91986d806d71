//! What the operator asked of the API server, counted from the server's own audit log.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use anyhow::{Context, Result};
use serde::Deserialize;

/// User name of the operator's `ServiceAccount`.
const OPERATOR_USER: &str = "system:serviceaccount:cxi-operator:cxi-operator";

/// Requests of the operator by verb and resource, without those of its Lease and without watches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requests {
    counts: BTreeMap<(String, String), usize>,
    evicted: usize,
    /// Those that the operator had no right to, watches and those of the Lease included.
    forbidden: BTreeSet<(String, String)>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    stage: String,
    verb: String,
    user: User,
    object_ref: Option<ObjectRef>,
    response_status: Option<Response>,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize)]
struct ObjectRef {
    #[serde(default)]
    resource: String,
    subresource: Option<String>,
}

#[derive(Deserialize)]
struct Response {
    #[serde(default)]
    code: u16,
}

impl Requests {
    /// Counts a whole log.
    ///
    /// # Errors
    /// If the log cannot be read. Lines that are not whole yet are left out.
    pub fn read(log: &Path) -> Result<Self> {
        let file = File::open(log).with_context(|| format!("open the audit log {}", log.display()))?;
        let mut requests = Self::default();
        for line in BufReader::new(file).lines() {
            let line = line.context("read the audit log")?;
            let Ok(entry) = serde_json::from_str::<Entry>(&line) else { continue };
            requests.add(&entry);
        }
        Ok(requests)
    }

    fn add(&mut self, entry: &Entry) {
        if entry.stage != "ResponseComplete" || entry.user.username != OPERATOR_USER {
            return;
        }
        let Some(object) = &entry.object_ref else { return };
        let resource = match &object.subresource {
            Some(subresource) => format!("{}/{subresource}", object.resource),
            None => object.resource.clone(),
        };
        let code = entry.response_status.as_ref().map_or(0, |response| response.code);
        if code == 403 {
            self.forbidden.insert((entry.verb.clone(), resource.clone()));
        }
        if entry.verb == "watch" || object.resource == "leases" {
            return;
        }
        if resource == "pods/eviction" && code == 201 {
            self.evicted += 1;
        }
        *self.counts.entry((entry.verb.clone(), resource)).or_default() += 1;
    }

    /// What came since `before`.
    ///
    /// # Errors
    /// If there was more before: then the log is not the same, or not whole.
    pub fn since(&self, before: &Self) -> Result<Self> {
        let mut counts = self.counts.clone();
        for (key, count) in &before.counts {
            let now = counts.remove(key).unwrap_or(0);
            let new = now.checked_sub(*count).with_context(|| format!("the audit log lost {} {}", key.0, key.1))?;
            if new > 0 {
                counts.insert(key.clone(), new);
            }
        }
        let evicted = self.evicted.checked_sub(before.evicted).context("the audit log lost evictions")?;
        let forbidden = self.forbidden.difference(&before.forbidden).cloned().collect();
        Ok(Self { counts, evicted, forbidden })
    }

    /// Requests that change something, refused ones included.
    pub fn writes(&self) -> usize {
        self.count(|verb| !matches!(verb, "get" | "list"))
    }

    /// Requests that read something.
    pub fn reads(&self) -> usize {
        self.count(|verb| matches!(verb, "get" | "list"))
    }

    /// Verb and resource of what the operator had no right to.
    pub fn forbidden(&self) -> Vec<String> {
        self.forbidden.iter().map(|(verb, resource)| format!("{verb} {resource}")).collect()
    }

    /// Evictions that were granted.
    pub fn evicted(&self) -> usize {
        self.evicted
    }

    /// Counts by verb and resource, most frequent first.
    pub fn table(&self) -> Vec<(String, usize)> {
        let mut rows: Vec<_> =
            self.counts.iter().map(|((verb, resource), n)| (format!("{verb} {resource}"), *n)).collect();
        rows.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        rows
    }

    fn count(&self, test: impl Fn(&str) -> bool) -> usize {
        self.counts.iter().filter(|((verb, _), _)| test(verb)).map(|(_, count)| count).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(verb: &str, resource: &str, code: u16) -> String {
        let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
        serde_json::json!({
            "stage": "ResponseComplete", "verb": verb, "user": { "username": OPERATOR_USER },
            "objectRef": { "resource": resource, "subresource": (!subresource.is_empty()).then_some(subresource) },
            "responseStatus": { "code": code },
        })
        .to_string()
    }

    #[test]
    fn counts_what_the_operator_did() {
        let log = tempfile::NamedTempFile::new().unwrap();
        let lines = [
            line("patch", "nodes", 200),
            line("create", "pods/eviction", 201),
            line("create", "pods/eviction", 429),
            line("get", "nodes", 200),
            line("update", "leases", 200),
            line("watch", "nodes", 200),
            line("watch", "secrets", 403),
            "{\"half\":".to_owned(),
        ];
        std::fs::write(log.path(), lines.join("\n")).unwrap();
        let requests = Requests::read(log.path()).unwrap();
        assert_eq!((requests.writes(), requests.reads(), requests.evicted()), (3, 1, 1));
        assert_eq!(requests.forbidden(), ["watch secrets"]);
        assert_eq!(requests.since(&requests).unwrap(), Requests::default());
        assert!(Requests::default().since(&requests).is_err(), "a log that shrank");
    }
}
