//! The crates that are in a program, and which brings which.

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
};

use anyhow::{Context, Result, bail, ensure};
use cargo_metadata::{Metadata, MetadataCommand, Package};

/// Name and version of a crate, of which there is one in a build.
pub type Key = (String, String);

/// The crates of one program: what is compiled into it, without procedural macros, build scripts and tests.
#[derive(Debug)]
pub struct Tree {
    root: Key,
    edges: BTreeMap<Key, BTreeSet<Key>>,
    packages: BTreeMap<Key, Package>,
}

impl Tree {
    /// Asks cargo for the crates of `package` when it is built for `target` together with the packages in `beside`: cargo
    /// then gives the crates that several need the features of all.
    ///
    /// # Errors
    /// If cargo fails, or there is no such package.
    pub fn ask(package: &str, beside: &[String], target: &str) -> Result<Self> {
        let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(program);
        command.args(["tree", "--locked", "--target", target, "--prefix", "depth", "--format", "{p}"]);
        command.args(["--edges", "no-dev,no-build,no-proc-macro", "--package", package]);
        for other in beside.iter().filter(|other| *other != package) {
            command.args(["--package", other]);
        }
        let output = command.output().context("cannot run cargo tree")?;
        ensure!(output.status.success(), "cargo tree failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        let lines = String::from_utf8(output.stdout).context("cargo tree printed something else than text")?;
        let other_options = vec!["--locked".to_owned(), "--filter-platform".to_owned(), target.to_owned()];
        let metadata =
            MetadataCommand::new().other_options(other_options).exec().context("cannot ask cargo metadata")?;
        Self::assemble(package, &graph(&lines)?, metadata)
    }

    fn assemble(package: &str, graph: &BTreeMap<Key, BTreeSet<Key>>, metadata: Metadata) -> Result<Self> {
        let all = metadata.packages.into_iter();
        let mut known: BTreeMap<Key, Package> =
            all.map(|package| ((package.name.to_string(), package.version.to_string()), package)).collect();
        let root = graph.keys().find(|(name, _)| name == package);
        let root = root.with_context(|| format!("there is no package {package} in this workspace"))?.clone();
        let mut tree = Self { root: root.clone(), edges: BTreeMap::new(), packages: BTreeMap::new() };
        let mut open = vec![root];
        while let Some(key) = open.pop() {
            if tree.edges.contains_key(&key) {
                continue;
            }
            let needs = graph.get(&key).cloned().unwrap_or_default();
            let Some(package) = known.remove(&key) else { bail!("cargo metadata does not know {} {}", key.0, key.1) };
            tree.packages.insert(key.clone(), package);
            open.extend(needs.iter().cloned());
            tree.edges.insert(key, needs);
        }
        Ok(tree)
    }

    /// The program's own package.
    pub fn root(&self) -> &Key {
        &self.root
    }

    /// What cargo knows about each crate.
    pub fn packages(&self) -> &BTreeMap<Key, Package> {
        &self.packages
    }

    /// Which crates each one uses.
    pub fn edges(&self) -> &BTreeMap<Key, BTreeSet<Key>> {
        &self.edges
    }
}

/// The edges in what `cargo tree --prefix depth` prints: a number, then the crate, which stands below the last one with a
/// smaller number. What is below a crate is printed the first time only.
fn graph(lines: &str) -> Result<BTreeMap<Key, BTreeSet<Key>>> {
    let mut edges: BTreeMap<Key, BTreeSet<Key>> = BTreeMap::new();
    let mut path: Vec<Key> = Vec::new();
    for line in lines.lines().filter(|line| !line.is_empty()) {
        let (depth, key) = entry(line).with_context(|| format!("cargo tree printed {line:?}"))?;
        path.truncate(depth);
        if let Some(parent) = path.last() {
            edges.entry(parent.clone()).or_default().insert(key.clone());
        }
        edges.entry(key.clone()).or_default();
        path.push(key);
    }
    Ok(edges)
}

fn entry(line: &str) -> Option<(usize, Key)> {
    let name = line.find(|c: char| !c.is_ascii_digit())?;
    let mut words = line[name..].split(' ');
    let key = (words.next()?.to_owned(), words.next()?.strip_prefix('v')?.to_owned());
    Some((line[..name].parse().ok()?, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        (name.to_owned(), "1.0.0".to_owned())
    }

    #[test]
    fn indentation_becomes_edges() {
        let lines = "0a v1.0.0 (/x)\n1b v1.0.0\n2c v1.0.0\n1c v1.0.0 (*)\n\n0d v1.0.0 (/y)\n1b v1.0.0 (*)\n";
        let graph = graph(lines).unwrap();
        let below = |name: &str| graph[&key(name)].iter().map(|key| key.0.as_str()).collect::<Vec<_>>();
        assert_eq!((below("a"), below("b"), below("c"), below("d")), (vec!["b", "c"], vec!["c"], vec![], vec!["b"]));
    }

    #[test]
    fn rejects_what_cargo_does_not_print() {
        assert!(graph("0a 1.0.0\n").is_err());
        assert!(graph("warning: x\n").is_err());
    }
}
