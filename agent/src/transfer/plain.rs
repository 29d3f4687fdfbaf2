//! The plain form of a chunk: its bytes as if the snapshot had been written with `rdbcompression no`. A server packs each
//! string by itself, with LZF; unpacked, zstd makes much less of them all together.
//!
//! ```text
//!   chunk:       bytes, c3, lengths packed and plain, LZF,  bytes, ...
//!   plain form:  count, bytes,  length plain, string,       count, bytes, ...
//! ```
//!
//! Counts and lengths are written as snapshots write lengths, so that a plain string looks as it would there.
//!
//! Nothing is known of a chunk but its bytes: what looks like a packed string is unpacked, and left as it is unless packing
//! makes the very same of it again. So the target can do it, and it does not matter whether it was a string.
//! What does not fit between the ends of a chunk stays as it is, too.

mod lzf;
#[cfg(test)]
mod tests;

use baton_proto::chunk::CHUNK_BYTES;
use memchr::memchr;

use lzf::{EXPANSION_MAX, Lzf};

/// Most bytes of a plain form: strings that would lead beyond are left as they are.
pub const PLAIN_BYTES_MAX: usize = 2 * CHUNK_BYTES as usize;
/// Stands before a packed string in a snapshot.
const MARK: u8 = 0xc3;
/// The server packs no shorter strings, and keeps no packed one that is not this much shorter.
const STRING_BYTES_MIN: usize = 21;
const SAVED_MIN: usize = 4;
/// Most bytes of a chunk that are unpacked or packed in vain, before the rest is left as it is: an eighth of what it costs
/// when all of it is packed strings. Noise, where one byte of 256 looks like a string, stays far below.
const VAIN_BYTES_MAX: usize = CHUNK_BYTES as usize / 8;

/// Undoes the packing of strings and redoes it, and keeps what it needs between chunks.
#[derive(Default)]
pub struct Plainer {
    lzf: Lzf,
    packed: Vec<u8>,
}

/// What was undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Undone {
    /// Length of the plain form.
    pub bytes: usize,
    pub strings: usize,
    /// What those strings take of the chunk, with their lengths.
    pub string_bytes: usize,
    /// What they would take of one that was written with `rdbcompression no`.
    pub plain_bytes: usize,
}

/// Why bytes are no plain form of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlainError {
    #[error("it ends too soon")]
    Torn,
    #[error("a string of {0} bytes is not one that a server packs")]
    String(usize),
    #[error("it makes more than the chunk")]
    TooLong,
    #[error("it makes {missing} bytes less than the chunk")]
    TooShort { missing: usize },
}

impl Plainer {
    /// Writes a chunk's plain form into `out`. `None` if nothing in it is packed, or there is no room for it.
    pub fn undo(&mut self, chunk: &[u8], out: &mut [u8]) -> Option<Undone> {
        let room = out.len();
        let mut plain = Output { room: out, written: 0 };
        let mut undone = Undone { bytes: 0, strings: 0, string_bytes: 0, plain_bytes: 0 };
        // What follows the last string, and where in it the next is looked for.
        let (mut rest, mut from, mut vain) = (chunk, 0, 0);
        while let Some(at) = rest.get(from..).and_then(|unseen| memchr(MARK, unseen)).map(|found| from + found) {
            from = at + 1;
            let (between, here) = rest.split_at_checked(at)?;
            let Some((packed, bytes, after)) = find(here) else { continue };
            let (count, length) = (Length::of(at), Length::of(bytes));
            let begin = plain.written + count.bytes().len() + at + length.bytes().len();
            // What follows may be left as it is, and is to have room too.
            if begin + bytes + Length::BYTES_MAX + after.len() > room {
                continue;
            }
            let string = plain.room.get_mut(begin..begin + bytes)?;
            let done =
                lzf::unpack(packed, string).and_then(|()| self.lzf.makes(packed, string).then_some(()).ok_or(bytes));
            if let Err(made) = done {
                vain += made;
                if vain > VAIN_BYTES_MAX {
                    break;
                }
                continue;
            }
            plain.put(count.bytes())?;
            plain.put(between)?;
            plain.put(length.bytes())?;
            plain.written += bytes;
            undone.strings += 1;
            undone.string_bytes += here.len() - after.len();
            undone.plain_bytes += length.bytes().len() + bytes;
            (rest, from) = (after, 0);
        }
        if undone.strings == 0 {
            return None;
        }
        plain.put(Length::of(rest.len()).bytes())?;
        plain.put(rest)?;
        undone.bytes = plain.written;
        Some(undone)
    }

    /// Makes exactly a chunk of its plain form. It takes no longer than both are, whatever the bytes.
    pub fn redo(&mut self, plain: &[u8], chunk: &mut [u8]) -> Result<(), PlainError> {
        let mut rest = plain;
        let mut out = Output { room: chunk, written: 0 };
        loop {
            let count = take_length(&mut rest).ok_or(PlainError::Torn)?;
            out.put(take(&mut rest, count).ok_or(PlainError::Torn)?).ok_or(PlainError::TooLong)?;
            if rest.is_empty() {
                break;
            }
            let bytes = take_length(&mut rest).ok_or(PlainError::Torn)?;
            let string = take(&mut rest, bytes).ok_or(PlainError::Torn)?;
            // A string that is not shorter packed is sent as it is: so each one costs the sender more than it costs here.
            if bytes < STRING_BYTES_MIN || !self.lzf.pack(string, bytes - SAVED_MIN, &mut self.packed) {
                return Err(PlainError::String(bytes));
            }
            let (packed_bytes, bytes) = (Length::of(self.packed.len()), Length::of(bytes));
            for part in [&[MARK], packed_bytes.bytes(), bytes.bytes(), &self.packed] {
                out.put(part).ok_or(PlainError::TooLong)?;
            }
        }
        match out.room.len() - out.written {
            0 => Ok(()),
            missing => Err(PlainError::TooShort { missing }),
        }
    }
}

/// Tells what could be a packed string at the start of these bytes: its packed form, its length, and what follows.
fn find(here: &[u8]) -> Option<(&[u8], usize, &[u8])> {
    let mut rest = here.strip_prefix(&[MARK])?;
    let packed_bytes = take_length(&mut rest)?;
    let bytes = take_length(&mut rest)?;
    let plausible = (STRING_BYTES_MIN..=PLAIN_BYTES_MAX).contains(&bytes)
        && packed_bytes <= bytes - SAVED_MIN
        && bytes / EXPANSION_MAX <= packed_bytes;
    let packed = take(&mut rest, packed_bytes).filter(|_| plausible)?;
    Some((packed, bytes, rest))
}

fn take<'a>(rest: &mut &'a [u8], bytes: usize) -> Option<&'a [u8]> {
    rest.split_off(..bytes)
}

/// A buffer that is filled from its start.
struct Output<'a> {
    room: &'a mut [u8],
    written: usize,
}

impl Output<'_> {
    fn put(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.written.checked_add(bytes.len())?;
        self.room.get_mut(self.written..end)?.copy_from_slice(bytes);
        self.written = end;
        Some(())
    }
}

/// A length as snapshots write it, of which there are three forms: 6 bits, 14 bits, and 32 after a byte of its own.
struct Length {
    form: [u8; Self::BYTES_MAX],
    used: usize,
}

const LENGTH_6: usize = 1 << 6;
const LENGTH_14: usize = 1 << 14;
const MARK_14: u8 = 0x40;
const MARK_32: u8 = 0x80;

impl Length {
    const BYTES_MAX: usize = 5;

    /// Of what is in a chunk or its plain form, both of which 32 bits number.
    fn of(length: usize) -> Self {
        let [a, b, c, d] = (length as u32).to_be_bytes();
        match length {
            0..LENGTH_6 => Self { form: [d, 0, 0, 0, 0], used: 1 },
            LENGTH_6..LENGTH_14 => Self { form: [MARK_14 | c, d, 0, 0, 0], used: 2 },
            _ => Self { form: [MARK_32, a, b, c, d], used: 5 },
        }
    }

    fn bytes(&self) -> &[u8] {
        self.form.get(..self.used).unwrap_or_default()
    }
}

/// Takes a length, if it has the shortest of its forms: any other would not be written again.
fn take_length(rest: &mut &[u8]) -> Option<usize> {
    let first = *rest.split_off_first()?;
    match first >> 6 {
        0 => Some(usize::from(first)),
        1 => {
            let length = usize::from(first & !MARK_14) << 8 | usize::from(*rest.split_off_first()?);
            (length >= LENGTH_6).then_some(length)
        }
        _ if first == MARK_32 => {
            let bytes = take(rest, 4)?.first_chunk()?;
            let length = usize::try_from(u32::from_be_bytes(*bytes)).ok()?;
            (length >= LENGTH_14).then_some(length)
        }
        _ => None,
    }
}
