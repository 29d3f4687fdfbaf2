//! How a group stands, in one verdict with words.

use std::fmt;

use baton_proto::{HostName, InstanceRef, Lineage, RunId};

use super::{Group, PrimaryState, Replica, ReplicaLink, World};
use crate::report::units::Span;

/// The worst that is true of a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Ok,
    /// Neither its agent nor its port answers, and no replica is linked to it. The seconds are the longest that a
    /// replica has been without it.
    PrimaryDead {
        seconds: Option<u64>,
    },
    /// It is dead, and another primary already holds its data: a promotion or a run that stopped half-way.
    PrimarySucceeded {
        by: Vec<InstanceRef>,
        seconds: Option<u64>,
    },
    /// It cannot be seen from here, but replicas are linked to it: it lives.
    PrimaryUnreachable {
        linked: usize,
    },
    /// It cannot be seen from here and no replica is linked, but something answers at its address.
    PrimaryAnswers {
        to: Vec<HostName>,
    },
    /// Its process lives, and does not answer.
    PrimarySilent,
    /// It refuses its agent's user or password.
    PrimaryDenied {
        user: String,
    },
    /// What its agent tells of it is not known here.
    PrimaryStrange,
    PrimaryLoading,
    /// It runs, but on data that a replica without link does not come from: following it would empty the replica.
    PrimaryDiffers {
        replica: InstanceRef,
    },
    /// It runs where no agent watches it.
    PrimaryUnwatched,
    /// Replicas are fenced, and nothing tells off whom.
    PrimaryForgotten,
    /// Replicas follow each other and nobody writes.
    Circle,
    /// Some replicas are not in order; the worst is named.
    Replica {
        instance: InstanceRef,
        trouble: Trouble,
        others: usize,
    },
    NoReplica,
    /// Other primaries hold data of the same lineage.
    TwoPrimaries {
        others: Vec<InstanceRef>,
    },
    /// Neither the primary nor a replica answers.
    Lost,
}

/// What is wrong with a replica, the worst last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Trouble {
    Loading,
    Syncing,
    Fenced { run: Option<RunId> },
    Denied,
    Silent,
    Stopped,
    Down { since_seconds: Option<u64> },
}

/// A verdict in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    Ok,
    Degraded,
    Lost,
}

impl fmt::Display for Health {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Health::Ok => "ok",
            Health::Degraded => "degraded",
            Health::Lost => "lost",
        })
    }
}

impl Verdict {
    pub fn health(&self) -> Health {
        match self {
            Verdict::Ok => Health::Ok,
            Verdict::Lost => Health::Lost,
            _ => Health::Degraded,
        }
    }

    /// A word for programs that does not change with the details.
    pub fn code(&self) -> &'static str {
        match self {
            Verdict::Ok => "ok",
            Verdict::PrimaryDead { .. } => "primary_dead",
            Verdict::PrimarySucceeded { .. } => "primary_succeeded",
            Verdict::PrimaryUnreachable { .. } => "primary_unreachable",
            Verdict::PrimaryAnswers { .. } => "primary_answers",
            Verdict::PrimarySilent => "primary_silent",
            Verdict::PrimaryDenied { .. } => "primary_denied",
            Verdict::PrimaryStrange => "primary_strange",
            Verdict::PrimaryLoading => "primary_loading",
            Verdict::PrimaryDiffers { .. } => "primary_differs",
            Verdict::PrimaryUnwatched => "primary_unwatched",
            Verdict::PrimaryForgotten => "primary_forgotten",
            Verdict::Circle => "circle",
            Verdict::Replica { .. } => "replica",
            Verdict::NoReplica => "no_replica",
            Verdict::TwoPrimaries { .. } => "two_primaries",
            Verdict::Lost => "lost",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Ok => write!(f, "ok"),
            Verdict::PrimaryDead { seconds } => write!(f, "degraded: primary dead{}", ago(*seconds)),
            Verdict::PrimarySucceeded { by, seconds } => {
                write!(f, "degraded: primary dead{}, but its data is on primary {}", ago(*seconds), list(by))
            }
            Verdict::PrimaryUnreachable { linked: 1 } => {
                write!(f, "degraded: primary unreachable from here but 1 replica is linked")
            }
            Verdict::PrimaryUnreachable { linked } => {
                write!(f, "degraded: primary unreachable from here but {linked} replicas are linked")
            }
            Verdict::PrimaryAnswers { to } => {
                write!(f, "degraded: primary answers {} but no replica is linked", list(to))
            }
            Verdict::PrimarySilent => write!(f, "degraded: primary runs but does not answer"),
            Verdict::PrimaryStrange => write!(f, "degraded: primary is not understood, its agent is newer than coord"),
            Verdict::PrimaryDenied { user } => write!(f, "degraded: primary refuses its agent (user {user})"),
            Verdict::PrimaryLoading => write!(f, "degraded: primary is loading"),
            Verdict::PrimaryDiffers { replica } => {
                write!(f, "degraded: primary has another history than replica {replica}")
            }
            Verdict::PrimaryUnwatched => write!(f, "degraded: primary is on no host of the inventory"),
            Verdict::PrimaryForgotten => write!(f, "degraded: fenced off a primary that is no longer known"),
            Verdict::Circle => write!(f, "degraded: no primary, replicas follow each other"),
            Verdict::Replica { instance, trouble, others } => {
                write!(f, "degraded: replica {instance} {trouble}")?;
                if *others > 0 { write!(f, " (and {others} more)") } else { Ok(()) }
            }
            Verdict::NoReplica => write!(f, "degraded: no replica"),
            Verdict::TwoPrimaries { others } => {
                let count = match others.len() {
                    1 => "two".to_owned(),
                    more => (more + 1).to_string(),
                };
                write!(f, "degraded: {count} primaries, also {}", list(others))
            }
            Verdict::Lost => write!(f, "lost: neither the primary nor a replica answers"),
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Trouble::Loading => write!(f, "is loading"),
            Trouble::Syncing => write!(f, "is syncing"),
            Trouble::Fenced { run: Some(run) } => write!(f, "is fenced by run {run}"),
            Trouble::Fenced { run: None } => write!(f, "is fenced"),
            Trouble::Denied => write!(f, "refuses its agent"),
            Trouble::Silent => write!(f, "runs but does not answer"),
            Trouble::Stopped => write!(f, "is stopped"),
            Trouble::Down { since_seconds } => write!(f, "link down{}", ago(*since_seconds)),
        }
    }
}

/// A space and the time, or nothing.
fn ago(seconds: Option<u64>) -> String {
    seconds.map(|seconds| format!(" {}", Span(seconds))).unwrap_or_default()
}

/// Joins names as in a sentence.
fn list<T: fmt::Display>(names: &[T]) -> String {
    names.iter().map(T::to_string).collect::<Vec<_>>().join(", ")
}

/// Judges a group whose members are known.
pub(super) fn judge(group: &Group, world: &World) -> Verdict {
    if !group.rivals.is_empty() && group.primary.state.is_running() {
        return Verdict::TwoPrimaries { others: group.rivals.clone() };
    }
    let linked = group.replicas.iter().filter(|replica| replica.is_linked()).count();
    if group.primary.is_forgotten() {
        return Verdict::PrimaryForgotten;
    }
    match &group.primary.state {
        PrimaryState::Circle => Verdict::Circle,
        PrimaryState::Running { loading: true, .. } => Verdict::PrimaryLoading,
        PrimaryState::Running { .. } => judge_replicas(group, world),
        PrimaryState::Silent { .. } => Verdict::PrimarySilent,
        PrimaryState::Denied { user, .. } => Verdict::PrimaryDenied { user: user.clone() },
        PrimaryState::Strange { .. } => Verdict::PrimaryStrange,
        PrimaryState::Unwatched if linked > 0 => Verdict::PrimaryUnwatched,
        PrimaryState::Stopped | PrimaryState::Unreachable { .. } if linked > 0 => {
            Verdict::PrimaryUnreachable { linked }
        }
        PrimaryState::Stopped | PrimaryState::Unreachable { .. } | PrimaryState::Unwatched => judge_gone(group, world),
    }
}

/// Judges a group whose primary is not seen and to which no replica is linked.
fn judge_gone(group: &Group, world: &World) -> Verdict {
    let answered = world.probes.iter().filter(|probe| {
        probe.to == group.primary.address && probe.answer.as_ref().is_ok_and(|reach| reach.verdict.is_alive())
    });
    let answered: Vec<_> = answered.collect();
    if !answered.is_empty() && answered.iter().all(|probe| probe.answer.as_ref().is_ok_and(|reach| reach.hung)) {
        return Verdict::PrimarySilent;
    }
    let mut to: Vec<HostName> = answered.iter().map(|probe| probe.from.host.clone()).collect();
    to.sort();
    to.dedup();
    if !to.is_empty() {
        return Verdict::PrimaryAnswers { to };
    }
    if !group.replicas.iter().any(Replica::is_running) {
        return Verdict::Lost;
    }
    let seconds = group.replicas.iter().filter_map(seconds_alone).max();
    match group.rivals.as_slice() {
        [] => Verdict::PrimaryDead { seconds },
        heirs => Verdict::PrimarySucceeded { by: heirs.to_vec(), seconds },
    }
}

/// How long a replica has been without its primary.
fn seconds_alone(replica: &Replica) -> Option<u64> {
    match replica.link {
        ReplicaLink::Down { since_seconds } | ReplicaLink::Fenced { since_seconds, .. } => since_seconds,
        _ => None,
    }
}

fn judge_replicas(group: &Group, world: &World) -> Verdict {
    if let Some(replica) = group.replicas.iter().find(|replica| differs(group, replica, world)) {
        return Verdict::PrimaryDiffers { replica: replica.instance.clone() };
    }
    if group.replicas.is_empty() && group.strangers.is_empty() {
        return Verdict::NoReplica;
    }
    let mut troubled: Vec<_> =
        group.replicas.iter().filter_map(|replica| trouble(replica).map(|trouble| (trouble, replica))).collect();
    // Stable: of several equally bad the first by name is named.
    troubled.sort_by(|(a, _), (b, _)| b.cmp(a));
    let others = troubled.len().saturating_sub(1);
    match troubled.into_iter().next() {
        None => Verdict::Ok,
        Some((trouble, replica)) => Verdict::Replica { instance: replica.instance.clone(), trouble, others },
    }
}

fn trouble(replica: &Replica) -> Option<Trouble> {
    Some(match &replica.link {
        ReplicaLink::Up => return None,
        ReplicaLink::Syncing => Trouble::Syncing,
        ReplicaLink::Down { since_seconds } => Trouble::Down { since_seconds: *since_seconds },
        ReplicaLink::Fenced { run, .. } => Trouble::Fenced { run: run.clone() },
        ReplicaLink::Loading => Trouble::Loading,
        ReplicaLink::Stopped => Trouble::Stopped,
        ReplicaLink::Silent { .. } => Trouble::Silent,
        ReplicaLink::Denied { .. } => Trouble::Denied,
    })
}

/// Whether a replica without link holds data that the running primary does not descend from. A replica without a key has
/// nothing to lose: it may never have been linked at all.
fn differs(group: &Group, replica: &Replica, world: &World) -> bool {
    if replica.is_linked() || replica.keys.unwrap_or(0) == 0 {
        return false;
    }
    let primary = group.primary.place.instance().and_then(|name| world.instance(name));
    let (Some(primary), Some(held)) = (primary.and_then(|primary| primary.server.running()), &replica.lineage) else {
        return false;
    };
    let covers = |known: &Lineage| known.id == held.id && known.offset >= held.offset;
    !covers(&primary.replication.lineage) && !primary.replication.second.as_ref().is_some_and(covers)
}
