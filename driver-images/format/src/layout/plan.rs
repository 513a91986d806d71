//! A layout as the scripts read it: files of lines, whose fields are divided by tabs.

use super::{Layout, Tree};

/// Ending of the file beside a tree's directory with its rules for firmware, see `scripts/keep.sh`.
pub const FIRMWARE_RULES: &str = "firmware";

/// The files that tell the scripts of a build about a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Lines for `scripts/arrange.sh`: which rule it is, the directory to copy from, glob, the directory to copy to, place.
    pub copy: String,
    /// For each tree in order, lines for `scripts/keep.sh`: which rule it is, glob, place. Empty for a tree without such rules.
    pub firmware: Vec<String>,
    /// Firmware files that the modules ask for, one a line.
    pub needs_firmware: String,
}

impl Tree {
    /// Which field of the file it is.
    pub fn field(&self) -> String {
        format!("trees[{}]", self.position)
    }

    /// Name of the directory below `sources` for the tree with this number, from 0. Their order is that of building.
    pub fn directory(&self, number: usize) -> String {
        format!("{:02}-{}", number + 1, self.name)
    }
}

impl Plan {
    /// The plan of a layout.
    pub fn of(layout: &Layout) -> Self {
        let named = |name: &str| {
            let found = layout.trees.iter().enumerate().find(|(_, tree)| tree.name == name);
            // Rules name trees of the layout only.
            found.map(|(number, tree)| tree.directory(number)).unwrap_or_default()
        };
        let field =
            |tree: &Tree, list: &str, number: usize| format!("{}: {}.{list}[{number}]", layout.file, tree.field());
        let copy = layout.trees.iter().enumerate().flat_map(|(number, tree)| {
            let to = tree.directory(number);
            tree.copy.iter().enumerate().map(move |(at, rule)| {
                let from = named(&rule.tree);
                format!("{}\t{from}\t{}\t{to}\t{}\n", field(tree, "copy", at), rule.from, rule.to)
            })
        });
        let firmware = |tree: &Tree| {
            let line = |(at, rule): (usize, &super::Rule)| {
                format!("{}\t{}\t{}\n", field(tree, "firmware", at), rule.from, rule.to)
            };
            tree.firmware.iter().enumerate().map(line).collect()
        };
        Self {
            copy: copy.collect(),
            firmware: layout.trees.iter().map(firmware).collect(),
            needs_firmware: layout.needs_firmware.iter().flat_map(|path| [path.as_str(), "\n"]).collect(),
        }
    }
}
