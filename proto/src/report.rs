//! What an agent observes: its host and the instances on it. Facts only, no judgement; the coordinator judges.

use std::collections::BTreeMap;

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use crate::claim::Claim;
use crate::condition::{HostCondition, ServerCondition};
use crate::deposed::Held;
use crate::lineage::Lineage;
use crate::name::{HostName, HostPort, InstanceName, RunId};
use crate::speeds::Speeds;
use crate::version::ServerVersion;

/// A host as its agent sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HostReport {
    pub host: HostName,
    /// Version of the agent.
    pub software: String,
    /// The host's clock, milliseconds since 1970.
    pub clock_unix_ms: u64,
    pub cores: u32,
    pub memory_bytes: u64,
    /// Memory that a new process could have, within the agent's control group, less the configured reserve.
    pub memory_available_bytes: u64,
    #[serde(default)]
    pub condition: HostCondition,
    pub instances: Vec<InstanceReport>,
    /// Primaries that were replaced, as far as this agent has heard.
    #[serde(default)]
    pub depositions: Vec<Held>,
    #[serde(default)]
    pub certificate: Option<CertificateFacts>,
    /// The agents that it asks at its start whether servers of this host were replaced. None: it does not ask.
    #[serde(default)]
    pub peers: Option<BTreeMap<HostName, HostPort>>,
}

/// What an agent shows, and whom it believes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// When its certificate ends.
    pub expires_unix: u64,
    /// Number of the list of revoked certificates that it goes by. 0: none.
    pub revocations: u64,
}

/// One server process, running or not.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InstanceReport {
    pub name: InstanceName,
    /// Where other hosts reach it.
    pub address: HostPort,
    pub service: ServiceFact,
    /// The version of the program that the service starts. Absent when it cannot be told; `binary_error` says why.
    pub binary: Option<ServerVersion>,
    pub binary_error: Option<String>,
    pub settings: Settings,
    pub files: Files,
    #[serde(deserialize_with = "server_state")]
    pub server: ServerState,
    #[serde(default)]
    pub condition: ServerCondition,
    /// Set while a run holds this instance off its former primary.
    pub fence: Option<Fence>,
    /// The run that may change this instance.
    #[serde(default)]
    pub claim: Option<Claim>,
    /// What was seen of snapshots that it wrote, received and loaded.
    #[serde(default)]
    pub speeds: Speeds,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceFact {
    /// `exec`, `command`, or `systemd UNIT`.
    pub kind: String,
    /// Whether the service can start the server with arguments of ours, such as `--appendonly no`.
    pub takes_arguments: bool,
}

/// Configuration that matters to a move: from the running server where it answers, else from its configuration file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub config_file: String,
    pub port: u16,
    pub bind: Vec<String>,
    pub protected_mode: bool,
    pub unix_socket: Option<String>,
    pub requires_password: bool,
    pub has_primary_password: bool,
    pub primary_user: Option<String>,
    /// Whether the server speaks TLS with its primary and its replicas.
    #[serde(default)]
    pub tls_replication: bool,
    /// Whether the running server lets the agent read its settings.
    #[serde(default)]
    pub configurable: bool,
    pub appendonly: bool,
    pub dir: String,
    pub dbfilename: String,
    /// 0: no limit.
    pub maxmemory_bytes: u64,
    pub maxmemory_policy: String,
    pub serve_stale_data: bool,
    /// Replicas that must be linked for a primary to take writes; as the running server tells. 0: none.
    #[serde(default)]
    pub min_replicas_to_write: u64,
    /// Paths of the modules that the configuration loads.
    pub load_modules: Vec<String>,
    /// The primary that the configuration file names, if any.
    pub replica_of: Option<HostPort>,
    /// Why the configuration file could not be read; the fields above are then the server's defaults.
    pub error: Option<String>,
}

/// The data directory.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The dump's size, if there is one.
    pub dump_bytes: Option<u64>,
    pub dump_modified_unix: Option<u64>,
    /// Whether an append-only file or directory stands there.
    pub has_aof: bool,
    /// Free space, less the configured reserve.
    pub free_bytes: u64,
    /// The number by which the host knows the file system: directories with the same share its space.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filesystem: Option<u64>,
    /// Why a file could not be written there, if it could not.
    pub write_error: Option<String>,
}

/// A newer agent may tell of a server what is not known here: see [`ServerState::Strange`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ServerState {
    Stopped,
    /// Its port is open or its process lives, but it does not answer.
    Silent {
        error: String,
    },
    /// It answers, and refuses this agent: wrong password or missing rights.
    Denied {
        user: String,
        error: String,
    },
    Running(Box<Running>),
    /// What its agent tells of it is not understood here. It is there, and nothing can be done with it.
    Strange {
        error: String,
    },
}

/// Reads the state of a server; one that is not understood does not spoil the report that it stands in.
fn server_state<'de, D: Deserializer<'de>>(from: D) -> Result<ServerState, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Heard {
        Known(ServerState),
        Strange(IgnoredAny),
    }
    Ok(match Heard::deserialize(from)? {
        Heard::Known(state) => state,
        Heard::Strange(IgnoredAny) => {
            ServerState::Strange { error: "its agent tells of it what is not known here; it may be newer".into() }
        }
    })
}

impl ServerState {
    pub fn running(&self) -> Option<&Running> {
        match self {
            ServerState::Running(running) => Some(running),
            _ => None,
        }
    }
}

/// A server that answers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Running {
    pub version: ServerVersion,
    pub pid: u32,
    pub uptime_seconds: u64,
    /// Client connections, this agent's own left out.
    pub clients: u64,
    pub role: Role,
    pub replication: Replication,
    pub keyspace: Keyspace,
    pub persistence: Persistence,
    pub memory: Memory,
    /// Names of loaded modules.
    pub modules: Vec<String>,
    /// Whether it is a node of a Redis Cluster, which moves roles by itself.
    #[serde(default)]
    pub cluster: bool,
    /// Sentinels that listen on it.
    #[serde(default)]
    pub sentinels: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "role", rename_all = "snake_case")]
pub enum Role {
    Primary { replicas: Vec<ReplicaLine> },
    Replica { primary: HostPort, link: Link, priority: u64 },
}

/// A replica as its primary sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaLine {
    pub address: HostPort,
    pub online: bool,
    pub offset: u64,
    pub lag_seconds: u64,
}

/// A replica's link to its primary, as the replica sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "link", rename_all = "snake_case")]
pub enum Link {
    Up { last_io_seconds: u64 },
    Syncing,
    Down { since_seconds: Option<u64> },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replication {
    /// Where the data stands: the id, and how far this server has read or written.
    pub lineage: Lineage,
    /// The id that the server remembers beside its own, and the last offset that this id covers: one less than
    /// `second_repl_offset`, which names the first byte that it does not. Thus it equals the lineage of the snapshot
    /// that a primary has loaded, and that of the primary whose place a promoted replica took. None: no such id.
    pub second: Option<Lineage>,
    pub backlog: Option<Backlog>,
    /// Configured size of the backlog.
    pub backlog_bytes: u64,
    pub counters: SyncCounters,
    /// What its clients have sent it since it started. Of a server without a backlog, whose offset stands still, it is the
    /// only measure of what is written.
    #[serde(default)]
    pub input_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backlog {
    pub first_offset: u64,
    pub held_bytes: u64,
}

/// How many resyncs a server has served since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SyncCounters {
    pub full: u64,
    pub partial_ok: u64,
    pub partial_err: u64,
}

/// Keys in each database.
pub type Keyspace = BTreeMap<u32, Keys>;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keys {
    pub keys: u64,
    /// Those among them that have a time to live. A replica counts them until its primary deletes them.
    pub expires: u64,
}

/// Sums the keys of all databases. No numbers, whoever tells them, make a server look empty that is not.
pub fn total_keys(keyspace: &Keyspace) -> u64 {
    keyspace.values().fold(0, |total, db| total.saturating_add(db.keys))
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Persistence {
    pub loading: bool,
    pub loaded_bytes: u64,
    pub loading_total_bytes: u64,
    pub saving: bool,
    pub aof_enabled: bool,
    pub aof_rewriting: bool,
    pub aof_rewrite_ok: bool,
    pub last_save_ok: bool,
    pub last_save_unix: u64,
    /// How long its last background save took; none where there was none.
    #[serde(default)]
    pub last_save_seconds: Option<u64>,
    pub changes_since_save: u64,
    /// Keys that the last load read, and those that it dropped as expired. Known from Redis 7.0 on.
    pub load_keys: Option<LoadedKeys>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedKeys {
    pub loaded: u64,
    pub expired: u64,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub used_bytes: u64,
    pub rss_bytes: u64,
    pub maxmemory_bytes: u64,
    /// Keys that expired in this server since it started.
    pub expired_keys: u64,
    pub evicted_keys: u64,
}

/// A note of the agent: which run took this instance off which primary.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fence {
    pub run: RunId,
    pub from: HostPort,
    pub since_unix: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_number_of_keys_passes_for_none() {
        let keys = |keys| Keys { keys, expires: 0 };
        assert_eq!(total_keys(&Keyspace::new()), 0);
        assert_eq!(total_keys(&Keyspace::from([(0, keys(3)), (7, keys(4))])), 7);
        assert_eq!(total_keys(&Keyspace::from([(0, keys(u64::MAX)), (1, keys(1))])), u64::MAX);
    }
}
