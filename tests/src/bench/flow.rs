//! A plain TCP flow from B to C, from memory to nowhere: what the link itself can carry, and the neighbour beside whom
//! others are to be civil.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::bench::network::{C_IP, Network};

const PORT: u16 = 9001;
const BUFFER_BYTES: usize = 256 << 10;
/// How long the flow has to find the link's rate before it counts, and how long it then counts.
const WARM_UP: Duration = Duration::from_secs(2);
const COUNTED: Duration = Duration::from_secs(4);

/// A flow that goes on until it is dropped.
#[derive(Debug)]
pub struct Flow {
    received: Arc<AtomicU64>,
    near: TcpStream,
    threads: Vec<JoinHandle<()>>,
}

impl Flow {
    pub fn start(network: &Network) -> anyhow::Result<Self> {
        let address = SocketAddr::from((C_IP, PORT));
        let listener = network.c.within(|| TcpListener::bind(address))?.context("listen on C")?;
        let near = network.b.within(|| TcpStream::connect(address))?.context("connect to C")?;
        let (mut far, _) = listener.accept().context("accept from B")?;
        let received = Arc::<AtomicU64>::default();
        let (count, mut sending) = (received.clone(), near.try_clone()?);
        let sender = std::thread::spawn(move || {
            let zeros = vec![0; BUFFER_BYTES];
            // Ends when the other side is shut down.
            while sending.write_all(&zeros).is_ok() {}
        });
        let receiver = std::thread::spawn(move || {
            let mut buffer = vec![0; BUFFER_BYTES];
            while let Ok(length @ 1..) = far.read(&mut buffer) {
                count.fetch_add(length as u64, Ordering::Relaxed);
            }
        });
        Ok(Self { received, near, threads: vec![sender, receiver] })
    }

    /// Bytes that have arrived.
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        // Fails where the connection is gone already.
        let _ = self.near.shutdown(std::net::Shutdown::Both);
        for thread in self.threads.drain(..) {
            if thread.join().is_err() {
                eprintln!("warning: a thread of the flow panicked");
            }
        }
    }
}

/// What the link carries, in MB/s, measured now.
pub fn ceiling(network: &Network) -> anyhow::Result<f64> {
    let flow = Flow::start(network)?;
    std::thread::sleep(WARM_UP);
    let (begun, before) = (Instant::now(), flow.received());
    std::thread::sleep(COUNTED);
    Ok((flow.received() - before) as f64 / 1e6 / begun.elapsed().as_secs_f64())
}
