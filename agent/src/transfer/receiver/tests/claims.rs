//! What an earlier attempt claims to hold.

use super::*;

fn held(indexes: impl IntoIterator<Item = u32>) -> Held {
    indexes.into_iter().map(|index| (ChunkIndex(index), sums(index as u8).digest)).collect()
}

fn checked(outputs: &[Output]) -> Vec<u32> {
    let index = |output: &Output| match output {
        Output::Check { index, .. } => Some(index.0),
        _ => None,
    };
    outputs.iter().filter_map(index).collect()
}

/// Finds a claim good.
fn good(receiver: &mut Receiver, index: u32) {
    receiver.handle_checked(ChunkIndex(index), Some(sums(index as u8).crc)).unwrap();
}

#[test]
fn a_claim_is_checked_before_it_is_believed_and_beside_the_fetching() {
    let (mut receiver, first) = begin(whole(6 * CHUNK), held([0, 1, 4]));
    assert_eq!((fetched(&first), checked(&first)), (vec![2, 3, 5], vec![0, 1]));
    assert_eq!(receiver.bytes_done(), 0, "a claim is nothing yet");
    good(&mut receiver, 1);
    assert_eq!((receiver.bytes_done(), receiver.chunks_resumed()), (CHUNK, 1));
    let (next, _) = outputs(&mut receiver, NOW);
    assert_eq!((fetched(&next), checked(&next)), (vec![], vec![4]));
}

#[test]
fn few_claims_are_read_back_at_a_time() {
    let (mut receiver, first) = begin(whole(50 * CHUNK), held(0..50));
    assert_eq!((fetched(&first), checked(&first).len()), (vec![], CHECKING_MAX));
    for index in 0..50 {
        good(&mut receiver, index);
        assert!(checked(&outputs(&mut receiver, NOW).0).len() <= 1);
    }
    assert_eq!(receiver.chunks_resumed(), 50);
}

#[test]
fn a_bad_claim_is_fetched_and_not_checked_again() {
    let (mut receiver, _) = begin(whole(4 * CHUNK), held(0..4));
    receiver.handle_checked(ChunkIndex(1), None).unwrap();
    let (next, _) = outputs(&mut receiver, NOW);
    assert_eq!((fetched(&next), checked(&next)), (vec![1], vec![2]));
    assert_eq!(receiver.handle_checked(ChunkIndex(1), None), Err(ReceiveError::Unasked(ChunkIndex(1))));
    receiver.handle_chunk_failed(ChunkIndex(1), 1, lost()).unwrap();
    assert!(matches!(outputs(&mut receiver, NOW).0[..], [Output::Connect { .. }]));
    assert_eq!(receiver.chunks_resumed(), 0);
}

#[test]
fn a_claim_beyond_what_is_written_waits_until_it_can_be_had() {
    let (mut receiver, first) = begin(growing(CHUNK + 1), held([0, 2]));
    assert_eq!((fetched(&first), checked(&first)), (vec![], vec![0]));
    receiver.handle_extent(1, growing(3 * CHUNK)).unwrap();
    assert_eq!(fetched(&outputs(&mut receiver, NOW).0), [1]);
    receiver.handle_extent(1, whole(3 * CHUNK)).unwrap();
    let (next, _) = outputs(&mut receiver, NOW);
    assert_eq!((fetched(&next), checked(&next)), (vec![], vec![2]));
}

#[test]
fn claims_past_the_end_of_the_snapshot_are_forgotten() {
    let (mut receiver, first) = begin(whole(2 * CHUNK), held([1, 2, 3, u32::MAX]));
    assert_eq!((fetched(&first), checked(&first)), (vec![0], vec![1]));
    good(&mut receiver, 1);
    write(&mut receiver, 0);
    assert_eq!(outputs(&mut receiver, NOW).0, [Output::Sync, Output::Seal { link: 1 }]);
}

#[test]
fn a_whole_snapshot_that_is_here_is_checked_and_sealed_without_a_fetch_or_sync() {
    let (mut receiver, _) = begin(whole(2 * CHUNK), held(0..2));
    good(&mut receiver, 1);
    good(&mut receiver, 0);
    assert_eq!(outputs(&mut receiver, NOW), (vec![Output::Seal { link: 1 }], None));
    receiver.handle_sealed(digest_of(2), packing()).unwrap();
    assert_eq!(receiver.poll_output(NOW), Output::Finish { bytes: 2 * CHUNK });
    receiver.handle_finished(&TAIL).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn claims_are_all_dropped_once_when_the_file_is_another_with_them() {
    let (mut receiver, _) = begin(whole(3 * CHUNK), held([0, 2]));
    write(&mut receiver, 1);
    good(&mut receiver, 0);
    good(&mut receiver, 2);
    assert_eq!(outputs(&mut receiver, NOW).0, [Output::Sync, Output::Seal { link: 1 }]);
    receiver.handle_synced().unwrap();
    receiver.handle_sealed(FileDigest([9; 32]), packing()).unwrap();
    assert_eq!((receiver.chunks_resumed(), receiver.bytes_done()), (0, CHUNK));
    assert_eq!(fetched(&outputs(&mut receiver, NOW).0), [0, 2], "what came over this link stays");
    write(&mut receiver, 0);
    write(&mut receiver, 2);
    assert_eq!(outputs(&mut receiver, NOW).0, [Output::Sync, Output::Seal { link: 1 }]);
    receiver.handle_synced().unwrap();
    receiver.handle_sealed(FileDigest([9; 32]), packing()).unwrap();
    let fault = failure(&mut receiver);
    assert_eq!(fault.kind, FaultKind::Verification);
    assert!(fault.to_string().contains("differs from what the source has sent"), "{fault}");
}

#[test]
fn without_claims_a_seal_that_differs_is_no_success() {
    let (mut receiver, _) = begin(whole(9), Held::new());
    write(&mut receiver, 0);
    outputs(&mut receiver, NOW);
    receiver.handle_synced().unwrap();
    receiver.handle_sealed(FileDigest([9; 32]), packing()).unwrap();
    assert_eq!(failure(&mut receiver).kind, FaultKind::Verification);
    assert_eq!(receiver.poll_output(NOW), Output::Wait { until: None });
}

#[test]
fn a_claim_that_cannot_be_read_ends_the_transfer() {
    let (mut receiver, _) = begin(whole(2 * CHUNK), held([0]));
    receiver.handle_store_failed(Fault::new(FaultKind::Host, "read back"));
    assert_eq!(failure(&mut receiver).kind, FaultKind::Host);
}

#[test]
fn while_only_claims_are_missing_a_lost_link_is_not_mended() {
    let (mut receiver, _) = begin(whole(2 * CHUNK), held([0]));
    write(&mut receiver, 1);
    assert_eq!(outputs(&mut receiver, NOW), (vec![], Some(SYNC_AFTER)));
    good(&mut receiver, 0);
    assert_eq!(outputs(&mut receiver, NOW).0, [Output::Sync, Output::Seal { link: 1 }]);
}
