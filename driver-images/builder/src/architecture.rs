//! What architecture an image is for, and whether this machine can build for it.

use std::{fmt, fs, path::Path, str::FromStr};

use cxi_driver_image_format::KernelName;

use crate::error::{Error, Result};

/// Where the kernel lists what runs programs that it does not run itself.
const EMULATORS: &str = "/proc/sys/fs/binfmt_misc";

/// An architecture of nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// `x86_64`
    Amd64,
    /// `aarch64`
    Arm64,
}

/// A text that names none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an architecture that images are built for: there are amd64 and arm64")]
pub struct Unknown(String);

impl FromStr for Architecture {
    type Err = Unknown;

    fn from_str(text: &str) -> Result<Self, Unknown> {
        let known = [Self::Amd64, Self::Arm64].into_iter().find(|known| text == known.oci() || text == known.machine());
        known.ok_or_else(|| Unknown(text.to_owned()))
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.oci())
    }
}

impl Architecture {
    /// That of this machine.
    pub const HERE: Self = if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::Amd64 };

    /// Its name in images.
    pub fn oci(self) -> &'static str {
        match self {
            Self::Amd64 => "amd64",
            Self::Arm64 => "arm64",
        }
    }

    /// Its name as `uname -m` prints it, and manifests have it.
    pub fn machine(self) -> &'static str {
        match self {
            Self::Amd64 => "x86_64",
            Self::Arm64 => "aarch64",
        }
    }

    /// That of a kernel, as far as its name tells.
    pub fn of_kernel(kernel: &KernelName) -> Option<Self> {
        let names = |known: &Self| [known.oci(), known.machine()].iter().any(|name| kernel.as_str().contains(name));
        [Self::Amd64, Self::Arm64].into_iter().find(names)
    }

    /// The architecture that an image for `kernel` is built for, when the administrator `asked` for one or did not.
    ///
    /// # Errors
    /// If the kernel is of another architecture, or this machine runs no programs of it.
    pub fn to_build(asked: Option<Self>, kernel: &KernelName) -> Result<Self> {
        Self::to_build_with(asked, kernel, Path::new(EMULATORS))
    }

    fn to_build_with(asked: Option<Self>, kernel: &KernelName, emulators: &Path) -> Result<Self> {
        let told = Self::of_kernel(kernel);
        let wanted = asked.or(told).unwrap_or(Self::HERE);
        if let Some(told) = told
            && told != wanted
        {
            return Err(Error::Input(format!(
                "kernel {kernel} is one for {told}, not {wanted}: leave --arch out, or give the name of the other kernel"
            )));
        }
        if wanted == Self::HERE || wanted.is_emulated(emulators) {
            return Ok(wanted);
        }
        Err(Error::Input(format!(
            "an image for {wanted} is built by programs for {wanted}, which this machine ({}) does not run: build it on a \
             machine of that architecture, or have them emulated (apt-get install qemu-user-static)",
            Self::HERE
        )))
    }

    /// Whether the kernel of this machine has an emulator for programs of this architecture. It must be loaded already (flag
    /// `F`): in the root of a container there is none to be found.
    fn is_emulated(self, emulators: &Path) -> bool {
        // Where an ELF file says what it is for: `e_machine`, of 64-bit files with the lowest byte first.
        let machine = match self {
            Self::Amd64 => "3e00",
            Self::Arm64 => "b700",
        };
        let is_ours = |text: &str| {
            let word = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim();
            let magic = word("magic ");
            text.starts_with("enabled")
                && word("flags:").contains('F')
                && magic.starts_with("7f454c460201")
                && magic.get(36..40) == Some(machine)
        };
        let entries = fs::read_dir(emulators).into_iter().flatten().filter_map(Result::ok);
        entries.filter_map(|entry| fs::read_to_string(entry.path()).ok()).any(|text| is_ours(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("amd64", Ok(Architecture::Amd64))]
    #[case("x86_64", Ok(Architecture::Amd64))]
    #[case("aarch64", Ok(Architecture::Arm64))]
    #[case("s390x", Err(Unknown("s390x".to_owned())))]
    fn both_spellings_are_known(#[case] text: &str, #[case] expected: Result<Architecture, Unknown>) {
        assert_eq!(text.parse(), expected);
    }

    #[rstest]
    #[case("6.12.48+deb13-arm64", Some(Architecture::Arm64))]
    #[case("6.1.0-56-cloud-amd64", Some(Architecture::Amd64))]
    #[case("5.14.0-427.el9.aarch64+64k", Some(Architecture::Arm64))]
    #[case("4.18.0-553.el8_10.x86_64", Some(Architecture::Amd64))]
    #[case("6.8.0-45-generic", None)]
    fn kernels_tell_what_they_are_for(#[case] kernel: &str, #[case] expected: Option<Architecture>) {
        assert_eq!(Architecture::of_kernel(&kernel.parse().unwrap()), expected);
    }

    /// What the kernel says of an emulator, as Debian's qemu-user-static registers it.
    fn emulator(machine: &str, enabled: &str, flags: &str) -> String {
        format!(
            "{enabled}\ninterpreter /usr/libexec/qemu-binfmt/any\nflags: {flags}\noffset 0\nmagic \
             7f454c460201010000000000000000000200{machine}\nmask ffffffffffffff00fffffffffffffffffeffffff\n"
        )
    }

    #[test]
    fn another_architecture_needs_an_emulator() {
        let (other, machine) = match Architecture::HERE {
            Architecture::Amd64 => (Architecture::Arm64, "b700"),
            Architecture::Arm64 => (Architecture::Amd64, "3e00"),
        };
        let emulators = tempfile::tempdir().unwrap();
        let build = |asked, kernel: &str| {
            let kernel = kernel.parse().unwrap();
            Architecture::to_build_with(asked, &kernel, emulators.path()).map_err(|error| error.to_string())
        };
        let (here, told) = (Architecture::HERE, format!("6.12.48+deb13-{other}"));
        assert_eq!(build(None, "6.8.0-45-generic"), Ok(here));
        assert_eq!(build(Some(here), "6.8.0-45-generic"), Ok(here));
        let both = [build(Some(other), "6.8.0-45-generic"), build(None, &told)];
        for refused in both {
            let said = refused.unwrap_err();
            assert!(said.starts_with(&format!("an image for {other} is built by programs for {other}")), "{said}");
        }
        let said = build(Some(here), &told).unwrap_err();
        assert!(said.starts_with(&format!("kernel {told} is one for {other}, not {here}")), "{said}");

        let file = emulators.path().join("any");
        let useless = [
            emulator(machine, "disabled", "OCF"),
            emulator(machine, "enabled", "OC"),
            emulator("f300", "enabled", "OCF"),
            "enabled\n".to_owned(),
        ];
        for text in useless {
            fs::write(&file, &text).unwrap();
            build(None, &told).expect_err(&text);
        }
        fs::write(&file, emulator(machine, "enabled", "OCF")).unwrap();
        assert_eq!(build(None, &told), Ok(other));
    }
}
