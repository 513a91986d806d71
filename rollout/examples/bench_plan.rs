//! `cargo xtask bench plan`: how long a plan takes on large clusters in the middle of an upgrade. Fails where the time grows faster than
//! the cluster.
#![allow(clippy::print_stdout, reason = "a table is what it is for")]

#[path = "../tests/scale/clusters.rs"]
mod clusters;

use std::{process::ExitCode, time::Duration};

use clusters::{HOLDERS, Shape, carry_out, now, time, upgrading};
use cxi_rollout::{Settings, plan};

/// Twice as many nodes may take so many times as long: the processor's caches are small.
const LINEAR: f64 = 2.6;

/// What a plan should take on 5,000 nodes.
const GOAL: Duration = Duration::from_millis(50);

/// Runs of which the fastest counts.
const RUNS: usize = 7;

fn main() -> ExitCode {
    let shapes = [
        ("no budgets", Shape::None),
        ("2,000 budgets over all pods", Shape::Spread(2_000)),
        ("a budget for each node", Shape::OneEach),
        ("2,000 budgets over 50 pods", Shape::OneTenant(2_000)),
    ];
    println!(
        "{HOLDERS} pods with a NIC on each node; milliseconds of a processor for a plan (the goal at 5,000: {})",
        GOAL.as_millis()
    );
    println!("{:<28} {:>8} {:>8} {:>8} {:>8}", "", "1,000", "5,000", "10,000", "growth");
    let mut linear = true;
    for (name, shape) in shapes {
        let [small, middle, large] = [1_000, 5_000, 10_000].map(|nodes| measure(nodes, shape));
        let growth = large.as_secs_f64() / middle.as_secs_f64();
        let said = if growth < LINEAR { "" } else { "  more than linear" };
        linear &= growth < LINEAR;
        let [small, middle, large] = [small, middle, large].map(|time| time.as_secs_f64() * 1000.0);
        println!("{name:<28} {small:>8.1} {middle:>8.1} {large:>8.1} {growth:>8.2}{said}");
    }
    if linear { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(nodes: usize, shape: Shape) -> Duration {
    let mut world = upgrading(nodes, shape);
    let last = plan(&world, now(), &Settings::default());
    carry_out(&mut world, last);
    time(&world, RUNS)
}
