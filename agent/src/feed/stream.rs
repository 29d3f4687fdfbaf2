//! The stream to a server: the snapshot as it arrives, the mark once all of it is verified, and then newlines.
//!
//! The bytes go from the page cache to the socket by `sendfile`, on a thread that may block: what has just been written is
//! not read from the disk, and not copied here. A server that loads more slowly than the snapshot arrives holds nothing
//! up: the file takes what it does not.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::sendfile;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::drawn;
use super::handshake::{Handshake, Output};
use super::listener::Guest;
use crate::blocking::blocking;
use crate::transfer::Supply;

/// Length of the mark that ends a stream, which a replica compares with what it was told at the beginning.
const MARK_BYTES: usize = 40;
/// Most bytes of one `sendfile`; a socket takes less at a time.
const PIECE_BYTES: u64 = 4 * 1024 * 1024;
/// How often a newline keeps a link alive: far below any sensible `repl-timeout`.
const NEWLINE_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, thiserror::Error)]
pub(crate) enum FeedError {
    #[error("the server broke off its feed after {fed} bytes: {why}")]
    Broken { fed: u64, why: String },
    #[error("the server took nothing of its feed for {} s, after {fed} bytes", limit.as_secs())]
    Stalled { fed: u64, limit: Duration },
    #[error("the server has not loaded its feed within {} s after the last byte", .0.as_secs())]
    Late(Duration),
    #[error("the snapshot ended before it was whole, after {0} bytes")]
    Ended(u64),
    /// What an earlier attempt had left was wrong, and some of it has been sent.
    #[error("a part of the snapshot that was sent already turned out to be wrong")]
    TakenBack,
    #[error("read what has arrived: {0}")]
    Read(io::Error),
}

/// How a feed went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fed {
    pub(crate) seconds: f64,
    /// The part of it after the snapshot had arrived.
    pub(crate) behind_seconds: f64,
    /// The part of it in which all that had arrived was sent.
    pub(crate) waited_seconds: f64,
    /// Where the server says that it stands.
    pub(crate) offset: u64,
}

/// The link of a server that has loaded; it is kept alive until this is dropped.
pub(crate) struct Kept {
    pub(super) stream: Arc<TcpStream>,
    keeping: JoinHandle<()>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

/// What the link of a server that has loaded is kept alive by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signs {
    Newlines,
    /// The server's patience. Newlines do count in its offset as soon as a command comes behind them.
    Nothing,
}

/// Sends the snapshot as far as it is here, until it is whole, and waits until the server has loaded it. `limit` bounds
/// how long the server may take nothing, and how long it may load after the last byte. `tell` learns how much was sent.
pub(crate) async fn feed(
    guest: Guest,
    part: File,
    mut supply: watch::Receiver<Supply>,
    (limit, signs): (Duration, Signs),
    tell: impl Fn(u64),
) -> Result<(Fed, Kept), FeedError> {
    let mark = drawn::<{ MARK_BYTES / 2 }>();
    let Guest { stream, handshake } = guest;
    let mut feed = Feed { stream: Arc::new(stream), handshake, part: Arc::new(part), fed: 0, waited: Duration::ZERO };
    let began = Instant::now();
    feed.say(format!("$EOF:{mark}\r\n").as_bytes(), limit).await?;
    feed.send(&mut supply, limit, tell).await?;
    let arrived = Instant::now();
    feed.say(mark.as_bytes(), limit).await?;
    let offset = feed.acknowledged(limit).await?;
    let (seconds, behind_seconds) = (began.elapsed().as_secs_f64(), arrived.elapsed().as_secs_f64());
    let fed = Fed { seconds, behind_seconds, waited_seconds: feed.waited.as_secs_f64(), offset };
    let keeping = tokio::spawn(keep(Arc::clone(&feed.stream), signs));
    Ok((fed, Kept { stream: feed.stream, keeping }))
}

struct Feed {
    stream: Arc<TcpStream>,
    handshake: Handshake,
    part: Arc<File>,
    fed: u64,
    /// For how long there was nothing to send.
    waited: Duration,
}

impl Feed {
    /// Sends until all is sent and verified.
    async fn send(
        &mut self,
        supply: &mut watch::Receiver<Supply>,
        limit: Duration,
        tell: impl Fn(u64),
    ) -> Result<(), FeedError> {
        let mut moved_at = Instant::now();
        loop {
            let Supply { held_bytes, verified } = *supply.borrow_and_update();
            let Some(ready) = held_bytes.checked_sub(self.fed) else { return Err(FeedError::TakenBack) };
            if ready == 0 && verified {
                return Ok(());
            }
            let stream = Arc::clone(&self.stream);
            // What is begun in a branch's body is not broken off by the others: a piece is sent and counted, or not.
            tokio::select! {
                writable = stream.writable(), if ready > 0 => {
                    writable.map_err(|error| self.broken(error))?;
                    let sent = self.piece(ready).await?;
                    if sent > 0 {
                        self.fed = self.fed.saturating_add(sent);
                        moved_at = Instant::now();
                        tell(self.fed);
                    }
                }
                heard = self.hear() => drop(heard?),
                changed = supply.changed(), if ready == 0 => {
                    changed.map_err(|_| FeedError::Ended(self.fed))?;
                    self.waited += moved_at.elapsed();
                    moved_at = Instant::now();
                }
                () = sleep_until(moved_at + limit), if ready > 0 => {
                    return Err(FeedError::Stalled { fed: self.fed, limit });
                }
            }
        }
    }

    /// Sends as much as the socket takes now.
    async fn piece(&self, bytes: u64) -> Result<u64, FeedError> {
        let (stream, part, fed) = (Arc::clone(&self.stream), Arc::clone(&self.part), self.fed);
        // Fits: bounded by a constant.
        let bytes = bytes.min(PIECE_BYTES) as usize;
        let sent = blocking(move || {
            let mut at = fed;
            stream.try_io(Interest::WRITABLE, || Ok(sendfile(&*stream, &*part, Some(&mut at), bytes)?))
        });
        match sent.await.flatten() {
            Ok(0) => Err(FeedError::Read(ErrorKind::UnexpectedEof.into())),
            Ok(sent) => Ok(sent as u64),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(0),
            Err(error) if is_of_the_link(&error) => Err(self.broken(error)),
            Err(error) => Err(FeedError::Read(error)),
        }
    }

    /// Waits for the server to say where it stands.
    async fn acknowledged(&mut self, limit: Duration) -> Result<u64, FeedError> {
        let until = Instant::now() + limit;
        loop {
            tokio::select! {
                heard = self.hear() => if let Some(offset) = heard? {
                    return Ok(offset);
                },
                // No newline meanwhile: a server that writes a file first looks for the mark in what came last.
                () = sleep_until(until) => return Err(FeedError::Late(limit)),
            }
        }
    }

    /// Reads what the server says: where it stands, if it says so.
    async fn hear(&mut self) -> Result<Option<u64>, FeedError> {
        let mut buffer = [0; 1024];
        self.stream.readable().await.map_err(|error| self.broken(error))?;
        match self.stream.try_read(&mut buffer) {
            Ok(0) => return Err(self.broken("it closed the connection")),
            Ok(read) => self.handshake.handle_bytes(buffer.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(self.broken(error)),
        }
        let mut stands = None;
        loop {
            match self.handshake.poll_output() {
                Output::Acked(offset) => stands = Some(offset),
                Output::Refuse { why, .. } => return Err(self.broken(why)),
                Output::Send(_) | Output::Begin => {}
                Output::Wait => return Ok(stands),
            }
        }
    }

    /// Sends a few bytes. A server that takes nothing leaves no room for them either.
    async fn say(&self, bytes: &[u8], limit: Duration) -> Result<(), FeedError> {
        let said = timeout(limit, write_all(&self.stream, bytes)).await;
        said.map_err(|_| FeedError::Stalled { fed: self.fed, limit })?.map_err(|error| self.broken(error))
    }

    fn broken(&self, why: impl ToString) -> FeedError {
        FeedError::Broken { fed: self.fed, why: why.to_string() }
    }
}

/// Whether it is the server that is gone, and not the file that cannot be read.
fn is_of_the_link(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, NotConnected, TimedOut};
    matches!(error.kind(), BrokenPipe | ConnectionAborted | ConnectionReset | NotConnected | TimedOut)
}

async fn write_all(stream: &TcpStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        stream.writable().await?;
        match stream.try_write(bytes) {
            Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Keeps a link alive without moving its offset, and reads away what the server says of where it stands.
async fn keep(stream: Arc<TcpStream>, signs: Signs) {
    let mut buffer = [0; 1024];
    let mut newline_at = Instant::now() + NEWLINE_EVERY;
    loop {
        tokio::select! {
            () = sleep_until(newline_at), if signs == Signs::Newlines => {
                newline_at += NEWLINE_EVERY;
                if write_all(&stream, b"\n").await.is_err() {
                    return;
                }
            }
            readable = stream.readable() => match readable.and_then(|()| stream.try_read(&mut buffer)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use baton_proto::Lineage;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_server_that_takes_not_even_the_mark_is_waited_for_no_longer_than_for_the_rest() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        // It never reads.
        let (_server, _) = listener.accept().await.unwrap();
        stream.writable().await.unwrap();
        while stream.try_write(&[0; 64 * 1024]).is_ok() {}
        let lineage = Lineage { id: format!("{:040x}", 7).parse().unwrap(), offset: 1 };
        let part = Arc::new(tempfile::tempfile().unwrap());
        let handshake = Handshake::new("secret", lineage);
        let feed = Feed { stream: Arc::new(stream), handshake, part, fed: 9, waited: Duration::ZERO };
        let limit = Duration::from_secs(600);
        let said = timeout(limit * 2, feed.say(&[0; 1 << 20], limit)).await.expect("it ends");
        assert!(matches!(said, Err(FeedError::Stalled { fed: 9, .. })), "{said:?}");
    }
}
