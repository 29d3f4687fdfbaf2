//! A snapshot that is on no disk of this host: the few chunks of a stream that the target has not written yet.
//!
//! ```text
//!   stream ──room, put──> [ first │ .. │ .. │ filled now ] ──read──> packed, sent, perhaps again
//!                           └── gone when the target says that it has written it
//! ```
//!
//! That a chunk has arrived at the target's transport does not suffice: it may be damaged, or its agent may end before it
//! is written. So each question of the target tells which chunks it has written, and what it has written it can read back
//! for itself. While the window is full there is no room, and whoever fills it stops reading. A chunk that has gone cannot
//! be had again: whoever asks for it needs another snapshot, and hears so.
//! Left out: reading the stream, and whose the snapshot is.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use baton_proto::chunk::{CHUNK_BYTES, ChunkIndex, Chunking};
use baton_proto::data::{Extent, Manifest, SnapshotId};
use baton_proto::digest::{ChunkDigest, FileDigest, file_digest};
use baton_proto::version::RdbFormat;
use baton_proto::{Fault, FaultKind};
use tokio::sync::watch;

use super::growth::{Grower, Growth};

/// Chunks that are kept, with the one that is being filled: 32 MiB. The target asks for all but two of them at a time, and
/// each is there once more as it was packed: with these, and what packs them, an agent stays below 96 MiB.
const WINDOW_CHUNKS: u32 = 8;

/// The window of one stream.
pub struct Window {
    /// Known once the head of the snapshot is there.
    manifest: OnceLock<Manifest>,
    growth: Growth,
    state: Mutex<State>,
    /// How many chunks have left, and how it ended: who waits for either looks here.
    moved: watch::Sender<Moved>,
}

struct State {
    /// None once the stream has ended.
    grower: Option<Grower>,
    /// Index of the first chunk that is kept.
    first: u32,
    kept: VecDeque<Arc<Vec<u8>>>,
    /// Digests of the chunks that were read.
    digests: Vec<Option<ChunkDigest>>,
    /// Buffers of chunks that have left, to be filled again.
    spare: Vec<Vec<u8>>,
}

#[derive(Debug, Clone, Default)]
struct Moved {
    /// The target has written all chunks before this one.
    gone: u32,
    /// The target holds the whole snapshot.
    taken: bool,
    failed: Option<Fault>,
}

impl Window {
    /// An empty window of a stream of which nothing is known yet.
    pub(super) fn new(grower: Grower, growth: Growth) -> Window {
        let state =
            State { grower: Some(grower), first: 0, kept: VecDeque::new(), digests: Vec::new(), spare: Vec::new() };
        Window { manifest: OnceLock::new(), growth, state: Mutex::new(state), moved: watch::Sender::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // It is whole between any two statements, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What it offers; nothing until its head is there.
    pub fn manifest(&self) -> Option<&Manifest> {
        self.manifest.get()
    }

    pub(super) fn growth(&self) -> Growth {
        self.growth.clone()
    }

    pub(super) fn extent(&self) -> Result<Extent, Fault> {
        match &self.moved.borrow().failed {
            Some(fault) => Err(fault.clone()),
            None => self.growth.now(),
        }
    }

    // --- the side of the stream ---

    /// Says what the snapshot is. From here on it can be offered.
    pub fn open(&self, snapshot: SnapshotId, format: RdbFormat) {
        let manifest = Manifest { snapshot, format, window: Some(WINDOW_CHUNKS) };
        // Said once; a second time changes nothing.
        let _ = self.manifest.set(manifest);
    }

    /// Waits until one more chunk may be filled, and yields an empty buffer for it.
    pub async fn room(&self) -> Result<Vec<u8>, Fault> {
        let mut moved = self.moved.subscribe();
        loop {
            if let Some(fault) = moved.borrow_and_update().failed.clone() {
                return Err(fault);
            }
            {
                let mut state = self.state();
                if state.kept.len() < WINDOW_CHUNKS as usize {
                    return Ok(state.spare.pop().unwrap_or_default());
                }
            }
            // The sender is this window: it lives as long as the wait.
            let _ = moved.changed().await;
        }
    }

    /// Puts a whole chunk, behind which more follows, in the window.
    pub fn put(&self, chunk: Vec<u8>) {
        let mut state = self.state();
        state.kept.push_back(Arc::new(chunk));
        let bytes = state.end() * CHUNK_BYTES;
        if let Some(grower) = &state.grower {
            // One byte more: a chunk counts once it is known that more follows.
            grower.grew(bytes + 1);
        }
    }

    /// Puts the last bytes in the window: the snapshot is whole.
    pub fn finish(&self, last: Vec<u8>) {
        let mut state = self.state();
        let bytes = state.end() * CHUNK_BYTES + last.len() as u64;
        if !last.is_empty() {
            state.kept.push_back(Arc::new(last));
        }
        if let Some(grower) = state.grower.take() {
            grower.finish(bytes);
        }
    }

    /// Gives the snapshot up. The first reason is the one that is told; one that the target holds cannot fail any more.
    pub fn fail(&self, fault: Fault) {
        let is_first = self.moved.send_if_modified(|moved| {
            let is_first = !moved.taken && moved.failed.is_none();
            if is_first {
                moved.failed = Some(fault.clone());
            }
            is_first
        });
        if is_first {
            let mut state = self.state();
            state.kept.clear();
            state.spare.clear();
            if let Some(grower) = state.grower.take() {
                grower.fail(fault);
            }
        }
    }

    /// Waits until the target has written one more chunk than `gone`, or all, or the snapshot has failed. Tells how many
    /// it has written; none if it has them all.
    pub async fn moved(&self, gone: u32) -> Result<Option<u32>, Fault> {
        let mut heard = self.moved.subscribe();
        let news = heard.wait_for(|moved| moved.taken || moved.failed.is_some() || moved.gone > gone).await;
        let Ok(moved) = news.map(|moved| moved.clone()) else { return Ok(None) };
        match moved.failed {
            Some(fault) => Err(fault),
            None => Ok((!moved.taken).then_some(moved.gone)),
        }
    }

    // --- the side of the target ---

    /// The target has written all chunks before this one.
    pub(super) fn held(&self, before: u32) {
        let mut state = self.state();
        while state.first < before
            && let Some(chunk) = state.kept.pop_front()
        {
            state.first += 1;
            // One that is being packed at the moment is freed by that.
            if let Some(mut buffer) = Arc::into_inner(chunk).filter(|_| state.spare.is_empty()) {
                buffer.clear();
                state.spare.push(buffer);
            }
        }
        let gone = state.first;
        drop(state);
        self.moved.send_if_modified(|moved| {
            let more = moved.gone < gone;
            moved.gone = moved.gone.max(gone);
            more
        });
    }

    /// The target asks for a chunk. One that has gone will be asked for again and again: the snapshot is given up.
    pub(super) fn asked(&self, index: ChunkIndex) -> Result<(), Fault> {
        if index.0 >= self.state().first {
            return Ok(());
        }
        let fault = gone(index);
        self.fail(fault.clone());
        Err(fault)
    }

    /// Reads a chunk and its digest into the buffer.
    pub(super) fn read<'a>(&self, index: ChunkIndex, buffer: &'a mut [u8]) -> Result<(&'a [u8], ChunkDigest), Fault> {
        let chunking = Chunking::of(self.extent()?).map_err(|error| Fault::new(FaultKind::Refused, error))?;
        chunking.span(index).map_err(|error| Fault::new(FaultKind::Invalid, error))?;
        let chunk = {
            let state = self.state();
            let place = index.0.checked_sub(state.first).and_then(|place| state.kept.get(place as usize).cloned());
            place.ok_or_else(|| gone(index))?
        };
        let raw =
            buffer.get_mut(..chunk.len()).ok_or_else(|| Fault::new(FaultKind::Internal, "a chunk is too long"))?;
        raw.copy_from_slice(&chunk);
        drop(chunk);
        let digest = chunking.digest(index, raw);
        let mut state = self.state();
        let place = index.0 as usize;
        if state.digests.len() <= place {
            // Bounded: the chunk was there.
            state.digests.resize(place + 1, None);
        }
        if let Some(slot) = state.digests.get_mut(place) {
            *slot = Some(digest);
        }
        Ok((raw, digest))
    }

    /// Tells the digest of the whole snapshot. The target asks for it when it holds every chunk, so all may go.
    pub(super) fn seal(&self, buffer: &mut [u8]) -> Result<FileDigest, Fault> {
        let chunking = Chunking::of(self.extent()?).map_err(|error| Fault::new(FaultKind::Refused, error))?;
        if !chunking.is_whole() {
            return Err(Fault::new(FaultKind::Invalid, "the snapshot is still being written"));
        }
        let mut digests = Vec::new();
        for index in (0..chunking.count()).map(ChunkIndex) {
            let known = self.state().digests.get(index.0 as usize).copied().flatten();
            digests.push(match known {
                Some(digest) => digest,
                None => self.read(index, buffer)?.1,
            });
        }
        self.held(chunking.count());
        self.moved.send_modify(|moved| moved.taken = true);
        self.state().spare.clear();
        Ok(file_digest(&digests))
    }
}

impl State {
    /// How many chunks were put so far.
    fn end(&self) -> u64 {
        u64::from(self.first) + self.kept.len() as u64
    }
}

fn gone(index: ChunkIndex) -> Fault {
    Fault::new(FaultKind::NotFound, format!("chunk {} of the stream is no longer kept at the source", index.0))
        .because("the target had said that it was written there")
        .hint("take the snapshot again")
}

#[cfg(test)]
mod tests;
