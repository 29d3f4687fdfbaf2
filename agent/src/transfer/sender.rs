//! Sending half of a transfer: decides which chunk is packed next, with which level, and how much may be on its way. It owns
//! no socket, clock or file.
//!
//! ```text
//!   asked ──next──> packing ──packed──> on its way ──delivered──> gone
//! ```
//!
//! The lowest chunk goes first. Packed chunks are kept short in number: what is on its way is what the path holds and a
//! little more, so that a level is chosen for the wire as it is now, and memory is bounded whatever is asked for.
//! **The law**: after every `handle_*`, call [`Sender::poll_job`] until it yields nothing, and answer each job by one
//! `handle_packed`. Left out: how a level is chosen (see [`levels`]), and how fast bytes may leave (`throttle`).

pub mod levels;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::time::Duration;

use baton_proto::chunk::{CHUNK_BYTES, ChunkIndex};
use baton_proto::data::PackingFacts;

use levels::{Level, Levels, Packed};

/// What waits behind what the path holds, before packing waits as well: four chunks that do not shrink, or eight that do.
/// It keeps the wire busy while the next one is packed, also when others have the cores for a while.
pub const BACKLOG_BYTES: u64 = 4 * CHUNK_BYTES;
/// Most that is on its way, both together. A connection's window is not larger.
pub const PIPE_BYTES_MAX: u64 = 8 * CHUNK_BYTES;

/// A chunk to read and pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    pub index: ChunkIndex,
    pub level: Level,
}

/// The engine of one offer.
#[derive(Debug)]
pub struct Sender {
    workers: usize,
    backlog_bytes: u64,
    asked: BTreeSet<ChunkIndex>,
    packing: usize,
    /// Bytes that are packed and not known to have arrived.
    on_the_way: u64,
    /// What the path holds.
    window: u64,
    levels: Levels,
}

impl Sender {
    /// `workers` chunks are packed at a time.
    pub fn new(workers: usize) -> Self {
        Self::with_backlog(workers, BACKLOG_BYTES)
    }

    /// The same, with at most `backlog_bytes` behind what the path holds before packing waits.
    pub fn with_backlog(workers: usize, backlog_bytes: u64) -> Self {
        let workers = workers.max(1);
        Self {
            workers,
            backlog_bytes: backlog_bytes.min(BACKLOG_BYTES),
            asked: BTreeSet::new(),
            packing: 0,
            on_the_way: 0,
            window: 0,
            levels: Levels::new(workers),
        }
    }

    /// Puts a chunk on the list. One that is there already stays where it is.
    pub fn handle_asked(&mut self, index: ChunkIndex) {
        self.asked.insert(index);
    }

    /// Takes a chunk off the list: nobody waits for it any more.
    pub fn handle_dropped(&mut self, index: ChunkIndex) {
        self.asked.remove(&index);
    }

    /// Takes notice of what the transport knows of the path: bytes it holds in a round trip, and bytes a second, 0 while
    /// that is not known. While each round trip still finds more, it `grows`.
    pub fn handle_path(&mut self, window: u64, rate: f64, grows: bool) {
        self.window = window.min(PIPE_BYTES_MAX - BACKLOG_BYTES);
        self.levels.path(rate, grows);
    }

    /// Takes notice that a job is done; without facts, that it failed. What was packed is then on its way.
    pub fn handle_packed(&mut self, packed: Option<Packed>) {
        self.packing = self.packing.saturating_sub(1);
        if let Some(packed) = packed {
            self.levels.packed(&packed);
            self.on_the_way += u64::from(packed.wire_bytes);
            self.look();
        }
    }

    /// Takes notice that bytes were given up: they never arrive, and tell nothing of the wire.
    pub fn handle_given_up(&mut self, wire_bytes: u32) {
        self.on_the_way = self.on_the_way.saturating_sub(u64::from(wire_bytes));
        self.look();
    }

    /// Takes notice that bytes have arrived.
    pub fn handle_delivered(&mut self, now: Duration, wire_bytes: u32) {
        self.on_the_way = self.on_the_way.saturating_sub(u64::from(wire_bytes));
        self.levels.arrived(now, u64::from(wire_bytes));
        self.look();
    }

    /// Tells the levels whether packing waits for the wire.
    fn look(&mut self) {
        // While a chunk is still behind what the path holds, the wire is as busy as before.
        let busy = self.levels.is_waiting() && self.backlog() >= self.levels.expected_bytes();
        self.levels.waits(busy || self.is_full());
    }

    /// What waits for the path to have room.
    fn backlog(&self) -> u64 {
        self.on_the_way.saturating_sub(self.window)
    }

    fn is_full(&self) -> bool {
        let expected = self.levels.expected_bytes();
        // What is being packed counts as well; but while next to nothing waits, no worker is to stand idle.
        let all_pack = expected.saturating_mul(self.workers as u64 + 1);
        let most = self.window.saturating_add(self.backlog_bytes.max(all_pack)).min(PIPE_BYTES_MAX);
        self.on_the_way + expected.saturating_mul(self.packing as u64) >= most
    }

    /// Yields the next chunk to pack, if now is the time.
    pub fn poll_job(&mut self) -> Option<Job> {
        if self.packing >= self.workers || self.is_full() {
            return None;
        }
        let index = self.asked.pop_first()?;
        self.packing += 1;
        Some(Job { index, level: self.levels.choose(self.backlog()) })
    }

    /// Bytes that are packed and not known to have arrived.
    pub fn on_the_way(&self) -> u64 {
        self.on_the_way
    }

    pub fn facts(&self) -> PackingFacts {
        self.levels.facts()
    }
}
