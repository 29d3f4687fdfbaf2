//! PURE: the requests of a replica, read as they come: arrays (`*1 $4 PING`), as servers send them, and inline lines, as
//! the oldest do. Everything is bounded before it is stored: who connects may be anybody on this host.

/// Most words of a request. The longest that a replica sends is `REPLCONF` with three or four pairs.
pub const WORDS_MAX: usize = 32;
/// Longest word: a password. Redis allows 512 characters of one.
pub const WORD_BYTES_MAX: usize = 4096;
/// Longest line: a count, a length, or an inline request.
pub const LINE_BYTES_MAX: usize = 1024;

/// The words of one request.
pub type Words = Vec<Vec<u8>>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    #[error("a line of a request is longer than {LINE_BYTES_MAX} bytes")]
    Line,
    #[error("a request announces no number of words from 1 to {WORDS_MAX}")]
    Words,
    #[error("a word announces no length up to {WORD_BYTES_MAX}")]
    Word,
    #[error("a word does not end where it says")]
    End,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expect {
    /// The first line of a request.
    Request,
    /// The line with a word's length.
    Length,
    /// A word of this length, and the end of its line.
    Word(usize),
}

/// Cuts bytes into requests, however they are split.
#[derive(Debug)]
pub struct Requests {
    expect: Expect,
    /// The line or word that has not come whole.
    partial: Vec<u8>,
    words: Words,
    missing: usize,
}

impl Default for Requests {
    fn default() -> Self {
        Self { expect: Expect::Request, partial: Vec::new(), words: Words::new(), missing: 0 }
    }
}

impl Requests {
    /// Takes bytes up to the end of a request, which it yields, or all of them. What is left is taken next time.
    pub fn take(&mut self, bytes: &mut &[u8]) -> Result<Option<Words>, RequestError> {
        while let Some((&byte, rest)) = bytes.split_first() {
            *bytes = rest;
            if let Some(request) = self.push(byte)? {
                return Ok(Some(request));
            }
        }
        Ok(None)
    }

    fn push(&mut self, byte: u8) -> Result<Option<Words>, RequestError> {
        self.partial.push(byte);
        if let Expect::Word(length) = self.expect {
            if self.partial.len() < length.saturating_add(2) {
                return Ok(None);
            }
            let mut word = std::mem::take(&mut self.partial);
            if !word.ends_with(b"\r\n") {
                return Err(RequestError::End);
            }
            word.truncate(length);
            return Ok(self.word(word));
        }
        if byte != b'\n' {
            let too_long = self.partial.len() > LINE_BYTES_MAX;
            return if too_long { Err(RequestError::Line) } else { Ok(None) };
        }
        let line = std::mem::take(&mut self.partial);
        let line = line.trim_ascii();
        match (self.expect, line.split_first()) {
            (Expect::Request, Some((b'*', count))) => {
                self.missing =
                    number(count).filter(|count| (1..=WORDS_MAX).contains(count)).ok_or(RequestError::Words)?;
                self.expect = Expect::Length;
            }
            (Expect::Request, None) => {}
            (Expect::Request, Some(_)) => {
                let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
                let words: Words = words.map(<[u8]>::to_vec).collect();
                return if words.len() > WORDS_MAX { Err(RequestError::Words) } else { Ok(Some(words)) };
            }
            (_, Some((b'$', length))) => {
                let length = number(length).filter(|length| *length <= WORD_BYTES_MAX).ok_or(RequestError::Word)?;
                self.expect = Expect::Word(length);
            }
            _ => return Err(RequestError::Word),
        }
        Ok(None)
    }

    fn word(&mut self, word: Vec<u8>) -> Option<Words> {
        self.words.push(word);
        self.missing = self.missing.saturating_sub(1);
        if self.missing > 0 {
            self.expect = Expect::Length;
            return None;
        }
        self.expect = Expect::Request;
        Some(std::mem::take(&mut self.words))
    }
}

/// A number of at most nine digits, without a sign.
fn number(digits: &[u8]) -> Option<usize> {
    let plain = !digits.is_empty() && digits.len() <= 9 && digits.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(digits).ok().filter(|_| plain)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Reads bytes in pieces of this length.
    fn read(bytes: &[u8], piece: usize) -> Result<Vec<Vec<String>>, RequestError> {
        let (mut requests, mut found) = (Requests::default(), Vec::new());
        for mut piece in bytes.chunks(piece) {
            while let Some(words) = requests.take(&mut piece)? {
                found.push(words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect());
            }
            assert!(piece.is_empty(), "everything is taken");
        }
        Ok(found)
    }

    #[test]
    fn requests_are_read_however_they_are_split() {
        let bytes =
            b"*1\r\n$4\r\nPING\r\n\n*2\r\n$4\r\nAUTH\r\n$5\r\na\r\nb \r\nPSYNC  ?   -1\r\n\r\n*1\r\n$0\r\n\r\nSYNC\n";
        for piece in 1..=bytes.len() {
            let found = read(bytes, piece).unwrap();
            let expected: [&[&str]; 5] = [&["PING"], &["AUTH", "a\r\nb "], &["PSYNC", "?", "-1"], &[""], &["SYNC"]];
            assert_eq!(found, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_longer_than_allowed_is_refused_before_it_is_stored() {
        for (bytes, error) in [
            ("*0\r\n", RequestError::Words),
            ("*33\r\n", RequestError::Words),
            ("*-1\r\n", RequestError::Words),
            ("*9999999999999\r\n", RequestError::Words),
            ("*1\r\n$4097\r\n", RequestError::Word),
            ("*1\r\n$-1\r\n", RequestError::Word),
            ("*1\r\n+4\r\n", RequestError::Word),
            ("*1\r\n\r\n", RequestError::Word),
            ("*1\r\n$4\r\nPING!!", RequestError::End),
        ] {
            for piece in 1..=bytes.len() {
                assert_eq!(read(bytes.as_bytes(), piece), Err(error), "{bytes:?} in pieces of {piece}");
            }
        }
        let endless = vec![b'x'; LINE_BYTES_MAX + 1];
        assert_eq!(read(&endless, 100), Err(RequestError::Line));
        let many = "a ".repeat(WORDS_MAX + 1) + "\n";
        assert_eq!(read(many.as_bytes(), 7), Err(RequestError::Words));
    }

    proptest! {
        #[test]
        fn bytes_are_read_alike_however_they_are_split(
            bytes in proptest::collection::vec(prop_oneof![Just(b'*'), Just(b'$'), Just(b'1'), Just(b'\r'), Just(b'\n'), any::<u8>()], 0..200),
            piece in 1usize..20,
        ) {
            prop_assert_eq!(read(&bytes, piece), read(&bytes, 1));
        }
    }
}
