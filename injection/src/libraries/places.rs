//! Where libraries are looked for: directories of the host, of which some may be those of one driver release.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// What stands for the release of the loaded driver in a directory's path.
pub const RELEASE: &str = "{version}";

/// A release of the driver, as its image names it, and fit to be part of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Release(String);

/// The text is no release that a directory could be called by.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a release such as 13.1.0: letters, digits and any of . _ + ~ - that do not begin with a dot")]
pub struct ReleaseError(String);

/// The text is not a place for libraries.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlaceError {
    /// It means nothing on the host.
    #[error("must be an absolute path on the host")]
    Relative,
    /// It leads somewhere else than it says.
    #[error("must not have '..' in it")]
    Climbs,
    /// It has a placeholder that is not known.
    #[error("has braces: {RELEASE}, for the release of the loaded driver, is all that may be in them")]
    Placeholder,
}

/// A directory of the host; with [`RELEASE`] in its path one for each release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place(String);

/// Where to look first, each a list of directories; the first one that has the library counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// For libfabric: HPE's `OFI_ROOT`.
    pub ofi: Vec<Place>,
    /// For libcxi and what is built with it: HPE's `CXI_ROOT`.
    pub cxi: Vec<Place>,
}

impl FromStr for Release {
    type Err = ReleaseError;

    fn from_str(text: &str) -> Result<Self, ReleaseError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"._+~-".contains(&byte);
        let whole = !text.is_empty() && text.len() <= 255 && !text.starts_with('.') && text.bytes().all(fits);
        if whole { Ok(Self(text.to_owned())) } else { Err(ReleaseError(text.to_owned())) }
    }
}

impl fmt::Display for Release {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Place {
    type Err = PlaceError;

    fn from_str(text: &str) -> Result<Self, PlaceError> {
        if !text.starts_with('/') {
            return Err(PlaceError::Relative);
        }
        if text.split('/').any(|part| part == "..") {
            return Err(PlaceError::Climbs);
        }
        if text.replace(RELEASE, "").contains(['{', '}']) {
            return Err(PlaceError::Placeholder);
        }
        Ok(Self(text.to_owned()))
    }
}

impl Place {
    /// Whether it is another directory for each release.
    pub fn is_of_a_release(&self) -> bool {
        self.0.contains(RELEASE)
    }

    /// The directory while a driver of `release` is loaded; none when it takes a release and none is known.
    pub fn directory(&self, release: Option<&Release>) -> Option<PathBuf> {
        match release {
            _ if !self.is_of_a_release() => Some(Path::new(&self.0).into()),
            Some(release) => Some(self.0.replace(RELEASE, &release.0).into()),
            None => None,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("/usr/lib64", None, Some("/usr/lib64"))]
    #[case("/usr/lib64", Some("13.1.0"), Some("/usr/lib64"))]
    #[case("/opt/slingshot/{version}/lib64", Some("13.1.0"), Some("/opt/slingshot/13.1.0/lib64"))]
    #[case("/opt/slingshot/{version}/lib64", None, None)]
    fn a_directory_may_be_of_a_release(
        #[case] place: &str,
        #[case] release: Option<&str>,
        #[case] directory: Option<&str>,
    ) {
        let release: Option<Release> = release.map(|release| release.parse().unwrap());
        assert_eq!(place.parse::<Place>().unwrap().directory(release.as_ref()), directory.map(PathBuf::from));
    }

    #[rstest]
    #[case("lib", PlaceError::Relative)]
    #[case("", PlaceError::Relative)]
    #[case("/opt/../etc", PlaceError::Climbs)]
    #[case("/opt/{release}", PlaceError::Placeholder)]
    #[case("/opt/{version", PlaceError::Placeholder)]
    fn what_is_no_place_is_refused(#[case] text: &str, #[case] error: PlaceError) {
        assert_eq!(text.parse::<Place>(), Err(error));
    }

    #[test]
    fn any_input_is_a_release_in_one_directory_or_refused() {
        cxi_any_input::text(&["13.1.0", "13.1.0-rc1", "14~beta+2", "SHS_13"], &|text| {
            let release = text.parse::<Release>();
            if let Ok(release) = &release {
                let place: Place = "/opt/{version}/lib64".parse().unwrap();
                let directory = place.directory(Some(release)).unwrap();
                let parts: Vec<_> = directory.components().collect();
                assert_eq!(parts.len(), 4, "{}", directory.display());
                assert!(parts[1..].iter().all(|part| matches!(part, std::path::Component::Normal(_))));
            }
            release.is_ok().into()
        });
    }

    #[test]
    fn any_input_is_a_place_on_the_host_or_refused() {
        cxi_any_input::text(&["/usr/lib64", "/opt/{version}/lib64", "/opt/shs-{version}"], &|text| {
            let place = text.parse::<Place>();
            if let Ok(place) = &place {
                assert_eq!(place.to_string(), text);
                let directory = place.directory(Some(&"13".parse().unwrap())).unwrap();
                assert!(directory.is_absolute() && !directory.to_string_lossy().contains(['{', '}']));
            }
            place.is_ok().into()
        });
    }
}
