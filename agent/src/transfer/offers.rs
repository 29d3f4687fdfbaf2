//! The source's side: pinned snapshots that are offered to one agent each, read, packed and handed out chunk by chunk.
//!
//! The file is opened once and read by position, never mapped: a file that shrinks is an error here, not a crash. Memory
//! is bounded whatever is asked: a chunk that is being sent holds a permit until the transport has let go of its bytes.
//! Left out: who the peer is (its certificate has told), and making or removing the pin.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use baton_proto::chunk::{CHUNK_BYTES, ChunkIndex, Chunking, Span};
use baton_proto::data::{Extent, FrameHead, Manifest, Packing, PackingFacts, SnapshotId, Ticket};
use baton_proto::digest::{ChunkDigest, FileDigest, file_digest};
use baton_proto::rdb::{HEAD_BYTES_MAX, parse_head};
use baton_proto::{Fault, FaultKind, HostName, RunId};
use bytes::Bytes;
use rustix::fs::OFlags;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::info;

use crate::transfer::bench::Bench;
use crate::transfer::growth::{Grower, Growth, growth};
use crate::transfer::packing::{Packer, digest_of};
use crate::transfer::tickets::Tickets;

/// Most chunks that are read, packed or on their way at a time, over all peers: 48 MiB. One target asks for no more.
const SERVING_MAX: usize = 12;
/// Most chunks read and packed at a time; each needs room for the chunk and its packed form beside those on their way.
const PACKING_MAX: usize = 4;
/// Most snapshots whose growth is remembered; the rest of a run revokes its own.
const GROWTHS_MAX: usize = 64;

/// The snapshots that this agent offers.
pub struct Offers {
    tickets: Mutex<Tickets<Arc<Offer>>>,
    growths: Mutex<BTreeMap<RunId, Growth>>,
    serving: Arc<Semaphore>,
    bench: Bench<Tools>,
}

impl Default for Offers {
    fn default() -> Self {
        // Packing more chunks at a time than there are cores only takes memory.
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            tickets: Mutex::default(),
            growths: Mutex::default(),
            serving: Arc::new(Semaphore::new(SERVING_MAX)),
            bench: Bench::new(cores.min(PACKING_MAX)),
        }
    }
}

#[derive(Default)]
struct Tools {
    packer: Packer,
    raw: Vec<u8>,
}

/// A chunk's bytes on their way, and the permit that bounds how many there are.
struct Sending {
    bytes: Vec<u8>,
    _permit: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Sending {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these mutexes guard is whole between any two statements, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Offers {
    /// Offers a pinned snapshot to the agent of one host. Offered again, it keeps the digests that are known.
    pub fn offer(
        &self,
        pin: &Path,
        snapshot: SnapshotId,
        ticket: Ticket,
        to: HostName,
    ) -> Result<(Manifest, Extent), Fault> {
        let mut offer = Offer::open(pin, snapshot)?;
        let mut tickets = locked(&self.tickets);
        if let Some(earlier) = tickets.offered(&ticket.run).filter(|earlier| earlier.is_same(&offer)) {
            offer.digests = Mutex::new(locked(&earlier.digests).clone());
        }
        let (manifest, extent) = (offer.manifest.clone(), offer.extent());
        let run = ticket.run.clone();
        tickets.insert(ticket, to.clone(), Arc::new(offer))?;
        info!(%run, snapshot = %manifest.snapshot, bytes = extent.bytes, %to, "snapshot is offered");
        Ok((manifest, extent))
    }

    /// Tells a peer what its ticket stands for.
    pub fn open(&self, peer: &HostName, ticket: &Ticket) -> Result<(Manifest, Extent), Fault> {
        let offer = self.admit(peer, ticket)?;
        offer.check_name()?;
        offer.check_file()?;
        Ok((offer.manifest.clone(), offer.extent()))
    }

    /// Reads and packs one chunk.
    pub async fn chunk(&self, peer: &HostName, ticket: &Ticket, index: u32) -> Result<(FrameHead, Bytes), Fault> {
        let offer = self.admit(peer, ticket)?;
        let index = ChunkIndex(index);
        offer.chunking.span(index).map_err(|error| Fault::new(FaultKind::Invalid, error))?;
        let closed = |error| Fault::new(FaultKind::Internal, "the agent is stopping").because(error);
        let permit = Arc::clone(&self.serving).acquire_owned().await.map_err(closed)?;
        let (head, bytes) = self.bench.work(move |tools| offer.pack(index, tools)).await?;
        Ok((head, Bytes::from_owner(Sending { bytes, _permit: permit })))
    }

    /// Tells the digest of the whole file. Only chunks that were never sent are read for it.
    pub async fn seal(&self, peer: &HostName, ticket: &Ticket) -> Result<(FileDigest, PackingFacts), Fault> {
        let offer = self.admit(peer, ticket)?;
        // A peer that lost patience and asks again waits for the reading that is under way.
        let sealing = Arc::clone(&offer.sealing).lock_owned().await;
        self.bench
            .work(move |tools| {
                let digest = offer.seal(tools);
                drop(sealing);
                let chunks = offer.chunking.count();
                Ok((digest?, PackingFacts { mean_level: None, stored: 0, chunks, why: String::new() }))
            })
            .await
    }

    /// Takes up a snapshot that is still being written: an offer of this run then grows with it.
    pub fn grow(&self, run: &RunId) -> Grower {
        let (grower, growth) = growth();
        let mut growths = locked(&self.growths);
        growths.retain(|_, growth| matches!(growth.now(), Ok(extent) if !extent.whole));
        if growths.len() < GROWTHS_MAX {
            growths.insert(run.clone(), growth);
        }
        grower
    }

    /// The growth of a run's snapshot, unless its save was given up: what is pinned then is whole, or gone.
    pub fn growth(&self, run: &RunId) -> Option<Growth> {
        locked(&self.growths).get(run).filter(|growth| growth.now().is_ok()).cloned()
    }

    /// Takes a run's offer back. Chunks on their way still arrive.
    pub fn revoke(&self, run: &RunId) {
        locked(&self.growths).remove(run);
        if locked(&self.tickets).revoke(run).is_some() {
            info!(%run, "snapshot is no longer offered");
        }
    }

    fn admit(&self, peer: &HostName, ticket: &Ticket) -> Result<Arc<Offer>, Fault> {
        Ok(Arc::clone(locked(&self.tickets).lookup(peer, ticket)?))
    }
}

/// What tells a file from another, and from itself after somebody wrote to it. A hard link more or less changes none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl FileIdentity {
    fn of(metadata: &std::fs::Metadata) -> FileIdentity {
        FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

/// One pinned snapshot.
struct Offer {
    pin: PathBuf,
    file: File,
    identity: FileIdentity,
    manifest: Manifest,
    chunking: Chunking,
    /// Digests of the chunks that were read.
    digests: Mutex<Vec<Option<ChunkDigest>>>,
    sealing: Arc<tokio::sync::Mutex<()>>,
}

impl Offer {
    fn open(pin: &Path, snapshot: SnapshotId) -> Result<Offer, Fault> {
        let broken = |error| host(pin, "open the pinned snapshot", error);
        // No link is followed, and what is not a file does not make us wait.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(pin).map_err(broken)?;
        let metadata = file.metadata().map_err(broken)?;
        if !metadata.is_file() {
            return Err(Fault::new(FaultKind::Host, format!("{} is not a file", pin.display())));
        }
        let identity = FileIdentity::of(&metadata);
        let mut head = vec![0; HEAD_BYTES_MAX.min(usize::try_from(identity.bytes).unwrap_or(HEAD_BYTES_MAX))];
        file.read_exact_at(&mut head, 0).map_err(broken)?;
        let damaged = |error: &dyn std::fmt::Display| {
            Fault::new(FaultKind::Verification, format!("{} is no snapshot", pin.display())).because(error)
        };
        let format = parse_head(&head).map_err(|error| damaged(&error))?.format;
        let chunking = Chunking::new(identity.bytes).map_err(|error| damaged(&error))?;
        let manifest = Manifest { snapshot, format };
        let digests = Mutex::new(vec![None; chunking.count() as usize]);
        let sealing = Arc::default();
        Ok(Offer { pin: pin.to_owned(), file, identity, manifest, chunking, digests, sealing })
    }

    fn extent(&self) -> Extent {
        Extent { bytes: self.identity.bytes, whole: true }
    }

    fn is_same(&self, other: &Offer) -> bool {
        self.identity == other.identity && self.manifest == other.manifest
    }

    /// The pin's name must still lead to the file that was offered: else it cannot be opened again after a restart.
    fn check_name(&self) -> Result<(), Fault> {
        let broken = |error| host(&self.pin, "look at the pinned snapshot", error);
        let found = FileIdentity::of(&std::fs::symlink_metadata(&self.pin).map_err(broken)?);
        if (found.device, found.inode) != (self.identity.device, self.identity.inode) {
            return Err(self.changed("another file has taken its place"));
        }
        Ok(())
    }

    /// The file must be as long and as old as it was when it was offered.
    fn check_file(&self) -> Result<(), Fault> {
        let metadata = self.file.metadata().map_err(|error| host(&self.pin, "look at the pinned snapshot", error))?;
        let found = FileIdentity::of(&metadata);
        if found.bytes != self.identity.bytes {
            return Err(self.changed(&format!("it is {} bytes long, it was {}", found.bytes, self.identity.bytes)));
        }
        if found != self.identity {
            return Err(self.changed("it was written to"));
        }
        Ok(())
    }

    fn changed(&self, how: &str) -> Fault {
        let message = format!("the pinned snapshot {} was changed after it was offered", self.pin.display());
        Fault::new(FaultKind::Verification, message)
            .because(how)
            .hint("take a new snapshot, and look for what writes to files in the server's data directory")
    }

    /// Reads a chunk. The file is looked at after the reading: a change before or during it shows.
    fn read<'a>(&self, index: ChunkIndex, buffer: &'a mut Vec<u8>) -> Result<(Span, &'a [u8]), Fault> {
        let span = self.chunking.span(index).map_err(|error| Fault::new(FaultKind::Invalid, error))?;
        buffer.resize(CHUNK_BYTES as usize, 0);
        let raw = buffer.get_mut(..span.bytes as usize).unwrap_or_default();
        let read = self.file.read_exact_at(raw, span.offset);
        self.check_file()?;
        read.map_err(|error| host(&self.pin, &format!("read chunk {} at offset {} of", index.0, span.offset), error))?;
        Ok((span, raw))
    }

    fn pack(&self, index: ChunkIndex, tools: &mut Tools) -> Result<(FrameHead, Vec<u8>), Fault> {
        let (span, raw) = self.read(index, &mut tools.raw)?;
        let digest = digest_of(&self.chunking, index, raw);
        self.remember(index, digest);
        let (packing, bytes) = match tools.packer.pack(raw) {
            Some(packed) => (Packing::Zstd { level: 1 }, packed.to_vec()),
            None => (Packing::Store, raw.to_vec()),
        };
        // Packed it is shorter than the chunk, whose length fits.
        let wire_bytes = bytes.len() as u32;
        Ok((FrameHead { packing, index: index.0, raw_bytes: span.bytes, wire_bytes, digest }, bytes))
    }

    fn remember(&self, index: ChunkIndex, digest: ChunkDigest) {
        if let Some(slot) = locked(&self.digests).get_mut(index.0 as usize) {
            // The first stays: if the file reads otherwise the second time, the seal is to tell of it.
            slot.get_or_insert(digest);
        }
    }

    fn seal(&self, tools: &mut Tools) -> Result<FileDigest, Fault> {
        for index in (0..self.chunking.count()).map(ChunkIndex) {
            let known = locked(&self.digests).get(index.0 as usize).copied().flatten();
            if known.is_none() {
                let (_, raw) = self.read(index, &mut tools.raw)?;
                self.remember(index, digest_of(&self.chunking, index, raw));
            }
        }
        self.check_file()?;
        let digests: Vec<_> = locked(&self.digests).iter().copied().flatten().collect();
        Ok(file_digest(&digests))
    }
}

fn host(pin: &Path, what: &str, error: io::Error) -> Fault {
    let fault = Fault::new(FaultKind::Host, format!("{what} {}", pin.display())).because(&error);
    match error.kind() {
        io::ErrorKind::NotFound => fault.hint("the pin is gone: take a new snapshot"),
        _ => fault,
    }
}
