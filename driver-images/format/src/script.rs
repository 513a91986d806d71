//! Shell scripts inside a Containerfile. A ConfigMap holds one text and no files, so they are written out line by line, to
//! be read by an administrator who looks at the ConfigMap.

use std::fmt::Write;

/// A script of `scripts/`.
#[derive(Clone, Copy, Debug)]
pub struct Script {
    /// Its name in the builder, below `/cxi/bin`.
    pub name: &'static str,
    /// Its text.
    pub text: &'static str,
}

macro_rules! script {
    ($name:literal) => {
        Script { name: $name, text: include_str!(concat!("../../scripts/", $name, ".sh")) }
    };
}

/// Installs tools, by distribution.
pub const TOOLS: [Script; 3] = [script!("tools-debian"), script!("tools-rhel"), script!("tools-sles")];

/// Unpacks a kernel's headers, by distribution.
pub const KERNEL: [Script; 4] =
    [script!("kernel"), script!("kernel-debian"), script!("kernel-rhel"), script!("kernel-sles")];

/// Brings a source tree.
pub const FETCH: Script = script!("fetch");

/// Brings compiled modules.
pub const PREBUILT: Script = script!("prebuilt");

/// Carries out one rule of a layout.
pub const PLACE: Script = script!("place");

/// Carries out the copy rules of a layout, by [`PLACE`] beside it.
pub const ARRANGE: Script = script!("arrange");

/// Keeps firmware of a tree that was built, by [`PLACE`].
pub const KEEP: Script = script!("keep");

/// Builds the source trees.
pub const BUILD: Script = script!("build");

/// Puts the image together.
pub const COLLECT: Script = script!("collect");

/// Which family a builder image is of, as the names of scripts end.
const FAMILY: &str = r#"family=$(. /etc/os-release; case " $ID ${ID_LIKE:-} " in *" debian "*) echo debian ;; *" rhel "*|*" fedora "*) echo rhel ;; *suse*|*" sles "*) echo sles ;; esac); [ -n "$family" ] || { echo "cxi-error: the builder image is none of Debian, Ubuntu, RHEL and SLES: name one that is" >&2; exit 1; }"#;

/// `RUN` that writes scripts to `/cxi/bin`.
pub fn write(scripts: &[Script]) -> String {
    let mut text = "RUN mkdir -p /cxi/bin".to_owned();
    for Script { name, text: lines } in scripts {
        text.push_str(" && printf '%s\\n' \\\n");
        for line in lines.lines() {
            // A line of its own must neither begin with # nor be empty: it would be taken for a comment, or end the command.
            let _ = writeln!(text, "    {} \\", quoted(line));
        }
        let _ = write!(text, "    > /cxi/bin/{name}");
    }
    text.push('\n');
    text
}

/// `RUN` of the script of the builder's family, of those that begin with `name`.
pub fn run_by_family(name: &str, arguments: &str) -> String {
    format!("RUN {FAMILY}; \\\n    sh \"/cxi/bin/{name}-$family\"{arguments}\n")
}

/// One word for a shell.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn all() -> impl Iterator<Item = Script> {
        TOOLS.into_iter().chain(KERNEL).chain([PLACE, ARRANGE, KEEP, FETCH, PREBUILT, BUILD, COLLECT])
    }

    #[test]
    fn scripts_are_readable_inside_single_quotes_and_say_what_failed() {
        for script in all() {
            assert!(!script.text.contains('\''), "{} has an apostrophe", script.name);
            assert!(script.text.starts_with("#!/bin/sh\n# "), "{} does not say what it does", script.name);
            let reads_it = script.text.contains("\n. /cxi/bin/kernel\n");
            let fails = script.text.contains("fail() { echo \"cxi-error: $*\" >&2; exit 1; }");
            assert!(fails != reads_it, "{} does not say what failed", script.name);
            assert!(script.text.contains("\nset -eu\n") || script.name == "kernel", "{}", script.name);
        }
    }

    #[test]
    fn what_is_written_out_is_the_script() {
        for script in all() {
            // As a Containerfile's parser does: lines that go on are joined.
            let command = write(&[script]).replace("\\\n", "");
            // Where it is written to, but not where it is read from in a script.
            let command = command.replace("mkdir -p /cxi/bin", "mkdir -p \"$0\"").replace("> /cxi/bin/", "> \"$0\"/");
            let directory = tempfile::tempdir().unwrap();
            let command = command.strip_prefix("RUN ").unwrap();
            let status = Command::new("sh").arg("-c").arg(command).arg(directory.path()).status().unwrap();
            assert!(status.success());
            let written = std::fs::read_to_string(directory.path().join(script.name)).unwrap();
            assert_eq!(written, script.text);
            let checked = Command::new("sh").arg("-n").arg(directory.path().join(script.name)).status().unwrap();
            assert!(checked.success(), "{} is not a shell script", script.name);
        }
    }
}
