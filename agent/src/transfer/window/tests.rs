//! What the window keeps, for whom it waits, and what it says when it cannot.

use std::time::Duration;

use baton_proto::digest::chunk_digest;

use super::*;
use crate::transfer::growth;

const CHUNK: usize = CHUNK_BYTES as usize;

fn window() -> Arc<Window> {
    let (grower, growth) = growth::begin();
    let window = Arc::new(Window::new(grower, growth));
    window.open(SnapshotId("stream-1".into()), "REDIS0010".parse().unwrap());
    window
}

fn chunk(index: u32) -> Vec<u8> {
    vec![index as u8; CHUNK]
}

/// Puts so many chunks in, as far as there is room, and tells how many went in.
async fn fill(window: &Window, from: u32, most: u32) -> u32 {
    for index in from..from + most {
        if tokio::time::timeout(Duration::from_millis(20), window.room()).await.is_err() {
            return index - from;
        }
        window.put(chunk(index));
    }
    most
}

fn read(window: &Window, index: u32) -> Result<Vec<u8>, Fault> {
    let mut buffer = vec![0; CHUNK];
    let (raw, digest) = window.read(ChunkIndex(index), &mut buffer)?;
    assert_eq!(digest, chunk_digest(ChunkIndex(index), raw, false));
    Ok(raw.to_vec())
}

#[tokio::test]
async fn a_full_window_waits_until_the_target_has_written_a_chunk() {
    let window = window();
    assert_eq!(fill(&window, 0, 100).await, WINDOW_CHUNKS);
    assert_eq!(window.extent(), Ok(Extent { bytes: u64::from(WINDOW_CHUNKS) * CHUNK_BYTES + 1, whole: false }));
    // To have been read, and read again, is not to be written.
    for _ in 0..2 {
        assert_eq!(read(&window, 0).unwrap(), chunk(0));
    }
    assert_eq!(fill(&window, WINDOW_CHUNKS, 1).await, 0);
    window.held(2);
    window.held(1);
    assert_eq!(fill(&window, WINDOW_CHUNKS, 100).await, 2);
    assert_eq!(read(&window, 2).unwrap(), chunk(2));
    assert_eq!(read(&window, WINDOW_CHUNKS + 1).unwrap(), chunk(WINDOW_CHUNKS + 1));
}

#[tokio::test]
async fn whoever_waits_for_room_goes_on_at_once() {
    let window = window();
    fill(&window, 0, WINDOW_CHUNKS).await;
    let waiting = tokio::spawn({
        let window = Arc::clone(&window);
        async move { window.room().await }
    });
    window.held(1);
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test]
async fn what_a_target_claims_to_have_beyond_what_was_put_is_not_believed() {
    let window = window();
    fill(&window, 0, 3).await;
    window.held(u32::MAX);
    assert_eq!(window.moved(0).await, Ok(Some(3)));
    window.put(chunk(3));
    assert_eq!(read(&window, 3).unwrap(), chunk(3));
}

#[tokio::test]
async fn a_chunk_that_has_gone_ends_the_stream_when_it_is_asked_for_and_only_then() {
    let window = window();
    fill(&window, 0, 3).await;
    window.held(2);
    // What was asked for before may still be on the way to a worker.
    assert_eq!(read(&window, 1).unwrap_err().kind, FaultKind::NotFound);
    assert_eq!(read(&window, 2).unwrap(), chunk(2));
    assert_eq!(window.asked(ChunkIndex(2)), Ok(()));
    let fault = window.asked(ChunkIndex(1)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound);
    assert!(fault.message.contains("chunk 1"), "{fault}");
    assert_eq!(window.room().await, Err(fault.clone()));
    assert_eq!(window.extent(), Err(fault.clone()));
    assert_eq!(window.moved(0).await, Err(fault.clone()));
    assert_eq!(read(&window, 2), Err(fault));
}

#[tokio::test]
async fn the_seal_needs_no_second_reading_and_lets_everything_go() {
    for bytes in [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 11 * CHUNK + 5] {
        let data: Vec<u8> = (0..bytes).map(|at| (at / 1000) as u8).collect();
        let window = window();
        let mut chunks = data.chunks(CHUNK).peekable();
        let mut buffer = vec![0; CHUNK];
        for index in 0.. {
            let Some(chunk) = chunks.next() else { break };
            window.room().await.unwrap();
            if chunks.peek().is_some() {
                window.put(chunk.to_vec());
                window.read(ChunkIndex(index), &mut buffer).unwrap();
                window.held(index + 1);
            } else {
                assert_eq!(window.seal(&mut buffer).unwrap_err().kind, FaultKind::Invalid);
                window.finish(chunk.to_vec());
            }
        }
        assert_eq!(window.extent(), Ok(Extent { bytes: bytes as u64, whole: true }));
        let digest = window.seal(&mut buffer).unwrap();
        assert_eq!(digest, FileDigest(*blake3::hash(&data).as_bytes()), "{bytes} bytes");
        assert_eq!(window.moved(u32::MAX).await, Ok(None));
        assert!(window.state().kept.is_empty() && window.state().spare.is_empty());
        // Asked once more, it says the same; and what the target holds cannot fail any more.
        window.fail(Fault::new(FaultKind::NotFound, "released"));
        assert_eq!(window.seal(&mut buffer), Ok(digest));
    }
}

#[tokio::test]
async fn a_stream_that_fails_is_told_to_both_sides_with_its_first_reason() {
    let window = window();
    fill(&window, 0, 2).await;
    let fault = Fault::new(FaultKind::Server, "the server is gone");
    window.fail(fault.clone());
    window.fail(Fault::new(FaultKind::NotFound, "released"));
    assert_eq!(window.extent(), Err(fault.clone()));
    assert_eq!(window.growth().now(), Err(fault.clone()));
    assert_eq!(window.moved(u32::MAX).await, Err(fault));
    assert!(window.state().kept.is_empty(), "its memory is free");
}
