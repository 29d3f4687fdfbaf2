//! How a task stands, and what an action found or did: what later steps go by.

use serde::{Deserialize, Serialize};

use super::SaveMethod;
use crate::compared::Compared;
use crate::data::{Extent, Manifest, PackingFacts, SnapshotId};
use crate::digest::FileDigest;
use crate::fault::Fault;
use crate::lineage::Lineage;
use crate::name::HostPort;
use crate::rdb::RdbHead;
use crate::report::Keyspace;

/// How a task stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskState {
    /// Grows with every change.
    pub seq: u64,
    pub status: TaskStatus,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskStatus {
    Running(Progress),
    Done(Outcome),
    Failed(Fault),
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done, in a word or two.
    pub doing: String,
    pub bytes_done: u64,
    pub bytes_total: Option<u64>,
    /// Bytes that crossed the network, where they are not the bytes done; of a transfer, in all its attempts.
    pub bytes_wire: u64,
    /// Whether what is there suffices to go on with the next step: a snapshot that is being written can be offered.
    #[serde(default)]
    pub ready: bool,
}

/// What an action found or did. Later steps use only this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// `from` is the primary that the instance followed, also when it had been fenced before.
    Fenced {
        from: HostPort,
        lineage: Lineage,
    },
    Deposed,
    SavedAside(AsideFacts),
    Promoted {
        lineage: Lineage,
    },
    Following {
        link_seconds: f64,
    },
    HandedOver(HandoverFacts),
    KeptPrimary {
        lineage: Lineage,
    },
    /// `created`: there was none. `bytes` is its size now.
    Backlog {
        created: bool,
        bytes: u64,
    },
    /// Everything behind this point is kept.
    Spooling {
        since: Lineage,
    },
    GivenBack,
    Snapshot(SnapshotFacts),
    Offered {
        manifest: Manifest,
        extent: Extent,
    },
    Pulled(TransferFacts),
    /// Pulled, and loaded by the server meanwhile.
    Landed {
        transfer: TransferFacts,
        feed: Box<FeedFacts>,
    },
    Stopped {
        was_running: bool,
    },
    /// Names of the files that were moved aside.
    Installed {
        kept: Vec<String>,
    },
    Started {
        boot_seconds: f64,
        load_seconds: f64,
    },
    AofEnabled {
        rewrite_seconds: f64,
    },
    /// What the file says after the rewrite.
    Persisted {
        file: String,
        replica_of: Option<HostPort>,
        appendonly: bool,
    },
    CanaryWritten,
    CanarySeen,
    CanaryDropped,
    /// `set_aside` names what a server wrote in the meantime.
    Restored {
        put_back: Vec<String>,
        set_aside: Vec<String>,
    },
    Released {
        kept: Vec<String>,
    },
}

/// What a deposed primary held, and where it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AsideFacts {
    /// The file on its host.
    pub file: String,
    pub bytes: u64,
    /// Bytes of writes that its successor has not. None: it cannot tell any more, and may hold any.
    pub past_fork_bytes: Option<u64>,
    pub keyspace: Keyspace,
    /// Where it stands, fenced.
    pub lineage: Lineage,
    /// If it was asked for.
    #[serde(default)]
    pub compared: Option<Compared>,
}

/// A primary that has handed over, and follows its successor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HandoverFacts {
    /// Where it stands now, under its successor's id.
    pub lineage: Lineage,
    /// Whether it followed its successor already when the order came.
    pub found: bool,
    /// From before the server was told until the successor's first write came back: writes were blocked for no longer.
    /// None: it was not seen from its beginning, or no write came back.
    pub blocked_seconds: Option<f64>,
}

/// A snapshot: pinned, or streamed and taken by the target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SnapshotFacts {
    pub id: SnapshotId,
    pub bytes: u64,
    pub head: RdbHead,
    /// Keys of the server when the snapshot was taken. Only exact while the server stood still.
    pub keyspace: Keyspace,
    /// Where the server stood right after the snapshot.
    pub lineage: Lineage,
    pub method: SaveMethod,
    pub seconds: f64,
}

/// A finished transfer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TransferFacts {
    pub bytes_raw: u64,
    pub bytes_wire: u64,
    pub digest: FileDigest,
    pub seconds: f64,
    /// For how long of it the source had no more to send yet.
    #[serde(default)]
    pub waited_seconds: f64,
    /// Chunks that an earlier attempt had already brought.
    pub chunks_resumed: u32,
    pub reconnects: u32,
    pub packing: PackingFacts,
}

/// A snapshot that a server loaded while it arrived.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeedFacts {
    /// From the first byte that the server was fed until it said that it had loaded.
    pub seconds: f64,
    /// The part of it after the last byte had arrived.
    pub behind_seconds: f64,
    /// Where the server stood when it had loaded: at the snapshot's lineage.
    pub lineage: Lineage,
    /// Whether the server loaded while the bytes arrived; older ones write a file first.
    pub overlapped: bool,
    /// By what the server would come up with the data if it were killed now.
    pub durable: Durability,
    /// Names of the files that were moved aside for the dump.
    pub kept: Vec<String>,
    /// What it was fed behind the snapshot, where its source had that spooled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spooled: Option<SpooledFacts>,
}

/// What a server was fed of a spool.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpooledFacts {
    pub bytes: u64,
    pub bytes_wire: u64,
    /// From the end of the load until next to nothing was missing.
    pub seconds: f64,
}

/// What a server reads its data from when it starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Durability {
    /// The snapshot stands in the place of its dump.
    Dump,
    /// It has written its append-only file anew. The snapshot stands in the place of the dump as well.
    AppendOnly,
}
