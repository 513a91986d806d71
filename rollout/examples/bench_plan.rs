//! `cargo xtask bench plan`: how long a plan takes.
#[path = "../tests/scale/clusters.rs"]
mod clusters;
use clusters::*;
fn main() {
    for shape in [Shape::None, Shape::Spread(2_000), Shape::OneEach, Shape::OneTenant(2_000)] {
        for nodes in [1_000, 5_000, 10_000] {
            let world = upgrading(nodes, shape);
            println!(
                "{shape:?} {nodes} {:?} {:?}",
                time(&world, 3),
                world.nodes.values().filter_map(|n| n.rollout()?.blocked_by.as_ref()).fold(
                    std::collections::BTreeMap::new(),
                    |mut m, b| {
                        *m.entry(b.reason.to_string()).or_insert(0) += 1;
                        m
                    }
                )
            );
        }
    }
}
