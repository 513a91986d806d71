//! What an administrator asks of a CXIDriver. The spec is read here, once per plan, and nowhere else in the engine: what is read is right,
//! and what cannot be right is refused with the name of the field.

mod operands;
mod source;
mod strategy;

use std::sync::Arc;

use cxi_api::{CXIDriverSpec, RevisionId, Validation};

pub use self::{
    operands::{Offer, RetryHandler},
    source::{Lack, Source},
    strategy::{Drain, Strategy, Test},
};
use crate::world::{Candidate, Driver};

/// See the module.
#[derive(Debug)]
pub struct Intent<'a> {
    written: &'a Arc<CXIDriverSpec>,
    /// The driver release.
    pub version: &'a str,
    /// The revision that is described.
    pub revision: RevisionId,
    /// Where the driver comes from.
    pub source: Source,
    /// How NICs are offered, if the device plugin is wanted.
    pub offer: Option<Offer<'a>>,
    /// Name under which NICs are offered.
    pub resource: &'a str,
    /// The retry handler.
    pub retry_handler: RetryHandler<'a>,
    /// Whether the metrics exporter is wanted.
    pub exports_metrics: bool,
    /// Whether no further node is admitted.
    pub is_paused: bool,
    /// Whether the images of all nodes' kernels must be there before the first node is admitted.
    pub asks_for_all_images: bool,
    /// How nodes move.
    pub strategy: Strategy<'a>,
    /// How many revisions are kept besides those in use.
    pub history: usize,
}

/// A field that says what cannot be, although the API server let it in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    pub field: Field,
    value: String,
}

/// A field that can be invalid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    MaxUnavailable,
    MaxFailed,
    RevisionHistoryLimit,
    ValidationNics,
}

impl<'a> Intent<'a> {
    /// What a CXIDriver asks for.
    pub fn of(driver: &'a Driver) -> Result<Self, Invalid> {
        Self::read(&driver.spec, driver.spec.revision(&driver.name))
    }

    /// What a CXIDriver would ask for with the release that a CXIPreflight asks about. The test of the preflight comes before its own.
    pub fn in_question(candidate: &'a Candidate, test: Option<&Validation>) -> Result<Self, Invalid> {
        let mut intent = Self::read(&candidate.spec, candidate.revision.clone())?;
        if let Some(test) = test {
            intent.strategy.test_of_canaries = Some(Test::read(test)?);
        }
        Ok(intent)
    }

    fn read(written: &'a Arc<CXIDriverSpec>, revision: RevisionId) -> Result<Self, Invalid> {
        let plugin = &written.device_plugin;
        let history = written.revision_history_limit;
        Ok(Self {
            written,
            version: &written.version,
            revision,
            source: Source::read(&written.source),
            offer: plugin.enabled.then(|| Offer::new(plugin)),
            resource: &plugin.resource_name,
            retry_handler: RetryHandler::read(&written.retry_handler),
            exports_metrics: written.metrics_exporter.enabled,
            is_paused: written.paused,
            asks_for_all_images: written.preflight.required,
            strategy: Strategy::read(&written.update_strategy)?,
            history: usize::try_from(history)
                .map_err(|_| Invalid::new(Field::RevisionHistoryLimit, history.to_string()))?,
        })
    }

    /// The spec as it was written, for the manifests that are made of it. No decision reads it.
    pub fn for_manifests(&self) -> Arc<CXIDriverSpec> {
        self.written.clone()
    }

    /// Whether the hosts bring the driver.
    pub fn is_preinstalled(&self) -> bool {
        self.source == Source::Preinstalled
    }
}

impl Invalid {
    fn new(field: Field, value: String) -> Self {
        Self { field, value }
    }

    /// What is wrong, and what helps.
    pub fn message(&self) -> String {
        let value = &self.value;
        match self.field {
            Field::MaxUnavailable => format!(
                "updateStrategy.maxUnavailable is {value}, which is neither a number nor a percentage: write a number such as 3, or a \
                 percentage such as \"10%\""
            ),
            Field::MaxFailed => format!("updateStrategy.maxFailed is {value}: write 1 or more"),
            Field::RevisionHistoryLimit => format!("revisionHistoryLimit is {value}: write 0 or more"),
            Field::ValidationNics => format!(
                "nics of the validation is {value}: write 1 or more, or leave it out to test all NICs that the node had before"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

    fn refused(change: impl FnOnce(&mut CXIDriverSpec)) -> Option<(Field, String)> {
        let mut spec = CXIDriverSpec::new("13.0.0");
        change(&mut spec);
        let spec = Arc::new(spec);
        let read = Intent::read(&spec, spec.revision("cxi"));
        read.err().map(|invalid| (invalid.field, invalid.message()))
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_name_of_the_field() {
        assert_eq!(refused(|_| ()), None);
        let validation = |nics: i32| {
            let text = format!(r#"{{"image": "r/test:1", "nics": {nics}}}"#);
            Some(serde_json::from_str(&text).unwrap())
        };
        assert_eq!(refused(|spec| spec.update_strategy.validation = validation(1)), None);
        let cases = [
            (refused(|spec| spec.update_strategy.max_unavailable = IntOrString::Int(-1)), Field::MaxUnavailable),
            (
                refused(|spec| spec.update_strategy.max_unavailable = IntOrString::String("101%".into())),
                Field::MaxUnavailable,
            ),
            (refused(|spec| spec.update_strategy.max_failed = 0), Field::MaxFailed),
            (refused(|spec| spec.revision_history_limit = -1), Field::RevisionHistoryLimit),
            (refused(|spec| spec.update_strategy.validation = validation(0)), Field::ValidationNics),
        ];
        for (refused, expected) in cases {
            let (field, message) = refused.unwrap();
            assert_eq!(field, expected, "{message}");
            assert!(message.contains(": write "), "{message}");
        }
    }
}
