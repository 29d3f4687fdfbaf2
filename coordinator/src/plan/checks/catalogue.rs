//! The catalogue of all checks: what each asks, what helps, how bad it can be, and for which verbs it is made. `coord
//! checks` prints it, and `docs/checks.md` is made of it.

use std::io::{self, Write};

use serde::Serialize;

use crate::plan::Level;

/// One check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Entry {
    pub id: &'static str,
    /// What it asks, in a sentence.
    pub asks: &'static str,
    pub remedy: &'static str,
    /// The worst that it says.
    pub worst: Level,
    /// The verbs that make it.
    pub verbs: &'static [&'static str],
}

const FAILOVER: &str = "failover";
const SWITCHOVER: &str = "switchover";
const CLONE: &str = "clone";
const COPY: &str = "copy";
const REJOIN: &str = "rejoin";

/// All checks, by what they are about.
pub const CATALOGUE: &[Entry] = &[
    Entry {
        id: "held",
        asks: "Has another run one of the servers?",
        remedy: "Watch it with `coord show RUN -f`; if its coordinator is gone, `coord resume RUN` or `coord abort RUN`.",
        worst: Level::Danger,
        verbs: &[FAILOVER, SWITCHOVER, CLONE, COPY, REJOIN],
    },
    Entry {
        id: "primary-dead",
        asks: "Is the primary dead: seen by nobody, its agent and its port tried from every host of the group, and no replica linked?",
        remedy: "Stop the primary's server if it has to go; where others see it, run `coord` there.",
        worst: Level::Danger,
        verbs: &[FAILOVER],
    },
    Entry {
        id: "primary-hung",
        asks: "Does the primary accept connections and answer nothing, as a frozen process does?",
        remedy: "End its process or switch its host off; or say `--hung-is-dead`.",
        worst: Level::Danger,
        verbs: &[FAILOVER],
    },
    Entry {
        id: "primary-expected",
        asks: "Is the primary the one that `--expect-primary` names?",
        remedy: "Look at `coord status -v` again: the group has changed.",
        worst: Level::Danger,
        verbs: &[FAILOVER, SWITCHOVER],
    },
    Entry {
        id: "lineage-expected",
        asks: "Does the group's data stand where `--expect-lineage` says?",
        remedy: "Look at `coord status -v` again, and at `coord runs`: another run may be at work.",
        worst: Level::Danger,
        verbs: &[FAILOVER, SWITCHOVER],
    },
    Entry {
        id: "primary-serves",
        asks: "Does the primary run and lead, alone?",
        remedy: "Replace a lost one with `coord failover`; decide between two before anything else.",
        worst: Level::Danger,
        verbs: &[SWITCHOVER],
    },
    Entry {
        id: "primary-hand-over",
        asks: "Can the primary hand over, and does it know the replica under an address?",
        remedy: "Upgrade it to Redis 6.2 or later; set `replica-announce-ip` at the replica.",
        worst: Level::Refuse,
        verbs: &[SWITCHOVER],
    },
    Entry {
        id: "primary-writes",
        asks: "Will `min-replicas-to-write` let the new primary take writes?",
        remedy: "Lower `min-replicas-to-write` there.",
        worst: Level::Refuse,
        verbs: &[FAILOVER],
    },
    Entry {
        id: "primary-followed",
        asks: "Will a survivor that takes over in place have a replica?",
        remedy: "Give it one afterwards: `coord clone`.",
        worst: Level::Warn,
        verbs: &[FAILOVER],
    },
    Entry {
        id: "group-cluster",
        asks: "Is none of the servers a node of a Redis Cluster?",
        remedy: "Let the cluster do it: `CLUSTER FAILOVER`, `CLUSTER REPLICATE`.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, SWITCHOVER, CLONE],
    },
    Entry {
        id: "group-sentinel",
        asks: "Does no Sentinel watch the group? (A failover only warns: Sentinel may have given up.)",
        remedy: "`SENTINEL REMOVE` the group first and `MONITOR` the new primary after; for a switchover use `SENTINEL FAILOVER`.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, SWITCHOVER],
    },
    Entry {
        id: "siblings",
        asks: "Can every other replica be moved along? Does every host answer that may have one?",
        remedy: "Get the agents that are named to answer first, or move what was left behind afterwards: `coord rejoin HOST`.",
        worst: Level::Warn,
        verbs: &[FAILOVER, SWITCHOVER],
    },
    Entry {
        id: "source-freshest",
        asks: "Does the source hold the most of all survivors?",
        remedy: "Leave `--source` out, or name the freshest.",
        worst: Level::Danger,
        verbs: &[FAILOVER],
    },
    Entry {
        id: "source-others",
        asks: "Why is each other survivor not the source?",
        remedy: "Nothing needs to be done.",
        worst: Level::Ok,
        verbs: &[FAILOVER],
    },
    Entry {
        id: "source-empty",
        asks: "Does the source hold any key?",
        remedy: "If the primary held any, do not go on: look for its dump and its append-only file first.",
        worst: Level::Warn,
        verbs: &[FAILOVER, COPY],
    },
    Entry {
        id: "source-history",
        asks: "Does a source that stays a replica know where its data stands, so that its snapshot tells?",
        remedy: "Use `--mode promote`, by which it begins a new history; or name another with `--source`.",
        worst: Level::Refuse,
        verbs: &[FAILOVER],
    },
    Entry {
        id: "source-age",
        asks: "Did the source lose its primary less long ago than `--max-data-age`?",
        remedy: "Raise `--max-data-age` if older data will do.",
        worst: Level::Danger,
        verbs: &[FAILOVER],
    },
    Entry {
        id: "source-serves",
        asks: "Can the source be followed: is it a primary, or linked to one?",
        remedy: "Start it; or move its dump with `coord copy`.",
        worst: Level::Refuse,
        verbs: &[CLONE],
    },
    Entry {
        id: "source-idle",
        asks: "Is the source neither loading nor saving?",
        remedy: "Wait until it has ended, or take the dump as it is with `--snapshot existing`.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "source-save",
        asks: "Can the source write its snapshot, or stream it? The agent has tried to write into the data directory.",
        remedy: "Mend owner and rights of the directory, or use `--snapshot stream`.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "source-snapshot",
        asks: "Is a snapshot taken that what is written meanwhile can follow?",
        remedy: "Leave `--snapshot existing` out.",
        worst: Level::Refuse,
        verbs: &[CLONE],
    },
    Entry {
        id: "source-disk",
        asks: "Does the temporary file of the save fit beside the old dump? (A pin takes no room: it is a link to the new one.)",
        remedy: "Make room, lower `disk_reserve`, or use `--snapshot stream`.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "source-memory",
        asks: "Is there memory for the fork that saves?",
        remedy: "`--snapshot save` needs no fork, if the source serves nobody.",
        worst: Level::Warn,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "source-fork",
        asks: "Will the kernel and the control group grant that fork (`vm.overcommit_memory`, memory limit, resident size)?",
        remedy: "`sysctl vm.overcommit_memory=1`, raise the limit, or `--snapshot save`.",
        worst: Level::Warn,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "source-huge-pages",
        asks: "Are transparent huge pages off where a large data set is forked?",
        remedy: "`echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`",
        worst: Level::Warn,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "source-swap",
        asks: "Is the source's data in memory, not swapped out?",
        remedy: "Expect a slow save; give the host more memory.",
        worst: Level::Warn,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "source-last-save",
        asks: "Did the source's last background save go well?",
        remedy: "See its log; if its disk is at fault, use `--snapshot stream`.",
        worst: Level::Warn,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "source-backlog",
        asks: "Can the source's backlog hold what is written until the new replica asks for it?",
        remedy: "Raise `repl-backlog-size`, `--max-rate`, or run it when less is written.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, CLONE],
    },
    Entry {
        id: "target-free",
        asks: "Is the target unused and empty?",
        remedy: "Choose another, or say `--replace-target-data`.",
        worst: Level::Danger,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "target-followed",
        asks: "Does nobody follow the target's address, now or after a restart?",
        remedy: "Promote that replica or let it follow another.",
        worst: Level::Danger,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "target-role",
        asks: "Does the target's configuration not make it a replica?",
        remedy: "Remove `replicaof` from its configuration.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, COPY],
    },
    Entry {
        id: "target-landing",
        asks: "Can the snapshot land as it was asked for?",
        remedy: "Leave `--landing` out.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "expected-time",
        asks: "How long will it take until the target has loaded, and on what does that rest: on past runs, or on a guess?",
        remedy: "Nothing needs to be done.",
        worst: Level::Ok,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "target-start",
        asks: "Can the target's service start it with `--appendonly no`?",
        remedy: "Put the word `{args}` into `service.command.start` of its agent.toml.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "target-aof",
        asks: "With the append-only file on, is the target started so that it reads the dump all the same?",
        remedy: "Use `--start`, or start it by hand with `--appendonly no`.",
        worst: Level::Warn,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "target-version",
        asks: "Does the target's version read the snapshot's format?",
        remedy: "Install a version that is as new as the source's.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "target-modules",
        asks: "Does the target load every module of the source?",
        remedy: "Install them and add `loadmodule`.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "target-databases",
        asks: "Has the target as many databases as the source uses?",
        remedy: "Raise `databases` in its configuration.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "target-users",
        asks: "Has the target every user that the source has?",
        remedy: "Create them there (`ACL SETUSER`, `ACL SAVE`).",
        worst: Level::Warn,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "target-memory",
        asks: "Does the data set fit into the target's memory, within its control group?",
        remedy: "Choose a larger host, or lower `memory_reserve`.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "target-maxmemory",
        asks: "Does the data set fit under the target's `maxmemory`?",
        remedy: "Raise `maxmemory`.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "target-eviction",
        asks: "Is there room under `maxmemory` before keys are evicted?",
        remedy: "Raise `maxmemory`.",
        worst: Level::Warn,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "target-disk",
        asks: "Do the snapshot and a first append-only file fit beside what is there, which is kept?",
        remedy: "Make room, or lower `disk_reserve`.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "target-dir",
        asks: "Can the target's agent write into the data directory? It has tried.",
        remedy: "Mend owner and rights of the directory.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "target-port",
        asks: "Can the target listen where it would? Its agent has tried in its place.",
        remedy: "Free the port.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, SWITCHOVER, CLONE],
    },
    Entry {
        id: "replica-link",
        asks: "Is the replica linked, of the same history, and not far behind?",
        remedy: "Wait until it has caught up.",
        worst: Level::Danger,
        verbs: &[SWITCHOVER],
    },
    Entry {
        id: "replica-maxmemory",
        asks: "Is the replica's `maxmemory` no smaller than the data and the primary's?",
        remedy: "Raise `maxmemory`.",
        worst: Level::Danger,
        verbs: &[SWITCHOVER],
    },
    Entry {
        id: "replica-writes",
        asks: "Will `min-replicas-to-write` let the replica take writes?",
        remedy: "Lower `min-replicas-to-write` there.",
        worst: Level::Refuse,
        verbs: &[SWITCHOVER],
    },
    Entry {
        id: "replica-priority",
        asks: "Is the replica meant to become a primary (`replica-priority` is not 0)?",
        remedy: "See `replica-priority` in its configuration.",
        worst: Level::Warn,
        verbs: &[FAILOVER, SWITCHOVER],
    },
    Entry {
        id: "replica-aof",
        asks: "Has the replica an append-only file if the primary has one?",
        remedy: "Set `appendonly yes` there.",
        worst: Level::Warn,
        verbs: &[SWITCHOVER],
    },
    Entry {
        id: "path-agents",
        asks: "Does the target's agent reach the source's over QUIC? It has dialled.",
        remedy: "Open UDP to the agent's port in firewalls.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, COPY, CLONE],
    },
    Entry {
        id: "path-open",
        asks: "Does each replica reach its primary to be, through `bind`, firewalls and protected mode? Its agent has logged in, by TLS where the replica speaks it.",
        remedy: "See `bind`, `protected-mode`, firewalls, `masterauth` and the `tls-` settings.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, SWITCHOVER, CLONE, REJOIN],
    },
    Entry {
        id: "path-protected",
        asks: "Will protected mode of a stopped primary to be let others in?",
        remedy: "Set `requirepass`, or `protected-mode no`.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, SWITCHOVER, CLONE, REJOIN],
    },
    Entry {
        id: "path-password",
        asks: "Do `requirepass` and `masterauth` fit, on both sides?",
        remedy: "Set the one that is missing.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, SWITCHOVER, CLONE, REJOIN],
    },
    Entry {
        id: "path-format",
        asks: "Can each replica read what a full resync would bring?",
        remedy: "Upgrade the server of the replica.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, SWITCHOVER, CLONE, REJOIN],
    },
    Entry {
        id: "path-buffer",
        asks: "Does `client-output-buffer-limit replica` bear a full resync that is foretold?",
        remedy: "Raise it for the while.",
        worst: Level::Warn,
        verbs: &[FAILOVER, CLONE],
    },
    Entry {
        id: "path-diskless-load",
        asks: "Does a replica that takes everything anew keep its data until it has the new?",
        remedy: "Set `repl-diskless-load disabled` there.",
        worst: Level::Warn,
        verbs: &[FAILOVER, CLONE],
    },
    Entry {
        id: "path-clock",
        asks: "Do the clocks agree, by which keys expire? (Apart by seconds it warns; by a minute it refuses, if any key expires.)",
        remedy: "Set the clocks.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, SWITCHOVER, CLONE, REJOIN],
    },
    Entry {
        id: "orders",
        asks: "Do the servers take the agent's orders: none renamed away, none forbidden to its user? Tried with `ACL DRYRUN` where there is one.",
        remedy: "Allow them with `ACL SETUSER`, or name another user in agent.toml.",
        worst: Level::Refuse,
        verbs: &[FAILOVER, SWITCHOVER, CLONE],
    },
    Entry {
        id: "config-locked",
        asks: "Can the servers write their configuration files anew?",
        remedy: "Let them write the file and its directory, or make the change that is printed by hand.",
        worst: Level::Warn,
        verbs: &[FAILOVER, SWITCHOVER, CLONE, REJOIN],
    },
    Entry {
        id: "config-managed",
        asks: "Is the configuration file written by nobody else, such as Ansible or Puppet?",
        remedy: "Make the change that is printed at its source.",
        worst: Level::Warn,
        verbs: &[FAILOVER, SWITCHOVER, CLONE, REJOIN],
    },
    Entry {
        id: "data-dir",
        asks: "Can the server's own user write into its data directory?",
        remedy: "Mend owner and rights of the directory.",
        worst: Level::Warn,
        verbs: &[FAILOVER, SWITCHOVER, CLONE, REJOIN],
    },
    Entry {
        id: "deposed",
        asks: "Was the server that joins again deposed by a run, and does its successor lead? Is a source or target none that was?",
        remedy: "Join it to its successor first: `coord rejoin HOST`.",
        worst: Level::Danger,
        verbs: &[FAILOVER, COPY, CLONE, REJOIN],
    },
    Entry {
        id: "aside-room",
        asks: "Does the disk hold what a deposed primary has, saved aside?",
        remedy: "Make room in its data directory.",
        worst: Level::Refuse,
        verbs: &[REJOIN],
    },
    Entry {
        id: "batch-alive",
        asks: "Of a host with several groups: is each primary lost?",
        remedy: "Hand the role of one that lives over with `coord switchover`; the others go on with `--skip-refused`.",
        worst: Level::Danger,
        verbs: &[FAILOVER],
    },
    Entry {
        id: "batch-target",
        asks: "Has the target host a free server for each group, that reads what the group's servers write?",
        remedy: "Add servers to its agent.toml, name another host for those that have none, or say `--skip-refused`.",
        worst: Level::Refuse,
        verbs: &[FAILOVER],
    },
    Entry {
        id: "batch-source",
        asks: "Has each group a survivor that can be the source?",
        remedy: "See `coord status -v`; the other groups go on with `--skip-refused`.",
        worst: Level::Refuse,
        verbs: &[FAILOVER],
    },
    Entry {
        id: "batch-memory",
        asks: "Do the data sets of all groups together fit into the target host's memory?",
        remedy: "Move fewer groups to one host.",
        worst: Level::Refuse,
        verbs: &[FAILOVER],
    },
    Entry {
        id: "batch-disk",
        asks: "Do the snapshots of all groups together fit onto the target's disks? (It only warns where an old agent does not tell which directories share one.)",
        remedy: "Make room, or move fewer groups to one host.",
        worst: Level::Refuse,
        verbs: &[FAILOVER],
    },
    Entry {
        id: "batch-source-disk",
        asks: "Do the snapshots that are written at a time fit onto the sources' disks?",
        remedy: "Make room, lower `--jobs`, or use `--snapshot stream`.",
        worst: Level::Refuse,
        verbs: &[FAILOVER],
    },
];

/// The check of that id.
pub fn entry(id: &str) -> Option<&'static Entry> {
    CATALOGUE.iter().find(|entry| entry.id == id)
}

fn severity(level: Level) -> &'static str {
    match level {
        Level::Ok => "tells",
        Level::Warn => "warns",
        Level::Refuse => "refuses",
        Level::Danger => "refuses: data could be lost",
    }
}

/// Writes the catalogue for a terminal.
pub fn text(out: &mut dyn Write) -> io::Result<()> {
    CATALOGUE.iter().try_for_each(|entry| {
        writeln!(out, "{}  ({}; {})", entry.id, severity(entry.worst), entry.verbs.join(", "))?;
        writeln!(out, "    {}\n    -> {}", entry.asks, entry.remedy)
    })
}

/// Writes the catalogue as `docs/checks.md`.
pub fn markdown(out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "# What is checked before anything is changed\n")?;
    writeln!(out, "Made by `coord checks --markdown > docs/checks.md`; a test compares it with the code.\n")?;
    writeln!(
        out,
        "Every check is made, so that all refusals are seen at once. `--dry-run` prints them and stops. A check"
    )?;
    writeln!(
        out,
        "that warns lets the run go on; one that refuses ends it with exit code 3, or 4 where data could be lost.\n"
    )?;
    writeln!(out, "| id | what it asks | at worst it | verbs | what helps |\n|---|---|---|---|---|")?;
    CATALOGUE.iter().try_for_each(|entry| {
        let (worst, verbs) = (severity(entry.worst), entry.verbs.join(", "));
        writeln!(out, "| `{}` | {} | {worst} | {verbs} | {} |", entry.id, entry.asks, entry.remedy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The sources of all checks.
    const SOURCES: [&str; 10] = [
        include_str!("batch.rs"),
        include_str!("condition.rs"),
        include_str!("handover.rs"),
        include_str!("held.rs"),
        include_str!("live_source.rs"),
        include_str!("path.rs"),
        include_str!("primary.rs"),
        include_str!("rejoin.rs"),
        include_str!("source.rs"),
        include_str!("target.rs"),
    ];

    #[test]
    fn every_entry_is_made_somewhere_and_none_is_there_twice() {
        for (at, entry) in CATALOGUE.iter().enumerate() {
            let quoted = format!("\"{}\"", entry.id);
            assert!(SOURCES.iter().any(|source| source.contains(&quoted)), "no check says {quoted}");
            assert!(CATALOGUE[..at].iter().all(|other| other.id != entry.id), "{quoted} is there twice");
            assert!(!entry.verbs.is_empty() && entry.asks.ends_with(['?', ')', '.']), "{quoted}");
            assert!(!entry.remedy.contains('|') && !entry.asks.contains('|'), "{quoted} breaks the table");
        }
    }

    #[test]
    fn the_documentation_is_the_catalogue() {
        let mut now = Vec::new();
        markdown(&mut now).unwrap();
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/checks.md");
        let stands = std::fs::read_to_string(file).unwrap_or_default();
        assert_eq!(stands, String::from_utf8(now).unwrap(), "write it anew: coord checks --markdown > docs/checks.md");
    }
}
