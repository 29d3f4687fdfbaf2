//! Clients that write all the time, as an application does: each waits for its answer before it writes the next key, and
//! turns to the next server when it is told that this one takes no writes. What was acknowledged is remembered, so that it
//! can be looked for afterwards. If told so, they also read what they wrote, and remember what was not as written.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::host::Host;
use crate::resp::Client;
use crate::rng::Rng;

/// Pause after a write that was refused.
const PAUSE: Duration = Duration::from_millis(1);
/// Keys that are asked for at a time.
const KEYS_A_CALL: usize = 500;
/// Of so many writes of a client that reads, one is followed by a read of an earlier one.
const READ_EVERY: u64 = 8;

/// How clients go about it.
#[derive(Debug, Clone, Copy)]
pub struct Manner {
    /// What their keys begin with.
    pub name: &'static str,
    /// Pause after a write that was acknowledged.
    pub pause: Duration,
    /// Whether they also read: for clients of one server, which has to know what it acknowledged.
    pub reads: bool,
}

/// As fast as they can.
const BUSY: Manner = Manner { name: "written", pause: Duration::ZERO, reads: false };

/// Some clients that write.
#[derive(Debug)]
pub struct Writers {
    manner: Manner,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
    threads: Vec<JoinHandle<Acknowledged>>,
}

/// The numbers of the keys that one client's writes were acknowledged for.
#[derive(Debug, Clone, Default)]
struct Acknowledged {
    numbers: Vec<u64>,
    misread: Vec<String>,
    longest_gap: Duration,
}

/// What the clients wrote.
#[derive(Debug, Clone, Default)]
pub struct Written {
    pub keys: Vec<String>,
    /// What a read gave in the place of what had been acknowledged.
    pub misread: Vec<String>,
    /// The longest time between two acknowledged writes of one client.
    pub longest_gap: Duration,
}

impl Manner {
    fn key(&self, client: usize, number: u64) -> String {
        format!("{}:{client}:{number}", self.name)
    }
}

impl Writers {
    /// Starts `clients` of them, which begin with the first of the hosts.
    pub fn start(clients: usize, hosts: &[&Host]) -> Self {
        Self::start_in(BUSY, clients, hosts)
    }

    /// The same, in a manner of the caller's choice.
    pub fn start_in(manner: Manner, clients: usize, hosts: &[&Host]) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let servers: Vec<_> = hosts.iter().map(|host| (host.address(), host.password())).collect();
        let thread = |client| {
            let (stop, acknowledged, servers) = (Arc::clone(&stop), Arc::clone(&acknowledged), servers.clone());
            std::thread::spawn(move || write(manner, client, &servers, &stop, &acknowledged))
        };
        let threads = (0..clients).map(thread).collect();
        Self { manner, stop, acknowledged, threads }
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
            written.keys.extend(own.numbers.into_iter().map(|number| self.manner.key(client, number)));
            written.misread.extend(own.misread);
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
    manner: Manner,
    client: usize,
    servers: &[(SocketAddr, Option<String>)],
    stop: &AtomicBool,
    acknowledged: &AtomicU64,
) -> Acknowledged {
    let mut own = Acknowledged::default();
    let mut dice = Rng::new(client as u64);
    let mut last = Instant::now();
    let mut at = 0;
    let mut connection = None;
    // A number is used once: whether a refused write was done after all is not known.
    for number in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let Some((address, password)) = servers.get(at % servers.len()) else { break };
        let key = manner.key(client, number);
        let connected = match connection.take() {
            Some(connected) => Ok(connected),
            None => Client::connect(*address, password.as_deref()),
        };
        let written = connected.and_then(|mut connected: Client| {
            connected.try_call(&["SET", &key, &key])?;
            Ok(connected)
        });
        match written {
            Ok(mut connected) => {
                own.numbers.push(number);
                own.longest_gap = own.longest_gap.max(last.elapsed());
                last = Instant::now();
                acknowledged.fetch_add(1, Ordering::Relaxed);
                if manner.reads && number % READ_EVERY == 0 {
                    let earlier = manner.key(client, own.numbers[dice.below(own.numbers.len() as u64) as usize]);
                    match connected.try_call(&["GET", &earlier]) {
                        Ok(value) if value.text() == earlier => {}
                        Ok(value) => own.misread.push(format!("{earlier} was read as {}", value.text())),
                        // Its connection is lost: the next write finds out.
                        Err(_) => continue,
                    }
                }
                connection = Some(connected);
                std::thread::sleep(manner.pause);
            }
            Err(_) => {
                at += 1;
                std::thread::sleep(PAUSE);
            }
        }
    }
    own
}
