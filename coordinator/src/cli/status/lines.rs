//! The status for programs: one JSON object a line. Scripts rely on the names here; new ones may be added.

use baton_proto::{HostName, InstanceRef};
use serde_json::{Value, json};

use super::Selection;
use crate::report::table::row::{Row, primary_name, rows};
use crate::report::table::{issues, next};
use crate::topology::death::inquest;
use crate::topology::fed::Fed;
use crate::topology::stand::Seen;
use crate::topology::{Door, Group, Host, HostView, Lag, ReplicaLink, Topology, Verdict, World};

pub(super) fn lines(selection: &Selection, topology: &Topology, world: &World) -> Vec<Value> {
    let hosts = selection.hosts.iter().map(|(name, host)| host_line(name, host));
    let groups = selection.groups.iter().map(|group| group_line(group, topology, world));
    let spares = selection.spares.iter().filter_map(|name| spare_line(name, world));
    let fed = selection.fed.iter().map(|fed| fed_line(fed, world));
    let sights = world.knocks.iter().map(|knock| {
        let (sees, error) = match &knock.door {
            Door::Open => ("open", None),
            Door::Shut(why) => ("shut", Some(why)),
            Door::Untried(why) => ("untried", Some(why)),
        };
        json!({ "event": "agent-seen", "from": knock.from, "to": knock.to, "door": sees, "error": error })
    });
    hosts.chain(groups).chain(fed).chain(spares).chain(sights).collect()
}

fn host_line(name: &HostName, host: &Host) -> Value {
    let mut line = json!({
        "event": "host",
        "host": name,
        "agent": host.agent,
        "answers": matches!(host.view, HostView::Answered { .. }),
    });
    let more = match &host.view {
        HostView::Unreachable { error } => json!({ "error": error }),
        HostView::Answered { report, clock } => json!({
            "software": report.software,
            "cores": report.cores,
            "memory_bytes": report.memory_bytes,
            "memory_available_bytes": report.memory_available_bytes,
            "clock_offset_ms": clock.offset_ms,
            "clock_uncertainty_ms": clock.uncertainty_ms,
            "certificate_expires_unix": report.certificate.map(|facts| facts.expires_unix),
            "revocations": report.certificate.map(|facts| facts.revocations),
            "held": report.instances.iter().filter_map(|instance| {
                let claim = instance.claim.as_ref()?;
                Some((instance.name.to_string(), json!({ "run": claim.run, "by": claim.by, "since_unix": claim.since_unix })))
            }).collect::<std::collections::BTreeMap<_, _>>(),
            "instances": report.instances.iter().map(|instance| &instance.name).collect::<Vec<_>>(),
        }),
    };
    merge(&mut line, more);
    line
}

fn group_line(group: &Group, topology: &Topology, world: &World) -> Value {
    let rows = rows(group, world);
    let heard = inquest(group, world);
    json!({
        "event": "group",
        "group": group.name,
        "lineage": group.lineage,
        "verdict": group.verdict.to_string(),
        "health": group.verdict.health().to_string(),
        "reason": group.verdict.code(),
        "death": heard.death.to_string(),
        "testimony": heard.testimony,
        "expect_primary": group.primary.address,
        "expect_lineage": group.stand().map(|stand| Seen::of(&stand).to_string()),
        "dead_seconds": dead_seconds(&group.verdict),
        "primary": primary_name(group),
        "primary_address": Some(&group.primary.address).filter(|_| !group.primary.is_forgotten()),
        "replicas": group.replicas.iter().map(|replica| replica.instance.to_string()).collect::<Vec<_>>(),
        "rivals": group.rivals.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "unreported_replicas": group.strangers,
        "instances": rows.iter().map(instance).collect::<Vec<_>>(),
        "issues": issues(group, world),
        "next": next(group, topology, world),
    })
}

fn dead_seconds(verdict: &Verdict) -> Option<u64> {
    match verdict {
        Verdict::PrimaryDead { seconds } | Verdict::PrimarySucceeded { seconds, .. } => *seconds,
        _ => None,
    }
}

fn instance(row: &Row) -> Value {
    let mut line = json!({
        "instance": row.node,
        "host": row.host,
        "address": row.address,
        "role": row.role,
        "state": row.state,
        "follows": row.follows,
        "lineage": row.lineage.as_ref().map(|lineage| &lineage.id),
        "offset": row.lineage.as_ref().map(|lineage| lineage.offset),
        "keys": row.keys,
        "keyspace": row.keyspace,
        "version": row.version.map(|version| version.to_string()),
        "error": row.error,
    });
    if let Some(link) = &row.link {
        merge(&mut line, replica(link, row.lag));
    }
    line
}

fn replica(link: &ReplicaLink, lag: Option<Lag>) -> Value {
    let (word, since_seconds, run) = match link {
        ReplicaLink::Up => ("up", None, None),
        ReplicaLink::Syncing => ("syncing", None, None),
        ReplicaLink::Down { since_seconds } => ("down", *since_seconds, None),
        ReplicaLink::Fenced { run, since_seconds } => ("fenced", *since_seconds, run.as_ref()),
        ReplicaLink::Loading | ReplicaLink::Stopped | ReplicaLink::Silent { .. } | ReplicaLink::Denied { .. } => {
            ("none", None, None)
        }
    };
    let lag_bytes = match lag {
        Some(Lag::Bytes(bytes)) => Some(bytes),
        Some(Lag::Frozen | Lag::Unknown) | None => None,
    };
    json!({
        "link": word,
        "link_down_seconds": since_seconds,
        "run": run,
        "lag_bytes": lag_bytes,
        "frozen": lag == Some(Lag::Frozen),
    })
}

fn fed_line(fed: &Fed, world: &World) -> Value {
    let report = world.instance(&fed.instance);
    let running = report.and_then(|report| report.server.running());
    json!({
        "event": "target",
        "instance": fed.instance.to_string(),
        "host": fed.instance.host,
        "address": report.map(|report| &report.address),
        "run": fed.run,
        "by": report.and_then(|report| report.claim.as_ref()).map(|claim| &claim.by),
        "fed_at": fed.by,
        "loading": running.map(|running| running.persistence.loading),
        "version": running.map(|running| running.version.to_string()),
    })
}

fn spare_line(name: &InstanceRef, world: &World) -> Option<Value> {
    let report = world.instance(name)?;
    let running = report.server.running();
    let version = running.map(|running| running.version).or(report.binary);
    Some(json!({
        "event": "spare",
        "instance": name.to_string(),
        "host": name.host,
        "address": report.address,
        "state": if running.is_some() { "empty" } else { "stopped" },
        "dump_bytes": report.files.dump_bytes,
        "free_bytes": report.files.free_bytes,
        "version": version.map(|version| version.to_string()),
    }))
}

fn merge(line: &mut Value, more: Value) {
    if let (Value::Object(line), Value::Object(more)) = (line, more) {
        line.extend(more);
    }
}
