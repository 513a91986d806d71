//! Pages of the documentation: their commands, to be run as they stand there.

use std::{
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use cxi_control_plane::{ControlPlane, Family, Progress, Tool, Toolbox};

/// Longest time that a block of commands may take, in seconds. Generous: the machine may be busy.
const LIMIT: &str = "300";

/// How often the API server is reminded of CRDs that are to go. When it cannot list a CRD's objects at once, because it is just
/// preparing to serve them in another way, and sees its own note of that late, it looks at the CRD again when it looks at all of them:
/// every five minutes (apiextensions-apiserver, `crd_finalizer.go`, `sync` and `updateCustomResourceDefinition`).
const REMINDER: Duration = Duration::from_secs(3);

/// Any change of such a CRD does.
const REMIND: &str = r#"
for crd in $(kubectl get crds -o jsonpath='{.items[?(@.metadata.deletionTimestamp)].metadata.name}'); do
    kubectl annotate crd "$crd" --overwrite "e2e.cxi.hpe.com/reminded=$(date +%s)"
done
"#;

/// The root of the repository, where commands are typed.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A page of `docs/`, or a section of it.
pub(crate) struct Page(String);

impl Page {
    /// Reads one, such as `install.md`.
    pub(crate) fn read(name: &str) -> Result<Self> {
        let path = root().join("docs").join(name);
        Ok(Self(fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?))
    }

    /// The section with a title.
    pub(crate) fn section(&self, title: &str) -> Result<Self> {
        let (_, rest) = self.0.split_once(&format!("\n## {title}\n")).with_context(|| format!("no section {title}"))?;
        Ok(Self(rest.split("\n## ").next().unwrap_or_default().to_owned()))
    }

    /// What comes after a text.
    pub(crate) fn after(&self, text: &str) -> Result<Self> {
        let (_, rest) = self.0.split_once(text).with_context(|| format!("the page does not say {text:?}"))?;
        Ok(Self(rest.to_owned()))
    }

    /// Blocks of a language, such as `sh`.
    pub(crate) fn blocks(&self, language: &str) -> Vec<String> {
        let mut blocks = Vec::new();
        // The indent of the block that a line is in. A block in a list is indented as its item is.
        let mut indent = None;
        for line in self.0.lines() {
            let bare = line.trim_start();
            match (indent, bare.strip_prefix("```")) {
                (None, Some(found)) => {
                    indent = Some((line.len() - bare.len(), found == language));
                    if found == language {
                        blocks.push(String::new());
                    }
                }
                (Some(_), Some(_)) => indent = None,
                (Some((spaces, true)), None) => {
                    if let Some(block) = blocks.last_mut() {
                        block.extend([line.get(spaces..).unwrap_or_default(), "\n"]);
                    }
                }
                _ => {}
            }
        }
        blocks
    }

    /// All `code` within lines, in their order.
    pub(crate) fn code(&self) -> Vec<&str> {
        let mut inside = false;
        let mut found = Vec::new();
        for line in self.0.lines() {
            if line.trim_start().starts_with("```") {
                inside = !inside;
            } else if !inside {
                found.extend(line.split('`').skip(1).step_by(2));
            }
        }
        found
    }
}

/// Commands that begin with one of `programs`, of a page's `code` within lines.
pub(crate) fn commands<'a>(page: &'a Page, programs: &[&str]) -> Vec<&'a str> {
    let of_these = |code: &&str| code.split_once(' ').is_some_and(|(program, _)| programs.contains(&program));
    page.code().into_iter().filter(of_these).collect()
}

/// Where somebody with a checkout and kubectl types commands for a cluster.
pub(crate) struct Shell {
    kubeconfig: PathBuf,
    home: PathBuf,
    path: OsString,
}

impl Shell {
    /// For the administrator of a control plane.
    pub(crate) fn of(plane: &ControlPlane) -> Result<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let home = plane.data_dir().join("home");
        fs::create_dir_all(&home)?;
        let shell = Self { kubeconfig: plane.kubeconfig().to_owned(), home, path };
        shell.with_tool(Family::Kubernetes, Tool::Kubectl)
    }

    /// One of the tools that are built into the cache.
    pub(crate) fn with_tool(self, family: Family, tool: Tool) -> Result<Self> {
        let toolbox = Toolbox::ensure(&[family], &Progress::stderr())?;
        let directory = toolbox.path(tool)?.parent().context("the directory of a tool")?.to_owned();
        self.with_programs(directory)
    }

    /// Programs of a directory are found before others.
    pub(crate) fn with_programs(self, directory: PathBuf) -> Result<Self> {
        let path = env::join_paths([directory].into_iter().chain(env::split_paths(&self.path)))?;
        Ok(Self { path, ..self })
    }

    /// The home directory, with nothing in it.
    pub(crate) fn home(&self) -> &Path {
        &self.home
    }

    /// Runs commands, which all have to succeed, in the root of the repository, and returns what they print.
    pub(crate) fn run(&self, script: &str) -> Result<String> {
        let mut command = self.command(script);
        let output = thread::scope(|scope| {
            let (ended, end) = mpsc::channel::<()>();
            if script.contains("delete") || script.contains("uninstall") {
                scope.spawn(move || {
                    while end.recv_timeout(REMINDER) == Err(RecvTimeoutError::Timeout) {
                        // There is another time.
                        let _ = self.command(REMIND).output();
                    }
                });
            }
            let output = command.output();
            drop(ended);
            output
        })?;
        ensure!(output.status.success(), "{script}\n{}", String::from_utf8_lossy(&output.stderr));
        Ok(String::from_utf8(output.stdout)?)
    }

    fn command(&self, script: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args([LIMIT, "sh", "-euxc", script]).current_dir(root());
        command.env("PATH", &self.path).env("KUBECONFIG", &self.kubeconfig).env("HOME", &self.home);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_and_commands_are_found_where_they_stand() {
        let page = Page(
            "a `kubectl x` b\n## S\n```sh\none `no`\n\ntwo\n```\n- item:\n  ```toml\n  [a]\n    b = 1\n  ```\n`helm y` and `z`\n## T\n"
                .to_owned(),
        );
        assert_eq!(page.blocks("sh"), ["one `no`\n\ntwo\n"]);
        assert_eq!(page.blocks("toml"), ["[a]\n  b = 1\n"]);
        assert_eq!(page.code(), ["kubectl x", "helm y", "z"]);
        assert_eq!(commands(&page, &["kubectl", "helm"]), ["kubectl x", "helm y"]);
        assert_eq!(page.section("S").unwrap().code(), ["helm y", "z"]);
        assert!(page.section("U").is_err());
    }
}
