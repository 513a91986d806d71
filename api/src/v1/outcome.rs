//! How a node's transaction ended. It is stored as one string, as it was before there was a type for it.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// See the module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The wanted revision was verified and is in service.
    Verified,
    /// The revision passed the preflight for which it was there.
    PreflightPassed,
    /// The revision from before was verified again and is in service.
    RolledBack,
    /// The driver was unloaded, and none is wanted.
    Unloaded,
    /// The transaction was taken back before the driver was unloaded.
    GivenBack,
    /// Another revision was wanted by then.
    CalledOff,
    /// The driver failed: in which phase and why, in words.
    Failed(String),
    /// A word that this release does not know. A newer one may have written it.
    Unknown(String),
}

/// What the words for a failure begin with.
const FAILED: &str = "Failed";

impl Outcome {
    /// Whether the revision worked on the node.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Verified | Self::RolledBack)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Verified => "Verified",
            Self::PreflightPassed => "PreflightPassed",
            Self::RolledBack => "RolledBack",
            Self::Unloaded => "Unloaded",
            Self::GivenBack => "GivenBack",
            Self::CalledOff => "CalledOff",
            Self::Failed(words) | Self::Unknown(words) => words,
        })
    }
}

impl From<String> for Outcome {
    fn from(text: String) -> Self {
        match text.as_str() {
            "Verified" => Self::Verified,
            "PreflightPassed" => Self::PreflightPassed,
            "RolledBack" => Self::RolledBack,
            "Unloaded" => Self::Unloaded,
            "GivenBack" => Self::GivenBack,
            "CalledOff" => Self::CalledOff,
            _ if text.starts_with(FAILED) => Self::Failed(text),
            _ => Self::Unknown(text),
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(String::deserialize(deserializer)?.into())
    }
}

impl JsonSchema for Outcome {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Outcome".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        String::json_schema(generator)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_outcome_is_stored_as_its_words() {
        let failed = Outcome::Failed("Failed in Loading: no image".into());
        let unknown = Outcome::Unknown("Soaked".into());
        for outcome in [
            Outcome::Verified,
            Outcome::RolledBack,
            Outcome::Unloaded,
            Outcome::GivenBack,
            Outcome::CalledOff,
            failed,
            unknown,
        ] {
            let text = outcome.to_string();
            assert_eq!(serde_json::to_value(&outcome).unwrap(), text);
            assert_eq!(serde_json::from_value::<Outcome>(text.into()).unwrap(), outcome);
        }
    }
}
