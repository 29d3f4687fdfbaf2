//! One pinned snapshot: a file that is read by position, hashed and packed.
//!
//! The file is opened once and never mapped: one that shrinks is an error here, not a crash. While the server still writes
//! it, only what is known to be written is read.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use baton_proto::chunk::{ChunkIndex, Chunking, Span};
use baton_proto::data::{Extent, Manifest, SnapshotId};
use baton_proto::digest::{ChunkDigest, FileDigest, file_digest};
use baton_proto::rdb::{HEAD_BYTES_MAX, parse_head};
use baton_proto::{Fault, FaultKind};
use rustix::fs::{Advice, OFlags, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::transfer::growth::Growth;
use crate::transfer::pieces::{self, PIECE_BYTES};

/// What tells a file from another, and from itself after somebody wrote to it. A hard link or a name more or less changes
/// none of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl FileIdentity {
    fn of(metadata: &Metadata) -> FileIdentity {
        FileIdentity {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

pub(super) struct Pinned {
    path: PathBuf,
    file: File,
    pub(super) manifest: Manifest,
    /// Set while the save that writes it is followed.
    growth: Option<Growth>,
    /// What the file was when it was first seen whole.
    identity: OnceLock<FileIdentity>,
    /// Digests of the chunks that were read.
    digests: Mutex<Vec<Option<ChunkDigest>>>,
}

impl Pinned {
    pub(super) fn open(path: &Path, snapshot: SnapshotId, growth: Option<Growth>) -> Result<Pinned, Fault> {
        let broken = |error| host(path, "open the pinned snapshot", error);
        // No link is followed, and what is not a file does not make us wait.
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let file = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(broken)?;
        let metadata = file.metadata().map_err(broken)?;
        if !metadata.is_file() {
            return Err(Fault::new(FaultKind::Host, format!("{} is not a file", path.display())));
        }
        let mut head = vec![0; HEAD_BYTES_MAX.min(usize::try_from(metadata.len()).unwrap_or(HEAD_BYTES_MAX))];
        file.read_exact_at(&mut head, 0).map_err(broken)?;
        let format = parse_head(&head).map_err(|error| {
            Fault::new(FaultKind::Verification, format!("{} is no snapshot", path.display())).because(error)
        })?;
        let manifest = Manifest { snapshot, format: format.format, window: None };
        let pinned = Pinned {
            path: path.to_owned(),
            file,
            manifest,
            growth,
            identity: OnceLock::new(),
            digests: Mutex::default(),
        };
        pinned.chunking()?;
        Ok(pinned)
    }

    /// Takes over what another knows of the same file.
    pub(super) fn learn_from(&mut self, other: &Pinned) {
        let same = |one: &Pinned| one.file.metadata().map(|found| (found.dev(), found.ino())).ok();
        if self.manifest == other.manifest && same(self) == same(other) && same(self).is_some() {
            self.digests = Mutex::new(other.digests().clone());
            self.identity = other.identity.clone();
        }
    }

    fn digests(&self) -> MutexGuard<'_, Vec<Option<ChunkDigest>>> {
        // The list is whole between any two statements, so a panic elsewhere does not spoil it.
        self.digests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn growth(&self) -> Option<Growth> {
        self.growth.clone()
    }

    /// How far the file has been written. A file that is whole must be as it was when it was first seen so.
    pub(super) fn extent(&self) -> Result<Extent, Fault> {
        let extent = match &self.growth {
            Some(growth) => growth.now()?,
            None => Extent { bytes: self.identity()?.bytes, whole: true },
        };
        if extent.whole {
            self.check(extent.bytes)?;
        }
        Ok(extent)
    }

    /// How the file is cut, as far as it has been written.
    pub(super) fn chunking(&self) -> Result<Chunking, Fault> {
        Chunking::of(self.extent()?).map_err(|error| Fault::new(FaultKind::Refused, error))
    }

    fn identity(&self) -> Result<FileIdentity, Fault> {
        let metadata = self.file.metadata();
        let metadata = metadata.map_err(|error| host(&self.path, "look at the pinned snapshot", error))?;
        Ok(*self.identity.get_or_init(|| FileIdentity::of(&metadata)))
    }

    fn check(&self, bytes: u64) -> Result<(), Fault> {
        let broken = |error| host(&self.path, "look at the pinned snapshot", error);
        let expected = self.identity()?;
        let found = FileIdentity::of(&self.file.metadata().map_err(broken)?);
        if found.bytes != bytes {
            return Err(self.changed(&format!("it is {} bytes long, it was {bytes}", found.bytes)));
        }
        if found != expected {
            return Err(self.changed("it was written to"));
        }
        Ok(())
    }

    /// The pin's name must still lead to this file: else it cannot be opened again after a restart.
    pub(super) fn check_name(&self) -> Result<(), Fault> {
        let broken = |error| host(&self.path, "look at the pinned snapshot", error);
        let named = std::fs::symlink_metadata(&self.path).map_err(broken)?;
        let open = self.file.metadata().map_err(broken)?;
        if (named.dev(), named.ino()) != (open.dev(), open.ino()) {
            return Err(self.changed("another file has taken its place"));
        }
        Ok(())
    }

    fn changed(&self, how: &str) -> Fault {
        let message = format!("the pinned snapshot {} was changed after it was offered", self.path.display());
        Fault::new(FaultKind::Verification, message)
            .because(how)
            .hint("take a new snapshot, and look for what writes to files in the server's data directory")
    }

    /// Reads a chunk and its digest into the buffer. The file is looked at after the reading: a change before or during
    /// it shows.
    pub(super) fn read<'a>(&self, index: ChunkIndex, buffer: &'a mut [u8]) -> Result<(&'a [u8], ChunkDigest), Fault> {
        let chunking = self.chunking()?;
        let span = chunking.span(index).map_err(|error| Fault::new(FaultKind::Invalid, error))?;
        let raw = buffer.get_mut(..span.bytes as usize).unwrap_or_default();
        let read = self.read_politely(raw, span);
        self.extent()?;
        let what = || format!("read chunk {} at offset {} of", index.0, span.offset);
        read.map_err(|error| host(&self.path, &what(), error))?;
        let digest = chunking.digest(index, raw);
        self.remember(index, digest);
        Ok((raw, digest))
    }

    /// Reads, and leaves the page cache as it was: what a server of this host had there stays, and what it had not does not
    /// push it out.
    fn read_politely(&self, raw: &mut [u8], span: Span) -> io::Result<()> {
        let mut done = 0;
        while let Some(rest) = raw.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let at = span.offset + done as u64;
            let (piece, _) = rest.split_at_mut(rest.len().min(PIECE_BYTES));
            match preadv2(&self.file, &mut [IoSliceMut::new(piece)], at, ReadWriteFlags::NOWAIT) {
                Ok(read) if read > 0 => done += read,
                Err(Errno::INTR) => {}
                // Not in the cache, or a file system that cannot tell.
                _ => {
                    pieces::read(&self.file, rest, at)?;
                    // Advice: a file system that does not take it keeps the pages, and all is well.
                    let _ = fadvise(&self.file, at, NonZeroU64::new(rest.len() as u64), Advice::DontNeed);
                    break;
                }
            }
        }
        Ok(())
    }

    fn remember(&self, index: ChunkIndex, digest: ChunkDigest) {
        let mut digests = self.digests();
        let place = index.0 as usize;
        if digests.len() <= place {
            // Bounded: the chunk was read, so the file is as long.
            digests.resize(place + 1, None);
        }
        if let Some(slot) = digests.get_mut(place) {
            // The first stays: if the file reads otherwise the second time, the seal is to tell of it.
            slot.get_or_insert(digest);
        }
    }

    /// Tells the digest of the whole file. Only chunks that were never sent are read for it; `done` hears how far it is.
    pub(super) fn seal(&self, buffer: &mut [u8], done: impl Fn(u64)) -> Result<FileDigest, Fault> {
        let chunking = self.chunking()?;
        if !chunking.is_whole() {
            return Err(Fault::new(FaultKind::Invalid, "the snapshot is still being written"));
        }
        for index in (0..chunking.count()).map(ChunkIndex) {
            if self.digests().get(index.0 as usize).copied().flatten().is_none() {
                self.read(index, buffer)?;
            }
            done(chunking.span(index).map_or(0, |span| span.offset + u64::from(span.bytes)));
        }
        self.extent()?;
        let digests: Vec<_> = self.digests().iter().copied().flatten().collect();
        Ok(file_digest(&digests))
    }
}

fn host(path: &Path, what: &str, error: io::Error) -> Fault {
    let fault = Fault::new(FaultKind::Host, format!("{what} {}", path.display())).because(&error);
    match error.kind() {
        io::ErrorKind::NotFound => fault.hint("the pin is gone: take a new snapshot"),
        _ => fault,
    }
}
