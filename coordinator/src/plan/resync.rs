//! Foretells whether a replica will join with a partial resync or a full one, from what was observed.
//!
//! Facts, measured on Redis 6.2 to 8.0 and Valkey 7.2 to 9.1: a primary that loaded a snapshot remembers the snapshot's
//! lineage from Redis 7.0 on and on every Valkey, and takes a replica back partially that stands at the snapshot's
//! offset; its backlog begins there, so a replica that lags gets everything anew. A server that was fed the snapshot as a
//! replica remembers as much on every version since 4.0. A server that is *started* as a replica on a snapshot, or was fed
//! it, continues from it on every version since 4.0, if its primary's backlog reaches back that far.

use std::fmt;

use baton_proto::InstanceRef;
use baton_proto::report::{Running, SyncCounters};
use serde::{Deserialize, Serialize};

use crate::plan::{Goal, Member, Mode, Scene, Way, backlog, landing, spool};
use crate::report::units::Bytes;
use crate::topology::writes::Seen;

/// How a replica came level with its primary, the cheaper way first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resync {
    /// From the backlog: the data did not cross the network again.
    Partial,
    /// The whole data set was sent.
    Full,
}

impl Resync {
    /// Judges by the primary's counters before and after.
    pub fn between(before: SyncCounters, after: SyncCounters) -> Option<Resync> {
        if after.full > before.full {
            Some(Resync::Full)
        } else if after.partial_ok > before.partial_ok {
            Some(Resync::Partial)
        } else {
            None
        }
    }
}

impl fmt::Display for Resync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Resync::Partial => "partial",
            Resync::Full => "full",
        })
    }
}

/// How one replica will join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    pub replica: InstanceRef,
    pub to: InstanceRef,
    pub resync: Resync,
    /// Bytes that will cross the network again: of the whole data set for a full resync, of the backlog for a partial.
    pub bytes: u64,
    pub why: String,
}

/// Foretells every join of the plan, in its order.
pub fn forecasts(scene: &Scene) -> Vec<Forecast> {
    match scene.intent.goal {
        Goal::Copy { .. } => Vec::new(),
        Goal::Switchover { .. } => {
            let joins = std::iter::once(scene.source).chain(scene.siblings.iter().copied());
            joins.map(|replica| behind_the_successor(scene, replica)).collect()
        }
        Goal::Clone => vec![built_from_a_snapshot(scene)],
        Goal::Rejoin => vec![returned(scene)],
        Goal::Failover(Mode::Replace) => {
            let joins = std::iter::once(scene.source).chain(scene.siblings.iter().copied());
            joins.map(|replica| behind_a_loaded_primary(scene, replica)).collect()
        }
        Goal::Failover(Mode::InPlace) => {
            scene.siblings.iter().map(|replica| behind_the_promoted(scene, *replica)).collect()
        }
        Goal::Failover(Mode::Promote) => {
            let siblings = scene.siblings.iter().map(|replica| behind_the_promoted(scene, *replica));
            siblings.chain([built_from_a_snapshot(scene)]).collect()
        }
    }
}

fn forecast(scene: &Scene, replica: Member, to: Member, resync: Resync, partial_bytes: u64, why: &str) -> Forecast {
    let bytes = if resync == Resync::Partial { partial_bytes } else { scene.snapshot_bytes() };
    Forecast { replica: replica.name.clone(), to: to.name.clone(), resync, bytes, why: why.into() }
}

fn behind_a_loaded_primary(scene: &Scene, replica: Member) -> Forecast {
    let to = scene.target;
    let live = landing::of(scene) == Way::Live;
    let (resync, why) = match scene.target.report.binary {
        Some(version) if !live && !version.remembers_lineage_as_primary() => {
            (Resync::Full, format!("a primary of {version} forgets the lineage of the snapshot that it loads"))
        }
        _ if offset(replica) != offset(scene.source) => {
            (Resync::Full, "it lags, and the target's backlog begins at the snapshot".into())
        }
        _ => {
            (Resync::Partial, "it stands where the snapshot will be taken, and the target remembers that point".into())
        }
    };
    forecast(scene, replica, to, resync, 0, &why)
}

fn behind_the_promoted(scene: &Scene, replica: Member) -> Forecast {
    let to = scene.source;
    let behind = offset(scene.source).zip(offset(replica)).and_then(|(ahead, own)| ahead.checked_sub(own));
    let held = backlog_first_offset(scene.source);
    match (behind, held, offset(replica)) {
        (Some(bytes), Some(first), Some(own)) if own + 1 >= first => {
            forecast(scene, replica, to, Resync::Partial, bytes, "the source's backlog holds what it lacks")
        }
        _ => forecast(scene, replica, to, Resync::Full, 0, "the source's backlog does not reach back to it"),
    }
}

/// The successor was a replica like them: what it holds of the common history is what it received itself.
fn behind_the_successor(scene: &Scene, replica: Member) -> Forecast {
    let to = scene.target;
    let own = offset(replica);
    match backlog_first_offset(to) {
        Some(first) if replica.name == scene.source.name || own.is_some_and(|own| own + 1 >= first) => {
            forecast(scene, replica, to, Resync::Partial, 0, "both have the same history, which goes on")
        }
        Some(_) => forecast(scene, replica, to, Resync::Full, 0, "the new primary's backlog does not reach back to it"),
        None => forecast(scene, replica, to, Resync::Full, 0, "the new primary has no backlog"),
    }
}

fn built_from_a_snapshot(scene: &Scene) -> Forecast {
    let (replica, to) = (scene.target, scene.source);
    let continues = replica.report.binary.is_none_or(|version| version.continues_as_replica());
    if !continues {
        return forecast(scene, replica, to, Resync::Full, 0, "its version cannot continue from a snapshot");
    }
    let Some(sizing) = backlog::of(scene) else {
        return forecast(scene, replica, to, Resync::Full, 0, "the source does not run");
    };
    if let Some(Ok(spool)) = spool::of(scene) {
        let (holds, says) = (Bytes(sizing.bytes), spool.says());
        let why = format!("by spool: {sizing}, and the backlog holds no more than {holds}; {says}");
        return forecast(scene, replica, to, Resync::Partial, spool.bytes, &why);
    }
    if !sizing.fits() {
        let why = format!("{sizing}, which a backlog of {} does not hold", Bytes(sizing.bytes));
        return forecast(scene, replica, to, Resync::Full, 0, &why);
    }
    let (why, bytes) = match sizing.writes.seen {
        Seen::Nothing => {
            (format!("it goes on from the snapshot, if less than {} are written meanwhile", Bytes(sizing.bytes)), 0)
        }
        _ => (
            format!("it goes on from the snapshot: {sizing}, and the backlog holds {}", Bytes(sizing.bytes)),
            sizing.expected_bytes,
        ),
    };
    forecast(scene, replica, to, Resync::Partial, bytes, &why)
}

/// A deposed primary goes on from where it stands if that is in its successor's history.
fn returned(scene: &Scene) -> Forecast {
    let (replica, to) = (scene.target, scene.source);
    let past = scene.world.joins_after(replica.name).zip(replica.running());
    let past = past.and_then(|(held, running)| held.deposition.past_fork(&running.replication));
    let ids = replica.running().map(|running| &running.replication.lineage.id);
    let remembers =
        to.running().and_then(|running| running.replication.second.as_ref()).map(|second| &second.id) == ids;
    match (past, backlog_first_offset(to), offset(replica)) {
        (Some(0), Some(first), Some(own)) if remembers && own + 1 >= first => {
            forecast(scene, replica, to, Resync::Partial, 0, "it is not past the fork, which its successor remembers")
        }
        (Some(0), ..) => {
            forecast(scene, replica, to, Resync::Full, 0, "its successor's backlog does not reach back to it")
        }
        _ => forecast(scene, replica, to, Resync::Full, 0, "it has gone its own way, which its successor has not"),
    }
}

fn offset(member: Member) -> Option<u64> {
    member.running().map(|running| running.replication.lineage.offset)
}

fn backlog_first_offset(member: Member) -> Option<u64> {
    let running: &Running = member.running()?;
    Some(running.replication.backlog.as_ref()?.first_offset)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_resync_is_never_taken_for_a_partial_one() {
        let counters = |full, partial_ok| SyncCounters { full, partial_ok, partial_err: 0 };
        assert_eq!(Resync::between(counters(0, 0), counters(0, 1)), Some(Resync::Partial));
        assert_eq!(Resync::between(counters(0, 0), counters(1, 0)), Some(Resync::Full));
        assert_eq!(Resync::between(counters(2, 5), counters(3, 6)), Some(Resync::Full));
        assert_eq!(Resync::between(counters(2, 5), counters(2, 5)), None);
    }
}
