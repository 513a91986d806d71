//! The conditions of a CXIDriver, as they are put together.

use cxi_api::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

use crate::text;

/// Conditions that keep their transition time while their status stays.
pub struct Conditions<'a> {
    pub generation: i64,
    pub now: Timestamp,
    pub old: &'a [Condition],
    pub new: Vec<Condition>,
}

impl Conditions<'_> {
    /// Adds a condition that is true or false.
    pub fn put(&mut self, type_: &str, status: bool, reason: &str, message: &str) {
        self.put_as(type_, if status { "True" } else { "False" }, reason, message);
    }

    /// Adds a condition with `status` as Kubernetes spells it.
    pub fn put_as(&mut self, type_: &str, status: &str, reason: &str, message: &str) {
        let before = self.old.iter().find(|old| old.type_ == type_ && old.status == status);
        // Conditions are stored in whole seconds.
        let second = Timestamp::from_second(self.now.as_second()).unwrap_or(self.now);
        self.new.push(Condition {
            type_: type_.into(),
            status: status.into(),
            reason: reason.into(),
            message: text::bounded(message, text::DRIVER).into_owned(),
            observed_generation: Some(self.generation),
            last_transition_time: before.map_or(Time(second), |before| before.last_transition_time.clone()),
        });
    }
}
