//! What was written at the source since the snapshot, on the link on which the server has loaded it.
//!
//! The bytes are those that the source's server writes to any replica, and nothing is put between them: so the server's
//! offset counts them as the source does, and it can follow the source from wherever it stands.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::Duration;

use baton_proto::chunk::CHUNK_BYTES;
use baton_proto::{Fault, FaultKind};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tracing::Instrument;

use super::stream::Kept;
use crate::spool::{Piece, Taker};

/// How far it is.
#[derive(Debug, Clone)]
pub(crate) struct Caught {
    /// Up to this offset the server has been sent everything.
    pub(crate) fed: u64,
    pub(crate) wire_bytes: u64,
    /// How much the source had at the last question that the server had not, if that was all of it. While it came, less
    /// than that was written, or the server never comes level.
    pub(crate) behind: Option<u64>,
    pub(crate) failed: Option<Fault>,
}

/// A server that is being fed what was spooled, until this is dropped.
pub(crate) struct CatchingUp {
    pub(crate) caught: watch::Receiver<Caught>,
    feeding: JoinHandle<()>,
}

impl Drop for CatchingUp {
    fn drop(&mut self) {
        self.feeding.abort();
    }
}

/// Feeds a server what follows an offset. `limit` bounds how long it may take nothing.
pub(crate) fn catch_up(kept: &Kept, from: u64, taker: Taker, limit: Duration) -> CatchingUp {
    let (tell, caught) = watch::channel(Caught { fed: from, wire_bytes: 0, behind: None, failed: None });
    let stream = Arc::clone(&kept.stream);
    let feeding = async move {
        let fault = feed_on(&stream, taker, limit, &tell).await;
        tell.send_modify(|caught| caught.failed = Some(fault));
    };
    CatchingUp { caught, feeding: tokio::spawn(feeding.in_current_span()) }
}

async fn feed_on(stream: &TcpStream, mut taker: Taker, limit: Duration, tell: &watch::Sender<Caught>) -> Fault {
    loop {
        let at = tell.borrow().fed;
        let Piece { bytes, wire_bytes } = match taker.next(at).await {
            Ok(piece) => piece,
            Err(fault) => return fault,
        };
        if let Err(error) = send(stream, &bytes, limit).await {
            return Fault::new(FaultKind::Server, "the server broke off its feed behind the snapshot").because(error);
        }
        let length = bytes.len() as u64;
        tell.send_modify(|caught| {
            caught.fed = caught.fed.saturating_add(length);
            caught.wire_bytes = caught.wire_bytes.saturating_add(wire_bytes);
            caught.behind = (length < CHUNK_BYTES).then_some(length);
        });
    }
}

/// Sends all of it. What the server says meanwhile is read by whoever keeps the link.
async fn send(stream: &TcpStream, mut bytes: &[u8], limit: Duration) -> io::Result<()> {
    let mut moved_at = Instant::now();
    while !bytes.is_empty() {
        tokio::select! {
            writable = stream.writable() => writable?,
            () = sleep_until(moved_at + limit) => return Err(ErrorKind::TimedOut.into()),
        }
        match stream.try_write(bytes) {
            Ok(sent) => {
                bytes = bytes.get(sent..).unwrap_or_default();
                moved_at = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
