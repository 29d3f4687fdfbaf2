//! Chunks as they cross the network: packing on the source; unpacking and checking on the target, where nothing that the
//! peer says is believed. Values in, values out. Which level to pack with is a constant here.

use baton_proto::chunk::{CHUNK_BYTES, ChunkError, ChunkIndex, Chunking, Span};
use baton_proto::data::{FrameHead, Packing};
use baton_proto::digest::{ChunkDigest, chunk_digest};

/// The level of zstd. Measured on snapshots: level 1 halves them at several times the speed of a gigabit link, and higher
/// ones win little.
const LEVEL: i32 = 1;
/// A chunk that does not shrink below this share is sent as it is: the target need not unpack it then.
const STORE_ABOVE_PERCENT: usize = 97;

/// Packs chunks, and keeps its buffers between them.
pub struct Packer {
    compressor: zstd::bulk::Compressor<'static>,
    packed: Vec<u8>,
}

impl Default for Packer {
    fn default() -> Self {
        let compressor = zstd::bulk::Compressor::new(LEVEL).expect("zstd knows the level, a constant");
        Self { compressor, packed: Vec::new() }
    }
}

impl Packer {
    /// Packs a chunk; `None` when it is better sent as it is.
    pub fn pack(&mut self, raw: &[u8]) -> Option<&[u8]> {
        let limit = raw.len() * STORE_ABOVE_PERCENT / 100;
        self.packed.resize(limit, 0);
        // The one error to expect is that the buffer is too small, which is the question that was asked; any other
        // would be no reason either not to send the chunk.
        let bytes = self.compressor.compress_to_buffer(raw, self.packed.as_mut_slice()).ok()?;
        self.packed.get(..bytes)
    }
}

/// Why the bytes that came for a chunk are not that chunk.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackingError {
    #[error(transparent)]
    Index(#[from] ChunkError),
    #[error("chunk {found} came instead")]
    OtherIndex { found: u32 },
    #[error("{found} bytes are announced for a chunk of {expected}")]
    Announced { expected: u32, found: u32 },
    #[error("{found} bytes came, {expected} were announced")]
    Came { expected: u32, found: usize },
    #[error("{wire} bytes are announced for a chunk of {raw} that is not packed")]
    Stored { raw: u32, wire: u32 },
    #[error("it does not unpack: {0}")]
    Unpack(String),
    #[error("it unpacks to {found} bytes instead of {expected}")]
    Unpacked { expected: u32, found: usize },
    #[error("its digest differs from the one that was sent with it")]
    Digest,
    #[error("a refusal came in the place of a chunk")]
    NoChunk,
}

/// Unpacks chunks, and keeps its buffers between them.
pub struct Unpacker {
    decompressor: zstd::bulk::Decompressor<'static>,
    raw: Vec<u8>,
}

impl Default for Unpacker {
    fn default() -> Self {
        let decompressor = zstd::bulk::Decompressor::new().expect("no dictionary that zstd could refuse");
        Self { decompressor, raw: Vec::new() }
    }
}

impl Unpacker {
    /// Checks what came for a chunk, and yields where it belongs and its bytes. Never more than a chunk is unpacked,
    /// whatever the bytes would inflate to.
    pub fn unpack<'a>(
        &'a mut self,
        chunking: &Chunking,
        asked: ChunkIndex,
        head: &FrameHead,
        wire: &'a [u8],
    ) -> Result<(Span, &'a [u8]), PackingError> {
        let span = check_head(chunking, asked, head)?;
        if wire.len() != head.wire_bytes as usize {
            return Err(PackingError::Came { expected: head.wire_bytes, found: wire.len() });
        }
        let raw = match head.packing {
            Packing::Store => wire,
            Packing::Zstd { .. } => self.inflate(&span, wire)?,
            Packing::Fault => return Err(PackingError::NoChunk),
        };
        if digest_of(chunking, asked, raw) != head.digest {
            return Err(PackingError::Digest);
        }
        Ok((span, raw))
    }

    fn inflate(&mut self, span: &Span, wire: &[u8]) -> Result<&[u8], PackingError> {
        if self.raw.is_empty() {
            self.raw.resize(CHUNK_BYTES as usize, 0);
        }
        let room = self.raw.get_mut(..span.bytes as usize);
        let room = room.ok_or(PackingError::Unpacked { expected: span.bytes, found: 0 })?;
        let found = self
            .decompressor
            .decompress_to_buffer(wire, room)
            .map_err(|error| PackingError::Unpack(error.to_string()))?;
        if found != room.len() {
            return Err(PackingError::Unpacked { expected: span.bytes, found });
        }
        Ok(room)
    }
}

/// The digest of a chunk of a snapshot.
pub fn digest_of(chunking: &Chunking, index: ChunkIndex, raw: &[u8]) -> ChunkDigest {
    chunk_digest(index, raw, chunking.count() == 1)
}

fn check_head(chunking: &Chunking, asked: ChunkIndex, head: &FrameHead) -> Result<Span, PackingError> {
    let span = chunking.span(asked)?;
    if head.packing == Packing::Fault {
        return Err(PackingError::NoChunk);
    }
    if head.index != asked.0 {
        return Err(PackingError::OtherIndex { found: head.index });
    }
    if head.raw_bytes != span.bytes {
        return Err(PackingError::Announced { expected: span.bytes, found: head.raw_bytes });
    }
    if head.packing == Packing::Store && head.wire_bytes != head.raw_bytes {
        return Err(PackingError::Stored { raw: head.raw_bytes, wire: head.wire_bytes });
    }
    Ok(span)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const CHUNK: usize = CHUNK_BYTES as usize;

    fn text(bytes: usize) -> Vec<u8> {
        (0..bytes).map(|at| b"snapshot of keys and values "[(at / 3 + at / 1000) % 28]).collect()
    }

    fn noise(bytes: usize) -> Vec<u8> {
        let mut out = vec![0; bytes];
        blake3::Hasher::new().finalize_xof().fill(&mut out);
        out
    }

    fn packed(chunking: &Chunking, index: u32, raw: &[u8]) -> (FrameHead, Vec<u8>) {
        let mut packer = Packer::default();
        let (packing, wire) = match packer.pack(raw) {
            Some(packed) => (Packing::Zstd { level: 1 }, packed.to_vec()),
            None => (Packing::Store, raw.to_vec()),
        };
        let digest = digest_of(chunking, ChunkIndex(index), raw);
        let head = FrameHead { packing, index, raw_bytes: raw.len() as u32, wire_bytes: wire.len() as u32, digest };
        (head, wire)
    }

    #[test]
    fn chunks_come_out_as_they_went_in_at_every_size() {
        let mut unpacker = Unpacker::default();
        for bytes in [1, 2, 100, CHUNK - 1, CHUNK] {
            for raw in [text(bytes), noise(bytes)] {
                let chunking = Chunking::new((CHUNK + bytes) as u64).unwrap();
                let (head, wire) = packed(&chunking, 1, &raw);
                let (span, out) = unpacker.unpack(&chunking, ChunkIndex(1), &head, &wire).unwrap();
                assert_eq!((span.offset, out), (CHUNK_BYTES, &*raw));
            }
        }
    }

    #[test]
    fn what_does_not_shrink_is_stored() {
        let mut packer = Packer::default();
        assert!(packer.pack(&text(CHUNK)).is_some_and(|packed| packed.len() < CHUNK / 2));
        assert_eq!(packer.pack(&noise(CHUNK)), None);
        assert_eq!(packer.pack(b"x"), None);
    }

    #[test]
    fn whatever_is_wrong_with_a_frame_has_a_name() {
        let chunking = Chunking::new(2 * CHUNK_BYTES).unwrap();
        let (head, wire) = packed(&chunking, 1, &text(CHUNK));
        let judge = |head: FrameHead, wire: &[u8], asked: u32| {
            Unpacker::default().unpack(&chunking, ChunkIndex(asked), &head, wire).map(|_| ()).unwrap_err()
        };
        assert!(matches!(judge(head, &wire, 0), PackingError::OtherIndex { found: 1 }));
        assert!(matches!(judge(head, &wire, 2), PackingError::Index(ChunkError::PastEnd { .. })));
        assert!(matches!(judge(head, &wire[1..], 1), PackingError::Came { .. }));
        assert!(matches!(judge(FrameHead { raw_bytes: 7, ..head }, &wire, 1), PackingError::Announced { .. }));
        assert!(matches!(judge(FrameHead { packing: Packing::Store, ..head }, &wire, 1), PackingError::Stored { .. }));
        assert!(matches!(judge(FrameHead { packing: Packing::Fault, ..head }, &wire, 1), PackingError::NoChunk));
        let digest = ChunkDigest([1; 32]);
        assert!(matches!(judge(FrameHead { digest, ..head }, &wire, 1), PackingError::Digest));
        let mut torn = wire.clone();
        torn[0] ^= 1;
        assert!(matches!(judge(head, &torn, 1), PackingError::Unpack(_)));
    }

    #[test]
    fn a_frame_that_inflates_beyond_its_chunk_is_refused() {
        let chunking = Chunking::new(CHUNK_BYTES + 5).unwrap();
        let bomb = zstd::bulk::compress(&vec![0; 64 * CHUNK], 1).unwrap();
        let (mut head, _) = packed(&chunking, 1, b"small");
        head.packing = Packing::Zstd { level: 1 };
        head.wire_bytes = bomb.len() as u32;
        let mut unpacker = Unpacker::default();
        let error = unpacker.unpack(&chunking, ChunkIndex(1), &head, &bomb).unwrap_err();
        assert!(matches!(error, PackingError::Unpack(_)), "{error}");
        let short = zstd::bulk::compress(b"few", 1).unwrap();
        head.wire_bytes = short.len() as u32;
        let error = unpacker.unpack(&chunking, ChunkIndex(1), &head, &short).unwrap_err();
        assert_eq!(error, PackingError::Unpacked { expected: 5, found: 3 });
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_unpacker_panic_or_pass(wire in proptest::collection::vec(any::<u8>(), 0..300)) {
            let chunking = Chunking::new(CHUNK_BYTES).unwrap();
            let (head, _) = packed(&chunking, 0, &text(100));
            let head = FrameHead { raw_bytes: CHUNK as u32, wire_bytes: wire.len() as u32, ..head };
            let mut unpacker = Unpacker::default();
            prop_assert!(unpacker.unpack(&chunking, ChunkIndex(0), &head, &wire).is_err());
        }
    }
}
