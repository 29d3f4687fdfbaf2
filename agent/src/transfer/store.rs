//! The target's disk: the partial snapshot and, beside it, the map of the chunks that were written. All of it blocks.
//!
//! What a crash leaves: a record is appended after its chunk was written, and neither is synced at once. So a map may
//! speak of chunks that a power cut has taken; it makes claims, which the receiver has checked against the file. To begin
//! afresh, the map goes first (and its directory is synced) and the partial file after it. After a failed sync the map goes.
//! Not here: deciding *when* to sync (see `receiver`), and putting the finished file in its place.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use baton_proto::chunk::{CHUNK_BYTES, ChunkIndex, Chunking, SNAPSHOT_BYTES_MAX, Span};
use baton_proto::data::{Extent, FrameHead, SnapshotId};
use baton_proto::digest::ChunkDigest;
use baton_proto::rdb::{Checksum, TAIL_BYTES};
use baton_proto::{Fault, FaultKind};
use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate, statvfs};
use rustix::io::Errno;
use tracing::{info, warn};

use crate::durable;
use crate::transfer::map::{Held, MapFormat};
use crate::transfer::pieces;

/// Both files hold a copy of all data: nobody but the agent reads them.
const MODE: u32 = 0o600;

/// Where a partial snapshot is kept.
#[derive(Debug, Clone)]
pub struct Place {
    /// The partial snapshot and the map beside it, in the server's data directory.
    pub part: PathBuf,
    pub map: PathBuf,
    /// Space that is to stay free.
    pub free_bytes_min: u64,
    /// Whether a server will read the file at once: then it stays in the page cache. Else it makes room there for what
    /// this host's servers need.
    pub loads: bool,
}

/// A partial snapshot on disk.
pub(super) struct Store {
    part: File,
    map: Mutex<File>,
    format: MapFormat,
    place: Place,
}

/// A store, and what it found.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) held: Held,
    /// Bytes that crossed the network for what earlier attempts have recorded.
    pub(super) wire_bytes: u64,
    /// Bytes of a snapshot for which there is room, what is here included.
    pub(super) room_bytes: u64,
}

impl Store {
    /// Opens what an earlier attempt left of this snapshot, or begins afresh.
    pub(super) fn open(place: &Place, snapshot: &SnapshotId, extent: Extent) -> Result<Opened, Fault> {
        let invalid = |error: &dyn std::fmt::Display| Fault::new(FaultKind::Peer, "the source's offer").because(error);
        Chunking::of(extent).map_err(|error| invalid(&error))?;
        let format = MapFormat::new(snapshot).map_err(|error| invalid(&error))?;
        let room_bytes = room(place)?;
        if extent.bytes > room_bytes {
            return Err(no_room(place, extent.bytes));
        }
        let (part, map, held, wire_bytes) = match reopen(place, &format) {
            Ok(found) => found,
            Err(why) => {
                if let Some(why) = why {
                    let part = place.part.display();
                    warn!(%part, "partial snapshot is not used, the transfer begins afresh: {why}");
                }
                let part = create_part(place, extent)?;
                let map = create_map(&place.map, &format).map_err(|error| host("create", &place.map, &error))?;
                (part, map, Held::new(), 0)
            }
        };
        let store = Store { part, map: Mutex::new(map), format, place: place.clone() };
        Ok(Opened { store, held, wire_bytes, room_bytes })
    }

    /// Writes a chunk to its place, and records it, and what it took on the network.
    pub(super) fn write(&self, head: &FrameHead, span: Span, bytes: &[u8]) -> Result<(), Fault> {
        pieces::write(&self.part, bytes, span.offset).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NOSPC | Errno::DQUOT) => no_room(&self.place, span.offset.saturating_add(CHUNK_BYTES)),
            _ => host("write", &self.place.part, &error).because(format!("at offset {}", span.offset)),
        })?;
        let mut map = self.map.lock().unwrap_or_else(PoisonError::into_inner);
        let record = self.format.record(ChunkIndex(head.index), head.wire_bytes, &head.digest);
        map.write_all(&record).map_err(|error| host("write", &self.place.map, &error))
    }

    /// Reads a claimed chunk, and yields its checksum if it is what was claimed.
    pub(super) fn check(
        &self,
        index: ChunkIndex,
        chunking: &Chunking,
        digest: &ChunkDigest,
        buffer: &mut [u8],
    ) -> Result<Option<Checksum>, Fault> {
        let span = chunking.span(index).map_err(|error| Fault::new(FaultKind::Internal, error))?;
        let bytes = buffer.get_mut(..span.bytes as usize);
        let bytes = bytes.ok_or_else(|| Fault::new(FaultKind::Internal, "a buffer is shorter than a chunk"))?;
        match pieces::read(&self.part, bytes, span.offset) {
            Ok(()) => Ok((chunking.digest(index, bytes) == *digest).then(|| Checksum::of(bytes))),
            // The file ends before what the map says of it.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(host("read back", &self.place.part, &error)),
        }
    }

    /// Syncs all that was written and recorded.
    pub(super) fn sync(&self) -> Result<(), Fault> {
        self.part.sync_data().map_err(|error| self.unsynced(&self.place.part, &error))?;
        let map = self.map.lock().unwrap_or_else(PoisonError::into_inner).try_clone();
        map.and_then(|map| map.sync_data()).map_err(|error| self.unsynced(&self.place.map, &error))?;
        self.leave_cache();
        Ok(())
    }

    /// A sync has failed. The kernel tells so once, and then counts the pages as written: what is read back of them is right
    /// until a power cut, and a later sync finds nothing to do. So nothing here may be claimed any more.
    fn unsynced(&self, path: &Path, error: &io::Error) -> Fault {
        if let Err(error) = durable::remove_file(&self.place.map) {
            warn!(map = %self.place.map.display(), "a map is left whose chunks may not be on disk: {error}");
        }
        host("sync", path, error).hint("see the kernel's log for errors of the disk; the next attempt begins afresh")
    }

    /// Gives the file its length, syncs it, and reads its end.
    pub(super) fn finish(&self, bytes: u64) -> Result<Vec<u8>, Fault> {
        let failed = |what: &'static str| move |error: io::Error| host(what, &self.place.part, &error);
        if self.part.metadata().map_err(failed("look at"))?.len() != bytes {
            self.part.set_len(bytes).map_err(failed("give its length to"))?;
        }
        self.part.sync_all().map_err(|error| self.unsynced(&self.place.part, &error))?;
        let length = TAIL_BYTES.min(usize::try_from(bytes).unwrap_or(TAIL_BYTES));
        let mut tail = vec![0; length];
        self.part.read_exact_at(&mut tail, bytes - length as u64).map_err(failed("read the end of"))?;
        self.leave_cache();
        Ok(tail)
    }

    fn leave_cache(&self) {
        if !self.place.loads {
            // Advice: a file system that does not take it keeps the pages, and all is well.
            let _ = fadvise(&self.part, 0, None, Advice::DontNeed);
        }
    }
}

/// Opens what is there. An error says why it is of no use; `None` when there is nothing.
fn reopen(place: &Place, format: &MapFormat) -> Result<(File, File, Held, u64), Option<String>> {
    let open = |path: &Path, options: OpenOptions| match options.open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(None),
        Err(error) => Err(Some(format!("open {}: {error}", path.display()))),
    };
    let words = |error: io::Error| Some(error.to_string());
    let (part, map) = (open(&place.part, options())?, open(&place.map, appending())?);
    let metadata = part.metadata().map_err(words)?;
    if !metadata.is_file() || metadata.len() > SNAPSHOT_BYTES_MAX {
        return Err(Some("it is no file of ours".to_owned()));
    }
    // Fits: bounded above.
    let chunks_max = metadata.len().div_ceil(CHUNK_BYTES) as u32;
    let parsed = format.read(BufReader::new(&map), chunks_max).map_err(|error| Some(error.to_string()))?;
    if parsed.torn {
        info!(map = %place.map.display(), good_bytes = parsed.good_bytes, "the end of the chunk map is cut off");
        map.set_len(parsed.good_bytes).map_err(words)?;
    }
    for file in [&part, &map] {
        file.set_permissions(std::fs::Permissions::from_mode(MODE)).map_err(words)?;
    }
    Ok((part, map, parsed.held, parsed.wire_bytes))
}

/// No link is followed: the data directory is the server's, and the agent may be mightier than the server.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(MODE).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

/// Records of a pull that was given up while a worker still wrote stand beside those of the next, never over them.
fn appending() -> OpenOptions {
    let mut options = options();
    options.append(true);
    options
}

fn create_part(place: &Place, extent: Extent) -> Result<File, Fault> {
    let create = |error: io::Error| host("create", &place.part, &error);
    durable::remove_file(&place.map).map_err(|error| host("remove", &place.map, &error))?;
    durable::remove_file(&place.part).map_err(create)?;
    let part = options().create_new(true).open(&place.part).map_err(create)?;
    match allocate(&part, extent) {
        Ok(()) => Ok(part),
        Err(error) => {
            // Nothing was fetched yet: a file that takes up the last space helps nobody.
            if let Err(error) = durable::remove_file(&place.part) {
                warn!(part = %place.part.display(), "an unused file is left: {error}");
            }
            Err(match Errno::from_io_error(&error) {
                Some(Errno::NOSPC | Errno::DQUOT) => no_room(place, extent.bytes),
                _ => create(error),
            })
        }
    }
}

/// Reserves what is known of the length at once where the file system can, so that a full disk shows now and not at the
/// end. What a save is still to write is not known.
fn allocate(part: &File, extent: Extent) -> io::Result<()> {
    if extent.bytes == 0 {
        return Ok(());
    }
    match fallocate(part, FallocateFlags::empty(), 0, extent.bytes) {
        Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => part.set_len(extent.bytes),
        other => other.map_err(io::Error::from),
    }
}

fn create_map(path: &Path, format: &MapFormat) -> io::Result<File> {
    let mut map = appending().create_new(true).open(path)?;
    map.write_all(format.head())?;
    map.sync_all()?;
    durable::fsync_dir(path.parent().unwrap_or(Path::new(".")))?;
    Ok(map)
}

/// Bytes of a snapshot for which there is room. What an earlier attempt has allocated counts as ours, however full the
/// disk has become since.
fn room(place: &Place) -> Result<u64, Fault> {
    use std::os::unix::fs::MetadataExt;
    let dir = place.part.parent().unwrap_or(Path::new("."));
    let found = statvfs(dir).map_err(|error| host("look for free space in", dir, &error.into()))?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    // Blocks of 512 bytes, whatever the file system's own are (stat(2)).
    let allocated = std::fs::symlink_metadata(&place.part).map_or(0, |found| found.blocks().saturating_mul(512));
    Ok(allocated.saturating_add(free.saturating_sub(place.free_bytes_min)))
}

fn no_room(place: &Place, bytes: u64) -> Fault {
    let dir = place.part.parent().unwrap_or(Path::new("."));
    let room = room(place).unwrap_or(0);
    let missing = bytes.saturating_sub(room);
    let reserve = place.free_bytes_min;
    Fault::new(FaultKind::Host, format!("no room for the snapshot in {}", dir.display()))
        .because(format!(
            "{bytes} bytes are needed; beside {reserve} that are to stay free there is room for {room}: {missing} bytes are missing"
        ))
        .hint(format!("free at least {missing} bytes on the file system of {}", dir.display()))
}

fn host(what: &str, path: &Path, error: &io::Error) -> Fault {
    let fault = Fault::new(FaultKind::Host, format!("{what} {}", path.display())).because(error);
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            fault.hint(format!("the agent's user needs write access to {}", path.display()))
        }
        _ => fault,
    }
}

#[cfg(test)]
mod tests;
