//! Dice: random clusters, jobs, faults, edits, crashes, stale views and interleavings. The oracle must be silent throughout,
//! and when all faults are gone every node comes to rest where the spec wants it, or says why not.

mod chaos;
mod event;

use proptest::{prelude::*, test_runner::Config};

use event::Event;

/// Fewer with `PROPTEST_CASES`; so many that the whole crate is tested in a minute.
const CASES: u32 = 400;

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

/// What the dice found once: KMM's label taken away by hand under running pods, on a node that is then not selected any more.
#[test]
fn pods_keep_their_retry_handler_when_a_node_is_let_go_by_hand() {
    let job = |node, stubborn, runtime| Event::Job { node, stubborn, runtime };
    let events = [
        (21, Event::PullFails(1)),
        (34, Event::DeleteRecord(4)),
        (34, Event::Select(5)),
        (38, Event::Clock(197)),
        (39, job(1, true, 98)),
        (40, Event::DropLabels(4)),
        (40, job(2, false, 235)),
        (42, Event::DropLabels(4)),
        (43, Event::Pause),
        (57, Event::Deselect(4)),
        (58, Event::Upgrade(0)),
    ];
    chaos::run(1, 2_593_726_925_041, 1, &events);
}

/// What the dice found once: a node whose label was taken away by hand is repaired at once, whatever the budget says. Others,
/// earlier in the alphabet, were given the budget before it was counted.
#[test]
fn a_node_that_must_be_repaired_counts_before_the_budget_is_given_away() {
    let events = [
        (3, Event::Clock(30)),
        (29, Event::Forge { node: 1, phase: 2 }),
        (46, Event::Upgrade(1)),
        (47, Event::Upgrade(1)),
        (50, Event::Upgrade(2)),
        (52, Event::DropLabels(4)),
    ];
    chaos::run(5, 1_379_670_787_955_004_096, 1, &events);
}

/// What the dice found once: a record edited to `UpToDate` while the node is closed for another retry handler. The driver is the one that
/// is wanted and nothing is outdated any more, so nobody came to open the node again.
#[test]
fn a_node_that_is_edited_to_rest_while_it_is_closed_is_verified_and_offers_again() {
    let events = [
        (4, Event::RetryHandler(0)),
        (20, Event::Ready(0)),
        (23, Event::HandLabel { node: 2, version: 1 }),
        (34, Event::Reboot { node: 1, kernel: 1 }),
        (15, Event::Forge { node: 0, phase: 0 }),
    ];
    chaos::run(5, 8_485_583_332_603_192_778, 2, &events);
}

/// What the dice found once: a driver that is orphaned before its Module was made. Its label stayed on the nodes, although nothing is
/// loaded that it would be for.
#[test]
fn an_orphaned_driver_leaves_no_label_where_it_leaves_no_driver() {
    let events = [(30, Event::Upgrade(0)), (14, Event::Upgrade(0)), (2, Event::DeleteDriver { orphan: true })];
    chaos::run(2, 9_907_227_960_878_249_715, 1, &events);
}

/// What the dice found once: a transaction that was called off in the moment of a reboot. The node was offered again with what was
/// verified before, while nothing was loaded any more.
#[test]
fn a_reboot_is_noticed_before_a_transaction_is_called_off() {
    let events = [
        (33, Event::DeleteDriver { orphan: false }),
        (14, Event::Upgrade(2)),
        (33, Event::Reboot { node: 1, kernel: 1 }),
        (34, Event::Upgrade(1)),
        (22, Event::RetryHandler(0)),
        (16, Event::OpenDevice(0)),
    ];
    chaos::run(3, 15_521_212_756_062_100_546, 3, &events);
}

/// What the dice found once: KMM's label taken away by hand, the node not selected any more, and a reboot, all at once.
#[test]
fn a_reboot_is_noticed_beside_whatever_else_has_changed() {
    let events = [
        (44, Event::Deselect(0)),
        (57, Event::BadVersion { node: 2, version: 0 }),
        (11, Event::Restart),
        (11, Event::Cordon(2)),
        (44, Event::Reboot { node: 5, kernel: 0 }),
        (13, Event::Ready(3)),
        (51, Event::Resume),
        (44, Event::DropLabels(1)),
        (48, Event::Ask { node: 4, request: 3 }),
        (7, Event::Upgrade(1)),
        (52, Event::RetryHandler(2)),
    ];
    chaos::run(1, 6_361_246_491_752_840_635, 2, &events);
}

/// What the dice found once: somebody thinks better of leaving the drivers loaded when the device plugins are gone already. Each node
/// waited for its device plugin before it was drained.
#[test]
fn a_driver_that_is_not_to_be_orphaned_after_all_is_taken_down_in_order() {
    let events = [
        (53, Event::Reboot { node: 3, kernel: 1 }),
        (55, Event::Restart),
        (16, Event::Pause),
        (11, Event::Select(5)),
        (15, Event::DeleteDriver { orphan: false }),
        (48, Event::Select(4)),
        (16, Event::Job { node: 0, stubborn: false, runtime: 294 }),
        (51, Event::HandLabel { node: 4, version: 2 }),
        (12, Event::Ready(3)),
        (7, Event::DeleteDriver { orphan: true }),
    ];
    chaos::run(6, 15_557_083_360_378_808_290, 3, &events);
}

/// What the dice found once: KMM could not pull the image to unload its driver, the ledger was lost meanwhile, and the hosts were to
/// bring the driver. The one that KMM was about to take out passed for the host's, and jobs came.
#[test]
fn what_kmm_is_about_to_take_out_is_not_the_hosts_driver() {
    let events = [
        (23, Event::Add),
        (28, Event::Job { node: 4, stubborn: true, runtime: 215 }),
        (43, Event::Delete(3)),
        (48, Event::MissingImage { version: 0, kernel: 0 }),
        (56, Event::WipeLedger),
        (37, Event::Forge { node: 1, phase: 1 }),
        (56, Event::Rollback(false)),
        (38, Event::CloseDevice(3)),
        (28, Event::Source { preinstalled: true, hosts_have_it: true }),
    ];
    chaos::run(4, 10_804_854_063_320_709_945, 3, &events);
}

/// What the dice found once: a node that another driver takes over while the operator's clock is behind. Reports that had answered the
/// former driver's phases would have passed for answers to the new one's.
#[test]
fn time_goes_on_when_a_node_changes_hands() {
    let events = [
        (7, Event::Rollback(true)),
        (44, Event::OnTimeout(1)),
        (14, Event::DeleteDriver { orphan: true }),
        (57, Event::Source { preinstalled: true, hosts_have_it: true }),
        (22, Event::Rival),
        (3, Event::Source { preinstalled: true, hosts_have_it: true }),
        (7, Event::Clock(-142)),
        (29, Event::History(1)),
    ];
    chaos::run(3, 2_468_381_682_586_207_931, 0, &events);
}

/// What the dice found once: a clock put forward by a year while KMM is away and the driver is taken down. The teardown halts, and goes on
/// when the administrator says so.
#[test]
fn a_teardown_that_halted_goes_on() {
    let events = [(9, Event::StopKmm), (3, Event::DeleteDriver { orphan: false }), (48, Event::Year(true))];
    chaos::run(1, 235_796_290_586_805_498, 2, &events);
}

/// What the dice found once: the write that closes the gate of a retry handler came late, when the gate had been opened again with the
/// same value and jobs were back.
#[test]
fn a_late_write_takes_no_retry_handler_from_jobs_that_came_meanwhile() {
    let events = [
        (20, Event::ByName(5)),
        (48, Event::Pause),
        (44, Event::Silence(0)),
        (10, Event::Upgrade(2)),
        (39, Event::Upgrade(0)),
        (23, Event::PullFails(5)),
        (22, Event::Upgrade(2)),
        (48, Event::Upgrade(1)),
        (27, Event::Reboot { node: 1, kernel: 0 }),
        (3, Event::NoRival),
    ];
    chaos::run(5, 11_526_594_294_971_672_710, 0, &events);
}

/// What the dice found once: a node that was being given back outside a transaction was admitted in the moment of a reboot.
#[test]
fn a_node_that_is_given_back_is_not_admitted_with_what_was_verified_before_a_reboot() {
    let events = [
        (27, Event::Upgrade(2)),
        (55, Event::Reboot { node: 3, kernel: 0 }),
        (58, Event::Job { node: 1, stubborn: true, runtime: 100 }),
        (43, Event::Reveal(2)),
        (37, Event::Blind(1)),
        (44, Event::Restart),
        (11, Event::Source { preinstalled: false, hosts_have_it: false }),
        (3, Event::Year(false)),
        (47, Event::Ask { node: 1, request: 1 }),
        (25, Event::RunRetryHandler(true)),
        (47, Event::WipeLedger),
    ];
    chaos::run(3, 13_639_572_369_584_259_387, 2, &events);
}

/// What the dice found once: the clock was put back by a year while looks at a closed node were remembered.
#[test]
fn looks_of_a_clock_that_was_ahead_hold_no_node_up() {
    let events = [
        (19, Event::Upgrade(2)),
        (52, Event::Year(true)),
        (25, Event::OnTimeout(1)),
        (13, Event::BadVersion { node: 5, version: 2 }),
        (50, Event::DeleteRecord(2)),
        (24, Event::Reboot { node: 2, kernel: 0 }),
        (1, Event::PullFails(4)),
        (17, Event::Silence(0)),
    ];
    chaos::run(3, 14_617_363_179_249_312_965, 2, &events);
}
