//! Clients that write all the time, as an application does: each waits for its answer before it writes the next key, and
//! turns to the next server when it is told that this one takes no writes. What was acknowledged is remembered, so that it
//! can be looked for afterwards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::host::Host;
use crate::resp::Client;

/// Pause after a write that was refused.
const PAUSE: Duration = Duration::from_millis(1);
/// Keys that are asked for at a time.
const KEYS_A_CALL: usize = 500;

/// Some clients that write.
#[derive(Debug)]
pub struct Writers {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Acknowledged>>,
}

/// The numbers of the keys that one client's writes were acknowledged for.
#[derive(Debug, Clone, Default)]
struct Acknowledged {
    numbers: Vec<u64>,
    longest_gap: Duration,
}

/// What the clients wrote.
#[derive(Debug, Clone, Default)]
pub struct Written {
    pub keys: Vec<String>,
    /// The longest time between two acknowledged writes of one client.
    pub longest_gap: Duration,
}

fn key(client: usize, number: u64) -> String {
    format!("written:{client}:{number}")
}

impl Writers {
    /// Starts `clients` of them, which begin with the first of the hosts.
    pub fn start(clients: usize, hosts: &[&Host]) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let servers: Vec<_> = hosts.iter().map(|host| (host.address(), host.password())).collect();
        let thread = |client| {
            let (stop, acknowledged, servers) = (Arc::clone(&stop), Arc::clone(&acknowledged), servers.clone());
            std::thread::spawn(move || write(client, &servers, &stop, &acknowledged))
        };
        let threads = (0..clients).map(thread).collect();
        Self { stop, acknowledged, threads }
    }

    /// How many writes were acknowledged so far.
    pub fn acknowledged(&self) -> u64 {
        self.acknowledged.load(Ordering::Relaxed)
    }

    pub fn stop(self) -> Written {
        self.stop.store(true, Ordering::Relaxed);
        let mut written = Written::default();
        for (client, thread) in self.threads.into_iter().enumerate() {
            let own = thread.join().expect("a client does not panic");
            written.keys.extend(own.numbers.into_iter().map(|number| key(client, number)));
            written.longest_gap = written.longest_gap.max(own.longest_gap);
        }
        written
    }
}

impl Written {
    /// The acknowledged writes that a server does not have.
    pub fn missing_on(&self, host: &Host) -> Vec<&String> {
        let mut client = host.client();
        let mut missing = Vec::new();
        for keys in self.keys.chunks(KEYS_A_CALL) {
            let words: Vec<&str> = std::iter::once("MGET").chain(keys.iter().map(String::as_str)).collect();
            let values = client.call(&words).list();
            missing.extend(keys.iter().zip(values).filter(|(key, value)| value.text() != **key).map(|(key, _)| key));
        }
        missing
    }
}

fn write(
    client: usize,
    servers: &[(SocketAddr, Option<String>)],
    stop: &AtomicBool,
    acknowledged: &AtomicU64,
) -> Acknowledged {
    let mut own = Acknowledged::default();
    let mut last = Instant::now();
    let mut at = 0;
    let mut connection = None;
    // A number is used once: whether a refused write was done after all is not known.
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let Some((address, password)) = servers.get(at % servers.len()) else { break };
        let key = key(client, number);
        let connected = match connection.take() {
            Some(connected) => Ok(connected),
            None => Client::connect(*address, password.as_deref()),
        };
        let written = connected.and_then(|mut connected: Client| {
            connected.try_call(&["SET", &key, &key])?;
            Ok(connected)
        });
        match written {
            Ok(connected) => {
                connection = Some(connected);
                own.numbers.push(number);
                own.longest_gap = own.longest_gap.max(last.elapsed());
                last = Instant::now();
                acknowledged.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {
                at += 1;
                std::thread::sleep(PAUSE);
            }
        }
    }
    own
}
