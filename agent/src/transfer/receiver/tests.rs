//! The engine in a simulated world: a source, a disk that forgets what was not synced, links that break, and a checker
//! that judges the log of events without knowing how the engine works.

mod world;

use std::time::Duration;

use baton_proto::chunk::{CHUNK_BYTES, ChunkIndex, SNAPSHOT_BYTES_MAX};
use baton_proto::digest::{ChunkDigest, FileDigest};
use baton_proto::rdb::RdbError;
use baton_proto::{Fault, FaultKind};
use proptest::prelude::*;

use super::*;
use world::{Act, Rng, World, manifest};

const NOW: Duration = Duration::ZERO;

/// A receiver that was connected and prepared, and the chunks that it asked for at once.
fn fetching(bytes: u64, held: &Held) -> (Receiver, Vec<ChunkIndex>) {
    let mut receiver = Receiver::default();
    assert!(matches!(receiver.poll_output(NOW), Output::Connect { after: Duration::ZERO, link: 1 }));
    receiver.handle_connected(NOW, manifest(bytes)).unwrap();
    assert_eq!(receiver.poll_output(NOW), Output::Prepare(manifest(bytes)));
    receiver.handle_prepared(held).unwrap();
    let mut asked = Vec::new();
    loop {
        match receiver.poll_output(NOW) {
            Output::Fetch { index, .. } => asked.push(index),
            Output::Wait { .. } => return (receiver, asked),
            other => panic!("{other:?}"),
        }
    }
}

fn lost() -> Trouble {
    Trouble::Link(Fault::new(FaultKind::Peer, "the connection to the agent was lost"))
}

fn digest(byte: u8) -> ChunkDigest {
    ChunkDigest([byte; 32])
}

#[test]
fn every_size_arrives_whole_on_a_quiet_line() {
    let chunk = CHUNK_BYTES;
    for bytes in [0, 1, chunk - 1, chunk, chunk + 1, 7 * chunk, 300 * chunk + 5] {
        let mut world = World::new(bytes, 1);
        world.finish_calmly();
        world.expect_done();
        assert_eq!(world.fetches(), bytes.div_ceil(chunk), "{bytes} bytes");
    }
}

#[test]
fn random_losses_damage_and_crashes_end_with_the_whole_snapshot() {
    let chunk = CHUNK_BYTES;
    for seed in 0..400 {
        let sizes = [0, 1, chunk - 1, chunk, chunk + 1, 30 * chunk + 7, 200 * chunk];
        let bytes = sizes[seed as usize % sizes.len()];
        // The seed of a failure is in the panic's message, with the log.
        let mut world = World::new(bytes, seed);
        let mut rng = Rng(seed);
        for _ in 0..600 {
            world.act(Act::random(&mut rng));
        }
        world.finish_calmly();
        world.expect_done();
    }
}

#[test]
fn a_pinned_seed_replays_the_same_events() {
    let run = || {
        let mut world = World::new(40 * CHUNK_BYTES, 7);
        let mut rng = Rng(7);
        for _ in 0..300 {
            world.act(Act::random(&mut rng));
        }
        world.finish_calmly();
        world.log()
    };
    assert_eq!(run(), run());
}

#[test]
fn rotten_chunks_on_disk_are_fetched_once_more() {
    for seed in 0..50 {
        let mut world = World::new(30 * CHUNK_BYTES, seed);
        let mut rng = Rng(seed);
        for _ in 0..40 {
            world.act(Act::random(&mut rng));
        }
        world.rot_on_disk();
        world.finish_calmly();
        world.expect_done();
    }
}

#[test]
fn a_map_that_lies_about_everything_is_found_out_and_costs_a_second_fetch() {
    let held = vec![Some(digest(9)); 3];
    let mut receiver = Receiver::default();
    receiver.poll_output(NOW);
    receiver.handle_connected(NOW, manifest(3 * CHUNK_BYTES)).unwrap();
    receiver.poll_output(NOW);
    receiver.handle_prepared(&held).unwrap();
    assert_eq!(receiver.chunks_resumed(), 3);
    assert_eq!(receiver.poll_output(NOW), Output::Seal { link: 1 });
    receiver.handle_sealed(FileDigest([1; 32])).unwrap();
    assert_eq!(receiver.poll_output(NOW), Output::Verify(vec![digest(9); 3]));
    // The bytes match the records, and yet the file is another one.
    receiver.handle_verified(Verdict { bad: vec![], digest: FileDigest([2; 32]), rdb: Ok(()) }).unwrap();
    for index in 0..3 {
        assert_eq!(receiver.poll_output(NOW), Output::Fetch { index: ChunkIndex(index), link: 1 });
    }
    assert_eq!((receiver.chunks_resumed(), receiver.bytes_done()), (0, 0));
}

/// Brings a receiver of one chunk to its verification.
fn verifying() -> Receiver {
    let (mut receiver, _) = fetching(100, &vec![None]);
    receiver.handle_written(NOW, ChunkIndex(0), digest(1)).unwrap();
    assert_eq!(receiver.poll_output(NOW), Output::Sync(vec![(ChunkIndex(0), digest(1))]));
    assert_eq!(receiver.poll_output(NOW), Output::Wait { until: None });
    receiver.handle_synced().unwrap();
    assert_eq!(receiver.poll_output(NOW), Output::Seal { link: 1 });
    receiver.handle_sealed(FileDigest([1; 32])).unwrap();
    assert_eq!(receiver.poll_output(NOW), Output::Verify(vec![digest(1)]));
    receiver
}

fn failure(receiver: &mut Receiver) -> Fault {
    match receiver.poll_output(NOW) {
        Output::Fail(fault) => fault,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_good_digest_around_a_damaged_snapshot_is_no_success() {
    let mut receiver = verifying();
    let rdb = Err(RdbError::Checksum { found: 1, computed: 2 });
    receiver.handle_verified(Verdict { bad: vec![], digest: FileDigest([1; 32]), rdb }).unwrap();
    let fault = failure(&mut receiver);
    assert_eq!(fault.kind, FaultKind::Verification);
    assert!(fault.message.contains("damaged on the source"), "{fault}");
}

#[test]
fn a_digest_other_than_the_sources_is_no_success() {
    let mut receiver = verifying();
    receiver.handle_verified(Verdict { bad: vec![], digest: FileDigest([3; 32]), rdb: Ok(()) }).unwrap();
    assert_eq!(failure(&mut receiver).kind, FaultKind::Verification);
    assert_eq!(receiver.poll_output(NOW), Output::Wait { until: None });
}

#[test]
fn chunks_that_rot_twice_end_the_transfer() {
    let mut receiver = verifying();
    let bad = Verdict { bad: vec![ChunkIndex(0)], digest: FileDigest([1; 32]), rdb: Ok(()) };
    receiver.handle_verified(bad.clone()).unwrap();
    assert_eq!(receiver.poll_output(NOW), Output::Fetch { index: ChunkIndex(0), link: 1 });
    receiver.handle_written(NOW, ChunkIndex(0), digest(1)).unwrap();
    assert!(matches!(receiver.poll_output(NOW), Output::Sync(_)));
    receiver.handle_synced().unwrap();
    // The seal is known already.
    assert!(matches!(receiver.poll_output(NOW), Output::Verify(_)));
    receiver.handle_verified(bad).unwrap();
    let fault = failure(&mut receiver);
    assert_eq!(fault.kind, FaultKind::Verification);
    assert!(fault.to_string().contains("chunk 0 at offset 0"), "{fault}");
}

#[test]
fn the_window_bounds_the_chunks_in_flight() {
    let (mut receiver, asked) = fetching(100 * CHUNK_BYTES, &vec![None; 100]);
    assert_eq!(asked.len(), WINDOW_CHUNKS);
    receiver.handle_written(NOW, ChunkIndex(3), digest(3)).unwrap();
    let next = ChunkIndex(WINDOW_CHUNKS as u32);
    assert_eq!(receiver.poll_output(NOW), Output::Fetch { index: next, link: 1 });
    assert_eq!(receiver.poll_output(NOW), Output::Wait { until: Some(SYNC_AFTER) });
}

#[test]
fn memory_of_the_window_stays_within_its_budget() {
    assert!((WINDOW_CHUNKS + UNPACKING_MAX) as u64 * CHUNK_BYTES <= 64 << 20);
}

#[test]
fn chunks_that_do_not_belong_are_errors_by_name() {
    let (mut receiver, _) = fetching(100 * CHUNK_BYTES, &vec![None; 100]);
    let mut written = |index| receiver.handle_written(NOW, ChunkIndex(index), digest(0));
    assert_eq!(written(0), Ok(()));
    assert_eq!(written(0), Err(ReceiveError::Duplicate(ChunkIndex(0))));
    assert_eq!(written(99), Err(ReceiveError::Unasked(ChunkIndex(99))));
    assert!(matches!(written(100), Err(ReceiveError::PastEnd(ChunkError::PastEnd { index: 100, count: 100 }))));
    let failed = receiver.handle_chunk_failed(ChunkIndex(98), 1, lost());
    assert_eq!(failed, Err(ReceiveError::Unasked(ChunkIndex(98))));
    assert!(matches!(receiver.handle_synced(), Err(ReceiveError::Unexpected { .. })));
    assert!(matches!(receiver.handle_sealed(FileDigest([0; 32])), Err(ReceiveError::Unexpected { .. })));
    assert!(matches!(receiver.handle_connected(NOW, manifest(1)), Err(ReceiveError::Unexpected { .. })));
    assert!(matches!(receiver.handle_prepared(&vec![]), Err(ReceiveError::Unexpected { .. })));
    let mut opening = Receiver::default();
    opening.poll_output(NOW);
    opening.handle_connected(NOW, manifest(CHUNK_BYTES)).unwrap();
    opening.poll_output(NOW);
    assert_eq!(opening.handle_prepared(&vec![None; 2]), Err(ReceiveError::Count { expected: 1, found: 2 }));
}

#[test]
fn a_chunk_that_keeps_coming_damaged_ends_the_transfer_after_what_arrived_was_synced() {
    let (mut receiver, _) = fetching(2 * CHUNK_BYTES, &vec![None; 2]);
    receiver.handle_written(NOW, ChunkIndex(0), digest(0)).unwrap();
    let fault = Fault::new(FaultKind::Verification, "chunk 1 at offset 4194304 is damaged");
    for _ in 1..CHUNK_TRIES_MAX {
        receiver.handle_chunk_failed(ChunkIndex(1), 1, Trouble::Damage(fault.clone())).unwrap();
        assert_eq!(receiver.poll_output(NOW), Output::Fetch { index: ChunkIndex(1), link: 1 });
    }
    receiver.handle_chunk_failed(ChunkIndex(1), 1, Trouble::Damage(fault.clone())).unwrap();
    assert_eq!(receiver.poll_output(NOW), Output::Sync(vec![(ChunkIndex(0), digest(0))]));
    assert_eq!(receiver.poll_output(NOW), Output::Wait { until: None });
    receiver.handle_synced().unwrap();
    assert_eq!(receiver.poll_output(NOW), Output::Fail(fault));
}

#[test]
fn a_link_that_never_comes_up_again_is_given_up_with_growing_pauses() {
    let (mut receiver, asked) = fetching(100 * CHUNK_BYTES, &vec![None; 100]);
    // All chunks in flight bring the same news; it counts once.
    for index in asked {
        receiver.handle_chunk_failed(index, 1, lost()).unwrap();
    }
    let mut pauses = Vec::new();
    let fault = loop {
        match receiver.poll_output(NOW) {
            Output::Connect { after, .. } => {
                pauses.push(after);
                receiver.handle_connect_failed(lost()).unwrap();
            }
            Output::Fail(fault) => break fault,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(fault.kind, FaultKind::Peer);
    assert_eq!(pauses.len() as u32, LINK_TRIES_MAX - 1);
    assert!(pauses.is_sorted() && pauses[0] == BACKOFF_FIRST && pauses.last() == Some(&BACKOFF_MAX), "{pauses:?}");
}

#[test]
fn the_first_link_is_given_up_soon() {
    let mut receiver = Receiver::default();
    for _ in 0..FIRST_LINK_TRIES_MAX {
        assert!(matches!(receiver.poll_output(NOW), Output::Connect { .. }));
        receiver.handle_connect_failed(lost()).unwrap();
    }
    assert!(matches!(receiver.poll_output(NOW), Output::Fail(_)));
}

#[test]
fn another_snapshot_after_a_reconnect_ends_the_transfer() {
    let (mut receiver, _) = fetching(CHUNK_BYTES, &vec![None]);
    receiver.handle_chunk_failed(ChunkIndex(0), 1, lost()).unwrap();
    assert!(matches!(receiver.poll_output(NOW), Output::Connect { link: 2, .. }));
    receiver.handle_connected(NOW, manifest(CHUNK_BYTES + 1)).unwrap();
    assert_eq!(failure(&mut receiver).kind, FaultKind::Verification);
}

#[test]
fn an_absurd_offer_is_refused_before_anything_is_made_for_it() {
    let mut receiver = Receiver::default();
    receiver.poll_output(NOW);
    receiver.handle_connected(NOW, manifest(SNAPSHOT_BYTES_MAX + 1)).unwrap();
    assert_eq!(failure(&mut receiver).kind, FaultKind::Peer);
}

#[test]
fn a_silent_link_is_dropped_and_the_next_one_is_asked_for_less() {
    let (mut receiver, asked) = fetching(100 * CHUNK_BYTES, &vec![None; 100]);
    assert_eq!(receiver.poll_output(NOW), Output::Wait { until: Some(STALL) });
    receiver.handle_tick(STALL - Duration::from_millis(1));
    assert!(matches!(receiver.poll_output(STALL), Output::Wait { .. }));
    receiver.handle_tick(STALL);
    assert!(matches!(receiver.poll_output(STALL), Output::Connect { link: 2, .. }));
    for index in asked {
        receiver.handle_chunk_failed(index, 1, lost()).unwrap();
    }
    receiver.handle_connected(STALL, manifest(100 * CHUNK_BYTES)).unwrap();
    let mut again = 0;
    while let Output::Fetch { link: 2, .. } = receiver.poll_output(STALL) {
        again += 1;
    }
    assert_eq!(again, WINDOW_CHUNKS / 2);
}

#[test]
fn written_chunks_are_synced_when_they_are_many_or_old() {
    let (mut receiver, _) = fetching(200 * CHUNK_BYTES, &vec![None; 200]);
    receiver.handle_written(NOW, ChunkIndex(0), digest(0)).unwrap();
    assert!(matches!(receiver.poll_output(NOW), Output::Fetch { .. }));
    assert_eq!(receiver.poll_output(NOW), Output::Wait { until: Some(SYNC_AFTER) });
    assert_eq!(receiver.poll_output(SYNC_AFTER), Output::Sync(vec![(ChunkIndex(0), digest(0))]));
    for index in 1..=SYNC_CHUNKS as u32 {
        receiver.handle_written(SYNC_AFTER, ChunkIndex(index), digest(1)).unwrap();
        // One sync at a time.
        while let Output::Fetch { .. } = receiver.poll_output(SYNC_AFTER) {}
    }
    receiver.handle_synced().unwrap();
    assert!(matches!(receiver.poll_output(SYNC_AFTER), Output::Sync(batch) if batch.len() == SYNC_CHUNKS));
}

#[test]
fn a_store_that_cannot_sync_ends_the_transfer_at_once() {
    let (mut receiver, _) = fetching(2 * CHUNK_BYTES, &vec![None; 2]);
    receiver.handle_written(NOW, ChunkIndex(0), digest(0)).unwrap();
    assert!(matches!(receiver.poll_output(SYNC_AFTER), Output::Sync(_)));
    receiver.handle_written(NOW, ChunkIndex(1), digest(0)).unwrap();
    receiver.handle_store_failed(Fault::new(FaultKind::Host, "sync"));
    assert_eq!(failure(&mut receiver).kind, FaultKind::Host);
}

#[test]
fn a_seal_that_is_lost_with_its_link_is_asked_for_again() {
    let (mut receiver, _) = fetching(100, &vec![None]);
    receiver.handle_written(NOW, ChunkIndex(0), digest(1)).unwrap();
    receiver.poll_output(NOW);
    receiver.handle_synced().unwrap();
    assert_eq!(receiver.poll_output(NOW), Output::Seal { link: 1 });
    receiver.handle_seal_failed(1, lost()).unwrap();
    assert!(matches!(receiver.poll_output(NOW), Output::Connect { link: 2, .. }));
    receiver.handle_connected(NOW, manifest(100)).unwrap();
    assert_eq!(receiver.poll_output(NOW), Output::Seal { link: 2 });
}

proptest! {
    #[test]
    fn any_order_of_events_keeps_the_promises(
        chunks in 0u64..40, surplus in 0u64..2, acts in proptest::collection::vec(Act::any(), 0..200),
    ) {
        let mut world = World::new(chunks * CHUNK_BYTES + surplus, 0);
        for act in acts {
            world.act(act);
        }
        world.finish_calmly();
        world.expect_done();
    }
}
