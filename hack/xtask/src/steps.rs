//! Running steps one after the other, each with its name and duration.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

/// The root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    root().join(std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from))
}

/// A cargo command in the root of the repository.
pub fn cargo(arguments: &[&str]) -> Command {
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    // What the cargo that runs this program says of its package. Build scripts ask for some of it (ring's does), and when it
    // comes and goes they and all that needs them are built again each time.
    for name in std::env::vars_os().filter_map(|(name, _)| name.into_string().ok()) {
        if name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// A program of this repository that was built with the workspace, as it lies there. Running it by cargo would build it again
/// with other features of what it needs.
pub fn built(name: &str) -> Command {
    let mut command = Command::new(target().join("debug").join(name));
    command.current_dir(root());
    command
}

/// The steps of one task.
#[derive(Debug)]
pub struct Steps {
    since: Instant,
    done: Vec<(String, Duration)>,
    skipped: Vec<(String, String)>,
    notes: Vec<String>,
}

impl Steps {
    /// No step yet.
    pub fn begin() -> Self {
        Self { since: Instant::now(), done: Vec::new(), skipped: Vec::new(), notes: Vec::new() }
    }

    /// Runs `command`, whose output passes through. `hint` says what to do when it fails.
    pub fn run(&mut self, name: &str, command: &mut Command, hint: &str) -> Result<()> {
        self.call(name, || finish(command).with_context(|| format!("{name} failed; {hint}")))
    }

    /// Calls `work` as a step.
    pub fn call<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
        eprintln!("==> {name}");
        let since = Instant::now();
        let outcome = work();
        let took = since.elapsed();
        match outcome {
            Ok(value) => {
                eprintln!("    {name}: done ({})", seconds(took));
                self.done.push((name.to_owned(), took));
                Ok(value)
            }
            Err(error) => {
                eprintln!("    {name}: failed ({})", seconds(took));
                Err(error)
            }
        }
    }

    /// A step that cannot be done here: said loudly, counted, and no success.
    pub fn skip(&mut self, name: &str, why: &str) {
        eprintln!("==> {name}\n    {name}: SKIPPED: {why}");
        self.skipped.push((name.to_owned(), why.to_owned()));
    }

    /// Something to say now and again at the end.
    pub fn note(&mut self, note: String) {
        eprintln!("    {note}");
        self.notes.push(note);
    }

    /// Prints what was done, if it was more than one step.
    pub fn end(self) {
        if self.done.len() > 1 {
            let names = self.done.iter().map(|(name, _)| name).chain(self.skipped.iter().map(|(name, _)| name));
            let width = names.map(String::len).max().unwrap_or_default();
            eprintln!();
            for (name, took) in &self.done {
                eprintln!("{name:width$}  {:>9}", seconds(*took));
            }
            for (name, _) in &self.skipped {
                eprintln!("{name:width$}  {:>9}", "SKIPPED");
            }
            eprintln!("{:width$}  {:>9}", "total", seconds(self.since.elapsed()));
        }
        for (name, why) in &self.skipped {
            eprintln!("skipped: {name}: {why}");
        }
        if !self.skipped.is_empty() {
            eprintln!("{} skipped: this run does not prove all of it", self.skipped.len());
        }
        for note in &self.notes {
            eprintln!("note: {note}");
        }
    }
}

/// Runs `command` to its end and fails with its exit status.
pub fn finish(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| not_started(&name, error))?;
    if !status.success() {
        bail!("it ended with {status}");
    }
    Ok(())
}

/// Why a program could not be started, with what to do.
pub fn not_started(name: &str, error: std::io::Error) -> anyhow::Error {
    let missing = error.kind() == ErrorKind::NotFound;
    let error = anyhow::Error::new(error);
    if missing {
        error.context(format!("cannot run {name}: it is not installed or not on PATH"))
    } else {
        error.context(format!("cannot run {name}"))
    }
}

fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(seconds(Duration::from_millis(1234)), "1.2 s");
        assert_eq!(seconds(Duration::from_secs(59)), "59.0 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = finish(&mut Command::new("no-such-program-here")).unwrap_err();
        assert!(format!("{error:#}").contains("no-such-program-here: it is not installed"), "{error:#}");
    }

    #[test]
    fn the_root_holds_the_workspace() {
        assert!(root().join("rust-toolchain.toml").is_file());
    }
}
