//! Syncs, and the ends that a transfer can have.

use super::*;

#[test]
fn written_chunks_are_synced_when_they_are_many_or_old() {
    let (mut receiver, _) = begin(whole(200 * CHUNK), Held::new());
    write(&mut receiver, 0);
    let (next, until) = outputs(&mut receiver, NOW);
    assert!(!next.contains(&Output::Sync) && until == Some(SYNC_AFTER));
    assert_eq!(outputs(&mut receiver, SYNC_AFTER).0, [Output::Sync]);
    for index in 1..=SYNC_CHUNKS as u32 {
        receiver.handle_written(SYNC_AFTER, ChunkIndex(index), sums(1)).unwrap();
        let (next, _) = outputs(&mut receiver, 3 * SYNC_AFTER);
        assert!(!next.contains(&Output::Sync), "one sync at a time");
    }
    receiver.handle_synced().unwrap();
    let (next, _) = outputs(&mut receiver, SYNC_AFTER);
    assert_eq!(next, [Output::Sync], "they are many");
}

/// A receiver of one chunk that is sealed, with the answer to its finish still to come.
fn finishing() -> Receiver {
    let (mut receiver, _) = begin(whole(100), Held::new());
    write(&mut receiver, 0);
    assert_eq!(outputs(&mut receiver, NOW).0, [Output::Sync, Output::Seal { link: 1 }]);
    receiver.handle_synced().unwrap();
    receiver.handle_sealed(digest_of(1), packing()).unwrap();
    assert_eq!(outputs(&mut receiver, NOW), (vec![Output::Finish { bytes: 100 }], None));
    receiver
}

#[test]
fn a_snapshot_with_a_good_digest_and_end_is_done_and_told_once() {
    let mut receiver = finishing();
    receiver.handle_finished(&TAIL).unwrap();
    let received = Received { bytes: 100, digest: digest_of(1), packing: packing() };
    assert_eq!(receiver.poll_output(NOW), Output::Done(received));
    assert_eq!(outputs(&mut receiver, Duration::MAX), (vec![], None));
    assert!(receiver.handle_finished(&TAIL).is_ok(), "what comes after the end is not used");
    receiver.handle_store_failed(Fault::new(FaultKind::Host, "sync"));
    assert_eq!(outputs(&mut receiver, NOW), (vec![], None));
}

#[test]
fn a_good_digest_around_a_damaged_snapshot_is_no_success() {
    for (tail, words) in [([0; 9], "end mark"), ([0xff, 1, 2, 3, 4, 5, 6, 7, 8], "checksum")] {
        let mut receiver = finishing();
        receiver.handle_finished(&tail).unwrap();
        let fault = failure(&mut receiver);
        assert_eq!(fault.kind, FaultKind::Verification);
        assert!(fault.message.contains("damaged on the source") && fault.to_string().contains(words), "{fault}");
    }
    let mut receiver = finishing();
    receiver.handle_finished(&TAIL[1..]).unwrap();
    assert_eq!(failure(&mut receiver).kind, FaultKind::Verification);
}

#[test]
fn a_file_that_cannot_be_finished_is_no_success() {
    let mut receiver = finishing();
    let fault = Fault::new(FaultKind::Host, "sync the part file");
    receiver.handle_store_failed(fault.clone());
    assert_eq!(failure(&mut receiver), fault);
    assert_eq!(outputs(&mut receiver, NOW), (vec![], None));
}

#[test]
fn a_chunk_that_keeps_coming_damaged_ends_the_transfer_after_what_arrived_was_synced() {
    let (mut receiver, _) = begin(whole(2 * CHUNK), Held::new());
    write(&mut receiver, 0);
    let fault = Fault::new(FaultKind::Verification, "chunk 1 at offset 4194304 came damaged");
    for _ in 1..CHUNK_TRIES_MAX {
        receiver.handle_chunk_failed(ChunkIndex(1), 1, Trouble::Damage(fault.clone())).unwrap();
        assert_eq!(fetched(&outputs(&mut receiver, NOW).0), [1]);
    }
    receiver.handle_chunk_failed(ChunkIndex(1), 1, Trouble::Damage(fault.clone())).unwrap();
    assert_eq!(outputs(&mut receiver, NOW), (vec![Output::Sync], None));
    receiver.handle_synced().unwrap();
    assert_eq!(failure(&mut receiver), fault);
}

#[test]
fn damage_to_many_chunks_once_each_is_mended() {
    let (mut receiver, first) = begin(whole(12 * CHUNK), Held::new());
    for index in fetched(&first) {
        let fault = Fault::new(FaultKind::Verification, "came damaged");
        receiver.handle_chunk_failed(ChunkIndex(index), 1, Trouble::Damage(fault)).unwrap();
    }
    assert_eq!(outputs(&mut receiver, NOW).0, first, "no link is at fault");
}

#[test]
fn a_failure_waits_for_a_sync_that_is_under_way_and_for_what_came_since() {
    let (mut receiver, _) = begin(whole(200 * CHUNK), Held::new());
    write(&mut receiver, 0);
    assert_eq!(outputs(&mut receiver, SYNC_AFTER).0.first(), Some(&Output::Sync));
    write(&mut receiver, 1);
    let fault = Fault::new(FaultKind::Host, "write: no space left");
    receiver.handle_chunk_failed(ChunkIndex(2), 1, Trouble::Final(fault.clone())).unwrap();
    assert_eq!(outputs(&mut receiver, SYNC_AFTER), (vec![], None));
    receiver.handle_synced().unwrap();
    assert_eq!(outputs(&mut receiver, SYNC_AFTER), (vec![Output::Sync], None));
    receiver.handle_synced().unwrap();
    assert_eq!(failure(&mut receiver), fault);
}

#[test]
fn the_first_failure_is_the_one_that_is_told() {
    let (mut receiver, _) = begin(whole(200 * CHUNK), Held::new());
    let fault = |words: &str| Fault::new(FaultKind::Host, words);
    receiver.handle_chunk_failed(ChunkIndex(2), 1, Trouble::Final(fault("first"))).unwrap();
    receiver.handle_chunk_failed(ChunkIndex(3), 1, Trouble::Final(fault("second"))).unwrap();
    assert_eq!(failure(&mut receiver), fault("first"));
}

#[test]
fn a_store_that_cannot_sync_ends_the_transfer_at_once() {
    let (mut receiver, _) = begin(whole(2 * CHUNK), Held::new());
    write(&mut receiver, 0);
    assert_eq!(outputs(&mut receiver, SYNC_AFTER).0, [Output::Sync]);
    write(&mut receiver, 1);
    receiver.handle_store_failed(Fault::new(FaultKind::Host, "sync"));
    assert_eq!(failure(&mut receiver).kind, FaultKind::Host);
}

#[test]
fn a_store_that_cannot_be_opened_ends_the_transfer() {
    let mut receiver = Receiver::default();
    receiver.poll_output(NOW);
    receiver.handle_connected(NOW, manifest(), whole(9)).unwrap();
    receiver.poll_output(NOW);
    receiver.handle_store_failed(Fault::new(FaultKind::Host, "no room"));
    assert_eq!(failure(&mut receiver).kind, FaultKind::Host);
    assert!(receiver.handle_prepared(Held::new(), 1).is_ok());
    assert_eq!(outputs(&mut receiver, NOW), (vec![], None));
}

#[test]
fn a_seal_that_is_lost_with_its_link_is_asked_for_again() {
    let (mut receiver, _) = begin(whole(100), Held::new());
    write(&mut receiver, 0);
    outputs(&mut receiver, NOW);
    receiver.handle_synced().unwrap();
    receiver.handle_seal_failed(1, lost()).unwrap();
    assert!(matches!(outputs(&mut receiver, NOW).0[..], [Output::Connect { link: 2, .. }]));
    receiver.handle_connected(NOW, manifest(), whole(100)).unwrap();
    assert_eq!(outputs(&mut receiver, NOW).0, [Output::Seal { link: 2 }]);
    let fault = Fault::new(FaultKind::Verification, "the pinned snapshot was changed");
    receiver.handle_seal_failed(2, Trouble::Damage(fault.clone())).unwrap();
    assert_eq!(failure(&mut receiver), fault);
}
