//! Writes a program's bill of materials and licences; `cargo xtask images` calls it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};
use clap::Parser;
use cxi_sbom::{
    bill::{Part, bill, json},
    licences::licences,
    tree::Tree,
};

/// Write bills of materials of programs of this repository, and the texts of the licences of all that is in them
#[derive(Debug, Parser)]
struct Arguments {
    /// Package to describe; with several each gets files of its own, and they are taken to be built together
    #[arg(long, required = true)]
    package: Vec<String>,
    /// What it is built for
    #[arg(long)]
    target: String,
    /// Time of the source, RFC 3339
    #[arg(long)]
    timestamp: String,
    /// Directory for <package>.cdx.json and <package>.licences.txt
    #[arg(long)]
    output: PathBuf,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let parts = [
        Part { name: "rust-std".to_owned(), version: word("rustc", "-V", 1)?, licence: "MIT OR Apache-2.0" },
        // Static programs contain it.
        Part {
            name: "glibc".to_owned(),
            version: word("getconf", "GNU_LIBC_VERSION", 1)?,
            licence: "LGPL-2.1-or-later",
        },
    ];
    fs::create_dir_all(&arguments.output).with_context(|| format!("cannot create {}", arguments.output.display()))?;
    for package in &arguments.package {
        let tree = Tree::ask(package, &arguments.package, &arguments.target)?;
        let bill = json(bill(&tree, &parts, &arguments.timestamp)?)?;
        write(&arguments.output.join(format!("{package}.cdx.json")), &bill)?;
        write(&arguments.output.join(format!("{package}.licences.txt")), licences(&tree, &parts)?.as_bytes())?;
        println!("{package}: {} crates", tree.packages().len());
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// One word of what a program prints.
fn word(program: &str, argument: &str, index: usize) -> Result<String> {
    let output = Command::new(program).arg(argument).output().with_context(|| format!("cannot run {program}"))?;
    ensure!(output.status.success(), "{program} {argument} failed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let word = text.split_whitespace().nth(index);
    Ok(word.with_context(|| format!("{program} {argument} printed {text:?}"))?.to_owned())
}
