//! Tests that what is published about the metrics is true: the document, the alerts and the dashboard.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::fmt::Write as _;

use clap::CommandFactory as _;
use cxi_agent::exporter::{Behaviour, Exported, FAMILIES, Family, Kind, METRICS};
use serde_json::Value;

const DOCUMENT: &str = include_str!("../../docs/metrics.md");
const ALERTS: &str = include_str!("../../deploy/monitoring/alerts.yaml");
const DASHBOARD: &str = include_str!("../../deploy/monitoring/dashboard.json");
const DAEMON_SET: &str = include_str!("../../manifests/src/snapshots/cxi_manifests__tests__exporter_daemonset.snap");
const OPERATOR: &str = include_str!("../../operator/src/metrics.rs");

fn exported_name(family: &Family) -> String {
    let ending = if family.behaviour == Behaviour::Counts { "_total" } else { "" };
    format!("cxi_telemetry_{}{ending}", family.name)
}

/// The names of metrics in a query.
fn named(query: &str) -> BTreeSet<String> {
    let outside_quotes: String = query.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let words = outside_quotes.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("cxi_")).map(str::to_owned).collect()
}

/// Whether the exporter writes it unless told otherwise, or the operator does.
fn exists(name: &str) -> bool {
    let is_default = |family: &Family| matches!(family.exported, Exported::Default(_));
    let of_operator = |name: &str| OPERATOR.contains(&format!("\"{name}\""));
    METRICS.iter().any(|metric| metric.name == name)
        || FAMILIES.iter().any(|family| is_default(family) && exported_name(family) == name)
        || ["_total", "_bucket"].into_iter().filter_map(|end| name.strip_suffix(end)).any(of_operator)
        || of_operator(name)
}

/// Values under `key` anywhere in `value`.
fn under<'a>(value: &'a Value, key: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                match field {
                    Value::String(text) if name == key => found.push(text),
                    _ => under(field, key, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| under(item, key, found)),
        _ => {}
    }
}

fn queries(document: &Value) -> Vec<&str> {
    let mut found = Vec::new();
    under(document, "expr", &mut found);
    found
}

#[test]
fn names_in_queries_are_found() {
    let names = named("rate(cxi_a_total{module=\"cxi_no\"}[5m]) / on (node) cxi_b{x=~\"y\"} > cxi_c");
    assert_eq!(names, ["cxi_a_total", "cxi_b", "cxi_c"].map(str::to_owned).into());
}

#[test]
fn alerts_are_about_metrics_that_exist_and_are_documented() {
    let alerts: Value = serde_saphyr::from_str(ALERTS).unwrap();
    let queries = queries(&alerts);
    assert!(queries.len() > 10);
    for query in queries {
        let names = named(query);
        assert!(!names.is_empty() || query.contains("up{job="), "{query}");
        for name in names {
            assert!(exists(&name), "{name} in {query}");
        }
    }
    let mut names = Vec::new();
    under(&alerts, "alert", &mut names);
    for name in names {
        assert!(DOCUMENT.contains(&format!("| `{name}` |")), "docs/metrics.md does not say what {name} means");
    }
}

/// Each unit counts its own errors: an alert about one of them is blind for the others.
#[test]
fn the_alert_about_memory_asks_every_unit() {
    let alerts: Value = serde_saphyr::from_str(ALERTS).unwrap();
    let query = queries(&alerts).into_iter().find(|query| query.contains("ucor_err")).unwrap();
    let units = FAMILIES.iter().filter(|family| family.name.contains("_ucor_")).map(exported_name);
    assert_eq!(named(query), units.collect());
    assert_eq!(query.matches("[15m]) > 0").count(), 10, "each of them: {query}");
}

#[test]
fn the_dashboard_shows_metrics_that_exist() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).unwrap();
    let queries = queries(&dashboard);
    assert!(queries.len() > 20);
    for query in queries {
        let names = named(query);
        assert!(!names.is_empty(), "{query}");
        for name in names {
            assert!(exists(&name), "{name} in {query}");
        }
    }
}

#[test]
fn the_document_has_every_metric() {
    let mut table = String::from("| Metric | Type | Meaning |\n|---|---|---|\n");
    for metric in METRICS {
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Unknown => "unknown",
        };
        writeln!(table, "| `{}` | {kind} | {} |", metric.name, metric.help).unwrap();
    }
    assert!(DOCUMENT.contains(&table), "the first table of docs/metrics.md has to be\n{table}");
}

#[test]
fn the_document_has_every_counter_and_why() {
    let mut default = String::from("| Counter | Label | What it counts | Why it is exported |\n|---|---|---|---|\n");
    let mut others = String::from("| Counter | Label | What it counts | Why only on request |\n|---|---|---|---|\n");
    for family in FAMILIES {
        let (table, why) = match family.exported {
            Exported::Default(why) => (&mut default, why),
            Exported::OnRequest(why) => (&mut others, why),
        };
        let label = family.label.map(|label| format!("`{label}`")).unwrap_or_default();
        let level = if family.behaviour == Behaviour::Level { " (gauge)" } else { "" };
        writeln!(table, "| `{}` | {label} | {}{level} | {why} |", family.name, family.help).unwrap();
    }
    for table in [default, others] {
        assert!(DOCUMENT.contains(&table), "docs/metrics.md has to have the table\n{table}");
    }
}

/// A variable that the operator sets and no program reads would be lost without a word.
#[test]
fn every_variable_that_the_operator_sets_is_read() {
    let text = DAEMON_SET.splitn(3, "---\n").nth(2).unwrap();
    let daemon_set: Value = serde_saphyr::from_str(text).unwrap();
    let container = &daemon_set["spec"]["template"]["spec"]["containers"][0];
    let command = cxi_agent::cli::Args::command();
    let exporter = command.find_subcommand(container["args"][0].as_str().unwrap()).unwrap();
    let read: BTreeSet<_> = exporter.get_arguments().filter_map(|argument| argument.get_env()?.to_str()).collect();
    let set = container["env"].as_array().unwrap();
    assert!(!set.is_empty());
    for variable in set {
        let name = variable["name"].as_str().unwrap();
        assert!(read.contains(name), "{name} is none of {read:?}");
    }
}
