//! PURE: pieces of a spool as they cross the network. Each is packed and framed as the only chunk of a file would be, with
//! its digest, so that nothing but what was spooled is fed to a server.

use baton_proto::chunk::{ChunkIndex, Chunking};
use baton_proto::data::{FrameHead, Packing};
use bytes::Bytes;

use crate::transfer::packing::{Packer, PackingError, Unpacker};
use crate::transfer::sender::levels::Level;

/// What is written is text and small numbers, mostly: a quick level takes most of what there is to take.
const LEVEL: Level = Level::Zstd(1);
const ONLY: ChunkIndex = ChunkIndex(0);

/// Packs a piece, unless it is better sent as it is. It is no longer than a chunk.
pub fn pack(raw: Vec<u8>) -> (FrameHead, Bytes) {
    let digest = baton_proto::digest::chunk_digest(ONLY, &raw, true);
    let mut out = vec![0; raw.len()];
    let form = Packer::default().pack(&raw, LEVEL, &mut out);
    // No longer than a chunk, which fits.
    let raw_bytes = raw.len() as u32;
    let mut wire = if form.packing == Packing::Store { raw } else { out };
    wire.truncate(form.bytes);
    let head = FrameHead { packing: form.packing, index: ONLY.0, raw_bytes, wire_bytes: wire.len() as u32, digest };
    (head, wire.into())
}

/// Checks what came, and yields what was spooled.
pub fn unpack(unpacker: &mut Unpacker, head: &FrameHead, wire: &[u8]) -> Result<Vec<u8>, PackingError> {
    if head.raw_bytes == 0 {
        // Of nothing there is no chunk.
        return if wire.is_empty() {
            Ok(Vec::new())
        } else {
            Err(PackingError::Stored { raw: 0, wire: head.wire_bytes })
        };
    }
    let chunking = Chunking::new(head.raw_bytes.into())?;
    // Bounded by the head, which was checked when it was read.
    let mut room = vec![0; head.raw_bytes as usize];
    let (_, raw) = unpacker.unpack(&chunking, ONLY, head, wire, &mut room)?;
    Ok(raw.to_vec())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::account::PIECE_BYTES;
    use super::*;

    fn stream(bytes: usize) -> Vec<u8> {
        let line = b"*3\r\n$3\r\nSET\r\n$10\r\nkey:000017\r\n$5\r\nvalue\r\n";
        line.iter().copied().cycle().take(bytes).collect()
    }

    #[test]
    fn a_piece_of_every_size_comes_out_as_it_went_in() {
        let chunk = PIECE_BYTES as usize;
        for bytes in [0, 1, 2, 41, chunk - 1, chunk] {
            let (head, wire) = pack(stream(bytes));
            assert_eq!(FrameHead::decode(&head.encode()), Ok(head));
            assert!(wire.len() <= bytes);
            assert!(unpack(&mut Unpacker::default(), &head, &wire).unwrap() == stream(bytes), "{bytes} bytes");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_written_comes_out_as_it_went_in(raw in proptest::collection::vec(any::<u8>(), 0..5000)) {
            let (head, wire) = pack(raw.clone());
            prop_assert_eq!(unpack(&mut Unpacker::default(), &head, &wire), Ok(raw));
        }

        #[test]
        fn no_damage_passes(at in 0usize..1000, bit in 0u8..8) {
            let (head, wire) = pack(stream(3000));
            let mut wire = wire.to_vec();
            let at = at % wire.len();
            wire[at] ^= 1 << bit;
            let came = unpack(&mut Unpacker::default(), &head, &wire);
            prop_assert!(came.is_err() || came == Ok(stream(3000)));
        }
    }
}
