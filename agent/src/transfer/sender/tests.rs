//! The sending engine: order and bounds here; how well it chooses levels in a simulated world below.

mod fluid;
mod levels;

use baton_proto::chunk::CHUNK_BYTES;
use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::ZERO;
const CHUNK: u32 = CHUNK_BYTES as u32;

fn packed(job: Job, wire_bytes: u32) -> Option<Packed> {
    let took = Duration::from_millis(10);
    Some(Packed {
        level: job.level,
        stored: wire_bytes == CHUNK,
        barren: false,
        raw_bytes: CHUNK,
        wire_bytes,
        took,
        worked: took,
    })
}

fn asked(sender: &mut Sender, indexes: impl IntoIterator<Item = u32>) {
    indexes.into_iter().for_each(|index| sender.handle_asked(ChunkIndex(index)));
}

fn jobs(sender: &mut Sender) -> Vec<Job> {
    std::iter::from_fn(|| sender.poll_job()).collect()
}

fn indexes(jobs: &[Job]) -> Vec<u32> {
    jobs.iter().map(|job| job.index.0).collect()
}

#[test]
fn the_lowest_chunk_is_packed_first_and_no_more_at_a_time_than_workers() {
    let mut sender = Sender::new(2);
    asked(&mut sender, [5, 9, 2, 7]);
    let first = jobs(&mut sender);
    assert_eq!(indexes(&first), [2, 5]);
    asked(&mut sender, [1]);
    assert_eq!(sender.poll_job(), None, "both workers pack");
    sender.handle_packed(packed(first[0], 1000));
    assert_eq!(indexes(&jobs(&mut sender)), [1]);
    sender.handle_packed(packed(first[1], 1000));
    assert_eq!(indexes(&jobs(&mut sender)), [7]);
}

#[test]
fn an_offer_without_workers_has_one() {
    let mut sender = Sender::new(0);
    asked(&mut sender, [0, 1]);
    assert_eq!(indexes(&jobs(&mut sender)), [0]);
}

#[test]
fn a_chunk_that_is_asked_for_twice_is_packed_once_and_a_dropped_one_never() {
    let mut sender = Sender::new(4);
    asked(&mut sender, [3, 3, 4, 6]);
    sender.handle_dropped(ChunkIndex(4));
    sender.handle_dropped(ChunkIndex(77));
    assert_eq!(indexes(&jobs(&mut sender)), [3, 6]);
}

#[test]
fn a_job_that_fails_makes_room_for_the_next_and_nothing_of_it_is_on_the_way() {
    let mut sender = Sender::new(1);
    for index in 0..40 {
        asked(&mut sender, [index]);
        assert_eq!(indexes(&jobs(&mut sender)), [index]);
        sender.handle_packed(None);
    }
    assert_eq!(sender.facts().chunks, 0);
}

/// Packs chunks that do not shrink, none of which arrives, until the sender waits.
fn fill(sender: &mut Sender) -> u32 {
    asked(sender, 0..1000);
    let mut count = 0;
    while let [job, ..] = jobs(sender)[..] {
        sender.handle_packed(packed(job, CHUNK));
        count += 1;
    }
    count
}

#[test]
fn packing_waits_while_the_path_is_full_and_goes_on_when_bytes_have_arrived() {
    let mut sender = Sender::new(1);
    let full = fill(&mut sender);
    assert!(u64::from(full) * CHUNK_BYTES >= BACKLOG_BYTES && full <= 4, "{full} chunks");
    sender.handle_delivered(NOW, CHUNK);
    let next = jobs(&mut sender);
    assert_eq!(indexes(&next), [full]);
    sender.handle_dropped(ChunkIndex(full + 1));
    // What was given up makes room as well: nobody else tells of it.
    sender.handle_packed(packed(next[0], CHUNK));
    sender.handle_given_up(CHUNK);
    assert_eq!(indexes(&jobs(&mut sender)), [full + 2]);
}

#[test]
fn a_longer_path_holds_more_up_to_a_bound() {
    let held = |window: u64| {
        let mut sender = Sender::new(1);
        sender.handle_path(window, 0.0, false);
        u64::from(fill(&mut sender)) * CHUNK_BYTES
    };
    assert!(held(100_000) <= held(0) + CHUNK_BYTES);
    assert!(held(BACKLOG_BYTES) >= held(0) + BACKLOG_BYTES);
    assert!(held(u64::MAX) <= PIPE_BYTES_MAX + CHUNK_BYTES);
    assert_eq!(held(u64::MAX), held(1 << 40));
}

#[test]
fn the_facts_tell_how_chunks_were_packed() {
    let mut sender = Sender::new(1);
    asked(&mut sender, 0..3);
    let mut levels = Vec::new();
    for wire_bytes in [CHUNK / 2, CHUNK / 2, CHUNK] {
        let job = sender.poll_job().unwrap();
        sender.handle_packed(packed(job, wire_bytes));
        sender.handle_delivered(NOW, wire_bytes);
        if let (Level::Zstd(level), true) = (job.level, wire_bytes < CHUNK) {
            levels.push(f64::from(level));
        }
    }
    let facts = sender.facts();
    assert_eq!((facts.chunks, facts.stored), (3, 1));
    assert_eq!(facts.mean_level, Some(levels.iter().sum::<f64>() / levels.len() as f64));
    assert!(!facts.why.is_empty());
}

/// Something that befalls a sender. The numbers pick among what is pending.
#[derive(Debug, Clone, Copy)]
enum Act {
    Ask(u8),
    Drop(u8),
    Pack(u8, u32),
    FailPacking(u8),
    Deliver(u8),
    Path(u64, f64, bool),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => any::<u8>().prop_map(Act::Ask),
        1 => any::<u8>().prop_map(Act::Drop),
        6 => (any::<u8>(), 1..=CHUNK).prop_map(|(pick, bytes)| Act::Pack(pick, bytes)),
        1 => any::<u8>().prop_map(Act::FailPacking),
        4 => any::<u8>().prop_map(Act::Deliver),
        1 => (any::<u64>(), 0.0..1e10, any::<bool>()).prop_map(|(window, rate, grows)| Act::Path(window, rate, grows)),
    ]
}

proptest! {
    #[test]
    fn any_order_of_events_keeps_order_and_bounds(
        workers in 1usize..9, acts in proptest::collection::vec(act(), 0..300),
    ) {
        let mut sender = Sender::new(workers);
        let (mut wanted, mut packing, mut flying) = (BTreeSet::new(), Vec::<Job>::new(), Vec::<u32>::new());
        let mut now = NOW;
        for act in acts {
            now += Duration::from_millis(3);
            match act {
                Act::Ask(index) => {
                    wanted.insert(ChunkIndex(index.into()));
                    sender.handle_asked(ChunkIndex(index.into()));
                }
                Act::Drop(index) => {
                    wanted.remove(&ChunkIndex(index.into()));
                    sender.handle_dropped(ChunkIndex(index.into()));
                }
                Act::Pack(pick, bytes) if !packing.is_empty() => {
                    let job = packing.swap_remove(usize::from(pick) % packing.len());
                    sender.handle_packed(packed(job, bytes));
                    flying.push(bytes);
                }
                Act::FailPacking(pick) if !packing.is_empty() => {
                    packing.swap_remove(usize::from(pick) % packing.len());
                    sender.handle_packed(None);
                }
                Act::Deliver(pick) if !flying.is_empty() => {
                    let bytes = flying.swap_remove(usize::from(pick) % flying.len());
                    sender.handle_delivered(now, bytes);
                }
                Act::Path(window, rate, grows) => sender.handle_path(window, rate, grows),
                _ => {}
            }
            while let Some(job) = sender.poll_job() {
                prop_assert_eq!(Some(job.index), wanted.pop_first(), "the lowest that is wanted");
                packing.push(job);
            }
            prop_assert!(packing.len() <= workers);
            let bytes: u64 = flying.iter().map(|bytes| u64::from(*bytes)).sum();
            prop_assert!(bytes <= PIPE_BYTES_MAX + workers as u64 * CHUNK_BYTES, "{bytes} bytes are on the way");
            let idle = packing.is_empty() && flying.is_empty();
            prop_assert!(!idle || wanted.is_empty(), "it waits for nothing while chunks are wanted");
        }
    }
}
