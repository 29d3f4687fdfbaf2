//! A UDP relay before a host's agent: it counts, slows and cuts what passes.
//!
//! ```text
//!   coord, agents ──> relay ──(one socket for each of them: a flow)──> the host's agent
//! ```
//!
//! A flow that has brought much is the one that carries a snapshot; the coordinator's carries little. So a test can cut
//! the one and leave the other. A cut lasts until the test heals it.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes from which on a flow counts as one that carries a snapshot.
const BULK_BYTES: u64 = 512 * 1024;
/// Largest UDP datagram.
const DATAGRAM_BYTES: usize = 65_536;
/// How often a waiting thread looks whether the relay is gone.
const LOOK: Duration = Duration::from_millis(100);

/// What passes the relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Passing {
    Everything,
    /// Only flows that carry no snapshot.
    ExceptBulk,
    /// Only what comes for the agent; its answers do not.
    OnlyTo,
    /// Only what the agent sends.
    OnlyFrom,
    Nothing,
}

#[derive(Debug)]
struct State {
    passing: Mutex<Passing>,
    /// Bytes a second towards the clients, over all flows; 0 is no limit.
    rate: AtomicU64,
    /// Bytes that came from the agent and were passed on.
    brought: AtomicU64,
    /// Connections that clients began: QUIC packets of type Initial that came from a flow that had been cut.
    begun_while_cut: AtomicU64,
    gone: AtomicBool,
}

/// One client's way through the relay.
#[derive(Debug)]
struct Flow {
    upstream: UdpSocket,
    brought: AtomicU64,
}

/// A relay; it ends when dropped.
#[derive(Debug)]
pub struct Relay {
    pub address: SocketAddr,
    state: Arc<State>,
}

impl Relay {
    /// Starts a relay at a fresh address to an agent.
    pub fn to(agent: SocketAddr) -> Self {
        Self::at(SocketAddr::from((crate::address::fresh(), agent.port())), agent)
    }

    /// Starts a relay at the agent's own address, on the next port: who knows a host by its address finds it there.
    pub fn beside(agent: SocketAddr) -> Self {
        Self::at(SocketAddr::from((agent.ip(), agent.port() + 1)), agent)
    }

    fn at(own: SocketAddr, agent: SocketAddr) -> Self {
        let socket = UdpSocket::bind(own).expect("the relay's address is free");
        socket.set_read_timeout(Some(LOOK)).expect("a timeout can be set");
        let state = Arc::new(State {
            passing: Mutex::new(Passing::Everything),
            rate: AtomicU64::new(0),
            brought: AtomicU64::new(0),
            begun_while_cut: AtomicU64::new(0),
            gone: AtomicBool::new(false),
        });
        let shared = state.clone();
        thread::spawn(move || forward(&socket, agent, &shared));
        Self { address: own, state }
    }

    pub fn pass(&self, passing: Passing) {
        *self.state.passing.lock().unwrap() = passing;
    }

    /// Limits what comes from the agent.
    pub fn limit(&self, bytes_a_second: u64) {
        self.state.rate.store(bytes_a_second, Ordering::Relaxed);
    }

    /// Bytes that came from the agent and were passed on.
    pub fn brought(&self) -> u64 {
        self.state.brought.load(Ordering::Relaxed)
    }

    /// How many packets were seen with which a cut client tried to begin a new connection.
    pub fn begun_while_cut(&self) -> u64 {
        self.state.begun_while_cut.load(Ordering::Relaxed)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.state.gone.store(true, Ordering::Relaxed);
    }
}

impl State {
    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn passes(&self, flow: &Flow, to_the_agent: bool) -> bool {
        match *self.passing.lock().unwrap() {
            Passing::Everything => true,
            Passing::ExceptBulk => flow.brought.load(Ordering::Relaxed) < BULK_BYTES,
            Passing::OnlyTo => to_the_agent,
            Passing::OnlyFrom => !to_the_agent,
            Passing::Nothing => false,
        }
    }
}

/// A QUIC long header of type Initial: RFC 9000, section 17.2.
fn begins_a_connection(datagram: &[u8]) -> bool {
    datagram.first().is_some_and(|first| first & 0xf0 == 0xc0)
}

/// Carries datagrams of all clients to the agent, until the relay is gone.
fn forward(socket: &UdpSocket, agent: SocketAddr, state: &Arc<State>) {
    let mut flows: HashMap<SocketAddr, Arc<Flow>> = HashMap::new();
    let mut buffer = vec![0; DATAGRAM_BYTES];
    while !state.is_gone() {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        let flow = flows.entry(client).or_insert_with(|| open(socket, client, agent, state));
        if state.passes(flow, true) {
            // A datagram may get lost anywhere, here as well.
            let _ = flow.upstream.send(&buffer[..length]);
        } else if begins_a_connection(&buffer[..length]) {
            state.begun_while_cut.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Opens a flow, and the thread that carries datagrams back.
fn open(socket: &UdpSocket, client: SocketAddr, agent: SocketAddr, state: &Arc<State>) -> Arc<Flow> {
    let upstream = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    upstream.connect(agent).expect("the agent's address is reachable");
    upstream.set_read_timeout(Some(LOOK)).expect("a timeout can be set");
    let flow = Arc::new(Flow { upstream, brought: AtomicU64::new(0) });
    let back = socket.try_clone().expect("a socket can be shared");
    let (shared, flow_back) = (state.clone(), flow.clone());
    thread::spawn(move || bring_back(&back, client, &flow_back, &shared));
    flow
}

fn bring_back(socket: &UdpSocket, client: SocketAddr, flow: &Flow, state: &State) {
    let mut buffer = vec![0; DATAGRAM_BYTES];
    let mut next = Instant::now();
    while !state.is_gone() {
        let Ok(length) = flow.upstream.recv(&mut buffer) else { continue };
        if !state.passes(flow, false) {
            continue;
        }
        let rate = state.rate.load(Ordering::Relaxed);
        if rate > 0 {
            // Paced: each datagram takes the time that it would take on a line of this rate. What does not fit into the
            // socket's buffer meanwhile is lost, as on such a line.
            next = next.max(Instant::now()) + Duration::from_secs_f64(length as f64 / rate as f64);
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        flow.brought.fetch_add(length as u64, Ordering::Relaxed);
        state.brought.fetch_add(length as u64, Ordering::Relaxed);
        let _ = socket.send_to(&buffer[..length], client);
    }
}
