//! Round trips between the two hosts while something else goes on: small datagrams, sent at a steady pace and echoed, so
//! that their delay is that of the queue in front of the link.

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::bench::network::{B_IP, C_IP, Network};

const PORT: u16 = 9002;
const PACE: Duration = Duration::from_millis(10);
/// How often a thread that waits for a datagram looks whether it is to end.
const LOOK: Duration = Duration::from_millis(100);

/// A prober, until it is asked for what it saw.
#[derive(Debug)]
pub struct Probe {
    stop: Arc<AtomicBool>,
    echo: JoinHandle<()>,
    sender: JoinHandle<()>,
    receiver: JoinHandle<Vec<f64>>,
}

impl Probe {
    pub fn start(network: &Network) -> anyhow::Result<Self> {
        let far_address = SocketAddr::from((C_IP, PORT));
        let far = network.c.within(|| UdpSocket::bind(far_address))?.context("bind on C")?;
        let near = network.b.within(|| UdpSocket::bind((B_IP, PORT)))?.context("bind on B")?;
        near.connect(far_address)?;
        near.set_read_timeout(Some(LOOK))?;
        far.set_read_timeout(Some(LOOK))?;
        let stop = Arc::new(AtomicBool::new(false));
        let origin = Instant::now();
        let (until, sending) = (stop.clone(), near.try_clone()?);
        let sender = std::thread::spawn(move || {
            while !until.load(Ordering::Relaxed) {
                // A datagram that cannot be sent is one that is lost.
                let _ = sending.send(&(origin.elapsed().as_nanos() as u64).to_be_bytes());
                std::thread::sleep(PACE);
            }
        });
        let until = stop.clone();
        let echo = std::thread::spawn(move || {
            let mut buffer = [0; 8];
            while !until.load(Ordering::Relaxed) {
                if let Ok((length, from)) = far.recv_from(&mut buffer) {
                    let _ = far.send_to(&buffer[..length], from);
                }
            }
        });
        let until = stop.clone();
        let receiver = std::thread::spawn(move || {
            let (mut seen, mut buffer) = (Vec::new(), [0; 8]);
            while !until.load(Ordering::Relaxed) {
                if let Ok(8) = near.recv(&mut buffer) {
                    let sent = Duration::from_nanos(u64::from_be_bytes(buffer));
                    seen.push(origin.elapsed().saturating_sub(sent).as_secs_f64() * 1e3);
                }
            }
            seen
        });
        Ok(Self { stop, echo, sender, receiver })
    }

    /// Ends, and yields the round trips in milliseconds.
    pub fn finish(self) -> Vec<f64> {
        self.stop.store(true, Ordering::Relaxed);
        for thread in [self.echo, self.sender] {
            if thread.join().is_err() {
                eprintln!("warning: a thread of the probe panicked");
            }
        }
        self.receiver.join().unwrap_or_default()
    }
}

/// The round trips of a time in which nothing else happens.
pub fn idle(network: &Network, time: Duration) -> anyhow::Result<Vec<f64>> {
    let probe = Probe::start(network)?;
    std::thread::sleep(time);
    Ok(probe.finish())
}

/// The value below which so many of a hundred lie; None of nothing.
pub fn percentile(values: &[f64], percent: f64) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let last = sorted.len().checked_sub(1)?;
    sorted.get((last as f64 * percent / 100.0).round() as usize).copied()
}

/// The middle value, or the mean of the two in the middle.
pub fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let upper = sorted.get(sorted.len() / 2)?;
    let lower = sorted.get(sorted.len().saturating_sub(1) / 2)?;
    Some((lower + upper) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_values() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[3.0]), Some(3.0));
        assert_eq!(median(&[3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(&[4.0, 1.0, 2.0, 3.0]), Some(2.5));
        let values: Vec<f64> = (1..=100).map(f64::from).collect();
        assert_eq!(percentile(&values, 99.0), Some(99.0));
        assert_eq!(percentile(&values, 100.0), Some(100.0));
    }
}
