//! What can go wrong while guests are made and run.

use std::{io, path::PathBuf, time::Duration};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. Messages say what was attempted and, where it helps, what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// This machine lacks something that cannot be had by waiting: a program, or the network with nothing in the cache.
    #[error("{0}")]
    Missing(String),
    /// A system call failed.
    #[error("cannot {attempt}")]
    Io {
        /// What was attempted, as in "read /etc/hosts".
        attempt: String,
        /// Why it failed.
        #[source]
        source: io::Error,
    },
    /// A command ended with a failure.
    #[error("{command} failed ({status}):\n{output}")]
    Command {
        /// The command line, shortened.
        command: String,
        /// Its exit status.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// Something that a tool or a guest said could not be understood.
    #[error("cannot understand {what}: {why}")]
    Unexpected {
        /// What was read.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// A kernel has no such module.
    #[error("kernel {kernel} has no module {module}")]
    NoModule {
        /// `uname -r`.
        kernel: String,
        /// The module.
        module: String,
    },
    /// A guest did not answer in time.
    #[error("the guest did not {what} within {} s; the end of its console {}:\n{tail}", waited.as_secs(), console.display())]
    NoAnswer {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// Its console.
        console: PathBuf,
        /// The end of its console.
        tail: String,
    },
    /// A command in a guest failed that should not.
    #[error("in the guest, `{script}` ended with {status}:\n{output}")]
    Script {
        /// What was run.
        script: String,
        /// Its exit status.
        status: i32,
        /// What it printed.
        output: String,
    },
    /// An error of the cache, of tools or of processes.
    #[error(transparent)]
    ControlPlane(#[from] cxi_control_plane::Error),
}

/// Adds what was attempted to an [`io::Result`].
pub(crate) trait Attempt<T> {
    /// `attempt` completes the sentence "cannot …".
    fn attempt(self, attempt: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, attempt: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io { attempt: attempt(), source })
    }
}
