//! The name of the extended resource.

use std::fmt;
use std::str::FromStr;

/// An extended resource name: a DNS subdomain, a slash and a name, e.g. `hpe.com/cxi`.
///
/// The rules are those of the API server and the kubelet (`IsExtendedResourceName`): both parts must be valid with
/// `requests.` in front of them, because that is how a quota names the resource, and names of Kubernetes itself are
/// not for us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceName(String);

/// Why a text is not an extended resource name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResourceNameError {
    /// There is no slash, or more than one.
    #[error("resource name must be a domain and a name with one slash between, such as hpe.com/cxi")]
    NotQualified,
    /// The part before the slash.
    #[error("the part before the slash must be a lower-case DNS subdomain of at most {MAX_DOMAIN} characters")]
    Domain,
    /// The part after the slash.
    #[error(
        "the part after the slash must be 1 to {MAX_NAME} letters, digits, '-', '_' or '.', and begin and end with a letter or digit"
    )]
    Name,
    /// A name of Kubernetes itself.
    #[error("the domain kubernetes.io and names that begin with requests. are reserved by Kubernetes")]
    Reserved,
}

/// A DNS subdomain has at most 253 characters, of which `requests.` takes nine.
const MAX_DOMAIN: usize = 253 - "requests.".len();
const MAX_NAME: usize = 63;
const MAX_LABEL: usize = 63;

/// The longest socket file name. A socket path has at most 107 bytes (`sun_path`), and the kubelet's directory on the
/// host, `/var/lib/kubelet/device-plugins/`, has 32.
const MAX_SOCKET_NAME: usize = 107 - 32;

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
        let (domain, name) = text.split_once('/').ok_or(ResourceNameError::NotQualified)?;
        if name.contains('/') {
            return Err(ResourceNameError::NotQualified);
        }
        if domain.len() > MAX_DOMAIN || !domain.split('.').all(is_dns_label) {
            return Err(ResourceNameError::Domain);
        }
        if !is_name(name) {
            return Err(ResourceNameError::Name);
        }
        if domain == "kubernetes.io" || domain.ends_with(".kubernetes.io") || text.starts_with("requests.") {
            return Err(ResourceNameError::Reserved);
        }
        Ok(Self(text.to_owned()))
    }
}

fn is_dns_label(label: &str) -> bool {
    (1..=MAX_LABEL).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
        && name.ends_with(|last: char| last.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<ResourceName, ResourceNameError> {
        text.parse()
    }

    #[test]
    fn accepts() {
        for text in ["hpe.com/cxi", "beta.hpe.com/cxi", "cxi.hpe.com/a_B.c-1", "x/y"] {
            assert_eq!(parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn rejects() {
        use ResourceNameError::{Domain, Name, NotQualified, Reserved};
        let long = format!("{}/cxi", vec!["a"; 123].join("."));
        for (text, error) in [
            ("", NotQualified),
            ("cxi", NotQualified),
            ("a/b/c", NotQualified),
            ("/cxi", Domain),
            ("HPE.com/cxi", Domain),
            ("hpe..com/cxi", Domain),
            ("-hpe.com/cxi", Domain),
            (long.as_str(), Domain),
            ("hpe.com/", Name),
            ("hpe.com/-cxi", Name),
            ("hpe.com/cxi.", Name),
            ("hpe.com/c xi", Name),
            ("hpe.com/cx\u{ef}", Name),
            ("kubernetes.io/cxi", Reserved),
            ("a.kubernetes.io/cxi", Reserved),
            ("requests.hpe.com/cxi", Reserved),
        ] {
            assert_eq!(parse(text), Err(error), "{text:?}");
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
