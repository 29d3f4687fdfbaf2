//! The first words with a server: a command, and one line of answer, on the bare stream.
//!
//! They are spoken here and not by the Redis client, because what matters is *how* a server refuses: protected mode
//! says so unasked and hangs up, and a client library would report a broken pipe.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest line read. The refusal of protected mode, the longest known, takes a fourth of it.
const LINE_BYTES_MAX: usize = 4096;

/// How a [rehearsal](crate::reach) answers where a server would say `PONG`.
pub(crate) const REHEARSAL: &str = "BATON REHEARSAL";

/// One line of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Line {
    Status(String),
    Error(String),
    /// Whoever answers there does not speak the protocol.
    Foreign(String),
    /// The peer hung up without a word.
    Closed,
}

impl Line {
    fn read(bytes: &[u8]) -> Line {
        let text = String::from_utf8_lossy(bytes);
        let text = text.trim_end_matches(['\r', '\n']);
        match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(status), _) => Line::Status(status.to_owned()),
            (_, Some(error)) => Line::Error(error.to_owned()),
            _ if bytes.is_empty() => Line::Closed,
            _ => Line::Foreign(text.chars().filter(|c| !c.is_control()).take(80).collect()),
        }
    }
}

/// Whether an answer to `AUTH` says that there is no password to be right or wrong about.
pub(crate) fn needs_no_password(error: &str) -> bool {
    error.contains("without any password configured") || error.contains("no password is set")
}

/// Whether an error line says that one must log in first; the second is of the oldest servers.
pub(crate) fn asks_for_password(error: &str) -> bool {
    error.starts_with("NOAUTH") || error.starts_with("ERR operation not permitted")
}

/// Servers go on for a thousand characters about how to turn protected mode off.
pub(crate) fn first_sentence(text: &str) -> &str {
    text.split(". ").next().unwrap_or(text)
}

/// `AUTH` as it is sent: without a user, as every version knows it.
pub(crate) fn auth<'a>(user: Option<&'a str>, password: &'a str) -> Vec<&'a str> {
    match user {
        Some(user) => vec!["AUTH", user, password],
        None => vec!["AUTH", password],
    }
}

/// Sends a command and reads the line of its answer.
pub(crate) async fn ask(stream: &mut (impl AsyncRead + AsyncWrite + Unpin), words: &[&str]) -> io::Result<Line> {
    // A server that has refused already may have closed its end; its line is still there to be read.
    let sent = stream.write_all(&command(words)).await;
    match read_line(stream).await {
        Ok(Line::Closed) => sent.map(|()| Line::Closed),
        other => other,
    }
}

/// A command as it is sent.
pub(crate) fn command(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    bytes
}

async fn read_line(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Line> {
    read_bytes(stream).await.map(|line| Line::read(&line))
}

/// Reads up to a line's end and nothing beyond: whoever takes the stream over finds its answers whole. Nothing at all is
/// the stream's end.
pub(crate) async fn read_bytes(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Vec<u8>> {
    let mut line = Vec::new();
    loop {
        match stream.read_u8().await {
            Ok(byte) => line.push(byte),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(line),
            Err(error) if line.is_empty() => return Err(error),
            Err(_) => return Ok(line),
        }
        if line.last() == Some(&b'\n') || line.len() == LINE_BYTES_MAX {
            return Ok(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answered(answer: &[u8]) -> Line {
        let (mut near, mut far) = tokio::io::duplex(8192);
        far.write_all(answer).await.unwrap();
        far.shutdown().await.unwrap();
        ask(&mut near, &["PING"]).await.unwrap()
    }

    #[tokio::test]
    async fn a_line_is_read_as_what_it_is() {
        assert_eq!(answered(b"+PONG\r\n").await, Line::Status("PONG".into()));
        assert_eq!(answered(b"-NOAUTH Authentication required.\r\n").await, {
            Line::Error("NOAUTH Authentication required.".into())
        });
        assert_eq!(answered(b"-ERR\r\n").await, Line::Error("ERR".into()));
        assert_eq!(answered(b"HTTP/1.1 400 Bad\r\n").await, Line::Foreign("HTTP/1.1 400 Bad".into()));
        assert_eq!(answered(b"-DENIED without an end").await, Line::Error("DENIED without an end".into()));
        assert_eq!(answered(b"").await, Line::Closed);
    }

    #[tokio::test]
    async fn a_line_without_end_is_cut() {
        let long = vec![b'x'; 8000];
        assert!(matches!(answered(&long).await, Line::Foreign(_)));
    }

    #[test]
    fn a_command_is_framed_by_its_bytes() {
        assert_eq!(command(&["AUTH", "pä"]), b"*2\r\n$4\r\nAUTH\r\n$3\r\np\xc3\xa4\r\n");
    }
}
