//! Worlds for tests, in few words.

use std::collections::BTreeMap;

use baton_proto::report::{
    Fence, Files, HostReport, InstanceReport, Keys, Link, Memory, Persistence, ReplicaLine, Replication, Role, Running,
    ServerState, ServiceFact, Settings, SyncCounters,
};
use baton_proto::version::{Product, ServerVersion};
use baton_proto::{Fault, HostName, HostPort, InstanceName, InstanceRef, Lineage, ReplId, RunId};

use super::{ClockOffset, Host, HostView, Probe, Reach, World};
use baton_proto::control::ReachVerdict;

/// What every host's clock says, in seconds.
pub(crate) const NOW: u64 = 1_700_000_000;

pub(crate) fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

/// `host` or `host/instance`.
pub(crate) fn named(text: &str) -> InstanceRef {
    let (name, instance) = text.split_once('/').unwrap_or((text, "default"));
    InstanceRef { host: host(name), instance: InstanceName::new(instance).unwrap() }
}

pub(crate) fn at(text: &str) -> HostPort {
    text.parse().unwrap()
}

/// An id of one repeated hexadecimal character.
pub(crate) fn id(digit: char) -> ReplId {
    digit.to_string().repeat(40).parse().unwrap()
}

pub(crate) fn lineage(digit: char, offset: u64) -> Lineage {
    Lineage { id: id(digit), offset }
}

fn redis(text: &str) -> ServerVersion {
    ServerVersion::new(Product::Redis, text).unwrap()
}

/// A stopped server with nothing on its disk.
pub(crate) fn instance(name: &str, address: &str) -> InstanceReport {
    let address = at(address);
    InstanceReport {
        name: InstanceName::new(name).unwrap(),
        service: ServiceFact { kind: "exec".into(), takes_arguments: true },
        binary: Some(redis("7.0.15")),
        binary_error: None,
        settings: Settings {
            port: address.port,
            dbfilename: "dump.rdb".into(),
            serve_stale_data: true,
            configurable: true,
            ..Settings::default()
        },
        files: Files { free_bytes: 61_000_000_000, ..Files::default() },
        server: ServerState::Stopped,
        condition: baton_proto::condition::ServerCondition::default(),
        fence: None,
        claim: None,
        speeds: baton_proto::speeds::Speeds::default(),
        address,
    }
}

fn running(role: Role, lineage: Lineage, keys: u64) -> Running {
    Running {
        version: redis("7.0.15"),
        pid: 100,
        uptime_seconds: 1000,
        clients: 0,
        role,
        replication: Replication {
            lineage,
            second: None,
            backlog: None,
            backlog_bytes: 1 << 20,
            counters: SyncCounters::default(),
            input_bytes: 0,
        },
        keyspace: if keys == 0 { BTreeMap::new() } else { [(0, Keys { keys, expires: 0 })].into() },
        persistence: Persistence { last_save_ok: true, ..Persistence::default() },
        memory: Memory::default(),
        modules: Vec::new(),
        cluster: false,
        sentinels: 0,
    }
}

/// Makes a server of an instance, step by step.
pub(crate) trait Shape: Sized {
    fn primary(self, lineage: Lineage, keys: u64) -> Self;
    fn replica(self, of: &str, link: Link, lineage: Lineage, keys: u64) -> Self;
    fn serving(self, replicas: &[&str]) -> Self;
    fn second(self, lineage: Lineage) -> Self;
    fn fenced(self, from: &str, seconds_ago: u64) -> Self;
    fn loading(self) -> Self;
    fn state(self, server: ServerState) -> Self;
    fn configured_after(self, primary: &str) -> Self;
}

fn change(mut report: InstanceReport, change: impl FnOnce(&mut Running)) -> InstanceReport {
    let ServerState::Running(running) = &mut report.server else { panic!("{} is not running", report.name) };
    change(running);
    report
}

impl Shape for InstanceReport {
    fn primary(self, lineage: Lineage, keys: u64) -> Self {
        let role = Role::Primary { replicas: Vec::new() };
        self.state(ServerState::Running(Box::new(running(role, lineage, keys))))
    }

    fn replica(self, of: &str, link: Link, lineage: Lineage, keys: u64) -> Self {
        let role = Role::Replica { primary: at(of), link, priority: 100 };
        self.state(ServerState::Running(Box::new(running(role, lineage, keys))))
    }

    fn serving(self, addresses: &[&str]) -> Self {
        let line = |address: &&str| ReplicaLine { address: at(address), online: true, offset: 0, lag_seconds: 0 };
        let replicas = addresses.iter().map(line).collect();
        change(self, |running| running.role = Role::Primary { replicas })
    }

    fn second(self, lineage: Lineage) -> Self {
        change(self, |running| running.replication.second = Some(lineage))
    }

    /// The server follows the fence, and the agent's note tells whom it followed before.
    fn fenced(mut self, from: &str, seconds_ago: u64) -> Self {
        self.fence = Some(Fence { run: RunId::new("fo-7k2m").unwrap(), from: at(from), since_unix: NOW - seconds_ago });
        self
    }

    fn loading(self) -> Self {
        change(self, |running| running.persistence.loading = true)
    }

    fn state(mut self, server: ServerState) -> Self {
        self.server = server;
        self
    }

    fn configured_after(mut self, primary: &str) -> Self {
        self.settings.replica_of = Some(at(primary));
        self
    }
}

pub(crate) fn up() -> Link {
    Link::Up { last_io_seconds: 0 }
}

pub(crate) fn down(seconds: u64) -> Link {
    Link::Down { since_seconds: Some(seconds) }
}

/// Where a fence points a replica.
pub(crate) const FENCE: &str = "127.0.0.1:1";

pub(crate) trait Populate: Sized {
    fn with(self, name: &str, agent: &str, instances: Vec<InstanceReport>) -> Self;
    fn without(self, name: &str, agent: &str, error: &str) -> Self;
    fn probe(self, from: &str, to: &str, verdict: ReachVerdict) -> Self;
    fn probe_failed(self, from: &str, to: &str, fault: Fault) -> Self;
}

impl Populate for World {
    /// Adds a host whose agent answers.
    fn with(mut self, name: &str, agent: &str, instances: Vec<InstanceReport>) -> Self {
        let report = HostReport {
            depositions: Vec::new(),
            certificate: None,
            peers: None,
            host: host(name),
            software: concat!("baton-agent ", env!("CARGO_PKG_VERSION")).into(),
            clock_unix_ms: NOW * 1000,
            cores: 2,
            memory_bytes: 8_000_000_000,
            memory_available_bytes: 6_000_000_000,
            condition: baton_proto::condition::HostCondition::default(),
            instances,
        };
        let view = HostView::Answered { report: Box::new(report), clock: ClockOffset::default() };
        self.hosts.insert(host(name), Host { agent: at(agent), addresses: Vec::new(), view });
        self
    }

    /// Adds a host whose agent does not answer.
    fn without(mut self, name: &str, agent: &str, error: &str) -> Self {
        let view = HostView::Unreachable { error: error.into() };
        self.hosts.insert(host(name), Host { agent: at(agent), addresses: Vec::new(), view });
        self
    }

    fn probe(mut self, from: &str, to: &str, verdict: ReachVerdict) -> Self {
        let answer = Ok(Reach { verdict, detail: String::new(), hung: false, tls: false });
        self.probes.push(Probe { from: named(from), to: at(to), answer });
        self
    }

    fn probe_failed(mut self, from: &str, to: &str, fault: Fault) -> Self {
        self.probes.push(Probe { from: named(from), to: at(to), answer: Err(fault) });
        self
    }
}

/// A healthy group: machine-a is followed by machine-b; machine-c is a spare.
pub(crate) fn healthy() -> World {
    World::default()
        .with(
            "machine-a",
            "10.0.0.1:7400",
            vec![instance("default", "10.0.0.1:6379").primary(lineage('a', 1000), 200).serving(&["10.0.0.2:6379"])],
        )
        .with(
            "machine-b",
            "10.0.0.2:7400",
            vec![instance("default", "10.0.0.2:6379").replica("10.0.0.1:6379", up(), lineage('a', 900), 199)],
        )
        .with("machine-c", "10.0.0.3:7400", vec![instance("default", "10.0.0.3:6379")])
}

/// The same group after machine-a was lost, server, agent and all.
pub(crate) fn lost_primary() -> World {
    healthy().without("machine-a", "10.0.0.1:7400", "no agent listens at 10.0.0.1:7400: Connection refused").with(
        "machine-b",
        "10.0.0.2:7400",
        vec![instance("default", "10.0.0.2:6379").replica("10.0.0.1:6379", down(192), lineage('a', 1000), 200)],
    )
}
