//! The data path between two agents: tickets, manifests, and the fixed head before each chunk's bytes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::chunk::CHUNK_BYTES;
use crate::digest::ChunkDigest;
use crate::name::RunId;
use crate::version::RdbFormat;

/// Names one pinned snapshot; a resumed transfer must find the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SnapshotId(pub String);

impl fmt::Display for SnapshotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// The right to pull one run's snapshot. The coordinator makes it and gives it to both agents; the source serves nobody
/// else.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ticket {
    pub run: RunId,
    #[serde(with = "serde_bytes")]
    pub secret: Vec<u8>,
}

/// Length of a ticket's secret.
pub const TICKET_SECRET_BYTES: usize = 32;

impl Ticket {
    /// Compares without telling, by the time it takes, how much of the secret was right.
    pub fn matches(&self, other: &Ticket) -> bool {
        let same_length = self.secret.len() == TICKET_SECRET_BYTES && other.secret.len() == TICKET_SECRET_BYTES;
        let difference = self.secret.iter().zip(&other.secret).fold(0, |sum, (a, b)| sum | (a ^ b));
        self.run == other.run && same_length && difference == 0
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ticket({}, secret hidden)", self.run)
    }
}

/// What the source offers, before the first byte of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub snapshot: SnapshotId,
    pub format: RdbFormat,
    /// How many chunks the source keeps at a time. Nothing said, it keeps them all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u32>,
}

/// How far a snapshot has been written. It only grows, until it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    pub bytes: u64,
    /// Whether these are all.
    pub whole: bool,
}

/// The least limit on a transfer, in bytes a second. What leaves at a time takes a minute at this rate; at a few hundred
/// bytes a second the target would take the pauses for the source's end.
pub const RATE_MIN: u64 = 1000;

/// What a transfer may use of its source. Nothing said leaves it to the agent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Budget {
    /// Bytes per second on the network.
    pub max_rate: Option<u64>,
    /// Cores that pack chunks.
    pub cpu: Option<u32>,
}

/// How the chunks of a transfer were packed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PackingFacts {
    /// Mean of the zstd levels, over the chunks that were packed with one.
    pub mean_level: Option<f64>,
    /// Chunks that were sent as they are.
    pub stored: u32,
    /// Chunks that were sent in their plain form.
    #[serde(default)]
    pub plain: u32,
    pub chunks: u32,
    /// Whether a limit was set on the rate, which then tells nothing of the path.
    #[serde(default)]
    pub limited: bool,
    /// Why the last level was chosen, in words.
    pub why: String,
}

/// How a chunk's bytes are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// As they are.
    Store,
    /// One zstd frame; the level is told for the record only.
    Zstd { level: i8 },
    /// One zstd frame of the chunk's plain form, in which the strings that the server packed are not.
    Plain { level: i8 },
    /// No chunk: an encoded [`crate::Fault`].
    Fault,
}

/// Stands before the bytes of a chunk: index, packing, both lengths, digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHead {
    pub packing: Packing,
    pub index: u32,
    pub raw_bytes: u32,
    pub wire_bytes: u32,
    pub digest: ChunkDigest,
}

/// Length of an encoded [`FrameHead`].
pub const FRAME_HEAD_BYTES: usize = 48;
/// Most bytes that a chunk may have on the wire: what is not smaller than the chunk is stored.
pub const WIRE_BYTES_MAX: u32 = CHUNK_BYTES as u32;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    #[error("chunk head begins with {0:#010x}, which is no packing")]
    Packing(u32),
    #[error("chunk head announces {0} bytes, more than a chunk")]
    Length(u32),
}

impl FrameHead {
    pub fn encode(&self) -> [u8; FRAME_HEAD_BYTES] {
        let mut out = [0; FRAME_HEAD_BYTES];
        let packing = match self.packing {
            Packing::Store => 0,
            Packing::Zstd { level } => u32::from_le_bytes([1, level.to_le_bytes()[0], 0, 0]),
            Packing::Fault => 2,
            Packing::Plain { level } => u32::from_le_bytes([3, level.to_le_bytes()[0], 0, 0]),
        };
        let (numbers, digest) = out.split_at_mut(16);
        for (slot, value) in numbers.chunks_exact_mut(4).zip([packing, self.index, self.raw_bytes, self.wire_bytes]) {
            slot.copy_from_slice(&value.to_le_bytes());
        }
        digest.copy_from_slice(&self.digest.0);
        out
    }

    pub fn decode(bytes: &[u8; FRAME_HEAD_BYTES]) -> Result<Self, FrameError> {
        let (numbers, digest) = bytes.split_at(16);
        let mut values = numbers.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number));
        let mut next = || values.next().unwrap_or_default();
        let (packing, index, raw_bytes, wire_bytes) = (next(), next(), next(), next());
        let packing = match packing.to_le_bytes() {
            [0, 0, 0, 0] => Packing::Store,
            [1, level, 0, 0] => Packing::Zstd { level: i8::from_le_bytes([level]) },
            [2, 0, 0, 0] => Packing::Fault,
            [3, level, 0, 0] => Packing::Plain { level: i8::from_le_bytes([level]) },
            _ => return Err(FrameError::Packing(packing)),
        };
        for length in [raw_bytes, wire_bytes] {
            if length > WIRE_BYTES_MAX {
                return Err(FrameError::Length(length));
            }
        }
        let mut chaining = [0; 32];
        chaining.copy_from_slice(digest);
        Ok(Self { packing, index, raw_bytes, wire_bytes, digest: ChunkDigest(chaining) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ticket(run: &str, secret: u8) -> Ticket {
        Ticket { run: RunId::new(run).unwrap(), secret: vec![secret; TICKET_SECRET_BYTES] }
    }

    #[test]
    fn only_the_same_run_and_secret_match() {
        assert!(ticket("fo-1", 7).matches(&ticket("fo-1", 7)));
        assert!(!ticket("fo-1", 7).matches(&ticket("fo-1", 8)));
        assert!(!ticket("fo-1", 7).matches(&ticket("fo-2", 7)));
        let empty = Ticket { run: RunId::new("fo-1").unwrap(), secret: vec![] };
        assert!(!empty.matches(&empty), "an empty secret opens nothing");
    }

    #[test]
    fn a_tickets_secret_is_never_printed() {
        assert_eq!(format!("{:?}", ticket("fo-1", 7)), "Ticket(fo-1, secret hidden)");
    }

    #[test]
    fn the_head_of_a_frame_keeps_its_place_on_the_wire() {
        let head = FrameHead {
            packing: Packing::Zstd { level: -5 },
            index: 0x01020304,
            raw_bytes: CHUNK_BYTES as u32,
            wire_bytes: 5,
            digest: ChunkDigest([9; 32]),
        };
        let golden = [&[1, 0xfb, 0, 0, 4, 3, 2, 1, 0, 0, 64, 0, 5, 0, 0, 0][..], &[9; 32]].concat();
        assert_eq!(head.encode().as_slice(), golden);
        assert_eq!(FrameHead::decode(&head.encode()), Ok(head));
        let packings = [Packing::Store, Packing::Zstd { level: 9 }, Packing::Fault, Packing::Plain { level: -1 }];
        let golden = [[0, 0, 0, 0], [1, 9, 0, 0], [2, 0, 0, 0], [3, 0xff, 0, 0]];
        for (packing, golden) in packings.into_iter().zip(golden) {
            let head = FrameHead { packing, ..head };
            assert_eq!(head.encode()[..4], golden, "{packing:?}");
            assert_eq!(FrameHead::decode(&head.encode()), Ok(head));
        }
        let mut unknown = head.encode();
        unknown[0] = 4;
        assert_eq!(FrameHead::decode(&unknown), Err(FrameError::Packing(0xfb04)));
    }

    proptest! {
        #[test]
        fn no_bytes_announce_more_than_a_chunk(numbers in proptest::collection::vec(any::<u8>(), 16)) {
            let mut bytes = [0; FRAME_HEAD_BYTES];
            bytes[..16].copy_from_slice(&numbers);
            if let Ok(head) = FrameHead::decode(&bytes) {
                prop_assert!(head.raw_bytes <= WIRE_BYTES_MAX && head.wire_bytes <= WIRE_BYTES_MAX);
            }
        }
    }
}
