//! What the observations mean: which instances form a group, who is its primary, and how the group stands.
//!
//! Pure: a [`World`] goes in, a [`Topology`] comes out. Observing is [`crate::observe`]'s business, showing is
//! [`crate::report`]'s, and deciding what to do about it is [`crate::plan`]'s.
//!
//! ```text
//!   World ──place──> whose address is that? ──group──> primary and replicas ──verdict──> how they stand
//! ```
//!
//! A replica belongs to the group of the server that it follows, or that it followed before a run fenced it. A primary
//! that does not answer belongs to its group all the same: its replicas point at it.

pub mod death;
mod deposed;
mod describe;
pub mod fed;
mod group;
pub mod lost;
pub mod peers;
mod place;
pub mod remembered;
mod rival;
mod spare;
pub mod stand;
mod verdict;
pub mod writes;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use baton_proto::control::Reach;
use baton_proto::report::{HostReport, InstanceReport};
use baton_proto::{Fault, HostName, HostPort, InstanceName, InstanceRef, Lineage, ReplId, RunId};

use remembered::Remembered;
use writes::Writes;

pub use describe::describe;
pub use group::upstream_address;
pub use place::{Place, WordError};
pub use verdict::{Health, Trouble, Verdict};

/// Everything that was observed, at about the same time.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct World {
    pub hosts: BTreeMap<HostName, Host>,
    /// How servers answered when they were tried from other hosts.
    pub probes: Vec<Probe>,
    /// How agents answered each other.
    pub knocks: Vec<Knock>,
    /// IP addresses of the names by which servers, hosts and agents are addressed.
    pub resolved: BTreeMap<String, Vec<IpAddr>>,
    /// How much is written on servers that were looked at twice.
    pub writes: BTreeMap<InstanceRef, Writes>,
    /// When it was observed, by this machine's clock.
    pub observed_unix: u64,
    /// Number of the list of revoked certificates that this machine goes by.
    pub revocations: u64,
    /// What this machine had last seen of each host before.
    pub remembered: BTreeMap<HostName, Remembered>,
}

/// A host of the inventory.
#[derive(Debug, Clone, PartialEq)]
pub struct Host {
    /// Where its agent listens.
    pub agent: HostPort,
    /// Other addresses under which its servers are known.
    pub addresses: Vec<String>,
    pub view: HostView,
}

/// What became of the question to a host's agent.
#[derive(Debug, Clone, PartialEq)]
pub enum HostView {
    Answered {
        report: Box<HostReport>,
        clock: ClockOffset,
    },
    /// The agent could not be asked, or gave no report.
    Unreachable {
        error: String,
    },
}

/// How far a host's clock is from the coordinator's. It is only known to within half of the time that the answer took.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClockOffset {
    /// Positive where the host is ahead.
    pub offset_ms: i64,
    pub uncertainty_ms: u64,
}

/// One try to reach a server from an instance's host.
#[derive(Debug, Clone, PartialEq)]
pub struct Probe {
    pub from: InstanceRef,
    pub to: HostPort,
    /// The fault is the agent's own: it could not be asked, or could not try.
    pub answer: Result<Reach, Fault>,
}

/// One try of an agent to dial another.
#[derive(Debug, Clone, PartialEq)]
pub struct Knock {
    pub from: HostName,
    pub to: HostName,
    pub door: Door,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Door {
    Open,
    Shut(String),
    /// The agent could not be asked to try.
    Untried(String),
}

impl World {
    /// The report of a host whose agent answered.
    pub fn report(&self, host: &HostName) -> Option<&HostReport> {
        match &self.hosts.get(host)?.view {
            HostView::Answered { report, .. } => Some(report),
            HostView::Unreachable { .. } => None,
        }
    }

    /// The report of one instance.
    pub fn instance(&self, name: &InstanceRef) -> Option<&InstanceReport> {
        self.report(&name.host)?.instances.iter().find(|instance| instance.name == name.instance)
    }

    /// Every reported instance.
    pub fn instances(&self) -> impl Iterator<Item = (InstanceRef, &InstanceReport)> {
        self.hosts.keys().filter_map(|host| self.report(host).map(|report| (host, report))).flat_map(
            |(host, report)| report.instances.iter().map(|instance| (instance_ref(host, &instance.name), instance)),
        )
    }
}

fn instance_ref(host: &HostName, instance: &InstanceName) -> InstanceRef {
    InstanceRef { host: host.clone(), instance: instance.clone() }
}

/// The groups of a world, and what belongs to none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topology {
    pub groups: Vec<Group>,
    /// Instances that follow nobody, whom nobody follows, and which are stopped or hold no key.
    pub spares: Vec<InstanceRef>,
    /// Instances that runs fill while they run: see [`fed`].
    pub fed: Vec<fed::Fed>,
    /// Hosts whose agents did not answer, and why.
    pub unreachable: Vec<(HostName, String)>,
}

/// A primary and its replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// The name of its primary, or the primary's address where no host of the inventory has it.
    pub name: String,
    /// The replication id that its data stands under.
    pub lineage: Option<ReplId>,
    pub primary: Primary,
    /// Direct and chained replicas, in the order of their names.
    pub replicas: Vec<Replica>,
    /// Replicas that the primary serves and that no agent reports.
    pub strangers: Vec<HostPort>,
    /// Other running primaries whose data comes from the same lineage.
    pub rivals: Vec<InstanceRef>,
    pub verdict: Verdict,
}

/// The server that a group's replicas follow, directly or along a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Primary {
    pub place: Place,
    pub address: HostPort,
    pub state: PrimaryState,
}

impl Primary {
    /// Whether nothing tells any more who it was: all that is left is a fence without a note.
    pub fn is_forgotten(&self) -> bool {
        group::is_fence(&self.address)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PrimaryState {
    /// It answers as a primary.
    Running { lineage: Lineage, keys: u64, loading: bool },
    /// Its agent says that no server runs.
    Stopped,
    /// Its process lives or its port is open, and it does not answer.
    Silent { error: String },
    /// It refuses its agent.
    Denied { user: String, error: String },
    /// Its agent, which is newer, tells of it what is not known here.
    Strange { error: String },
    /// Its host's agent does not answer.
    Unreachable { error: String },
    /// No agent has such an instance.
    Unwatched,
    /// It is a replica that follows one of its own replicas.
    Circle,
}

impl PrimaryState {
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    pub instance: InstanceRef,
    pub address: HostPort,
    /// Whom it follows, or followed before it was fenced. Absent where that is no longer known.
    pub follows: Option<HostPort>,
    /// Whether it follows another replica instead of the primary.
    pub chained: bool,
    pub link: ReplicaLink,
    pub lag: Lag,
    /// Where its data stands, if it answers.
    pub lineage: Option<Lineage>,
    pub keys: Option<u64>,
}

impl Replica {
    /// Whether the primary's data flows to it.
    pub fn is_linked(&self) -> bool {
        matches!(self.link, ReplicaLink::Up | ReplicaLink::Syncing)
    }

    /// Whether it answers and its data can be read.
    pub fn is_running(&self) -> bool {
        self.lineage.is_some()
    }
}

/// A replica's link, with the reasons for which it can have none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaLink {
    Up,
    Syncing,
    Down {
        since_seconds: Option<u64>,
    },
    /// A run took it off its primary. The run is unknown where the agent's note is gone.
    Fenced {
        run: Option<RunId>,
        since_seconds: Option<u64>,
    },
    Loading,
    Stopped,
    Silent {
        error: String,
    },
    Denied {
        user: String,
        error: String,
    },
}

/// How far a replica is behind its primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lag {
    Bytes(u64),
    /// Nothing flows, and nothing is known to flow elsewhere: its offset stands still.
    Frozen,
    Unknown,
}

impl Topology {
    /// Finds the groups of a world and judges each.
    pub fn of(world: &World) -> Topology {
        group::topology(world)
    }

    /// The group in which an instance is primary or replica, else the one in which it is a rival.
    pub fn group_of(&self, instance: &InstanceRef) -> Option<&Group> {
        let own = self.groups.iter().find(|group| group.members().any(|member| member == instance));
        own.or_else(|| self.groups.iter().find(|group| group.rivals.contains(instance)))
    }

    /// The groups whose primary is, or was last, on that host.
    pub fn led_by(&self, host: &HostName) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| group.primary.place.host() == Some(host))
    }

    /// The groups that have a member or a rival on that host.
    pub fn on_host(&self, host: &HostName) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(move |group| {
            let mut instances = group.members().chain(&group.rivals);
            group.primary.place.host() == Some(host) || instances.any(|instance| instance.host == *host)
        })
    }

    /// The group of that name.
    pub fn group(&self, name: &str) -> Option<&Group> {
        self.groups.iter().find(|group| group.name == name)
    }

    /// The group of that name, or the one whose primary is or was last at HOST:PORT: how a lost one is called depends on how
    /// many its host led.
    pub fn named_or_at(&self, text: &str) -> Option<&Group> {
        let is_at = |group: &&Group| {
            let primary = &group.primary;
            primary.place.host().is_some_and(|host| format!("{host}:{}", primary.address.port) == text)
        };
        self.group(text).or_else(|| self.groups.iter().find(is_at))
    }

    /// What to ask of whom, to know whether the primaries that did not show themselves are alive: the agent of every
    /// replica tries the primary, whether its own server runs or not. The answers belong into [`World::probes`].
    pub fn questions(&self) -> Vec<(InstanceRef, HostPort)> {
        let witnesses = |group: &Group| {
            let address = group.primary.address.clone();
            let replicas = group.replicas.iter().map(|replica| replica.instance.clone());
            replicas.map(|from| (from, address.clone())).collect::<Vec<_>>()
        };
        self.doubtful().flat_map(witnesses).collect()
    }

    /// Which agent is to dial which, for the same end: every one of the group that of the primary. The answers belong into
    /// [`World::knocks`].
    pub fn doors(&self) -> BTreeSet<(HostName, HostName)> {
        let doors = |group: &Group| {
            let to = group.primary.place.host().cloned();
            let from = group.replicas.iter().map(|replica| replica.instance.host.clone());
            to.map(|to| from.filter(|from| *from != to).map(|from| (from, to.clone())).collect::<Vec<_>>())
        };
        self.doubtful().filter_map(doors).flatten().collect()
    }

    fn doubtful(&self) -> impl Iterator<Item = &Group> {
        self.groups.iter().filter(|group| {
            let seen = matches!(group.primary.state, PrimaryState::Running { .. } | PrimaryState::Circle);
            !seen && !group.primary.is_forgotten()
        })
    }
}

impl Group {
    /// The reported instances of the group: its primary and its replicas. Rivals are not of it: they only claim its data.
    pub fn members(&self) -> impl Iterator<Item = &InstanceRef> {
        self.primary.place.instance().into_iter().chain(self.replicas.iter().map(|replica| &replica.instance))
    }

    pub fn replica(&self, instance: &InstanceRef) -> Option<&Replica> {
        self.replicas.iter().find(|replica| replica.instance == *instance)
    }
}
