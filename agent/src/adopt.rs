//! The agent as the primary of its own server, so that the server serves replicas although its primary is lost.
//!
//! A replica without a link answers `-NOMASTERLINK` to whoever wants its data. Told to follow a port of this agent, it asks
//! to go on from where it stands, hears `+CONTINUE`, and takes its link for up: it keeps id, offset, data and its read-only
//! state, and serves. It is kept by bare newlines: every other byte would move its offset. Measured on Redis 4.0 to 8.0 and
//! Valkey 7.2 to 9.1.
//! Left out: telling the server whom to follow, and fencing it again (see `actions/adoption.rs`).

mod manners;

use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use baton_proto::{HostPort, Lineage};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};
use tracing::debug;

use crate::reach::read_command;
use manners::{Answer, Manners};

/// How often the server hears a sign of life. The shortest `repl-timeout` that makes sense is some seconds.
const SIGN_OF_LIFE: Duration = Duration::from_millis(500);
/// How long a visitor may take to say who it is.
const GREETING_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a greeting: half a dozen short commands.
const GREETING_BYTES_MAX: u64 = 16 * 1024;
/// Most visitors at a time: the server, and itself once more if it has reconnected.
const VISITORS_MAX: usize = 4;

/// A port of this host at which one server is adopted, as long as this lives.
pub struct Adoption {
    address: HostPort,
    refused: Arc<OnceLock<String>>,
    listening: JoinHandle<()>,
}

impl Drop for Adoption {
    fn drop(&mut self) {
        self.listening.abort();
    }
}

impl Adoption {
    /// Listens for the server that stands there and was given the secret.
    pub async fn listen(stands: Lineage, secret: String) -> io::Result<Adoption> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = HostPort::new("127.0.0.1", listener.local_addr()?.port());
        let refused = Arc::<OnceLock<String>>::default();
        let visit = Visit { manners: Arc::new(Manners { stands, secret }), refused: Arc::clone(&refused) };
        Ok(Adoption { address, refused, listening: tokio::spawn(serve(listener, visit)) })
    }

    /// Whom the server is to follow.
    pub fn address(&self) -> &HostPort {
        &self.address
    }

    /// Why the server was refused, if it was.
    pub fn refused(&self) -> Option<&str> {
        self.refused.get().map(String::as_str)
    }
}

#[derive(Clone)]
struct Visit {
    manners: Arc<Manners>,
    refused: Arc<OnceLock<String>>,
}

/// Accepts until it is dropped, and all visits end with it.
async fn serve(listener: TcpListener, visit: Visit) {
    let mut visits = JoinSet::new();
    loop {
        while visits.len() >= VISITORS_MAX {
            visits.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, from)) => {
                let visit = visit.clone();
                visits.spawn(async move {
                    let ended = visit.receive(stream).await;
                    debug!(%from, ?ended, "visitor has left");
                });
            }
            // Out of descriptors, or the visitor left while it waited: others may come.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        while visits.try_join_next().is_some() {}
    }
}

impl Visit {
    async fn receive(&self, mut stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        match timeout(GREETING_TIMEOUT, self.greet(&mut stream)).await {
            Ok(Ok(true)) => keep(&mut stream).await,
            Ok(other) => other.map(drop),
            Err(_) => Ok(()),
        }
    }

    /// Answers until the visitor is adopted, or has left.
    async fn greet(&self, stream: &mut TcpStream) -> io::Result<bool> {
        let (reading, mut writing) = stream.split();
        let mut reading = BufReader::new(reading.take(GREETING_BYTES_MAX));
        let mut logged_in = false;
        while let Some(words) = read_command(&mut reading).await? {
            match self.manners.answer(&mut logged_in, &words) {
                Answer::Line(line) => writing.write_all(line.as_bytes()).await?,
                Answer::Adopted(line) => {
                    writing.write_all(line.as_bytes()).await?;
                    return Ok(true);
                }
                Answer::Refused { line, why } => {
                    // The first reason is the one that is told.
                    let _ = self.refused.set(why);
                    writing.write_all(line.as_bytes()).await?;
                    return Ok(false);
                }
            }
        }
        Ok(false)
    }
}

/// Keeps the link of an adopted server. What it says, how far it is, was known before.
async fn keep(stream: &mut TcpStream) -> io::Result<()> {
    let (mut reading, mut writing) = stream.split();
    let mut heard = [0; 1024];
    let mut signs = interval(SIGN_OF_LIFE);
    signs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            read = reading.read(&mut heard) => if read? == 0 {
                return Ok(());
            },
            _ = signs.tick() => writing.write_all(b"\n").await?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb";

    async fn adoption() -> (Adoption, TcpStream) {
        let stands = Lineage { id: ID.parse().unwrap(), offset: 9 };
        let adoption = Adoption::listen(stands, "5ecret".into()).await.unwrap();
        let stream = TcpStream::connect(("127.0.0.1", adoption.address().port)).await.unwrap();
        (adoption, stream)
    }

    async fn heard(stream: &mut TcpStream, bytes: usize) -> String {
        let mut heard = vec![0; bytes];
        stream.read_exact(&mut heard).await.unwrap();
        String::from_utf8(heard).unwrap()
    }

    #[tokio::test]
    async fn an_adopted_server_hears_newlines_and_nothing_else_until_the_end() {
        let (adoption, mut stream) = adoption().await;
        // As servers before 6.2 write it, and as later ones do.
        stream.write_all(b"PING\r\nAUTH 5ecret\r\n").await.unwrap();
        stream.write_all(format!("*3\r\n$5\r\nPSYNC\r\n$40\r\n{ID}\r\n$2\r\n10\r\n").as_bytes()).await.unwrap();
        let said = format!("-NOAUTH Authentication required.\r\n+OK\r\n+CONTINUE {ID}\r\n");
        assert_eq!(heard(&mut stream, said.len()).await, said);
        stream.write_all(b"*3\r\n$8\r\nREPLCONF\r\n$3\r\nACK\r\n$1\r\n9\r\n").await.unwrap();
        assert_eq!(heard(&mut stream, 3).await, "\n\n\n");
        assert_eq!(adoption.refused(), None);
        drop(adoption);
        let mut rest = Vec::new();
        // The end, or a reset of what was said last.
        let _ = stream.read_to_end(&mut rest).await;
        assert!(rest.iter().all(|byte| *byte == b'\n'), "{rest:?}");
    }

    #[tokio::test]
    async fn a_server_that_has_lost_its_place_is_refused_and_the_reason_is_known() {
        let (adoption, mut stream) = adoption().await;
        stream.write_all(b"AUTH 5ecret\r\nPSYNC ? -1\r\n").await.unwrap();
        let mut said = String::new();
        stream.read_to_string(&mut said).await.unwrap();
        assert!(said.starts_with("+OK\r\n-ERR "), "{said}");
        assert!(adoption.refused().unwrap().contains("asked for ? from -1 on"), "{:?}", adoption.refused());
    }
}
