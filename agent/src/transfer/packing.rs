//! Chunks as they cross the network: packing on the source; unpacking and checking on the target, where nothing that the
//! peer says is believed. Values in, values out. Which level to pack with is decided elsewhere (`sender::levels`).

use baton_proto::chunk::{ChunkError, ChunkIndex, Chunking, Span};
use baton_proto::data::{FrameHead, Packing};

use crate::transfer::plain::{PLAIN_BYTES_MAX, PlainError, Plainer};
use crate::transfer::sender::levels::{Level, PLAIN_FROM, STORE_ABOVE};

/// From this level on, zstd spends long on what does not shrink: the first bytes are tried with a quick level before.
const PROBE_FROM_LEVEL: i8 = 4;
const PROBE_BYTES: usize = 128 * 1024;
const PROBE_LEVEL: i8 = 1;

/// Packs chunks, and keeps what that needs between them.
#[derive(Default)]
pub struct Packer {
    zstd: Zstd,
    plain: Room,
}

/// How a chunk was packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Form {
    pub packing: Packing,
    /// Its length on the wire.
    pub bytes: usize,
    /// Whether it was to be in its plain form, and had next to no packed strings.
    pub barren: bool,
}

impl Packer {
    /// Packs a chunk into `out`, which has room for it; unless it is better sent as it is.
    pub fn pack(&mut self, raw: &[u8], level: Level, out: &mut [u8]) -> Form {
        let mut barren = false;
        let packed = match level {
            Level::Store => None,
            Level::Zstd(level) => {
                self.zstd.pack(raw, level, raw.len(), out).map(|bytes| (Packing::Zstd { level }, bytes))
            }
            Level::Plain(level) => {
                let plain = self.plain.undo(raw);
                barren = plain.is_none();
                let packing = if barren { Packing::Zstd { level } } else { Packing::Plain { level } };
                self.zstd.pack(plain.unwrap_or(raw), level, raw.len(), out).map(|bytes| (packing, bytes))
            }
        };
        let (packing, bytes) = packed.unwrap_or((Packing::Store, raw.len()));
        Form { packing, bytes, barren }
    }
}

/// A compressor for all levels: its tables are as large as the highest of them needs, and are made once.
#[derive(Default)]
struct Zstd(Option<(i8, zstd::bulk::Compressor<'static>)>);

impl Zstd {
    /// Packs what is to be shorter than a chunk of `raw_bytes`; `None` if it is not.
    fn pack(&mut self, bytes: &[u8], level: i8, raw_bytes: usize, out: &mut [u8]) -> Option<usize> {
        if level >= PROBE_FROM_LEVEL
            && let Some(first) = bytes.get(..PROBE_BYTES)
        {
            self.shrink(first, PROBE_LEVEL, PROBE_BYTES, out)?;
        }
        self.shrink(bytes, level, raw_bytes, out)
    }

    fn shrink(&mut self, bytes: &[u8], level: i8, below: usize, out: &mut [u8]) -> Option<usize> {
        let (set, compressor) = match &mut self.0 {
            Some(compressor) => compressor,
            none => none.insert((level, zstd::bulk::Compressor::new(level.into()).ok()?)),
        };
        if *set != level {
            compressor.set_compression_level(level.into()).ok()?;
            *set = level;
        }
        // Shorter than the chunk, whose length fits.
        let limit = (below as f64 * STORE_ABOVE) as usize;
        // The one error to expect is that there is no room, which is the question that was asked; any other would be no
        // reason either not to send the chunk.
        compressor.compress_to_buffer(bytes, out.get_mut(..limit)?).ok()
    }
}

/// Room for one plain form, and what makes it. It is taken when the first chunk needs it.
#[derive(Default)]
struct Room {
    plainer: Option<Plainer>,
    bytes: Vec<u8>,
}

impl Room {
    fn undo(&mut self, raw: &[u8]) -> Option<&[u8]> {
        self.bytes.resize(PLAIN_BYTES_MAX, 0);
        let undone = self.plainer.get_or_insert_default().undo(raw, &mut self.bytes)?;
        let enough = undone.string_bytes as f64 >= raw.len() as f64 * PLAIN_FROM;
        self.bytes.get(..undone.bytes).filter(|_| enough)
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
    #[error("it is no plain form of a chunk: {0}")]
    Plain(#[from] PlainError),
    #[error("its digest differs from the one that was sent with it")]
    Digest,
    #[error("a refusal came in the place of a chunk")]
    NoChunk,
}

/// Unpacks chunks, and keeps what that needs between them.
pub struct Unpacker {
    decompressor: zstd::bulk::Decompressor<'static>,
    plain: Room,
}

impl Default for Unpacker {
    fn default() -> Self {
        let decompressor = zstd::bulk::Decompressor::new().expect("no dictionary that zstd could refuse");
        Self { decompressor, plain: Room::default() }
    }
}

impl Unpacker {
    /// Checks what came for a chunk, and yields where it belongs and its bytes, with the help of a buffer that has room
    /// for a chunk. Never more than a chunk is unpacked, or the most of a plain form, whatever the bytes would inflate to.
    pub fn unpack<'a>(
        &mut self,
        chunking: &Chunking,
        asked: ChunkIndex,
        head: &FrameHead,
        wire: &'a [u8],
        room: &'a mut [u8],
    ) -> Result<(Span, &'a [u8]), PackingError> {
        let span = check_head(chunking, asked, head)?;
        if wire.len() != head.wire_bytes as usize {
            return Err(PackingError::Came { expected: head.wire_bytes, found: wire.len() });
        }
        let raw = match head.packing {
            Packing::Store => wire,
            Packing::Zstd { .. } => self.inflate(&span, wire, room)?,
            Packing::Plain { .. } => self.redo(&span, wire, room)?,
            Packing::Fault => return Err(PackingError::NoChunk),
        };
        if chunking.digest(asked, raw) != head.digest {
            return Err(PackingError::Digest);
        }
        Ok((span, raw))
    }

    fn inflate<'a>(&mut self, span: &Span, wire: &[u8], room: &'a mut [u8]) -> Result<&'a [u8], PackingError> {
        let room = room_for(span, room)?;
        let found = self.decompressor.decompress_to_buffer(wire, room).map_err(unpack)?;
        if found != room.len() {
            return Err(PackingError::Unpacked { expected: span.bytes, found });
        }
        Ok(room)
    }

    fn redo<'a>(&mut self, span: &Span, wire: &[u8], room: &'a mut [u8]) -> Result<&'a [u8], PackingError> {
        let room = room_for(span, room)?;
        let Room { plainer, bytes } = &mut self.plain;
        bytes.resize(PLAIN_BYTES_MAX, 0);
        let found = self.decompressor.decompress_to_buffer(wire, bytes.as_mut_slice()).map_err(unpack)?;
        plainer.get_or_insert_default().redo(bytes.get(..found).unwrap_or_default(), room)?;
        Ok(room)
    }
}

fn room_for<'a>(span: &Span, room: &'a mut [u8]) -> Result<&'a mut [u8], PackingError> {
    room.get_mut(..span.bytes as usize).ok_or(PackingError::Unpacked { expected: span.bytes, found: 0 })
}

fn unpack(error: std::io::Error) -> PackingError {
    PackingError::Unpack(error.to_string())
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
    use baton_proto::chunk::CHUNK_BYTES;
    use baton_proto::digest::ChunkDigest;
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

    fn packed(chunking: &Chunking, index: u32, raw: &[u8], level: Level) -> (FrameHead, Vec<u8>) {
        let mut out = vec![0; CHUNK];
        let Form { packing, bytes, .. } = Packer::default().pack(raw, level, &mut out);
        let wire = if packing == Packing::Store { raw.to_vec() } else { out[..bytes].to_vec() };
        let digest = chunking.digest(ChunkIndex(index), raw);
        let head = FrameHead { packing, index, raw_bytes: raw.len() as u32, wire_bytes: wire.len() as u32, digest };
        (head, wire)
    }

    #[test]
    fn chunks_come_out_as_they_went_in_at_every_size_and_level() {
        let (mut unpacker, mut room) = (Unpacker::default(), vec![0; CHUNK]);
        for level in [Level::Store, Level::Zstd(-5), Level::Zstd(1), Level::Zstd(9), Level::Plain(3)] {
            for bytes in [1, 2, 100, CHUNK - 1, CHUNK] {
                for raw in [text(bytes), noise(bytes)] {
                    let chunking = Chunking::new((CHUNK + bytes) as u64).unwrap();
                    let (head, wire) = packed(&chunking, 1, &raw, level);
                    let (span, out) = unpacker.unpack(&chunking, ChunkIndex(1), &head, &wire, &mut room).unwrap();
                    assert_eq!((span.offset, out), (CHUNK_BYTES, &*raw));
                }
            }
        }
    }

    #[test]
    fn what_does_not_shrink_is_stored_at_every_level() {
        let (mut packer, mut out) = (Packer::default(), vec![0; CHUNK]);
        let stored = |form: Form| form.packing == Packing::Store;
        for level in [-5, -1, 1, 3, 6, 9].into_iter().flat_map(|level| [Level::Zstd(level), Level::Plain(level)]) {
            let form = packer.pack(&text(CHUNK), level, &mut out);
            assert!(!stored(form) && form.bytes < CHUNK / 2, "{level:?}: {form:?}");
            assert_eq!(form.barren, matches!(level, Level::Plain(_)));
            assert!(stored(packer.pack(&noise(CHUNK), level, &mut out)));
            assert!(stored(packer.pack(b"x", level, &mut out)));
        }
        assert!(stored(packer.pack(&text(CHUNK), Level::Store, &mut out)));
    }

    #[test]
    fn whatever_is_wrong_with_a_frame_has_a_name() {
        let chunking = Chunking::new(2 * CHUNK_BYTES).unwrap();
        let (head, wire) = packed(&chunking, 1, &text(CHUNK), Level::Zstd(1));
        let judge = |head: FrameHead, wire: &[u8], asked: u32| {
            let mut room = vec![0; CHUNK];
            Unpacker::default().unpack(&chunking, ChunkIndex(asked), &head, wire, &mut room).map(|_| ()).unwrap_err()
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

    /// Text as a server packs it, between keys.
    fn packed_strings(bytes: usize) -> Vec<u8> {
        let string = b"\0\x03key\xc3\x15AI\x02aba\xe0\x0b\x01\xe0\xff\x00\xe0\x1a\x00\x06the end";
        string.iter().copied().cycle().take(bytes).collect()
    }

    #[test]
    fn packed_strings_travel_in_their_plain_form() {
        let (mut unpacker, mut room) = (Unpacker::default(), vec![0; CHUNK]);
        // A third of a chunk is noise, since the strings alone would lead beyond what a plain form may have.
        let raw = [noise(CHUNK - 100_000), packed_strings(100_000)].concat();
        for (raw, plain) in [(&raw[CHUNK / 2..], false), (&raw[CHUNK - 150_000..], true)] {
            let chunking = Chunking::new(CHUNK_BYTES + raw.len() as u64).unwrap();
            let (head, wire) = packed(&chunking, 1, raw, Level::Plain(1));
            assert_eq!(head.packing == Packing::Plain { level: 1 }, plain, "{head:?}");
            let (_, out) = unpacker.unpack(&chunking, ChunkIndex(1), &head, &wire, &mut room).unwrap();
            assert!(out == raw);
        }
    }

    #[test]
    fn a_plain_form_that_inflates_beyond_its_bound_or_makes_another_chunk_is_refused() {
        let chunking = Chunking::new(CHUNK_BYTES).unwrap();
        let (head, _) = packed(&chunking, 0, &text(CHUNK), Level::Zstd(1));
        let judge = |form: &[u8]| {
            let wire = zstd::bulk::compress(form, 1).unwrap();
            let head = FrameHead { packing: Packing::Plain { level: 1 }, wire_bytes: wire.len() as u32, ..head };
            let mut room = vec![0; CHUNK];
            Unpacker::default().unpack(&chunking, ChunkIndex(0), &head, &wire, &mut room).map(|_| ()).unwrap_err()
        };
        assert!(matches!(judge(&vec![0; PLAIN_BYTES_MAX + 1]), PackingError::Unpack(_)));
        assert!(matches!(judge(&vec![0; PLAIN_BYTES_MAX]), PackingError::Plain(_)));
        assert!(matches!(judge(&[]), PackingError::Plain(PlainError::Torn)));
        let other = [&[0x80, 0, 0x40, 0, 0][..], &noise(CHUNK)].concat();
        assert_eq!(judge(&other), PackingError::Digest);
    }

    #[test]
    fn a_frame_that_inflates_beyond_its_chunk_is_refused() {
        let chunking = Chunking::new(CHUNK_BYTES + 5).unwrap();
        let bomb = zstd::bulk::compress(&vec![0; 64 * CHUNK], 1).unwrap();
        let (mut head, _) = packed(&chunking, 1, b"small", Level::Zstd(1));
        head.packing = Packing::Zstd { level: 1 };
        head.wire_bytes = bomb.len() as u32;
        let (mut unpacker, mut room) = (Unpacker::default(), vec![0; CHUNK]);
        let error = unpacker.unpack(&chunking, ChunkIndex(1), &head, &bomb, &mut room).unwrap_err();
        assert!(matches!(error, PackingError::Unpack(_)), "{error}");
        let short = zstd::bulk::compress(b"few", 1).unwrap();
        head.wire_bytes = short.len() as u32;
        let error = unpacker.unpack(&chunking, ChunkIndex(1), &head, &short, &mut room).unwrap_err();
        assert_eq!(error, PackingError::Unpacked { expected: 5, found: 3 });
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_unpacker_panic_or_pass(wire in proptest::collection::vec(any::<u8>(), 0..300)) {
            let chunking = Chunking::new(CHUNK_BYTES).unwrap();
            let (head, _) = packed(&chunking, 0, &text(100), Level::Zstd(1));
            let head = FrameHead { raw_bytes: CHUNK as u32, wire_bytes: wire.len() as u32, ..head };
            let mut room = vec![0; CHUNK];
            prop_assert!(Unpacker::default().unpack(&chunking, ChunkIndex(0), &head, &wire, &mut room).is_err());
        }
    }
}
