//! In which image a kernel's modules are built: that of the distribution whose kernel it is, which has its compiler and
//! knows its packages.

use crate::kernel::KernelName;

/// A family of distributions that the scripts know to get headers from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Distribution {
    /// Debian.
    Debian,
    /// Ubuntu.
    Ubuntu,
    /// Red Hat Enterprise Linux.
    Rhel,
    /// SUSE Linux Enterprise Server.
    Sles,
}

/// Images for a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Whose kernel it is.
    pub distribution: Distribution,
    /// Regular expression of such kernels. RE2 syntax without anything that other engines read differently.
    pub kernels: &'static str,
    /// Where the driver is built, when nobody names another image.
    pub builder: &'static str,
    /// What the driver image is made on. `scratch` where the builder has a busybox that needs nothing else.
    pub runtime: &'static str,
}

const SCRATCH: &str = "scratch";

const fn base(distribution: Distribution, kernels: &'static str, builder: &'static str, runtime: &'static str) -> Base {
    Base { distribution, kernels, builder, runtime }
}

/// The first that matches a kernel is its own. Compilers differ between releases of a distribution, so each has its line.
pub const BASES: &[Base] = &[
    base(
        Distribution::Rhel,
        r"^.+\.el8.*$",
        "registry.access.redhat.com/ubi8/ubi",
        "registry.access.redhat.com/ubi8/ubi-micro",
    ),
    base(
        Distribution::Rhel,
        r"^.+\.el9.*$",
        "registry.access.redhat.com/ubi9/ubi",
        "registry.access.redhat.com/ubi9/ubi-micro",
    ),
    base(
        Distribution::Rhel,
        r"^.+\.el10.*$",
        "registry.access.redhat.com/ubi10/ubi",
        "registry.access.redhat.com/ubi10/ubi-micro",
    ),
    base(
        Distribution::Sles,
        r"^.+-150400\..+-default$",
        "registry.suse.com/bci/bci-base:15.4",
        "registry.suse.com/bci/bci-micro:15.4",
    ),
    base(
        Distribution::Sles,
        r"^.+-150500\..+-default$",
        "registry.suse.com/bci/bci-base:15.5",
        "registry.suse.com/bci/bci-micro:15.5",
    ),
    base(
        Distribution::Sles,
        r"^.+-150600\..+-default$",
        "registry.suse.com/bci/bci-base:15.6",
        "registry.suse.com/bci/bci-micro:15.6",
    ),
    base(
        Distribution::Sles,
        r"^.+-150700\..+-default$",
        "registry.suse.com/bci/bci-base:15.7",
        "registry.suse.com/bci/bci-micro:15.7",
    ),
    base(
        Distribution::Ubuntu,
        r"^5\.15\..+-(generic|lowlatency|aws|azure|gcp|nvidia|oracle|realtime)(-.+)?$",
        "docker.io/library/ubuntu:22.04",
        SCRATCH,
    ),
    base(
        Distribution::Ubuntu,
        r"^6\..+-(generic|lowlatency|aws|azure|gcp|nvidia|oracle|realtime)(-.+)?$",
        "docker.io/library/ubuntu:24.04",
        SCRATCH,
    ),
    base(Distribution::Debian, r"^5\.10\..+-(amd64|arm64)$", "docker.io/library/debian:bullseye", SCRATCH),
    base(Distribution::Debian, r"^.+[+]deb12-.*(amd64|arm64)$", "docker.io/library/debian:bookworm", SCRATCH),
    base(Distribution::Debian, r"^6\.1\.0-.+-(amd64|arm64)$", "docker.io/library/debian:bookworm", SCRATCH),
    base(Distribution::Debian, r"^.+[+]deb13-.*(amd64|arm64)$", "docker.io/library/debian:trixie", SCRATCH),
];

impl Base {
    /// Whose kernel this is, as far as its name tells.
    pub fn of(kernel: &KernelName) -> Option<&'static Self> {
        BASES.iter().find(|base| base.matches(kernel.as_str()))
    }

    /// The newest release of a distribution, for kernels whose name does not tell.
    pub fn of_distribution(distribution: Distribution) -> Option<&'static Self> {
        BASES.iter().rfind(|base| base.distribution == distribution)
    }

    fn matches(&self, kernel: &str) -> bool {
        // The expressions are constants; a test compiles each.
        regex::Regex::new(self.kernels).is_ok_and(|expression| expression.is_match(kernel))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("6.1.0-56-cloud-amd64", Some("docker.io/library/debian:bookworm"))]
    #[case("6.12.117+deb12-rt-amd64", Some("docker.io/library/debian:bookworm"))]
    #[case("6.12.48+deb13-arm64", Some("docker.io/library/debian:trixie"))]
    #[case("5.15.0-91-generic", Some("docker.io/library/ubuntu:22.04"))]
    #[case("6.8.0-1012-aws", Some("docker.io/library/ubuntu:24.04"))]
    #[case("6.8.0-45-generic-64k", Some("docker.io/library/ubuntu:24.04"))]
    #[case("4.18.0-553.el8_10.x86_64", Some("registry.access.redhat.com/ubi8/ubi"))]
    #[case("5.14.0-427.13.1.el9_4.x86_64", Some("registry.access.redhat.com/ubi9/ubi"))]
    #[case("5.14.0-427.el9.aarch64+64k", Some("registry.access.redhat.com/ubi9/ubi"))]
    #[case("6.4.0-150600.23.7-default", Some("registry.suse.com/bci/bci-base:15.6"))]
    #[case("6.18.44-fc", None)]
    fn kernels_tell_whose_they_are(#[case] kernel: &str, #[case] builder: Option<&str>) {
        assert_eq!(Base::of(&kernel.parse().unwrap()).map(|base| base.builder), builder);
    }

    #[test]
    fn every_expression_compiles_and_every_distribution_has_a_base() {
        for base in BASES {
            regex::Regex::new(base.kernels).unwrap();
            assert!(Base::of_distribution(base.distribution).is_some());
        }
    }
}
