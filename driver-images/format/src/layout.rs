//! A layout file: what a release of a stack is built from, for releases whose packages rearrange their trees before DKMS sees them.
//! It lists the trees, their order, and copy rules that do what a package's spec file does. Pure: the rules are checked here and
//! carried out by `scripts/arrange.sh`, on the build host as well as in a build of the cluster.

mod check;
mod order;
mod plan;
mod shape;
#[cfg(test)]
mod tests;

use std::fmt;

pub use check::path_inside;
pub use plan::{FIRMWARE_RULES, Plan};

/// The most trees that a layout may have.
pub const MAX_TREES: usize = 32;

/// The most rules that a tree may have, of each kind.
pub const MAX_RULES: usize = 128;

/// A layout that was checked. Its trees are in the order in which they are built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What messages call the layout: the name of its file, or of its `ConfigMap`.
    pub file: String,
    /// The trees, each after those that it needs.
    pub trees: Vec<Tree>,
    /// Firmware files that the modules ask for, below the image's firmware directory. An image without one of them gets a warning.
    pub needs_firmware: Vec<String>,
}

/// A tree of a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Its name; of a tree with modules also that of its DKMS package, where its dkms.conf is a template.
    pub name: String,
    /// What it is for.
    pub kind: Kind,
    /// Where it comes from.
    pub place: Place,
    /// Directory inside that is meant, when it is not the whole.
    pub inside: Option<String>,
    /// Files to copy before it is built.
    pub copy: Vec<Rule>,
    /// Files of it that become firmware of the image, after it was built.
    pub firmware: Vec<Rule>,
    /// Its place in the file, from 0.
    position: usize,
}

/// What a tree is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// DKMS builds modules of it.
    Module,
    /// It only has headers.
    Headers,
    /// It only has firmware.
    Firmware,
}

/// Where a tree comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A directory or an archive on the build host, relative to the layout file.
    Path {
        /// The field of the layout that names it: `directory` or `archive`.
        field: &'static str,
        /// Its path.
        path: String,
        /// SHA-256 of an archive, in hexadecimal.
        sha256: Option<String>,
    },
    /// An archive elsewhere.
    Archive {
        /// Its URL.
        url: String,
        /// SHA-256 in hexadecimal.
        sha256: Option<String>,
    },
    /// A git repository.
    Git {
        /// Its URL.
        url: String,
        /// Branch, tag or commit.
        reference: String,
    },
}

/// A rule: what matches goes to a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The tree in which it is looked for, by its name.
    pub tree: String,
    /// A glob of the shell, relative to that tree.
    pub from: String,
    /// A file, or a directory that ends with `/`, relative to the tree that has the rule, or to the firmware directory.
    pub to: String,
}

/// Why a text is no layout: which field of which file, what is wrong with it, and what would be right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidLayout {
    file: String,
    field: String,
    why: String,
}

impl fmt::Display for InvalidLayout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { file, field, why } = self;
        if field.is_empty() { write!(f, "{file}: {why}") } else { write!(f, "{file}: {field}: {why}") }
    }
}

impl std::error::Error for InvalidLayout {}

impl Layout {
    /// Reads the layout of a release. `file` is what messages call it; `{version}` in any value stands for the release.
    ///
    /// # Errors
    /// When it is not YAML, has a field that is not known, or says what cannot be carried out.
    pub fn parse(text: &str, file: &str, version: &str) -> Result<Self, InvalidLayout> {
        let shape = shape::read(text, file, version)?;
        check::layout(shape, file)
    }

    /// The same for a build in a cluster, which has no files but those that it fetches.
    ///
    /// # Errors
    /// See [`Layout::parse`]; also when a tree is on the build host.
    pub fn parse_for_cluster(text: &str, file: &str, version: &str) -> Result<Self, InvalidLayout> {
        let layout = Self::parse(text, file, version)?;
        match layout.trees.iter().find(|tree| matches!(tree.place, Place::Path { .. })) {
            None => Ok(layout),
            Some(tree) => Err(InvalidLayout {
                file: file.to_owned(),
                field: tree.field(),
                why: format!(
                    "a build in the cluster has no file of the tree {}: give archive with an https URL, or git and ref",
                    tree.name
                ),
            }),
        }
    }
}
