//! A server's answers, read without being held: of every string the length and a digest stay, and the bytes only of short
//! ones that were asked to be kept. How much is kept is bounded however much comes.

use std::io::{self, ErrorKind};

use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

/// Longest line read: the error lines of servers are some hundred bytes, and everything long is a string.
const LINE_BYTES_MAX: u64 = 4096;
/// Longest string that is kept: the name of a key, a field, a member, or an `INFO`, which has a line a database.
const KEPT_BYTES_MAX: u64 = 1024 * 1024;
/// What of the answers to one batch is kept: names, and elements of lists. Two batches are under way at most, one a side.
const ROOM_BYTES: u64 = 8 * 1024 * 1024;
const ROOM_ELEMENTS: u64 = 1 << 17;

/// What is wanted of the strings of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Their bytes, if they are short.
    Bytes,
    /// Only what tells them apart.
    Digests,
    /// Only what tells them apart without so many bytes at the end: of `DUMP`, its format's number and checksum.
    Forms,
}

/// At the end of what `DUMP` gives: two bytes of format, eight of checksum.
const FORM_TRAILER_BYTES: u64 = 10;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Answer {
    Status(String),
    Error(String),
    Number(i64),
    Nil,
    Text(Text),
    List(Vec<Answer>),
    /// A list of more elements than are held.
    TooLong,
}

/// A string. Equal are those of the same bytes, kept or not.
#[derive(Debug, Clone)]
pub(super) struct Text {
    pub(super) kept: Option<Vec<u8>>,
    digest: blake3::Hash,
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest
    }
}

impl Answer {
    /// A status or a string that was kept, as text.
    pub(super) fn word(&self) -> Option<&str> {
        match self {
            Answer::Status(word) => Some(word),
            Answer::Text(Text { kept: Some(bytes), .. }) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    pub(super) fn number(&self) -> Option<u64> {
        match self {
            Answer::Number(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }
}

/// How much more is held of the answers to a batch.
pub(super) struct Room {
    bytes: u64,
    elements: u64,
}

impl Default for Room {
    fn default() -> Self {
        Room { bytes: ROOM_BYTES, elements: ROOM_ELEMENTS }
    }
}

/// The first line of an answer, or of an element of one.
enum Head {
    Ready(Answer),
    Text(u64),
    List(u64),
}

/// Reads one answer. No command that is given has lists in lists in lists.
pub(super) async fn read(from: &mut (impl AsyncBufRead + Unpin), want: Want, room: &mut Room) -> io::Result<Answer> {
    let length = match head(from).await? {
        Head::List(length) => length,
        other => return plain(other, from, want, room).await,
    };
    let mut list = Vec::new();
    let mut whole = true;
    for _ in 0..length {
        let element = match head(from).await? {
            Head::List(length) => flat(length, from, want, room).await?,
            other => plain(other, from, want, room).await?,
        };
        whole &= hold(&mut list, element, room);
    }
    Ok(if whole { Answer::List(list) } else { Answer::TooLong })
}

async fn flat(length: u64, from: &mut (impl AsyncBufRead + Unpin), want: Want, room: &mut Room) -> io::Result<Answer> {
    let mut list = Vec::new();
    let mut whole = true;
    for _ in 0..length {
        let element = plain(head(from).await?, from, want, room).await?;
        whole &= hold(&mut list, element, room);
    }
    Ok(if whole { Answer::List(list) } else { Answer::TooLong })
}

/// What has no room is read and let go, so that the next answer is found.
fn hold(list: &mut Vec<Answer>, element: Answer, room: &mut Room) -> bool {
    match room.elements.checked_sub(1) {
        Some(left) => {
            room.elements = left;
            list.push(element);
            true
        }
        None => false,
    }
}

async fn plain(head: Head, from: &mut (impl AsyncBufRead + Unpin), want: Want, room: &mut Room) -> io::Result<Answer> {
    match head {
        Head::Ready(answer) => Ok(answer),
        Head::List(_) => Err(strange()),
        Head::Text(bytes) => {
            let keep = want == Want::Bytes && bytes <= KEPT_BYTES_MAX && bytes <= room.bytes;
            if keep {
                room.bytes = room.bytes.saturating_sub(bytes);
            }
            let trailer = if want == Want::Forms { bytes.min(FORM_TRAILER_BYTES) } else { 0 };
            text(bytes, keep, trailer, from).await.map(Answer::Text)
        }
    }
}

async fn text(bytes: u64, keep: bool, trailer: u64, from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Text> {
    let (mut hasher, mut kept) = (blake3::Hasher::new(), keep.then(Vec::new));
    let mut left = bytes.saturating_sub(trailer);
    while left > 0 {
        let buffer = from.fill_buf().await?;
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        let part = buffer.get(..take).filter(|part| !part.is_empty()).ok_or(ErrorKind::UnexpectedEof)?;
        hasher.update(part);
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(part);
        }
        from.consume(take);
        left = left.saturating_sub(take as u64);
    }
    for _ in 0..trailer {
        from.read_u8().await?;
    }
    match (from.read_u8().await?, from.read_u8().await?) {
        (b'\r', b'\n') => Ok(Text { kept, digest: hasher.finalize() }),
        _ => Err(strange()),
    }
}

async fn head(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Head> {
    let mut line = Vec::new();
    (&mut *from).take(LINE_BYTES_MAX).read_until(b'\n', &mut line).await?;
    if line.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let line = line.strip_suffix(b"\r\n").ok_or_else(strange)?;
    let (kind, rest) = line.split_first().ok_or_else(strange)?;
    let words = || String::from_utf8_lossy(rest).into_owned();
    let number = || std::str::from_utf8(rest).ok().and_then(|rest| rest.parse::<i64>().ok()).ok_or_else(strange);
    Ok(match kind {
        b'+' => Head::Ready(Answer::Status(words())),
        b'-' => Head::Ready(Answer::Error(words())),
        b':' => Head::Ready(Answer::Number(number()?)),
        b'$' | b'*' => match (u64::try_from(number()?), kind) {
            (Err(_), _) => Head::Ready(Answer::Nil),
            (Ok(bytes), b'$') => Head::Text(bytes),
            (Ok(length), _) => Head::List(length),
        },
        _ => return Err(strange()),
    })
}

fn strange() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "it does not speak the protocol")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answers(bytes: &[u8], want: Want, room: &mut Room) -> io::Result<Vec<Answer>> {
        // A buffer of three bytes has every answer come in pieces.
        let mut from = tokio::io::BufReader::with_capacity(3, bytes);
        let mut answers = Vec::new();
        while !from.fill_buf().await?.is_empty() {
            answers.push(read(&mut from, want, room).await?);
        }
        Ok(answers)
    }

    fn text(bytes: &[u8], kept: bool) -> Answer {
        Answer::Text(Text { kept: kept.then(|| bytes.to_vec()), digest: blake3::hash(bytes) })
    }

    #[tokio::test]
    async fn answers_are_read_as_what_they_are() {
        let bytes = b"+OK\r\n-ERR no\r\n:-7\r\n$-1\r\n*-1\r\n$5\r\na\r\nbc\r\n*2\r\n$1\r\n0\r\n*2\r\n$0\r\n\r\n:1\r\n";
        let read = answers(bytes, Want::Bytes, &mut Room::default()).await.unwrap();
        let scanned = Answer::List(vec![text(b"0", true), Answer::List(vec![text(b"", true), Answer::Number(1)])]);
        assert_eq!(
            read,
            [
                Answer::Status("OK".into()),
                Answer::Error("ERR no".into()),
                Answer::Number(-7),
                Answer::Nil,
                Answer::Nil,
                text(b"a\r\nbc", true),
                scanned,
            ]
        );
        let Some(Answer::Text(Text { kept: Some(kept), .. })) = read.get(5) else { panic!("{read:?}") };
        assert_eq!(kept, b"a\r\nbc");
    }

    #[tokio::test]
    async fn a_string_that_is_not_kept_is_still_told_from_another() {
        let long = vec![b'x'; KEPT_BYTES_MAX as usize + 1];
        let bytes = [format!("${}\r\n", long.len()).as_bytes(), &long, b"\r\n$1\r\ny\r\n"].concat();
        let read = answers(&bytes, Want::Bytes, &mut Room::default()).await.unwrap();
        assert_eq!(read, [text(&long, false), text(b"y", true)]);
        assert!(matches!(read.first(), Some(Answer::Text(Text { kept: None, .. }))));
        let digests = answers(b"$1\r\ny\r\n$1\r\nz\r\n", Want::Digests, &mut Room::default()).await.unwrap();
        assert_eq!(digests, [text(b"y", false), text(b"z", false)]);
        assert!(digests.iter().all(|answer| answer.word().is_none()));
    }

    #[tokio::test]
    async fn serialised_forms_are_compared_without_format_and_checksum() {
        let read = answers(b"$13\r\nabc0123456789\r\n$4\r\nabcd\r\n", Want::Forms, &mut Room::default()).await.unwrap();
        assert_eq!(read, [text(b"abc", false), text(b"", false)]);
    }

    #[tokio::test]
    async fn what_has_no_room_is_let_go_and_the_next_answer_is_found() {
        let mut room = Room { bytes: 3, elements: 2 };
        let bytes = b"*2\r\n$2\r\naa\r\n$2\r\nbb\r\n*2\r\n$1\r\nc\r\n*1\r\n$1\r\nd\r\n+OK\r\n";
        let read = answers(bytes, Want::Bytes, &mut room).await.unwrap();
        let first = Answer::List(vec![text(b"aa", true), text(b"bb", false)]);
        assert_eq!(read, [first, Answer::TooLong, Answer::Status("OK".into())]);
        assert_eq!((room.bytes, room.elements), (0, 0));
    }

    #[tokio::test]
    async fn what_is_cut_off_or_not_the_protocol_is_an_error_and_never_allocates_what_is_announced() {
        for bytes in [
            &b"$9223372036854775807\r\nabc"[..],
            b"*9223372036854775807\r\n:1\r\n",
            b"$3\r\nabcde",
            b"HTTP/1.1 400\r\n",
            b"*1\r\n*1\r\n*1\r\n:1\r\n",
            b":x\r\n",
            b"+no end",
            b"\r\n",
        ] {
            let read = answers(bytes, Want::Bytes, &mut Room::default()).await;
            assert!(read.is_err(), "{read:?}");
        }
    }
}
