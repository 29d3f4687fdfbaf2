//! The target's disk. A process that ends leaves everything; a power cut leaves what was synced, and of the rest what it
//! likes: so the map may speak of chunks that are gone.

use std::collections::BTreeMap;

use baton_proto::chunk::ChunkIndex;
use baton_proto::digest::ChunkDigest;

use crate::transfer::dice::Dice;
use crate::transfer::map::Held;

type Chunks = BTreeMap<ChunkIndex, ChunkDigest>;

/// How much of the disk a sync that has begun will have made safe.
#[derive(Debug, Clone)]
pub(super) struct Begun {
    part: Chunks,
    records: usize,
}

#[derive(Debug, Default)]
pub(super) struct Disk {
    /// Whose chunks these are.
    snapshot: Option<u32>,
    part: Chunks,
    safe: Chunks,
    map: Vec<(ChunkIndex, ChunkDigest)>,
    records_safe: usize,
}

impl Disk {
    /// Opens what there is of a snapshot, or begins afresh.
    pub(super) fn open(&mut self, snapshot: u32) -> Held {
        if self.snapshot != Some(snapshot) {
            *self = Disk { snapshot: Some(snapshot), ..Disk::default() };
        }
        self.map.iter().copied().collect()
    }

    pub(super) fn write(&mut self, index: ChunkIndex, digest: ChunkDigest) {
        self.part.insert(index, digest);
    }

    pub(super) fn record(&mut self, index: ChunkIndex, digest: ChunkDigest) {
        self.map.push((index, digest));
    }

    pub(super) fn read(&self, index: ChunkIndex) -> Option<ChunkDigest> {
        self.part.get(&index).copied()
    }

    pub(super) fn begin_sync(&self) -> Begun {
        Begun { part: self.part.clone(), records: self.map.len() }
    }

    pub(super) fn end_sync(&mut self, begun: Begun) {
        self.safe = begun.part;
        self.records_safe = begun.records;
    }

    pub(super) fn is_safe(&self, index: ChunkIndex) -> bool {
        self.part.contains_key(&index) && self.safe.get(&index) == self.part.get(&index)
    }

    /// Chunks that are recorded and there.
    pub(super) fn held(&self) -> impl Iterator<Item = ChunkIndex> {
        let last: Held = self.map.iter().copied().collect();
        last.into_iter().filter(|(index, digest)| self.part.get(index) == Some(digest)).map(|(index, _)| index)
    }

    pub(super) fn cut_power(&mut self, dice: &mut Dice) {
        let safe = std::mem::take(&mut self.safe);
        self.part.retain(|index, digest| safe.get(index) == Some(digest) || dice.once_in(2));
        for (index, digest) in safe {
            self.part.entry(index).or_insert(digest);
        }
        self.safe = self.part.clone();
        // Appended to: what is left of it is its beginning.
        let more = (self.map.len() - self.records_safe) as u64;
        self.map.truncate(self.records_safe + dice.below(more + 1) as usize);
        self.records_safe = self.map.len();
    }
}
