//! The name of the extended resource.

use std::{fmt, str::FromStr};

use cxi_api::plugin_rules::{MAX_KUBELET_ROOT, RESOURCE_NAME, broken};

/// An extended resource name: a DNS subdomain, a slash and a name, e.g. `hpe.com/cxi`. The rules are those of the CRD
/// ([`RESOURCE_NAME`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceName(String);

/// The text is not an extended resource name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a resource name {0}")]
pub struct ResourceNameError(&'static str);

/// The longest socket file name. A socket path has at most 107 bytes (`sun_path`), and it is the kubelet that connects, by the
/// path of its own directory.
const MAX_SOCKET_NAME: usize = 107 - MAX_KUBELET_ROOT - "/device-plugins/".len();

impl ResourceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// File name of the plugin's socket: `cxi-<resource>.sock` with the slash as `_`, which no domain contains, so
    /// that two resources never share a socket. Long names are cut and told apart by a hash.
    pub fn socket_name(&self) -> String {
        let name = format!("cxi-{}.sock", self.0.replace('/', "_"));
        if name.len() <= MAX_SOCKET_NAME {
            return name;
        }
        let tail = format!("-{:016x}.sock", fnv1a(self.0.as_bytes()));
        format!("{}{tail}", &name[..MAX_SOCKET_NAME - tail.len()])
    }
}

/// FNV-1a, 64 bit: stable between builds, unlike the standard library's hasher.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

impl fmt::Display for ResourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ResourceName {
    type Err = ResourceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match broken(RESOURCE_NAME, text) {
            Some(message) => Err(ResourceNameError(message)),
            None => Ok(Self(text.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ResourceName, ResourceNameError> {
        text.parse()
    }

    #[test]
    fn a_refusal_says_what_helps() {
        assert_eq!(parse("hpe.com/cxi").unwrap().as_str(), "hpe.com/cxi");
        for (text, said) in [("cxi", "such as hpe.com/cxi"), ("requests.hpe.com/cxi", "must not begin with requests.")]
        {
            assert!(parse(text).unwrap_err().to_string().contains(said), "{text}");
        }
    }

    #[test]
    fn sockets_of_different_resources_differ() {
        assert_eq!(parse("hpe.com/cxi").unwrap().socket_name(), "cxi-hpe.com_cxi.sock");
        let long = format!("{}.com/cxi", "a".repeat(63));
        let (one, two) = (parse(&long).unwrap().socket_name(), parse(&format!("{long}2")).unwrap().socket_name());
        assert_ne!(one, two);
        assert_eq!(one.len(), MAX_SOCKET_NAME);
    }

    #[test]
    fn any_input_is_a_resource_or_refused() {
        cxi_any_input::text(&["hpe.com/cxi", "beta.hpe.com/cxi", "cxi.hpe.com/a_B.c-1"], &|text| {
            let name = parse(text);
            if let Ok(name) = &name {
                assert_eq!((name.as_str(), text.matches('/').count()), (text, 1));
                assert!(name.socket_name().len() <= MAX_SOCKET_NAME && !name.socket_name().contains('/'));
            }
            name.is_ok().into()
        });
    }
}
