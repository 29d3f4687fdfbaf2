//! Where the chunks of an offer come from: a pinned file, or the window of a stream.

use std::sync::Arc;

use baton_proto::chunk::{ChunkIndex, Chunking};
use baton_proto::data::{Extent, Manifest};
use baton_proto::digest::{ChunkDigest, FileDigest};
use baton_proto::{Fault, FaultKind};

use super::pinned::Pinned;
use crate::transfer::growth::Growth;
use crate::transfer::sender::BACKLOG_BYTES;
use crate::transfer::window::Window;

pub(super) enum Origin {
    File(Pinned),
    Window(Manifest, Arc<Window>),
}

impl Origin {
    /// Takes over what an earlier offer knows of the same snapshot. A window knows it by itself.
    pub(super) fn learn_from(&mut self, other: &Origin) {
        if let (Origin::File(own), Origin::File(other)) = (self, other) {
            own.learn_from(other);
        }
    }

    /// How many of so many workers pack by default. What a window keeps takes as much memory as some workers, and the fork that
    /// fills it wants a core.
    pub(super) fn workers(&self, most: usize) -> usize {
        match self {
            Origin::File(_) => most,
            Origin::Window(..) => most.saturating_sub(1).max(1),
        }
    }

    /// How much that is packed may wait for the wire. What a window keeps is in memory as well, and no more of it can be had.
    pub(super) fn backlog_bytes(&self) -> u64 {
        match self {
            Origin::File(_) => BACKLOG_BYTES,
            Origin::Window(..) => BACKLOG_BYTES / 2,
        }
    }

    pub(super) fn manifest(&self) -> &Manifest {
        match self {
            Origin::File(pinned) => &pinned.manifest,
            Origin::Window(manifest, _) => manifest,
        }
    }

    pub(super) fn growth(&self) -> Option<Growth> {
        match self {
            Origin::File(pinned) => pinned.growth(),
            Origin::Window(_, window) => Some(window.growth()),
        }
    }

    pub(super) fn extent(&self) -> Result<Extent, Fault> {
        match self {
            Origin::File(pinned) => pinned.extent(),
            Origin::Window(_, window) => window.extent(),
        }
    }

    pub(super) fn chunking(&self) -> Result<Chunking, Fault> {
        Chunking::of(self.extent()?).map_err(|error| Fault::new(FaultKind::Refused, error))
    }

    /// Sees that what is offered can still be had, before a new attempt begins.
    pub(super) fn check(&self) -> Result<(), Fault> {
        match self {
            Origin::File(pinned) => pinned.check_name(),
            Origin::Window(..) => self.extent().map(drop),
        }
    }

    /// Takes notice that the target has written all chunks before this one.
    pub(super) fn held(&self, before: u32) {
        if let Origin::Window(_, window) = self {
            window.held(before);
        }
    }

    /// Takes notice that the target asks for a chunk.
    pub(super) fn asked(&self, index: ChunkIndex) -> Result<(), Fault> {
        match self {
            Origin::File(_) => Ok(()),
            Origin::Window(_, window) => window.asked(index),
        }
    }

    /// Reads a chunk and its digest into the buffer.
    pub(super) fn read<'a>(&self, index: ChunkIndex, buffer: &'a mut [u8]) -> Result<(&'a [u8], ChunkDigest), Fault> {
        match self {
            Origin::File(pinned) => pinned.read(index, buffer),
            Origin::Window(_, window) => window.read(index, buffer),
        }
    }

    /// Tells the digest of the whole snapshot; `done` hears how far the reading is that this may take.
    pub(super) fn seal(&self, buffer: &mut [u8], done: impl Fn(u64)) -> Result<FileDigest, Fault> {
        match self {
            Origin::File(pinned) => pinned.seal(buffer, done),
            Origin::Window(_, window) => window.seal(buffer),
        }
    }
}
