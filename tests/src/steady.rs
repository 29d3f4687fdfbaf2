//! A client that writes at a steady rate, whatever else happens, and remembers what was acknowledged. (Those of `writer` write
//! as fast as they are answered, and look for another server when theirs is gone.)

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::{Duration, Instant};

use crate::host::Host;

/// What is written at a time.
const VALUE_BYTES: usize = 8192;
/// Keys that are written in turns, so that the data does not grow.
const KEYS: u64 = 200;

/// One that writes until it is asked what was acknowledged.
#[derive(Debug)]
pub struct Steady {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<BTreeMap<String, String>>,
}

impl Steady {
    /// Begins to write so many bytes a second. What it falls behind with, when the server makes it wait, it makes up for.
    pub fn start(host: &Host, bytes_a_second: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (ended, mut client) = (Arc::clone(&stop), host.client());
        let pause = Duration::from_secs_f64(VALUE_BYTES as f64 / bytes_a_second as f64);
        let thread = spawn(move || {
            let mut acknowledged = BTreeMap::new();
            let mut due = Instant::now();
            for number in 0u64.. {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let (key, value) = (key(number), format!("{number:0VALUE_BYTES$}"));
                client.call(&["SET", &key, &value]);
                acknowledged.insert(key, value);
                due += pause;
                sleep(due.saturating_duration_since(Instant::now()));
            }
            acknowledged
        });
        Self { stop, thread }
    }

    /// Ends it, and yields the last value of each key.
    pub fn acknowledged(self) -> BTreeMap<String, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("its server answers it")
    }
}

/// The key of a write, so that others can wait for one.
pub fn key(number: u64) -> String {
    format!("steady:{}", number % KEYS)
}

/// The keys of which a server does not have what was acknowledged.
pub fn missing_on<'a>(host: &Host, acknowledged: &'a BTreeMap<String, String>) -> Vec<&'a str> {
    let mut client = host.client();
    let differs = |(key, value): &(&String, &String)| client.call(&["GET", key]).text() != **value;
    acknowledged.iter().filter(differs).map(|(key, _)| key.as_str()).collect()
}
