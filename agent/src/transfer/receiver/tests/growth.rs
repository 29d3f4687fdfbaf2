//! A snapshot that is still being written.

use super::*;

#[test]
fn one_question_after_the_extent_is_under_way_until_it_is_whole() {
    let (mut receiver, first) = begin(growing(0), Held::new());
    assert_eq!(first, [Output::Extent { link: 1, seen: 0 }]);
    receiver.handle_extent(1, growing(0)).unwrap();
    assert_eq!(outputs(&mut receiver, NOW).0, [Output::Extent { link: 1, seen: 0 }]);
    receiver.handle_extent(1, growing(5)).unwrap();
    assert_eq!(outputs(&mut receiver, NOW).0, [Output::Extent { link: 1, seen: 5 }]);
    receiver.handle_extent(1, whole(5)).unwrap();
    let (next, _) = outputs(&mut receiver, NOW);
    assert_eq!((fetched(&next), next.len()), (vec![0], 1));
}

#[test]
fn a_chunk_is_asked_for_only_when_more_than_it_is_written() {
    let (mut receiver, _) = begin(growing(CHUNK), Held::new());
    receiver.handle_extent(1, growing(CHUNK)).unwrap();
    assert!(fetched(&outputs(&mut receiver, NOW).0).is_empty());
    receiver.handle_extent(1, growing(CHUNK + 1)).unwrap();
    assert_eq!(fetched(&outputs(&mut receiver, NOW).0), [0]);
    receiver.handle_extent(1, growing(4 * CHUNK)).unwrap();
    assert_eq!(fetched(&outputs(&mut receiver, NOW).0), [1, 2]);
    receiver.handle_extent(1, whole(4 * CHUNK)).unwrap();
    assert_eq!(fetched(&outputs(&mut receiver, NOW).0), [3]);
    assert_eq!(receiver.extent(), whole(4 * CHUNK));
}

#[test]
fn a_chunk_is_fetched_as_the_file_was_cut_when_it_was_asked_for() {
    let (_, first) = begin(growing(CHUNK + 1), Held::new());
    let Output::Fetch { chunking, .. } = first[1] else { panic!("{first:?}") };
    assert_eq!(chunking.extent(), growing(CHUNK + 1));
    let (_, first) = begin(whole(CHUNK), Held::new());
    let Output::Fetch { chunking, .. } = first[0] else { panic!("{first:?}") };
    assert!(chunking.is_whole() && chunking.count() == 1);
}

#[test]
fn nothing_is_sealed_before_the_snapshot_is_whole() {
    let (mut receiver, _) = begin(growing(CHUNK + 1), Held::new());
    write(&mut receiver, 0);
    assert_eq!(outputs(&mut receiver, NOW), (vec![], Some(SYNC_AFTER)));
    receiver.handle_extent(1, whole(CHUNK + 1)).unwrap();
    assert_eq!(fetched(&outputs(&mut receiver, NOW).0), [1]);
    write(&mut receiver, 1);
    let (next, _) = outputs(&mut receiver, NOW);
    assert_eq!(next, [Output::Sync, Output::Seal { link: 1 }]);
}

#[test]
fn a_snapshot_that_shrinks_or_grows_after_its_end_ends_the_transfer() {
    for (first, then) in [(growing(50), growing(49)), (growing(50), whole(49)), (whole(50), whole(51))] {
        let (mut receiver, _) = begin(first, Held::new());
        if first.whole {
            receiver.handle_chunk_failed(ChunkIndex(0), 1, lost()).unwrap();
            assert!(matches!(receiver.poll_output(NOW), Output::Connect { .. }));
            receiver.handle_connected(NOW, manifest(), then).unwrap();
        } else {
            receiver.handle_extent(1, then).unwrap();
        }
        let fault = failure(&mut receiver);
        assert_eq!(fault.kind, FaultKind::Verification, "{first:?} {then:?}");
        assert!(fault.to_string().contains("makes no sense"), "{fault}");
    }
}

#[test]
fn an_absurd_extent_is_refused_before_anything_is_made_for_it() {
    for extent in [growing(SNAPSHOT_BYTES_MAX + 1), whole(u64::MAX)] {
        let (mut receiver, _) = begin_with(growing(9), Held::new(), u64::MAX);
        receiver.handle_extent(1, extent).unwrap();
        assert_eq!(failure(&mut receiver).kind, FaultKind::Verification);
    }
}

#[test]
fn nothing_is_set_up_for_a_size_without_room() {
    let (mut receiver, _) = begin_with(growing(2 * CHUNK), Held::new(), 10 * CHUNK);
    receiver.handle_extent(1, growing(10 * CHUNK)).unwrap();
    assert_eq!(fetched(&outputs(&mut receiver, NOW).0), (1..9).collect::<Vec<_>>());
    receiver.handle_extent(1, growing(10 * CHUNK + 7)).unwrap();
    let fault = failure(&mut receiver);
    assert_eq!(fault.kind, FaultKind::Host);
    assert!(fault.to_string().contains(": 7 bytes are missing"), "{fault}");
    assert!(fault.hint.unwrap().contains("free at least 7 bytes"));
}

#[test]
fn the_first_size_is_not_believed_before_the_store_has_told_its_room() {
    let mut receiver = Receiver::default();
    receiver.poll_output(NOW);
    receiver.handle_connected(NOW, manifest(), whole(SNAPSHOT_BYTES_MAX)).unwrap();
    assert!(matches!(receiver.poll_output(NOW), Output::Prepare { .. }));
    assert_eq!(receiver.poll_output(NOW), Output::Wait { until: None });
    receiver.handle_prepared(Held::new(), CHUNK).unwrap();
    assert_eq!(failure(&mut receiver).kind, FaultKind::Host);
}

#[test]
fn a_save_that_fails_ends_the_transfer_with_its_reason_after_a_sync() {
    let (mut receiver, _) = begin(growing(2 * CHUNK), Held::new());
    write(&mut receiver, 0);
    let fault = Fault::new(FaultKind::Server, "the save failed");
    receiver.handle_extent_failed(1, Trouble::Final(fault.clone())).unwrap();
    assert_eq!(outputs(&mut receiver, NOW).0, [Output::Sync]);
    receiver.handle_synced().unwrap();
    assert_eq!(failure(&mut receiver), fault);
}

#[test]
fn a_question_that_is_lost_with_its_link_is_asked_on_the_next() {
    let (mut receiver, _) = begin(growing(9), Held::new());
    receiver.handle_extent_failed(1, lost()).unwrap();
    assert!(matches!(outputs(&mut receiver, NOW).0[..], [Output::Connect { link: 2, .. }]));
    receiver.handle_connected(NOW, manifest(), growing(8 * CHUNK)).unwrap();
    let (next, _) = outputs(&mut receiver, NOW);
    assert_eq!(next[0], Output::Extent { link: 2, seen: 8 * CHUNK });
    assert_eq!(fetched(&next), [0, 1, 2, 3, 4, 5, 6]);
}

#[test]
fn news_of_an_old_link_does_not_make_the_snapshot_shrink() {
    let (mut receiver, _) = begin(growing(2 * CHUNK), Held::new());
    receiver.handle_chunk_failed(ChunkIndex(0), 1, lost()).unwrap();
    assert!(matches!(outputs(&mut receiver, NOW).0[..], [Output::Connect { link: 2, .. }]));
    receiver.handle_connected(NOW, manifest(), growing(5 * CHUNK)).unwrap();
    outputs(&mut receiver, NOW);
    receiver.handle_extent(1, growing(3 * CHUNK)).unwrap();
    assert_eq!(outputs(&mut receiver, NOW).0, [Output::Extent { link: 2, seen: 5 * CHUNK }]);
    assert_eq!(receiver.extent(), growing(5 * CHUNK));
}

#[test]
fn of_a_source_that_keeps_few_chunks_fewer_are_asked_for_and_it_hears_what_is_written() {
    let kept = 5;
    let mut receiver = Receiver::default();
    assert_eq!(receiver.poll_output(NOW), Output::Connect { after: Duration::ZERO, link: 1 });
    let few = Manifest { window: Some(kept), ..manifest() };
    receiver.handle_connected(NOW, few.clone(), growing(u64::from(kept) * CHUNK)).unwrap();
    assert!(matches!(receiver.poll_output(NOW), Output::Prepare { .. }));
    receiver.handle_prepared(Held::new(), SNAPSHOT_BYTES_MAX).unwrap();
    let (first, _) = outputs(&mut receiver, NOW);
    assert_eq!((fetched(&first), receiver.held_before()), (vec![0, 1, 2], 0));
    // The first that is written has the next asked for, and that question makes room for one more.
    write(&mut receiver, 1);
    let (next, _) = outputs(&mut receiver, NOW);
    assert_eq!((fetched(&next), receiver.held_before()), (vec![3], 0), "the first is missing");
    write(&mut receiver, 0);
    let (next, _) = outputs(&mut receiver, NOW);
    assert_eq!((next, receiver.held_before()), (vec![], 2), "no more is known to be there");
    receiver.handle_extent(1, growing(7 * CHUNK)).unwrap();
    let (next, _) = outputs(&mut receiver, NOW);
    assert_eq!(fetched(&next), [4]);
    // Whatever a source says that it keeps, one is asked for at a time, and never more than of others.
    for (kept, asked) in [(0, 1), (2, 1), (u32::MAX, WINDOW_CHUNKS)] {
        let mut receiver = Receiver::default();
        assert!(matches!(receiver.poll_output(NOW), Output::Connect { .. }));
        receiver.handle_connected(NOW, Manifest { window: Some(kept), ..manifest() }, whole(99 * CHUNK)).unwrap();
        assert!(matches!(receiver.poll_output(NOW), Output::Prepare { .. }));
        receiver.handle_prepared(Held::new(), SNAPSHOT_BYTES_MAX).unwrap();
        assert_eq!(fetched(&outputs(&mut receiver, NOW).0).len(), asked, "{kept} are kept");
    }
}
