//! Checks on a primary that is to hand over, and on the replica that is to take over.

use baton_proto::HostPort;
use baton_proto::report::Role;

use super::{danger, ok, refuse, warn};
use crate::plan::steps;
use crate::plan::{Check, Scene, left};
use crate::report::units::Bytes;
use crate::topology::{PrimaryState, ReplicaLink};

/// Bytes that a replica may be behind before it is worth a word: what a busy primary writes in some tenths of a second.
const LAG_BYTES_SMALL: u64 = 16_000_000;
/// A replica says once a second how far it is: one that has been silent for longer than this is busy, or hangs.
const LAG_SECONDS_SMALL: u64 = 2;

/// Whether an earlier run has made the target the primary already.
fn is_done(scene: &Scene) -> bool {
    scene.group.is_some_and(|group| group.primary.place.instance() == Some(scene.target.name))
}

/// The source lives and leads, alone.
pub(super) fn primary_serves(scene: &Scene) -> Vec<Check> {
    const ID: &str = "primary-serves";
    let Some(group) = scene.group else { return Vec::new() };
    let (name, lost) = (&group.name, format!("if it is lost, replace it with `coord failover {}`", group.name));
    let mut checks = vec![match &group.primary.state {
        PrimaryState::Running { loading: true, .. } => {
            refuse(ID, format!("{name} is loading"), "wait until it has loaded")
        }
        PrimaryState::Running { .. } if is_done(scene) => {
            ok(ID, format!("{name} is the primary already, and {} a replica: what is left is done", scene.source.name))
        }
        PrimaryState::Running { keys, .. } => ok(ID, format!("{name} runs as the primary, with {keys} keys")),
        PrimaryState::Stopped => refuse(ID, format!("{name} is stopped"), lost),
        PrimaryState::Silent { error } | PrimaryState::Unreachable { error } => {
            refuse(ID, format!("{name} does not answer: {error}"), lost)
        }
        PrimaryState::Denied { user, error } => refuse(
            ID,
            format!("{name} refuses its agent, user `{user}`: {error}"),
            "mend requirepass in its redis.conf, or user and password_file in its agent.toml",
        ),
        PrimaryState::Strange { error } => refuse(ID, format!("{name} is not understood: {error}"), "upgrade coord"),
        PrimaryState::Unwatched | PrimaryState::Circle => {
            refuse(ID, format!("{name} is not seen as a primary"), "see `coord status`")
        }
    }];
    for rival in &group.rivals {
        let text = format!("{rival} is a primary with data of the same history");
        checks.push(danger(ID, text, "decide whose data counts first: see `coord status`"));
    }
    checks
}

/// Nothing else moves the roles of this group: it would move them back, or at the same time.
pub(super) fn is_unmanaged(scene: &Scene) -> Vec<Check> {
    let mut checks = Vec::new();
    for member in [scene.source, scene.target] {
        let Some(running) = member.running() else { continue };
        let name = member.name;
        if running.sentinels > 0 {
            let text =
                format!("Sentinel watches {name} ({} of them), and would move the roles back", running.sentinels);
            checks.push(refuse(
                "group-sentinel",
                text,
                "let Sentinel do it: SENTINEL FAILOVER with its name for the group",
            ));
        }
        if running.cluster {
            let text = format!("{name} is a node of a Redis Cluster");
            checks.push(refuse("group-cluster", text, "let the cluster do it: CLUSTER FAILOVER on the replica"));
        }
    }
    checks
}

/// The source's version can hand over, and knows the target under an address.
pub(super) fn can_hand_over(scene: &Scene) -> Vec<Check> {
    const ID: &str = "primary-hand-over";
    let Some(running) = scene.source.running() else { return Vec::new() };
    let (source, target) = (scene.source.name, scene.target);
    if !is_done(scene) && !running.version.has_failover() {
        let text = format!("{source} runs {}, which has no FAILOVER command", running.version);
        return vec![refuse(ID, text, "upgrade it to Redis 6.2 or later, or to Valkey")];
    }
    match steps::seen_as(scene) {
        None => vec![refuse(
            ID,
            format!("{source} does not list {} at {} among its online replicas", target.name, target.report.address),
            format!("set replica-announce-ip and replica-announce-port in {}", target.report.settings.config_file),
        )],
        Some(address) if address != target.report.address => vec![warn(
            ID,
            format!("{source} knows {} as {address}, and will follow it there", target.name),
            format!("set replica-announce-ip in {}", target.report.settings.config_file),
        )],
        Some(_) => vec![ok(ID, format!("{source} runs {} and hands over by FAILOVER", running.version))],
    }
}

/// The target is linked, reads what the source writes, and is not far behind.
pub(super) fn replica_keeps_up(scene: &Scene) -> Vec<Check> {
    const ID: &str = "replica-link";
    if is_done(scene) {
        return Vec::new();
    }
    let target = scene.target.name;
    let Some(replica) = scene.group.and_then(|group| group.replica(target)) else { return Vec::new() };
    if replica.chained {
        let text = format!("{target} follows another replica, not {}", scene.source.name);
        return vec![refuse(ID, text, format!("let it follow {} first", scene.source.report.address))];
    }
    if replica.link != ReplicaLink::Up {
        let text = format!("{target} is not linked to {}: {}", scene.source.name, state_of(&replica.link));
        return vec![refuse(ID, text, "see its log, and wait until its link is up")];
    }
    let (Some(source), Some(running)) = (scene.source.running(), scene.target.running()) else { return Vec::new() };
    let (ahead, own) = (&source.replication.lineage, &running.replication.lineage);
    if ahead.id != own.id {
        let text = format!(
            "{target} has another history ({}) than {} ({})",
            own.id.short(),
            scene.source.name,
            ahead.id.short()
        );
        return vec![danger(ID, text, "look at `coord status` again")];
    }
    let behind = ahead.offset.saturating_sub(own.offset);
    let seen_as = steps::seen_as(scene);
    let line = match &source.role {
        Role::Primary { replicas } => replicas.iter().find(|line| Some(&line.address) == seen_as.as_ref()),
        Role::Replica { .. } => None,
    };
    let lag_seconds = line.map_or(0, |line| line.lag_seconds);
    if behind > LAG_BYTES_SMALL || lag_seconds > LAG_SECONDS_SMALL {
        let text =
            format!("{target} is {} behind, and last answered {lag_seconds} s ago: writes wait for it", Bytes(behind));
        return vec![warn(ID, text, "wait until it has caught up; after --timeout the switchover is given up")];
    }
    vec![ok(ID, format!("{target} is linked, {} behind", Bytes(behind)))]
}

fn state_of(link: &ReplicaLink) -> &'static str {
    match link {
        ReplicaLink::Up => "up",
        ReplicaLink::Syncing => "it is in the middle of a full resync",
        ReplicaLink::Down { .. } => "its link is down",
        ReplicaLink::Fenced { .. } => "a run has fenced it",
        ReplicaLink::Loading => "it is loading",
        ReplicaLink::Stopped => "it is stopped",
        ReplicaLink::Silent { .. } => "it does not answer",
        ReplicaLink::Denied { .. } => "it refuses its agent",
    }
}

/// As a primary the target would take writes, keep its data, and lose no more in a crash than the source.
pub(super) fn replica_can_lead(scene: &Scene) -> Vec<Check> {
    let (Some(source), Some(running)) = (scene.source.running(), scene.target.running()) else { return Vec::new() };
    let (name, settings) = (scene.target.name, &scene.target.report.settings);
    let file = &settings.config_file;
    let mut checks = Vec::new();
    let (limit, used) = (settings.maxmemory_bytes, source.memory.used_bytes);
    if limit > 0 && limit < used {
        let text = format!(
            "{name} has maxmemory {} ({}), the data set takes {}: as a primary it would evict keys or refuse writes",
            Bytes(limit),
            settings.maxmemory_policy,
            Bytes(used)
        );
        checks.push(danger("replica-maxmemory", text, format!("raise maxmemory in {file}")));
    } else if limit > 0 && (source.memory.maxmemory_bytes == 0 || limit < source.memory.maxmemory_bytes) {
        let text = format!("{name} has maxmemory {}, which is less than that of {}", Bytes(limit), scene.source.name);
        checks.push(warn("replica-maxmemory", text, format!("see maxmemory in {file}")));
    }
    let (wanted, moved) = (settings.min_replicas_to_write, scene.siblings.len() as u64);
    if wanted > moved + 1 {
        let text = format!("{name} has min-replicas-to-write {wanted}, and will have {} replicas", moved + 1);
        checks.push(refuse("replica-writes", text, format!("lower min-replicas-to-write in {file}")));
    } else if wanted > 1 {
        let text = format!("{name} has min-replicas-to-write {wanted}: it refuses writes until the siblings are moved");
        checks.push(warn("replica-writes", text, format!("lower min-replicas-to-write in {file} for the while")));
    }
    if let Role::Replica { priority: 0, .. } = running.role {
        let text = format!("{name} has replica-priority 0: it is not meant to become a primary");
        checks.push(warn("replica-priority", text, format!("see replica-priority in {file}")));
    }
    if source.persistence.aof_enabled && !running.persistence.aof_enabled {
        let text = format!("{name} has no append-only file, and {} has: a crash would lose more", scene.source.name);
        checks.push(warn("replica-aof", text, format!("set appendonly yes in {file}")));
    }
    checks
}

/// The other replicas are moved along, or named.
pub(super) fn siblings_move(scene: &Scene) -> Vec<Check> {
    const ID: &str = "siblings";
    let source = scene.source.name;
    let left = scene.passed_over.iter().map(|(name, why)| {
        let remedy = format!("once it is well: {}", left::once_it_is_well(scene, name));
        warn(ID, format!("{name} is left behind {source}: {why}"), remedy)
    });
    // One whose agent is silent is told of as such.
    let is_silent = |address: &&HostPort| {
        let host = scene.world.place(address, &source.host).host().cloned();
        host.is_some_and(|host| scene.world.report(&host).is_none())
    };
    let strangers = scene.group.iter().flat_map(|group| &group.strangers).filter(|address| !is_silent(address));
    let strangers = strangers.map(|address| {
        warn(ID, format!("{address} is a replica that no agent reports, and stays behind {source}"), "move it by hand")
    });
    left.chain(strangers).collect()
}
