//! The figures at the end of the demo.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{audit::Requests, oracle::Violation};

use super::view::Picture;

/// What was seen from picture to picture.
#[derive(Default)]
pub struct Figures {
    closed: BTreeMap<String, Instant>,
    longest: Option<(String, Duration)>,
    moved: BTreeSet<String>,
    before: BTreeMap<String, String>,
    /// The phase of each node in the last picture.
    phases: BTreeMap<String, String>,
    /// How often a node began to move: a move that fails, the rolling back and the next try are three.
    moves: usize,
}

impl Figures {
    /// Takes note of a picture.
    pub fn note(&mut self, picture: &Picture) {
        for row in &picture.rows {
            let first = self.before.entry(row.node.clone()).or_insert_with(|| row.driver.clone());
            if *first != row.driver && row.driver != "-" {
                self.moved.insert(row.node.clone());
            }
            let phase = self.phases.insert(row.node.clone(), row.phase.clone());
            self.moves += usize::from(phase.is_some_and(|phase| begins(&phase, &row.phase)));
            if row.offers == 0 {
                self.closed.entry(row.node.clone()).or_insert_with(Instant::now);
            } else if let Some(since) = self.closed.remove(&row.node) {
                let time = since.elapsed();
                if self.longest.as_ref().is_none_or(|(_, longest)| time > *longest) {
                    self.longest = Some((row.node.clone(), time));
                }
            }
        }
    }

    /// Prints the summary.
    #[expect(clippy::cast_precision_loss, reason = "small counts")]
    pub fn print(&self, requests: &Requests, violations: &[Violation]) {
        let (node, longest) = self.longest.clone().unwrap_or_default();
        let per_move = requests.writes() as f64 / self.moves.max(1) as f64;
        println!();
        for (what, figure) in [
            ("nodes moved", self.moved.len().to_string()),
            ("moves (rolling back is one)", self.moves.to_string()),
            ("pods evicted", requests.evicted().to_string()),
            ("longest time a node was unavailable", format!("{:.1} s ({node})", longest.as_secs_f64())),
            ("API writes per move", format!("{per_move:.1}")),
            ("violations seen by the checker", violations.len().to_string()),
        ] {
            println!("  {what:<36} {figure}");
        }
        for violation in violations {
            println!("    {violation}");
        }
    }
}

/// Whether a node that goes from one phase to the other begins to move.
fn begins(from: &str, to: &str) -> bool {
    let rests = |phase: &str| ["-", "UpToDate", "Pending", "Quarantined"].contains(&phase);
    (rests(from) && !rests(to)) || (from != "RollingBack" && to == "RollingBack")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::view::Row;

    #[test]
    fn a_node_that_fails_and_is_tried_again_moved_three_times() {
        let mut figures = Figures::default();
        for phase in [
            "UpToDate",
            "Pending",
            "Admitted",
            "Loading",
            "RollingBack",
            "Pending",
            "Admitted",
            "Verifying",
            "UpToDate",
        ] {
            let row = Row {
                node: "n-01".to_owned(),
                driver: "13.0.0".to_owned(),
                phase: phase.to_owned(),
                offers: 2,
                jobs: Vec::new(),
                waits: String::new(),
            };
            let picture = Picture { rows: vec![row], driver: None };
            // A phase lasts for several pictures.
            figures.note(&picture);
            figures.note(&picture);
        }
        assert_eq!(figures.moves, 3);
    }
}
