//! Programs of this machine: where they are, and running them to their end.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::error::{Attempt, Error, Result};

/// How much of a failed command's output its error repeats.
const TAIL_LINES: usize = 30;

/// Where the program `name` is: on PATH, or where administrators' programs are, which PATH often lacks. Of an absolute path: whether that
/// file is there.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(system).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// As [`find`], or what to install.
pub(crate) fn need(name: &str, package: &str) -> Result<PathBuf> {
    find(name).ok_or_else(|| {
        Error::Missing(format!(
            "{name} is not installed; it is in the Debian package {package}: apt-get install {package}"
        ))
    })
}

/// Runs `command` to its end and returns its standard output.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let line = describe(command);
    let output = command.stdin(Stdio::null()).output().attempt(|| format!("run {line}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    Err(Error::Command { command: line, status: output.status.to_string(), output: tail(&text) })
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    let line = line.join(" ");
    match line.char_indices().nth(200) {
        Some((cut, _)) => format!("{}…", &line[..cut]),
        None => line,
    }
}

/// The last lines of `text`.
pub(crate) fn tail(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
}

/// The shared libraries that `program` is linked with, and its loader; none for a static program.
pub(crate) fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let output = Command::new("ldd").arg(program).output().attempt(|| format!("run ldd {}", program.display()))?;
    // It fails for a static program, which has none.
    Ok(paths(&String::from_utf8_lossy(&output.stdout)))
}

/// The absolute paths in what ldd prints, such as `libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)`.
fn paths(printed: &str) -> Vec<PathBuf> {
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with('/')).map(PathBuf::from);
    printed.lines().filter(|line| line.starts_with(char::is_whitespace)).filter_map(path).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_its_package() {
        assert!(find("sh").is_some());
        let error = need("no-such-program", "some-package").unwrap_err();
        assert!(matches!(error, Error::Missing(_)));
        assert!(error.to_string().ends_with("apt-get install some-package"), "{error}");
    }

    #[test]
    fn a_failure_shows_command_and_output() {
        let error = output(Command::new("sh").args(["-c", "echo no luck >&2; exit 3"])).unwrap_err().to_string();
        assert!(error.contains("sh -c") && error.contains("no luck") && error.contains('3'), "{error}");
    }

    #[test]
    fn libraries_are_found_and_a_static_program_has_none() {
        let printed = "\tlinux-vdso.so.1 (0x1)\n\tlibc.so.6 => /lib/x/libc.so.6 (0x2)\n\t/lib64/ld.so (0x3)\n";
        assert_eq!(paths(printed), [PathBuf::from("/lib/x/libc.so.6"), PathBuf::from("/lib64/ld.so")]);
        assert!(paths("/bin/busybox:\n\tnot a dynamic executable\n").is_empty());
    }
}
