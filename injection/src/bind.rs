//! A file or directory of the host that a container gets.

use std::{path::Path, str::FromStr};

use cxi_api::plugin_rules::{PATH, PLACE, Rule, broken};

/// A file or directory of the host in a container.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bind {
    /// Path on the host.
    pub host: String,
    /// Path in the container.
    pub container: String,
    /// Whether the container cannot change it.
    pub read_only: bool,
}

/// The text does not describe a mount.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindError {
    /// It is of another form.
    #[error("{0:?} is not HOST, HOST:CONTAINER, HOST:CONTAINER:ro or HOST:CONTAINER:rw")]
    Form(String),
    /// One of its paths cannot be used.
    #[error("{path:?} in {text:?} {broken}")]
    Path {
        /// The mount.
        text: String,
        /// The path.
        path: String,
        /// What is wrong with it.
        broken: &'static str,
    },
}

impl FromStr for Bind {
    type Err = BindError;

    /// `HOST[:CONTAINER[:ro|rw]]`; the same path and read-only if not said.
    fn from_str(text: &str) -> Result<Self, BindError> {
        let wrong = || BindError::Form(text.to_owned());
        let is = |rules: &[Rule<str>], path: &str| match broken(rules, path) {
            None => Ok(()),
            Some(broken) => Err(BindError::Path { text: text.to_owned(), path: path.to_owned(), broken }),
        };
        let mut parts = text.split(':');
        let host = parts.next().ok_or_else(wrong)?;
        let container = parts.next().unwrap_or(host);
        let read_only = match parts.next() {
            None | Some("ro") => true,
            Some("rw") => false,
            Some(_) => return Err(wrong()),
        };
        if parts.next().is_some() {
            return Err(wrong());
        }
        is(PATH, host)?;
        is(PATH, container)?;
        is(PLACE, container)?;
        Ok(Self { host: host.into(), container: container.into(), read_only })
    }
}

impl Bind {
    /// Whether its place in the container is that of `other` or below it.
    pub(crate) fn is_within(&self, other: &Self) -> bool {
        Path::new(&self.container).starts_with(&other.container)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/opt/cray", "/opt/cray", "/opt/cray", true)]
    #[case("/opt/cray:/opt/hpe", "/opt/cray", "/opt/hpe", true)]
    #[case("/opt/cray:/opt/hpe:ro", "/opt/cray", "/opt/hpe", true)]
    #[case("/dev/shm/x:/x:rw", "/dev/shm/x", "/x", false)]
    fn accepts_mounts(#[case] text: &str, #[case] host: &str, #[case] container: &str, #[case] read_only: bool) {
        let bind = Bind { host: host.into(), container: container.into(), read_only };
        assert_eq!(text.parse(), Ok(bind));
    }

    #[rstest]
    #[case("")]
    #[case("/")]
    #[case("opt")]
    #[case("/opt:")]
    #[case("/opt:opt")]
    #[case("/opt:/a:wr")]
    #[case("/opt:/a:rw:rw")]
    #[case("/opt/../etc")]
    #[case("/opt:/a/..")]
    #[case("/opt/")]
    #[case("/opt:/a//b")]
    #[case("/opt/x:/dev/cxi0")]
    fn rejects_mounts(#[case] text: &str) {
        let error = text.parse::<Bind>().unwrap_err().to_string();
        assert!(error.contains(&format!("{text:?}")), "{error}");
    }

    #[test]
    fn any_input_is_a_mount_or_refused() {
        cxi_any_input::text(&["/opt/cray", "/opt/mine:/opt/cray/lib64", "/a:/b:rw", "/a:/b:ro"], &|text| {
            let bind = text.parse::<Bind>();
            if let Ok(bind) = &bind {
                assert!([&bind.host, &bind.container].iter().all(|path| broken(PATH, path).is_none()));
                let again = format!("{}:{}:{}", bind.host, bind.container, if bind.read_only { "ro" } else { "rw" });
                assert_eq!(again.parse().as_ref(), Ok(bind));
            }
            bind.is_ok().into()
        });
    }
}
