//! The receiving engine: each rule by itself here and below, and all of them at once in a simulated world.

mod acts;
mod claims;
mod ends;
mod growth;
mod links;
mod world;

use std::time::Duration;

use baton_proto::chunk::{CHUNK_BYTES, ChunkError, SNAPSHOT_BYTES_MAX};
use baton_proto::data::{PackingFacts, SnapshotId};
use baton_proto::digest::{ChunkDigest, FileDigest, file_digest};
use baton_proto::{Fault, FaultKind};
use proptest::prelude::*;

use super::*;
use crate::transfer::dice::Dice;
use acts::Act;
use world::World;

const NOW: Duration = Duration::ZERO;
const CHUNK: u64 = CHUNK_BYTES;
/// The end of a file whose server writes no checksum: the shortest way to a good one.
const TAIL: [u8; 9] = [0xff, 0, 0, 0, 0, 0, 0, 0, 0];

fn manifest() -> Manifest {
    Manifest { snapshot: SnapshotId("fo-1/0".into()), format: "REDIS0010".parse().unwrap(), window: None }
}

fn whole(bytes: u64) -> Extent {
    Extent { bytes, whole: true }
}

fn growing(bytes: u64) -> Extent {
    Extent { bytes, whole: false }
}

fn lost() -> Trouble {
    Trouble::Link(Fault::new(FaultKind::Peer, "the connection to the agent was lost"))
}

fn sums(byte: u8) -> ChunkSums {
    ChunkSums { digest: ChunkDigest([byte; 32]), crc: Checksum::of(&[byte ^ 0xa5; 18]) }
}

fn packing() -> PackingFacts {
    PackingFacts { mean_level: None, stored: 0, plain: 0, chunks: 0, limited: false, why: String::new() }
}

/// All that is to be done now, and until when there is nothing after it.
fn outputs(receiver: &mut Receiver, now: Duration) -> (Vec<Output>, Option<Duration>) {
    let mut outputs = Vec::new();
    loop {
        match receiver.poll_output(now) {
            Output::Wait { until } => return (outputs, until),
            output => outputs.push(output),
        }
        assert!(outputs.len() < 1000, "the engine never waits: {:?}", outputs.last());
    }
}

/// A receiver whose link is up and whose store is open, and what it wants first.
fn begin_with(extent: Extent, held: Held, room_bytes: u64) -> (Receiver, Vec<Output>) {
    let mut receiver = Receiver::default();
    assert_eq!(receiver.poll_output(NOW), Output::Connect { after: Duration::ZERO, link: 1 });
    receiver.handle_connected(NOW, manifest(), extent).unwrap();
    assert_eq!(receiver.poll_output(NOW), Output::Prepare { manifest: manifest(), extent });
    assert_eq!(outputs(&mut receiver, NOW), (vec![], None));
    receiver.handle_prepared(held, room_bytes).unwrap();
    let (first, _) = outputs(&mut receiver, NOW);
    (receiver, first)
}

fn begin(extent: Extent, held: Held) -> (Receiver, Vec<Output>) {
    begin_with(extent, held, SNAPSHOT_BYTES_MAX)
}

fn fetched(outputs: &[Output]) -> Vec<u32> {
    let index = |output: &Output| match output {
        Output::Fetch { index, .. } => Some(index.0),
        _ => None,
    };
    outputs.iter().filter_map(index).collect()
}

fn write(receiver: &mut Receiver, index: u32) {
    receiver.handle_written(NOW, ChunkIndex(index), sums(index as u8)).unwrap();
}

/// Yields the failure that is told next.
fn failure(receiver: &mut Receiver) -> Fault {
    match receiver.poll_output(NOW) {
        Output::Fail(fault) => fault,
        other => panic!("{other:?}"),
    }
}

/// The digest of the file of the first chunks.
fn digest_of(chunks: u32) -> FileDigest {
    file_digest(&(0..chunks).map(|index| sums(index as u8).digest).collect::<Vec<_>>())
}

#[test]
fn the_window_bounds_the_chunks_in_flight() {
    let (mut receiver, first) = begin(whole(100 * CHUNK), Held::new());
    assert_eq!(fetched(&first), (0..WINDOW_CHUNKS as u32).collect::<Vec<_>>());
    assert_eq!(first.len(), WINDOW_CHUNKS);
    write(&mut receiver, 3);
    let (next, until) = outputs(&mut receiver, NOW);
    assert_eq!((fetched(&next), next.len()), (vec![WINDOW_CHUNKS as u32], 1));
    assert_eq!(until, Some(SYNC_AFTER));
}

#[test]
fn what_can_be_used_at_once_is_what_is_held_without_a_gap() {
    let bytes = 5 * CHUNK - 7;
    let (mut receiver, _) = begin(whole(bytes), Held::new());
    for (index, usable) in [(1, 0), (0, 2 * CHUNK), (3, 2 * CHUNK), (4, 2 * CHUNK), (2, bytes)] {
        write(&mut receiver, index);
        assert_eq!(receiver.held_prefix_bytes(), usable, "after chunk {index}");
    }
}

#[test]
fn a_claim_can_be_used_once_it_was_read_back_and_no_more_when_the_file_is_another() {
    let claims = (0..3).map(|index| (ChunkIndex(index), sums(9).digest)).collect();
    let (mut receiver, _) = begin(whole(4 * CHUNK), claims);
    write(&mut receiver, 3);
    assert_eq!(receiver.held_prefix_bytes(), 0);
    for index in 0..3 {
        receiver.handle_checked(ChunkIndex(index), Some(sums(9).crc)).unwrap();
        outputs(&mut receiver, NOW);
        assert_eq!(receiver.held_prefix_bytes(), if index == 2 { 4 } else { u64::from(index) + 1 } * CHUNK);
    }
    receiver.handle_synced().unwrap();
    outputs(&mut receiver, NOW);
    receiver.handle_sealed(FileDigest([1; 32]), packing()).unwrap();
    assert_eq!(receiver.held_prefix_bytes(), 0, "what was claimed is fetched anew");
}

#[test]
fn memory_of_the_window_stays_within_its_budget() {
    let budget = 64 << 20;
    assert!((WINDOW_CHUNKS + CHECKING_MAX) as u64 * CHUNK <= budget);
}

#[test]
fn chunks_that_do_not_belong_are_errors_by_name_and_change_nothing() {
    let (mut receiver, _) = begin(whole(100 * CHUNK), Held::new());
    let mut written = |index| receiver.handle_written(NOW, ChunkIndex(index), sums(0));
    assert_eq!(written(0), Ok(()));
    assert_eq!(written(0), Err(ReceiveError::Duplicate(ChunkIndex(0))));
    assert_eq!(written(99), Err(ReceiveError::Unasked(ChunkIndex(99))));
    assert!(matches!(written(100), Err(ReceiveError::PastEnd(ChunkError::PastEnd { index: 100, count: 100 }))));
    assert!(matches!(written(u32::MAX), Err(ReceiveError::PastEnd(_))));
    let failed = receiver.handle_chunk_failed(ChunkIndex(98), 1, lost());
    assert_eq!(failed, Err(ReceiveError::Unasked(ChunkIndex(98))));
    assert_eq!(receiver.handle_checked(ChunkIndex(0), None), Err(ReceiveError::Unasked(ChunkIndex(0))));
    assert_eq!(receiver.bytes_done(), CHUNK);
}

#[test]
fn what_was_not_asked_for_is_a_defect_by_name() {
    let unexpected = |result: Result<(), ReceiveError>| {
        assert!(matches!(result, Err(ReceiveError::Unexpected { .. })), "{result:?}");
    };
    let (mut receiver, _) = begin(whole(100 * CHUNK), Held::new());
    unexpected(receiver.handle_synced());
    unexpected(receiver.handle_sealed(FileDigest([0; 32]), packing()));
    unexpected(receiver.handle_seal_failed(1, lost()));
    unexpected(receiver.handle_finished(&TAIL));
    unexpected(receiver.handle_connected(NOW, manifest(), whole(1)));
    unexpected(receiver.handle_connect_failed(lost()));
    unexpected(receiver.handle_prepared(Held::new(), 0));
    unexpected(receiver.handle_extent(1, whole(1)));
    unexpected(receiver.handle_extent_failed(1, lost()));
    let words = receiver.handle_synced().unwrap_err().to_string();
    assert_eq!(words, "a sync came while the transfer was fetching and the link up");
}

#[test]
fn every_size_arrives_whole_on_a_quiet_line() {
    for bytes in [1, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK, 300 * CHUNK + 5] {
        let mut world = World::new(bytes, 1);
        world.finish_calmly();
        assert_eq!(world.fetches(), bytes.div_ceil(CHUNK), "{bytes} bytes");
    }
}

#[test]
fn an_empty_snapshot_is_none_and_is_told_so_without_a_fetch() {
    let (mut receiver, first) = begin(whole(0), Held::new());
    assert_eq!(first, [Output::Seal { link: 1 }]);
    receiver.handle_sealed(digest_of(0), packing()).unwrap();
    assert_eq!(receiver.poll_output(NOW), Output::Finish { bytes: 0 });
    receiver.handle_finished(&[]).unwrap();
    let fault = failure(&mut receiver);
    assert_eq!(fault.kind, FaultKind::Verification);
    assert!(fault.to_string().contains("too few"), "{fault}");
}

/// Sizes of the random runs.
const SIZES: [u64; 8] = [1, CHUNK - 1, CHUNK, CHUNK + 1, 13 * CHUNK, 30 * CHUNK + 7, 80 * CHUNK, 200 * CHUNK];

#[test]
fn random_losses_damage_and_crashes_end_with_the_whole_snapshot() {
    for seed in 0..600 {
        // The seed of a failure is in the panic's message.
        let mut world = World::new(SIZES[seed as usize % SIZES.len()], seed);
        let mut dice = Dice::new(seed);
        for _ in 0..500 {
            world.act(Act::random(&mut dice));
        }
        world.finish_calmly();
    }
}

#[test]
fn a_pinned_seed_replays_the_same_events() {
    let run = || {
        let mut world = World::new(40 * CHUNK, 7);
        let mut dice = Dice::new(7);
        for _ in 0..300 {
            world.act(Act::random(&mut dice));
        }
        world.finish_calmly();
        world.log()
    };
    assert_eq!(run(), run());
}

#[test]
fn rotten_chunks_on_disk_are_found_and_fetched_once_more() {
    for seed in 0..100 {
        let mut world = World::new(30 * CHUNK, seed);
        let mut dice = Dice::new(seed);
        for _ in 0..60 {
            world.act(Act::random(&mut dice));
        }
        world.rot_on_disk();
        world.finish_calmly();
    }
}

proptest! {
    #[test]
    fn any_order_of_events_keeps_the_promises(
        chunks in 0u64..40, surplus in 1u64..3, acts in proptest::collection::vec(Act::any(), 0..200),
    ) {
        let mut world = World::new(chunks * CHUNK + surplus, 0);
        for act in acts {
            world.act(act);
        }
        world.finish_calmly();
    }
}
