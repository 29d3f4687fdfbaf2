//! The state of every chunk of a transfer, and the counts that follow from it.
//!
//! ```text
//!   Missing ──ask──> Asked ──written──> Held                 Claimed ──check──> Checking ──good──> Held
//!      ^               │ give_back       │ drop_claimed         │                  │ bad
//!      └───────────────┴─────────────────┴──────────────────────┴──────────────────┘
//! ```
//!
//! A chunk is claimed when the map of an earlier attempt says that it is here: it is read back before it is believed.

use std::collections::BTreeSet;

use baton_proto::chunk::{ChunkError, ChunkIndex, Chunking};
use baton_proto::data::Extent;
use baton_proto::digest::{ChunkDigest, FileDigest, file_digest};
use baton_proto::rdb::Checksum;

use super::ReceiveError;
use crate::transfer::map::Held;

/// What is known of a chunk that is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChunkSums {
    pub digest: ChunkDigest,
    pub crc: Checksum,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Missing,
    Asked,
    Claimed(ChunkDigest),
    Checking(ChunkDigest),
    Held { sums: ChunkSums, claimed: bool },
}

/// The chunks of one snapshot, as far as it has been written. The default is an empty one.
#[derive(Debug)]
pub(super) struct Chunks {
    chunking: Chunking,
    /// One for each chunk that can be had.
    slots: Vec<Slot>,
    /// Claims beyond what can be had so far.
    claims: Held,
    /// No chunk from here on has been asked for.
    cursor: u32,
    /// Missing chunks before the cursor.
    again: BTreeSet<ChunkIndex>,
    /// Claimed chunks that wait for their check.
    unchecked: BTreeSet<ChunkIndex>,
    asked: usize,
    checking: usize,
    held: u32,
    /// All chunks before this one are held.
    held_before: u32,
    claimed: u32,
    bytes_done: u64,
}

impl Default for Chunks {
    fn default() -> Self {
        Self {
            chunking: Chunking::of(Extent { bytes: 0, whole: false }).expect("nothing is not too large"),
            slots: Vec::new(),
            claims: Held::new(),
            cursor: 0,
            again: BTreeSet::new(),
            unchecked: BTreeSet::new(),
            asked: 0,
            checking: 0,
            held: 0,
            held_before: 0,
            claimed: 0,
            bytes_done: 0,
        }
    }
}

impl Chunks {
    /// Takes the claims of an earlier attempt, before anything can be had.
    pub(super) fn claim(&mut self, held: Held) {
        self.claims = held;
    }

    /// Takes notice of how far the snapshot has been written.
    pub(super) fn grow(&mut self, extent: Extent) -> Result<(), ReceiveError> {
        let known = self.chunking.extent();
        if extent.bytes < known.bytes || (known.whole && extent != known) {
            return Err(ReceiveError::Shrunk { from: known.bytes, to: extent.bytes });
        }
        self.chunking = Chunking::of(extent)?;
        let count = self.chunking.count();
        for index in (self.slots.len() as u32..count).map(ChunkIndex) {
            let slot = match self.claims.remove(&index) {
                Some(digest) => {
                    self.unchecked.insert(index);
                    Slot::Claimed(digest)
                }
                None => Slot::Missing,
            };
            self.slots.push(slot);
        }
        Ok(())
    }

    pub(super) fn chunking(&self) -> &Chunking {
        &self.chunking
    }

    pub(super) fn bytes_done(&self) -> u64 {
        self.bytes_done
    }

    pub(super) fn held_before(&self) -> u32 {
        self.held_before
    }

    pub(super) fn held_prefix_bytes(&self) -> u64 {
        let last = self.held_before.checked_sub(1).and_then(|last| self.chunking.span(ChunkIndex(last)).ok());
        last.map_or(0, |span| span.offset.saturating_add(span.bytes.into()))
    }

    /// Chunks of an earlier attempt that were found good.
    pub(super) fn claimed(&self) -> u32 {
        self.claimed
    }

    /// Chunks that were asked for and have not come.
    pub(super) fn asked(&self) -> usize {
        self.asked
    }

    pub(super) fn checking(&self) -> usize {
        self.checking
    }

    /// Whether the snapshot is whole, and all of it here.
    pub(super) fn all_held(&self) -> bool {
        self.chunking.is_whole() && self.held == self.chunking.count()
    }

    /// Chunks that can be had and are neither here nor on their way.
    pub(super) fn missing(&self) -> usize {
        let elsewhere = self.held as usize + self.asked + self.checking + self.unchecked.len();
        self.slots.len().saturating_sub(elsewhere)
    }

    /// Picks the next chunk to ask for: the first that is missing.
    pub(super) fn ask(&mut self) -> Option<ChunkIndex> {
        let index = match self.again.pop_first() {
            Some(index) => index,
            None => {
                let rest = self.slots.get(self.cursor as usize..)?;
                let found = (self.cursor..).zip(rest).find(|(_, slot)| **slot == Slot::Missing);
                let Some((index, _)) = found else {
                    self.cursor = self.slots.len() as u32;
                    return None;
                };
                self.cursor = index + 1;
                ChunkIndex(index)
            }
        };
        *self.slots.get_mut(index.0 as usize)? = Slot::Asked;
        self.asked += 1;
        Some(index)
    }

    /// Picks the next claim to check.
    pub(super) fn check(&mut self) -> Option<(ChunkIndex, ChunkDigest)> {
        let index = self.unchecked.pop_first()?;
        let slot = self.slots.get_mut(index.0 as usize)?;
        let Slot::Claimed(digest) = *slot else { return None };
        *slot = Slot::Checking(digest);
        self.checking += 1;
        Some((index, digest))
    }

    fn slot(&mut self, index: ChunkIndex) -> Result<&mut Slot, ReceiveError> {
        let past_end = ChunkError::PastEnd { index: index.0, count: self.chunking.count() };
        self.slots.get_mut(index.0 as usize).ok_or(ReceiveError::PastEnd(past_end))
    }

    /// The slot of a chunk that must have been asked for.
    fn slot_asked(&mut self, index: ChunkIndex) -> Result<&mut Slot, ReceiveError> {
        let slot = self.slot(index)?;
        match slot {
            Slot::Asked => Ok(slot),
            Slot::Missing => Err(ReceiveError::Unasked(index)),
            Slot::Claimed(_) | Slot::Checking(_) | Slot::Held { .. } => Err(ReceiveError::Duplicate(index)),
        }
    }

    pub(super) fn written(&mut self, index: ChunkIndex, sums: ChunkSums) -> Result<(), ReceiveError> {
        *self.slot_asked(index)? = Slot::Held { sums, claimed: false };
        self.asked -= 1;
        self.hold(index);
        Ok(())
    }

    /// Puts a chunk that did not come back among the missing ones.
    pub(super) fn give_back(&mut self, index: ChunkIndex) -> Result<(), ReceiveError> {
        self.slot_asked(index)?;
        self.asked -= 1;
        self.miss(index);
        Ok(())
    }

    /// Takes what reading a claimed chunk back has shown: its checksum, or nothing if it is not what was claimed.
    pub(super) fn checked(&mut self, index: ChunkIndex, crc: Option<Checksum>) -> Result<(), ReceiveError> {
        let slot = self.slot(index)?;
        let Slot::Checking(digest) = *slot else { return Err(ReceiveError::Unasked(index)) };
        if let Some(crc) = crc {
            *slot = Slot::Held { sums: ChunkSums { digest, crc }, claimed: true };
            self.claimed += 1;
            self.hold(index);
        } else {
            self.miss(index);
        }
        self.checking -= 1;
        Ok(())
    }

    /// Drops everything that an earlier attempt has left.
    pub(super) fn drop_claimed(&mut self) {
        let claimed = (0..).zip(&self.slots).filter(|(_, slot)| matches!(slot, Slot::Held { claimed: true, .. }));
        let claimed: Vec<_> = claimed.map(|(index, _)| ChunkIndex(index)).collect();
        for index in claimed {
            self.held -= 1;
            self.bytes_done = self.bytes_done.saturating_sub(self.bytes(index));
            self.miss(index);
        }
        self.claimed = 0;
    }

    fn hold(&mut self, index: ChunkIndex) {
        self.held += 1;
        self.bytes_done += self.bytes(index);
        let rest = self.slots.get(self.held_before as usize..).unwrap_or_default();
        self.held_before += rest.iter().take_while(|slot| matches!(slot, Slot::Held { .. })).count() as u32;
    }

    fn miss(&mut self, index: ChunkIndex) {
        if let Some(slot) = self.slots.get_mut(index.0 as usize) {
            *slot = Slot::Missing;
            self.held_before = self.held_before.min(index.0);
            // Beyond the cursor the search finds it by itself.
            if index.0 < self.cursor {
                self.again.insert(index);
            }
        }
    }

    /// The hash of the whole file and the checksum of its bytes, once all chunks are held.
    pub(super) fn sums(&self) -> (FileDigest, Checksum) {
        let held = || {
            self.slots.iter().filter_map(|slot| match slot {
                Slot::Held { sums, .. } => Some(*sums),
                _ => None,
            })
        };
        let digests: Vec<_> = held().map(|sums| sums.digest).collect();
        (file_digest(&digests), held().map(|sums| sums.crc).fold(Checksum::default(), Checksum::followed_by))
    }

    fn bytes(&self, index: ChunkIndex) -> u64 {
        self.chunking.span(index).map_or(0, |span| u64::from(span.bytes))
    }
}
