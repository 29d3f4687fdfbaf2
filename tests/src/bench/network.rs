//! Two hosts, each in a network namespace, and the link between them.

use std::net::Ipv4Addr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde_json::Value;

use crate::bench::link::{self, Count, Link, MTU, Shape};
use crate::namespace::{Namespace, ip};

/// On the loopback of B's host: what is lost never crosses the link.
pub const A_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);
pub const B_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
pub const C_IP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 3);
const DEVICE: &str = "wire0";
/// Packets that a host may have written before the link has read them.
const DEVICE_QUEUE: &str = "4000";

/// A link by its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kind {
    pub name: &'static str,
    pub title: &'static str,
    /// None is as fast as the machine, by veth.
    pub shape: Option<Shape>,
}

const fn shaped(name: &'static str, title: &'static str, megabits: f64, round_trip_us: u64, loss: f64) -> Kind {
    let round_trip = Duration::from_micros(round_trip_us);
    Kind { name, title, shape: Some(Shape { megabits, round_trip, loss_percent: loss }) }
}

pub const GIGABIT: Kind = shaped("gigabit", "1 Gbit/s, RTT 0.5 ms", 1000.0, 500, 0.0);
pub const WAN: Kind = shaped("wan", "200 Mbit/s, RTT 40 ms", 200.0, 40_000, 0.0);
pub const LOSSY: Kind = shaped("lossy", "500 Mbit/s, RTT 60 ms, 0.5 % loss", 500.0, 60_000, 0.5);
pub const UNSHAPED: Kind = Kind { name: "unshaped", title: "unshaped", shape: None };
pub const KINDS: [Kind; 4] = [GIGABIT, WAN, LOSSY, UNSHAPED];

impl Kind {
    pub fn named(name: &str) -> Result<Self, String> {
        let known = || KINDS.map(|kind| kind.name).join(", ");
        KINDS
            .into_iter()
            .find(|kind| kind.name == name)
            .ok_or_else(|| format!("no link `{name}`; there are {}", known()))
    }
}

/// Two hosts and their link, until it is dropped.
#[derive(Debug)]
pub struct Network {
    pub kind: Kind,
    // Before the namespaces: its devices live in them.
    link: Option<Link>,
    pub b: Namespace,
    pub c: Namespace,
}

impl Network {
    /// Makes both hosts and connects them. `tcp` names a congestion control, if not the machine's own.
    pub fn new(kind: Kind, tcp: Option<&str>) -> anyhow::Result<Self> {
        let name = |host| format!("baton-bench-{}-{host}", std::process::id());
        let (b, c) = (Namespace::new(name("b"))?, Namespace::new(name("c"))?);
        let link = match kind.shape {
            Some(shape) => Some(link::between(shape, [&b, &c], DEVICE)?),
            None => {
                let peer = ["peer", "name", DEVICE, "netns", &c.name];
                ip(&[&["link", "add", DEVICE, "netns", &b.name, "type", "veth"][..], &peer].concat())?;
                None
            }
        };
        for (host, address) in [(&b, B_IP), (&c, C_IP)] {
            host.ip(&["addr", "add", &format!("{address}/24"), "dev", DEVICE])?;
            let mtu = MTU.to_string();
            host.ip(&["link", "set", DEVICE, "mtu", &mtu, "txqueuelen", DEVICE_QUEUE, "up"])?;
            if let Some(tcp) = tcp {
                host.use_tcp(tcp)?;
            }
        }
        Ok(Self { kind, link, b, c })
    }

    /// What has crossed from B to C so far; none where the link keeps no counters.
    pub fn forth(&self) -> anyhow::Result<Option<Count>> {
        let Some(link) = &self.link else { return Ok(None) };
        let mut count = link.forth();
        // What the device dropped, since the link did not read fast enough, is lost to the sender all the same.
        let dropped = dropped_by_device(&self.b)?;
        count.packets += dropped;
        count.dropped_full += dropped;
        Ok(Some(count))
    }

    /// What has crossed from C to B so far.
    pub fn back(&self) -> anyhow::Result<Option<Count>> {
        let Some(link) = &self.link else { return Ok(None) };
        let mut count = link.back();
        let dropped = dropped_by_device(&self.c)?;
        count.packets += dropped;
        count.dropped_full += dropped;
        Ok(Some(count))
    }

    /// UDP bytes from B to C so far, cheap enough to be asked often.
    pub fn udp_bytes_forth(&self) -> Option<u64> {
        self.link.as_ref().map(|link| link.forth().udp_bytes)
    }
}

fn dropped_by_device(host: &Namespace) -> anyhow::Result<u64> {
    let text = host.ip(&["-s", "-j", "link", "show", "dev", DEVICE])?;
    let shown: Value = serde_json::from_str(&text).context("read what `ip -j` says")?;
    match shown.pointer("/0/stats64/tx/dropped").and_then(Value::as_u64) {
        Some(dropped) => Ok(dropped),
        None => bail!("`ip -s -j link show` tells nothing of dropped packets"),
    }
}
