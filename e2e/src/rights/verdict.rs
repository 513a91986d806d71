//! Whether what is granted is what is used.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};

use crate::rights::{
    Right, Scope,
    granted::{Grant, granted_by_olm},
    used::Requests,
};

/// Rights that no scenario uses: account, resource, verb, and how it is known that they are needed all the same.
const PROVED_OTHERWISE: [(&str, &str, &str, &str); 0] = [];

/// What differs.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Granted, and nobody used it.
    pub unused: Vec<String>,
    /// Used, and nobody granted it.
    pub missing: Vec<String>,
    /// Said to be proved otherwise, although it is used, or not granted at all.
    pub outdated: Vec<String>,
}

impl Verdict {
    /// Compares.
    pub fn of(granted: &BTreeMap<Right, Grant>, requests: &Requests) -> Self {
        let mut verdict = Self::default();
        let excused = |right: &Right| {
            PROVED_OTHERWISE.iter().any(|(account, resource, verb, _)| is(right, account, resource, verb))
        };
        for right in granted.keys().filter(|right| !requests.used.contains_key(*right)) {
            if !excused(right) {
                verdict.unused.push(say(right));
            }
        }
        let by_olm = granted_by_olm();
        for (right, (times, name)) in &requests.refused {
            // An API server that has just been told of a role refuses for a moment what it allows.
            if !allows(granted, right, name) && !allows(&by_olm, right, name) {
                verdict.missing.push(format!("{} {name} ({times} times)", say(right)));
            }
        }
        for (account, resource, verb, _) in PROVED_OTHERWISE {
            let mut named = granted.keys().filter(|right| is(right, account, resource, verb));
            if !named.any(|right| !requests.used.contains_key(right)) {
                verdict.outdated.push(format!("{account}: {verb} {resource}"));
            }
        }
        verdict
    }

    /// Whether nothing differs.
    pub fn good(&self) -> bool {
        *self == Self::default()
    }
}

fn is(right: &Right, account: &str, resource: &str, verb: &str) -> bool {
    right.account == account && right.resource == resource && right.verb == verb
}

fn allows(granted: &BTreeMap<Right, Grant>, right: &Right, name: &str) -> bool {
    let holds = |grant: &Grant| grant.names.is_empty() || grant.names.contains(&name);
    let everywhere = Right { scope: Scope::Cluster, ..right.clone() };
    granted.get(right).is_some_and(holds) || granted.get(&everywhere).is_some_and(holds)
}

fn say(right: &Right) -> String {
    let place = match right.scope {
        Scope::Cluster => "",
        Scope::Namespace => " in its namespace",
    };
    format!("{}: {} {}{place}", right.account, right.verb, right.what())
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (title, lines) in [
            ("granted and not used", &self.unused),
            ("used and not granted", &self.missing),
            ("excused as proved otherwise without need", &self.outdated),
        ] {
            for line in lines {
                writeln!(f, "{title}: {line}")?;
            }
        }
        Ok(())
    }
}

/// The rights of each account with their reasons, and how often each was used if that is known.
pub fn table(granted: &BTreeMap<Right, Grant>, requests: Option<&Requests>) -> String {
    let mut text = String::new();
    let used = if requests.is_some() { "used" } else { "" };
    let _ = writeln!(text, "{:18} {:9} {:52} {:7} {used:>7}  for", "account", "where", "resource", "verb");
    for (right, grant) in granted {
        let place = match right.scope {
            Scope::Cluster => "cluster",
            Scope::Namespace => "namespace",
        };
        let times = requests.map(|requests| requests.used.get(right).copied().unwrap_or_default().to_string());
        let mut what = right.what();
        if !grant.names.is_empty() {
            let _ = write!(what, " {}", grant.names.join(","));
        }
        let times = times.unwrap_or_default();
        let (account, verb, reason) = (&right.account, &right.verb, grant.reason);
        let _ = writeln!(text, "{account:18} {place:9} {what:52} {verb:7} {times:>7}  {reason}");
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::rights::{
        granted::granted,
        used::tests::{event, requests, right},
    };

    fn two() -> BTreeMap<Right, Grant> {
        let grant = Grant { names: &[], reason: "r" };
        let named = Grant { names: &["n1"], reason: "r" };
        [(right(Scope::Cluster, "cxinodes", "patch"), grant), (right(Scope::Namespace, "cxidevices", "get"), named)]
            .into()
    }

    #[test]
    fn differences_are_named() {
        let object =
            |resource: &str, name: &str| json!({ "apiGroup": "cxi.hpe.com", "resource": resource, "name": name });
        let cluster = "ClusterRoleBinding \"cxi-agent\"";
        let namespaced = "RoleBinding \"cxi-agent/cxi-operator\"";
        let all =
            [event("patch", &object("cxinodes", "n1"), cluster), event("get", &object("cxidevices", "n1"), namespaced)];
        assert!(Verdict::of(&two(), &requests(&all)).good());

        let verdict = Verdict::of(&two(), &requests(&all[..1]));
        assert_eq!(verdict.unused, ["cxi-agent: get cxidevices.cxi.hpe.com in its namespace"]);

        // Refused for a moment while granted; refused for another name; refused altogether.
        let refused = [("patch", "cxinodes", "n1"), ("get", "cxidevices", "n2"), ("delete", "cxinodes", "n1")]
            .map(|(verb, resource, name)| event(verb, &object(resource, name), ""));
        let verdict = Verdict::of(&two(), &requests(&[&all[..], &refused].concat()));
        let wanted = [
            "cxi-agent: delete cxinodes.cxi.hpe.com n1 (1 times)",
            "cxi-agent: get cxidevices.cxi.hpe.com n2 (1 times)",
        ];
        let mut missing = verdict.missing.clone();
        missing.sort();
        assert_eq!((missing.as_slice(), verdict.good()), (wanted.map(str::to_owned).as_slice(), false));
    }

    #[test]
    fn the_table_has_every_right_once() {
        let granted = granted();
        assert_eq!(table(&granted, None).lines().count(), granted.len() + 1);
        assert!(table(&granted, None).contains("pods/eviction"));
    }

    #[test]
    fn excuses_have_reasons() {
        for (account, resource, verb, why) in PROVED_OTHERWISE {
            assert!(granted().keys().any(|right| is(right, account, resource, verb)), "{account} {resource} {verb}");
            assert!(!why.is_empty());
        }
    }
}
