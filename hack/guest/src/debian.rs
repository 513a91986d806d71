//! The Debian archive: which packages there are now, and their contents.
//!
//! Debian keeps only the last few builds of a kernel, so nothing here is pinned: a package that always exists says which
//! one is the newest, and what was fetched is kept by its hash. apt does the work, with lists and sources of its own below
//! the cache directory, as any user; the machine's own apt is not touched. Proxies of the machine's apt.conf hold.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use cxi_control_plane::{Progress, cache};

use crate::{
    error::{Attempt, Error, Result},
    program,
};

/// Where Debian is fetched from, if not from its own servers: a directory with `debian` and `debian-security` below it.
const MIRROR_ENV: &str = "CXI_DEBIAN_MIRROR";
const MIRROR: &str = "http://deb.debian.org";

/// Whose signatures count; the package debian-archive-keyring brings it.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Debian 12: two kernel lines, 6.1 and 6.12, each in three flavours.
const SUITES: [(&str, &str); 2] = [("debian", "bookworm"), ("debian-security", "bookworm-security")];

/// apt with its own state.
#[derive(Debug)]
pub(crate) struct Archive {
    directory: PathBuf,
}

/// A package as the archive has it now.
#[derive(Debug)]
pub(crate) struct Package {
    /// Its name.
    pub(crate) name: String,
    /// SHA-256 of the package file, in hexadecimal.
    pub(crate) hash: String,
}

impl Archive {
    /// Brings the lists up to date.
    ///
    /// # Errors
    /// [`Error::Missing`] without apt, without its keys, or when the archive cannot be reached.
    pub(crate) fn update(progress: &Progress) -> Result<Self> {
        program::need("apt-get", "apt")?;
        program::need("dpkg-deb", "dpkg")?;
        if !Path::new(KEYRING).is_file() {
            return Err(Error::Missing(format!(
                "{KEYRING} is missing; it is in the Debian package debian-archive-keyring"
            )));
        }
        let directory = cache::directory()?.join("guest/apt");
        for part in ["lists/partial", "cache/archives/partial", "parts"] {
            let path = directory.join(part);
            fs::create_dir_all(&path).attempt(|| format!("create {}", path.display()))?;
        }
        let mirror = env::var(MIRROR_ENV).unwrap_or_else(|_| MIRROR.to_owned());
        let source = |(path, suite): &(&str, &str)| format!("deb [signed-by={KEYRING}] {mirror}/{path} {suite} main\n");
        let sources = directory.join("sources.list");
        let lines: String = SUITES.iter().map(source).collect();
        fs::write(&sources, lines).attempt(|| format!("write {}", sources.display()))?;
        let archive = Self { directory };
        let step = progress.step("asking Debian which kernels there are");
        // Without the option apt says that all is well when nothing could be fetched.
        match program::output(archive.apt("apt-get").args(["update", "-q", "-o", "APT::Update::Error-Mode=any"])) {
            Ok(_) => step.done(),
            Err(Error::Command { output, .. }) => {
                return Err(Error::Missing(format!("the Debian archive at {mirror} cannot be reached:\n{output}")));
            }
            Err(error) => return Err(error),
        }
        Ok(archive)
    }

    /// The packages that `name` depends on.
    pub(crate) fn dependencies(&self, name: &str) -> Result<Vec<String>> {
        let printed = program::output(self.apt("apt-cache").args(["depends", "--important", name]))?;
        Ok(dependencies(&printed))
    }

    /// What the archive has under this name.
    pub(crate) fn package(&self, name: &str) -> Result<Package> {
        let printed = program::output(self.apt("apt-cache").args(["show", "--no-all-versions", name]))?;
        let hash = printed.lines().find_map(|line| line.strip_prefix("SHA256: "));
        match hash {
            Some(hash) => Ok(Package { name: name.to_owned(), hash: hash.to_owned() }),
            None => Err(Error::Unexpected { what: format!("what apt-cache says of {name}"), why: "no SHA256".into() }),
        }
    }

    /// Fetches packages and unpacks them into `target`. apt compares their hashes with the signed lists.
    pub(crate) fn unpack(&self, packages: &[Package], target: &Path) -> Result<()> {
        let files = tempfile::tempdir_in(&self.directory).attempt(|| "create a temporary directory".to_owned())?;
        let mut command = self.apt("apt-get");
        // As root apt would fetch as a user who may not write here.
        command.args(["download", "-q", "-o", "APT::Sandbox::User="]).current_dir(files.path());
        program::output(command.args(packages.iter().map(|package| &package.name)))?;
        for entry in fs::read_dir(files.path()).attempt(|| "list what was fetched".to_owned())? {
            let file = entry.attempt(|| "list what was fetched".to_owned())?.path();
            program::output(Command::new("dpkg-deb").arg("-x").arg(&file).arg(target))?;
        }
        Ok(())
    }

    fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let option = |name: &str, path: &str| format!("{name}={}", self.directory.join(path).display());
        for option in [
            option("Dir::State::Lists", "lists"),
            option("Dir::Cache", "cache"),
            option("Dir::Etc::SourceList", "sources.list"),
            option("Dir::Etc::SourceParts", "parts"),
        ] {
            command.args(["-o", &option]);
        }
        command.env("LC_ALL", "C");
        command
    }
}

/// The names in what `apt-cache depends` prints.
fn dependencies(printed: &str) -> Vec<String> {
    printed.lines().filter_map(|line| line.trim().strip_prefix("Depends: ")).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dependencies_are_read() {
        let printed =
            "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-56-cloud-amd64\n |Depends: a\n  PreDepends: b\n";
        assert_eq!(dependencies(printed), ["linux-image-6.1.0-56-cloud-amd64"]);
    }
}
