//! A snapshot as fixed chunks. Every chunk but the last is [`CHUNK_BYTES`] long; an empty file has none.

use serde::{Deserialize, Serialize};

use crate::data::Extent;
use crate::digest::{ChunkDigest, chunk_digest};

/// Size of a chunk: a power of two KiB, so that a chunk is a whole subtree of the file's BLAKE3 tree; large enough that
/// per-chunk work does not show, small enough that a broken connection loses little.
pub const CHUNK_BYTES: u64 = 4 * 1024 * 1024;

/// Largest snapshot: 64 TiB. It bounds every count and index that a peer can announce.
pub const SNAPSHOT_BYTES_MAX: u64 = 64 << 40;

/// The place of a chunk in its file, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ChunkIndex(pub u32);

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("a snapshot of {0} bytes is larger than the {SNAPSHOT_BYTES_MAX} that are supported")]
    Large(u64),
    #[error("chunk {index} is past the end of a snapshot of {count} chunks")]
    PastEnd { index: u32, count: u32 },
}

/// How a file is cut, as far as it has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunking {
    extent: Extent,
    count: u32,
}

impl Chunking {
    /// Cuts a whole file.
    pub fn new(bytes: u64) -> Result<Self, ChunkError> {
        Self::of(Extent { bytes, whole: true })
    }

    /// Cuts what there is of a file. A chunk counts once its bytes are there and it is known whether more follow: the
    /// digest of a file's only chunk is another than that of a first one.
    pub fn of(extent: Extent) -> Result<Self, ChunkError> {
        if extent.bytes > SNAPSHOT_BYTES_MAX {
            return Err(ChunkError::Large(extent.bytes));
        }
        let count = match extent.whole {
            true => extent.bytes.div_ceil(CHUNK_BYTES),
            false => extent.bytes.saturating_sub(1) / CHUNK_BYTES,
        };
        let count = u32::try_from(count).map_err(|_| ChunkError::Large(extent.bytes))?;
        Ok(Self { extent, count })
    }

    pub fn extent(&self) -> Extent {
        self.extent
    }

    pub fn bytes(&self) -> u64 {
        self.extent.bytes
    }

    pub fn is_whole(&self) -> bool {
        self.extent.whole
    }

    /// Chunks that can be had. All of them, once the file is whole.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Where a chunk begins and how long it is.
    pub fn span(&self, index: ChunkIndex) -> Result<Span, ChunkError> {
        if index.0 >= self.count {
            return Err(ChunkError::PastEnd { index: index.0, count: self.count });
        }
        let offset = u64::from(index.0) * CHUNK_BYTES;
        // At most CHUNK_BYTES, which fits 32 bits.
        let bytes = (self.extent.bytes - offset).min(CHUNK_BYTES) as u32;
        Ok(Span { offset, bytes })
    }

    /// The digest of a chunk at its place.
    pub fn digest(&self, index: ChunkIndex, bytes: &[u8]) -> ChunkDigest {
        chunk_digest(index, bytes, self.extent.whole && self.count == 1)
    }
}

/// The bytes of one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub offset: u64,
    pub bytes: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_cover_the_file_exactly_at_every_edge() {
        for bytes in [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 7 * CHUNK_BYTES + 3] {
            let chunking = Chunking::new(bytes).unwrap();
            let mut at = 0;
            for index in 0..chunking.count() {
                let span = chunking.span(ChunkIndex(index)).unwrap();
                assert_eq!(span.offset, at);
                assert!(span.bytes > 0);
                at += u64::from(span.bytes);
            }
            assert_eq!(at, bytes);
            assert!(chunking.span(ChunkIndex(chunking.count())).is_err());
        }
    }

    #[test]
    fn a_chunk_of_a_growing_file_counts_once_more_is_seen_to_follow() {
        for (bytes, count) in [(0, 0), (1, 0), (CHUNK_BYTES, 0), (CHUNK_BYTES + 1, 1), (2 * CHUNK_BYTES, 1)] {
            let growing = Chunking::of(Extent { bytes, whole: false }).unwrap();
            assert_eq!(growing.count(), count, "{bytes} bytes");
            assert_eq!(growing.span(ChunkIndex(count)).map_err(|_| ()), Err(()));
        }
        let (one, first) = (vec![3; CHUNK_BYTES as usize], ChunkIndex(0));
        let growing = Chunking::of(Extent { bytes: CHUNK_BYTES + 1, whole: false }).unwrap();
        let two = Chunking::new(CHUNK_BYTES + 1).unwrap();
        assert_eq!(growing.digest(first, &one), two.digest(first, &one), "a digest holds when the file grows");
        assert_ne!(Chunking::new(CHUNK_BYTES).unwrap().digest(first, &one), two.digest(first, &one));
    }

    #[test]
    fn an_absurd_size_is_refused() {
        assert!(Chunking::new(SNAPSHOT_BYTES_MAX).is_ok());
        assert_eq!(Chunking::new(u64::MAX), Err(ChunkError::Large(u64::MAX)));
    }
}
