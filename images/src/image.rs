//! The images that there are.

use std::{fmt, str::FromStr};

/// An image of the product.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Image {
    /// The operator.
    Operator,
    /// The device plugin and the CDI generator.
    DevicePlugin,
    /// The node agent: reports, metrics, retry handlers, one-shot pods.
    Agent,
}

impl Image {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Operator, Self::DevicePlugin, Self::Agent];

    /// The last part of its repository, which is also its key in the lock and the name of its package and main program.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Operator => "cxi-operator",
            Self::DevicePlugin => "cxi-device-plugin",
            Self::Agent => "cxi-agent",
        }
    }

    /// The programs in it; the first is what it runs.
    pub const fn programs(self) -> &'static [&'static str] {
        match self {
            Self::Operator => &["cxi-operator"],
            Self::DevicePlugin => &["cxi-device-plugin", "cxi-cdi-generator"],
            Self::Agent => &["cxi-agent"],
        }
    }

    /// The environment variable that tells the operator where this image is; none for its own. OLM reads these too: it
    /// lists every `RELATED_IMAGE_*` for catalogs that are mirrored.
    pub const fn variable(self) -> Option<&'static str> {
        match self {
            Self::Operator => None,
            Self::DevicePlugin => Some("RELATED_IMAGE_DEVICE_PLUGIN"),
            Self::Agent => Some("RELATED_IMAGE_AGENT"),
        }
    }
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Image {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|image| image.name() == text).ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("there is no image {text:?}; there are {names}")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for image in Image::ALL {
            assert_eq!(image.to_string().parse(), Ok(image));
            assert_eq!(image.programs()[0], image.name());
        }
        assert!("operator".parse::<Image>().unwrap_err().contains("cxi-operator, cxi-device-plugin"));
    }
}
