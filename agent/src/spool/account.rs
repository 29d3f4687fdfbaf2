//! PURE: which bytes of a server's history a spool holds, and where in its file they are.

use baton_proto::chunk::CHUNK_BYTES;

/// Most bytes of a piece: what a frame carries.
pub const PIECE_BYTES: u64 = CHUNK_BYTES;

/// What a spool holds: so many bytes behind an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Account {
    since: u64,
    bytes: u64,
}

/// A piece's place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub position: u64,
    pub bytes: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AccountError {
    #[error("what follows offset {at} was asked for, and the spool was begun at {since}")]
    Before { at: u64, since: u64 },
    #[error("what follows offset {at} was asked for, and the server has not written further than {end}")]
    Beyond { at: u64, end: u64 },
}

impl Account {
    /// Holds nothing yet of what follows an offset.
    pub fn new(since: u64) -> Account {
        Account { since, bytes: 0 }
    }

    /// So many more bytes are held.
    pub fn add(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// How many are held. It is the length of the file.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The offset of the last byte.
    pub fn end(&self) -> u64 {
        self.since.saturating_add(self.bytes)
    }

    /// The next piece for whoever has everything up to an offset.
    pub fn piece(&self, at: u64) -> Result<Span, AccountError> {
        let position = at.checked_sub(self.since).ok_or(AccountError::Before { at, since: self.since })?;
        let left = self.bytes.checked_sub(position).ok_or(AccountError::Beyond { at, end: self.end() })?;
        // Fits: a piece is bounded.
        Ok(Span { position, bytes: left.min(PIECE_BYTES) as usize })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn pieces_of_every_size_follow_each_other_without_a_gap() {
        for bytes in [0, 1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES] {
            let mut account = Account::new(700);
            account.add(bytes as usize);
            let (mut at, mut position) = (700, 0);
            loop {
                let span = account.piece(at).unwrap();
                assert_eq!(span.position, position);
                at += span.bytes as u64;
                position += span.bytes as u64;
                if (span.bytes as u64) < PIECE_BYTES {
                    break;
                }
            }
            assert_eq!((at, position, account.end()), (700 + bytes, bytes, 700 + bytes));
        }
    }

    #[test]
    fn what_is_not_held_is_told_apart() {
        let mut account = Account::new(700);
        account.add(5);
        assert_eq!(account.piece(699), Err(AccountError::Before { at: 699, since: 700 }));
        assert_eq!(account.piece(706), Err(AccountError::Beyond { at: 706, end: 705 }));
        assert_eq!(account.piece(705), Ok(Span { position: 5, bytes: 0 }));
    }

    proptest! {
        #[test]
        fn no_offset_is_answered_with_what_is_not_held(since: u64, bytes in 0usize..100_000_000, at: u64) {
            let mut account = Account::new(since);
            account.add(bytes);
            if let Ok(span) = account.piece(at) {
                prop_assert!(at >= since && span.position + span.bytes as u64 <= account.bytes());
            }
        }
    }
}
