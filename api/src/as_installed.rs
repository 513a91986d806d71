//! The rules of the CRDs as the API server has and evaluates them: what tests of rules compare with.

use std::{cell::RefCell, collections::HashMap, rc::Rc};

use cel::{Context, Program};
use serde::Serialize;
use serde_json::Value;

thread_local! {
    /// Rules, each compiled once.
    static PROGRAMS: RefCell<HashMap<String, Rc<Program>>> = RefCell::default();
    /// The schema of a CXIDriver's spec.
    static SPEC: Value = {
        let crd = crate::crds::crds().into_iter().find(|crd| crd.spec.names.kind == "CXIDriver").unwrap();
        let spec = "/spec/versions/0/schema/openAPIV3Schema/properties/spec";
        serde_json::to_value(crd).unwrap().pointer(spec).unwrap().clone()
    };
}

/// The schema at a place of the spec of a `CXIDriver`.
pub fn schema(pointer: &str) -> Value {
    SPEC.with(|spec| spec.pointer(pointer).unwrap_or_else(|| panic!("{pointer}")).clone())
}

/// Whether a rule holds for `value`.
pub fn holds(cel: &str, value: &impl Serialize) -> bool {
    let program = PROGRAMS.with_borrow_mut(|programs| {
        let compile = || Rc::new(Program::compile(cel).unwrap_or_else(|error| panic!("{cel}: {error}")));
        Rc::clone(programs.entry(cel.to_owned()).or_insert_with(compile))
    });
    let mut context = Context::default();
    context.add_variable("self", value).unwrap();
    program.execute(&context).unwrap_or_else(|error| panic!("{cel}: {error}")) == true.into()
}
