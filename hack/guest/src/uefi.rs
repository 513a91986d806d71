//! Firmware with Secure Boot on, and a key that it trusts, for kernels that load only signed modules.
//!
//! Debian's OVMF comes with a set of variables in which a certificate made for tests (`SnakeOil`) is enrolled, and with its
//! private key. A kernel of Debian takes the certificates of the firmware's `db` for its own (`.platform` keyring), modules
//! included, as it does on a machine where an administrator has enrolled one.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cxi_control_plane::{Progress, cache};

use crate::{
    debian::Archive,
    error::{Attempt, Result},
    kernel::Kernel,
    program,
};

/// The password that Debian has given the key; `README.Debian` of the package has it.
const PASSWORD: &str = "pass:snakeoil";

/// The firmware.
#[derive(Clone, Debug)]
pub struct Uefi {
    directory: PathBuf,
}

/// A key and its certificate.
#[derive(Clone, Debug)]
pub struct Signer {
    key: PathBuf,
    certificate: PathBuf,
}

impl Uefi {
    /// The firmware, from the cache or from Debian.
    ///
    /// # Errors
    /// [`crate::Error::Missing`] when Debian cannot be reached and nothing is in the cache.
    pub fn ensure(progress: &Progress) -> Result<Self> {
        let cache = cache::directory()?.join("guest");
        let _lock = cache::Lock::acquire(&cache.join("uefi"), progress)?;
        let list = || format!("list {}", cache.display());
        for entry in fs::read_dir(&cache).attempt(list)? {
            let entry = entry.attempt(list)?;
            if entry.file_name().to_string_lossy().starts_with("uefi-") {
                return Ok(Self { directory: entry.path() });
            }
        }
        let archive = Archive::update(progress)?;
        let package = archive.package("ovmf")?;
        let directory = cache.join(format!("uefi-{}", cache::key(&[package.hash.as_bytes()])));
        let unfinished =
            tempfile::tempdir_in(&cache).attempt(|| format!("create a directory in {}", cache.display()))?;
        archive.unpack(&[package], unfinished.path())?;
        let unfinished = unfinished.keep();
        fs::rename(&unfinished, &directory).attempt(|| "move the firmware into the cache".to_owned())?;
        Ok(Self { directory })
    }

    /// QEMU's arguments for a machine that boots with it. Its variables are copied into `work`.
    ///
    /// # Errors
    /// When they cannot be copied.
    pub fn arguments(&self, work: &Path) -> Result<Vec<String>> {
        let variables = work.join("uefi-variables");
        let shipped = self.directory.join("usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd");
        fs::copy(&shipped, &variables).attempt(|| format!("copy {}", shipped.display()))?;
        let code = self.directory.join("usr/share/OVMF/OVMF_CODE_4M.fd");
        let drive = |unit: u8, more: &str, file: &Path| {
            ["-drive".to_owned(), format!("if=pflash,format=raw,unit={unit}{more},file={}", file.display())]
        };
        Ok([drive(0, ",readonly=on", &code), drive(1, "", &variables)].concat())
    }

    /// The key that this firmware trusts, made usable in `work`.
    ///
    /// # Errors
    /// When openssl is missing or fails.
    pub fn signer(&self, work: &Path) -> Result<Signer> {
        let key = work.join("trusted.key");
        let locked = self.directory.join("usr/share/ovmf/PkKek-1-snakeoil.key");
        let mut openssl = Command::new(program::need("openssl", "openssl")?);
        openssl.args(["rsa", "-passin", PASSWORD, "-in"]).arg(&locked).arg("-out").arg(&key);
        program::output(&mut openssl)?;
        Ok(Signer { key, certificate: self.directory.join("usr/share/ovmf/PkKek-1-snakeoil.pem") })
    }
}

impl Signer {
    /// A key that nobody trusts, made in `work`.
    ///
    /// # Errors
    /// When openssl is missing or fails.
    pub fn unknown(work: &Path) -> Result<Self> {
        let signer = Self { key: work.join("unknown.key"), certificate: work.join("unknown.pem") };
        let mut openssl = Command::new(program::need("openssl", "openssl")?);
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=nobody", "-keyout"]);
        program::output(openssl.arg(&signer.key).arg("-out").arg(&signer.certificate))?;
        Ok(signer)
    }

    /// Signs a module's file with the program that comes with the headers of `kernel`, as KMM's sign job does.
    ///
    /// # Errors
    /// When it cannot be signed.
    pub fn sign(&self, kernel: &Kernel, file: &Path) -> Result<()> {
        let mut sign = Command::new(kernel.headers().join("scripts/sign-file"));
        program::output(sign.arg("sha256").arg(&self.key).arg(&self.certificate).arg(file)).map(drop)
    }
}
