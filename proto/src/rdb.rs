//! The outside of an RDB file: its magic and version, the auxiliary fields at its head, and the checksum at its end.
//! The keys between are not looked at. Format: <https://rdb.fnordig.de/file_format.html>, and redis `src/rdb.c`.

use serde::{Deserialize, Serialize};

use crate::lineage::{Lineage, ReplId};
use crate::version::{RDB_MAGIC_BYTES, RdbFormat, VersionError};

/// How much of the file's head is read for its auxiliary fields. Servers write about ten short ones, 200 bytes in all.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Most auxiliary fields that are read; after them the head is taken as it is.
const AUX_FIELDS_MAX: usize = 256;
/// Smallest RDB file: magic, end mark and checksum.
pub const RDB_BYTES_MIN: u64 = (RDB_MAGIC_BYTES + 1 + CRC_BYTES) as u64;
/// Length of the checksum that ends the file.
pub const CRC_BYTES: usize = 8;

const OPCODE_AUX: u8 = 0xfa;
/// What ends the file, before its checksum.
pub const OPCODE_EOF: u8 = 0xff;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RdbError {
    #[error("{0} bytes are too few for an RDB file")]
    Short(u64),
    #[error("not an RDB file: {0}")]
    Magic(#[from] VersionError),
    #[error("auxiliary fields end too early, after {0} bytes")]
    Truncated(usize),
    #[error("auxiliary field at byte {0} has an encoding that no server writes")]
    Encoding(usize),
    #[error("the end mark is missing: byte {0:#04x} stands before the checksum")]
    EndMark(u8),
    #[error("the checksum at its end, {found:016x}, is not that of its bytes")]
    Checksum { found: u64 },
}

/// What a snapshot says of itself at its head.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RdbHead {
    pub format: RdbFormat,
    /// The version of the server that wrote it, as it wrote it.
    pub written_by: Option<String>,
    /// Where the data stands in its group's history. Absent when the server never had a replication stream.
    pub lineage: Option<Lineage>,
    /// When it was written, seconds since 1970.
    pub created_unix: Option<u64>,
    /// Memory that the data set used in the server that wrote it.
    pub used_memory_bytes: Option<u64>,
}

/// Reads the head of a snapshot from the first bytes of the file.
pub fn parse_head(bytes: &[u8]) -> Result<RdbHead, RdbError> {
    let magic = bytes.get(..RDB_MAGIC_BYTES).ok_or(RdbError::Short(bytes.len() as u64))?;
    let format: RdbFormat = String::from_utf8_lossy(magic).parse()?;
    let mut head = RdbHead { format, written_by: None, lineage: None, created_unix: None, used_memory_bytes: None };
    let (mut repl_id, mut repl_offset) = (None, None);
    let mut reader = Reader { bytes, at: RDB_MAGIC_BYTES };
    for _ in 0..AUX_FIELDS_MAX {
        if reader.peek() != Some(OPCODE_AUX) {
            break;
        }
        reader.take(1)?;
        let (key, value) = (reader.string()?, reader.string()?);
        match key.as_str() {
            "redis-ver" | "valkey-ver" => head.written_by = Some(value),
            "repl-id" => repl_id = value.parse::<ReplId>().ok(),
            "repl-offset" => repl_offset = value.parse().ok(),
            "ctime" => head.created_unix = value.parse().ok(),
            "used-mem" => head.used_memory_bytes = value.parse().ok(),
            _ => {}
        }
    }
    head.lineage = repl_id.zip(repl_offset).map(|(id, offset)| Lineage { id, offset });
    Ok(head)
}

/// Walks over the head's bytes; every step is bounded by what is there.
struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn take(&mut self, count: usize) -> Result<&[u8], RdbError> {
        let end = self.at.checked_add(count).ok_or(RdbError::Encoding(self.at))?;
        let taken = self.bytes.get(self.at..end).ok_or(RdbError::Truncated(self.bytes.len()))?;
        self.at = end;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, RdbError> {
        self.take(1)?.first().copied().ok_or(RdbError::Truncated(self.at))
    }

    fn little_endian(&mut self, bytes: usize) -> Result<u64, RdbError> {
        Ok(self.take(bytes)?.iter().rev().fold(0, |sum, b| (sum << 8) | u64::from(*b)))
    }

    /// Reads a string: its length in 6, 14 or 32 bits, or a small integer. Auxiliary fields are never compressed.
    fn string(&mut self) -> Result<String, RdbError> {
        let at = self.at;
        let first = self.byte()?;
        let length = match first >> 6 {
            0 => usize::from(first & 0x3f),
            1 => (usize::from(first & 0x3f) << 8) | usize::from(self.byte()?),
            2 if first == 0x80 => {
                let length = self.take(4)?.iter().fold(0u32, |sum, b| (sum << 8) | u32::from(*b));
                usize::try_from(length).map_err(|_| RdbError::Encoding(at))?
            }
            3 => {
                return match first & 0x3f {
                    0 => Ok((self.little_endian(1)? as u8 as i8).to_string()),
                    1 => Ok((self.little_endian(2)? as u16 as i16).to_string()),
                    2 => Ok((self.little_endian(4)? as u32 as i32).to_string()),
                    _ => Err(RdbError::Encoding(at)),
                };
            }
            _ => return Err(RdbError::Encoding(at)),
        };
        Ok(String::from_utf8_lossy(self.take(length)?).into_owned())
    }
}

/// Length of a file's end: the end mark and the checksum.
pub const TAIL_BYTES: usize = 1 + CRC_BYTES;
/// Parameters of the checksum: CRC-64 of Jones, as redis `src/crc64.c` has it.
const CRC: crc_fast::CrcAlgorithm = crc_fast::CrcAlgorithm::Crc64Redis;

/// The checksum of a run of bytes. Those of runs that follow each other are joined, so that they can be made in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum {
    crc: u64,
    bytes: u64,
}

impl Checksum {
    pub fn of(bytes: &[u8]) -> Self {
        Self { crc: crc_fast::checksum(CRC, bytes), bytes: bytes.len() as u64 }
    }

    /// Joins what comes behind.
    pub fn followed_by(self, next: Checksum) -> Checksum {
        match (self.bytes, next.bytes) {
            (0, _) => next,
            (_, 0) => self,
            _ => Checksum {
                crc: crc_fast::checksum_combine(CRC, self.crc, next.crc, next.bytes),
                bytes: self.bytes + next.bytes,
            },
        }
    }
}

/// Judges a whole file by its length, its end and the checksum of all its bytes. A server with `rdbchecksum no` writes a
/// checksum of zero, which is accepted: that file is vouched for by its BLAKE3 digest alone.
pub fn check_end(tail: &[u8], whole: Checksum) -> Result<(), RdbError> {
    let (Some((&end, trailer)), true) = (tail.split_first(), tail.len() == TAIL_BYTES && whole.bytes >= RDB_BYTES_MIN)
    else {
        return Err(RdbError::Short(whole.bytes));
    };
    if end != OPCODE_EOF {
        return Err(RdbError::EndMark(end));
    }
    let found = trailer.iter().rev().fold(0, |sum, b| (sum << 8) | u64::from(*b));
    // This CRC neither begins nor ends with an inversion, so a message with its own checksum behind it has that of zero.
    if found != 0 && whole.crc != 0 {
        return Err(RdbError::Checksum { found });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ID: &str = "c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb";

    fn aux(key: &str, value: &[u8]) -> Vec<u8> {
        let mut out = vec![OPCODE_AUX, key.len() as u8];
        out.extend_from_slice(key.as_bytes());
        out.extend_from_slice(value);
        out
    }

    fn text(value: &str) -> Vec<u8> {
        let mut out = vec![value.len() as u8];
        out.extend_from_slice(value.as_bytes());
        out
    }

    fn sample() -> Vec<u8> {
        let mut file = b"REDIS0010".to_vec();
        file.extend(aux("redis-ver", &text("7.0.15")));
        file.extend(aux("redis-bits", &[0xc0, 64]));
        file.extend(aux("ctime", &[0xc2, 0x00, 0x10, 0x20, 0x69]));
        file.extend(aux("repl-id", &text(ID)));
        file.extend(aux("repl-offset", &text("16303")));
        file.push(OPCODE_EOF);
        let mut crc = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Redis);
        crc.update(&file);
        file.extend(crc.finalize().to_le_bytes());
        file
    }

    fn check(file: &[u8], step: usize) -> Result<(), RdbError> {
        let whole = file.chunks(step).map(Checksum::of).fold(Checksum::default(), Checksum::followed_by);
        check_end(&file[file.len().saturating_sub(TAIL_BYTES)..], whole)
    }

    #[test]
    fn the_head_of_a_replicas_snapshot_is_read() {
        let head = parse_head(&sample()).unwrap();
        assert_eq!(head.format.to_string(), "REDIS0010");
        assert_eq!(head.written_by.as_deref(), Some("7.0.15"));
        assert_eq!(head.lineage, Some(Lineage { id: ID.parse().unwrap(), offset: 16303 }));
        assert_eq!(head.created_unix, Some(0x6920_1000));
    }

    #[test]
    fn a_snapshot_of_a_lone_primary_has_no_lineage() {
        let mut file = b"VALKEY080".to_vec();
        file.extend(aux("valkey-ver", &text("9.1.2")));
        file.push(OPCODE_EOF);
        let head = parse_head(&file).unwrap();
        assert_eq!((head.lineage, head.written_by.as_deref()), (None, Some("9.1.2")));
    }

    #[test]
    fn a_good_file_passes_however_it_is_cut() {
        for step in 1..=sample().len() {
            assert_eq!(check(&sample(), step), Ok(()), "in pieces of {step}");
        }
    }

    #[test]
    fn a_checksum_of_zero_means_that_the_server_wrote_none() {
        let mut file = sample();
        let at = file.len() - CRC_BYTES;
        file[at..].fill(0);
        assert_eq!(check(&file, 7), Ok(()));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_caught() {
        let good = sample();
        for at in 0..good.len() {
            for bit in 0..8 {
                let mut bad = good.clone();
                bad[at] ^= 1 << bit;
                assert!(check(&bad, 5).is_err(), "bit {bit} of byte {at}");
            }
            assert!(check(&good[..at], 5).is_err(), "cut to {at} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = parse_head(&bytes);
            let _ = check(&bytes, 13);
        }

        #[test]
        fn no_damage_behind_a_good_magic_makes_the_parser_panic(
            bytes in proptest::collection::vec(prop_oneof![Just(OPCODE_AUX), Just(0xc3), Just(0x80), any::<u8>()], 0..400)
        ) {
            let mut file = b"REDIS0011".to_vec();
            file.extend(bytes);
            let _ = parse_head(&file);
        }
    }
}
