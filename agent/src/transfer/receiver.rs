//! Receiving half of a transfer: decides which chunk to ask for, what to sync, when to reconnect, when to give up and when
//! all is well. It owns no socket, clock or file; `now` is the time since the pull began.
//!
//! **The law**: after every `handle_*`, call [`Receiver::poll_output`] until it answers [`Output::Wait`], and do what it
//! says. A chunk counts as held only when the store has confirmed the sync of its bytes and its record; only what is held
//! is never asked for again. Every output but `Wait`, `Done` and `Fail` is answered by exactly one `handle_*`.
//!
//! ```text
//!   Opening ──manifest──> Preparing ──held──> Fetching ──all held──> Sealing ──digest──> Verifying ──equal──> Ended (Done)
//!                                                ^                                          │ bad chunks, once
//!                                                └──────────────────────────────────────────┘
//!   any ──what cannot be retried, or too often──> Failing ──arrived chunks synced──> Ended (Fail)
//! ```
//!
//! Beside the stage stands the link: down, dialling or up. It is dialled when the stage needs it. Left out: what is in a
//! chunk (`packing`), and how chunks are stored (`store`).

mod chunks;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

use crate::transfer::Whole;
use baton_proto::chunk::{ChunkError, ChunkIndex, Chunking};
use baton_proto::digest::{ChunkDigest, FileDigest};
use baton_proto::rdb::RdbError;
use baton_proto::{Fault, FaultKind};

use crate::transfer::map::Held;
use chunks::Chunks;

/// Most chunks asked for at a time. Packed they are 4 MiB each at most, and [`UNPACKING_MAX`] of them are unpacked at a
/// time: 64 MiB in all. Twelve halves of a chunk cover 1 Gbit/s at 200 ms.
pub const WINDOW_CHUNKS: usize = 12;
/// Most chunks unpacked and written at a time.
pub const UNPACKING_MAX: usize = 4;
/// So many written chunks are synced together: 64 MiB. Fewer cost more syncs; more are lost by a crash, and make the last
/// sync, for which everybody waits, longer.
pub const SYNC_CHUNKS: usize = 16;
/// Longest time that a written chunk waits for its sync.
pub const SYNC_AFTER: Duration = Duration::from_secs(2);
/// How often a chunk may come damaged. QUIC's own cipher leaves a broken source as the one cause, so few are enough.
pub const CHUNK_TRIES_MAX: u32 = 3;
/// How often in a row the link may break, or not come up, without a chunk arriving: an outage of about a minute.
pub const LINK_TRIES_MAX: u32 = 14;
/// The same before the first link: nothing is lost yet, and a person waits.
pub const FIRST_LINK_TRIES_MAX: u32 = 3;
/// First and longest pause before dialling again; it doubles.
pub const BACKOFF_FIRST: Duration = Duration::from_millis(100);
pub const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// How long a link that is up may bring no chunk at all. On a slow line a whole window may come at once at the end; so
/// after a stall the window is halved, and at the last a chunk in this time is enough: 23 kB/s.
pub const STALL: Duration = Duration::from_secs(180);
/// How often the file is read back: once, and once more after damaged chunks were fetched again.
pub const VERIFICATIONS_MAX: u32 = 2;

/// Numbers the links of a pull from 1, so that news of an old one is told apart.
pub type LinkNumber = u32;

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Drop the link that there is, dial after a pause, and open the snapshot.
    Connect {
        after: Duration,
        link: LinkNumber,
    },
    /// Open the store for the snapshot and tell what it holds.
    Prepare(Whole),
    /// Ask for a chunk on this link, check it, and write it.
    Fetch {
        index: ChunkIndex,
        link: LinkNumber,
    },
    /// Sync the chunks that were written, then record these.
    Sync(Vec<(ChunkIndex, ChunkDigest)>),
    /// Ask for the digest of the whole file.
    Seal {
        link: LinkNumber,
    },
    /// Read the file back, and compare it with these digests.
    Verify(Vec<ChunkDigest>),
    Done(FileDigest),
    Fail(Fault),
    /// Nothing until the next input, or until this time.
    Wait {
        until: Option<Duration>,
    },
}

/// Why something asked of the source or of the store did not work out.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// The link broke, or could not be made. Another may do better.
    Link(Fault),
    /// What came is not what was asked for. It may come whole the next time.
    Damage(Fault),
    /// Asking again would change nothing.
    Final(Fault),
}

/// What reading the file back has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Chunks whose bytes do not give their digest.
    pub bad: Vec<ChunkIndex>,
    /// The hash of the file as it was read.
    pub digest: FileDigest,
    /// What the snapshot's own length, end mark and checksum say.
    pub rdb: Result<(), RdbError>,
}

/// An input that does not fit: a defect of the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    #[error(transparent)]
    PastEnd(#[from] ChunkError),
    #[error("chunk {} came, which was not asked for", .0.0)]
    Unasked(ChunkIndex),
    #[error("chunk {} came a second time", .0.0)]
    Duplicate(ChunkIndex),
    #[error("{input} came while the transfer was {stage} and the link {link}")]
    Unexpected { input: &'static str, stage: &'static str, link: &'static str },
    #[error("the store tells of {found} chunks, the snapshot has {expected}")]
    Count { expected: u32, found: usize },
}

#[derive(Debug)]
enum Link {
    Down { after: Duration },
    Dialling,
    Up,
}

#[derive(Debug)]
enum Stage {
    Opening,
    Preparing { asked: bool },
    Fetching,
    Sealing { asked: bool },
    Verifying { sealed: FileDigest, asked: bool },
    Passed(FileDigest),
    Failing(Fault),
    Ended,
}

impl Stage {
    fn name(&self) -> &'static str {
        match self {
            Stage::Opening => "opening",
            Stage::Preparing { .. } => "preparing",
            Stage::Fetching => "fetching",
            Stage::Sealing { .. } => "sealing",
            Stage::Verifying { .. } => "verifying",
            Stage::Passed(_) | Stage::Failing(_) | Stage::Ended => "over",
        }
    }
}

/// The engine of one pull.
#[derive(Debug)]
pub struct Receiver {
    stage: Stage,
    link: Link,
    link_number: LinkNumber,
    /// Links that broke or did not come up since a chunk arrived.
    link_failures: u32,
    links_up: u32,
    manifest: Option<Whole>,
    chunks: Chunks,
    window: usize,
    /// When the last chunk arrived, or the link came up.
    moved_at: Duration,
    /// When the oldest chunk that waits for its sync was written.
    written_at: Option<Duration>,
    /// How often each chunk has come damaged.
    damaged: BTreeMap<ChunkIndex, u32>,
    sealed: Option<FileDigest>,
    verifications: u32,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            stage: Stage::Opening,
            link: Link::Down { after: Duration::ZERO },
            link_number: 0,
            link_failures: 0,
            links_up: 0,
            manifest: None,
            chunks: Chunks::default(),
            window: WINDOW_CHUNKS,
            moved_at: Duration::ZERO,
            written_at: None,
            damaged: BTreeMap::new(),
            sealed: None,
            verifications: 0,
        }
    }
}

impl Receiver {
    /// Bytes that have arrived or were held before.
    pub fn bytes_done(&self) -> u64 {
        self.chunks.bytes_done()
    }

    /// Chunks that are held from an earlier attempt.
    pub fn chunks_resumed(&self) -> u32 {
        self.chunks.resumed()
    }

    /// Links beyond the first.
    pub fn reconnects(&self) -> u32 {
        self.links_up.saturating_sub(1)
    }

    // --- inputs ---

    /// Takes what the source offers on a new link.
    pub fn handle_connected(&mut self, now: Duration, manifest: Whole) -> Result<(), ReceiveError> {
        if !matches!(self.link, Link::Dialling) {
            return Err(self.unexpected("a link"));
        }
        self.link = Link::Up;
        self.links_up += 1;
        self.moved_at = now;
        match &self.manifest {
            None => match Chunking::new(manifest.bytes) {
                Ok(chunking) => {
                    self.chunks = Chunks::new(chunking);
                    self.manifest = Some(manifest);
                    if matches!(self.stage, Stage::Opening) {
                        self.stage = Stage::Preparing { asked: false };
                    }
                }
                Err(error) => {
                    self.fail(Fault::new(FaultKind::Peer, "the source's offer makes no sense").because(error))
                }
            },
            Some(first) if *first != manifest => self.fail(
                Fault::new(FaultKind::Verification, "the source offers another snapshot than before")
                    .because(format!("it was {}, it is {}", first.snapshot, manifest.snapshot))
                    .hint("the snapshot was taken anew meanwhile: begin the transfer again"),
            ),
            Some(_) => {}
        }
        Ok(())
    }

    pub fn handle_connect_failed(&mut self, trouble: Trouble) -> Result<(), ReceiveError> {
        if !matches!(self.link, Link::Dialling) {
            return Err(self.unexpected("a failed link"));
        }
        self.trouble(self.link_number, trouble);
        Ok(())
    }

    /// Takes what the store holds from an earlier attempt.
    pub fn handle_prepared(&mut self, held: &Held) -> Result<(), ReceiveError> {
        match self.stage {
            Stage::Preparing { asked: true } => {
                self.chunks.resume(held)?;
                self.stage = Stage::Fetching;
                Ok(())
            }
            // It failed meanwhile; then the store is not used.
            Stage::Failing(_) | Stage::Ended => Ok(()),
            _ => Err(self.unexpected("a store")),
        }
    }

    /// Takes notice of a chunk that was checked and written.
    pub fn handle_written(
        &mut self,
        now: Duration,
        index: ChunkIndex,
        digest: ChunkDigest,
    ) -> Result<(), ReceiveError> {
        self.chunks.written(index, digest)?;
        self.written_at.get_or_insert(now);
        self.moved_at = now;
        self.link_failures = 0;
        Ok(())
    }

    /// Takes notice of a chunk that did not come, or could not be written.
    pub fn handle_chunk_failed(
        &mut self,
        index: ChunkIndex,
        link: LinkNumber,
        trouble: Trouble,
    ) -> Result<(), ReceiveError> {
        self.chunks.give_back(index)?;
        match trouble {
            Trouble::Damage(fault) => {
                let times = self.damaged.entry(index).or_default();
                *times += 1;
                if *times >= CHUNK_TRIES_MAX {
                    self.fail(fault);
                }
            }
            other => self.trouble(link, other),
        }
        Ok(())
    }

    /// Takes the store's word that the batch is synced and recorded.
    pub fn handle_synced(&mut self) -> Result<(), ReceiveError> {
        self.chunks.synced().then_some(()).ok_or_else(|| self.unexpected("a sync"))
    }

    /// Takes notice that the store cannot be opened, cannot sync or cannot be read back. What is not synced is lost.
    /// (A chunk that cannot be written is a failed chunk.)
    pub fn handle_store_failed(&mut self, fault: Fault) {
        self.chunks.forget_unsynced();
        self.fail(fault);
    }

    /// Takes the source's digest of the whole file.
    pub fn handle_sealed(&mut self, digest: FileDigest) -> Result<(), ReceiveError> {
        match self.stage {
            Stage::Sealing { asked: true } => {
                self.sealed = Some(digest);
                self.stage = Stage::Verifying { sealed: digest, asked: false };
                Ok(())
            }
            Stage::Failing(_) | Stage::Ended => Ok(()),
            _ => Err(self.unexpected("a seal")),
        }
    }

    pub fn handle_seal_failed(&mut self, link: LinkNumber, trouble: Trouble) -> Result<(), ReceiveError> {
        match &mut self.stage {
            Stage::Sealing { asked } if *asked => *asked = false,
            Stage::Failing(_) | Stage::Ended => return Ok(()),
            _ => return Err(self.unexpected("a failed seal")),
        }
        match trouble {
            Trouble::Damage(fault) => self.fail(fault),
            other => self.trouble(link, other),
        }
        Ok(())
    }

    /// Judges what reading the file back has shown.
    pub fn handle_verified(&mut self, verdict: Verdict) -> Result<(), ReceiveError> {
        let sealed = match self.stage {
            Stage::Verifying { sealed, asked: true } => sealed,
            Stage::Failing(_) | Stage::Ended => return Ok(()),
            _ => return Err(self.unexpected("a verdict")),
        };
        self.verifications += 1;
        let again = self.verifications < VERIFICATIONS_MAX;
        if let Some(first) = verdict.bad.first().copied() {
            if again {
                self.chunks.drop_held(&verdict.bad)?;
                self.stage = Stage::Fetching;
            } else {
                self.fail(bad_on_disk(first, verdict.bad.len(), self.chunks.chunking()));
            }
        } else if verdict.digest != sealed {
            // Each chunk has the digest that is recorded, so a record is wrong: one of the map that was found here.
            if again && self.chunks.resumed() > 0 {
                self.chunks.drop_resumed();
                self.stage = Stage::Fetching;
            } else {
                self.fail(
                    Fault::new(FaultKind::Verification, "the file differs from what the source has sent")
                        .because(format!("its BLAKE3 is {}, the source says {sealed}", verdict.digest)),
                );
            }
        } else if let Err(error) = verdict.rdb {
            self.fail(
                Fault::new(FaultKind::Verification, "the snapshot was damaged on the source after it was written")
                    .because(error)
                    .hint("take a new snapshot: run it again with `--snapshot save` or `--snapshot bgsave`"),
            );
        } else {
            self.stage = Stage::Passed(sealed);
        }
        Ok(())
    }

    /// Lets time pass.
    pub fn handle_tick(&mut self, now: Duration) {
        if self.stall_at().is_some_and(|at| now >= at) {
            self.window = (self.window / 2).max(1);
            let silence = format!("no chunk came for {} s", STALL.as_secs());
            self.trouble(self.link_number, Trouble::Link(Fault::new(FaultKind::Peer, silence)));
        }
    }

    // --- outputs ---

    /// Tells what to do next. Asked until it says to wait.
    pub fn poll_output(&mut self, now: Duration) -> Output {
        if let Some(output) = self.poll_sync(now) {
            return output;
        }
        if let Some(output) = self.poll_end() {
            return output;
        }
        if matches!(self.stage, Stage::Fetching) && self.chunks.all_held() {
            self.stage = match self.sealed {
                Some(sealed) => Stage::Verifying { sealed, asked: false },
                None => Stage::Sealing { asked: false },
            };
        }
        if self.wants_link()
            && let Link::Down { after } = self.link
        {
            self.link = Link::Dialling;
            self.link_number += 1;
            return Output::Connect { after, link: self.link_number };
        }
        self.poll_stage(now).unwrap_or_else(|| Output::Wait { until: self.deadline() })
    }

    fn poll_stage(&mut self, now: Duration) -> Option<Output> {
        let (link, is_up) = (self.link_number, matches!(self.link, Link::Up));
        match &mut self.stage {
            Stage::Preparing { asked } if !*asked => {
                *asked = true;
                self.manifest.clone().map(Output::Prepare)
            }
            Stage::Fetching if is_up && self.chunks.asked() < self.window => {
                if self.chunks.asked() == 0 {
                    // Silence counts from the question on.
                    self.moved_at = now;
                }
                self.chunks.ask().map(|index| Output::Fetch { index, link })
            }
            Stage::Sealing { asked } if is_up && !*asked => {
                *asked = true;
                Some(Output::Seal { link })
            }
            Stage::Verifying { asked, .. } if !*asked => {
                *asked = true;
                Some(Output::Verify(self.chunks.digests()))
            }
            _ => None,
        }
    }

    fn poll_sync(&mut self, now: Duration) -> Option<Output> {
        if self.chunks.is_syncing() || matches!(self.stage, Stage::Ended) {
            return None;
        }
        let aged = self.sync_at().is_some_and(|at| now >= at);
        let last = self.chunks.nothing_to_come() || matches!(self.stage, Stage::Failing(_));
        if self.chunks.unsynced() >= SYNC_CHUNKS || aged || last {
            let batch = self.chunks.begin_sync()?;
            self.written_at = None;
            return Some(Output::Sync(batch));
        }
        None
    }

    fn poll_end(&mut self) -> Option<Output> {
        match &self.stage {
            // What has arrived is kept for the next attempt: a failure waits for the sync.
            Stage::Failing(_) if self.chunks.is_syncing() => Some(Output::Wait { until: None }),
            Stage::Failing(fault) => {
                let fault = fault.clone();
                self.stage = Stage::Ended;
                Some(Output::Fail(fault))
            }
            Stage::Passed(digest) => {
                let digest = *digest;
                self.stage = Stage::Ended;
                Some(Output::Done(digest))
            }
            Stage::Ended => Some(Output::Wait { until: None }),
            _ => None,
        }
    }

    fn wants_link(&self) -> bool {
        match self.stage {
            Stage::Opening | Stage::Sealing { .. } => true,
            Stage::Fetching => self.chunks.missing() > 0,
            _ => false,
        }
    }

    fn sync_at(&self) -> Option<Duration> {
        self.written_at.filter(|_| !self.chunks.is_syncing()).map(|at| at + SYNC_AFTER)
    }

    fn stall_at(&self) -> Option<Duration> {
        let waits = matches!(self.link, Link::Up) && matches!(self.stage, Stage::Fetching) && self.chunks.asked() > 0;
        waits.then(|| self.moved_at + STALL)
    }

    fn deadline(&self) -> Option<Duration> {
        self.sync_at().into_iter().chain(self.stall_at()).min()
    }

    // --- transitions ---

    /// What befell a link. Chunks of the old link come home by themselves, each with the same news.
    fn trouble(&mut self, link: LinkNumber, trouble: Trouble) {
        let fault = match trouble {
            Trouble::Final(fault) | Trouble::Damage(fault) => return self.fail(fault),
            Trouble::Link(fault) => fault,
        };
        if link != self.link_number || matches!(self.link, Link::Down { .. }) {
            return;
        }
        let tries_max = if self.links_up == 0 { FIRST_LINK_TRIES_MAX } else { LINK_TRIES_MAX };
        self.link_failures += 1;
        if self.link_failures >= tries_max {
            return self.fail(fault);
        }
        let doublings = self.link_failures.saturating_sub(1).min(16);
        let after = BACKOFF_FIRST.saturating_mul(1 << doublings).min(BACKOFF_MAX);
        self.link = Link::Down { after };
        if let Stage::Sealing { asked } = &mut self.stage {
            *asked = false;
        }
    }

    /// Gives up. The first reason is the one that is told.
    fn fail(&mut self, fault: Fault) {
        if !matches!(self.stage, Stage::Failing(_) | Stage::Ended) {
            self.stage = Stage::Failing(fault);
        }
    }

    fn unexpected(&self, input: &'static str) -> ReceiveError {
        let link = match self.link {
            Link::Down { .. } => "down",
            Link::Dialling => "being dialled",
            Link::Up => "up",
        };
        ReceiveError::Unexpected { input, stage: self.stage.name(), link }
    }
}

fn bad_on_disk(first: ChunkIndex, count: usize, chunking: &Chunking) -> Fault {
    let offset = chunking.span(first).map_or(0, |span| span.offset);
    Fault::new(FaultKind::Verification, format!("{count} chunks read back differ from what was written"))
        .because(format!("the first is chunk {} at offset {offset}; it was fetched again once already", first.0))
        .hint("this host's disk or memory damages data; look at `dmesg`")
}
