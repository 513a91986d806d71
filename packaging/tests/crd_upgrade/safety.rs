//! The rules.

use serde_json::Value;

/// Limits that may only grow, and those that may only shrink.
const UPPER: [&str; 4] = ["maximum", "maxLength", "maxItems", "maxProperties"];
const LOWER: [&str; 4] = ["minimum", "minLength", "minItems", "minProperties"];

/// What an upgrade from one CRD to another breaks.
pub fn breaks(old: &Value, new: &Value) -> Vec<String> {
    let name = old["metadata"]["name"].as_str().unwrap_or_default();
    let mut found = Vec::new();
    if old["spec"]["scope"] != new["spec"]["scope"] {
        found.push(format!("{name}: the scope differs"));
    }
    for version in list(&old["spec"]["versions"]) {
        let called = version["name"].as_str().unwrap_or_default();
        let place = format!("{name} {called}");
        let Some(now) = list(&new["spec"]["versions"]).iter().find(|v| v["name"] == called) else {
            let stored = if version["storage"] == true { "stored version" } else { "version" };
            found.push(format!("{place}: the {stored} is gone"));
            continue;
        };
        if version["served"] == true && now["served"] != true {
            found.push(format!("{place}: not served any more"));
        }
        schema(&place, &version["schema"]["openAPIV3Schema"], &now["schema"]["openAPIV3Schema"], &mut found);
    }
    found
}

fn schema(place: &str, old: &Value, new: &Value, found: &mut Vec<String>) {
    for key in ["type", "default", "pattern", "format"] {
        // A pattern or format may go: then more is accepted.
        let goes = new[key].is_null() && ["pattern", "format"].contains(&key);
        if old[key] != new[key] && !goes {
            found.push(format!("{place}: {key} was {} and is {}", old[key], new[key]));
        }
    }
    for required in list(&new["required"]) {
        if !list(&old["required"]).contains(required) {
            found.push(format!("{place}: {required} is required"));
        }
    }
    match (old["enum"].as_array(), new["enum"].as_array()) {
        (None, Some(_)) => found.push(format!("{place}: an enum where there was none")),
        (Some(before), Some(now)) => {
            let gone = before.iter().filter(|choice| !now.contains(choice));
            found.extend(gone.map(|choice| format!("{place}: the enum lacks {choice}")));
        }
        _ => {}
    }
    for (keys, tighter) in [(UPPER, f64::lt as fn(&f64, &f64) -> bool), (LOWER, f64::gt)] {
        for key in keys {
            let (before, now) = (old[key].as_f64(), new[key].as_f64());
            let tightened = now.is_some_and(|now| before.is_none_or(|before| tighter(&now, &before)));
            if tightened {
                found.push(format!("{place}: {key} is tighter"));
            }
        }
    }
    for (field, before) in old["properties"].as_object().into_iter().flatten() {
        let now = &new["properties"][field];
        if now.is_null() {
            found.push(format!("{place}.{field} was removed"));
        } else {
            schema(&format!("{place}.{field}"), before, now, found);
        }
    }
    for below in ["items", "additionalProperties"] {
        if old[below].is_object() {
            schema(&format!("{place}.{below}"), &old[below], &new[below], found);
        }
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
