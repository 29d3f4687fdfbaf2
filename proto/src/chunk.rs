//! A snapshot as fixed chunks. Every chunk but the last is [`CHUNK_BYTES`] long; an empty file has none.

use serde::{Deserialize, Serialize};

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

/// How a file of some size is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunking {
    bytes: u64,
    count: u32,
}

impl Chunking {
    pub fn new(bytes: u64) -> Result<Self, ChunkError> {
        if bytes > SNAPSHOT_BYTES_MAX {
            return Err(ChunkError::Large(bytes));
        }
        let count = u32::try_from(bytes.div_ceil(CHUNK_BYTES)).map_err(|_| ChunkError::Large(bytes))?;
        Ok(Self { bytes, count })
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

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
        let bytes = (self.bytes - offset).min(CHUNK_BYTES) as u32;
        Ok(Span { offset, bytes })
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
    fn an_absurd_size_is_refused() {
        assert!(Chunking::new(SNAPSHOT_BYTES_MAX).is_ok());
        assert_eq!(Chunking::new(u64::MAX), Err(ChunkError::Large(u64::MAX)));
    }
}
