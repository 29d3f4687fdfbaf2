//! The chunk map: the file beside a partial snapshot that says which of its chunks are held.
//!
//! It is only ever appended to. Its head names the snapshot; each record names a chunk and its digest, and carries a
//! checksum that also covers the head, so that a record of another map is none of this one. A torn or damaged tail costs
//! the chunks recorded there and nothing else. A record is a claim, not a proof: a crash may keep it and lose the chunk, so
//! whoever reads a map reads the chunk as well, and compares. This module is the format.
//!
//! ```text
//!   head    "BATONMAP" version:u32 chunk_bytes:u32 id_length:u16 id checksum:[u8; 8]
//!   record  index:u32 wire_bytes:u32 digest:[u8; 32] checksum:[u8; 8]              (little-endian; repeated; the last one of a chunk counts)
//! ```

use std::collections::BTreeMap;
use std::io::{self, Read};

use baton_proto::chunk::{CHUNK_BYTES, ChunkIndex};
use baton_proto::data::SnapshotId;
use baton_proto::digest::ChunkDigest;

const MAGIC: &[u8; 8] = b"BATONMAP";
const VERSION: u32 = 1;
/// Longest snapshot id; ours are a run's name and a few numbers.
pub const SNAPSHOT_ID_BYTES_MAX: usize = 256;
const CHECKSUM_BYTES: usize = 8;
/// Length of a record.
pub const RECORD_BYTES: usize = NUMBERS_BYTES + 32 + CHECKSUM_BYTES;
/// Length of the numbers before the digest.
const NUMBERS_BYTES: usize = 4 + 4;
/// Most records read for each chunk of the snapshot: one, and one more for each time that a chunk was found damaged and
/// fetched again. It bounds the time spent on a map that something else keeps appending to.
const RECORDS_PER_CHUNK_MAX: u64 = 8;

/// The chunks that a map claims to be held.
pub type Held = BTreeMap<ChunkIndex, ChunkDigest>;

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
}

/// What a map is about, and how its parts are written and read.
#[derive(Debug, Clone)]
pub struct MapFormat {
    head: Vec<u8>,
}

/// A map that was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed {
    pub held: Held,
    /// Bytes that crossed the network for all that is recorded.
    pub wire_bytes: u64,
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
    pub fn new(SnapshotId(id): &SnapshotId) -> Result<Self, MapError> {
        if id.len() > SNAPSHOT_ID_BYTES_MAX {
            return Err(MapError::LongId);
        }
        let mut head = MAGIC.to_vec();
        head.extend(VERSION.to_le_bytes());
        head.extend((CHUNK_BYTES as u32).to_le_bytes());
        // Fits: bounded above.
        head.extend((id.len() as u16).to_le_bytes());
        head.extend(id.as_bytes());
        head.extend(checksum(&[&head]));
        Ok(Self { head })
    }

    /// The first bytes of the file.
    pub fn head(&self) -> &[u8] {
        &self.head
    }

    /// The record that says that a chunk is held.
    pub fn record(&self, index: ChunkIndex, wire_bytes: u32, digest: &ChunkDigest) -> [u8; RECORD_BYTES] {
        let mut record = [0; RECORD_BYTES];
        let (body, sum) = record.split_at_mut(RECORD_BYTES - CHECKSUM_BYTES);
        let (numbers, value) = body.split_at_mut(NUMBERS_BYTES);
        for (slot, number) in numbers.chunks_exact_mut(4).zip([index.0, wire_bytes]) {
            slot.copy_from_slice(&number.to_le_bytes());
        }
        value.copy_from_slice(&digest.0);
        sum.copy_from_slice(&checksum(&[&self.head, body]));
        record
    }

    /// Reads a map of this snapshot, up to the first record that is not whole and good. `chunks_max` is what the file
    /// beside it has room for: a record of a chunk beyond it is not good.
    pub fn read(&self, mut from: impl Read, chunks_max: u32) -> Result<Parsed, MapError> {
        self.read_head(&mut from)?;
        let mut parsed = Parsed { held: Held::new(), wire_bytes: 0, good_bytes: self.head.len() as u64, torn: false };
        let records_max = u64::from(chunks_max) * RECORDS_PER_CHUNK_MAX;
        for _ in 0..records_max {
            let mut record = [0; RECORD_BYTES];
            let filled = fill(&mut from, &mut record)?;
            let good = filled == RECORD_BYTES;
            let record = if good { self.parse(&record) } else { None };
            let Some((index, wire_bytes, digest)) = record.filter(|(index, ..)| index.0 < chunks_max) else {
                parsed.torn = filled > 0;
                return Ok(parsed);
            };
            parsed.held.insert(index, digest);
            parsed.wire_bytes = parsed.wire_bytes.saturating_add(wire_bytes.into());
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
        let same_length = found.get(16..18) == self.head.get(16..18);
        Err(if same_length && sum != checksum(&[body]) { MapError::Checksum } else { MapError::OtherSnapshot })
    }

    fn parse(&self, record: &[u8; RECORD_BYTES]) -> Option<(ChunkIndex, u32, ChunkDigest)> {
        let (body, sum) = record.split_at(RECORD_BYTES - CHECKSUM_BYTES);
        if sum != checksum(&[&self.head, body]) {
            return None;
        }
        let (numbers, value) = body.split_at(NUMBERS_BYTES);
        let [index, wire_bytes] = numbers.as_chunks::<4>().0 else { return None };
        let [index, wire_bytes] = [index, wire_bytes].map(|number| u32::from_le_bytes(*number));
        Some((ChunkIndex(index), wire_bytes, ChunkDigest(value.try_into().ok()?)))
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

    fn id(id: &str) -> SnapshotId {
        SnapshotId(id.into())
    }

    fn digest(index: u32) -> ChunkDigest {
        ChunkDigest(*blake3::hash(&index.to_le_bytes()).as_bytes())
    }

    /// A map that holds these.
    fn map(held: &[u32]) -> (MapFormat, Vec<u8>) {
        let format = MapFormat::new(&id("fo-1/0")).unwrap();
        let mut file = format.head().to_vec();
        for &index in held {
            file.extend(format.record(ChunkIndex(index), 10, &digest(index)));
        }
        (format, file)
    }

    fn indexes(parsed: &Parsed) -> Vec<u32> {
        parsed.held.keys().map(|index| index.0).collect()
    }

    #[test]
    fn what_was_recorded_is_read_back() {
        for held in [&[][..], &[0], &[3, 0, 2], &[0, 1, 2, 3]] {
            let (format, file) = map(held);
            let parsed = format.read(&*file, 4).unwrap();
            let mut sorted = held.to_vec();
            sorted.sort_unstable();
            assert_eq!(indexes(&parsed), sorted);
            assert_eq!((parsed.good_bytes, parsed.torn), (file.len() as u64, false));
            assert_eq!(parsed.wire_bytes, 10 * held.len() as u64);
        }
    }

    #[test]
    fn the_last_record_of_a_chunk_counts() {
        let (format, mut file) = map(&[1]);
        file.extend(format.record(ChunkIndex(1), 10, &digest(77)));
        assert_eq!(format.read(&*file, 2).unwrap().held, Held::from([(ChunkIndex(1), digest(77))]));
    }

    #[test]
    fn the_map_of_an_empty_snapshot_is_its_head() {
        let (format, file) = map(&[]);
        assert_eq!(format.read(&*file, 0).unwrap().held, Held::new());
    }

    #[test]
    fn a_torn_tail_costs_only_what_was_torn() {
        let (format, file) = map(&[2, 3]);
        for cut in 1..=RECORD_BYTES {
            let parsed = format.read(&file[..file.len() - cut], 4).unwrap();
            assert_eq!(indexes(&parsed), [2]);
            assert_eq!(parsed.torn, cut < RECORD_BYTES);
            assert_eq!(parsed.good_bytes, (file.len() - RECORD_BYTES) as u64);
        }
    }

    #[test]
    fn the_map_of_another_snapshot_is_refused_in_words() {
        let (_, file) = map(&[1]);
        let read = |id: &SnapshotId, file: &[u8]| MapFormat::new(id).unwrap().read(file, 4).unwrap_err();
        let own = id("fo-1/0");
        for other in [id("fo-1/1"), id("fo-10/0")] {
            assert!(matches!(read(&other, &file), MapError::OtherSnapshot), "{other:?}");
        }
        assert!(matches!(read(&own, &file[..20]), MapError::Short));
        assert!(matches!(read(&own, b""), MapError::Short));
        assert!(matches!(read(&own, &[b'x'; 100]), MapError::Magic));
        let mut damaged = file.clone();
        damaged[19] ^= 1;
        assert!(matches!(read(&own, &damaged), MapError::Checksum));
        let long = id(&"x".repeat(SNAPSHOT_ID_BYTES_MAX + 1));
        assert!(matches!(MapFormat::new(&long), Err(MapError::LongId)));
    }

    #[test]
    fn a_record_past_the_end_of_the_snapshot_ends_the_map() {
        let (format, mut file) = map(&[1]);
        file.extend(format.record(ChunkIndex(4), 10, &digest(4)));
        file.extend(format.record(ChunkIndex(2), 10, &digest(2)));
        let parsed = format.read(&*file, 4).unwrap();
        assert_eq!((indexes(&parsed), parsed.torn), (vec![1], true));
    }

    #[test]
    fn a_map_that_never_ends_is_left_at_its_bound() {
        let (format, mut file) = map(&[]);
        for _ in 0..RECORDS_PER_CHUNK_MAX + 3 {
            file.extend(format.record(ChunkIndex(0), 10, &digest(0)));
        }
        let parsed = format.read(&*file, 1).unwrap();
        assert!(parsed.torn && parsed.good_bytes < file.len() as u64);
    }

    proptest! {
        #[test]
        fn no_damage_makes_a_chunk_held_that_was_not_recorded(
            held in proptest::collection::vec(0u32..20, 0..20),
            cut in any::<prop::sample::Index>(),
            flips in proptest::collection::vec((any::<prop::sample::Index>(), 0u8..8), 0..6),
        ) {
            let (format, mut file) = map(&held);
            file.truncate(cut.index(file.len() + 1));
            for (at, bit) in flips {
                if !file.is_empty() {
                    let at = at.index(file.len());
                    file[at] ^= 1 << bit;
                }
            }
            if let Ok(parsed) = format.read(&*file, 20) {
                for (index, found) in &parsed.held {
                    prop_assert!(held.contains(&index.0) && *found == digest(index.0));
                }
                prop_assert!(parsed.good_bytes <= file.len() as u64);
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (format, head) = map(&[]);
            let _ = format.read(&*bytes, 3);
            let _ = format.read(&*[head, bytes].concat(), 3);
        }
    }
}
