//! Both engines against each other in virtual time: a path that delays, cuts, goes out, overtakes and damages; hosts that
//! end and come back, a disk that forgets, a save that grows or fails. An observer that knows only the promises judges.
//!
//! The plan of a failure is printed, and its seed; with that in `BATON_SEED`, `one_seed` runs it alone.

mod disk;
mod judge;
mod network;
mod plan;
mod source;
mod target;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use baton_proto::chunk::CHUNK_BYTES;
use proptest::prelude::*;

use crate::transfer::receiver::{STALL, WINDOW_CHUNKS};
use plan::{Mishap, Plan, mishaps};
use world::{Outcome, World};

const CHUNK: u64 = CHUNK_BYTES;
/// How many random transfers are simulated.
const SEEDS: u64 = 4000;

/// Simulates, and tells what was simulated if a promise is broken.
fn run(plan: Plan) -> Outcome {
    let outcome = catch_unwind(AssertUnwindSafe(|| World::new(plan.clone()).run()));
    outcome.unwrap_or_else(|broken| {
        eprintln!("a promise was broken with {plan:?}");
        resume_unwind(broken)
    })
}

fn at(seconds: f64, mishap: Mishap) -> (Duration, Mishap) {
    (Duration::from_secs_f64(seconds), mishap)
}

#[test]
fn whatever_befalls_a_transfer_it_ends_whole_or_with_a_name() {
    let (mut ends, mut resumed, mut faults) = ([0, 0], 0, 0);
    for seed in 0..SEEDS {
        let plan = Plan::random(seed);
        let is_snapshot = plan.is_snapshot();
        let outcome = run(plan);
        assert_eq!(outcome.is_done, is_snapshot, "seed {seed}: {outcome:?}");
        ends[usize::from(outcome.is_done)] += 1;
        resumed += u64::from(outcome.resumed > 0);
        faults += u64::from(!outcome.faults.is_empty());
    }
    // Else nothing much was tried.
    let tried = [ends[0], ends[1], resumed, faults];
    assert!(tried.iter().all(|count| *count > SEEDS / 20), "{tried:?}");
}

#[test]
fn one_seed() {
    let seed = std::env::var("BATON_SEED").ok().and_then(|seed| seed.parse().ok());
    run(Plan::random(seed.unwrap_or(0)));
}

#[test]
fn the_same_seed_goes_the_same_way() {
    for seed in [3, 14, 159] {
        let went = || format!("{:?}", run(Plan::random(seed)));
        assert_eq!(went(), went());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn any_sequence_of_mishaps_keeps_the_promises(
        mishaps in mishaps(), chunks in 0u64..40, grows in any::<bool>(), lanes in 1u8..4, jitter in 0u64..400,
    ) {
        let jitter = Duration::from_millis(jitter);
        let save = grows.then_some(10e6);
        let outcome = run(Plan { mishaps, save, lanes, jitter, wire: 5e6, ..Plan::calm(1, chunks * CHUNK + 20) });
        prop_assert!(outcome.is_done);
    }
}

#[test]
fn every_size_arrives_with_one_fetch_a_chunk_when_nothing_goes_wrong() {
    for bytes in [18, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 12 * CHUNK, 13 * CHUNK, 200 * CHUNK + 5] {
        for save in [None, Some(5e6), Some(300e6)] {
            let outcome = run(Plan { save, ..Plan::calm(bytes, bytes) });
            assert!(outcome.is_done && outcome.faults.is_empty(), "{outcome:?}");
            assert_eq!(outcome.fetches, bytes.div_ceil(CHUNK), "{bytes} bytes");
        }
    }
}

#[test]
fn an_empty_file_and_one_that_is_too_short_end_with_a_name() {
    for bytes in [0, 1, 17] {
        let outcome = run(Plan::calm(1, bytes));
        assert!(!outcome.is_done && outcome.faults[0].contains("too few for an RDB file"), "{outcome:?}");
    }
}

#[test]
fn a_growing_snapshot_is_there_soon_after_the_save_or_when_the_wire_is_through() {
    for (save, wire) in [(20e6, 200e6), (60e6, 200e6), (500e6, 25e6), (100e6, 60e6)] {
        let outcome = run(Plan { save: Some(save), wire, ..Plan::calm(1, 150 * CHUNK) });
        let sent = Duration::from_secs_f64(outcome.sent_bytes as f64 / wire);
        let least = sent.max(outcome.saved_at);
        assert!(outcome.took < least.mul_f64(1.1) + Duration::from_secs(1), "{save} {wire}: {outcome:?}");
    }
}

#[test]
fn a_save_that_fails_ends_the_pull_and_the_next_snapshot_begins_afresh() {
    for after in [0, 1, CHUNK, CHUNK + 1, 20 * CHUNK, 40 * CHUNK] {
        let plan = Plan { save: Some(30e6), failing_saves: vec![after], ..Plan::calm(1, 40 * CHUNK) };
        let outcome = run(plan);
        assert!(outcome.is_done && outcome.faults.iter().any(|fault| fault.contains("save failed")), "{outcome:?}");
    }
}

#[test]
fn a_disk_without_room_is_told_also_when_the_snapshot_grows_beyond_it() {
    for save in [None, Some(30e6)] {
        let outcome = run(Plan { save, room_bytes: 20 * CHUNK - 1, ..Plan::calm(1, 20 * CHUNK) });
        assert!(!outcome.is_done && outcome.faults[0].contains("bytes are missing"), "{outcome:?}");
    }
}

#[test]
fn after_a_kill_only_what_was_in_flight_is_sent_twice_and_little_more_after_a_power_cut() {
    for seed in 0..50 {
        let half = 100.0 * CHUNK as f64 * 0.45 / 25e6 / 2.0;
        let calm = Plan { wire: 25e6, ..Plan::calm(seed, 100 * CHUNK) };
        let killed = run(Plan { mishaps: vec![at(half, Mishap::KillTarget { ms: 500 })], ..calm.clone() });
        assert!(killed.fetches <= 100 + WINDOW_CHUNKS as u64 && killed.resumed > 20, "{killed:?}");
        let cut = run(Plan { mishaps: vec![at(half, Mishap::CutPower { ms: 500 })], ..calm });
        // What came in the two seconds between syncs, and the window.
        assert!(cut.fetches <= 100 + 30 + WINDOW_CHUNKS as u64 && cut.resumed > 0, "{cut:?}");
    }
}

#[test]
fn a_source_that_falls_silent_is_left_for_a_new_link() {
    for chunks in [1, 5, WINDOW_CHUNKS as u64, 60] {
        // Its connections live, and no answer comes: only the stall tells.
        let silence = Mishap::Mute { ms: STALL.as_millis() as u32 + 1000 };
        let outcome = run(Plan { mishaps: vec![at(0.03, silence)], ..Plan::calm(1, chunks * CHUNK) });
        assert!(outcome.is_done && outcome.took < 2 * STALL + Duration::from_secs(60), "{outcome:?}");
    }
}

#[test]
fn links_that_break_all_the_time_cost_little_more_than_their_windows() {
    let mishaps: Vec<_> = (1..40).map(|number| at(f64::from(number) * 1.3, Mishap::CutAll)).collect();
    let broken = mishaps.len() as u64;
    let outcome = run(Plan { mishaps, wire: 8e6, lanes: 2, ..Plan::calm(5, 100 * CHUNK) });
    assert!(outcome.is_done && outcome.fetches <= 100 + broken * WINDOW_CHUNKS as u64, "{outcome:?}");
}
