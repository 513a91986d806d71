//! The labels of a node by which KMM loads drivers.

use cxi_api::names::KMM_VERSION_PREFIX;

use crate::world::Node;

/// KMM version labels of our Modules on a node: key and value.
pub fn version_labels<'a>(node: &'a Node, namespace: &str) -> impl Iterator<Item = (&'a String, &'a String)> {
    node.labels_below(&format!("{KMM_VERSION_PREFIX}{namespace}.cxi-"))
}

/// A version label by which KMM loads a Module of ours that belongs to another namespace.
pub fn foreign_label<'a>(node: &'a Node, namespace: &str) -> Option<&'a String> {
    node.labels_below(KMM_VERSION_PREFIX).map(|(key, _)| key).find(|key| {
        let place = key.strip_prefix(KMM_VERSION_PREFIX).and_then(|rest| rest.split_once('.'));
        place.is_some_and(|(of, module)| of != namespace && is_ours(module))
    })
}

/// Whether a Module has a name as we give them: `cxi-` and the eight hexadecimal digits of a revision.
fn is_ours(module: &str) -> bool {
    let digits = module.strip_prefix("cxi-");
    digits.is_some_and(|digits| digits.len() == 8 && digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
}
