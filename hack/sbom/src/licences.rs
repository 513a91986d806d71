//! The licences of everything in a program: every one of them asks for its text to be passed on with the binary.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::{
    bill::Part,
    tree::{Key, Tree},
};

/// Beginnings of the names of files with licences, in lower case.
const NAMES: [&str; 6] = ["licen", "copying", "copyright", "notice", "unlicen", "authors"];

/// The texts, each once, under the crates that it is for.
///
/// # Errors
/// When a crate's files cannot be read.
pub fn licences(tree: &Tree, parts: &[Part]) -> Result<String> {
    let mut texts: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut out = String::from("What is in this program, and under which licence\n\n");
    for (key, package) in tree.packages().iter().filter(|(_, package)| package.source.is_some()) {
        let _ = writeln!(out, "{}: {}", title(key), package.license.as_deref().unwrap_or("see its text below"));
        let directory = package.manifest_path.as_std_path().parent().unwrap_or(Path::new("."));
        for file in files(directory)? {
            let text = fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            texts.entry(text.trim().to_owned()).or_default().push(title(key));
        }
    }
    for part in parts {
        let _ = writeln!(out, "{} {}: {}", part.name, part.version, part.licence);
    }
    let mut texts: Vec<_> = texts.into_iter().map(|(text, crates)| (crates, text)).collect();
    texts.sort();
    for (crates, text) in texts {
        let _ = write!(out, "\n{}\n{}\n\n{text}\n", "=".repeat(80), crates.join(", "));
    }
    Ok(out)
}

fn title((name, version): &Key) -> String {
    format!("{name} {version}")
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory).with_context(|| format!("cannot list {}", directory.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        let name = entry.file_name().to_string_lossy().to_lowercase();
        // A directory of this name holds files that are named elsewhere.
        if NAMES.iter().any(|start| name.starts_with(start)) && entry.path().is_file() {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}
