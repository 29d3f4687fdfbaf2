//! Offers and pull over real connections on loopback, with throw-away certificates.

mod source;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use baton_proto::chunk::CHUNK_BYTES;
use baton_proto::control::TransferFacts;
use baton_proto::data::{Packing, SnapshotId, TICKET_SECRET_BYTES, Ticket};
use baton_proto::digest::FileDigest;
use baton_proto::version::{Product, ServerVersion};
use baton_proto::{Fault, FaultKind, HostName, HostPort, RunId};
use bytes::Bytes;
use source::{Authority, Chunk, Hook, Serve, Source};

use crate::tasks::ProgressSink;
use crate::transfer::{PullOrder, pull};

const CHUNK: usize = CHUNK_BYTES as usize;

fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

fn ticket(secret: u8) -> Ticket {
    Ticket { run: RunId::new("fo-test").unwrap(), secret: vec![secret; TICKET_SECRET_BYTES] }
}

fn snapshot_id() -> SnapshotId {
    SnapshotId("fo-test/1".into())
}

/// A file that is a snapshot from the outside: magic, bytes, end mark, checksum.
fn snapshot(magic: &str, bytes: usize) -> Vec<u8> {
    let mut file = magic.as_bytes().to_vec();
    let mut noise = vec![0; bytes / 3];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    // A third of it does not shrink.
    for (at, part) in noise.chunks(100).enumerate() {
        file.extend_from_slice(part);
        file.extend_from_slice(
            format!("{{\"key\":{at},\"name\":\"customer number {at}\",\"flags\":[true,false,null]}}").as_bytes(),
        );
        file.extend_from_slice(&[b' '; 140]);
    }
    file.resize(bytes - 9, 7);
    file.push(0xff);
    let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Redis);
    crc.update(&file);
    file.extend(crc.finalize().to_le_bytes());
    assert_eq!(file.len(), bytes);
    file
}

/// A source that offers a snapshot to machine-c, and a place to pull it to.
struct Stage {
    dir: tempfile::TempDir,
    authority: Authority,
    source: Source,
    data: Vec<u8>,
}

impl Stage {
    async fn new(data: Vec<u8>, hook: Hook) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        std::fs::write(dir.path().join("pin"), &data).unwrap();
        let source = Source::start(authority.identity(dir.path(), "machine-b"), hook);
        source.offers.offer(&dir.path().join("pin"), snapshot_id(), ticket(7), host("machine-c")).unwrap();
        Stage { dir, authority, source, data }
    }

    async fn quiet(data: Vec<u8>) -> Stage {
        Stage::new(data, Arc::new(|_, _, chunk| Serve::Send(chunk))).await
    }

    /// An agent that knows nothing of what was sent, and behaves.
    fn restart_source(&mut self) {
        let identity = self.authority.identity(self.dir.path(), "machine-b");
        self.source = Source::start(identity, Arc::new(|_, _, chunk| Serve::Send(chunk)));
        self.source.offers.offer(&self.pin(), snapshot_id(), ticket(7), host("machine-c")).unwrap();
    }

    fn part(&self) -> PathBuf {
        self.dir.path().join("part")
    }

    fn pin(&self) -> PathBuf {
        self.dir.path().join("pin")
    }

    fn order(&self) -> PullOrder {
        PullOrder {
            run: RunId::new("fo-test").unwrap(),
            from: host("machine-b"),
            address: HostPort::new("127.0.0.1", self.source.port),
            ticket: ticket(7),
            part: self.part(),
            map: self.dir.path().join("map"),
            reads: ServerVersion::new(Product::Redis, "7.0.15").unwrap(),
            free_bytes_min: 0,
        }
    }

    async fn pull_as(&self, name: &str, order: PullOrder) -> Result<TransferFacts, Fault> {
        let identity = self.authority.identity(self.dir.path(), name);
        let dialer = baton_wire::Dialer::new(&identity, "test").unwrap();
        pull(&dialer, order, &ProgressSink::detached()).await
    }

    async fn pull(&self) -> Result<TransferFacts, Fault> {
        self.pull_as("machine-c", self.order()).await
    }

    fn expect_whole(&self, facts: &TransferFacts) {
        assert!(std::fs::read(self.part()).unwrap() == self.data, "the file differs");
        assert_eq!(facts.bytes_raw, self.data.len() as u64);
        assert_eq!(facts.digest, FileDigest(*blake3::hash(&self.data).as_bytes()));
    }
}

/// Overwrites a byte where it stands, as a failing disk does: without a new modification time.
fn flip(path: &std::path::Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    file.set_modified(modified).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_arrives_whole_and_packed_at_every_size() {
    for bytes in [18, CHUNK - 1, CHUNK, CHUNK + 1, 5 * CHUNK + 77] {
        let stage = Stage::quiet(snapshot("REDIS0010", bytes)).await;
        let facts = stage.pull().await.unwrap();
        stage.expect_whole(&facts);
        assert_eq!((facts.chunks_resumed, facts.reconnects), (0, 0));
        if bytes > 1000 {
            assert!(facts.bytes_wire < facts.bytes_raw * 2 / 3, "{facts:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_in_the_middle_goes_on_where_it_was() {
    let cuts = AtomicU32::new(0);
    let hook: Hook = Arc::new(move |served, _, chunk| {
        if served > 0 && served % 7 == 0 && cuts.fetch_add(1, Ordering::SeqCst) < 2 {
            Serve::Cut
        } else {
            Serve::Send(chunk)
        }
    });
    let stage = Stage::new(snapshot("REDIS0010", 30 * CHUNK), hook).await;
    let facts = stage.pull().await.unwrap();
    stage.expect_whole(&facts);
    assert_eq!(facts.reconnects, 2);
    // Every connection but the last lost at most a window of chunks.
    assert!(stage.source.served() <= 30 + 2 * crate::transfer::receiver::WINDOW_CHUNKS as u32);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_pull_goes_on_from_what_the_first_has_synced() {
    // From the twentieth chunk on the source refuses; a window of chunks may still be on its way then.
    let hook: Hook = Arc::new(|served, _, chunk| {
        let refused = Err(Fault::new(FaultKind::Host, "the disk gave up"));
        Serve::Send(if served < 20 { chunk } else { refused })
    });
    let mut stage = Stage::new(snapshot("REDIS0010", 30 * CHUNK), hook).await;
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.message, "transfer from machine-b: the disk gave up");
    stage.restart_source();
    let facts = stage.pull().await.unwrap();
    stage.expect_whole(&facts);
    assert!(facts.chunks_resumed > 0, "{facts:?}");
    assert_eq!(stage.source.served(), 30 - facts.chunks_resumed);
    // Once it is whole, a further pull fetches nothing.
    let facts = stage.pull().await.unwrap();
    assert_eq!((facts.chunks_resumed, facts.bytes_wire), (30, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_source_seals_what_the_target_holds() {
    let mut stage = Stage::quiet(snapshot("REDIS0010", 3 * CHUNK)).await;
    stage.pull().await.unwrap();
    stage.source.offers.revoke(&RunId::new("fo-test").unwrap());
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotFound, "{fault}");
    stage.restart_source();
    let facts = stage.pull().await.unwrap();
    stage.expect_whole(&facts);
    assert_eq!((facts.chunks_resumed, facts.bytes_wire), (3, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_a_byte_without_the_ticket_of_the_run() {
    let stage = Stage::quiet(snapshot("REDIS0010", 2 * CHUNK)).await;
    let wrong = PullOrder { ticket: ticket(8), ..stage.order() };
    let fault = stage.pull_as("machine-c", wrong).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotAllowed, "{fault}");
    // The right ticket in the hands of another host.
    let fault = stage.pull_as("machine-d", stage.order()).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::NotAllowed, "{fault}");
    assert_eq!(stage.source.served(), 0);
    assert!(!stage.part().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_of_another_host_is_not_pulled_from() {
    let stage = Stage::quiet(snapshot("REDIS0010", 100)).await;
    let order = PullOrder { from: host("machine-x"), ..stage.order() };
    let fault = stage.pull_as("machine-c", order).await.unwrap_err();
    assert!(fault.message.starts_with("transfer from machine-x:"), "{fault}");
    assert_eq!(stage.source.served(), 0);
    let stranger = Stage { authority: Authority::new(), ..stage };
    let fault = stranger.pull().await.unwrap_err();
    assert!(fault.to_string().contains("certificate"), "{fault}");
    assert!(!stranger.part().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bit_flipped_in_the_pin_before_it_was_read_is_caught_on_the_target() {
    let stage = Stage::quiet(snapshot("REDIS0010", 3 * CHUNK)).await;
    flip(&stage.pin(), CHUNK_BYTES + 1234);
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Verification);
    assert!(fault.to_string().contains("damaged on the source"), "{fault}");
    assert!(fault.to_string().contains("checksum"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_was_cut_or_written_to_is_caught_at_the_source() {
    let stage = Stage::quiet(snapshot("REDIS0010", 3 * CHUNK)).await;
    let file = std::fs::OpenOptions::new().write(true).open(stage.pin()).unwrap();
    file.set_len(2 * CHUNK_BYTES).unwrap();
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Verification);
    assert!(fault.to_string().contains("it is 8388608 bytes long, it was 12582912"), "{fault}");
    assert!(!stage.part().exists());

    let stage = Stage::quiet(snapshot("REDIS0010", 3 * CHUNK)).await;
    let file = std::fs::OpenOptions::new().write(true).open(stage.pin()).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let fault = stage.pull().await.unwrap_err();
    assert!(fault.to_string().contains("it was written to"), "{fault}");

    let stage = Stage::quiet(snapshot("REDIS0010", CHUNK)).await;
    std::fs::rename(stage.pin(), stage.dir.path().join("elsewhere")).unwrap();
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Host, "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_is_cut_in_the_middle_of_the_transfer_is_caught_at_the_source() {
    let data = snapshot("REDIS0010", 40 * CHUNK);
    let path = Arc::new(std::sync::Mutex::new(PathBuf::new()));
    let seen = Arc::clone(&path);
    let hook: Hook = Arc::new(move |served, _, chunk| {
        if served == 5 {
            let file = std::fs::OpenOptions::new().write(true).open(&*seen.lock().unwrap()).unwrap();
            file.set_len(30 * CHUNK_BYTES).unwrap();
        }
        Serve::Send(chunk)
    });
    let stage = Stage::new(data, hook).await;
    *path.lock().unwrap() = stage.pin();
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Verification);
    assert!(fault.to_string().contains("changed after it was offered"), "{fault}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_format_that_the_server_cannot_read_is_refused_before_a_byte_is_sent() {
    let stage = Stage::quiet(snapshot("REDIS0012", 2 * CHUNK)).await;
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused);
    assert!(fault.to_string().contains("REDIS0012") && fault.to_string().contains("REDIS0010"), "{fault}");
    assert_eq!(stage.source.served(), 0);
    assert!(!stage.part().exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_without_room_is_told_before_a_byte_is_sent() {
    let stage = Stage::quiet(snapshot("REDIS0010", 2 * CHUNK)).await;
    let order = PullOrder { free_bytes_min: 1 << 60, ..stage.order() };
    let fault = stage.pull_as("machine-c", order).await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Host);
    assert!(fault.to_string().contains("bytes are missing"), "{fault}");
    assert_eq!(stage.source.served(), 0);
}

/// Applies a change to chunk 1 the first `times` that it is asked for.
fn spoil(times: u32, change: fn(Chunk) -> Chunk) -> Hook {
    let spoilt = AtomicU32::new(0);
    Arc::new(move |_, index, chunk| {
        let hit = index == 1 && spoilt.fetch_add(1, Ordering::SeqCst) < times;
        Serve::Send(if hit { chunk.map(change) } else { chunk })
    })
}

/// A bomb: it inflates to sixteen times what a chunk may have.
fn bomb((head, _): Chunk) -> Chunk {
    let bytes = zstd::bulk::compress(&vec![0; 16 * CHUNK], 1).unwrap();
    (
        baton_proto::data::FrameHead { packing: Packing::Zstd { level: 1 }, wire_bytes: bytes.len() as u32, ..head },
        Bytes::from(bytes),
    )
}

fn torn((head, bytes): Chunk) -> Chunk {
    let mut bytes = bytes.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    (head, bytes.into())
}

fn of_another_place((head, bytes): Chunk) -> Chunk {
    (baton_proto::data::FrameHead { index: 2, ..head }, bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_chunk_that_comes_damaged_is_asked_for_again_and_then_given_up_by_name() {
    for change in [bomb, torn, of_another_place] {
        let stage = Stage::new(snapshot("REDIS0010", 4 * CHUNK), spoil(2, change)).await;
        let facts = stage.pull().await.unwrap();
        stage.expect_whole(&facts);
        assert_eq!(stage.source.served(), 6);

        let stage = Stage::new(snapshot("REDIS0010", 4 * CHUNK), spoil(u32::MAX, change)).await;
        let fault = stage.pull().await.unwrap_err();
        assert_eq!(fault.kind, FaultKind::Verification);
        assert!(fault.to_string().contains("chunk 1 at offset 4194304 came damaged"), "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lying_map_costs_a_second_fetch_of_what_it_lied_about() {
    let stage = Stage::quiet(snapshot("REDIS0010", 4 * CHUNK)).await;
    stage.pull().await.unwrap();
    flip(&stage.part(), 2 * CHUNK_BYTES + 5);
    let served = stage.source.served();
    let facts = stage.pull().await.unwrap();
    stage.expect_whole(&facts);
    assert_eq!((facts.chunks_resumed, stage.source.served() - served), (3, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_does_not_answer_is_named() {
    let mut stage = Stage::quiet(snapshot("REDIS0010", 100)).await;
    stage.source.stop().await;
    let fault = stage.pull().await.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Peer);
    assert!(fault.message.starts_with("transfer from machine-b:"), "{fault}");
    assert!(fault.hint.is_some_and(|hint| hint.contains("agent of machine-b runs")));
}
