//! One row of the status: an instance of a group as the table and `--json` show it.

use std::fmt;

use baton_proto::report::{InstanceReport, Keyspace, Role, ServerState, total_keys};
use baton_proto::version::ServerVersion;
use baton_proto::{HostName, HostPort, InstanceRef, Lineage};

use crate::report::units::{Bytes, Span};
use crate::topology::{Group, Lag, Place, PrimaryState, Replica, ReplicaLink, World};

/// Whether a row needs a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mark {
    Fine,
    /// Something is wrong.
    Wrong,
    /// It does not answer.
    Unseen,
    Stopped,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Mark::Fine => "*",
            Mark::Wrong => "!",
            Mark::Unseen => "?",
            Mark::Stopped => "-",
        })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    pub mark: Mark,
    /// The instance, or its host where no agent tells which instance it is.
    pub node: Option<String>,
    pub host: Option<HostName>,
    pub address: HostPort,
    pub role: &'static str,
    /// The instance that it follows, or an address where that is unknown.
    pub follows: Option<String>,
    pub state: &'static str,
    pub link: Option<ReplicaLink>,
    pub lineage: Option<Lineage>,
    pub lag: Option<Lag>,
    pub keys: Option<u64>,
    pub keyspace: Option<Keyspace>,
    pub version: Option<ServerVersion>,
    /// Why it does not answer.
    pub error: Option<String>,
}

impl Row {
    /// A server of which nothing is known but its address and part.
    fn blank(address: &HostPort, role: &'static str) -> Row {
        Row {
            mark: Mark::Fine,
            node: None,
            host: None,
            address: address.clone(),
            role,
            follows: None,
            state: "running",
            link: None,
            lineage: None,
            lag: None,
            keys: None,
            keyspace: None,
            version: None,
            error: None,
        }
    }
}

impl fmt::Display for ReplicaLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReplicaLink::Up => write!(f, "up"),
            ReplicaLink::Syncing => write!(f, "syncing"),
            ReplicaLink::Down { since_seconds: Some(seconds) } => write!(f, "down {}", Span(*seconds)),
            ReplicaLink::Down { since_seconds: None } => write!(f, "down"),
            ReplicaLink::Fenced { run: Some(run), .. } => write!(f, "fenced {run}"),
            ReplicaLink::Fenced { run: None, .. } => write!(f, "fenced"),
            ReplicaLink::Loading | ReplicaLink::Stopped | ReplicaLink::Silent { .. } | ReplicaLink::Denied { .. } => {
                write!(f, "-")
            }
        }
    }
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Lag::Bytes(bytes) => write!(f, "{}", Bytes(*bytes)),
            Lag::Frozen => write!(f, "frozen"),
            Lag::Unknown => write!(f, "-"),
        }
    }
}

/// The rows of a group: the primary, its rivals, the replicas.
pub fn rows(group: &Group, world: &World) -> Vec<Row> {
    let rivals = group.rivals.iter().filter_map(|name| rival(name, world));
    let replicas = group.replicas.iter().filter_map(|replica| replica_row(replica, group, world));
    let primary = Some(primary(group, world)).filter(|_| !group.primary.is_forgotten());
    primary.into_iter().chain(rivals).chain(replicas).collect()
}

/// The name of a group's primary, if anything tells it.
pub fn primary_name(group: &Group) -> Option<String> {
    match &group.primary.place {
        _ if group.primary.state == PrimaryState::Circle => None,
        Place::Instance(instance) => Some(instance.to_string()),
        Place::Host(host) => Some(host.to_string()),
        Place::Unknown => None,
    }
}

fn primary(group: &Group, world: &World) -> Row {
    let shown = &group.primary;
    let instance = shown.place.instance();
    let (mark, state) = match &shown.state {
        PrimaryState::Running { loading: true, .. } => (Mark::Wrong, "loading"),
        PrimaryState::Running { .. } => (Mark::Fine, "running"),
        PrimaryState::Stopped => (Mark::Wrong, "stopped"),
        PrimaryState::Silent { .. } => (Mark::Unseen, "silent"),
        PrimaryState::Denied { .. } => (Mark::Wrong, "denied"),
        PrimaryState::Strange { .. } => (Mark::Unseen, "strange"),
        PrimaryState::Unreachable { .. } => (Mark::Unseen, "unreachable"),
        PrimaryState::Unwatched => (Mark::Unseen, "unknown"),
        PrimaryState::Circle => (Mark::Wrong, "running"),
    };
    let error = match &shown.state {
        PrimaryState::Silent { error }
        | PrimaryState::Denied { error, .. }
        | PrimaryState::Strange { error }
        | PrimaryState::Unreachable { error } => Some(error.clone()),
        _ => None,
    };
    let report = instance.and_then(|name| world.instance(name));
    let circle = shown.state == PrimaryState::Circle;
    let row = Row {
        mark,
        node: primary_name(group).or_else(|| instance.map(ToString::to_string)),
        host: shown.place.host().cloned(),
        follows: report.filter(|_| circle).and_then(followed).map(|to| known(to, instance, world)),
        state,
        error,
        ..Row::blank(&shown.address, if circle { "replica" } else { "primary" })
    };
    match report {
        Some(report) => with_facts(row, report),
        None => row,
    }
}

fn rival(name: &InstanceRef, world: &World) -> Option<Row> {
    let report = world.instance(name)?;
    let row = Row {
        mark: Mark::Wrong,
        node: Some(name.to_string()),
        host: Some(name.host.clone()),
        ..Row::blank(&report.address, "primary")
    };
    Some(with_facts(row, report))
}

fn replica_row(replica: &Replica, group: &Group, world: &World) -> Option<Row> {
    let report = world.instance(&replica.instance)?;
    let (mark, state) = match &replica.link {
        ReplicaLink::Up => (Mark::Fine, "running"),
        ReplicaLink::Syncing | ReplicaLink::Down { .. } | ReplicaLink::Fenced { .. } => (Mark::Wrong, "running"),
        ReplicaLink::Loading => (Mark::Wrong, "loading"),
        ReplicaLink::Stopped => (Mark::Stopped, "stopped"),
        ReplicaLink::Silent { .. } => (Mark::Unseen, "silent"),
        ReplicaLink::Denied { .. } => (Mark::Wrong, "denied"),
    };
    let error = match &report.server {
        ServerState::Silent { error } | ServerState::Denied { error, .. } | ServerState::Strange { error } => {
            Some(error.clone())
        }
        ServerState::Stopped | ServerState::Running(_) => None,
    };
    let follows = replica.follows.as_ref().map(|to| {
        // The primary goes by one name in all rows, also where nobody reports it.
        let of_primary = *to == group.primary.address && group.primary.place.instance().is_none();
        if of_primary { group.name.clone() } else { known(to, Some(&replica.instance), world) }
    });
    let row = Row {
        mark,
        node: Some(replica.instance.to_string()),
        host: Some(replica.instance.host.clone()),
        follows,
        state,
        link: Some(replica.link.clone()),
        lag: Some(replica.lag),
        error,
        ..Row::blank(&replica.address, "replica")
    };
    Some(with_facts(row, report))
}

/// Adds what a server that answers says of itself, and the version of the program of one that does not.
fn with_facts(row: Row, report: &InstanceReport) -> Row {
    let Some(running) = report.server.running() else { return Row { version: report.binary, ..row } };
    Row {
        lineage: Some(running.replication.lineage.clone()),
        keys: Some(total_keys(&running.keyspace)),
        keyspace: Some(running.keyspace.clone()),
        version: Some(running.version),
        ..row
    }
}

fn followed(report: &InstanceReport) -> Option<&HostPort> {
    match &report.server.running()?.role {
        Role::Replica { primary, .. } => Some(primary),
        Role::Primary { .. } => None,
    }
}

/// The name of what stands at an address, or the address.
fn known(address: &HostPort, seen_from: Option<&InstanceRef>, world: &World) -> String {
    match seen_from.map(|from| world.place(address, &from.host)) {
        Some(Place::Instance(instance)) => instance.to_string(),
        _ => address.to_string(),
    }
}
