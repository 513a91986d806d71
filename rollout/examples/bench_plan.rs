//! `cargo xtask bench plan`: how long a plan takes on large clusters in the middle of an upgrade. Fails where the time grows faster than
//! the cluster, or where the goal is missed.
#![allow(clippy::print_stdout, reason = "a table is what it is for")]

#[path = "../tests/scale/clusters.rs"]
mod clusters;

use std::{process::ExitCode, time::Duration};

use clusters::{GOAL, HOLDERS, Shape, carry_out, now, time, upgrading};
use cxi_rollout::{Settings, plan};

/// Twice as many nodes may take so many times as long: the processor's caches are small.
const LINEAR: f64 = 2.6;

/// Runs of which the fastest counts.
const RUNS: usize = 15;

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
    let mut good = true;
    for (name, shape) in shapes {
        let [small, middle, large] = [1_000, 5_000, 10_000].map(|nodes| measure(nodes, shape));
        let growth = large.as_secs_f64() / middle.as_secs_f64();
        let said = match (growth < LINEAR, middle <= GOAL) {
            (true, true) => "",
            (false, _) => "  more than linear",
            (true, false) => "  misses the goal",
        };
        good &= said.is_empty();
        let [small, middle, large] = [small, middle, large].map(|time| time.as_secs_f64() * 1000.0);
        println!("{name:<28} {small:>8.1} {middle:>8.1} {large:>8.1} {growth:>8.2}{said}");
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(nodes: usize, shape: Shape) -> Duration {
    let mut world = upgrading(nodes, shape);
    let last = plan(&world, now(), &Settings::default());
    carry_out(&mut world, last);
    time(&world, RUNS)
}
