//! A TCP relay before a host's server: it cuts the link by which others follow that, and heals it.
//!
//! ```text
//!   replicas, agents that try the way ──> relay ──> the host's server
//! ```
//!
//! What is cut stays connected, as when a network drops packets: nothing passes, in either direction, until the link is
//! healed, and then nothing is lost. The host's own agent and the test reach the server directly.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::host::{Host, quoted};

/// How often a waiting thread looks whether something has changed.
const LOOK: Duration = Duration::from_millis(20);
/// What is carried at a time.
const BUFFER_BYTES: usize = 16 * 1024;

#[derive(Debug, Default)]
struct State {
    cut: AtomicBool,
    gone: AtomicBool,
    /// Connections that were accepted.
    begun: AtomicU64,
}

/// A relay; it ends when dropped.
#[derive(Debug)]
pub struct TcpRelay {
    pub address: SocketAddr,
    state: Arc<State>,
}

impl TcpRelay {
    /// Starts a relay at a host's own address, on the port after its server's, and has the host's agent name it as the
    /// place where others reach the server. Before the agent is started.
    pub fn before(host: &Host) -> Self {
        let server = host.address();
        let address = SocketAddr::new(server.ip(), server.port() + 1);
        host.configure_agent(|toml| {
            toml.instance.set("address", quoted(&address.to_string()));
        });
        let listener = TcpListener::bind(address).expect("the relay's address is free");
        listener.set_nonblocking(true).expect("a listener can be asked without waiting");
        let state = Arc::new(State::default());
        let shared = state.clone();
        thread::spawn(move || accept(&listener, server, &shared));
        Self { address, state }
    }

    pub fn cut(&self) {
        self.state.cut.store(true, Ordering::Relaxed);
    }

    pub fn heal(&self) {
        self.state.cut.store(false, Ordering::Relaxed);
    }

    /// Connections that others have begun.
    pub fn begun(&self) -> u64 {
        self.state.begun.load(Ordering::Relaxed)
    }
}

impl Drop for TcpRelay {
    fn drop(&mut self) {
        self.state.gone.store(true, Ordering::Relaxed);
    }
}

impl State {
    /// Waits while the link is cut. Tells whether the relay is still there.
    fn passes(&self) -> bool {
        while self.cut.load(Ordering::Relaxed) && !self.gone.load(Ordering::Relaxed) {
            thread::sleep(LOOK);
        }
        !self.gone.load(Ordering::Relaxed)
    }
}

fn accept(listener: &TcpListener, server: SocketAddr, state: &Arc<State>) {
    while !state.gone.load(Ordering::Relaxed) {
        let Ok((client, _)) = listener.accept() else {
            thread::sleep(LOOK);
            continue;
        };
        state.begun.fetch_add(1, Ordering::Relaxed);
        let shared = state.clone();
        thread::spawn(move || connect(client, server, &shared));
    }
}

/// Carries one connection, both ways. Where the server is not there, the client is turned away.
fn connect(client: TcpStream, server: SocketAddr, state: &Arc<State>) {
    if !state.passes() {
        return;
    }
    let Ok(server) = TcpStream::connect(server) else { return };
    let ends = (client.try_clone(), server.try_clone());
    let (Ok(client_too), Ok(server_too)) = ends else { return };
    let shared = state.clone();
    thread::spawn(move || carry(server_too, client_too, &shared));
    carry(client, server, state);
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: &State) {
    let _ = from.set_nonblocking(false);
    let _ = from.set_read_timeout(Some(LOOK));
    let mut buffer = vec![0; BUFFER_BYTES];
    while state.passes() {
        match from.read(&mut buffer) {
            Ok(0) => break,
            // What was read when the link was cut waits.
            Ok(read) if state.passes() && to.write_all(&buffer[..read]).is_ok() => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Ok(_) | Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
