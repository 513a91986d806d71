//! Names of kernels, and the image tags made of them.

use std::{fmt, str::FromStr};

/// Longest image tag (OCI distribution specification).
const TAG_MAX: usize = 128;

/// A kernel as `uname -r` prints it, flavour included: `6.12.117+deb12-cloud-amd64`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelName(String);

/// A text that cannot be a kernel's name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a kernel: give what `uname -r` prints on the node, such as 6.1.0-56-amd64")]
pub struct InvalidKernel(String);

impl KernelName {
    /// As it is spelled in an image tag: KMM, too, replaces what a tag cannot hold by `_` (`internal/kernel`).
    pub fn in_tag(&self) -> String {
        in_tag(&self.0)
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for KernelName {
    type Err = InvalidKernel;

    fn from_str(text: &str) -> Result<Self, InvalidKernel> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+~".contains(c);
        // KMM needs three numbers.
        let parts = text.split(['.', '-', ',']).take(3).filter(|part| !part.is_empty()).count();
        if text.starts_with(|c: char| c.is_ascii_digit()) && parts == 3 && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidKernel(text.to_owned()))
        }
    }
}

impl fmt::Display for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Tag of the image with a driver release for a kernel: `<version>-<kernel>`, each as [`KernelName::in_tag`] spells it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageTag(String);

/// Why there is no tag for a release and a kernel.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTag {
    /// The version has a character that no tag can hold.
    #[error(
        "{0:?} cannot be a driver version: it becomes part of an image tag, which holds letters, digits, '.', '_', '-'"
    )]
    Version(String),
    /// Both together are too long.
    #[error("version {0} and kernel {1} make a tag of more than {TAG_MAX} characters; use a shorter version")]
    TooLong(String, KernelName),
}

impl ImageTag {
    /// The tag.
    ///
    /// # Errors
    /// When it would not be a tag.
    pub fn new(version: &str, kernel: &KernelName) -> Result<Self, InvalidTag> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._-+".contains(c);
        if !version.starts_with(|c: char| c.is_ascii_alphanumeric()) || !version.chars().all(allowed) {
            return Err(InvalidTag::Version(version.to_owned()));
        }
        let tag = format!("{}-{}", in_tag(version), kernel.in_tag());
        if tag.len() > TAG_MAX {
            return Err(InvalidTag::TooLong(version.to_owned(), kernel.clone()));
        }
        Ok(Self(tag))
    }

    /// The tag.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ImageTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Two names that differ only where a tag cannot are one tag; code that makes tags of several names has to check.
fn in_tag(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("6.1.0-56-amd64", "6.1.0-56-amd64")]
    #[case("6.12.117+deb12-cloud-amd64", "6.12.117_deb12-cloud-amd64")]
    #[case("5.14.0-427.13.1.el9_4.x86_64", "5.14.0-427.13.1.el9_4.x86_64")]
    #[case("5.14.0-427.el9.aarch64+64k", "5.14.0-427.el9.aarch64_64k")]
    #[case("6.4.0-150600.23.7-default", "6.4.0-150600.23.7-default")]
    #[case("6.8.0-45-generic", "6.8.0-45-generic")]
    fn a_kernel_has_one_spelling_in_tags(#[case] kernel: &str, #[case] tag: &str) {
        assert_eq!(kernel.parse::<KernelName>().unwrap().in_tag(), tag);
    }

    #[rstest]
    #[case("")]
    #[case("6.1")]
    #[case("linux-6.1.0")]
    #[case("6.1.0 -amd64")]
    #[case("6.1.0/../x")]
    #[case("6.1.0';reboot")]
    fn refuses_what_is_no_kernel(#[case] text: &str) {
        assert_eq!(text.parse::<KernelName>(), Err(InvalidKernel(text.to_owned())));
    }

    #[test]
    fn tags_are_tags() {
        let kernel: KernelName = "6.12.117+deb12-amd64".parse().unwrap();
        assert_eq!(ImageTag::new("2.0.1+b7", &kernel).unwrap().as_str(), "2.0.1_b7-6.12.117_deb12-amd64");
        assert_eq!(ImageTag::new("13 0", &kernel), Err(InvalidTag::Version("13 0".to_owned())));
        assert_eq!(ImageTag::new(".13", &kernel), Err(InvalidTag::Version(".13".to_owned())));
        let long = "1".repeat(120);
        assert!(matches!(ImageTag::new(&long, &kernel), Err(InvalidTag::TooLong(..))));
    }

    #[test]
    fn any_input_is_a_kernel_or_refused() {
        cxi_any_input::text(
            &["6.1.0-56-amd64", "6.12.117+deb12-cloud-amd64", "5.14.0-427.13.1.el9_4.x86_64"],
            &|text| {
                let kernel = text.parse::<KernelName>();
                if let Ok(kernel) = &kernel {
                    let tag = kernel.in_tag();
                    assert_eq!((kernel.as_str(), tag.len()), (text, text.len()));
                    assert!(
                        tag.bytes()
                            .zip(text.bytes())
                            .all(|(new, old)| new == old || (new == b'_' && b"+~".contains(&old)))
                    );
                }
                kernel.is_ok().into()
            },
        );
    }

    proptest::proptest! {
        #[test]
        fn tags_differ_where_kernels_do_in_more_than_a_plus(a in "[0-9]\\.[0-9]\\.[0-9](-[a-z+]{0,4})?", b in "[0-9]\\.[0-9]\\.[0-9](-[a-z+]{0,4})?") {
            if let (Ok(a), Ok(b)) = (a.parse::<KernelName>(), b.parse::<KernelName>()) {
                // These have no underscore, so that nothing but a plus becomes one.
                assert_eq!(a == b, a.in_tag() == b.in_tag());
            }
        }
    }
}
