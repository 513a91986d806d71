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
}

impl Figures {
    /// Takes note of a picture.
    pub fn note(&mut self, picture: &Picture) {
        for row in &picture.rows {
            let first = self.before.entry(row.node.clone()).or_insert_with(|| row.driver.clone());
            if *first != row.driver && row.driver != "-" {
                self.moved.insert(row.node.clone());
            }
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
    pub fn print(&self, nodes: usize, requests: &Requests, violations: &[Violation]) {
        let (node, longest) = self.longest.clone().unwrap_or_default();
        println!("\n  nodes moved                        {}", self.moved.len());
        println!("  pods evicted                       {}", requests.evicted());
        println!("  longest time a node was unavailable {:.1} s ({node})", longest.as_secs_f64());
        println!("  API writes per node                {:.1}", requests.writes() as f64 / nodes.max(1) as f64);
        println!("  violations seen by the oracle      {}", violations.len());
        for violation in violations {
            println!("    {violation}");
        }
    }
}
