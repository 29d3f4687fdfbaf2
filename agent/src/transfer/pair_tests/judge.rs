//! The observer: it sees what crosses the borders of both engines, and judges by the promises alone.

use std::collections::BTreeSet;

use baton_proto::chunk::{CHUNK_BYTES, ChunkIndex};

use super::disk::Disk;
use crate::transfer::receiver::{CHECKING_MAX, SYNC_CHUNKS, WINDOW_CHUNKS};
use crate::transfer::sender::PIPE_BYTES_MAX;

/// Most chunks that a power cut may cost beside those in flight: what a sync that is under way was begun without, and as
/// many as arrive meanwhile.
const UNSYNCED_MAX: usize = 3 * SYNC_CHUNKS;

#[derive(Debug, Default)]
pub(super) struct Judge {
    /// Chunks that are on the disk and recorded there.
    held: BTreeSet<ChunkIndex>,
    /// Those that this process has brought and not synced.
    unsynced: BTreeSet<ChunkIndex>,
    in_flight: BTreeSet<ChunkIndex>,
    checking: usize,
    packing: usize,
    on_the_way: u64,
    pub(super) fetches: u64,
    pub(super) faults: Vec<String>,
}

impl Judge {
    pub(super) fn fetches(&mut self, index: ChunkIndex) {
        assert!(!self.held.contains(&index), "{index:?} is held, and fetched again");
        assert!(self.in_flight.insert(index), "{index:?} is fetched twice at a time");
        assert!(self.in_flight.len() <= WINDOW_CHUNKS, "more in flight than the window");
        self.fetches += 1;
    }

    /// A fetch has ended, with a chunk or without.
    pub(super) fn fetched(&mut self, index: ChunkIndex) {
        assert!(self.in_flight.remove(&index));
    }

    pub(super) fn wrote(&mut self, index: ChunkIndex) {
        self.held.insert(index);
        self.unsynced.insert(index);
        assert!(self.unsynced.len() <= UNSYNCED_MAX, "{} chunks wait for a sync", self.unsynced.len());
    }

    pub(super) fn checks(&mut self, more: bool) {
        self.checking = if more { self.checking + 1 } else { self.checking - 1 };
        assert!(self.checking <= CHECKING_MAX, "too many claims are read back at a time");
    }

    pub(super) fn synced(&mut self, disk: &Disk) {
        self.unsynced.retain(|index| !disk.is_safe(*index));
    }

    /// The target's process has ended, and left this.
    pub(super) fn target_ended(&mut self, disk: &Disk) {
        self.held = disk.held().collect();
        self.unsynced.clear();
        self.in_flight.clear();
        self.checking = 0;
    }

    /// The target was told a failure, which is not its disk's.
    pub(super) fn failed(&mut self, words: String) {
        assert!(self.unsynced.is_empty(), "it failed before what had come was synced: {words}");
        self.faults.push(words);
    }

    pub(super) fn packs(&mut self, workers: usize) {
        self.packing += 1;
        assert!(self.packing <= workers, "more is packed at a time than there are workers");
    }

    pub(super) fn packed(&mut self, wire_bytes: u32, workers: usize) {
        self.packing -= 1;
        self.on_the_way += u64::from(wire_bytes);
        let most = PIPE_BYTES_MAX + workers as u64 * CHUNK_BYTES;
        assert!(self.on_the_way <= most, "{} bytes are packed and on their way", self.on_the_way);
    }

    pub(super) fn delivered(&mut self, wire_bytes: u32) {
        self.on_the_way -= u64::from(wire_bytes);
    }

    pub(super) fn source_ended(&mut self) {
        (self.packing, self.on_the_way) = (0, 0);
    }
}
