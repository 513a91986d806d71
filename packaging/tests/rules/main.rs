//! The bundle against the rules of those who take it in: the community's pipelines (`operator-pipelines`, static checks),
//! operator-sdk's optional validators and scorecard's basic tests, as far as they need no cluster and no registry; and our own.
//! Each rule is shown to find what it is for.
//!
//! `operator-verify` and `opm` are asked in `validators.rs`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bundle;
mod description;
mod objects;
mod violations;

use bundle::Bundle;

/// What a rule says of a bundle: one sentence per finding.
type Rule = fn(&Bundle) -> Vec<String>;

/// Every rule by its name.
fn rules() -> Vec<(&'static str, Rule)> {
    [description::RULES, objects::RULES].concat()
}

/// A finding if `good` is false.
fn require(good: bool, otherwise: impl Into<String>) -> Vec<String> {
    if good { Vec::new() } else { vec![otherwise.into()] }
}

#[test]
fn the_bundles_break_no_rule() {
    for bundle in [Bundle::committed(), Bundle::of_olm_v1()] {
        for (name, rule) in rules() {
            assert_eq!(rule(&bundle), Vec::<String>::new(), "{name}");
        }
    }
}

#[test]
fn every_rule_finds_what_it_is_for() {
    let violations = violations::all();
    let committed = Bundle::committed();
    for (name, rule) in rules() {
        let of_rule: Vec<_> = violations.iter().filter(|(of, _)| *of == name).collect();
        assert!(!of_rule.is_empty(), "{name} has no example");
        for (index, (_, spoil)) in of_rule.into_iter().enumerate() {
            let mut bundle = committed.clone();
            spoil(&mut bundle);
            assert!(!rule(&bundle).is_empty(), "{name} passes over example {index}");
        }
    }
    for (name, _) in violations {
        assert!(rules().iter().any(|(rule, _)| *rule == name), "{name} is no rule");
    }
}
