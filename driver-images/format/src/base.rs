//! In which image a kernel's modules are built: that of the distribution whose kernel it is, which has its compiler and
//! knows its packages. A kernel that is not known for sure has none: modules that another distribution's compiler made of another
//! distribution's headers may load and be wrong.

use std::{fmt, str::FromStr};

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

impl Distribution {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Debian, Self::Ubuntu, Self::Rhel, Self::Sles];

    /// As it is written on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Ubuntu => "ubuntu",
            Self::Rhel => "rhel",
            Self::Sles => "sles",
        }
    }
}

/// Images for the kernels of a release of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Base {
    /// Whose kernels they are.
    pub distribution: Distribution,
    /// Its release, as `VERSION_ID` of its os-release says it; of RHEL the major one, whose minor ones have one image.
    pub release: &'static str,
    /// Regular expression of such kernels. RE2 syntax without anything that other engines read differently.
    pub kernels: &'static str,
    /// Whether the name of a kernel tells by itself that it is of this release. Ubuntu gives the same names to kernels of two
    /// releases: 6.8.0-52-generic is of 24.04, and of 22.04 with its hardware enablement.
    pub told_by_name: bool,
    /// Where the driver is built, when no other image is named.
    pub builder: &'static str,
    /// What the driver image is made on. `scratch` where the builder has a busybox that needs nothing else.
    pub runtime: &'static str,
}

const fn base(
    (distribution, release): (Distribution, &'static str),
    kernels: &'static str,
    builder: &'static str,
    runtime: &'static str,
) -> Base {
    let told_by_name = !matches!(distribution, Distribution::Ubuntu);
    Base { distribution, release, kernels, told_by_name, builder, runtime }
}

/// Kernels of Ubuntu: number of the ABI, flavour.
const UBUNTU: &str = r"^[0-9]+[.][0-9]+[.]0-[0-9]+-[a-z][a-z0-9-]*$";

/// What is known for sure. Compilers differ between releases of a distribution, so each has its line. Kernels that others make of a
/// distribution's (UEK of Oracle, those of elrepo.org, of Lustre, and backports) are in none. Facts: names of packages in the repositories of each
/// distribution; for backports of Debian, `6.1.0-0.deb11.21-amd64` and `6.12.9+bpo-amd64`.
pub const BASES: &[Base] = &[
    base(
        (Distribution::Rhel, "8"),
        r"^4[.]18[.]0-[0-9.]+([.]rt[0-9.]+)?[.]el8(_[0-9]+)?[.](x86_64|aarch64)([+](rt|64k|debug)(-(64k|debug))*)?$",
        "registry.access.redhat.com/ubi8/ubi",
        "registry.access.redhat.com/ubi8/ubi-micro",
    ),
    base(
        (Distribution::Rhel, "9"),
        r"^5[.]14[.]0-[0-9.]+([.]rt[0-9.]+)?[.]el9(_[0-9]+)?[.](x86_64|aarch64)([+](rt|64k|debug)(-(64k|debug))*)?$",
        "registry.access.redhat.com/ubi9/ubi",
        "registry.access.redhat.com/ubi9/ubi-micro",
    ),
    base(
        (Distribution::Rhel, "10"),
        r"^6[.]12[.]0-[0-9.]+([.]rt[0-9.]+)?[.]el10(_[0-9]+)?[.](x86_64|aarch64)([+](rt|64k|debug)(-(64k|debug))*)?$",
        "registry.access.redhat.com/ubi10/ubi",
        "registry.access.redhat.com/ubi10/ubi-micro",
    ),
    base(
        (Distribution::Sles, "15.4"),
        r"^[0-9.]+-150400[.][0-9][0-9A-Za-z.]*-(default|azure|rt|64kb)$",
        "registry.suse.com/bci/bci-base:15.4",
        "registry.suse.com/bci/bci-micro:15.4",
    ),
    base(
        (Distribution::Sles, "15.5"),
        r"^[0-9.]+-150500[.][0-9][0-9A-Za-z.]*-(default|azure|rt|64kb)$",
        "registry.suse.com/bci/bci-base:15.5",
        "registry.suse.com/bci/bci-micro:15.5",
    ),
    base(
        (Distribution::Sles, "15.6"),
        r"^[0-9.]+-150600[.][0-9][0-9A-Za-z.]*-(default|azure|rt|64kb)$",
        "registry.suse.com/bci/bci-base:15.6",
        "registry.suse.com/bci/bci-micro:15.6",
    ),
    base(
        (Distribution::Sles, "15.7"),
        r"^[0-9.]+-150700[.][0-9][0-9A-Za-z.]*-(default|azure|rt|64kb)$",
        "registry.suse.com/bci/bci-base:15.7",
        "registry.suse.com/bci/bci-micro:15.7",
    ),
    base((Distribution::Ubuntu, "22.04"), UBUNTU, "docker.io/library/ubuntu:22.04", "scratch"),
    base((Distribution::Ubuntu, "24.04"), UBUNTU, "docker.io/library/ubuntu:24.04", "scratch"),
    base(
        (Distribution::Debian, "11"),
        r"^5[.]10[.]0-[0-9]+(-cloud|-rt)?-(amd64|arm64)$",
        "docker.io/library/debian:bullseye",
        "scratch",
    ),
    base(
        (Distribution::Debian, "12"),
        r"^(6[.]1[.]0-[0-9]+|[0-9.]+[+]deb12)(-cloud|-rt)?-(amd64|arm64)$",
        "docker.io/library/debian:bookworm",
        "scratch",
    ),
    base(
        (Distribution::Debian, "13"),
        r"^[0-9.]+[+]deb13(-cloud|-rt)?-(amd64|arm64)(-16k)?$",
        "docker.io/library/debian:trixie",
        "scratch",
    ),
];

/// An operating system, as it says of itself by `PRETTY_NAME` in os-release, which a Node hands on as `osImage`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System<'a> {
    /// A release that may have images.
    Release(Distribution, &'a str, Option<&'a str>),
    /// `CoreOS` of Red Hat, whose kernels are those of a RHEL that their names tell.
    CoreOs,
    /// Another one.
    Other,
}

impl<'a> System<'a> {
    fn parse(text: &'a str) -> Self {
        let number =
            |text: &'a str| text.split_whitespace().find(|word| word.starts_with(|c: char| c.is_ascii_digit()));
        let known = |distribution, rest: &'a str| {
            number(rest).map_or(Self::Other, |release| Self::Release(distribution, release, service_pack(rest)))
        };
        if let Some(rest) = text.strip_prefix("Debian GNU/Linux ") {
            known(Distribution::Debian, rest)
        } else if let Some(rest) = text.strip_prefix("Ubuntu ") {
            known(Distribution::Ubuntu, rest)
        } else if text.starts_with("Red Hat Enterprise Linux CoreOS ") {
            Self::CoreOs
        } else if let Some(rest) = text.strip_prefix("Red Hat Enterprise Linux ") {
            known(Distribution::Rhel, rest)
        } else if let Some(rest) = text.strip_prefix("SUSE Linux Enterprise ") {
            if rest.contains("Micro") { Self::Other } else { known(Distribution::Sles, rest) }
        } else {
            Self::Other
        }
    }

    /// Whether a base is for it.
    fn is(&self, base: &Base) -> bool {
        let Self::Release(distribution, release, pack) = *self else { return false };
        let major = || release.split('.').next().unwrap_or(release);
        distribution == base.distribution
            && match distribution {
                Distribution::Debian | Distribution::Rhel => base.release == major(),
                // 22.04.5 is 22.04.
                Distribution::Ubuntu => {
                    release == base.release
                        || release.strip_prefix(base.release).is_some_and(|rest| rest.starts_with('.'))
                }
                Distribution::Sles => match pack {
                    Some(pack) => base.release.split_once('.') == Some((release, pack)),
                    None => base.release == release,
                },
            }
    }
}

/// `15 SP6` is 15.6.
fn service_pack(text: &str) -> Option<&str> {
    text.split_whitespace().find_map(|word| word.strip_prefix("SP"))
}

/// A distribution, and which release of it, as an administrator says it: `ubuntu:22.04`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distro {
    /// Which.
    pub distribution: Distribution,
    /// Its release, where the kernel's name does not tell.
    pub release: Option<&'static str>,
}

/// A text that names no distribution.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{text:?} is not a distribution that is known: {}; name an image to build in with --builder-image for another one",
    all_releases().join(", ")
)]
pub struct InvalidDistro {
    text: String,
}

fn all_releases() -> Vec<String> {
    BASES.iter().map(|base| format!("{}:{}", base.distribution.name(), base.release)).collect()
}

impl FromStr for Distro {
    type Err = InvalidDistro;

    fn from_str(text: &str) -> Result<Self, InvalidDistro> {
        let invalid = || InvalidDistro { text: text.to_owned() };
        let (name, release) = match text.split_once(':') {
            Some((name, release)) => (name, Some(release)),
            None => (text, None),
        };
        let distribution = Distribution::ALL.into_iter().find(|known| known.name() == name).ok_or_else(invalid)?;
        let release = release.map(|release| {
            let found = BASES.iter().find(|base| base.distribution == distribution && base.release == release);
            found.map(|base| base.release).ok_or_else(invalid)
        });
        Ok(Self { distribution, release: release.transpose()? })
    }
}

/// Why it is not known in which image a kernel's modules are built.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnknownKernel {
    kernel: String,
    os: Option<String>,
    distribution: Option<Distribution>,
}

impl fmt::Display for UnknownKernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, os, distribution } = self;
        write!(f, "it is not known for sure whose kernel {kernel} is")?;
        if let Some(os) = os {
            write!(f, ", on nodes that run {os:?}")?;
        }
        let releases = |distribution: &Distribution| {
            let all = BASES.iter().filter(|base| base.distribution == *distribution);
            all.map(|base| format!("{}:{}", distribution.name(), base.release)).collect::<Vec<_>>().join(" or ")
        };
        let distro = distribution.as_ref().map_or_else(|| "NAME:RELEASE".to_owned(), releases);
        write!(f, ": name an image to build in with --builder-image, or say its release with --distro {distro}")
    }
}

impl std::error::Error for UnknownKernel {}

impl Base {
    /// Whether a text is the name of a kernel that tells for sure whose it is.
    pub fn is_told_by(kernel: &str) -> bool {
        kernel.parse().is_ok_and(|kernel| Self::of(&kernel).is_some())
    }

    /// Whose kernel this is, as far as its name tells for sure.
    pub fn of(kernel: &KernelName) -> Option<&'static Self> {
        BASES.iter().find(|base| base.told_by_name && base.matches(kernel))
    }

    /// Whose kernel this is on nodes that say `os` of themselves (`osImage`). Only what is for that system is taken; a kernel that is
    /// not of its distribution is not known.
    pub fn on(kernel: &KernelName, os: &str) -> Option<&'static Self> {
        match System::parse(os) {
            System::CoreOs => Self::of(kernel).filter(|base| base.distribution == Distribution::Rhel),
            system => BASES.iter().find(|base| system.is(base) && base.matches(kernel)),
        }
    }

    /// In which image to build for a kernel, by all that is said of it: by the administrator, by the nodes, by its name.
    ///
    /// # Errors
    /// When that is not known for sure.
    pub fn choose(
        kernel: &KernelName,
        os: Option<&str>,
        distro: Option<&Distro>,
    ) -> Result<&'static Self, UnknownKernel> {
        let by_nodes = || os.map_or_else(|| Self::of(kernel), |os| Self::on(kernel, os));
        let found = match distro {
            Some(Distro { distribution, release: Some(release) }) => {
                BASES.iter().find(|base| base.distribution == *distribution && base.release == *release)
            }
            Some(Distro { distribution, release: None }) => {
                by_nodes().filter(|base| base.distribution == *distribution)
            }
            None => by_nodes(),
        };
        found.ok_or_else(|| UnknownKernel {
            kernel: kernel.to_string(),
            os: os.map(str::to_owned),
            distribution: distro.map(|distro| distro.distribution),
        })
    }

    fn matches(&self, kernel: &KernelName) -> bool {
        // The expressions are constants; a test compiles each.
        regex::Regex::new(self.kernels).is_ok_and(|expression| expression.is_match(kernel.as_str()))
    }
}

#[cfg(test)]
mod tests;
