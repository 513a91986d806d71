//! The labels of a node by which KMM loads drivers.

use cxi_api::names::KMM_VERSION_PREFIX;

use crate::world::Node;

/// A few labels, mostly one: a word of the key, and the value.
#[derive(Clone, Debug, Default)]
pub struct Few<'a> {
    first: Option<(&'a str, &'a str)>,
    more: Vec<(&'a str, &'a str)>,
}

/// The labels by which KMM loads drivers on a node, read once.
#[derive(Clone, Debug, Default)]
pub struct KmmLabels<'a> {
    /// Version labels of our Modules: key and value.
    pub versions: Few<'a>,
    /// See [`foreign_label`].
    pub foreign: Option<&'a str>,
}

impl<'a> Few<'a> {
    /// Adds a label.
    pub fn push(&mut self, key: &'a str, value: &'a str) {
        match self.first {
            None => self.first = Some((key, value)),
            Some(_) => self.more.push((key, value)),
        }
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.first.iter().chain(&self.more).copied()
    }

    /// The value of the label with this key.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        self.iter().find(|(known, _)| *known == key).map(|(_, value)| value)
    }

    /// The value of the label, if there is one and no more.
    pub fn only(&self) -> Option<&'a str> {
        self.first.filter(|_| self.more.is_empty()).map(|(_, value)| value)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.first.is_none()
    }
}

impl<'a> KmmLabels<'a> {
    /// What the keys of the version labels of our Modules go on with after KMM's prefix.
    pub fn modules(namespace: &str) -> String {
        format!("{namespace}.cxi-")
    }

    /// The labels of a node, with what [`Self::modules`] says of the namespace.
    pub fn of(node: &'a Node, namespace: &str, modules: &str) -> Self {
        let mut found = Self::default();
        for (key, value) in node.labels_below(KMM_VERSION_PREFIX) {
            if key[KMM_VERSION_PREFIX.len()..].starts_with(modules) {
                found.versions.push(key, value);
            } else if found.foreign.is_none() && is_foreign(key, namespace) {
                found.foreign = Some(key);
            }
        }
        found
    }
}

/// KMM version labels of our Modules on a node: key and value.
pub fn version_labels<'a>(node: &'a Node, namespace: &str) -> impl Iterator<Item = (&'a String, &'a String)> {
    node.labels_below(format!("{KMM_VERSION_PREFIX}{}", KmmLabels::modules(namespace)))
}

/// A version label by which KMM loads a Module of ours that belongs to another namespace.
pub fn foreign_label<'a>(node: &'a Node, namespace: &str) -> Option<&'a String> {
    node.labels_below(KMM_VERSION_PREFIX).map(|(key, _)| key).find(|key| is_foreign(key, namespace))
}

fn is_foreign(key: &str, namespace: &str) -> bool {
    let place = key.strip_prefix(KMM_VERSION_PREFIX).and_then(|rest| rest.split_once('.'));
    place.is_some_and(|(of, module)| of != namespace && is_ours(module))
}

/// Whether a Module has a name as we give them: `cxi-` and the eight hexadecimal digits of a revision.
fn is_ours(module: &str) -> bool {
    let digits = module.strip_prefix("cxi-");
    digits.is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}
