//! The state of every chunk of a transfer, and the counts that follow from it.
//!
//! ```text
//!   Missing ──ask──> Asked ──written──> Written ──begin_sync, synced──> Held
//!      ^               │ give_back         │ forget_unsynced              │ drop_held
//!      └───────────────┴───────────────────┴──────────────────────────────┘    (Resumed: held since before this pull)
//! ```

use std::collections::BTreeSet;

use baton_proto::chunk::{ChunkIndex, Chunking};
use baton_proto::digest::ChunkDigest;

use super::ReceiveError;
use crate::transfer::map::Held;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Missing,
    Asked,
    Written,
    Held(ChunkDigest),
    Resumed(ChunkDigest),
}

/// The chunks of one snapshot. The default is an empty one.
#[derive(Debug)]
pub(super) struct Chunks {
    chunking: Chunking,
    slots: Vec<Slot>,
    /// No chunk from here on has been asked for.
    cursor: u32,
    /// Missing chunks before the cursor.
    again: BTreeSet<ChunkIndex>,
    asked: usize,
    held: u32,
    resumed: u32,
    unsynced: Vec<(ChunkIndex, ChunkDigest)>,
    /// The batch whose sync is under way.
    syncing: Option<Vec<(ChunkIndex, ChunkDigest)>>,
    bytes_done: u64,
}

impl Default for Chunks {
    fn default() -> Self {
        Self::new(Chunking::new(0).expect("an empty snapshot is not too large"))
    }
}

impl Chunks {
    pub(super) fn new(chunking: Chunking) -> Self {
        Self {
            chunking,
            // Filled in `resume`, after the store has found room for a snapshot of that size.
            slots: Vec::new(),
            cursor: 0,
            again: BTreeSet::new(),
            asked: 0,
            held: 0,
            resumed: 0,
            unsynced: Vec::new(),
            syncing: None,
            bytes_done: 0,
        }
    }

    pub(super) fn resume(&mut self, held: &Held) -> Result<(), ReceiveError> {
        let expected = self.chunking.count();
        if held.len() != expected as usize {
            return Err(ReceiveError::Count { expected, found: held.len() });
        }
        self.slots = held.iter().map(|digest| digest.map_or(Slot::Missing, Slot::Resumed)).collect();
        for (index, _) in (0..).zip(held).filter(|(_, digest)| digest.is_some()) {
            self.bytes_done += self.bytes(ChunkIndex(index));
            self.held += 1;
        }
        self.resumed = self.held;
        Ok(())
    }

    pub(super) fn chunking(&self) -> &Chunking {
        &self.chunking
    }

    pub(super) fn bytes_done(&self) -> u64 {
        self.bytes_done
    }

    pub(super) fn resumed(&self) -> u32 {
        self.resumed
    }

    /// Chunks that were asked for and have not come.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }

    /// Chunks that were written and whose sync has not begun.
    pub(super) fn unsynced(&self) -> usize {
        self.unsynced.len()
    }

    pub(super) fn is_syncing(&self) -> bool {
        self.syncing.is_some()
    }

    pub(super) fn all_held(&self) -> bool {
        self.held == self.chunking.count()
    }

    /// Chunks that are neither here nor on their way.
    pub(super) fn missing(&self) -> usize {
        let written = self.unsynced.len() + self.syncing.as_ref().map_or(0, Vec::len);
        self.chunking.count() as usize - self.held as usize - self.asked - written
    }

    /// Whether no chunk is missing or on its way.
    pub(super) fn nothing_to_come(&self) -> bool {
        self.asked == 0 && self.missing() == 0
    }

    /// Picks the next chunk to ask for: the first that is missing.
    pub(super) fn ask(&mut self) -> Option<ChunkIndex> {
        let index = match self.again.pop_first() {
            Some(index) => index,
            None => {
                let rest = self.slots.get(self.cursor as usize..)?;
                let found = (self.cursor..).zip(rest).find(|(_, slot)| **slot == Slot::Missing);
                let (index, _) = found?;
                self.cursor = index + 1;
                ChunkIndex(index)
            }
        };
        *self.slots.get_mut(index.0 as usize)? = Slot::Asked;
        self.asked += 1;
        Some(index)
    }

    fn slot(&mut self, index: ChunkIndex) -> Result<&mut Slot, ReceiveError> {
        self.chunking.span(index)?;
        self.slots.get_mut(index.0 as usize).ok_or(ReceiveError::Unasked(index))
    }

    /// The slot of a chunk that must have been asked for.
    fn slot_asked(&mut self, index: ChunkIndex) -> Result<&mut Slot, ReceiveError> {
        let slot = self.slot(index)?;
        match slot {
            Slot::Asked => Ok(slot),
            Slot::Missing => Err(ReceiveError::Unasked(index)),
            Slot::Written | Slot::Held(_) | Slot::Resumed(_) => Err(ReceiveError::Duplicate(index)),
        }
    }

    pub(super) fn written(&mut self, index: ChunkIndex, digest: ChunkDigest) -> Result<(), ReceiveError> {
        *self.slot_asked(index)? = Slot::Written;
        self.asked -= 1;
        self.unsynced.push((index, digest));
        self.bytes_done += self.bytes(index);
        Ok(())
    }

    /// Puts a chunk that did not come back among the missing ones.
    pub(super) fn give_back(&mut self, index: ChunkIndex) -> Result<(), ReceiveError> {
        *self.slot_asked(index)? = Slot::Missing;
        self.asked -= 1;
        self.again.insert(index);
        Ok(())
    }

    /// Begins the sync of what was written; `None` when that is nothing.
    pub(super) fn begin_sync(&mut self) -> Option<Vec<(ChunkIndex, ChunkDigest)>> {
        if self.unsynced.is_empty() {
            return None;
        }
        let batch = std::mem::take(&mut self.unsynced);
        self.syncing = Some(batch.clone());
        Some(batch)
    }

    /// Counts the batch as held. `false` when no sync was under way.
    pub(super) fn synced(&mut self) -> bool {
        let Some(batch) = self.syncing.take() else {
            return false;
        };
        for (index, digest) in batch {
            if let Some(slot) = self.slots.get_mut(index.0 as usize) {
                *slot = Slot::Held(digest);
                self.held += 1;
            }
        }
        true
    }

    pub(super) fn forget_unsynced(&mut self) {
        let lost: Vec<_> = self.syncing.take().into_iter().flatten().chain(self.unsynced.drain(..)).collect();
        for (index, _) in lost {
            self.miss(index);
        }
    }

    /// Drops chunks that were found damaged, to fetch them again.
    pub(super) fn drop_held(&mut self, bad: &[ChunkIndex]) -> Result<(), ReceiveError> {
        for &index in bad {
            let was_resumed = match self.slot(index)? {
                Slot::Resumed(_) => 1,
                Slot::Held(_) => 0,
                _ => return Err(ReceiveError::Unasked(index)),
            };
            self.resumed -= was_resumed;
            self.held -= 1;
            self.miss(index);
        }
        Ok(())
    }

    /// Drops everything that was found here from an earlier attempt.
    pub(super) fn drop_resumed(&mut self) {
        let resumed = (0..).zip(&self.slots).filter(|(_, slot)| matches!(slot, Slot::Resumed(_)));
        let resumed: Vec<_> = resumed.map(|(index, _)| ChunkIndex(index)).collect();
        for index in resumed {
            self.held -= 1;
            self.miss(index);
        }
        self.resumed = 0;
    }

    fn miss(&mut self, index: ChunkIndex) {
        if let Some(slot) = self.slots.get_mut(index.0 as usize) {
            *slot = Slot::Missing;
            self.bytes_done = self.bytes_done.saturating_sub(self.bytes(index));
            // Beyond the cursor the search finds it by itself.
            if index.0 < self.cursor {
                self.again.insert(index);
            }
        }
    }

    /// The digests of all chunks, once all are held.
    pub(super) fn digests(&self) -> Vec<ChunkDigest> {
        let digest = |slot: &Slot| match slot {
            Slot::Held(digest) | Slot::Resumed(digest) => Some(*digest),
            _ => None,
        };
        self.slots.iter().filter_map(digest).collect()
    }

    fn bytes(&self, index: ChunkIndex) -> u64 {
        self.chunking.span(index).map_or(0, |span| u64::from(span.bytes))
    }
}
