//! The steps that a plan is made of. A step is check, act, confirm: the agents' actions do all three, so a step can be
//! repeated. What each step asks of whom is in [`crate::drive::hands`]; here is what it means.

use baton_proto::compared::Comparing;
use baton_proto::control::{Landing, SaveMethod};
use baton_proto::data::Budget;
use baton_proto::deposed::{Deposition, Standing};
use baton_proto::{HostPort, InstanceRef, Lineage};
use serde::{Deserialize, Serialize};

use crate::plan::left::{Unmoved, Unseen};
use crate::rate::Limit;
use crate::report::units::{Bytes, Seconds};

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

fn within(budget: &Budget) -> String {
    let rate = budget.max_rate.map(|rate| format!(", at most {}", Limit(Some(rate)))).unwrap_or_default();
    let cores = budget.cpu.map(|cores| format!(", packed by {cores} core{}", if cores == 1 { "" } else { "s" }));
    rate + &cores.unwrap_or_default()
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

    /// What the step will do, for the plan and for progress.
    pub fn title(&self) -> String {
        let list = |names: &[InstanceRef]| names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        match self {
            Step::Fence { replicas } => {
                let names: Vec<_> = replicas.iter().map(|replica| replica.instance.clone()).collect();
                format!("fence {} off the lost primary (REPLICAOF 127.0.0.1 1)", list(&names))
            }
            Step::Depose { deposition, .. } if deposition.stands() => {
                format!("note on every host that {} is deposed: it takes no writes when it returns", deposition.name())
            }
            Step::Depose { deposition, .. } => {
                format!("note on every host that {} is a replica now", deposition.name())
            }
            Step::SaveAside { deposed, primary, compare, .. } => {
                let compared = compare.as_ref().map(|comparing| {
                    let limit = Seconds(comparing.limit_seconds.into());
                    format!("; compare its keys with those of {primary}, for {limit} at most")
                });
                let compared = compared.unwrap_or_default();
                format!("fence {deposed}, and save aside what it holds (BGSAVE), to be kept{compared}")
            }
            Step::Promote { on } => format!("promote {on} (REPLICAOF NO ONE)"),
            Step::HandOver { from, to, timeout_ms, .. } => {
                let within = Seconds(f64::from(*timeout_ms) / 1000.0);
                format!("{from} hands over to {} (FAILOVER), given up after {within}", to.instance)
            }
            Step::Backlog { source, bytes, .. } => {
                format!("keep what is written on {source} meanwhile, up to {} (repl-backlog-size)", Bytes(*bytes))
            }
            Step::Spool { source } => {
                format!("spool what is written on {source} meanwhile: its agent follows it, and keeps that in a file")
            }
            Step::Snapshot { source, method: SaveMethod::Stream } => {
                format!("snapshot on {source}, streamed from memory: no file of it on that host")
            }
            Step::Snapshot { source, method } => format!("snapshot on {source} ({method}), pinned by a hard link"),
            Step::Transfer { source, target, method, budget, landing } => {
                let meanwhile = match method {
                    SaveMethod::Existing => "",
                    SaveMethod::Save | SaveMethod::Bgsave => " while it is written",
                    SaveMethod::Stream => " as it comes",
                };
                let lands = match landing {
                    Landing::File { .. } => String::new(),
                    Landing::Live { follow: None, .. } => ", loaded while it arrives".into(),
                    Landing::Live { follow: Some(to), .. } => format!(", loaded while it arrives, then follows {to}"),
                    Landing::Spooled { follow: to, .. } => {
                        format!(", loaded while it arrives, fed the spool, then follows {to}")
                    }
                };
                format!("transfer {source} -> {target}{meanwhile} (QUIC, zstd, BLAKE3){lands}{}", within(budget))
            }
            Step::Stop { target, save: true, .. } => format!("save and stop the server on {target}"),
            Step::Stop { target, save: false, .. } => format!("stop the empty server on {target}"),
            Step::Install { target } => format!("install the snapshot on {target}, old files kept aside"),
            Step::Start { target, follow: None } => format!("start {target} with appendonly off, and load"),
            Step::Start { target, follow: Some(to) } => {
                format!("start {target} with appendonly off as a replica of {}, and load", to.instance)
            }
            Step::Boot { target } => format!("start {target} empty"),
            Step::Gate { source, target } => format!("gate: {} must hold all that {source} holds", target.instance),
            Step::Attach { replica, to } => format!("{replica} follows {} ({})", to.instance, to.address),
            Step::AttachSiblings { replicas, to } => {
                let follow = if replicas.len() == 1 { "follows" } else { "follow" };
                format!("{} {follow} {}", list(replicas), to.instance)
            }
            Step::EnableAof { target, .. } => {
                format!("turn appendonly back on at {target}, as its configuration wants")
            }
            Step::Persist { instances } => format!("CONFIG REWRITE on {}, read back from disk", list(instances)),
            Step::Canary { primary, replica } => format!("canary: write on {primary}, see it on {replica}"),
            Step::LeftBehind { replicas, hosts, strangers, to, .. } => {
                let hosts = hosts.iter().map(|unseen| unseen.host.to_string());
                let names = replicas.iter().map(|unmoved| unmoved.instance.to_string()).chain(hosts);
                let names: Vec<_> = names.chain(strangers.iter().map(ToString::to_string)).collect();
                format!(
                    "see whether {} was left behind: whether a replica does not follow {}",
                    names.join(", "),
                    to.instance
                )
            }
            Step::Release { .. } => "release snapshots and partial files that are not needed any more".into(),
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
