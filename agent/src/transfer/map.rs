//! The chunk map: the file beside a partial snapshot that says which of its chunks are held.
//!
//! It is only ever appended to. Its head names the snapshot and its shape; each record names a chunk and its digest, and
//! carries a checksum that also covers the head, so that a record of another map is none of this one. A torn or damaged
//! tail costs the chunks recorded there and nothing else. This module is the format; *when* a record may be written
//! (after the chunk's bytes are synced) is the store's business.
//!
//! ```text
//!   head    "BATONMAP" version:u32 chunk_bytes:u32 bytes:u64 id_length:u16 id checksum:[u8; 8]
//!   record  index:u32 digest:[u8; 32] checksum:[u8; 8]              (little-endian; repeated; the last one of a chunk counts)
//! ```

use std::io::{self, Read};

use crate::transfer::Whole;
use baton_proto::chunk::{CHUNK_BYTES, ChunkError, ChunkIndex, Chunking};
use baton_proto::data::SnapshotId;
use baton_proto::digest::ChunkDigest;

const MAGIC: &[u8; 8] = b"BATONMAP";
const VERSION: u32 = 1;
/// Longest snapshot id; ours are a run's name and a few numbers.
pub const SNAPSHOT_ID_BYTES_MAX: usize = 256;
const CHECKSUM_BYTES: usize = 8;
/// Length of a record.
pub const RECORD_BYTES: usize = 4 + 32 + CHECKSUM_BYTES;
/// Most records read for each chunk of the snapshot: one, and one more for each time that a chunk was found damaged and
/// fetched again. It bounds the time spent on a map that something else keeps appending to.
const RECORDS_PER_CHUNK_MAX: u64 = 8;

/// For every chunk its digest, if it is held.
pub type Held = Vec<Option<ChunkDigest>>;

/// Why a map says nothing about the wanted snapshot. The answer to all of them is to begin afresh.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    #[error("read chunk map")]
    Read(#[from] io::Error),
    #[error("chunk map ends within its head")]
    Short,
    #[error("not a chunk map of version {VERSION}")]
    Magic,
    #[error("chunk map's head is damaged")]
    Checksum,
    #[error("chunk map is of another snapshot")]
    OtherSnapshot,
    #[error("snapshot id is longer than {SNAPSHOT_ID_BYTES_MAX} bytes")]
    LongId,
    #[error(transparent)]
    Shape(#[from] ChunkError),
}

/// What a map is about, and how its parts are written and read.
#[derive(Debug, Clone)]
pub struct MapFormat {
    head: Vec<u8>,
    chunking: Chunking,
}

/// A map that was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed {
    pub held: Held,
    /// Where the next record belongs: behind the last good one.
    pub good_bytes: u64,
    /// Whether anything stood behind it.
    pub torn: bool,
}

fn checksum(parts: &[&[u8]]) -> [u8; CHECKSUM_BYTES] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    let mut sum = [0; CHECKSUM_BYTES];
    hasher.finalize_xof().fill(&mut sum);
    sum
}

impl MapFormat {
    pub fn new(manifest: &Whole) -> Result<Self, MapError> {
        let SnapshotId(id) = &manifest.snapshot;
        if id.len() > SNAPSHOT_ID_BYTES_MAX {
            return Err(MapError::LongId);
        }
        let chunking = Chunking::new(manifest.bytes)?;
        let mut head = MAGIC.to_vec();
        head.extend(VERSION.to_le_bytes());
        head.extend((CHUNK_BYTES as u32).to_le_bytes());
        head.extend(manifest.bytes.to_le_bytes());
        // Fits: bounded above.
        head.extend((id.len() as u16).to_le_bytes());
        head.extend(id.as_bytes());
        head.extend(checksum(&[&head]));
        Ok(Self { head, chunking })
    }

    /// The first bytes of the file.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The record that says that a chunk is held.
    pub fn record(&self, index: ChunkIndex, digest: &ChunkDigest) -> [u8; RECORD_BYTES] {
        let mut record = [0; RECORD_BYTES];
        let (body, sum) = record.split_at_mut(RECORD_BYTES - CHECKSUM_BYTES);
        let (number, value) = body.split_at_mut(4);
        number.copy_from_slice(&index.0.to_le_bytes());
        value.copy_from_slice(&digest.0);
        sum.copy_from_slice(&checksum(&[&self.head, number, value]));
        record
    }

    /// Reads a map of this snapshot, up to the first record that is not whole and good.
    pub fn read(&self, mut from: impl Read) -> Result<Parsed, MapError> {
        self.read_head(&mut from)?;
        let mut parsed = Parsed {
            held: vec![None; self.chunking.count() as usize],
            good_bytes: self.head.len() as u64,
            torn: false,
        };
        let records_max = u64::from(self.chunking.count()) * RECORDS_PER_CHUNK_MAX;
        for _ in 0..records_max {
            let mut record = [0; RECORD_BYTES];
            let filled = fill(&mut from, &mut record)?;
            let good = filled == RECORD_BYTES;
            let slot = if good { self.parse(&record, &mut parsed.held) } else { None };
            let Some((slot, digest)) = slot else {
                parsed.torn = filled > 0;
                return Ok(parsed);
            };
            *slot = Some(digest);
            parsed.good_bytes += RECORD_BYTES as u64;
        }
        parsed.torn = fill(&mut from, &mut [0])? > 0;
        Ok(parsed)
    }

    fn read_head(&self, from: &mut impl Read) -> Result<(), MapError> {
        let mut found = vec![0; self.head.len()];
        let filled = fill(from, &mut found)?;
        if found == self.head {
            return Ok(());
        }
        // It is refused in any case; what follows only finds the word for it.
        let (body, sum) = found.split_at(found.len() - CHECKSUM_BYTES);
        if !found.starts_with(MAGIC) || found.get(8..12) != Some(&VERSION.to_le_bytes()[..]) {
            return Err(if filled < 12 { MapError::Short } else { MapError::Magic });
        }
        if filled < found.len() {
            return Err(MapError::Short);
        }
        let same_length = found.get(24..26) == self.head.get(24..26);
        Err(if same_length && sum != checksum(&[body]) { MapError::Checksum } else { MapError::OtherSnapshot })
    }

    fn parse<'a>(
        &self,
        record: &[u8; RECORD_BYTES],
        held: &'a mut Held,
    ) -> Option<(&'a mut Option<ChunkDigest>, ChunkDigest)> {
        let (body, sum) = record.split_at(RECORD_BYTES - CHECKSUM_BYTES);
        let (number, value) = body.split_at(4);
        if sum != checksum(&[&self.head, number, value]) {
            return None;
        }
        let index = u32::from_le_bytes(number.try_into().ok()?);
        Some((held.get_mut(index as usize)?, ChunkDigest(value.try_into().ok()?)))
    }
}

/// Reads until the buffer is full or the input ends.
fn fill(from: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match from.read(rest) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn manifest(id: &str, bytes: u64) -> Whole {
        Whole { snapshot: SnapshotId(id.into()), bytes, format: "REDIS0010".parse().unwrap() }
    }

    fn digest(index: u32) -> ChunkDigest {
        ChunkDigest(*blake3::hash(&index.to_le_bytes()).as_bytes())
    }

    /// A map of `count` chunks that holds `held`.
    fn map(count: u32, held: &[u32]) -> (MapFormat, Vec<u8>) {
        let format = MapFormat::new(&manifest("fo-1/0", u64::from(count) * CHUNK_BYTES)).unwrap();
        let mut file = format.head().to_vec();
        for &index in held {
            file.extend(format.record(ChunkIndex(index), &digest(index)));
        }
        (format, file)
    }

    fn indexes(parsed: &Parsed) -> Vec<u32> {
        (0u32..).zip(&parsed.held).filter(|(_, held)| held.is_some()).map(|(index, _)| index).collect()
    }

    #[test]
    fn what_was_recorded_is_read_back() {
        for held in [&[][..], &[0], &[3, 0, 2], &[0, 1, 2, 3]] {
            let (format, file) = map(4, held);
            let parsed = format.read(&*file).unwrap();
            let mut sorted = held.to_vec();
            sorted.sort_unstable();
            assert_eq!(indexes(&parsed), sorted);
            assert_eq!((parsed.good_bytes, parsed.torn), (file.len() as u64, false));
        }
    }

    #[test]
    fn the_last_record_of_a_chunk_counts() {
        let (format, mut file) = map(2, &[1]);
        file.extend(format.record(ChunkIndex(1), &digest(77)));
        assert_eq!(format.read(&*file).unwrap().held, [None, Some(digest(77))]);
    }

    #[test]
    fn the_map_of_an_empty_snapshot_is_its_head() {
        let (format, file) = map(0, &[]);
        assert_eq!(format.read(&*file).unwrap().held, []);
    }

    #[test]
    fn a_torn_tail_costs_only_what_was_torn() {
        let (format, file) = map(4, &[2, 3]);
        for cut in 1..=RECORD_BYTES {
            let parsed = format.read(&file[..file.len() - cut]).unwrap();
            assert_eq!(indexes(&parsed), [2]);
            assert_eq!(parsed.torn, cut < RECORD_BYTES);
            assert_eq!(parsed.good_bytes, (file.len() - RECORD_BYTES) as u64);
        }
    }

    #[test]
    fn the_map_of_another_snapshot_is_refused_in_words() {
        let (_, file) = map(4, &[1]);
        let read = |manifest: &Whole, file: &[u8]| MapFormat::new(manifest).unwrap().read(file).unwrap_err();
        let own = manifest("fo-1/0", 4 * CHUNK_BYTES);
        for other in [manifest("fo-1/1", 4 * CHUNK_BYTES), manifest("fo-1/0", 5), manifest("fo-10/0", 4 * CHUNK_BYTES)]
        {
            assert!(matches!(read(&other, &file), MapError::OtherSnapshot), "{other:?}");
        }
        assert!(matches!(read(&own, &file[..20]), MapError::Short));
        assert!(matches!(read(&own, b""), MapError::Short));
        assert!(matches!(read(&own, &[b'x'; 100]), MapError::Magic));
        let mut damaged = file.clone();
        damaged[18] ^= 1;
        assert!(matches!(read(&own, &damaged), MapError::Checksum));
        let long = manifest(&"x".repeat(SNAPSHOT_ID_BYTES_MAX + 1), 1);
        assert!(matches!(MapFormat::new(&long), Err(MapError::LongId)));
    }

    #[test]
    fn a_record_past_the_end_of_the_snapshot_ends_the_map() {
        let (format, mut file) = map(4, &[1]);
        file.extend(format.record(ChunkIndex(4), &digest(4)));
        file.extend(format.record(ChunkIndex(2), &digest(2)));
        let parsed = format.read(&*file).unwrap();
        assert_eq!((indexes(&parsed), parsed.torn), (vec![1], true));
    }

    #[test]
    fn a_map_that_never_ends_is_left_at_its_bound() {
        let (format, mut file) = map(1, &[]);
        for _ in 0..RECORDS_PER_CHUNK_MAX + 3 {
            file.extend(format.record(ChunkIndex(0), &digest(0)));
        }
        let parsed = format.read(&*file).unwrap();
        assert!(parsed.torn && parsed.good_bytes < file.len() as u64);
    }

    proptest! {
        #[test]
        fn no_damage_makes_a_chunk_held_that_was_not_recorded(
            held in proptest::collection::vec(0u32..20, 0..20),
            cut in any::<prop::sample::Index>(),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..6),
        ) {
            let (format, mut file) = map(20, &held);
            file.truncate(cut.index(file.len() + 1));
            for (at, bit) in flips {
                if !file.is_empty() {
                    let at = at.index(file.len());
                    file[at] ^= 1 << bit;
                }
            }
            if let Ok(parsed) = format.read(&*file) {
                for (index, found) in (0u32..).zip(&parsed.held) {
                    prop_assert!(found.is_none() || (held.contains(&index) && *found == Some(digest(index))));
                }
                prop_assert!(parsed.good_bytes <= file.len() as u64);
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (format, head) = map(3, &[]);
            let _ = format.read(&*bytes);
            let _ = format.read(&*[head, bytes].concat());
        }
    }
}
