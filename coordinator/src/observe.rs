//! Asks every agent at once what it sees, and has doubtful primaries tried from their replicas' hosts.
//!
//! An agent that does not answer is part of the result, not a failure. What it all means is [`crate::topology`]'s business.

pub mod again;

use std::collections::BTreeSet;
use std::future::Future;
use std::net::IpAddr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use baton_proto::report::{HostReport, Role};
use baton_proto::{Fault, FaultKind, HostName, HostPort, InstanceRef};
use tokio::task::JoinSet;

use crate::client::Agents;
use crate::inventory::{Inventory, InventoryHost};
use crate::last_seen;
use crate::topology::peers::unknown_peers;
use crate::topology::{ClockOffset, Door, Host, HostView, Knock, Probe, Topology, World};

/// How long an agent has to be reached and to report. An agent gives each of its servers a few seconds of its own.
pub const OBSERVE_TIMEOUT: Duration = Duration::from_secs(12);
/// How long a trial of one server may take from another host.
pub const REACH_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an agent may take to write its peers down. It has just answered.
const INTRODUCE_TIMEOUT: Duration = Duration::from_secs(3);
/// How long a name may take to be resolved. One that is not is compared as text.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(2);
/// Most names that are resolved: addresses are what servers mostly use, and a report is not to make us ask without end.
const NAMES_MAX: usize = 256;
/// Most hosts of which each is to dial all: what is asked grows with the square.
const HOSTS_ALL_WAYS_MAX: usize = 32;

/// Observes the hosts, all at once.
pub async fn observe(inventory: &Inventory, agents: &Agents, hosts: &[HostName]) -> World {
    let known = hosts.iter().filter_map(|name| inventory.hosts.get_key_value(name));
    let views = together(known, |(name, host)| async move { (name.clone(), view(agents, name, host).await) }).await;
    let observed_unix = unix_ms(SystemTime::now()) / 1000;
    let mut world = World {
        hosts: views.into_iter().collect(),
        observed_unix,
        revocations: agents.revocations(),
        ..World::default()
    };
    world.resolved = resolve(names(&world)).await;
    world
}

/// Observes all hosts, and tries the primaries that did not show themselves from the hosts of their replicas.
pub async fn survey(inventory: &Inventory, agents: &Agents) -> (World, Topology) {
    let mut world = observe(inventory, agents, &inventory.names()).await;
    let topology = Topology::of(&world);
    remember(inventory, &mut world, &topology);
    let questions = topology.questions();
    if questions.is_empty() {
        introduce(agents, &world, &topology).await;
        return (world, topology);
    }
    let doors = topology.doors();
    let told = introduce(agents, &world, &topology);
    let ((), probes, knocks) = tokio::join!(told, reach(agents, &questions), knock(agents, &doors));
    (world.probes, world.knocks) = (probes, knocks);
    let topology = Topology::of(&world);
    (world, topology)
}

/// Recalls what was last seen of each host, and keeps what is seen now.
fn remember(inventory: &Inventory, world: &mut World, topology: &Topology) {
    let mut known = last_seen::recall(&inventory.state);
    known.retain(|host, _| world.hosts.contains_key(host));
    world.remembered.clone_from(&known);
    known.extend(topology.seen(world, world.observed_unix));
    last_seen::keep(&inventory.state, &known);
}

/// Tells agents whom to ask at their next start, where they do not know. One that cannot be told is told the next time.
async fn introduce(agents: &Agents, world: &World, topology: &Topology) {
    together(unknown_peers(world, topology), |(host, peers)| async move {
        let _ = within(INTRODUCE_TIMEOUT, agents.introduce(&host, peers)).await;
    })
    .await;
}

/// Has servers tried from the hosts of instances, the way those instances would reach them.
pub async fn reach(agents: &Agents, questions: &[(InstanceRef, HostPort)]) -> Vec<Probe> {
    together(questions, |(from, to)| async move {
        let answer = within(REACH_TIMEOUT, agents.reach(from, to)).await;
        Probe { from: from.clone(), to: to.clone(), answer }
    })
    .await
}

/// Has every agent that answers dial every other, as far as that is not done yet.
pub async fn look_all_ways(agents: &Agents, world: &mut World) {
    let hosts: Vec<&HostName> = world.hosts.keys().take(HOSTS_ALL_WAYS_MAX).collect();
    let asked = hosts.iter().filter(|host| world.report(host).is_some());
    let all = asked.flat_map(|from| hosts.iter().map(|to| ((*from).clone(), (*to).clone())));
    let known = |from: &HostName, to: &HostName| world.knocks.iter().any(|k| k.from == *from && k.to == *to);
    let doors: Vec<_> = all.filter(|(from, to)| from != to && !known(from, to)).collect();
    let knocks = knock(agents, &doors).await;
    world.knocks.extend(knocks);
}

/// Has agents dial each other.
pub async fn knock(agents: &Agents, doors: impl IntoIterator<Item = &(HostName, HostName)>) -> Vec<Knock> {
    together(doors, |(from, to)| async move {
        let door = match within(REACH_TIMEOUT, agents.knock(from, to)).await {
            Ok(None) => Door::Open,
            Ok(Some(shut)) => Door::Shut(shut.to_string()),
            Err(fault) => Door::Untried(fault.to_string()),
        };
        Knock { from: from.clone(), to: to.clone(), door }
    })
    .await
}

async fn view(agents: &Agents, name: &HostName, host: &InventoryHost) -> Host {
    let asked = SystemTime::now();
    let view = match within(OBSERVE_TIMEOUT, agents.observe(name)).await {
        Ok(report) if report.host != *name => {
            HostView::Unreachable { error: format!("its report is of another host, {}", report.host) }
        }
        Ok(report) => {
            let clock = clock_offset(unix_ms(asked), unix_ms(SystemTime::now()), report.clock_unix_ms);
            HostView::Answered { report: Box::new(report), clock }
        }
        Err(fault) => HostView::Unreachable { error: with_hint(&fault) },
    };
    Host { agent: host.agent.clone(), addresses: host.addresses.clone(), view }
}

/// Why an agent does not answer, and what to do if that is known.
fn with_hint(fault: &Fault) -> String {
    fault.hint.as_ref().map_or_else(|| fault.to_string(), |hint| format!("{fault}; {hint}"))
}

async fn within<T>(limit: Duration, answer: impl Future<Output = Result<T, Fault>>) -> Result<T, Fault> {
    let late = |_| Fault::new(FaultKind::Peer, format!("the agent did not answer within {}s", limit.as_secs()));
    tokio::time::timeout(limit, answer).await.map_err(late)?
}

fn unix_ms(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Compares a host's clock with ours: it was read somewhere between the question and the answer.
fn clock_offset(asked_ms: u64, answered_ms: u64, clock_ms: u64) -> ClockOffset {
    let took = answered_ms.saturating_sub(asked_ms);
    let middle = asked_ms.saturating_add(took / 2);
    let ahead = i128::from(clock_ms) - i128::from(middle);
    let offset_ms = i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX });
    ClockOffset { offset_ms, uncertainty_ms: took.div_ceil(2) }
}

/// Every name, instead of an address, by which something is addressed.
fn names(world: &World) -> BTreeSet<String> {
    let hosts = world.hosts.values().flat_map(|host| std::iter::once(&host.agent.host).chain(&host.addresses));
    let reports = world.hosts.keys().filter_map(|name| world.report(name));
    let servers = reports.flat_map(addressed);
    let names = hosts.cloned().chain(servers).filter(|name| name.parse::<IpAddr>().is_err());
    names.take(NAMES_MAX).collect()
}

fn addressed(report: &HostReport) -> Vec<String> {
    let mut found = Vec::new();
    for instance in &report.instances {
        found.push(instance.address.host.clone());
        found.extend(instance.fence.as_ref().map(|fence| fence.from.host.clone()));
        found.extend(instance.settings.replica_of.as_ref().map(|address| address.host.clone()));
        if let Some(Role::Replica { primary, .. }) = instance.server.running().map(|running| &running.role) {
            found.push(primary.host.clone());
        }
    }
    found
}

async fn resolve(names: BTreeSet<String>) -> std::collections::BTreeMap<String, Vec<IpAddr>> {
    let mut lookups = JoinSet::new();
    for name in names {
        lookups.spawn(async move {
            let found = tokio::time::timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((name.as_str(), 0))).await;
            let ips: Vec<IpAddr> =
                found.ok().and_then(Result::ok).into_iter().flatten().map(|address| address.ip()).collect();
            (name, ips)
        });
    }
    lookups.join_all().await.into_iter().filter(|(_, ips)| !ips.is_empty()).collect()
}

/// Runs one future for each item, all on this task, and returns the results in the order of the items.
pub async fn together<I: IntoIterator, F: Future>(items: I, run: impl FnMut(I::Item) -> F) -> Vec<F::Output> {
    let mut running: Vec<_> = items.into_iter().map(run).map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(|context| {
        let mut ready = true;
        for (future, result) in &mut running {
            if result.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *result = Some(value),
                    std::task::Poll::Pending => ready = false,
                }
            }
        }
        if ready { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    running.into_iter().filter_map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests;
