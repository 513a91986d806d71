//! What can go wrong. Each message says what is wrong and what to do about it, in one sentence where that is possible.

use std::{io, path::PathBuf};

/// The result of everything in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of this crate.
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
    /// A program is missing.
    #[error("{program} is not installed or not on PATH: install the package {package}")]
    Missing {
        /// The program.
        program: &'static str,
        /// What has it, on Debian.
        package: &'static str,
    },
    /// A program ended with a failure.
    #[error("{what} failed: {said}")]
    Program {
        /// What was attempted.
        what: String,
        /// The end of what the program printed.
        said: String,
    },
    /// Something that was given cannot be used.
    #[error("{0}")]
    Input(String),
    /// A build failed; its last word is a sentence for the administrator.
    #[error("{why}; the whole output is in {}{}", log.display(), make_log.as_ref().map(|path| format!(", DKMS's make.log in {}", path.display())).unwrap_or_default())]
    Build {
        /// The sentence.
        why: String,
        /// The build's output.
        log: PathBuf,
        /// Copy of DKMS's make.log, when a module did not compile.
        make_log: Option<PathBuf>,
    },
    /// An image is not what it should be.
    #[error("{image} is not what it says: {}", lies.join("; "))]
    Untrue {
        /// The image.
        image: String,
        /// What is not true.
        lies: Vec<String>,
    },
    /// A tag is another kernel's.
    #[error(
        "{reference} already is the image of kernel {other}, whose name is spelled the same in a tag: give this kernel's \
         image another repository, and a kernel mapping in the CXIDriver"
    )]
    Taken {
        /// The image.
        reference: String,
        /// The kernel in it.
        other: String,
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
