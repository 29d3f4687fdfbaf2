//! Checks on what surrounds the servers: the kernel, rights, users, limits, and who else has a hand in it. What an agent
//! could not find out is not held against anybody.

use baton_proto::control::SaveMethod;
use baton_proto::report::Role;

use super::{ok, refuse, warn};
use crate::plan::resync::{self, Resync};
use crate::plan::steps::save_method;
use crate::plan::{Check, Goal, Member, Mode, Scene};
use crate::report::units::Bytes;
use crate::topology::Door;

/// Below this a copy of every page that changes during a fork is not worth a word.
const HUGE_PAGES_WORTH_BYTES: u64 = 1 << 30;
/// Share of a data set that may be swapped out, in percent, before saving it is slow.
const SWAPPED_PERCENT_MAX: u64 = 5;
/// Spare room, in percent of the data set, below which a limit of memory is soon reached.
const MAXMEMORY_SPARE_PERCENT: u64 = 10;

/// The primary to be.
fn leader<'a>(scene: &Scene<'a>) -> Option<Member<'a>> {
    match scene.intent.goal {
        Goal::Failover(Mode::Replace) => Some(scene.target),
        Goal::Failover(Mode::Promote | Mode::InPlace) | Goal::Clone => Some(scene.source),
        Goal::Copy { .. } | Goal::Switchover { .. } | Goal::Rejoin => None,
    }
}

/// The snapshot's fork will be granted, and does not choke the source.
pub(super) fn source_forks(scene: &Scene) -> Vec<Check> {
    const ID: &str = "source-fork";
    let (name, Some(running)) = (scene.source.name, scene.source.running()) else { return Vec::new() };
    let (method, _) = save_method(scene);
    if !matches!(method, SaveMethod::Bgsave | SaveMethod::Stream) {
        return Vec::new();
    }
    let mut checks = Vec::new();
    let (host, own) = (scene.world.report(&name.host), &scene.source.report.condition);
    let used = running.memory.rss_bytes.max(running.memory.used_bytes);
    if let Some(host) = host {
        let short = host.memory_available_bytes < used;
        let refused = match host.condition.overcommit_memory {
            Some(2) => short.then_some("2: a fork needs as much memory again"),
            Some(0) => short.then_some("0: the kernel may refuse a fork that it thinks too large"),
            _ => None,
        };
        checks.extend(refused.map(|why| {
            let text = format!("{} has vm.overcommit_memory {why}, and {name} takes {}", name.host, Bytes(used));
            warn(ID, text, format!("sysctl vm.overcommit_memory=1 on {}, or --snapshot save", name.host))
        }));
        if host.condition.huge_pages_always && used >= HUGE_PAGES_WORTH_BYTES {
            let text = format!(
                "{} uses transparent huge pages: what changes during the fork is copied 2 MiB at a time",
                name.host
            );
            let remedy = format!("echo madvise > /sys/kernel/mm/transparent_hugepage/enabled on {}", name.host);
            checks.push(warn("source-huge-pages", text, remedy));
        }
    }
    if let Some(left) = own.memory_left_bytes.filter(|left| *left < used / 2) {
        let text = format!(
            "the control group of {name} has {} left, and its fork may take up to {}",
            Bytes(left),
            Bytes(used)
        );
        checks.push(warn(ID, text, "raise its memory limit, or use --snapshot save"));
    }
    checks
}

/// The source's data is in memory, and its last save went well.
pub(super) fn source_is_sound(scene: &Scene) -> Vec<Check> {
    let (name, Some(running)) = (scene.source.name, scene.source.running()) else { return Vec::new() };
    let mut checks = Vec::new();
    let swapped = scene.source.report.condition.swapped_bytes;
    if swapped.saturating_mul(100) > running.memory.used_bytes.saturating_mul(SWAPPED_PERCENT_MAX) && swapped > 0 {
        let text = format!("{} of {name} is swapped out: saving reads it all back", Bytes(swapped));
        checks.push(warn("source-swap", text, format!("expect a slow save; give {} more memory", name.host)));
    }
    if !running.persistence.last_save_ok {
        let text = format!("the last background save of {name} failed");
        checks.push(warn("source-last-save", text, "see its log; if its disk is at fault, use --snapshot stream"));
    }
    checks
}

/// Each server takes the orders that the run will give: none is renamed away or forbidden to the agent's user.
pub(super) fn takes_orders(scene: &Scene) -> Vec<Check> {
    const ID: &str = "orders";
    let (method, _) = save_method(scene);
    let mut checks = Vec::new();
    for member in scene.members() {
        let name = member.name;
        let is_source = name == scene.source.name;
        for order in &member.report.condition.refused {
            let needed = match (order.command.as_str(), scene.intent.goal) {
                ("SAVE", _) => is_source && method == SaveMethod::Save,
                ("BGSAVE", _) => is_source && method == SaveMethod::Bgsave,
                ("REPLICAOF" | "SLAVEOF", Goal::Failover(_)) => true,
                _ => false,
            };
            let text = format!("{name} would refuse {} of its agent: {}", order.command, order.error);
            let remedy =
                format!("allow it to the agent's user on {name} (ACL SETUSER), or name another user in its agent.toml");
            let unneeded = matches!(order.command.as_str(), "SAVE" | "BGSAVE");
            match (needed, unneeded) {
                (true, _) => checks.push(refuse(ID, text, remedy)),
                (false, true) => {}
                (false, false) => checks.push(warn(ID, text, remedy)),
            }
        }
    }
    checks
}

/// What the run tells the servers can be written into their files, and stays there.
pub(super) fn files_can_be_written(scene: &Scene) -> Vec<Check> {
    let mut checks = Vec::new();
    for member in scene.members() {
        let (name, own) = (member.name, &member.report.condition);
        let file = &member.report.settings.config_file;
        let wanted = || {
            let leads = leader(scene).is_some_and(|leader| leader.name == name)
                || matches!(scene.intent.goal, Goal::Switchover { .. }) && name == scene.target.name;
            let to = match (leads, scene.intent.goal) {
                (true, _) => "no `replicaof`".to_owned(),
                (false, Goal::Switchover { .. }) => format!("`replicaof {}`", spaced(scene.target)),
                (false, _) => {
                    leader(scene).map_or_else(String::new, |leader| format!("`replicaof {}`", spaced(leader)))
                }
            };
            format!("see that {file} has {to} afterwards")
        };
        if let Some(why) = &own.config_locked {
            let text = format!(
                "{name} cannot write its configuration anew: {why}; what it is told is lost at its next restart"
            );
            checks.push(warn(
                "config-locked",
                text,
                format!("let it write the file and its directory, or {}", wanted()),
            ));
        }
        if let Some(who) = &own.config_managed {
            let text =
                format!("{file} of {name} is written by somebody else (`{who}`), who would put the old role back");
            checks.push(warn("config-managed", text, format!("change it at its source: {}", wanted())));
        }
        if let Some(why) = &own.dir_locked {
            let text = format!("{name} itself cannot write into its data directory: {why}");
            checks.push(warn("data-dir", text, "mend owner and rights of the directory"));
        }
    }
    checks
}

fn spaced(member: Member) -> String {
    format!("{} {}", member.report.address.host, member.report.address.port)
}

/// The target has a place for every database and every user of the source.
pub(super) fn target_matches(scene: &Scene) -> Vec<Check> {
    let (source, target) = (scene.source, scene.target);
    let mut checks = Vec::new();
    let highest = source.running().and_then(|running| running.keyspace.keys().max().copied());
    if let (Some(highest), Some(has)) = (highest, target.report.condition.databases)
        && highest >= has
    {
        let text = format!("{} has keys in database {highest}, and {} has {has} databases", source.name, target.name);
        let remedy = format!("raise `databases` in {}", target.report.settings.config_file);
        checks.push(refuse("target-databases", text, remedy));
    }
    if let (Some(has), Some(lacks)) = (&source.report.condition.users, &target.report.condition.users) {
        let missing: Vec<_> = has.difference(lacks).map(String::as_str).collect();
        if !missing.is_empty() {
            let text = format!("{} lacks users that {} has: {}", target.name, source.name, missing.join(", "));
            checks.push(warn(
                "target-users",
                text,
                "create them there (ACL SETUSER, ACL SAVE): their clients are refused",
            ));
        }
    }
    let (settings, used) = (&target.report.settings, source.running().map_or(0, |running| running.memory.used_bytes));
    let tight = used.saturating_add(used.saturating_mul(MAXMEMORY_SPARE_PERCENT) / 100);
    if (used.max(1)..tight).contains(&settings.maxmemory_bytes) && settings.maxmemory_policy != "noeviction" {
        let text = format!(
            "{} has maxmemory {} for {} and evicts by {}: it may drop keys soon",
            target.name,
            Bytes(settings.maxmemory_bytes),
            Bytes(used),
            settings.maxmemory_policy
        );
        checks.push(warn("target-eviction", text, format!("raise maxmemory in {}", settings.config_file)));
    }
    checks
}

/// The primary to be takes writes, and does not cut off those who follow it.
pub(super) fn leader_serves(scene: &Scene) -> Vec<Check> {
    let Some(leader) = leader(scene) else { return Vec::new() };
    let (name, settings) = (leader.name, &leader.report.settings);
    let mut checks = Vec::new();
    let (wanted, has) = (settings.min_replicas_to_write, scene.members().count() as u64 - 1);
    if matches!(scene.intent.goal, Goal::Failover(_)) && wanted > has {
        let text = format!("{name} has min-replicas-to-write {wanted}, and will have {has}: it would refuse writes");
        checks.push(refuse("primary-writes", text, format!("lower min-replicas-to-write in {}", settings.config_file)));
    } else if matches!(scene.intent.goal, Goal::Failover(_)) && wanted > 0 {
        let text = format!("{name} has min-replicas-to-write {wanted}: it refuses writes until as many follow it");
        checks.push(warn(
            "primary-writes",
            text,
            format!("lower min-replicas-to-write in {} for the while", settings.config_file),
        ));
    }
    let full: Vec<_> =
        resync::forecasts(scene).into_iter().filter(|forecast| forecast.resync == Resync::Full).collect();
    let data = scene.data_bytes();
    if let (Some(first), Some(limit)) = (full.first(), leader.report.condition.replica_buffer)
        && (1..data).contains(&limit.hard_bytes)
    {
        let text = format!(
            "{name} cuts a replica off that is {} behind, and {} takes {} anew: under many writes it may never end",
            Bytes(limit.hard_bytes),
            first.replica,
            Bytes(data)
        );
        checks.push(warn("path-buffer", text, "raise client-output-buffer-limit replica there for the while"));
    }
    for forecast in &full {
        let load = scene.world.instance(&forecast.replica).and_then(|report| report.condition.diskless_load.as_deref());
        if let Some(load) = load.filter(|load| !matches!(*load, "disabled" | "swapdb")) {
            let text =
                format!("{} has repl-diskless-load {load}: it drops its data before it has the new", forecast.replica);
            checks.push(warn("path-diskless-load", text, "set repl-diskless-load disabled there"));
        }
    }
    if matches!(scene.intent.goal, Goal::Failover(Mode::Promote | Mode::InPlace))
        && let Some(Role::Replica { priority: 0, .. }) = leader.running().map(|running| &running.role)
    {
        let text = format!("{name} has replica-priority 0: it is not meant to become a primary");
        checks.push(warn("replica-priority", text, format!("see replica-priority in {}", settings.config_file)));
    }
    checks
}

/// Nobody else moves the roles of these servers.
pub(super) fn is_unmanaged(scene: &Scene) -> Vec<Check> {
    let mut checks = Vec::new();
    for member in [scene.source, scene.target] {
        let (name, Some(running)) = (member.name, member.running()) else { continue };
        if running.cluster {
            let text = format!("{name} is a node of a Redis Cluster, which gives its roles itself");
            checks.push(refuse("group-cluster", text, "let the cluster do it: CLUSTER FAILOVER, CLUSTER REPLICATE"));
        }
        if running.sentinels > 0 && matches!(scene.intent.goal, Goal::Failover(_)) {
            let text = format!(
                "Sentinel watches {name} ({} of them), and may move the roles at the same time or back",
                running.sentinels
            );
            checks.push(warn(
                "group-sentinel",
                text,
                "SENTINEL REMOVE the group there first, and MONITOR the new primary after",
            ));
        }
    }
    checks
}

/// The target's agent reaches the source's: snapshots are pulled over QUIC, which is UDP.
pub(super) fn agents_meet(scene: &Scene) -> Vec<Check> {
    const ID: &str = "path-agents";
    let (from, to) = (&scene.target.name.host, &scene.source.name.host);
    let door = scene.world.knocks.iter().rev().find(|knock| knock.from == *from && knock.to == *to);
    let Some(door) = door.map(|knock| &knock.door) else { return Vec::new() };
    let at = scene.world.hosts.get(to).map(|host| host.agent.to_string()).unwrap_or_default();
    vec![match door {
        Door::Open => ok(ID, format!("the agent of {from} reaches that of {to} at {at} (UDP)")),
        Door::Shut(why) => refuse(
            ID,
            format!("the agent of {from} does not reach that of {to} at {at}: {why}"),
            format!("open UDP from {from} to {at} in firewalls; that is not TCP, which `ssh` or `nc` would try"),
        ),
        Door::Untried(why) => warn(
            ID,
            format!("whether the agent of {from} reaches that of {to} was not tried: {why}"),
            "upgrade the agent there",
        ),
    }]
}
