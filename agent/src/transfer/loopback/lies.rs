//! Sources that send, or say, what is not so; and files that are changed under their hands.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use baton_proto::data::{Extent, FrameHead, Packing, WIRE_BYTES_MAX};
use bytes::Bytes;

use super::source::Chunk;
use super::stage::{DEADLINE, flip, recorded_in};
use super::*;

/// Applies a change to chunk 1 the first `times` that it is asked for.
fn spoil(times: u32, change: fn(Chunk) -> Chunk) -> Hooks {
    let spoilt = AtomicU32::new(0);
    Hooks::chunk(move |_, index, chunk| {
        let hit = index == 1 && spoilt.fetch_add(1, Ordering::SeqCst) < times;
        Serve::Send(if hit { chunk.map(change) } else { chunk })
    })
}

/// Applies a change to chunk 1 whenever it is asked for, once another chunk has been recorded in this map: else the third
/// damaged one may end the pull before any other is written.
fn spoil_after_another(map: Arc<OnceLock<PathBuf>>, change: fn(Chunk) -> Chunk) -> Hooks {
    Hooks::chunk(move |_, index, chunk| {
        if index != 1 {
            return Serve::Send(chunk);
        }
        let began = std::time::Instant::now();
        tokio::task::block_in_place(|| {
            while map.get().is_none_or(|map| recorded_in(map) == 0) && began.elapsed() < DEADLINE {
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Serve::Send(chunk.map(change))
    })
}

/// It inflates to sixteen times what a chunk may have.
fn bomb((head, _): Chunk) -> Chunk {
    let bytes = zstd::bulk::compress(&vec![0; 16 * CHUNK], 1).unwrap();
    (FrameHead { packing: Packing::Zstd { level: 1 }, wire_bytes: bytes.len() as u32, ..head }, Bytes::from(bytes))
}

fn torn((head, bytes): Chunk) -> Chunk {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    (head, bytes.into())
}

fn of_another_place((head, bytes): Chunk) -> Chunk {
    (FrameHead { index: 2, ..head }, bytes)
}

fn announced_too_large((head, bytes): Chunk) -> Chunk {
    (FrameHead { wire_bytes: WIRE_BYTES_MAX + 1, ..head }, bytes)
}

fn announced_as_one_byte((head, bytes): Chunk) -> Chunk {
    (FrameHead { wire_bytes: 1, ..head }, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_comes_damaged_is_asked_for_again_and_then_given_up_by_name() {
    for change in [bomb, torn, of_another_place, announced_too_large, announced_as_one_byte] {
        let stage = Stage::new(snapshot("REDIS0010", 4 * CHUNK), spoil(2, change));
        let facts = stage.pull().await.unwrap();
        stage.expect_whole(&facts);
        assert_eq!((stage.source.served(), facts.reconnects), (6, 0));

        let map = Arc::new(OnceLock::new());
        let stage = Stage::new(snapshot("REDIS0010", 4 * CHUNK), spoil_after_another(Arc::clone(&map), change));
        map.set(stage.map()).unwrap();
        let fault = stage.pull().await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Verification);
        assert!(fault.to_string().contains("chunk"), "{fault}");
        assert!(stage.recorded() >= 1, "what has come is kept");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_chunk_is_named_with_its_place() {
    let stage = Stage::new(snapshot("REDIS0010", 4 * CHUNK), spoil(u32::MAX, torn));
    let fault = stage.pull().await.unwrap_err();
    assert!(fault.to_string().contains("chunk 1 at offset 4194304 came damaged"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn more_than_was_announced_is_not_read() {
    let longer = |(head, bytes): Chunk| (head, Bytes::from([&bytes[..], &vec![7; 3 * CHUNK]].concat()));
    let stage = Stage::new(snapshot("REDIS0010", 4 * CHUNK), spoil(u32::MAX, longer));
    let facts = stage.pull().await.unwrap();
    stage.expect_whole(&facts);
    assert!(facts.bytes_wire <= facts.bytes_raw, "{facts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_ends_too_early_is_fetched_on_another_link() {
    let stage =
        Stage::new(snapshot("REDIS0010", 4 * CHUNK), spoil(1, |(head, bytes)| (head, bytes.slice(..bytes.len() / 2))));
    let facts = stage.pull().await.unwrap();
    stage.expect_whole(&facts);
    assert_eq!(facts.reconnects, 1);
}

fn lying(lie: impl Fn(Extent) -> Extent + Send + Sync + 'static) -> Stage {
    Stage::new(snapshot("REDIS0010", 3 * CHUNK), Hooks::extent(lie))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_said_to_be_shorter_than_it_is_is_not_done() {
    let stage = lying(|_| Extent { bytes: 2 * CHUNK_BYTES, whole: true });
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Verification, "{fault}");
    assert!(fault.to_string().contains("differs from what the source has sent"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_said_to_be_longer_than_it_is_is_refused_at_its_end() {
    for extra in [1, CHUNK_BYTES] {
        let stage = lying(move |extent| Extent { bytes: extent.bytes + extra, ..extent });
        let fault = stage.pull().await.unwrap_err();
        assert!(matches!(fault.kind, FaultKind::Verification | FaultKind::Invalid), "{fault:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absurd_size_is_refused_before_a_file_is_made_for_it() {
    for bytes in [1 << 50, u64::MAX] {
        let stage = lying(move |_| Extent { bytes, whole: true });
        let fault = stage.pull().await.unwrap_err();
        assert!(matches!(fault.kind, FaultKind::Host | FaultKind::Peer), "{fault:?}");
        assert_eq!((stage.part().exists(), stage.source.served()), (false, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_shrinks_or_explodes_while_it_grows_is_refused() {
    for second in [CHUNK_BYTES, 1 << 50, u64::MAX] {
        let told = AtomicU32::new(0);
        let stage = lying(move |_| {
            let bytes = if told.fetch_add(1, Ordering::SeqCst) == 0 { 2 * CHUNK_BYTES } else { second };
            Extent { bytes, whole: false }
        });
        let fault = stage.pull().await.unwrap_err();
        assert!(matches!(fault.kind, FaultKind::Verification | FaultKind::Host), "{fault:?}");
        let blocks = std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(stage.part()).unwrap());
        assert!(blocks * 512 <= 4 * CHUNK_BYTES, "nothing was reserved for it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_flipped_in_the_pin_before_it_was_read_is_caught_on_the_target() {
    let stage = Stage::quiet(snapshot("REDIS0010", 3 * CHUNK));
    flip(&stage.pin(), CHUNK_BYTES + 1234);
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Verification);
    assert!(fault.to_string().contains("damaged on the source"), "{fault}");
    assert!(fault.to_string().contains("checksum"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_was_cut_or_written_to_is_caught_at_the_source() {
    let stage = Stage::quiet(snapshot("REDIS0010", 3 * CHUNK));
    let file = std::fs::OpenOptions::new().write(true).open(stage.pin()).unwrap();
    file.set_len(2 * CHUNK_BYTES).unwrap();
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Verification);
    assert!(fault.to_string().contains("changed after it was offered"), "{fault}");
    assert!(!stage.part().exists());

    let stage = Stage::quiet(snapshot("REDIS0010", 3 * CHUNK));
    let file = std::fs::OpenOptions::new().write(true).open(stage.pin()).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let fault = stage.pull().await.unwrap_err();
    assert!(fault.to_string().contains("it was written to"), "{fault}");

    let stage = Stage::quiet(snapshot("REDIS0010", CHUNK));
    std::fs::rename(stage.pin(), stage.dir.path().join("elsewhere")).unwrap();
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Host, "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_is_cut_in_the_middle_of_the_transfer_is_caught_at_the_source() {
    let path = Arc::new(Mutex::new(PathBuf::new()));
    let seen = Arc::clone(&path);
    let hooks = Hooks::chunk(move |served, _, chunk| {
        if served == 3 {
            let file = std::fs::OpenOptions::new().write(true).open(&*seen.lock().unwrap()).unwrap();
            file.set_len(20 * CHUNK_BYTES).unwrap();
        }
        Serve::Send(chunk)
    });
    let stage = Stage::new(snapshot("REDIS0010", 24 * CHUNK), hooks);
    *path.lock().unwrap() = stage.pin();
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Verification);
    assert!(fault.to_string().contains("changed after it was offered"), "{fault}");
}
