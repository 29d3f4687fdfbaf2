//! The gate: whether a target holds all that the source holds, so that the source may be told to follow it.
//!
//! The danger it stands against: a server that comes up empty (its configuration says `appendonly yes`, or another `dir`)
//! looks healthy, and a replica that is attached to it is emptied within seconds with every light green.
//!
//! What is compared, all while the source stands still:
//! - lineage: the source's is still the snapshot's; and the target, where its version remembers a snapshot's lineage
//!   (Redis 7.0, every Valkey; since 4.0 where it was fed live), has it as its second id up to the source's offset, with a backlog from there;
//! - keys per database: those without a time to live must be equal. Of those with one the target may lack some, since it
//!   drops expired keys at load while a replica still counts them; where the version counts what it dropped, the
//!   difference must be explained by that count to the key.

use baton_proto::Lineage;
use baton_proto::report::{Keys, Keyspace, Role, Running, total_keys};

/// What the target is held against.
#[derive(Debug, Clone)]
pub struct Expected<'a> {
    /// Where the source stood right after the snapshot.
    pub lineage: &'a Lineage,
    /// Where the snapshot says that its data stands; a dump that was there already may be older than the source.
    pub snapshot: Option<&'a Lineage>,
    /// The source's keys when the snapshot was taken.
    pub keyspace: &'a Keyspace,
    /// Whether the target was fed live: as a replica, it remembers the lineage whatever its version.
    pub live: bool,
}

/// One comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub holds: bool,
    pub says: String,
}

fn finding(holds: bool, says: impl Into<String>) -> Finding {
    Finding { holds, says: says.into() }
}

/// Compares; the gate is open only if every finding holds.
pub fn judge(expected: &Expected, source: &Running, target: &Running) -> Vec<Finding> {
    let mut findings =
        vec![source_stands_still(expected, source), snapshot_is_current(expected), target_is_a_ready_primary(target)];
    if expected.live || target.version.remembers_lineage_as_primary() {
        findings.push(lineage_is_remembered(expected.lineage, target));
    }
    findings.extend(lasting_keys_are_equal(expected.keyspace, &target.keyspace));
    findings.push(missing_keys_have_expired(expected, target));
    findings
}

fn source_stands_still(expected: &Expected, source: &Running) -> Finding {
    let now = &source.replication.lineage;
    let same = now == expected.lineage && matches!(source.role, Role::Replica { .. });
    if same {
        finding(true, format!("source stands where the snapshot was taken ({now})"))
    } else {
        finding(
            false,
            format!("source has moved since the snapshot: it is at {now}, the snapshot at {}", expected.lineage),
        )
    }
}

fn snapshot_is_current(expected: &Expected) -> Finding {
    match expected.snapshot {
        Some(snapshot) if snapshot == expected.lineage => finding(true, "snapshot is of the source's present state"),
        Some(snapshot) => {
            finding(false, format!("snapshot is of {snapshot}, the source stands at {}", expected.lineage))
        }
        None => finding(false, "snapshot does not say where its data stands"),
    }
}

fn target_is_a_ready_primary(target: &Running) -> Finding {
    match &target.role {
        Role::Replica { primary, .. } => finding(false, format!("target is a replica of {primary}, not a primary")),
        Role::Primary { .. } if target.persistence.loading => finding(false, "target is still loading"),
        Role::Primary { .. } => finding(true, "target is a primary and has loaded"),
    }
}

fn lineage_is_remembered(wanted: &Lineage, target: &Running) -> Finding {
    let second = target.replication.second.as_ref();
    match second {
        Some(second) if second == wanted && target.replication.backlog.is_some() => {
            finding(true, format!("target remembers the source's lineage ({second}) and has a backlog"))
        }
        Some(second) if second == wanted => finding(false, "target has no backlog"),
        Some(second) => finding(false, format!("target remembers another lineage: {second}, not {wanted}")),
        None => finding(
            false,
            format!("target does not remember the source's lineage ({wanted}): it has not loaded the snapshot"),
        ),
    }
}

fn lasting_keys_are_equal(source: &Keyspace, target: &Keyspace) -> Vec<Finding> {
    let mut databases: Vec<u32> = source.keys().chain(target.keys()).copied().collect();
    databases.sort_unstable();
    databases.dedup();
    let keys = |keyspace: &Keyspace, db| keyspace.get(&db).copied().unwrap_or_default();
    let compare = |db| {
        let (source, target): (Keys, Keys) = (keys(source, db), keys(target, db));
        let (wanted, found) = (lasting(source), lasting(target));
        let expiring = target.expires <= source.expires;
        let says = format!(
            "db{db}: {found} of {wanted} lasting keys, {} of {} with a time to live",
            target.expires, source.expires
        );
        finding(wanted == found && expiring, says)
    };
    databases.into_iter().map(compare).collect()
}

fn lasting(keys: Keys) -> u64 {
    keys.keys.saturating_sub(keys.expires)
}

fn missing_keys_have_expired(expected: &Expected, target: &Running) -> Finding {
    let (wanted, found) = (total_keys(expected.keyspace), total_keys(&target.keyspace));
    let missing = wanted.saturating_sub(found);
    if missing == 0 {
        return finding(true, format!("target holds all {wanted} keys"));
    }
    // Those it dropped while loading, and those that ran out since. One that is fed loads as a replica, and drops none.
    let at_load = target.persistence.load_keys.map(|load| load.expired).or(expected.live.then_some(0));
    let explained = at_load.map(|dropped| dropped + target.memory.expired_keys);
    match explained {
        Some(expired) if missing <= expired => {
            finding(true, format!("target holds {found} of {wanted} keys; the {missing} others have expired"))
        }
        Some(expired) => {
            finding(false, format!("target holds {found} of {wanted} keys, and only {expired} have expired there"))
        }
        // Without a count of expired keys an empty server cannot be told from one whose keys have all expired.
        None if found == 0 => finding(false, format!("target is empty, source holds {wanted} keys")),
        None => {
            finding(true, format!("target holds {found} of {wanted} keys; the {missing} others had a time to live"))
        }
    }
}

#[cfg(test)]
mod tests;
