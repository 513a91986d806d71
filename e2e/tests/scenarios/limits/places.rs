//! The fields of a CRD, as its schema describes them, and the same places in an object.

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// A step from a value to one in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The field of an object.
    Field(String),
    /// An item of a list.
    Item,
    /// A value of a map.
    Entry,
}

/// A place in an object, and what the schema says of it.
#[derive(Clone, Debug)]
pub struct Place {
    steps: Vec<Step>,
    /// Its schema.
    pub schema: Value,
}

impl Place {
    /// Every place below `schema`, which is that of an object's field `field`.
    pub fn all(field: &str, schema: &Value) -> Vec<Self> {
        let mut found = Vec::new();
        collect(vec![Step::Field(field.to_owned())], schema, &mut found);
        found
    }

    /// As `kubectl explain` would name it.
    pub fn path(&self) -> String {
        let name = |step: &Step| match step {
            Step::Field(name) => format!(".{name}"),
            Step::Item => "[]".to_owned(),
            Step::Entry => "{}".to_owned(),
        };
        self.steps.iter().map(name).collect()
    }

    /// What stands there.
    ///
    /// # Errors
    /// If there is nothing.
    pub fn get<'a>(&self, object: &'a mut Value) -> Result<&'a mut Value> {
        find(object, &self.steps, &|value| Some(value)).with_context(|| format!("{} is not there", self.path()))
    }

    /// Takes what stands there out of its object or map. Whether there was something; items of lists stay.
    pub fn remove(&self, object: &mut Value) -> bool {
        let Some((last, before)) = self.steps.split_last() else { return false };
        let removed = find(object, before, &|parent| {
            let parent = parent.as_object_mut()?;
            let name = match last {
                Step::Field(name) => name.clone(),
                Step::Entry => parent.keys().next()?.clone(),
                Step::Item => return None,
            };
            parent.remove(&name)
        });
        removed.is_some()
    }
}

/// What `last` makes of the value that these steps lead to; of the items of a list, of the first that has what follows.
fn find<'a, T>(value: &'a mut Value, steps: &[Step], last: &dyn Fn(&'a mut Value) -> Option<T>) -> Option<T> {
    let Some((step, rest)) = steps.split_first() else { return last(value) };
    match step {
        Step::Field(name) => find(value.get_mut(name)?, rest, last),
        Step::Item => value.as_array_mut()?.iter_mut().find_map(|item| find(item, rest, last)),
        Step::Entry => value.as_object_mut()?.values_mut().find_map(|entry| find(entry, rest, last)),
    }
}

fn collect(steps: Vec<Step>, schema: &Value, found: &mut Vec<Place>) {
    let below = |step: Step| [steps.clone(), vec![step]].concat();
    for (name, field) in schema["properties"].as_object().into_iter().flatten() {
        collect(below(Step::Field(name.clone())), field, found);
    }
    for (key, step) in [("items", Step::Item), ("additionalProperties", Step::Entry)] {
        if schema[key].is_object() {
            collect(below(step), &schema[key], found);
        }
    }
    found.push(Place { steps, schema: schema.clone() });
}

/// Whether an example has a value at every place.
///
/// # Errors
/// If it has not: what is missing would not be tried.
pub fn ensure_complete(example: &Value, places: &[Place]) -> Result<()> {
    let mut example = example.clone();
    let missing: Vec<_> = places.iter().filter(|place| place.get(&mut example).is_err()).map(Place::path).collect();
    ensure!(missing.is_empty(), "the example lacks {}; add them to fixtures/every-field.yaml", missing.join(", "));
    Ok(())
}
