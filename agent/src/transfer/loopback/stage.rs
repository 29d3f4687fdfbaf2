//! What a test on loopback stands on: a snapshot, a source that offers it to machine-c, and a place to pull it to.

use std::path::{Path, PathBuf};
use std::time::Duration;

use baton_proto::control::TransferFacts;
use baton_proto::data::{Budget, SnapshotId, TICKET_SECRET_BYTES, Ticket};
use baton_proto::digest::FileDigest;
use baton_proto::version::{Product, ServerVersion};
use baton_proto::{Fault, HostName, HostPort, RunId};

use super::source::{Authority, Hooks, Source};
use crate::instance::CalledOff;
use crate::tasks::ProgressSink;
use crate::transfer::{Place, PullOrder, pull};

/// How long a fact may take to come true. Far longer than it does, also on a busy machine.
pub(super) const DEADLINE: Duration = Duration::from_secs(120);

pub(super) fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

pub(super) fn run_id() -> RunId {
    RunId::new("fo-test").unwrap()
}

pub(super) fn ticket(secret: u8) -> Ticket {
    Ticket { run: run_id(), secret: vec![secret; TICKET_SECRET_BYTES] }
}

pub(super) fn snapshot_id() -> SnapshotId {
    SnapshotId("fo-test/1".into())
}

/// A file that is a snapshot from the outside: magic, bytes, end mark, checksum.
pub(super) fn snapshot(magic: &str, bytes: usize) -> Vec<u8> {
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

pub(super) struct Stage {
    pub(super) dir: tempfile::TempDir,
    pub(super) authority: Authority,
    pub(super) source: Source,
    pub(super) data: Vec<u8>,
}

impl Stage {
    /// A stage whose snapshot is not offered yet.
    pub(super) fn unoffered(data: Vec<u8>, hooks: Hooks) -> Stage {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        std::fs::write(dir.path().join("pin"), &data).unwrap();
        let source = Source::start(authority.identity(dir.path(), "machine-b"), hooks);
        Stage { dir, authority, source, data }
    }

    pub(super) fn new(data: Vec<u8>, hooks: Hooks) -> Stage {
        let stage = Stage::unoffered(data, hooks);
        stage.offer(Budget::default()).unwrap();
        stage
    }

    pub(super) fn quiet(data: Vec<u8>) -> Stage {
        Stage::new(data, Hooks::default())
    }

    pub(super) fn offer(&self, budget: Budget) -> Result<(), Fault> {
        self.source.offers().offer(&self.pin(), snapshot_id(), ticket(7), host("machine-c"), budget).map(drop)
    }

    /// An agent that knows nothing of what was sent, and behaves.
    pub(super) async fn restart_source(&mut self) {
        self.source.stop().await;
        self.source = Source::start(self.authority.identity(self.dir.path(), "machine-b"), Hooks::default());
        self.offer(Budget::default()).unwrap();
    }

    pub(super) fn part(&self) -> PathBuf {
        self.dir.path().join("part")
    }

    pub(super) fn map(&self) -> PathBuf {
        self.dir.path().join("map")
    }

    pub(super) fn pin(&self) -> PathBuf {
        self.dir.path().join("pin")
    }

    pub(super) fn order(&self) -> PullOrder {
        PullOrder {
            run: run_id(),
            from: host("machine-b"),
            address: HostPort::new("127.0.0.1", self.source.port),
            ticket: ticket(7),
            place: Place { part: self.part(), map: self.map(), free_bytes_min: 0, loads: false },
            reads: ServerVersion::new(Product::Redis, "7.0.15").unwrap(),
            lanes: 1,
            supply: None,
            called_off: CalledOff::default(),
        }
    }

    pub(super) fn dialer(&self, name: &str) -> baton_wire::Dialer {
        baton_wire::Dialer::new(&self.authority.identity(self.dir.path(), name), "test").unwrap()
    }

    pub(super) async fn pull_as(&self, name: &str, order: PullOrder) -> Result<TransferFacts, Fault> {
        pull(&self.dialer(name), order, &ProgressSink::detached()).await
    }

    pub(super) async fn pull(&self) -> Result<TransferFacts, Fault> {
        self.pull_as("machine-c", self.order()).await
    }

    /// A pull that goes on beside the test.
    pub(super) fn pulling(&self, order: PullOrder) -> tokio::task::JoinHandle<Result<TransferFacts, Fault>> {
        let dialer = self.dialer("machine-c");
        tokio::spawn(async move { pull(&dialer, order, &ProgressSink::detached()).await })
    }

    pub(super) fn expect_whole(&self, facts: &TransferFacts) {
        assert!(std::fs::read(self.part()).unwrap() == self.data, "the file differs");
        assert_eq!(facts.bytes_raw, self.data.len() as u64);
        assert_eq!(facts.digest, FileDigest(*blake3::hash(&self.data).as_bytes()));
    }

    /// Chunks that the map says are here.
    pub(super) fn recorded(&self) -> u64 {
        recorded_in(&self.map())
    }
}

pub(super) fn recorded_in(map: &Path) -> u64 {
    let head = crate::transfer::map::MapFormat::new(&snapshot_id()).unwrap().head().len() as u64;
    let length = std::fs::metadata(map).map_or(0, |found| found.len());
    length.saturating_sub(head) / crate::transfer::map::RECORD_BYTES as u64
}

/// Waits until something is so.
pub(super) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = std::time::Instant::now();
    while !is_so() {
        assert!(began.elapsed() < DEADLINE, "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits for the end of a pull.
pub(super) async fn end_of<T>(pulling: tokio::task::JoinHandle<T>) -> T {
    tokio::time::timeout(DEADLINE, pulling).await.expect("the pull ends").unwrap()
}

/// Overwrites a byte where it stands, as a failing disk does: without a new modification time.
pub(super) fn flip(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let modified = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x10], at).unwrap();
    file.set_modified(modified).unwrap();
}
