//! PURE: cuts the snapshot that a primary streams into chunks, and finds its end.
//!
//! ```text
//!   $<length>   so many bytes, and then the commands that follow
//!   $EOF:<mark> bytes of no known number, and then the mark once more
//! ```
//!
//! A mark may come in two pieces, and may stand anywhere among the bytes, though nobody will live to see it. So it counts
//! only as the last that was read, behind the end of a snapshot whose checksum is right. **The law**: read at most
//! [`Payload::wants`] bytes behind what [`Payload::buffer`] has, then call [`Payload::poll`] until it says `More`.

use baton_proto::chunk::CHUNK_BYTES;
use baton_proto::rdb::{Checksum, RdbError, TAIL_BYTES, check_end};

/// Length of the mark.
pub const MARK_BYTES: usize = 40;
/// How much is read beyond what a chunk needs: a socket yields that much at a time.
const READ_AHEAD_BYTES: usize = 64 * 1024;
const CHUNK: usize = CHUNK_BYTES as usize;

/// How the end of the snapshot is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    Length(u64),
    Mark([u8; MARK_BYTES]),
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Read on.
    More,
    /// A chunk is whole, and more follows: [`Payload::cut`] it off, and [`Payload::refill`].
    Cut,
    /// The snapshot is whole: [`Payload::finish`].
    End,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PayloadError {
    #[error("the stream ended after {0} bytes, before the snapshot did")]
    Short(u64),
    #[error("the snapshot that was streamed is damaged: {0}")]
    Damaged(#[from] RdbError),
}

/// A snapshot that comes in.
#[derive(Debug)]
pub struct Payload {
    ending: Ending,
    buffer: Vec<u8>,
    /// Of the chunks that were cut off.
    cut_bytes: u64,
    sums: Checksum,
    /// The last bytes that were cut off: the end of the snapshot may lie on both sides of the cut.
    before: Vec<u8>,
    /// Why a mark was not taken for the end.
    doubt: Option<RdbError>,
}

impl Payload {
    /// Fills the buffer, which is empty.
    pub fn new(ending: Ending, buffer: Vec<u8>) -> Payload {
        let sums = Checksum::default();
        Payload { ending, buffer: roomy(buffer), cut_bytes: 0, sums, before: Vec::new(), doubt: None }
    }

    /// Behind this is read to.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        &mut self.buffer
    }

    /// Most bytes to read next.
    pub fn wants(&self) -> usize {
        let room = (CHUNK + READ_AHEAD_BYTES).saturating_sub(self.buffer.len());
        match self.ending {
            Ending::Mark(_) => room,
            Ending::Length(bytes) => usize::try_from(bytes.saturating_sub(self.bytes())).unwrap_or(room).min(room),
        }
    }

    /// Bytes that were read, of which the mark may be some.
    pub fn bytes(&self) -> u64 {
        self.cut_bytes + self.buffer.len() as u64
    }

    /// What is known to be of the snapshot, of what was not cut off.
    pub fn known(&self) -> &[u8] {
        let mark = if matches!(self.ending, Ending::Mark(_)) { MARK_BYTES } else { 0 };
        self.buffer.get(..self.buffer.len().saturating_sub(mark)).unwrap_or_default()
    }

    /// Looks at what was read.
    pub fn poll(&mut self) -> Result<Next, PayloadError> {
        if self.known().len() > CHUNK {
            return Ok(Next::Cut);
        }
        match self.ending {
            Ending::Length(bytes) if self.bytes() >= bytes => match self.check() {
                Ok(()) => Ok(Next::End),
                Err(error) => Err(error.into()),
            },
            Ending::Mark(mark) if self.buffer.ends_with(&mark) => Ok(match self.check() {
                Ok(()) => Next::End,
                Err(error) => {
                    self.doubt = Some(error);
                    Next::More
                }
            }),
            _ => Ok(Next::More),
        }
    }

    /// Whether what is known ends as a snapshot does.
    fn check(&self) -> Result<(), RdbError> {
        let last = self.known();
        let mut tail = self.before.clone();
        tail.extend_from_slice(last.get(last.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default());
        let tail = tail.get(tail.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default();
        check_end(tail, self.sums.followed_by(Checksum::of(last)))
    }

    /// Takes a whole chunk. What was read beyond it waits for another buffer.
    pub fn cut(&mut self) -> Vec<u8> {
        let rest = self.buffer.get(CHUNK..).unwrap_or_default().to_vec();
        let mut chunk = std::mem::replace(&mut self.buffer, rest);
        chunk.truncate(CHUNK);
        self.sums = self.sums.followed_by(Checksum::of(&chunk));
        self.cut_bytes += chunk.len() as u64;
        self.before = chunk.get(chunk.len().saturating_sub(TAIL_BYTES)..).unwrap_or_default().to_vec();
        chunk
    }

    /// Goes on in this buffer.
    pub fn refill(&mut self, buffer: Vec<u8>) {
        let mut next = roomy(buffer);
        next.extend_from_slice(&self.buffer);
        self.buffer = next;
    }

    /// Takes the last bytes, and tells how many there were in all.
    pub fn finish(mut self) -> (Vec<u8>, u64) {
        let known = self.known().len();
        self.buffer.truncate(known);
        let bytes = self.bytes();
        (self.buffer, bytes)
    }

    /// Why the snapshot is not whole when nothing more comes.
    pub fn ended(&self) -> PayloadError {
        match &self.doubt {
            Some(error) => PayloadError::Damaged(error.clone()),
            None => PayloadError::Short(self.bytes()),
        }
    }
}

fn roomy(mut buffer: Vec<u8>) -> Vec<u8> {
    buffer.clear();
    buffer.reserve(CHUNK + READ_AHEAD_BYTES);
    buffer
}

#[cfg(test)]
mod tests;
