//! Links that break, do not come up, or fall silent.

use super::line::{BACKOFF_FIRST, BACKOFF_MAX, FIRST_LINK_TRIES_MAX, LINK_TRIES_MAX};
use super::*;

#[test]
fn a_link_that_breaks_counts_once_and_its_chunks_are_asked_for_on_the_next() {
    let (mut receiver, first) = begin(whole(100 * CHUNK), Held::new());
    for index in fetched(&first) {
        // All chunks in flight bring the same news.
        receiver.handle_chunk_failed(ChunkIndex(index), 1, lost()).unwrap();
    }
    let (next, _) = outputs(&mut receiver, NOW);
    assert_eq!(next, [Output::Connect { after: BACKOFF_FIRST, link: 2 }]);
    receiver.handle_connected(NOW, manifest(), whole(100 * CHUNK)).unwrap();
    assert_eq!(fetched(&outputs(&mut receiver, NOW).0), fetched(&first));
    assert_eq!(receiver.reconnects(), 1);
}

#[test]
fn late_news_of_an_old_link_does_not_break_the_new_one() {
    let (mut receiver, _) = begin(whole(100 * CHUNK), Held::new());
    receiver.handle_chunk_failed(ChunkIndex(0), 1, lost()).unwrap();
    outputs(&mut receiver, NOW);
    receiver.handle_connected(NOW, manifest(), whole(100 * CHUNK)).unwrap();
    assert_eq!(fetched(&outputs(&mut receiver, NOW).0), [0]);
    receiver.handle_chunk_failed(ChunkIndex(1), 1, lost()).unwrap();
    receiver.handle_written(NOW, ChunkIndex(2), sums(2)).unwrap();
    let (next, _) = outputs(&mut receiver, NOW);
    assert_eq!(fetched(&next), [1, WINDOW_CHUNKS as u32]);
    assert!(next.iter().all(|output| matches!(output, Output::Fetch { link: 2, .. })));
}

#[test]
fn a_link_that_never_comes_up_again_is_given_up_with_growing_pauses() {
    let (mut receiver, _) = begin(whole(100 * CHUNK), Held::new());
    receiver.handle_chunk_failed(ChunkIndex(0), 1, lost()).unwrap();
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
fn links_that_bring_something_each_may_break_for_ever() {
    let (mut receiver, _) = begin(whole(100 * CHUNK), Held::new());
    for link in 1..60 {
        write(&mut receiver, link);
        receiver.handle_chunk_failed(ChunkIndex(0), link, lost()).unwrap();
        let (next, _) = outputs(&mut receiver, NOW);
        assert!(next.contains(&Output::Connect { after: BACKOFF_FIRST, link: link + 1 }), "{next:?}");
        receiver.handle_connected(NOW, manifest(), whole(100 * CHUNK)).unwrap();
        if outputs(&mut receiver, NOW).0.contains(&Output::Sync) {
            receiver.handle_synced().unwrap();
        }
    }
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
fn a_refusal_at_the_door_is_final() {
    let mut receiver = Receiver::default();
    receiver.poll_output(NOW);
    let fault = Fault::new(FaultKind::NotAllowed, "the ticket is not the one of the run");
    receiver.handle_connect_failed(Trouble::Final(fault.clone())).unwrap();
    assert_eq!(failure(&mut receiver), fault);
}

#[test]
fn another_snapshot_after_a_reconnect_ends_the_transfer() {
    let (mut receiver, _) = begin(whole(CHUNK), Held::new());
    receiver.handle_chunk_failed(ChunkIndex(0), 1, lost()).unwrap();
    assert!(matches!(receiver.poll_output(NOW), Output::Connect { link: 2, .. }));
    let other = Manifest { snapshot: SnapshotId("fo-1/1".into()), ..manifest() };
    receiver.handle_connected(NOW, other, whole(CHUNK)).unwrap();
    let fault = failure(&mut receiver);
    assert_eq!(fault.kind, FaultKind::Verification);
    assert!(fault.to_string().contains("it was fo-1/0, it is fo-1/1"), "{fault}");
}

#[test]
fn a_silent_link_is_dropped_and_the_next_one_is_asked_for_less() {
    let (mut receiver, first) = begin(whole(100 * CHUNK), Held::new());
    assert_eq!(outputs(&mut receiver, NOW).1, Some(STALL));
    receiver.handle_tick(STALL - Duration::from_millis(1));
    assert_eq!(outputs(&mut receiver, STALL), (vec![], Some(STALL)));
    receiver.handle_tick(STALL);
    assert!(matches!(outputs(&mut receiver, STALL).0[..], [Output::Connect { link: 2, .. }]));
    for index in fetched(&first) {
        receiver.handle_chunk_failed(ChunkIndex(index), 1, lost()).unwrap();
    }
    receiver.handle_connected(STALL, manifest(), whole(100 * CHUNK)).unwrap();
    let (next, until) = outputs(&mut receiver, STALL);
    assert_eq!((fetched(&next).len(), until), (WINDOW_CHUNKS / 2, Some(2 * STALL)));
}

#[test]
fn a_link_that_falls_silent_when_the_last_chunks_are_asked_for_is_dropped_too() {
    for extent in [whole(1), whole(3 * CHUNK), whole(WINDOW_CHUNKS as u64 * CHUNK), growing(3 * CHUNK)] {
        let (mut receiver, _) = begin(extent, Held::new());
        receiver.handle_tick(STALL);
        let (next, _) = outputs(&mut receiver, STALL);
        assert!(matches!(next[..], [Output::Connect { link: 2, .. }]), "{extent:?}: {next:?}");
    }
}

#[test]
fn stalls_in_a_row_ask_for_less_each_and_are_given_up_at_last() {
    let (mut receiver, first) = begin(whole(100 * CHUNK), Held::new());
    let (mut asked, mut now, mut windows) = (fetched(&first), NOW, Vec::new());
    for link in 1.. {
        windows.push(asked.len());
        now += STALL;
        receiver.handle_tick(now);
        for index in asked {
            receiver.handle_chunk_failed(ChunkIndex(index), link, lost()).unwrap();
        }
        match receiver.poll_output(now) {
            Output::Connect { .. } => receiver.handle_connected(now, manifest(), whole(100 * CHUNK)).unwrap(),
            Output::Fail(fault) => {
                assert!(fault.to_string().contains("nothing of a chunk came for"), "{fault}");
                break;
            }
            other => panic!("{other:?}"),
        }
        asked = fetched(&outputs(&mut receiver, now).0);
    }
    assert_eq!(windows[..5], [12, 6, 3, 1, 1]);
    assert_eq!(windows.len() as u32, LINK_TRIES_MAX);
}

#[test]
fn a_link_without_questions_may_be_silent_for_as_long_as_a_save_takes() {
    let (mut receiver, _) = begin(growing(10), Held::new());
    let later = 3 * STALL;
    receiver.handle_tick(later);
    assert_eq!(outputs(&mut receiver, later), (vec![], None));
    receiver.handle_extent(1, growing(2 * CHUNK)).unwrap();
    let (next, until) = outputs(&mut receiver, later);
    assert_eq!((fetched(&next), until), (vec![0], Some(later + STALL)), "silence counts from the question on");
}

#[test]
fn a_link_whose_bytes_trickle_is_kept_but_does_not_count_as_one_that_works() {
    let (mut receiver, mut asked) = begin(whole(100 * CHUNK), Held::new());
    let mut now = NOW;
    for link in 1.. {
        // A chunk takes longer than a silence may.
        for _ in 0..3 {
            now += STALL - Duration::from_secs(1);
            receiver.handle_arriving(now);
            receiver.handle_tick(now);
            assert_eq!(outputs(&mut receiver, now), (vec![], Some(now + STALL)));
        }
        for index in fetched(&asked) {
            receiver.handle_chunk_failed(ChunkIndex(index), link, lost()).unwrap();
        }
        match receiver.poll_output(now) {
            Output::Connect { .. } => receiver.handle_connected(now, manifest(), whole(100 * CHUNK)).unwrap(),
            Output::Fail(_) => return assert_eq!(link, LINK_TRIES_MAX, "each has brought bytes, and none a chunk"),
            other => panic!("{other:?}"),
        }
        asked = outputs(&mut receiver, now).0;
    }
}

#[test]
fn links_that_bring_news_of_growth_and_no_chunk_are_given_up() {
    let (mut receiver, mut asked) = begin(growing(3 * CHUNK), Held::new());
    for link in 1.. {
        receiver.handle_extent(link, growing((3 + u64::from(link)) * CHUNK)).unwrap();
        asked.extend(outputs(&mut receiver, NOW).0);
        for index in fetched(&asked) {
            receiver.handle_chunk_failed(ChunkIndex(index), link, lost()).unwrap();
        }
        receiver.handle_extent_failed(link, lost()).unwrap();
        match receiver.poll_output(NOW) {
            Output::Connect { .. } => {
                receiver.handle_connected(NOW, manifest(), growing((3 + u64::from(link)) * CHUNK)).unwrap();
            }
            Output::Fail(_) => return assert_eq!(link, LINK_TRIES_MAX),
            other => panic!("{other:?}"),
        }
        asked = outputs(&mut receiver, NOW).0;
    }
}

#[test]
fn links_that_break_while_there_is_nothing_to_bring_may_do_so_for_ever() {
    let (mut receiver, _) = begin(growing(10), Held::new());
    for link in 1..5 * LINK_TRIES_MAX {
        receiver.handle_extent(link, growing(10 + u64::from(link))).unwrap();
        assert_eq!(outputs(&mut receiver, NOW).0, [Output::Extent { link, seen: 10 + u64::from(link) }]);
        receiver.handle_extent_failed(link, lost()).unwrap();
        assert!(matches!(receiver.poll_output(NOW), Output::Connect { .. }));
        receiver.handle_connected(NOW, manifest(), growing(10 + u64::from(link))).unwrap();
        outputs(&mut receiver, NOW);
    }
}

#[test]
fn a_digest_that_goes_on_is_waited_for_and_one_that_does_not_is_given_up_at_last() {
    let (mut receiver, _) = begin(whole(CHUNK), Held::new());
    write(&mut receiver, 0);
    assert_eq!(outputs(&mut receiver, NOW).0, [Output::Sync, Output::Seal { link: 1 }]);
    receiver.handle_synced().unwrap();
    let mut now = NOW;
    for bytes_done in 1..20 {
        now += STALL;
        receiver.handle_sealing(now, 1, bytes_done).unwrap();
        assert_eq!(outputs(&mut receiver, now).0, [Output::Seal { link: 1 }]);
    }
    for link in 1.. {
        now += STALL - Duration::from_secs(1);
        receiver.handle_sealing(now, link, 0).unwrap();
        assert_eq!(outputs(&mut receiver, now).0, [Output::Seal { link }], "it is not late yet");
        now += Duration::from_secs(1);
        receiver.handle_sealing(now, link, 0).unwrap();
        match receiver.poll_output(now) {
            Output::Connect { .. } => receiver.handle_connected(now, manifest(), whole(CHUNK)).unwrap(),
            Output::Fail(fault) => {
                assert!(fault.to_string().contains("did not go on"), "{fault}");
                return assert_eq!(link, LINK_TRIES_MAX);
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(outputs(&mut receiver, now).0, [Output::Seal { link: link + 1 }]);
    }
}
