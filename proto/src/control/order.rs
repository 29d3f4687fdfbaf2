//! Orders: what an agent is to do to an instance.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::claim::Turn;
use crate::compared::Comparing;
use crate::data::{Budget, Ticket};
use crate::deposed::Deposition;
use crate::lineage::Lineage;
use crate::name::{HostName, HostPort, InstanceName, RunId};

/// Names a task: one action of one run. The name is the coordinator's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TaskId {
    pub run: RunId,
    pub name: String,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.run, self.name)
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Order {
    pub task: TaskId,
    pub turn: Turn,
    pub instance: InstanceName,
    pub action: Action,
}

/// Something an agent does to an instance. Each can be repeated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Take a replica off its primary without promoting it: it keeps its data, lineage and read-only state. Refused if
    /// it is linked, or does not stand at `expect`: its primary then lives.
    Fence { expect: Lineage },
    /// Keep the note of a replaced primary, tell that one's agent, and act by it where the primary is this host's.
    Depose { deposition: Box<Deposition> },
    /// Save aside what a deposed primary holds, after it was fenced. The file is never dropped by Baton. If asked, tell in
    /// which keys it differs from its successor: that is a report, and whether it can be made changes nothing.
    SaveAside {
        deposition: Box<Deposition>,
        #[serde(default)]
        compare: Option<Comparing>,
    },
    /// Make a replica a primary.
    Promote,
    /// Make the instance a replica of `to`, and wait until the link is up. Refused if it does not stand at `expect`.
    Follow { to: HostPort, expect: Option<Lineage>, timeout_seconds: u32 },
    /// Hand the role of primary to a replica without losing a write: writes wait until the replica has all that were
    /// acknowledged, then it takes over, and this instance follows it. Given up after a while: the instance is the primary
    /// as before. `to` is the replica as this instance knows it; `canary` is what the replica writes once it can.
    HandOver { to: HostPort, canary: String, timeout_ms: u32 },
    /// See that the instance is a primary that takes writes, after a handover that failed.
    KeepPrimary { timeout_ms: u32 },
    /// Write the canary as soon as this replica has become a primary that takes writes.
    AwaitWrites { value: String, timeout_ms: u32 },
    /// Have a backlog of at least this size on the server, from which a replica can go on at a snapshot that is taken
    /// afterwards. What is changed for it is put back by `GiveBack` or `Release`, or after `hold_seconds`.
    Backlog { bytes: u64, hold_seconds: u32 },
    /// Keep what is written on the server from now on in a file, as a replica that holds no data: what is built from a
    /// snapshot that is taken afterwards goes on from there. One that lives is joined. It ends with `GiveBack` or
    /// `Release`, or after `hold_seconds`.
    Spool { hold_seconds: u32 },
    /// Put back what the run has changed of the server's settings, and end its spool.
    GiveBack,
    /// Write a snapshot, and pin it under the run's name; or stream it, which ends when the target has taken all of it.
    Snapshot { method: SaveMethod },
    /// Let the agent of `to` pull the pinned snapshot with this ticket, also while it is still being written.
    Offer { ticket: Ticket, to: HostName, budget: Budget },
    /// Pull a snapshot from another agent into a partial file beside the dump, and see it land.
    Pull { from: HostName, address: HostPort, ticket: Ticket, landing: Landing },
    /// Stop the server. Refused if replicas follow it, or if it holds keys and `save` says that it is empty.
    Stop { save: Saving },
    /// Put the pulled snapshot in the place of the dump, and keep what stood there.
    Install,
    /// Start the server on its dump with the append-only file off, whatever its configuration says, and wait until it
    /// has loaded.
    Start { follow: Option<HostPort>, timeout_seconds: u32 },
    /// Turn the append-only file on, and wait for its first rewrite.
    EnableAof { timeout_seconds: u32 },
    /// Have the server write its configuration file, and read that file back.
    Persist,
    /// Write a key that expires by itself.
    WriteCanary { value: String },
    /// Wait for the key on a replica.
    ReadCanary { value: String, timeout_seconds: u32 },
    /// Remove the key.
    DropCanary,
    /// Undo `Install` and `Pull`: remove what the run put there and put back what stood there. A server that was fed live
    /// is made an empty primary again; what it received since it landed is saved and set aside.
    Restore,
    /// Drop the run's pins, tickets and partial files. What stood in the place of the dump is dropped as well, unless
    /// it is to be kept.
    Release { keep_old: bool },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Fence { .. } => write!(f, "fence"),
            Action::Depose { deposition } => write!(f, "note what became of {}", deposition.name()),
            Action::SaveAside { compare: None, .. } => write!(f, "save aside what it holds"),
            Action::SaveAside { compare: Some(comparing), .. } => {
                write!(f, "save aside what it holds, and compare it with {}", comparing.with)
            }
            Action::Promote => write!(f, "promote"),
            Action::Follow { to, .. } => write!(f, "follow {to}"),
            Action::HandOver { to, .. } => write!(f, "hand over to {to}"),
            Action::KeepPrimary { .. } => write!(f, "keep the role of primary"),
            Action::AwaitWrites { .. } => write!(f, "await the first write as a primary"),
            Action::Backlog { bytes, .. } => write!(f, "have a backlog of {bytes} B"),
            Action::Spool { .. } => write!(f, "spool what is written"),
            Action::GiveBack => write!(f, "put settings back"),
            Action::Snapshot { method } => write!(f, "snapshot by {method}"),
            Action::Offer { to, .. } => write!(f, "offer the snapshot to {to}"),
            Action::Pull { from, address, .. } => write!(f, "pull the snapshot of {from} at {address}"),
            Action::Stop { save: Saving::Empty } => write!(f, "stop the empty server"),
            Action::Stop { save: Saving::Always } => write!(f, "save and stop"),
            Action::Stop { save: Saving::IfChanged } => write!(f, "stop, and save what changed"),
            Action::Install => write!(f, "install"),
            Action::Start { follow: None, .. } => write!(f, "start"),
            Action::Start { follow: Some(to), .. } => write!(f, "start as a replica of {to}"),
            Action::EnableAof { .. } => write!(f, "turn appendonly on"),
            Action::Persist => write!(f, "persist the configuration"),
            Action::WriteCanary { .. } => write!(f, "write the canary"),
            Action::ReadCanary { .. } => write!(f, "read the canary"),
            Action::DropCanary => write!(f, "remove the canary"),
            Action::Restore => write!(f, "restore"),
            Action::Release { .. } => write!(f, "release"),
        }
    }
}

/// Where a snapshot goes that is pulled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Landing {
    /// Into the partial file alone. `loads` tells that a server will read it at once, so that it should stay in memory.
    File { loads: bool },
    /// Into the running, empty server as well, while it arrives: the agent is its primary for as long. Afterwards the
    /// server is a primary itself, or follows `follow`, and the file is its dump.
    Live { follow: Option<HostPort>, timeout_seconds: u32 },
    /// The same, and then what the source's agent has spooled since, until no more than `near_bytes` are missing. Then
    /// the server follows `follow`, whose backlog holds the rest.
    Spooled { follow: HostPort, near_bytes: u64, timeout_seconds: u32 },
}

impl Landing {
    /// Whether a running server loads while the bytes arrive.
    pub fn is_live(&self) -> bool {
        matches!(self, Self::Live { .. } | Self::Spooled { .. })
    }

    /// Whom the server follows afterwards by itself, if it does.
    pub fn follow(&self) -> Option<&HostPort> {
        match self {
            Self::File { .. } => None,
            Self::Live { follow, .. } => follow.as_ref(),
            Self::Spooled { follow, .. } => Some(follow),
        }
    }
}

/// What becomes of a server's data when it is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Saving {
    /// There is none: the server is known to be empty.
    Empty,
    /// It is saved.
    Always,
    /// It is saved if it changed since it was loaded.
    IfChanged,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SaveMethod {
    /// The server writes it itself and serves nobody meanwhile.
    Save,
    /// A fork of the server writes it.
    Bgsave,
    /// The dump that is there is taken as it is.
    Existing,
    /// A fork of the server sends it to its agent as to a replica, and nothing is written on that host. The server keeps
    /// what was sent, and its agent a few chunks of it.
    Stream,
}

impl fmt::Display for SaveMethod {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            SaveMethod::Save => "SAVE",
            SaveMethod::Bgsave => "BGSAVE",
            SaveMethod::Existing => "existing dump",
            SaveMethod::Stream => "stream",
        })
    }
}
