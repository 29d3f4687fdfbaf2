//! What surrounds a server and can spoil a move: the kernel's settings, limits, rights. Facts only, and no secrets: of
//! users their names, of settings their values, never a password or its hash.
//!
//! All of it is optional: an agent tells what it could find out, and an older one tells nothing.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The kernel that all servers of a host share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostCondition {
    /// `vm.overcommit_memory`: with 0 a fork is refused by guess, with 2 by account.
    pub overcommit_memory: Option<u8>,
    /// Whether transparent huge pages are used for all memory.
    pub huge_pages_always: bool,
    pub swap_bytes: u64,
    pub swap_free_bytes: u64,
}

/// One server: its process, what it tells of its settings, and what it lets its agent do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerCondition {
    /// Memory that its control group still has for it, if one sets a limit.
    pub memory_left_bytes: Option<u64>,
    /// What of the process has been swapped out.
    pub swapped_bytes: u64,
    /// How many databases it has.
    pub databases: Option<u32>,
    /// How much a replica may be behind before it is cut off.
    pub replica_buffer: Option<BufferLimit>,
    /// `repl-diskless-load`, where it is told.
    pub diskless_load: Option<String>,
    /// Orders that the agent needs and that the server would not take from its user, as tried.
    pub refused: Vec<RefusedOrder>,
    /// Names of users beside `default`.
    pub users: Option<BTreeSet<String>>,
    /// Why the server could not write its configuration file anew.
    pub config_locked: Option<String>,
    /// The comment by which the file tells that somebody else writes it.
    pub config_managed: Option<String>,
    /// Why the server's own user could not write into the data directory.
    pub dir_locked: Option<String>,
}

/// `client-output-buffer-limit replica`. 0: no limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BufferLimit {
    pub hard_bytes: u64,
    pub soft_bytes: u64,
    pub soft_seconds: u64,
}

impl BufferLimit {
    /// Reads the value of `client-output-buffer-limit`, as `CONFIG GET` tells it: four words a class of clients.
    pub fn parse(text: &str) -> Option<BufferLimit> {
        let words: Vec<&str> = text.split_whitespace().collect();
        words.chunks_exact(4).find_map(|class| match class {
            ["slave" | "replica", hard, soft, seconds] => Some(BufferLimit {
                hard_bytes: hard.parse().ok()?,
                soft_bytes: soft.parse().ok()?,
                soft_seconds: seconds.parse().ok()?,
            }),
            _ => None,
        })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefusedOrder {
    /// The command, by its own name.
    pub command: String,
    /// What the server said.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_replicas_limit_is_found_under_either_name() {
        let limit = BufferLimit { hard_bytes: 268_435_456, soft_bytes: 67_108_864, soft_seconds: 60 };
        for name in ["slave", "replica"] {
            let text = format!("normal 0 0 0 {name} 268435456 67108864 60 pubsub 33554432 8388608 60");
            assert_eq!(BufferLimit::parse(&text), Some(limit));
        }
        for strange in ["", "slave 1 2", "normal 0 0 0", "slave a b c"] {
            assert_eq!(BufferLimit::parse(strange), None, "{strange}");
        }
    }
}
