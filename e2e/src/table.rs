//! CXINodes as a table, for messages.

use cxi_api::CXINode;
use kube::ResourceExt;

/// One line per CXINode: name, phase, revision, target, what is offered, and what it waits for.
pub fn table(nodes: &[CXINode]) -> String {
    let mut rows = vec![["NODE", "PHASE", "REVISION", "TARGET", "OFFERS", "WAITS FOR"].map(str::to_owned).to_vec()];
    for node in nodes {
        let status = node.status.clone().unwrap_or_default();
        let Some(rollout) = status.rollout else {
            rows.push(vec![node.name_any(), "-".into()]);
            continue;
        };
        let name = |revision: Option<cxi_api::RevisionId>| revision.map_or("-".into(), String::from);
        let mut waits = rollout.blocked_by.map(|b| format!("{}: {}", b.reason, b.message)).unwrap_or_default();
        if let Some(error) = rollout.last_error {
            waits = format!("{waits} [{error}]");
        }
        rows.push(vec![
            node.name_any(),
            rollout.phase.to_string(),
            name(rollout.revision),
            name(rollout.target_revision),
            format!("{:?}", rollout.advertise),
            waits,
        ]);
    }
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(String::len).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn columns_line_up() {
        let node: CXINode = serde_json::from_value(json!({
            "apiVersion": "cxi.hpe.com/v1", "kind": "CXINode", "metadata": { "name": "a-rather-long-name" }, "spec": {},
            "status": { "rollout": { "driver": "d", "phase": "Pending", "since": "2026-01-01T00:00:00Z",
                "blockedBy": { "reason": "Budget", "message": "1 of 1", "since": "2026-01-01T00:00:00Z" } } },
        }))
        .unwrap();
        let text = table(&[node]);
        let [head, line] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
        assert_eq!(head.find("PHASE"), line.find("Pending"));
        assert!(line.ends_with("Budget: 1 of 1"), "{line}");
    }
}
