//! The steps that a plan is made of. A step is check, act, confirm: the agents' actions do all three, so a step can be
//! repeated. What each step asks of whom is in [`crate::drive::hands`]; here is what it means.

mod title;

use baton_proto::compared::Comparing;
use baton_proto::control::{Landing, SaveMethod};
use baton_proto::data::Budget;
use baton_proto::deposed::{Deposition, Standing};
use baton_proto::{HostPort, InstanceRef, Lineage};
use serde::{Deserialize, Serialize};

use crate::plan::left::{Unmoved, Unseen};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// Takes the survivors off the lost primary, so that it cannot overwrite them when it comes back. Refused if one of
    /// them is not as it was: the primary may have come back already.
    Fence {
        replicas: Vec<Survivor>,
    },
    /// Has the agents of the group note what became of a lost primary, and tell its agent once that answers. It is told
    /// at once where it does.
    Depose {
        keepers: Vec<InstanceRef>,
        own: Option<InstanceRef>,
        deposition: Box<Deposition>,
    },
    /// Saves aside what a deposed primary holds, fenced. Nobody but a person removes the file.
    SaveAside {
        deposed: InstanceRef,
        /// Whom it is to follow.
        primary: InstanceRef,
        deposition: Box<Deposition>,
        /// Whether to tell afterwards in which keys the two differ.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        compare: Option<Comparing>,
    },
    /// Makes the source the primary.
    Promote {
        on: InstanceRef,
    },
    /// Has a primary that lives hand its role to a replica: writes wait until the replica has all that were acknowledged.
    /// Not within the timeout, and it is the primary as before.
    HandOver {
        from: InstanceRef,
        to: Upstream,
        /// The replica's address as its primary knows it.
        seen_as: HostPort,
        timeout_ms: u32,
    },
    /// Has the source keep what is written from the snapshot on, until a replica that is built from it asks for the rest.
    Backlog {
        source: InstanceRef,
        bytes: u64,
        /// When the source's own settings are back at the latest, whatever becomes of the run.
        hold_seconds: u32,
    },
    /// Has the source's agent keep the same in a file, where the backlog cannot hold it.
    Spool {
        source: InstanceRef,
    },
    /// Has the snapshot written. It is done as soon as the snapshot can be sent, which is long before it is whole.
    Snapshot {
        source: InstanceRef,
        method: SaveMethod,
    },
    /// Sends the snapshot while it is written, and is done when it is whole on both sides.
    Transfer {
        source: InstanceRef,
        target: InstanceRef,
        /// How the snapshot is written.
        #[serde(default = "whole_already")]
        method: SaveMethod,
        #[serde(default)]
        budget: Budget,
        #[serde(default = "into_a_file")]
        landing: Landing,
    },
    /// Stops the target's server, which runs empty or holds what is to be replaced.
    Stop {
        target: InstanceRef,
        save: bool,
        appendonly: bool,
    },
    Install {
        target: InstanceRef,
    },
    /// Starts the target's server with the append-only file off: as a primary, or as a replica of `follow`.
    Start {
        target: InstanceRef,
        follow: Option<Upstream>,
    },
    /// Starts the target's server on nothing, so that it can be fed.
    Boot {
        target: InstanceRef,
    },
    /// Proves that the target holds what the source holds, before anything is attached to it.
    Gate {
        source: InstanceRef,
        target: Upstream,
    },
    /// Makes one server a replica of another and counts how it joined.
    Attach {
        replica: InstanceRef,
        to: Upstream,
    },
    /// Moves the other survivors below the new primary. They hold no more than the source did.
    AttachSiblings {
        replicas: Vec<InstanceRef>,
        to: Upstream,
    },
    /// `guards`: something is to follow the target. Until its append-only file is on again, a restart would bring it up
    /// empty, since its configuration says that the dump is to be ignored.
    EnableAof {
        target: InstanceRef,
        guards: bool,
    },
    /// Has each server write its role into its configuration file, and reads the file back.
    Persist {
        instances: Vec<InstanceRef>,
    },
    /// Writes a key on the primary and waits for it on the replica.
    Canary {
        primary: InstanceRef,
        replica: InstanceRef,
    },
    /// Looks for replicas that could not be moved along, and names those that still follow the replaced primary.
    LeftBehind {
        /// Known when the plan was made.
        replicas: Vec<Unmoved>,
        /// Whose agents did not answer then.
        hosts: Vec<Unseen>,
        /// Replicas without an agent.
        strangers: Vec<HostPort>,
        /// The addresses of the replaced primary.
        from: Vec<HostPort>,
        to: Upstream,
    },
    /// Drops pins, tickets and partial files; keeps what stood in place of the dump if it was somebody's data.
    Release {
        source: InstanceRef,
        target: InstanceRef,
        keep_old: bool,
    },
}

/// A replica of the lost primary, and where it stood when the plan was made.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Survivor {
    pub instance: InstanceRef,
    pub lineage: Lineage,
}

/// A server to follow: who it is and where its replicas reach it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Upstream {
    pub instance: InstanceRef,
    pub address: HostPort,
}

/// What the failure of a step means for the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// Nothing depends on the step yet: what was done is undone.
    Undo,
    /// The group may be half moved: the run stops as it is.
    Halt,
    /// The group serves; something is missing, and the run goes on without it.
    Degrade,
    /// The group serves, and something of the run is left where it was: it stays open, to be cleared away later.
    StayOpen,
}

/// What journals mean that do not tell: their transfers began when the snapshot was whole.
fn whole_already() -> SaveMethod {
    SaveMethod::Existing
}

fn into_a_file() -> Landing {
    Landing::File { loads: false }
}

impl Step {
    /// The step's name in the journal, in events and in task names.
    pub fn name(&self) -> &'static str {
        match self {
            Step::Fence { .. } => "fence",
            Step::Depose { deposition, .. } if deposition.stands() => "depose",
            Step::Depose { .. } => "settle",
            Step::SaveAside { .. } => "save-aside",
            Step::Promote { .. } => "promote",
            Step::HandOver { .. } => "hand-over",
            Step::Backlog { .. } => "backlog",
            Step::Spool { .. } => "spool",
            Step::Snapshot { .. } => "snapshot",
            Step::Transfer { .. } => "transfer",
            Step::Stop { .. } => "stop",
            Step::Install { .. } => "install",
            Step::Start { .. } => "load",
            Step::Boot { .. } => "boot",
            Step::Gate { .. } => "gate",
            Step::Attach { .. } => "attach",
            Step::AttachSiblings { .. } => "siblings",
            Step::EnableAof { .. } => "aof",
            Step::Persist { .. } => "persist",
            Step::Canary { .. } => "canary",
            Step::LeftBehind { .. } => "left-behind",
            Step::Release { .. } => "release",
        }
    }

    pub fn on_failure(&self) -> OnFailure {
        match self {
            Step::Attach { .. } => OnFailure::Halt,
            Step::EnableAof { guards: true, .. } => OnFailure::Undo,
            Step::Depose { deposition, .. } if !deposition.stands() => OnFailure::Degrade,
            Step::AttachSiblings { .. }
            | Step::EnableAof { .. }
            | Step::Persist { .. }
            | Step::Canary { .. }
            | Step::LeftBehind { .. } => OnFailure::Degrade,
            Step::Release { .. } => OnFailure::StayOpen,
            _ => OnFailure::Undo,
        }
    }

    /// Whether the step has something to take back. The fence has not, on purpose: a survivor that follows the lost
    /// primary again is one restart away from being emptied.
    pub fn has_undo(&self) -> bool {
        use Step::{Backlog, Boot, HandOver, Install, Snapshot, Spool, Start, Stop, Transfer};
        let moves = matches!(self, HandOver { .. } | Snapshot { .. } | Transfer { .. } | Install { .. });
        moves
            || self.deposes()
            || matches!(self, Backlog { .. } | Spool { .. } | Stop { .. } | Start { .. } | Boot { .. })
    }

    /// The servers that it changes, or whose agents it has keep something. Others are only looked at.
    pub fn acts_on(&self) -> Vec<&InstanceRef> {
        match self {
            Step::Fence { replicas } => replicas.iter().map(|replica| &replica.instance).collect(),
            Step::Depose { keepers, own, .. } => keepers.iter().chain(own).collect(),
            Step::HandOver { from, to, .. } => vec![from, &to.instance],
            Step::Transfer { source, target, .. } | Step::Release { source, target, .. } => vec![source, target],
            Step::AttachSiblings { replicas, .. } => replicas.iter().collect(),
            Step::Persist { instances } => instances.iter().collect(),
            Step::Canary { primary, replica } => vec![primary, replica],
            Step::SaveAside { deposed: on, .. }
            | Step::Promote { on }
            | Step::Backlog { source: on, .. }
            | Step::Spool { source: on }
            | Step::Snapshot { source: on, .. }
            | Step::Stop { target: on, .. }
            | Step::Install { target: on }
            | Step::Start { target: on, .. }
            | Step::Boot { target: on }
            | Step::Attach { replica: on, .. }
            | Step::EnableAof { target: on, .. } => vec![on],
            Step::Gate { .. } | Step::LeftBehind { .. } => Vec::new(),
        }
    }

    /// Whose agent undoes it, where that is one.
    pub fn undone_on(&self) -> Option<&InstanceRef> {
        use Step::{Backlog, Boot, HandOver, Install, Snapshot, Spool, Start, Stop, Transfer};
        match self {
            Spool { source: on } => Some(on),
            Snapshot { source: on, .. } | Backlog { source: on, .. } | HandOver { from: on, .. } => Some(on),
            Transfer { target: on, .. } | Stop { target: on, .. } | Install { target: on } => Some(on),
            Start { target: on, .. } | Boot { target: on } => Some(on),
            _ => None,
        }
    }

    /// Whether it deposes a primary. That is taken back by a run that is rolled back, and by no other.
    pub fn deposes(&self) -> bool {
        matches!(self, Step::Depose { deposition, .. } if deposition.standing == Standing::Deposed)
    }

    /// Whether the step only makes last what the steps before it did, or clears away: done also where a run is given up.
    pub fn is_closing(&self) -> bool {
        let tells = matches!(self, Step::LeftBehind { .. });
        tells || matches!(self, Step::Persist { .. } | Step::Release { .. } | Step::Depose { .. }) && !self.deposes()
    }

    /// Whether it may be done again at any later time, as often as one likes: it only makes last, looks and clears away.
    pub fn is_repeatable(&self) -> bool {
        self.is_closing() || matches!(self, Step::Canary { .. })
    }

    /// Whether it may be left in the middle by a coordinator that is to stop: its agents go on, and are joined again.
    pub fn can_be_left(&self) -> bool {
        use Step::{EnableAof, SaveAside, Snapshot, Start, Transfer};
        matches!(self, Snapshot { .. } | Transfer { .. } | Start { .. } | EnableAof { .. } | SaveAside { .. })
    }

    /// Whether, of many groups, it is done for all before anything else is done for any: it keeps data safe or brings service
    /// back, and takes next to nothing of disk, network and cores.
    pub fn is_urgent(&self) -> bool {
        matches!(self, Step::Fence { .. } | Step::Depose { .. } | Step::Promote { .. })
    }

    /// Whether the group is served by a new primary once the step is done; what follows cannot roll the run back.
    pub fn restores_service(&self) -> bool {
        matches!(self, Step::Promote { .. } | Step::HandOver { .. } | Step::Attach { .. })
    }
}
