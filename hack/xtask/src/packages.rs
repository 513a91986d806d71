//! What a task needs of the distribution: found out before anything else, and installed where that is possible.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use cxi_control_plane::Go;

use crate::steps::{Steps, finish};

/// Something that packages are needed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Fetching Go, where there is none.
    Go,
    /// Tests that run containers, build images and bring them into a registry. They need root, too.
    Containers,
    /// Guests with real kernels. Debian packages are unpacked with the distribution's own programs, and modules built for them.
    Guests,
}

/// Programs of [`Need::Containers`], or files, with the Debian packages that bring them.
const CONTAINERS: [(&str, &str); 12] = [
    ("git", "git"),
    ("runc", "runc"),
    ("busybox", "busybox-static"),
    ("buildah", "buildah"),
    ("mmdebstrap", "mmdebstrap"),
    ("skopeo", "skopeo"),
    ("docker-registry", "docker-registry"),
    ("curl", "curl"),
    ("unzip", "unzip"),
    ("shellcheck", "shellcheck"),
    ("/usr/share/keyrings/debian-archive-keyring.gpg", "debian-archive-keyring"),
    ("/etc/ssl/certs/ca-certificates.crt", "ca-certificates"),
];

impl Need {
    fn missing(self) -> Vec<&'static str> {
        match self {
            Self::Go if Go::is_out_of_reach() => vec!["python3", "python3-pip"],
            Self::Go => Vec::new(),
            Self::Containers => CONTAINERS
                .iter()
                .filter(|(name, _)| cxi_guest::find(name).is_none())
                .map(|(_, package)| *package)
                .collect(),
            Self::Guests => cxi_guest::missing_packages(),
        }
    }
}

/// Installs the Debian packages that are missing, or says in one line which they are.
///
/// # Errors
/// When packages are missing and cannot be installed here: this is no Debian or Ubuntu, the user is not root, or `refuse` is set.
pub fn ensure(steps: &mut Steps, needs: &[Need], refuse: bool) -> Result<()> {
    let mut missing: Vec<&str> = needs.iter().flat_map(|need| need.missing()).collect();
    missing.sort_unstable();
    missing.dedup();
    let root = is_root();
    if missing.is_empty() {
        if needs.contains(&Need::Containers) && !root {
            bail!("the tests run containers: run this command as root");
        }
        return Ok(());
    }
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let names = missing.join(" ");
    if !is_debian(&os_release) {
        bail!("install what these Debian packages hold, then run this command again: {names}");
    }
    if refuse || !root {
        bail!(
            "Debian packages are missing: as root, run apt-get install --no-install-recommends {names}, or this command without \
             --no-install"
        );
    }
    steps.call(&format!("installing {names}"), || {
        let update = &mut apt(&["update", "-qq", "-o", "APT::Update::Error-Mode=any"]);
        finish(update).context("apt-get update failed; is the package mirror reachable?")?;
        let mut install = apt(&["install", "-qq", "-y", "--no-install-recommends"]);
        finish(install.args(&missing)).context("apt-get install failed; see its message above")
    })?;
    let still: Vec<&str> = needs.iter().flat_map(|need| need.missing()).collect();
    if !still.is_empty() {
        bail!("installed, but still missing: {}", still.join(" "));
    }
    Ok(())
}

fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    // What it unpacks and configures is of no interest; errors come on standard error.
    command.args(arguments).env("DEBIAN_FRONTEND", "noninteractive").stdout(Stdio::null());
    command
}

/// The owner of a process's directory is its effective user.
fn is_root() -> bool {
    fs::metadata(Path::new("/proc/self")).is_ok_and(|metadata| metadata.uid() == 0)
}

/// Whether a distribution is Debian, or made from it. Source: os-release(5), `ID` and `ID_LIKE`.
fn is_debian(os_release: &str) -> bool {
    let values = os_release.lines().filter_map(|line| line.strip_prefix("ID=").or(line.strip_prefix("ID_LIKE=")));
    values.flat_map(|value| value.trim_matches(['"', '\'']).split_whitespace()).any(|id| id == "debian")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_and_what_is_made_from_it() {
        assert!(is_debian("PRETTY_NAME=\"Debian GNU/Linux 12\"\nID=debian\n"));
        assert!(is_debian("NAME=\"Ubuntu\"\nID=ubuntu\nID_LIKE=debian\n"));
        assert!(is_debian("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n"));
        assert!(!is_debian("ID=\"sles\"\nID_LIKE=\"suse\"\nBUG_REPORT_URL=https://bugs.debian.org\n"));
        assert!(!is_debian(""));
    }

    #[test]
    fn programs_and_files_are_found() {
        assert!(cxi_guest::find("sh").is_some() && cxi_guest::find("/etc/passwd").is_some());
        assert!(cxi_guest::find("no-such-program-here").is_none() && cxi_guest::find("/no/such/file").is_none());
    }
}
