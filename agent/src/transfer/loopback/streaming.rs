//! Snapshots of which the source keeps only a few chunks.

use std::sync::Arc;

use baton_proto::InstanceName;

use super::*;
use crate::transfer::Window;

fn instance() -> InstanceName {
    InstanceName::new("default").unwrap()
}

/// A stage without a file, and the window of its stream, which is offered.
struct Streaming {
    stage: Stage,
    window: Arc<Window>,
}

impl Streaming {
    fn new(bytes: usize, hooks: Hooks) -> Streaming {
        let stage = Stage::unoffered(snapshot("REDIS0010", bytes), hooks);
        std::fs::remove_file(stage.pin()).unwrap();
        let mut streaming = Streaming { window: stage.source.offers().keep(&run_id(), &instance()), stage };
        streaming.begin("fo-test/1");
        streaming
    }

    /// Begins a stream in the place of the one that there was.
    fn begin(&mut self, id: &str) {
        let offers = self.stage.source.offers();
        self.window = offers.keep(&run_id(), &instance());
        self.window.open(baton_proto::data::SnapshotId(id.into()), "REDIS0010".parse().unwrap());
        offers.offer_stream(Arc::clone(&self.window), ticket(7), host("machine-c"), Budget::default()).unwrap();
    }

    /// Streams beside the test, as far as there is room.
    fn stream(&self) -> tokio::task::JoinHandle<Result<(), Fault>> {
        let (window, data) = (Arc::clone(&self.window), self.stage.data.clone());
        tokio::spawn(async move {
            let mut chunks = data.chunks(CHUNK).peekable();
            while let Some(chunk) = chunks.next() {
                window.room().await?;
                if chunks.peek().is_some() { window.put(chunk.to_vec()) } else { window.finish(chunk.to_vec()) }
            }
            Ok(())
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_arrives_whole_at_every_size_though_little_of_it_is_kept() {
    for bytes in [18, CHUNK - 1, CHUNK, CHUNK + 1, 7 * CHUNK, 8 * CHUNK + 1, 30 * CHUNK + 77] {
        let streaming = Streaming::new(bytes, Hooks::default());
        let streamed = streaming.stream();
        let facts = streaming.stage.pull().await.unwrap();
        streaming.stage.expect_whole(&facts);
        assert_eq!(end_of(streamed).await, Ok(()));
        assert_eq!(streaming.window.moved(u32::MAX).await, Ok(None), "{bytes} bytes: it is known to be taken");
        assert_eq!(facts.packing.chunks as usize, bytes.div_ceil(CHUNK), "each was read once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_sent_and_not_written_is_still_there_after_a_cut() {
    let cut = |served: u32, _: u32, chunk| if served == 11 || served == 23 { Serve::Cut } else { Serve::Send(chunk) };
    let streaming = Streaming::new(40 * CHUNK, Hooks::chunk(cut));
    let streamed = streaming.stream();
    let facts = streaming.stage.pull().await.unwrap();
    streaming.stage.expect_whole(&facts);
    assert_eq!((facts.reconnects, end_of(streamed).await), (2, Ok(())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_killed_goes_on_with_what_it_has_written() {
    let streaming = Streaming::new(20 * CHUNK, Hooks::default());
    let pulling = streaming.stage.pulling(streaming.stage.order());
    let (data, window) = (&streaming.stage.data, &streaming.window);
    for chunk in data.chunks(CHUNK).take(5) {
        window.put(chunk.to_vec());
    }
    until("what is written has come", || streaming.stage.recorded() == 5).await;
    pulling.abort();
    assert!(pulling.await.unwrap_err().is_cancelled());
    let pulling = streaming.stage.pulling(streaming.stage.order());
    let mut rest = data.chunks(CHUNK).skip(5).peekable();
    while let Some(chunk) = rest.next() {
        window.room().await.unwrap();
        if rest.peek().is_some() { window.put(chunk.to_vec()) } else { window.finish(chunk.to_vec()) }
    }
    let facts = end_of(pulling).await.unwrap();
    streaming.stage.expect_whole(&facts);
    assert_eq!(facts.chunks_resumed, 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_has_lost_what_it_had_written_hears_so_by_name_and_another_stream_begins_afresh() {
    let mut streaming = Streaming::new(20 * CHUNK, Hooks::default());
    let streamed = streaming.stream();
    let pulling = streaming.stage.pulling(streaming.stage.order());
    until("some is written", || streaming.stage.recorded() >= 12).await;
    pulling.abort();
    let _ = pulling.await;
    std::fs::remove_file(streaming.stage.map()).unwrap();
    let fault = streaming.stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound, "{fault}");
    assert!(fault.to_string().contains("no longer kept at the source"), "{fault}");
    // Whoever streams hears it too, if it was not over.
    let _ = end_of(streamed).await;
    assert_eq!(streaming.window.moved(u32::MAX).await.unwrap_err().kind, FaultKind::NotFound);

    streaming.begin("fo-test/2");
    let streamed = streaming.stream();
    let facts = streaming.stage.pull().await.unwrap();
    streaming.stage.expect_whole(&facts);
    assert_eq!((facts.chunks_resumed, end_of(streamed).await), (0, Ok(())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_is_released_ends_on_both_sides() {
    let streaming = Streaming::new(30 * CHUNK, Hooks::chunk(|_, _, _| Serve::Hold));
    let streamed = streaming.stream();
    let pulling = streaming.stage.pulling(streaming.stage.order());
    until("chunks are asked for", || streaming.stage.source.served() > 0).await;
    streaming.stage.source.offers().revoke(&run_id());
    assert_eq!(end_of(streamed).await.unwrap_err().kind, FaultKind::NotFound);
    let fault = end_of(pulling).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound, "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_begins_ends_the_streams_that_others_have_left_on_its_instance_alone() {
    let streaming = Streaming::new(30 * CHUNK, Hooks::default());
    let offers = streaming.stage.source.offers();
    let (own, later) = (run_id(), baton_proto::RunId::new("fo-later").unwrap());
    offers.supersede(&later, &InstanceName::new("cache").unwrap());
    offers.supersede(&own, &instance());
    assert!(streaming.window.room().await.is_ok());
    offers.supersede(&later, &instance());
    let fault = streaming.window.room().await.unwrap_err();
    assert!(fault.to_string().contains("run fo-later has begun"), "{fault}");
}
