//! Loopback addresses that nobody else uses: Linux answers on all of 127.0.0.0/8, so every host of every test has one of
//! its own, with the usual ports. Tests of one process count up; processes are kept apart by their pid.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

/// Addresses of one process. A whole suite uses some two thousand: the kill matrix makes a world for each of its cells.
const PER_PROCESS: u32 = 8192;
/// The first address given out, 127.16.0.0: below it a person's own experiments and the demo have their place.
const FIRST: u32 = 0x7f10_0000;
/// Slots of PER_PROCESS up to 127.254.255.255.
const SLOTS: u32 = (0x7fff_0000 - FIRST) / PER_PROCESS;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// Hands out an address that this process has not handed out before.
pub fn fresh() -> Ipv4Addr {
    let base = FIRST + (std::process::id() % SLOTS) * PER_PROCESS;
    loop {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        assert!(number < PER_PROCESS, "this process has used up its {PER_PROCESS} loopback addresses");
        let address = Ipv4Addr::from(base + number);
        // Some programs take the ends of a /24 for a network and a broadcast address.
        if !matches!(address.octets(), [_, _, _, 0 | 255]) {
            return address;
        }
    }
}
