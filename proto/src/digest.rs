//! BLAKE3 by chunk. Each chunk has the chaining value of its subtree at its place in the file; merged, they are the
//! standard hash of the whole file, what `b3sum dump.rdb` prints. One pass, in any order, and each chunk can be checked
//! when it arrives.

use std::fmt;

use blake3::hazmat::{ChainingValue, HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use serde::{Deserialize, Serialize};

use crate::chunk::{CHUNK_BYTES, ChunkIndex};

/// The BLAKE3 chaining value of one chunk at its place.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ChunkDigest(pub [u8; 32]);

impl fmt::Debug for ChunkDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", hex::HEXLOWER.encode(&self.0))
    }
}

/// The BLAKE3 hash of a whole file; shown and written in lower-case hexadecimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FileDigest(pub [u8; 32]);

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a BLAKE3 digest is 64 lower-case hexadecimal characters")]
pub struct DigestError;

impl fmt::Display for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hex::HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for FileDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl TryFrom<String> for FileDigest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Self, DigestError> {
        let bytes = hex::HEXLOWER.decode(text.as_bytes()).map_err(|_| DigestError)?;
        bytes.try_into().map(Self).map_err(|_| DigestError)
    }
}

impl From<FileDigest> for String {
    fn from(digest: FileDigest) -> String {
        digest.to_string()
    }
}

/// Computes a chunk's digest. `only` tells that the file is this one chunk: its value is then the file's hash itself,
/// since BLAKE3 finalizes a root apart from an inner node.
pub fn chunk_digest(index: ChunkIndex, bytes: &[u8], only: bool) -> ChunkDigest {
    let mut hasher = blake3::Hasher::new();
    if only {
        return ChunkDigest(*hasher.update(bytes).finalize().as_bytes());
    }
    hasher.set_input_offset(u64::from(index.0) * CHUNK_BYTES);
    ChunkDigest(hasher.update(bytes).finalize_non_root())
}

/// Merges the digests of all chunks, in order, into the hash of the file.
pub fn file_digest(chunks: &[ChunkDigest]) -> FileDigest {
    match chunks {
        [] => FileDigest(*blake3::hash(b"").as_bytes()),
        [only] => FileDigest(only.0),
        many => {
            let (left, right) = halves(many);
            FileDigest(*merge_subtrees_root(&merge(left), &merge(right), Mode::Hash).as_bytes())
        }
    }
}

/// Merges a subtree. The depth is the logarithm of the number of chunks: at most 24 for the largest snapshot.
fn merge(chunks: &[ChunkDigest]) -> ChainingValue {
    match chunks {
        // `halves` never yields an empty half.
        [] => [0; 32],
        [only] => only.0,
        many => {
            let (left, right) = halves(many);
            merge_subtrees_non_root(&merge(left), &merge(right), Mode::Hash)
        }
    }
}

/// Splits as BLAKE3 does: on the left the largest power of two that leaves something on the right.
fn halves(chunks: &[ChunkDigest]) -> (&[ChunkDigest], &[ChunkDigest]) {
    let left = chunks.len().div_ceil(2).next_power_of_two();
    chunks.split_at(left.min(chunks.len() - 1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chunk::Chunking;

    fn by_chunks(data: &[u8]) -> FileDigest {
        let chunking = Chunking::new(data.len() as u64).unwrap();
        let digests: Vec<_> = (0..chunking.count())
            .map(|i| {
                let span = chunking.span(ChunkIndex(i)).unwrap();
                let bytes = &data[span.offset as usize..][..span.bytes as usize];
                chunk_digest(ChunkIndex(i), bytes, chunking.count() == 1)
            })
            .collect();
        file_digest(&digests)
    }

    #[test]
    fn merged_chunks_are_the_standard_hash_at_every_edge() {
        let chunk = CHUNK_BYTES as usize;
        let data: Vec<u8> = (0..5 * chunk + 17).map(|i| (i * 31 + i / 251) as u8).collect();
        for bytes in [0, 1, chunk - 1, chunk, chunk + 1, 2 * chunk, 3 * chunk - 1, 4 * chunk, data.len()] {
            let expected = FileDigest(*blake3::hash(&data[..bytes]).as_bytes());
            assert_eq!(by_chunks(&data[..bytes]), expected, "{bytes} bytes");
        }
    }

    #[test]
    fn a_chunk_at_another_place_has_another_digest() {
        let bytes = vec![7u8; 1000];
        assert_ne!(chunk_digest(ChunkIndex(0), &bytes, false), chunk_digest(ChunkIndex(1), &bytes, false));
    }
}
