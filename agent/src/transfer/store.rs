//! The target's disk: the partial snapshot and, beside it, the map of the chunks that are held. All of it blocks.
//!
//! What a crash leaves: a chunk's record is appended only after the chunk's bytes are synced, and is synced itself before
//! the receiver hears of it; so at any point the map names only chunks that are whole. To begin afresh, the map goes
//! first (and its directory is synced) and the partial file after it, so that no old map can speak for a new file.
//! Not here: deciding *when* to sync (see `receiver`), and putting the finished file in its place.

use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::transfer::Whole;
use baton_proto::chunk::{CHUNK_BYTES, ChunkIndex, Chunking, Span};
use baton_proto::digest::{ChunkDigest, file_digest};
use baton_proto::rdb::Checker;
use baton_proto::{Fault, FaultKind};
use rustix::fs::{FallocateFlags, OFlags, fallocate, statvfs};
use rustix::io::Errno;
use tracing::{info, warn};

use crate::durable;
use crate::transfer::map::{Held, MapFormat};
use crate::transfer::packing::digest_of;
use crate::transfer::receiver::Verdict;

/// Both files hold a copy of all data: nobody but the agent reads them.
const MODE: u32 = 0o600;

/// A partial snapshot on disk.
pub(super) struct Store {
    part: File,
    part_path: PathBuf,
    map: Mutex<File>,
    map_path: PathBuf,
    format: MapFormat,
    chunking: Chunking,
    /// Free space that is to stay, for the words of an error.
    free_bytes_min: u64,
}

impl Store {
    /// Opens what an earlier attempt left of this snapshot, or begins afresh; tells which chunks are held.
    pub(super) fn open(
        part_path: &Path,
        map_path: &Path,
        manifest: &Whole,
        free_bytes_min: u64,
    ) -> Result<(Store, Held), Fault> {
        let invalid = |error: &dyn std::fmt::Display| Fault::new(FaultKind::Peer, "the source's offer").because(error);
        let chunking = Chunking::new(manifest.bytes).map_err(|error| invalid(&error))?;
        let format = MapFormat::new(manifest).map_err(|error| invalid(&error))?;
        check_room(part_path, manifest.bytes, free_bytes_min)?;
        let (part, map, held) = match reopen(part_path, map_path, &format, &chunking) {
            Ok(found) => found,
            Err(why) => {
                if let Some(why) = why {
                    warn!(part = %part_path.display(), "partial snapshot is not used, the transfer begins afresh: {why}");
                }
                let part = create_part(part_path, map_path, manifest.bytes, free_bytes_min)?;
                let map = create_map(map_path, &format).map_err(|error| host("create", map_path, &error))?;
                (part, map, vec![None; chunking.count() as usize])
            }
        };
        let store = Store {
            part,
            part_path: part_path.to_owned(),
            map: Mutex::new(map),
            map_path: map_path.to_owned(),
            format,
            chunking,
            free_bytes_min,
        };
        Ok((store, held))
    }

    pub(super) fn chunking(&self) -> &Chunking {
        &self.chunking
    }

    /// Writes a chunk to its place. It is not safe until it is synced.
    pub(super) fn write(&self, span: Span, bytes: &[u8]) -> Result<(), Fault> {
        self.part.write_all_at(bytes, span.offset).map_err(|error| match Errno::from_io_error(&error) {
            Some(Errno::NOSPC | Errno::DQUOT) => {
                // The file may have holes: nobody knows better what is still to come than the whole.
                no_room(&self.part_path, self.chunking.bytes(), self.free_bytes_min)
            }
            _ => host("write", &self.part_path, &error).because(format!("at offset {}", span.offset)),
        })
    }

    /// Syncs all that was written, then records the batch, then syncs the record.
    pub(super) fn sync(&self, batch: &[(ChunkIndex, ChunkDigest)]) -> Result<(), Fault> {
        self.part.sync_data().map_err(|error| host("sync", &self.part_path, &error))?;
        let records: Vec<u8> = batch.iter().flat_map(|(index, digest)| self.format.record(*index, digest)).collect();
        let mut map = self.map.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        map.write_all(&records).and_then(|()| map.sync_data()).map_err(|error| host("write", &self.map_path, &error))
    }

    /// Reads the whole file back, compares every chunk with its digest, checks what the snapshot says of itself, and
    /// syncs the file with its length. `done` counts the bytes.
    pub(super) fn verify(&self, digests: &[ChunkDigest], done: &AtomicU64) -> Result<Verdict, Fault> {
        let read = |error: io::Error| host("read back", &self.part_path, &error);
        let length = self.part.metadata().map_err(read)?.len();
        if length != self.chunking.bytes() {
            let expected = self.chunking.bytes();
            let fault = Fault::new(FaultKind::Host, format!("{} is changed by others", self.part_path.display()));
            return Err(fault.because(format!("it is {length} bytes long instead of {expected}")));
        }
        let (mut checker, mut bad) = (Checker::default(), Vec::new());
        let mut found = Vec::with_capacity(digests.len());
        let mut buffer = vec![0; CHUNK_BYTES as usize];
        for (number, recorded) in (0..self.chunking.count()).zip(digests) {
            let index = ChunkIndex(number);
            let span = self.chunking.span(index).map_err(|error| Fault::new(FaultKind::Internal, error))?;
            let chunk = buffer.get_mut(..span.bytes as usize).unwrap_or_default();
            self.part.read_exact_at(chunk, span.offset).map_err(read)?;
            let digest = digest_of(&self.chunking, index, chunk);
            if digest != *recorded {
                bad.push(index);
            }
            found.push(digest);
            checker.update(chunk);
            done.fetch_add(u64::from(span.bytes), Ordering::Relaxed);
        }
        self.part.sync_all().map_err(|error| host("sync", &self.part_path, &error))?;
        Ok(Verdict { bad, digest: file_digest(&found), rdb: checker.finish() })
    }
}

/// Opens what is there. An error says why it is of no use; `None` when there is nothing.
fn reopen(
    part_path: &Path,
    map_path: &Path,
    format: &MapFormat,
    chunking: &Chunking,
) -> Result<(File, File, Held), Option<String>> {
    let open = |path: &Path| match options().open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(None),
        Err(error) => Err(Some(format!("open {}: {error}", path.display()))),
    };
    let words = |error: io::Error| Some(error.to_string());
    let (part, mut map) = (open(part_path)?, open(map_path)?);
    let metadata = part.metadata().map_err(words)?;
    if !metadata.is_file() || metadata.len() != chunking.bytes() {
        return Err(Some(format!("it is {} bytes long instead of {}", metadata.len(), chunking.bytes())));
    }
    let parsed = format.read(BufReader::new(&map)).map_err(|error| Some(error.to_string()))?;
    if parsed.torn {
        info!(map = %map_path.display(), good_bytes = parsed.good_bytes, "the end of the chunk map was torn and is cut off");
        map.set_len(parsed.good_bytes).map_err(words)?;
    }
    map.seek(SeekFrom::Start(parsed.good_bytes)).map_err(words)?;
    for file in [&part, &map] {
        file.set_permissions(std::fs::Permissions::from_mode(MODE)).map_err(words)?;
    }
    Ok((part, map, parsed.held))
}

/// No link is followed: the data directory is the server's, and the agent may be mightier than the server.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).write(true).mode(MODE).custom_flags(OFlags::NOFOLLOW.bits().cast_signed());
    options
}

fn create_part(part_path: &Path, map_path: &Path, bytes: u64, free_bytes_min: u64) -> Result<File, Fault> {
    let create = |error: io::Error| host("create", part_path, &error);
    durable::remove_file(map_path).map_err(|error| host("remove", map_path, &error))?;
    durable::remove_file(part_path).map_err(create)?;
    let part = options().create_new(true).open(part_path).map_err(create)?;
    match allocate(&part, bytes) {
        Ok(()) => Ok(part),
        Err(error) => {
            // Nothing was fetched yet: a file that takes up the last space helps nobody.
            if let Err(error) = durable::remove_file(part_path) {
                warn!(part = %part_path.display(), "an unused file is left: {error}");
            }
            Err(match Errno::from_io_error(&error) {
                Some(Errno::NOSPC | Errno::DQUOT) => no_room(part_path, bytes, free_bytes_min),
                _ => create(error),
            })
        }
    }
}

/// Reserves the whole length at once where the file system can, so that a full disk shows now and not at the end.
fn allocate(part: &File, bytes: u64) -> io::Result<()> {
    if bytes > 0 {
        match fallocate(part, FallocateFlags::empty(), 0, bytes) {
            Ok(()) => return Ok(()),
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    part.set_len(bytes)
}

fn create_map(path: &Path, format: &MapFormat) -> io::Result<File> {
    let mut map = options().create_new(true).open(path)?;
    map.write_all(format.head())?;
    map.sync_all()?;
    durable::fsync_dir(path.parent().unwrap_or(Path::new(".")))?;
    Ok(map)
}

/// Refuses a snapshot for which there is no room, before anything is written.
fn check_room(part_path: &Path, bytes: u64, free_bytes_min: u64) -> Result<(), Fault> {
    let free = free_bytes(part_path)?;
    if missing_bytes(part_path, bytes, free_bytes_min, free) > 0 {
        return Err(no_room(part_path, bytes, free_bytes_min));
    }
    Ok(())
}

fn free_bytes(part_path: &Path) -> Result<u64, Fault> {
    let dir = part_path.parent().unwrap_or(Path::new("."));
    let found = statvfs(dir).map_err(|error| host("look for free space in", dir, &error.into()))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// How much space lacks. What an earlier attempt has allocated already counts as ours.
fn missing_bytes(part_path: &Path, bytes: u64, free_bytes_min: u64, free: u64) -> u64 {
    use std::os::unix::fs::MetadataExt;
    // Blocks of 512 bytes, whatever the file system's own are (stat(2)).
    let allocated = std::fs::symlink_metadata(part_path).map_or(0, |found| found.blocks().saturating_mul(512));
    match bytes.saturating_sub(allocated) {
        // Going on with what is here takes no more space, however full the disk has become.
        0 => 0,
        needed => needed.saturating_add(free_bytes_min).saturating_sub(free),
    }
}

fn no_room(part_path: &Path, bytes: u64, free_bytes_min: u64) -> Fault {
    let dir = part_path.parent().unwrap_or(Path::new("."));
    let free = free_bytes(part_path).unwrap_or(0);
    let missing = missing_bytes(part_path, bytes, free_bytes_min, free);
    let fault = Fault::new(FaultKind::Host, format!("no room for the snapshot in {}", dir.display()));
    fault
        .because(format!(
            "{bytes} bytes are needed and {free_bytes_min} are to stay free, {free} are free: {missing} bytes are missing"
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
mod tests {
    use baton_proto::data::SnapshotId;
    use baton_proto::rdb::RdbError;

    use super::*;

    const CHUNK: usize = CHUNK_BYTES as usize;

    struct Place {
        dir: tempfile::TempDir,
        manifest: Whole,
        data: Vec<u8>,
    }

    impl Place {
        fn new(bytes: usize) -> Place {
            let mut data = vec![0; bytes];
            blake3::Hasher::new().finalize_xof().fill(&mut data);
            let format = "REDIS0010".parse().unwrap();
            let manifest = Whole { snapshot: SnapshotId("fo-1/0".into()), bytes: bytes as u64, format };
            Place { dir: tempfile::tempdir().unwrap(), manifest, data }
        }

        fn part(&self) -> PathBuf {
            self.dir.path().join("part")
        }

        fn map(&self) -> PathBuf {
            self.dir.path().join("map")
        }

        fn open(&self) -> (Store, Held) {
            Store::open(&self.part(), &self.map(), &self.manifest, 0).unwrap()
        }

        fn chunk(&self, store: &Store, index: u32) -> (Span, &[u8], ChunkDigest) {
            let span = store.chunking().span(ChunkIndex(index)).unwrap();
            let bytes = &self.data[span.offset as usize..][..span.bytes as usize];
            (span, bytes, digest_of(store.chunking(), ChunkIndex(index), bytes))
        }

        /// Writes and syncs chunks, and returns their digests.
        fn fill(&self, store: &Store, indexes: &[u32]) -> Vec<ChunkDigest> {
            let mut batch = Vec::new();
            for &index in indexes {
                let (span, bytes, digest) = self.chunk(store, index);
                store.write(span, bytes).unwrap();
                batch.push((ChunkIndex(index), digest));
            }
            store.sync(&batch).unwrap();
            batch.into_iter().map(|(_, digest)| digest).collect()
        }
    }

    fn held(held: &Held) -> Vec<usize> {
        held.iter().enumerate().filter(|(_, digest)| digest.is_some()).map(|(index, _)| index).collect()
    }

    #[test]
    fn what_was_synced_is_held_after_a_restart_at_every_size() {
        for bytes in [1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 5] {
            let place = Place::new(bytes);
            let (store, before) = place.open();
            assert_eq!(held(&before), [0; 0]);
            let last = store.chunking().count() - 1;
            place.fill(&store, &[last]);
            drop(store);
            let (store, after) = place.open();
            assert_eq!(held(&after), [last as usize], "{bytes} bytes");
            place.fill(&store, &(0..last).collect::<Vec<_>>());
            drop(store);
            assert_eq!(std::fs::read(place.part()).unwrap(), place.data);
            assert_eq!(held(&place.open().1).len(), last as usize + 1);
        }
    }

    #[test]
    fn an_empty_snapshot_has_nothing_to_hold() {
        let place = Place::new(0);
        let (store, before) = place.open();
        assert_eq!(before, []);
        let verdict = store.verify(&[], &AtomicU64::new(0)).unwrap();
        assert_eq!(verdict.rdb, Err(RdbError::Short(0)));
    }

    #[test]
    fn a_torn_map_is_cut_and_written_on() {
        let place = Place::new(4 * CHUNK);
        let (store, _) = place.open();
        place.fill(&store, &[0, 1]);
        drop(store);
        let map = OpenOptions::new().write(true).open(place.map()).unwrap();
        map.set_len(map.metadata().unwrap().len() - 7).unwrap();
        let (store, found) = place.open();
        assert_eq!(held(&found), [0]);
        place.fill(&store, &[3]);
        drop(store);
        assert_eq!(held(&place.open().1), [0, 3]);
    }

    #[test]
    fn another_snapshot_or_another_length_begins_afresh() {
        let mut place = Place::new(2 * CHUNK);
        let (store, _) = place.open();
        place.fill(&store, &[0]);
        drop(store);
        place.manifest.snapshot = SnapshotId("fo-1/1".into());
        let (store, found) = place.open();
        assert_eq!(held(&found), [0; 0]);
        place.fill(&store, &[0]);
        drop(store);
        OpenOptions::new().write(true).open(place.part()).unwrap().set_len(5).unwrap();
        assert_eq!(held(&place.open().1), [0; 0]);
        assert_eq!(std::fs::metadata(place.part()).unwrap().len(), 2 * CHUNK_BYTES);
    }

    #[test]
    fn a_map_without_its_file_holds_nothing() {
        let place = Place::new(2 * CHUNK);
        let (store, _) = place.open();
        place.fill(&store, &[0, 1]);
        drop(store);
        std::fs::remove_file(place.part()).unwrap();
        assert_eq!(held(&place.open().1), [0; 0]);
    }

    #[test]
    fn only_the_agent_may_read_the_files_and_links_are_not_followed() {
        let place = Place::new(CHUNK);
        let victim = place.dir.path().join("victim");
        std::fs::write(&victim, b"precious").unwrap();
        std::os::unix::fs::symlink(&victim, place.part()).unwrap();
        drop(place.open());
        assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
        for path in [place.part(), place.map()] {
            assert_eq!(std::fs::symlink_metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600, "{path:?}");
        }
    }

    #[test]
    fn reading_back_finds_the_chunks_that_rotted() {
        let place = Place::new(3 * CHUNK);
        let (store, _) = place.open();
        let digests = place.fill(&store, &[0, 1, 2]);
        let done = AtomicU64::new(0);
        let verdict = store.verify(&digests, &done).unwrap();
        assert_eq!((verdict.bad, done.into_inner()), (vec![], 3 * CHUNK_BYTES));
        assert_eq!(verdict.digest.0, *blake3::hash(&place.data).as_bytes());
        assert!(verdict.rdb.is_err(), "noise is no snapshot");
        store.part.write_all_at(b"rot", CHUNK_BYTES + 9).unwrap();
        assert_eq!(store.verify(&digests, &AtomicU64::new(0)).unwrap().bad, [ChunkIndex(1)]);
    }

    #[test]
    fn a_file_that_is_whole_needs_no_more_room() {
        let place = Place::new(CHUNK);
        let (store, _) = place.open();
        place.fill(&store, &[0]);
        let (_, found) = Store::open(&place.part(), &place.map(), &place.manifest, 1 << 60).unwrap();
        assert_eq!(held(&found), [0]);
    }

    #[test]
    fn a_full_disk_is_told_with_what_is_missing() {
        let place = Place::new(CHUNK);
        let result = Store::open(&place.part(), &place.map(), &place.manifest, 1 << 60);
        let fault = result.map(|_| ()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Host);
        assert!(fault.to_string().contains("bytes are missing"), "{fault}");
        assert!(!place.part().exists());
        let huge = Whole { bytes: 1 << 45, ..place.manifest.clone() };
        let fault = Store::open(&place.part(), &place.map(), &huge, 0).map(|_| ()).unwrap_err();
        assert!(fault.to_string().contains("35184372088832 bytes are needed"), "{fault}");
    }
}
