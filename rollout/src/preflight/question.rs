//! A CXIPreflight with what it asks about.

use crate::{
    intent::{Intent, Invalid},
    world::Preflight,
};

/// See the module.
#[derive(Debug)]
pub struct Question<'a> {
    /// The CXIPreflight.
    pub preflight: &'a Preflight,
    /// What its CXIDriver would ask for; absent where that does not exist or cannot be read.
    pub candidate: Option<Result<Intent<'a>, Invalid>>,
}

impl<'a> Question<'a> {
    /// Reads what is asked.
    pub fn of(preflight: &'a Preflight) -> Self {
        let test = preflight.spec.validation.as_ref();
        let candidate = preflight.candidate.as_ref();
        Self { preflight, candidate: candidate.map(|candidate| Intent::in_question(candidate, test)) }
    }

    /// What is asked about, where it can be.
    pub fn readable(&self) -> Option<&Intent<'a>> {
        self.candidate.as_ref()?.as_ref().ok()
    }
}
