//! Which digest a registry has for a tag, asked by skopeo.

use std::{io::ErrorKind, process::Command};

use anyhow::{Context, Result, bail};
use cxi_images::Digest;
use sha2::{Digest as _, Sha256};

/// The digest of an image that is named by tag: that of the list of its architectures where there is one.
///
/// # Errors
/// If skopeo is not there, or the registry does not have the image or does not let us see it.
pub(super) fn digest(image: &str) -> Result<Digest> {
    let output = match Command::new("skopeo").args(["inspect", "--raw", &format!("docker://{image}")]).output() {
        Ok(output) => output,
        Err(error) if error.kind() == ErrorKind::NotFound => bail!("--resolve needs skopeo: install it"),
        Err(error) => return Err(error).context("run skopeo"),
    };
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.trim().lines().last().unwrap_or_default();
        bail!("no digest of {image}: was it pushed, and may you read it (skopeo login)? {last}");
    }
    of(&output.stdout).with_context(|| format!("the digest of {image}"))
}

/// A digest is the hash of what a registry sends, to the byte.
fn of(manifest: &[u8]) -> Result<Digest> {
    Ok(format!("sha256:{:x}", Sha256::digest(manifest)).parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_of_all_bytes() {
        let empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(of(b"").unwrap().to_string(), empty);
        assert_ne!(of(b"\n").unwrap().to_string(), empty);
    }
}
