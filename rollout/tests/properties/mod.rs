//! Dice: random clusters, jobs, faults, edits, crashes, stale views and interleavings. The oracle must be silent throughout,
//! and when all faults are gone every node comes to rest where the spec wants it, or says why not.

mod chaos;
mod event;

use proptest::{prelude::*, test_runner::Config};

use event::Event;

/// Fewer with `PROPTEST_CASES`; so many that the whole crate is tested in a minute.
const CASES: u32 = 80;

fn cases() -> u32 {
    std::env::var("PROPTEST_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(CASES)
}

proptest! {
    #![proptest_config(Config { cases: cases(), failure_persistence: None, max_shrink_iters: 60, ..Config::default() })]

    #[test]
    fn whatever_happens_it_ends_well(
        nodes in 1usize..=6,
        seed in any::<u64>(),
        policy in 0u8..4,
        events in prop::collection::vec((0u32..60, any::<Event>()), 0..12),
    ) {
        chaos::run(nodes, seed, policy, &events);
    }
}
