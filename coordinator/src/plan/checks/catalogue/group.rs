//! Who leads, who follows, and who else gives roles.

use super::{CLONE, COPY, Entry, FAILOVER, REJOIN, SWITCHOVER};
use crate::plan::Level;

pub(super) const ENTRIES: &[Entry] = &[
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
];
