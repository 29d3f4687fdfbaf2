//! Receiving half of a transfer: decides which chunk to ask for, what to check and sync, when to reconnect, when to give up
//! and when all is well. It owns no socket, clock or file; `now` is the time since the pull began.
//!
//! **The law**: after every `handle_*`, call [`Receiver::poll_output`] until it answers [`Output::Wait`], and do what it
//! says. Every output but `Wait`, `Done` and `Fail` is answered by exactly one `handle_*`. A chunk is held when it was
//! checked and written; what an earlier attempt claims to hold is read back before it is believed.
//!
//! ```text
//!   Opening ──manifest──> Preparing ──claims──> Fetching ──whole, all held──> Sealing ──equal──> Finishing ──good──> Ended (Done)
//!                                                  ^                             │ differs, and claims were believed, once
//!                                                  └─────────────────────────────┘
//!   any ──what cannot be retried, or too often──> Failing ──what is written synced──> Ended (Fail)
//! ```
//!
//! Beside the stage stand the link (see [`line`]) and how far the snapshot has been written: while it grows, one question
//! after that is always under way. Left out: what is in a chunk (`packing`), and how chunks are stored (`store`).

mod chunks;
mod end;
mod line;
mod outputs;
#[cfg(test)]
mod tests;
mod trouble;

use std::collections::BTreeMap;
use std::time::Duration;

use baton_proto::chunk::ChunkIndex;
use baton_proto::data::{Extent, Manifest};
use baton_proto::rdb::Checksum;
use baton_proto::{Fault, FaultKind};

use crate::transfer::map::Held;
pub use chunks::ChunkSums;
use chunks::Chunks;
pub use line::LinkNumber;
use line::{Line, State};
pub use outputs::{Output, Received};
pub use trouble::{ReceiveError, Trouble};

/// Most chunks asked for at a time. The source packs and sends them one after the other, so that few are half here; what
/// has been asked for beyond those keeps the line busy: twelve halves of a chunk cover 1 Gbit/s at 200 ms.
pub const WINDOW_CHUNKS: usize = 12;
/// Chunks of a source that keeps only a few which are not asked for: it fills one of them, and one more can be had when the
/// first is written here. So each question tells of the chunk that it makes room for, and nobody waits for the other.
const SPARE_CHUNKS: usize = 2;
/// Most claimed chunks read back at a time, beside the transfer: they take a disk and a core.
pub const CHECKING_MAX: usize = 2;
/// So many written chunks are synced together: 64 MiB. More are lost by a power cut, and make the last sync, for which
/// everybody waits, longer.
pub const SYNC_CHUNKS: usize = 16;
/// Longest time that a written chunk waits for its sync.
pub const SYNC_AFTER: Duration = Duration::from_secs(2);
/// How often a chunk may come damaged. QUIC's own cipher leaves a broken source as the one cause, so few are enough.
pub const CHUNK_TRIES_MAX: u32 = 3;
/// How long a link that is up may bring nothing of what it was asked for: no byte of a chunk, and no word of a digest that
/// goes on. After a stall the window is halved, so that a line that carries little at a time brings one chunk to its end.
pub const STALL: Duration = Duration::from_secs(180);

#[derive(Debug)]
enum Stage {
    Opening,
    Preparing { asked: bool },
    Fetching,
    Sealing { asked: bool, done: u64 },
    Finishing { received: Received, crc: Checksum, asked: bool },
    Passed(Received),
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
            Stage::Finishing { .. } => "finishing",
            Stage::Passed(_) | Stage::Failing(_) | Stage::Ended => "over",
        }
    }

    fn is_over(&self) -> bool {
        matches!(self, Stage::Failing(_) | Stage::Ended)
    }
}

/// The engine of one pull.
#[derive(Debug)]
pub struct Receiver {
    stage: Stage,
    line: Line,
    manifest: Option<Manifest>,
    /// How far the snapshot has been written.
    extent: Extent,
    chunks: Chunks,
    /// Most bytes for which there is room; known once the store is open. Before that nothing is set up for a size that
    /// only the source has told.
    room_bytes: Option<u64>,
    /// Whether a question after the extent is under way.
    extent_asked: bool,
    window: usize,
    /// When something of a chunk arrived, the source went on with its digest, or the link came up.
    moved_at: Duration,
    /// Chunks written since the last sync began, and when the first of them was.
    unsynced: usize,
    written_at: Duration,
    syncing: bool,
    /// How often each chunk has come damaged.
    damaged: BTreeMap<ChunkIndex, u32>,
    /// Whether the claims were thrown away, because with them the file was another.
    afresh: bool,
}

impl Default for Receiver {
    fn default() -> Self {
        Self {
            stage: Stage::Opening,
            line: Line::default(),
            manifest: None,
            extent: Extent { bytes: 0, whole: false },
            chunks: Chunks::default(),
            room_bytes: None,
            extent_asked: false,
            window: WINDOW_CHUNKS,
            moved_at: Duration::ZERO,
            unsynced: 0,
            written_at: Duration::ZERO,
            syncing: false,
            damaged: BTreeMap::new(),
            afresh: false,
        }
    }
}

impl Receiver {
    /// Bytes that are here.
    pub fn bytes_done(&self) -> u64 {
        self.chunks.bytes_done()
    }

    /// Bytes that are here from the beginning on, without a gap.
    pub fn held_prefix_bytes(&self) -> u64 {
        self.chunks.held_prefix_bytes()
    }

    /// How far the snapshot has been written.
    pub fn extent(&self) -> Extent {
        self.extent
    }

    /// All chunks before this one are written here.
    pub fn held_before(&self) -> u32 {
        self.chunks.held_before()
    }

    /// Chunks that are here from an earlier attempt.
    pub fn chunks_resumed(&self) -> u32 {
        self.chunks.claimed()
    }

    /// Links beyond the first.
    pub fn reconnects(&self) -> u32 {
        self.line.reconnects()
    }

    /// Takes what the source offers on a new link.
    pub fn handle_connected(&mut self, now: Duration, manifest: Manifest, extent: Extent) -> Result<(), ReceiveError> {
        if !self.line.is(State::Dialling) {
            return Err(self.unexpected("a link"));
        }
        self.line.came_up();
        self.moved_at = now;
        if let Stage::Sealing { done, .. } = &mut self.stage {
            // A source that was restarted begins anew.
            *done = 0;
        }
        match &self.manifest {
            Some(first) if *first != manifest => {
                let (first, second) = (first.snapshot.clone(), manifest.snapshot);
                self.fail(
                    Fault::new(FaultKind::Verification, "the source offers another snapshot than before")
                        .because(format!("it was {first}, it is {second}"))
                        .hint("the snapshot was taken anew meanwhile: begin the transfer again"),
                );
            }
            Some(_) => self.grow(extent),
            None => {
                if let Some(kept) = manifest.window {
                    self.window = (kept as usize).saturating_sub(SPARE_CHUNKS).clamp(1, WINDOW_CHUNKS);
                }
                self.manifest = Some(manifest);
                self.grow(extent);
                if matches!(self.stage, Stage::Opening) {
                    self.stage = Stage::Preparing { asked: false };
                }
            }
        }
        Ok(())
    }

    pub fn handle_connect_failed(&mut self, trouble: Trouble) -> Result<(), ReceiveError> {
        if !self.line.is(State::Dialling) {
            return Err(self.unexpected("a failed link"));
        }
        self.trouble(self.line.number(), trouble);
        Ok(())
    }

    /// Takes what the store claims to hold, and for how many bytes in all there is room.
    pub fn handle_prepared(&mut self, held: Held, room_bytes: u64) -> Result<(), ReceiveError> {
        match self.stage {
            Stage::Preparing { asked: true } => {
                self.room_bytes = Some(room_bytes);
                self.chunks.claim(held);
                self.stage = Stage::Fetching;
                self.grow(self.extent);
                Ok(())
            }
            // It failed meanwhile; then the store is not used.
            _ if self.stage.is_over() => Ok(()),
            _ => Err(self.unexpected("a store")),
        }
    }

    /// Takes notice of how far the snapshot has been written. What an old link tells late may be less than what is known
    /// from the new one: it is asked for again there.
    pub fn handle_extent(&mut self, link: LinkNumber, extent: Extent) -> Result<(), ReceiveError> {
        if !std::mem::take(&mut self.extent_asked) {
            return Err(self.unexpected("an extent"));
        }
        if link == self.line.number() {
            self.grow(extent);
            // Words alone are not what a link is for: while there is something to bring, only that shows that it works.
            if self.chunks.missing() == 0 && self.chunks.asked() == 0 {
                self.line.works();
            }
        }
        Ok(())
    }

    pub fn handle_extent_failed(&mut self, link: LinkNumber, trouble: Trouble) -> Result<(), ReceiveError> {
        if !std::mem::take(&mut self.extent_asked) {
            return Err(self.unexpected("a failed extent"));
        }
        self.trouble(link, trouble);
        Ok(())
    }

    /// Takes notice that bytes of chunks are arriving. It does not show that a link is of use: a chunk that does not come to
    /// its end is lost with its link.
    pub fn handle_arriving(&mut self, now: Duration) {
        self.moved_at = self.moved_at.max(now);
    }

    /// Takes notice of a chunk that was checked and written.
    pub fn handle_written(&mut self, now: Duration, index: ChunkIndex, sums: ChunkSums) -> Result<(), ReceiveError> {
        self.chunks.written(index, sums)?;
        if self.unsynced == 0 {
            self.written_at = now;
        }
        self.unsynced += 1;
        self.moved_at = now;
        self.line.works();
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

    /// Takes what reading a claimed chunk back has shown: its checksum, or nothing if it is not what was claimed.
    pub fn handle_checked(&mut self, index: ChunkIndex, found: Option<Checksum>) -> Result<(), ReceiveError> {
        self.chunks.checked(index, found)
    }

    pub fn handle_synced(&mut self) -> Result<(), ReceiveError> {
        std::mem::take(&mut self.syncing).then_some(()).ok_or_else(|| self.unexpected("a sync"))
    }

    /// Takes notice that the store cannot be opened, read, synced or finished. (A chunk that cannot be written is a failed
    /// chunk.)
    pub fn handle_store_failed(&mut self, fault: Fault) {
        (self.syncing, self.unsynced) = (false, 0);
        self.fail(fault);
    }

    /// Lets time pass.
    pub fn handle_tick(&mut self, now: Duration) {
        if self.stall_at().is_some_and(|at| now >= at) {
            self.window = (self.window / 2).max(1);
            let silence = format!("nothing of a chunk came for {} s", STALL.as_secs());
            self.trouble(self.line.number(), Trouble::Link(Fault::new(FaultKind::Peer, silence)));
        }
    }

    fn grow(&mut self, extent: Extent) {
        self.extent = extent;
        let Some(room) = self.room_bytes else { return };
        if let Some(missing) = extent.bytes.checked_sub(room).filter(|missing| *missing > 0) {
            self.fail(
                Fault::new(FaultKind::Host, "there is no room for the snapshot on the target's disk")
                    .because(format!(
                        "it has {} bytes, and {room} have room: {missing} bytes are missing",
                        extent.bytes
                    ))
                    .hint(format!("free at least {missing} bytes there; the snapshot may still be growing")),
            );
        } else if let Err(error) = self.chunks.grow(extent) {
            self.fail(Fault::new(FaultKind::Verification, "the source's snapshot makes no sense").because(error));
        }
    }
}
