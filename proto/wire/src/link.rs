//! The asking side: dials an agent and asks it one thing a stream.
//!
//! The first question need not wait for the answer to the greeting: it goes out behind it, and an agent that speaks no common
//! version serves nothing that follows. On a long path that is a round trip less.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use baton_proto::codec::{self, REPLY_BYTES_MAX};
use baton_proto::control::{Answer, Reply, Request};
use baton_proto::data::{FRAME_HEAD_BYTES, FrameHead, Packing, Ticket};
use baton_proto::hello;
use baton_proto::{Fault, FaultKind, HostName, HostPort};
use quinn::{Connection, Endpoint, ReadExactError, ReadToEndError, RecvStream, WriteError};

use crate::greeting::Greeting;
use crate::identity::{Facts, Role, facts_of};
use crate::trust::Credentials;
use crate::{knock, socket, tls, tongue, words};

/// How long a host may take to be found, again how long to shake hands, and again to agree on a version. Longer than three
/// lost first packets.
pub(crate) const DIAL_TIMEOUT: Duration = Duration::from_secs(4);
/// How long one request may take. Agents answer at once or within their own, shorter limits.
const ASK_TIMEOUT: Duration = Duration::from_secs(30);

/// Why an agent could not be reached.
#[derive(Debug, Clone, thiserror::Error)]
pub enum DialError {
    #[error("resolve {address}: {error}")]
    Resolve { address: String, error: String },
    #[error("no agent listens at {address}: {error}")]
    NobodyListens { address: SocketAddr, error: String },
    #[error("agent at {address}: {reason}")]
    Connection { address: SocketAddr, reason: String },
    #[error("agent at {address} did not answer within {}s", DIAL_TIMEOUT.as_secs())]
    Silent { address: SocketAddr },
    #[error("agent at {address} holds the certificate of {found}, not of the agent of {wanted}")]
    Stranger { address: SocketAddr, found: String, wanted: HostName },
    #[error("agent at {address}: {fault}")]
    Greeting { address: SocketAddr, fault: Fault },
}

impl From<DialError> for Fault {
    fn from(error: DialError) -> Fault {
        let (kind, hint) = match &error {
            DialError::Greeting { fault, .. } => (fault.kind, fault.hint.clone()),
            DialError::Stranger { .. } => (FaultKind::NotAllowed, None),
            _ => (FaultKind::Peer, None),
        };
        Fault { hint, ..Fault::new(kind, error) }
    }
}

/// Makes connections to agents.
#[derive(Clone)]
pub struct Dialer {
    config: quinn::ClientConfig,
    v4: Endpoint,
    v6: Option<Endpoint>,
    software: String,
    dialled: Dialled,
}

/// The connections that were made, each with the serial number of the certificate at its other end.
type Dialled = Arc<Mutex<Vec<(Vec<u8>, Weak<Held>)>>>;

impl Dialer {
    /// Must be called within a tokio runtime.
    pub fn new(credentials: &Credentials, software: &str) -> anyhow::Result<Dialer> {
        Self::with(tls::client(credentials)?, software, Dialled::default())
    }

    fn with(config: quinn::ClientConfig, software: &str, dialled: Dialled) -> anyhow::Result<Dialer> {
        let endpoint = |any: SocketAddr| -> std::io::Result<Endpoint> {
            let mut endpoint = socket::client(any)?;
            endpoint.set_default_client_config(config.clone());
            Ok(endpoint)
        };
        let v4 = endpoint(([0, 0, 0, 0], 0).into())?;
        // A host without IPv6 is no error until an IPv6 address is dialled.
        let v6 = endpoint(([0u16; 8], 0).into()).ok();
        Ok(Dialer { config, v4, v6, software: software.into(), dialled })
    }

    /// Makes another with sockets of its own. A socket is served by one task, and a flow through a network by one path.
    pub fn with_own_socket(&self) -> anyhow::Result<Dialer> {
        Self::with(self.config.clone(), &self.software, Arc::clone(&self.dialled))
    }

    /// Ends the connections to those that are not believed any more, also of dialers that were made of this one.
    pub fn turn_out(&self, credentials: &Credentials) {
        for (serial, held) in self.dialled().iter().filter_map(|(serial, held)| Some((serial, held.upgrade()?))) {
            if credentials.is_revoked(serial) {
                held.0.close(0u32.into(), b"your certificate is revoked");
            }
        }
    }

    fn remember(&self, serial: Vec<u8>, link: &Link) {
        let mut dialled = self.dialled();
        // Those that have ended are forgotten, so there are never more than connections and one.
        dialled.retain(|(_, held)| held.strong_count() > 0);
        dialled.push((serial, Arc::downgrade(&link.held)));
    }

    fn dialled(&self) -> MutexGuard<'_, Vec<(Vec<u8>, Weak<Held>)>> {
        // Nothing can panic while it is held, so it is whole even if poisoned.
        self.dialled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Connects to the agent of `host`, and agrees with it on a version. Whoever else answers there, with whatever
    /// certificate, is an error.
    pub async fn dial(&self, address: &HostPort, host: &HostName) -> Result<Link, DialError> {
        let link = self.connect(address, host).await?;
        link.greeting.heard().await?;
        Ok(link)
    }

    /// The same, but does not wait for the answer to the greeting: the first question does, after it was sent.
    pub async fn connect(&self, address: &HostPort, host: &HostName) -> Result<Link, DialError> {
        let unresolved = |error: String| DialError::Resolve { address: address.to_string(), error };
        let found = tokio::net::lookup_host((address.host.as_str(), address.port));
        let found = tokio::time::timeout(DIAL_TIMEOUT, found).await;
        let found = found.map_err(|_| unresolved(format!("no answer within {}s", DIAL_TIMEOUT.as_secs())))?;
        let mut found = found.map_err(|error| unresolved(error.to_string()))?;
        let address = found.next().ok_or_else(|| unresolved("no address".into()))?;
        tokio::select! {
            link = tokio::time::timeout(DIAL_TIMEOUT, self.shake_hands(address, host)) => {
                link.unwrap_or(Err(DialError::Silent { address }))
            }
            error = knock::refused(address) => Err(DialError::NobodyListens { address, error: error.to_string() }),
        }
    }

    async fn shake_hands(&self, address: SocketAddr, host: &HostName) -> Result<Link, DialError> {
        let broken = |reason: String| DialError::Connection { address, reason };
        let endpoint = if address.is_ipv4() { Some(&self.v4) } else { self.v6.as_ref() };
        let endpoint = endpoint.ok_or_else(|| broken("this host has no IPv6".into()))?;
        let connecting = endpoint.connect(address, host.as_str()).map_err(|error| broken(error.to_string()))?;
        let connection = connecting.await.map_err(|error| broken(words::connection(&error)))?;
        let serial = match peer_facts(&connection).map(|facts| (facts.role, facts.serial)) {
            Ok((Role::Agent(found), serial)) if found == *host => serial,
            Ok((role, _)) => {
                return Err(DialError::Stranger { address, found: format!("the {role}"), wanted: host.clone() });
            }
            Err(found) => return Err(DialError::Stranger { address, found, wanted: host.clone() }),
        };
        let greeting = Greeting::send(&connection, address, host, &self.software).await?;
        let link = Link { connection: connection.clone(), held: Arc::new(Held(connection)), greeting };
        self.remember(serial, &link);
        Ok(link)
    }
}

/// A connection to an agent. Clones share it.
#[derive(Clone)]
pub struct Link {
    connection: Connection,
    held: Arc<Held>,
    greeting: Greeting,
}

/// Ends its connection with the last link to it.
struct Held(Connection);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.close(0u32.into(), b"done");
    }
}

impl Link {
    /// Asks one thing and waits for the answer.
    pub async fn ask(&self, request: &Request) -> Result<Reply, Fault> {
        let bytes = tongue::encode(request)?;
        let answer = tokio::time::timeout(ASK_TIMEOUT, self.exchange(&bytes, REPLY_BYTES_MAX));
        let answer = answer.await.map_err(|_| {
            Fault::new(FaultKind::Peer, format!("the agent did not answer within {}s", ASK_TIMEOUT.as_secs()))
        })??;
        let answer: Answer = codec::decode(&answer).map_err(|error| self.not_understood("an answer", error))?;
        answer
    }

    /// Asks for a chunk, and tells that all before `held` are written. Its bytes, still packed as the head says, are written
    /// to what `room` yields for their number, which is no more than a chunk; `arrived` hears of each piece of them.
    pub async fn chunk<'a>(
        &self,
        ticket: &Ticket,
        (index, held): (u32, u32),
        room: impl FnOnce(usize) -> &'a mut [u8],
        arrived: impl Fn(usize),
    ) -> Result<FrameHead, Fault> {
        self.framed(&Request::Chunk { ticket: ticket.clone(), index, held }, room, arrived).await
    }

    /// Asks for a piece of the run's spool behind an offset. Its bytes are written as a chunk's are.
    pub async fn spooled<'a>(
        &self,
        ticket: &Ticket,
        at: u64,
        room: impl FnOnce(usize) -> &'a mut [u8],
    ) -> Result<FrameHead, Fault> {
        let request = Request::Spooled { ticket: ticket.clone(), at };
        self.framed(&request, room, |_| {}).await
    }

    /// Asks for something that is answered by a head, and the bytes that it announces.
    async fn framed<'a>(
        &self,
        request: &Request,
        room: impl FnOnce(usize) -> &'a mut [u8],
        arrived: impl Fn(usize),
    ) -> Result<FrameHead, Fault> {
        let request = tongue::encode(request)?;
        let mut recv = self.send(&request).await?;
        let mut head = [0; FRAME_HEAD_BYTES];
        recv.read_exact(&mut head).await.map_err(|error| self.lost_exact(error))?;
        let head = FrameHead::decode(&head).map_err(|error| Fault::new(FaultKind::Verification, error))?;
        // Bounded by WIRE_BYTES_MAX, which the head was checked against.
        let wire_bytes = head.wire_bytes as usize;
        if head.packing == Packing::Fault {
            let mut bytes = vec![0; wire_bytes];
            recv.read_exact(&mut bytes).await.map_err(|error| self.lost_exact(error))?;
            let fault: Fault = codec::decode(&bytes).map_err(|error| self.not_understood("a refusal", error))?;
            return Err(fault);
        }
        let mut rest = room(wire_bytes);
        if rest.len() != wire_bytes {
            return Err(Fault::new(FaultKind::Internal, "there is no room for a chunk"));
        }
        while !rest.is_empty() {
            let bytes = recv.read_chunk(rest.len(), true).await.map_err(|error| self.lost(error))?;
            let bytes = bytes.ok_or_else(|| Fault::new(FaultKind::Peer, "the chunk ended too early"))?.bytes;
            let (here, behind) = rest
                .split_at_mut_checked(bytes.len())
                .ok_or_else(|| Fault::new(FaultKind::Internal, "more was read than was asked for"))?;
            here.copy_from_slice(&bytes);
            arrived(bytes.len());
            rest = behind;
        }
        Ok(head)
    }

    /// Whether the connection has ended.
    pub fn is_closed(&self) -> bool {
        self.connection.close_reason().is_some()
    }

    /// Ends the connection for all clones.
    pub fn close(&self) {
        self.connection.close(0u32.into(), b"done");
    }

    async fn exchange(&self, request: &[u8], answer_bytes_max: usize) -> Result<Vec<u8>, Fault> {
        let recv = self.send(request).await?;
        read_to_end(&self.connection, recv, answer_bytes_max).await
    }

    async fn send(&self, request: &[u8]) -> Result<RecvStream, Fault> {
        let sent = open(&self.connection, request).await;
        // An agent that did not like the greeting has said why, and serves nothing else.
        self.greeting.heard().await?;
        sent
    }

    fn not_understood(&self, what: &str, error: codec::CodecError) -> Fault {
        let [ours, theirs] = self.greeting.programs();
        hello::not_understood(what, &ours, &theirs, &error)
    }

    fn lost_exact(&self, error: ReadExactError) -> Fault {
        match error {
            ReadExactError::FinishedEarly(bytes) => {
                Fault::new(FaultKind::Peer, format!("the chunk ended after {bytes} bytes"))
            }
            ReadExactError::ReadError(error) => self.lost(error),
        }
    }

    fn lost(&self, error: impl std::fmt::Display) -> Fault {
        lost(&self.connection, error)
    }
}

/// Opens a stream for a request, and sends it.
pub(crate) async fn open(connection: &Connection, request: &[u8]) -> Result<RecvStream, Fault> {
    let (mut send, recv) = connection.open_bi().await.map_err(|error| lost(connection, error))?;
    send.write_all(request).await.map_err(|error| match error {
        // The agent has answered without reading on; its answer says why.
        WriteError::Stopped(_) => Fault::new(FaultKind::Peer, "the agent stopped reading the request"),
        error => lost(connection, error),
    })?;
    // Fails only when the stream is closed already, which reading the answer finds out.
    let _ = send.finish();
    Ok(recv)
}

/// Reads an answer that is no longer than it may be.
pub(crate) async fn read_to_end(
    connection: &Connection,
    mut recv: RecvStream,
    bytes_max: usize,
) -> Result<Vec<u8>, Fault> {
    recv.read_to_end(bytes_max).await.map_err(|error| match error {
        ReadToEndError::TooLong => {
            Fault::new(FaultKind::Peer, format!("the agent's answer is longer than {bytes_max} bytes"))
        }
        ReadToEndError::Read(error) => lost(connection, error),
    })
}

fn lost(connection: &Connection, error: impl std::fmt::Display) -> Fault {
    let lost = |kind, why| Fault::new(kind, "the connection to the agent was lost").because(why);
    match connection.close_reason() {
        Some(reason) if words::is_refusal(&reason) => lost(FaultKind::NotAllowed, words::connection(&reason)),
        Some(reason) => lost(FaultKind::Peer, words::connection(&reason)),
        None => lost(FaultKind::Peer, error.to_string()),
    }
}

pub(crate) fn peer_facts(connection: &Connection) -> Result<Facts, String> {
    let identity = connection.peer_identity().ok_or("it showed no certificate")?;
    let chain = identity.downcast::<Vec<rustls_pki_types::CertificateDer<'static>>>();
    let chain = chain.map_err(|_| "its certificate is of no known kind")?;
    facts_of(chain.first().ok_or("it showed no certificate")?)
}
