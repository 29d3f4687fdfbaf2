//! Where the server comes for its data: a port of its own on loopback, for one feed.
//!
//! A server whose feed broke comes again up to a thousand times a second, and anybody on this host can knock. So few are
//! listened to at a time, each for a while only, and who goes away without the stream gives up the place slowly. Once one
//! has the stream, nobody is listened to any more.

use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use baton_proto::{HostPort, Lineage};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tracing::{Instrument, debug, info};

use super::drawn;
use super::handshake::{Handshake, Output};

/// Most visitors listened to at a time.
pub(super) const VISITORS_MAX: usize = 4;
/// How long one may take until it asks for the stream: a server does so within milliseconds.
const VISIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the place of one who got nothing stays taken.
pub(super) const LEAVE_AFTER: Duration = Duration::from_millis(500);
/// Bytes of the secret: more than anybody can guess.
const SECRET_BYTES: usize = 32;

/// Listens for one server.
pub(crate) struct Listener {
    socket: TcpListener,
    port: u16,
    secret: Arc<str>,
}

/// A server that has asked for the stream, and waits for it.
pub(crate) struct Guest {
    pub(super) stream: TcpStream,
    pub(super) handshake: Handshake,
}

impl Listener {
    pub(crate) async fn bind() -> io::Result<Listener> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = socket.local_addr()?.port();
        Ok(Listener { socket, port, secret: drawn::<SECRET_BYTES>().into() })
    }

    pub(crate) fn address(&self) -> HostPort {
        HostPort::new(Ipv4Addr::LOCALHOST.to_string(), self.port)
    }

    /// What the server is to send as the password of its primary.
    pub(crate) fn secret(&self) -> &str {
        &self.secret
    }

    /// Waits for the one that knows the secret and asks for the stream.
    pub(crate) async fn admit(&self, lineage: &Lineage) -> Guest {
        let mut visits = JoinSet::new();
        loop {
            tokio::select! {
                accepted = self.socket.accept(), if visits.len() < VISITORS_MAX => match accepted {
                    Ok((stream, from)) => {
                        debug!(%from, "a visitor of the feed");
                        visits.spawn(visit(stream, Handshake::new(&self.secret, lineage.clone())).in_current_span());
                    }
                    // Out of descriptors, or the visitor left while it waited: others may come.
                    Err(_) => sleep(LEAVE_AFTER).await,
                },
                Some(ended) = visits.join_next() => {
                    if let Ok(Some(guest)) = ended {
                        return guest;
                    }
                }
            }
        }
    }
}

/// Talks to a visitor. None: it got nothing, and has waited for it.
async fn visit(stream: TcpStream, handshake: Handshake) -> Option<Guest> {
    match timeout(VISIT_TIMEOUT, receive(stream, handshake)).await {
        Ok(Ok(guest)) => Some(guest),
        _ => {
            sleep(LEAVE_AFTER).await;
            None
        }
    }
}

async fn receive(mut stream: TcpStream, mut handshake: Handshake) -> io::Result<Guest> {
    stream.set_nodelay(true)?;
    let mut buffer = [0; 1024];
    loop {
        let read = stream.read(&mut buffer).await?;
        handshake.handle_bytes(buffer.get(..read).unwrap_or_default());
        loop {
            match handshake.poll_output() {
                Output::Send(bytes) => stream.write_all(&bytes).await?,
                Output::Begin => return Ok(Guest { stream, handshake }),
                Output::Refuse { answer, why } => {
                    info!("a visitor of the feed is refused: {why}");
                    sleep(LEAVE_AFTER).await;
                    if let Some(answer) = answer {
                        stream.write_all(format!("{answer}\r\n").as_bytes()).await?;
                    }
                    return Err(ErrorKind::PermissionDenied.into());
                }
                Output::Acked(_) => {}
                Output::Wait => break,
            }
        }
        if read == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
    }
}
