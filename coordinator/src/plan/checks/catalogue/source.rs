//! The server whose data is taken.

use super::{CLONE, COPY, Entry, FAILOVER};
use crate::plan::Level;

pub(super) const ENTRIES: &[Entry] = &[
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
        remedy: "Start it; or move its dump with `coord copy SOURCE TARGET`.",
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
];
