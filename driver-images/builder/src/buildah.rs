//! buildah, which builds images and keeps them.

use std::{
    fs::File,
    io::{BufRead, BufReader, ErrorKind, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::error::{Attempt, Error, Result};

/// Calls buildah.
#[derive(Clone, Debug, Default)]
pub struct Buildah {
    /// Where images are kept, when not in the user's container storage. There is nothing else in it.
    pub storage: Option<PathBuf>,
    /// How steps of builds are isolated, in buildah's words; as buildah itself decides when left out.
    pub isolation: Option<String>,
}

/// Why a build did not end well.
#[derive(Debug)]
pub struct Failed {
    /// What it printed.
    pub output: String,
}

impl Buildah {
    /// A buildah command.
    pub fn command(&self) -> Command {
        let mut command = Command::new("buildah");
        if let Some(storage) = &self.storage {
            command.arg("--root").arg(storage.join("root")).arg("--runroot").arg(storage.join("run"));
        }
        command
    }

    /// Runs `arguments` to their end.
    ///
    /// # Errors
    /// If buildah is missing or fails.
    pub fn run<'a>(&self, arguments: impl IntoIterator<Item = &'a str>) -> Result<String> {
        said(self.command().args(arguments), "buildah", "buildah")
    }

    /// Runs a build, see [`crate::storage::Use::build`].
    pub(crate) fn build(
        &self,
        arguments: &[String],
        log: &Path,
        stdin: Stdio,
        told: &dyn Fn(&str),
    ) -> Result<Result<(), Failed>> {
        let mut file = File::create(log).attempt(|| format!("write {}", log.display()))?;
        let (reader, writer) = std::io::pipe().attempt(|| "create a pipe".to_owned())?;
        let copy = writer.try_clone().attempt(|| "create a pipe".to_owned())?;
        let mut command = self.command();
        // What failed is in the log; the container that it failed in is of no use.
        command.args(["build", "--force-rm"]);
        if let Some(isolation) = &self.isolation {
            command.arg("--isolation").arg(isolation);
        }
        command.args(arguments).stdin(stdin).stdout(writer).stderr(copy);
        let mut child = command.spawn().map_err(|error| not_started("buildah", "buildah", error))?;
        // It has the writing ends, which would keep this end open.
        drop(command);
        let mut lines = BufReader::new(reader);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).attempt(|| "read what buildah prints".to_owned())? > 0 {
            file.write_all(&line).attempt(|| format!("write {}", log.display()))?;
            told(String::from_utf8_lossy(&line).trim_end());
            line.clear();
        }
        let status = child.wait().attempt(|| "wait for buildah".to_owned())?;
        if status.success() {
            return Ok(Ok(()));
        }
        let output = std::fs::read(log).attempt(|| format!("read {}", log.display()))?;
        Ok(Err(Failed { output: String::from_utf8_lossy(&output).into_owned() }))
    }

    /// What buildah knows of an image; `None` when it is not in the storage.
    ///
    /// # Errors
    /// If buildah is missing, or prints what cannot be understood.
    pub fn inspect(&self, image: &str) -> Result<Option<Image>> {
        let text = match self.run(["inspect", "--type", "image", image]) {
            Ok(text) => text,
            Err(Error::Program { .. }) => return Ok(None),
            Err(other) => return Err(other),
        };
        let value: Value = serde_json::from_str(&text)
            .map_err(|error| Error::Input(format!("buildah says of {image} what cannot be understood: {error}")))?;
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let layers = value["OCIv1"]["rootfs"]["diff_ids"].as_array().map(Vec::as_slice).unwrap_or_default();
        let labels = value["OCIv1"]["config"]["Labels"].as_object().cloned().unwrap_or_default();
        Ok(Some(Image {
            id: text(&value["FromImageID"]),
            layers: layers.iter().map(text).collect(),
            labels: labels.into_iter().map(|(key, value)| (key, text(&value))).collect(),
            arch: text(&value["OCIv1"]["architecture"]),
        }))
    }
}

/// What is known of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its id.
    pub id: String,
    /// Digests of its layers, uncompressed.
    pub layers: Vec<String>,
    /// Its labels.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Its architecture as OCI spells it.
    pub arch: String,
}

/// Runs a program to its end and returns what it printed.
///
/// # Errors
/// If it is missing or fails; the error has the last line that it printed.
pub fn said(command: &mut Command, program: &'static str, package: &'static str) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| not_started(program, package, error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    if let Some(why) = lacks_ids(&text) {
        return Err(Error::Input(why.to_owned()));
    }
    // What comes before the last line are warnings, and tries that were repeated.
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("it printed nothing");
    Err(Error::Program { what: program.to_owned(), said: last.to_owned() })
}

/// What a user who is not root lacks to build images, if that is why buildah failed.
pub(crate) fn lacks_ids(output: &str) -> Option<&'static str> {
    const SIGNS: [&str; 4] = ["newuidmap", "newgidmap", "insufficient UIDs or GIDs", "Error during unshare"];
    SIGNS.iter().any(|sign| output.contains(sign)).then_some(
        "buildah has no user ids to build with, which a user other than root needs: install the package uidmap and give the \
         user some (usermod --add-subuids 100000-165535 --add-subgids 100000-165535 USER), or build as root",
    )
}

fn not_started(program: &'static str, package: &'static str, error: std::io::Error) -> Error {
    if error.kind() == ErrorKind::NotFound {
        Error::Missing { program, package }
    } else {
        Error::Io { attempt: format!("run {program}"), source: error }
    }
}
