//! Instances to groups: who follows whom, up to the server that follows nobody.

use std::collections::{BTreeMap, BTreeSet};

use baton_proto::report::{InstanceReport, Link, ReplicaLine, Role, Running, ServerState, total_keys};
use baton_proto::{HostName, HostPort, InstanceRef, ReplId};

use super::fed::{self, Fed};
use super::{
    Group, HostView, Lag, Place, Primary, PrimaryState, Replica, ReplicaLink, Topology, Verdict, World, rival, verdict,
};

/// Where a fence points a replica: a port where nothing listens, on its own host.
const FENCE_PORT: u16 = 1;

pub(super) fn is_fence(address: &HostPort) -> bool {
    address.port == FENCE_PORT && matches!(address.host.as_str(), "127.0.0.1" | "::1" | "localhost")
}

/// An instance and whom it follows.
struct Node<'a> {
    name: InstanceRef,
    report: &'a InstanceReport,
    upstream: Option<Upstream>,
}

#[derive(Clone)]
struct Upstream {
    address: HostPort,
    place: Place,
}

/// What a chain of followers ends in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Root {
    Instance(InstanceRef),
    /// Running replicas that follow each other; the first by name stands for them.
    Circle(InstanceRef),
    /// A port of a host of which no instance is known.
    Host(HostName, u16),
    Address(HostPort),
    /// A fence, and nothing tells off whom; the first replica by name stands for those of its lineage.
    Fence(InstanceRef),
}

pub(super) fn topology(world: &World) -> Topology {
    let nodes = nodes(world);
    let roots = roots(&nodes);
    let mut families: BTreeMap<Root, Vec<&Node>> = BTreeMap::new();
    for (node, root) in nodes.values().zip(roots) {
        families.entry(root).or_default().push(node);
    }
    adopt_orphans(&mut families);

    let mut result = Topology::default();
    for (root, members) in &families {
        if let Some(fed) = fed_alone(members) {
            result.fed.push(fed);
            continue;
        }
        match (root, members.as_slice()) {
            (Root::Instance(name), [only]) if is_spare(only.report) => result.spares.push(name.clone()),
            _ => result.groups.push(group(root, members, &families, world)),
        }
    }
    for (name, host) in &world.hosts {
        if let HostView::Unreachable { error } = &host.view {
            result.unreachable.push((name.clone(), error.clone()));
        }
    }
    result.groups = rival::join(result.groups, world);
    for group in &mut result.groups {
        set_lags(group);
        group.verdict = verdict::judge(group, world);
    }
    result.groups.sort_by(|a, b| a.name.cmp(&b.name));
    result
}

/// One that follows a port of its own host where no server is, for a run.
fn fed_alone(members: &[&Node]) -> Option<Fed> {
    let [only] = members else { return None };
    only.upstream.as_ref().filter(|upstream| upstream.place.instance().is_none())?;
    fed::fed(&only.name, only.report).filter(|fed| !is_fence(&fed.by))
}

/// Stopped, or running as a primary of nobody with nothing in it.
fn is_spare(report: &InstanceReport) -> bool {
    match &report.server {
        ServerState::Stopped => true,
        ServerState::Running(running) => {
            let alone = matches!(&running.role, Role::Primary { replicas } if replicas.is_empty());
            alone && total_keys(&running.keyspace) == 0 && !running.persistence.loading
        }
        ServerState::Silent { .. } | ServerState::Denied { .. } | ServerState::Strange { .. } => false,
    }
}

fn nodes(world: &World) -> BTreeMap<InstanceRef, Node<'_>> {
    let node = |(name, report): (InstanceRef, _)| {
        let upstream = upstream_address(report).map(|address| {
            // A fence whose note is lost leads nowhere: it is no server of this host.
            let place = if is_fence(&address) { Place::Unknown } else { world.place(&address, &name.host) };
            Upstream { address, place }
        });
        (name.clone(), Node { name, report, upstream })
    };
    let mut nodes: BTreeMap<_, _> = world.instances().map(node).collect();
    // What the file of a stopped server says may be long out of date. Where replicas follow it, it was a primary, unless
    // the file leads to a server that is known.
    let followed: BTreeSet<InstanceRef> = nodes
        .values()
        .filter(|node| node.report.server.running().is_some())
        .filter_map(|node| node.upstream.as_ref()?.place.instance().cloned())
        .collect();
    for node in nodes.values_mut() {
        let leads_nowhere = node.upstream.as_ref().is_some_and(|upstream| upstream.place == Place::Unknown);
        if node.report.server.running().is_none() && followed.contains(&node.name) && leads_nowhere {
            node.upstream = None;
        }
    }
    nodes
}

/// Whom an instance follows: a fenced one belongs where it was, a stopped one where its file says.
pub fn upstream_address(report: &InstanceReport) -> Option<HostPort> {
    let noted = report.fence.as_ref().map(|fence| fence.from.clone());
    match report.server.running().map(|running| &running.role) {
        Some(Role::Primary { .. }) => None,
        Some(Role::Replica { primary, .. }) if is_fence(primary) => Some(noted.unwrap_or_else(|| primary.clone())),
        // A note that contradicts the server is out of date: somebody repointed it by hand.
        Some(Role::Replica { primary, .. }) => Some(primary.clone()),
        None => noted.or_else(|| report.settings.replica_of.clone().filter(|address| !is_fence(address))),
    }
}

/// The root of each node, in the order of the nodes.
fn roots(nodes: &BTreeMap<InstanceRef, Node>) -> Vec<Root> {
    nodes.values().map(|node| root_of(node, nodes)).collect()
}

fn root_of(start: &Node, nodes: &BTreeMap<InstanceRef, Node>) -> Root {
    let mut path: Vec<&Node> = vec![start];
    let mut at = start;
    loop {
        let Some(upstream) = &at.upstream else { return Root::Instance(at.name.clone()) };
        let next = match &upstream.place {
            Place::Instance(name) => nodes.get(name),
            Place::Host(host) => return Root::Host(host.clone(), upstream.address.port),
            Place::Unknown if is_fence(&upstream.address) => return Root::Fence(at.name.clone()),
            Place::Unknown => return Root::Address(upstream.address.clone()),
        };
        let Some(next) = next else { return Root::Address(upstream.address.clone()) };
        if let Some(entered) = path.iter().position(|node| node.name == next.name) {
            return circle(path.get(entered..).unwrap_or(&path), &next.name);
        }
        // Ends: the path only grows by nodes that are not on it.
        path.push(next);
        at = next;
    }
}

/// A circle that goes through a stopped server is an old configuration file; the stopped one was the primary.
fn circle(circle: &[&Node], entered: &InstanceRef) -> Root {
    let stopped = circle.iter().filter(|node| node.report.server.running().is_none()).map(|node| &node.name).min();
    match stopped {
        Some(name) => Root::Instance(name.clone()),
        None => Root::Circle(circle.iter().map(|node| &node.name).min().unwrap_or(entered).clone()),
    }
}

/// Gives replicas that were fenced, and whose note is lost, back to the one family that has their lineage.
fn adopt_orphans(families: &mut BTreeMap<Root, Vec<&Node>>) {
    let lost: Vec<Root> = families.keys().filter(|root| matches!(root, Root::Fence(_))).cloned().collect();
    for root in lost {
        let Some(orphans) = families.remove(&root) else { continue };
        let held: Vec<&ReplId> = orphans.iter().flat_map(|orphan| rival::ids(orphan.report)).collect();
        let is_kin = |node: &&Node| rival::ids(node.report).iter().any(|id| held.contains(id));
        let mut kin = families.values_mut().filter(|members| members.iter().any(is_kin));
        match (kin.next(), kin.next()) {
            (Some(members), None) => members.extend(orphans),
            _ => {
                families.insert(root, orphans);
            }
        }
    }
}

fn group(root: &Root, members: &[&Node], families: &BTreeMap<Root, Vec<&Node>>, world: &World) -> Group {
    let primary = primary(root, members, world);
    let mut replicas: Vec<Replica> = members
        .iter()
        .filter(|node| !matches!(root, Root::Instance(name) | Root::Circle(name) if *name == node.name))
        .map(|node| replica(node, root, world))
        .collect();
    replicas.sort_by(|a, b| a.instance.cmp(&b.instance));
    let lineage = match &primary.state {
        PrimaryState::Running { lineage, .. } => Some(lineage.id.clone()),
        _ => {
            let furthest = replicas.iter().filter_map(|replica| replica.lineage.as_ref()).max_by_key(|l| l.offset);
            furthest.map(|lineage| lineage.id.clone())
        }
    };
    let strangers = strangers(&primary.place, &replicas, world);
    let name = group_name(root, &primary, families, world);
    Group { name, lineage, primary, replicas, strangers, rivals: Vec::new(), verdict: Verdict::Ok }
}

fn group_name(root: &Root, primary: &Primary, families: &BTreeMap<Root, Vec<&Node>>, world: &World) -> String {
    match root {
        Root::Instance(name) | Root::Circle(name) | Root::Fence(name) => name.to_string(),
        Root::Host(host, port) => {
            let groups = families.keys().filter(|other| matches!(other, Root::Host(name, _) if name == host)).count();
            let silent = world.report(host).is_none();
            if silent && groups == 1 { host.to_string() } else { format!("{host}:{port}") }
        }
        Root::Address(_) => primary.address.to_string(),
    }
}

fn primary(root: &Root, members: &[&Node], world: &World) -> Primary {
    match root {
        Root::Instance(name) | Root::Circle(name) => {
            let report = world.instance(name);
            let address = report.map_or_else(|| HostPort::new(name.host.as_str(), 0), |report| report.address.clone());
            let state = match (root, report) {
                (Root::Circle(_), _) => PrimaryState::Circle,
                (_, Some(report)) => primary_state(&report.server),
                (_, None) => PrimaryState::Unwatched,
            };
            Primary { place: Place::Instance(name.clone()), address, state }
        }
        Root::Host(host, port) => {
            let used = members
                .iter()
                .filter_map(|node| node.upstream.as_ref())
                .find(|upstream| upstream.address.port == *port && upstream.place.host() == Some(host));
            let address = used.map_or_else(|| HostPort::new(host.as_str(), *port), |upstream| upstream.address.clone());
            let state = match world.hosts.get(host).map(|host| &host.view) {
                Some(HostView::Unreachable { error }) => PrimaryState::Unreachable { error: error.clone() },
                _ => PrimaryState::Unwatched,
            };
            Primary { place: Place::Host(host.clone()), address, state }
        }
        Root::Address(address) => {
            Primary { place: Place::Unknown, address: address.clone(), state: PrimaryState::Unwatched }
        }
        Root::Fence(_) => {
            let address = HostPort::new("127.0.0.1", FENCE_PORT);
            Primary { place: Place::Unknown, address, state: PrimaryState::Unwatched }
        }
    }
}

fn primary_state(server: &ServerState) -> PrimaryState {
    match server {
        ServerState::Stopped => PrimaryState::Stopped,
        ServerState::Silent { error } => PrimaryState::Silent { error: error.clone() },
        ServerState::Denied { user, error } => PrimaryState::Denied { user: user.clone(), error: error.clone() },
        ServerState::Strange { error } => PrimaryState::Strange { error: error.clone() },
        ServerState::Running(running) => PrimaryState::Running {
            lineage: running.replication.lineage.clone(),
            keys: total_keys(&running.keyspace),
            loading: running.persistence.loading,
        },
    }
}

fn replica(node: &Node, root: &Root, world: &World) -> Replica {
    let running = node.report.server.running();
    let chained = match (root, node.upstream.as_ref().map(|upstream| &upstream.place)) {
        (Root::Instance(primary), Some(Place::Instance(followed))) => followed != primary,
        (Root::Host(..) | Root::Address(_) | Root::Fence(_), Some(Place::Instance(_))) => true,
        _ => false,
    };
    Replica {
        instance: node.name.clone(),
        address: node.report.address.clone(),
        follows: node.upstream.as_ref().map(|upstream| upstream.address.clone()).filter(|address| !is_fence(address)),
        chained,
        link: link(node, world),
        lag: Lag::Unknown,
        lineage: running.map(|running| running.replication.lineage.clone()),
        keys: running.map(|running| total_keys(&running.keyspace)),
    }
}

fn link(node: &Node, world: &World) -> ReplicaLink {
    let running = match &node.report.server {
        ServerState::Stopped => return ReplicaLink::Stopped,
        ServerState::Silent { error } | ServerState::Strange { error } => {
            return ReplicaLink::Silent { error: error.clone() };
        }
        ServerState::Denied { user, error } => {
            return ReplicaLink::Denied { user: user.clone(), error: error.clone() };
        }
        ServerState::Running(running) => running,
    };
    let Running { role: Role::Replica { primary, link, .. }, .. } = &**running else {
        // Not reached: a running primary follows nobody and is its own root.
        return ReplicaLink::Down { since_seconds: None };
    };
    if is_fence(primary) {
        let fence = node.report.fence.as_ref();
        // By the host's own clock, which also wrote the note.
        let now = world.report(&node.name.host).map(|report| report.clock_unix_ms / 1000);
        let since_seconds = fence.zip(now).map(|(fence, now)| now.saturating_sub(fence.since_unix));
        return ReplicaLink::Fenced { run: fence.map(|fence| fence.run.clone()), since_seconds };
    }
    match link {
        Link::Up { .. } => ReplicaLink::Up,
        Link::Syncing => ReplicaLink::Syncing,
        Link::Down { .. } if running.persistence.loading => ReplicaLink::Loading,
        Link::Down { since_seconds } => ReplicaLink::Down { since_seconds: *since_seconds },
    }
}

/// Replicas that the primary serves beyond those that agents report. A primary often sees a replica under another address
/// than the one it advertises, so they are counted before they are named.
fn strangers(place: &Place, replicas: &[Replica], world: &World) -> Vec<HostPort> {
    let Some((host, running)) =
        place.instance().and_then(|name| Some((&name.host, world.instance(name)?.server.running()?)))
    else {
        return Vec::new();
    };
    let Role::Primary { replicas: lines } = &running.role else { return Vec::new() };
    let known = replicas.iter().filter(|replica| !replica.chained && replica.is_linked()).count();
    let online: Vec<&ReplicaLine> = lines.iter().filter(|line| line.online).collect();
    let unknown = online.iter().filter(|line| world.place(&line.address, host).instance().is_none());
    unknown.map(|line| line.address.clone()).take(online.len().saturating_sub(known)).collect()
}

fn set_lags(group: &mut Group) {
    let primary = match &group.primary.state {
        PrimaryState::Running { lineage, .. } => Some(lineage.clone()),
        _ => None,
    };
    let flows = group.replicas.iter().any(Replica::is_linked);
    for replica in &mut group.replicas {
        replica.lag = match (&replica.link, &replica.lineage, &primary) {
            (_, None, _) => Lag::Unknown,
            (ReplicaLink::Fenced { .. }, ..) => Lag::Frozen,
            (_, Some(at), Some(primary)) if at.id == primary.id => Lag::Bytes(primary.offset.saturating_sub(at.offset)),
            (ReplicaLink::Down { .. }, Some(_), None) if !flows => Lag::Frozen,
            _ => Lag::Unknown,
        };
    }
}
