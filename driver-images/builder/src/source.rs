//! Where source trees come from, as it is written on a command line.

use std::{fmt, path::PathBuf, str::FromStr};

/// `[NAME=]LOCATION[#sha256=HEX][#dir=DIRECTORY]`: a directory, an archive, or an archive's URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The DKMS package that it is, for trees whose dkms.conf is a template; also what messages call it.
    pub name: Option<String>,
    /// Where it is.
    pub location: Location,
    /// SHA-256 that an archive must have, in hexadecimal.
    pub sha256: Option<String>,
    /// Directory inside that is meant, when it is not the whole.
    pub directory: Option<String>,
}

/// Where a source tree is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    /// A directory or an archive on this machine.
    Path(PathBuf),
    /// An archive elsewhere.
    Url(String),
    /// A git repository. Only a layout has such.
    Git {
        /// Its URL.
        url: String,
        /// Branch, tag or commit.
        reference: String,
    },
}

/// A text that is not a source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSource {
    /// Nothing there.
    #[error("a source needs a location: a directory, an archive, or an archive's URL")]
    Empty,
    /// An option after `#` that is not known.
    #[error("{0:?} is not an option of a source: after # there may be sha256=… and dir=…")]
    Option(String),
    /// An http:// URL without a checksum.
    #[error("{0} can be changed on its way: use https, or put #sha256=… with the archive's checksum behind it")]
    Unprotected(String),
    /// Not a SHA-256.
    #[error("{0:?} is not a SHA-256: 64 hexadecimal digits, as sha256sum prints them")]
    Checksum(String),
    /// A directory that leaves the tree.
    #[error("{0:?} is not a directory inside a source: give it relative to the source, without ..")]
    Directory(String),
    /// A URL of another kind.
    #[error(
        "{0:?} cannot be downloaded: http and https URLs of archives can; clone a repository yourself and give its directory"
    )]
    Scheme(String),
}

impl FromStr for Source {
    type Err = InvalidSource;

    fn from_str(text: &str) -> Result<Self, InvalidSource> {
        let mut parts = text.split('#');
        let first = parts.next().unwrap_or_default();
        let package = |name: &str| {
            !name.is_empty()
                && name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
                && !name.starts_with('.')
        };
        let (name, place) = match first.split_once('=') {
            Some((name, place)) if package(name) => (Some(name.to_owned()), place),
            _ => (None, first),
        };
        if place.is_empty() {
            return Err(InvalidSource::Empty);
        }
        let location = match place.split_once("://") {
            Some(("http" | "https", _)) => Location::Url(place.to_owned()),
            Some(_) => return Err(InvalidSource::Scheme(place.to_owned())),
            None => Location::Path(place.into()),
        };
        let mut source = Self { name, location, sha256: None, directory: None };
        for option in parts {
            match option.split_once('=') {
                Some(("sha256", sum)) if sum.len() == 64 && sum.bytes().all(|b| b.is_ascii_hexdigit()) => {
                    source.sha256 = Some(sum.to_ascii_lowercase());
                }
                Some(("sha256", sum)) => return Err(InvalidSource::Checksum(sum.to_owned())),
                Some(("dir", directory)) => {
                    let inside = !directory.is_empty()
                        && !directory.starts_with('/')
                        && directory.split('/').all(|part| part != "..");
                    if !inside {
                        return Err(InvalidSource::Directory(directory.to_owned()));
                    }
                    source.directory = Some(directory.to_owned());
                }
                _ => return Err(InvalidSource::Option(option.to_owned())),
            }
        }
        if place.starts_with("http://") && source.sha256.is_none() {
            return Err(InvalidSource::Unprotected(place.to_owned()));
        }
        Ok(source)
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.location {
            Location::Path(path) => write!(f, "{}", path.display()),
            Location::Url(url) | Location::Git { url, .. } => f.write_str(url),
        }
    }
}

impl Source {
    /// A short name for messages, directories and the manifest: that of the package, else the end of the location.
    pub fn short_name(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let text = self.to_string();
        let text = text.split('?').next().unwrap_or_default().trim_end_matches(['/', '.']);
        let last = text.rsplit('/').next().unwrap_or_default();
        let stem = ARCHIVES.iter().find_map(|ending| last.strip_suffix(ending)).unwrap_or(last);
        let name: String =
            stem.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '-' }).collect();
        if name.is_empty() { "source".to_owned() } else { name }
    }

    /// The same for one release: `{version}` in the location stands for it.
    #[must_use]
    pub fn of_release(&self, version: &str) -> Self {
        let filled = |text: &str| text.replace("{version}", version);
        let location = match &self.location {
            Location::Path(path) => Location::Path(filled(&path.to_string_lossy()).into()),
            Location::Url(url) => Location::Url(filled(url)),
            Location::Git { url, reference } => Location::Git { url: filled(url), reference: filled(reference) },
        };
        Self { location, directory: self.directory.as_deref().map(filled), ..self.clone() }
    }

    /// Whether its name is that of a zip archive; every other archive is `tar`'s.
    pub fn is_zip(&self) -> bool {
        let text = self.to_string();
        let path = std::path::Path::new(text.split('?').next().unwrap_or_default());
        path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("zip"))
    }
}

/// Endings of archives.
pub const ARCHIVES: [&str; 8] = [".tar.gz", ".tgz", ".tar.xz", ".tar.bz2", ".tar.zst", ".tar", ".zip", ".txz"];

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const SUM: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn everything_that_a_source_may_have() {
        let source: Source =
            format!("cray-cxi-driver=https://x/a.tar.gz?t=1#sha256={SUM}#dir=src/driver").parse().unwrap();
        let expected = Source {
            name: Some("cray-cxi-driver".to_owned()),
            location: Location::Url("https://x/a.tar.gz?t=1".to_owned()),
            sha256: Some(SUM.to_owned()),
            directory: Some("src/driver".to_owned()),
        };
        assert_eq!(source, expected);
    }

    #[test]
    fn a_release_has_its_own_place() {
        let source: Source = "/src/driver-{version}#dir=v{version}".parse().unwrap();
        let one = source.of_release("13.0.0");
        assert_eq!((one.to_string().as_str(), one.directory.as_deref()), ("/src/driver-13.0.0", Some("v13.0.0")));
    }

    #[rstest]
    #[case("../driver/", None, "driver")]
    #[case("./a b.tar.gz", None, "a-b")]
    #[case("https://x/release/shs-13.0.0.zip?token=a=b", None, "shs-13.0.0")]
    #[case("sl-driver=/src/x", Some("sl-driver"), "sl-driver")]
    #[case("/odd=name/tree", None, "tree")]
    fn names_are_short(#[case] text: &str, #[case] name: Option<&str>, #[case] short: &str) {
        let source: Source = text.parse().unwrap();
        assert_eq!((source.name.as_deref(), source.short_name().as_str()), (name, short));
    }

    #[rstest]
    #[case("")]
    #[case("name=")]
    #[case("a.tar.gz#sha256=12")]
    #[case("a.tar.gz#md5=12")]
    #[case("a#dir=../b")]
    #[case("a#dir=/b")]
    #[case("ftp://x/a.tar.gz")]
    #[case("git://x/a")]
    #[case("http://x/a.tar.gz")]
    fn refusals_say_what_would_do(#[case] text: &str) {
        let error = text.parse::<Source>().unwrap_err();
        insta::with_settings!({ snapshot_suffix => text.replace(|c: char| !c.is_ascii_alphanumeric(), "_") }, {
            insta::assert_snapshot!(error);
        });
    }
}
