//! What steps say of themselves.

use baton_proto::InstanceRef;
use baton_proto::control::{Landing, SaveMethod};
use baton_proto::data::Budget;

use super::Step;
use crate::rate::Limit;
use crate::report::units::{Bytes, Seconds};

impl Step {
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
}

fn within(budget: &Budget) -> String {
    let rate = budget.max_rate.map(|rate| format!(", at most {}", Limit(Some(rate)))).unwrap_or_default();
    let cores = budget.cpu.map(|cores| format!(", packed by {cores} core{}", if cores == 1 { "" } else { "s" }));
    rate + &cores.unwrap_or_default()
}
