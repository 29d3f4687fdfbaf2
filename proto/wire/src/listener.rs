//! The answering side: accepts connections, greets, and hands out requests one by one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use baton_proto::codec::{self, REQUEST_BYTES_MAX};
use baton_proto::control::{Answer, Request};
use baton_proto::data::{FrameHead, Packing};
use baton_proto::digest::ChunkDigest;
use baton_proto::hello::{self, Hello};
use baton_proto::{Fault, FaultKind};
use bytes::Bytes;
use quinn::{Connection, Endpoint, Incoming, SendStream};

use crate::congestion::{self, Pace};
use crate::greeting::HELLO_BYTES_MAX;
use crate::identity::{Facts, Role};
use crate::link::peer_facts;
use crate::trust::Credentials;
use crate::{socket, tls, tongue, words};

/// How long a newcomer has for its handshake and greeting. It bounds what a port scan can hold.
const GREET_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a request may take to arrive once its stream is open.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// From how many newcomers on that have not greeted yet the next ones must show that they get what is sent to their address,
/// which costs them a round trip. Until then whoever can forge addresses holds no more of the places for connections.
const NEWCOMERS_UNPROVEN_MAX: usize = 32;

/// How much of a chunk leaves at a time: at a limited rate, the pauses between pieces are what the limit is made of.
const PIECE_BYTES: usize = 64 * 1024;

/// Listens for connections.
pub struct Listener {
    endpoint: Endpoint,
    software: String,
    /// Whose it is, for people.
    name: String,
    /// Counts the newcomers: each holds one.
    newcomers: Arc<()>,
}

impl Listener {
    /// Must be called within a tokio runtime.
    pub fn bind(credentials: &Credentials, listen: SocketAddr, software: &str) -> anyhow::Result<Listener> {
        let endpoint = socket::server(listen, tls::server(credentials)?, &credentials.identity())?;
        let name = match credentials.identity().role() {
            Role::Agent(host) => format!("{software} of {host}"),
            Role::Operator(_) => software.to_owned(),
        };
        Ok(Listener { endpoint, software: software.into(), name, newcomers: Arc::default() })
    }

    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Waits for a newcomer; `None` after [`Listener::close`].
    pub async fn accept(&self) -> Option<Arrival> {
        loop {
            let incoming = self.endpoint.accept().await?;
            let crowded = Arc::strong_count(&self.newcomers) > NEWCOMERS_UNPROVEN_MAX;
            if crowded && !incoming.remote_address_validated() {
                // Fails for those alone that have proven it.
                let _ = incoming.retry();
                continue;
            }
            let newcomer = Arc::clone(&self.newcomers);
            return Some(Arrival { incoming, software: self.software.clone(), name: self.name.clone(), newcomer });
        }
    }

    /// Ends all connections, and says goodbye to the peers.
    pub async fn close(&self) {
        self.endpoint.close(0u32.into(), b"the agent is stopping");
        self.endpoint.wait_idle().await;
    }
}

/// A newcomer that has not shown who it is.
pub struct Arrival {
    incoming: Incoming,
    software: String,
    name: String,
    newcomer: Arc<()>,
}

impl Arrival {
    pub fn address(&self) -> SocketAddr {
        self.incoming.remote_address()
    }

    /// Shakes hands and agrees on a version.
    pub async fn greet(self) -> Result<Peer, Fault> {
        let late = || Fault::new(FaultKind::Peer, "no greeting in time");
        tokio::time::timeout(GREET_TIMEOUT, self.greet_inner()).await.unwrap_or_else(|_| Err(late()))
    }

    async fn greet_inner(self) -> Result<Peer, Fault> {
        let broken = |error| Fault::new(FaultKind::Peer, "handshake failed").because(words::connection(&error));
        let connection = self.incoming.await.map_err(broken)?;
        let facts = peer_facts(&connection).map_err(|error| Fault::new(FaultKind::NotAllowed, error))?;
        let (mut send, mut recv) = connection.accept_bi().await.map_err(broken)?;
        let greeting = recv.read_to_end(HELLO_BYTES_MAX).await;
        let greeting = greeting.map_err(|error| Fault::new(FaultKind::Peer, "read greeting").because(error))?;
        let ours = Hello::new(&*self.software);
        let agreed = codec::decode::<Hello>(&greeting)
            .map_err(|error| Fault::new(FaultKind::Unsupported, "the greeting is not understood").because(error))
            .and_then(|theirs| ours.agree(&theirs).map(|version| (version, theirs.software)));
        let answer: Result<Hello, Fault> = agreed.clone().map(|_| ours);
        respond(&mut send, &tongue::encode(&answer)?).await;
        if agreed.is_err() {
            // Let the words arrive before the connection goes.
            let _ = send.stopped().await;
        }
        let (version, theirs) = agreed?;
        drop(self.newcomer);
        Ok(Peer { connection, facts, version, programs: Arc::new([self.name, theirs]) })
    }
}

/// A connection whose other side is known. Clones share it.
#[derive(Clone)]
pub struct Peer {
    connection: Connection,
    facts: Facts,
    version: u16,
    /// What the programs of both sides call themselves, ours first.
    programs: Arc<[String; 2]>,
}

impl Peer {
    pub fn role(&self) -> &Role {
        &self.facts.role
    }

    /// What stands in its certificate.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The newest protocol version that both sides speak.
    pub fn version(&self) -> u16 {
        self.version
    }

    pub fn address(&self) -> SocketAddr {
        self.connection.remote_address()
    }

    /// Tells whether both are the same connection.
    pub fn is(&self, other: &Peer) -> bool {
        self.connection.stable_id() == other.connection.stable_id()
    }

    /// Bytes that the path carries in a round trip, as far as is known.
    pub fn window(&self) -> u64 {
        self.connection.stats().path.cwnd
    }

    /// How fast the path is, as far as is known.
    pub fn pace(&self) -> Option<Pace> {
        congestion::pace(&self.connection)
    }

    /// Ends the connection for all clones. What was still to be sent is given up.
    pub fn hang_up(&self, why: &str) {
        self.connection.close(0u32.into(), why.as_bytes());
    }

    /// Waits until the connection has ended.
    pub async fn closed(&self) {
        self.connection.closed().await;
    }

    /// Waits for the opening of the next request's stream; `None` when the connection has ended.
    pub async fn next(&self) -> Option<Asking> {
        let (send, recv) = self.connection.accept_bi().await.ok()?;
        Some(Asking { send, recv, programs: Arc::clone(&self.programs) })
    }
}

/// A request that is arriving.
pub struct Asking {
    send: SendStream,
    recv: quinn::RecvStream,
    programs: Arc<[String; 2]>,
}

impl Asking {
    /// Reads the request. What is not understood is answered here, and yields `None`.
    pub async fn read(mut self) -> Option<(Request, Responder)> {
        let read = tokio::time::timeout(REQUEST_TIMEOUT, self.recv.read_to_end(REQUEST_BYTES_MAX)).await;
        let mut responder = Responder { send: self.send };
        let refusal = match read {
            Ok(Ok(bytes)) => match codec::decode::<Request>(&bytes) {
                Ok(request) => return Some((request, responder)),
                Err(error) => {
                    let [ours, theirs] = &*self.programs;
                    hello::not_understood("a request", ours, theirs, &error)
                }
            },
            Ok(Err(error)) => Fault::new(FaultKind::Invalid, "read request").because(error),
            Err(_) => Fault::new(FaultKind::Invalid, "the request did not arrive in time"),
        };
        responder.write_answer(&Err(refusal)).await;
        None
    }
}

/// Answers one request.
pub struct Responder {
    send: SendStream,
}

impl Responder {
    pub async fn answer(mut self, answer: &Answer) {
        self.write_answer(answer).await;
    }

    /// Answers with a chunk. Its bytes are not copied; `pace` is awaited before each piece of them leaves.
    pub async fn chunk<F: Future<Output = ()>>(
        mut self,
        chunk: Result<(FrameHead, Bytes), Fault>,
        pace: impl Fn(usize) -> F,
    ) {
        let (head, bytes) = match chunk {
            Ok(chunk) => chunk,
            Err(fault) => {
                let bytes = tongue::encode(&fault).unwrap_or_default();
                let wire_bytes = u32::try_from(bytes.len()).unwrap_or(0);
                let digest = ChunkDigest([0; 32]);
                let head = FrameHead { packing: Packing::Fault, index: 0, raw_bytes: 0, wire_bytes, digest };
                (head, Bytes::from(bytes))
            }
        };
        // The lower chunk goes first: who reads them in order does not wait for one that was begun later.
        let _ = self.send.set_priority(i32::try_from(head.index).map_or(i32::MIN, |index| -index));
        let mut parts = [Bytes::copy_from_slice(&head.encode()), Bytes::new()];
        let mut rest = bytes;
        loop {
            parts[1] = rest.split_to(rest.len().min(PIECE_BYTES));
            pace(parts[1].len()).await;
            // A peer that went away gets no answer; its loss shows on the connection.
            if self.send.write_all_chunks(&mut parts).await.is_err() {
                return;
            }
            if rest.is_empty() {
                let _ = self.send.finish();
                return;
            }
        }
    }

    async fn write_answer(&mut self, answer: &Answer) {
        match tongue::encode(answer) {
            Ok(bytes) => respond(&mut self.send, &bytes).await,
            Err(fault) => {
                let fault: Answer = Err(fault);
                respond(&mut self.send, &tongue::encode(&fault).unwrap_or_default()).await;
            }
        }
    }
}

async fn respond(send: &mut SendStream, bytes: &[u8]) {
    // A peer that went away gets no answer; its loss shows on the connection.
    if send.write_all(bytes).await.is_ok() {
        let _ = send.finish();
    }
}
