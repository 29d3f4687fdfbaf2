//! Snapshots that are still being written when they are sent.

use std::fs::File;
use std::io::Write;

use super::*;
use crate::transfer::Grower;

/// A save under way: the test writes the file, and tells how far it is.
struct Save {
    file: File,
    grower: Grower,
    data: Vec<u8>,
    written: usize,
}

impl Save {
    /// Begins a save of the stage's snapshot, and offers it once its head is there.
    fn begin(stage: &Stage) -> Save {
        let grower = stage.source.offers().grow(&run_id());
        let file = File::create(stage.pin()).unwrap();
        let mut save = Save { file, grower, data: stage.data.clone(), written: 0 };
        save.write_up_to(100);
        stage.offer(Budget::default()).unwrap();
        save
    }

    fn write_up_to(&mut self, bytes: usize) {
        self.file.write_all(&self.data[self.written..bytes]).unwrap();
        self.written = bytes;
        self.grower.grew(bytes as u64);
    }

    fn finish(mut self) {
        self.write_up_to(self.data.len());
        self.grower.finish(self.data.len() as u64);
    }
}

fn stage(bytes: usize) -> Stage {
    Stage::unoffered(snapshot("REDIS0010", bytes), Hooks::default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_snapshot_is_sent_as_far_as_it_is_written() {
    let stage = stage(10 * CHUNK + 99);
    let mut save = Save::begin(&stage);
    let pulling = stage.pulling(stage.order());
    for chunks in [2, 3, 7, 10] {
        save.write_up_to(chunks * CHUNK + 1);
        until("what is written has come", || stage.recorded() == chunks as u64).await;
        assert!(!pulling.is_finished());
    }
    save.finish();
    let facts = end_of(pulling).await.unwrap();
    stage.expect_whole(&facts);
    assert_eq!((stage.source.served(), facts.packing.chunks), (11, 11));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_growing_snapshot_may_end_at_every_edge() {
    for bytes in [200, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK] {
        let stage = stage(bytes);
        let mut save = Save::begin(&stage);
        let pulling = stage.pulling(stage.order());
        until("the target waits", || stage.part().exists()).await;
        save.write_up_to(bytes);
        save.finish();
        let facts = end_of(pulling).await.unwrap();
        stage.expect_whole(&facts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_is_killed_while_the_snapshot_grows_goes_on_with_what_it_has() {
    let stage = stage(9 * CHUNK);
    let mut save = Save::begin(&stage);
    save.write_up_to(4 * CHUNK + 1);
    let pulling = stage.pulling(stage.order());
    until("what is written has come", || stage.recorded() == 4).await;
    pulling.abort();
    assert!(pulling.await.unwrap_err().is_cancelled());
    save.write_up_to(6 * CHUNK + 1);
    let pulling = stage.pulling(stage.order());
    until("what is written has come", || stage.recorded() == 6).await;
    save.finish();
    let facts = end_of(pulling).await.unwrap();
    stage.expect_whole(&facts);
    assert_eq!((facts.chunks_resumed, stage.source.served()), (4, 9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_that_fails_ends_the_pull_with_its_reason_and_leaves_nothing_open() {
    let stage = stage(9 * CHUNK);
    let mut save = Save::begin(&stage);
    save.write_up_to(3 * CHUNK + 1);
    let pulling = stage.pulling(stage.order());
    until("what is written has come", || stage.recorded() == 3).await;
    save.grower.fail(Fault::new(FaultKind::Server, "the save failed: no space left on device"));
    let fault = end_of(pulling).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Server);
    assert_eq!(fault.message, "transfer from machine-b: the save failed: no space left on device");

    // The next save is another snapshot, and comes whole.
    let id = baton_proto::data::SnapshotId("fo-test/2".into());
    std::fs::remove_file(stage.pin()).unwrap();
    std::fs::write(stage.pin(), &stage.data).unwrap();
    let offers = stage.source.offers();
    offers.offer(&stage.pin(), id, ticket(7), host("machine-c"), Budget::default()).unwrap();
    let facts = stage.pull().await.unwrap();
    stage.expect_whole(&facts);
    assert_eq!(facts.chunks_resumed, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_save_that_is_given_up_ends_the_pull() {
    let stage = stage(3 * CHUNK);
    let save = Save::begin(&stage);
    let pulling = stage.pulling(stage.order());
    until("the target waits", || stage.part().exists()).await;
    drop(save);
    let fault = end_of(pulling).await.unwrap_err();
    assert!(fault.to_string().contains("the save was given up"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_grows_beyond_the_room_is_told_and_what_has_come_is_kept() {
    let stage = stage(4 * CHUNK);
    let mut save = Save::begin(&stage);
    save.write_up_to(3 * CHUNK + 1);
    let pulling = stage.pulling(stage.order());
    until("what is written has come", || stage.recorded() == 3).await;
    // More than any disk under test has room for.
    save.grower.grew(1 << 45);
    let fault = end_of(pulling).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Host, "{fault}");
    assert!(fault.to_string().contains("bytes are missing"), "{fault}");
    assert_eq!(stage.recorded(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_to_after_its_end_is_caught_at_the_source() {
    let stage = stage(3 * CHUNK);
    let mut save = Save::begin(&stage);
    save.write_up_to(2 * CHUNK);
    let pulling = stage.pulling(stage.order());
    until("what is written has come", || stage.recorded() == 1).await;
    // More is in the file than the save has told of.
    save.file.write_all(&save.data[2 * CHUNK..]).unwrap();
    save.file.write_all(b"more").unwrap();
    save.grower.finish(3 * CHUNK_BYTES);
    let fault = end_of(pulling).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Verification, "{fault}");
    assert!(fault.to_string().contains("was changed after it was offered"), "{fault}");
}
