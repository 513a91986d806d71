//! What the crates of this repository may need: the arrows between them, as far as a cycle would not show it.

use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::steps::{Steps, cargo, root};

/// What only a program that talks to an API server has in it.
const CLIENT: [&str; 4] = ["kube-client", "kube-runtime", "hyper", "tokio"];

/// Programs. A crate that is shared needs none of them.
const PROGRAMS: [&str; 3] = ["cxi-operator", "cxi-agent", "cxi-device-plugin"];

/// Crates that are pure: they take values and return values.
const PURE: [&str; 4] = ["cxi-api", "cxi-rollout", "cxi-manifests", "cxi-world"];

/// The types that all others share. They need no other crate of this repository.
const TYPES: &str = "cxi-api";
const OURS: [&str; 5] = ["cxi-driver-image-format", "cxi-hardware", "cxi-manifests", "cxi-rollout", "cxi-world"];

/// What else is shared.
const SHARED: [&str; 6] =
    ["cxi-packaging", "cxi-hardware", "cxi-images", "cxi-driver-image-format", "cxi-injection", "cxi-node"];

/// Where the engine reads the spec of a CXIDriver. Everything else in it takes what was read there.
const SPEC_READER: &str = "rollout/src/intent.rs";

/// Checks what the crates need in a build that is not for tests, and that the engine reads a spec in one place.
pub fn check(steps: &mut Steps) -> Result<()> {
    steps.call("arrows between crates", || {
        let mut faults = Vec::new();
        for package in PURE.into_iter().chain(SHARED) {
            let needs = needs(package)?;
            faults.extend(unwanted(package, &needs, &PROGRAMS));
            if PURE.contains(&package) {
                faults.extend(unwanted(package, &needs, &CLIENT));
            }
            if package == TYPES {
                faults.extend(unwanted(package, &needs, &OURS));
            }
        }
        faults.extend(raw_specs()?);
        ensure!(faults.is_empty(), "{}", faults.join("\n"));
        Ok(())
    })
}

/// One fault for each line of the engine that reads the spec of a CXIDriver as it is written.
fn raw_specs() -> Result<Vec<String>> {
    let arguments = ["grep", "-nE", r"(driver|candidate)\.spec\b", "--", "rollout/src"];
    let output = Command::new("git").args(arguments).current_dir(root()).output().context("cannot run git grep")?;
    // It ends with 1 where there is no such line.
    if !output.status.success() && output.status.code() != Some(1) {
        bail!("git grep: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let lines = String::from_utf8(output.stdout).context("the engine's source is not UTF-8")?;
    Ok(past_the_door(&lines))
}

/// Those of the lines that are not of the one place where specs are read.
fn past_the_door(lines: &str) -> Vec<String> {
    let others = lines.lines().filter(|line| !line.starts_with(SPEC_READER));
    others.map(|line| format!("only {SPEC_READER} reads a spec; take what it says from the Intent: {line}")).collect()
}

/// The packages that `package` needs, itself included, one on each line, each followed by its version.
fn needs(package: &str) -> Result<String> {
    let arguments = ["tree", "--locked", "--edges", "normal", "--prefix", "none", "--package", package];
    let command: &mut Command = &mut cargo(&arguments);
    let output = command.output().context("cannot run cargo tree")?;
    if !output.status.success() {
        bail!("cargo tree --package {package}: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("names of packages are not UTF-8")
}

/// One fault for each of `refused` that is among `needs`.
fn unwanted(package: &str, needs: &str, refused: &[&str]) -> Vec<String> {
    let needed = |name: &str| needs.lines().any(|line| line.split(' ').next() == Some(name));
    let fault = |name: &&str| {
        format!("{package} must not need {name}; `cargo tree -p {package} -e normal -i {name}` shows what brings it in")
    };
    refused.iter().filter(|name| needed(name)).map(fault).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unwanted_package_is_named_with_what_shows_its_way_in() {
        let tree = "cxi-api v0.1.0 (/src/api)\nkube v5.0.0\ntokio-util v0.7.0\nhyper v1.9.0 (*)\n";
        let faults = unwanted("cxi-api", tree, &CLIENT);
        assert_eq!(
            faults,
            ["cxi-api must not need hyper; `cargo tree -p cxi-api -e normal -i hyper` shows what brings it in"]
        );
    }

    #[test]
    fn only_one_file_of_the_engine_reads_a_spec() {
        let lines = "rollout/src/intent.rs:66:read(&driver.spec)\nrollout/src/step.rs:9:ctx.driver.spec.paused\n";
        let faults = past_the_door(lines);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].contains("rollout/src/step.rs:9"), "{faults:?}");
        assert_eq!(raw_specs().unwrap(), Vec::<String>::new());
    }

    #[test]
    fn the_engine_needs_the_api_types_and_no_client() {
        let tree = needs("cxi-rollout").unwrap();
        assert!(tree.contains("cxi-api v"), "{tree}");
        assert_eq!(unwanted("cxi-rollout", &tree, &CLIENT), [""; 0]);
    }
}
