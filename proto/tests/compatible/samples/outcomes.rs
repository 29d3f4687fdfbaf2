//! What comes of tasks.

use baton_proto::compared::{Compared, Comparison, Differences, Example, Examples};
use baton_proto::control::{
    AsideFacts, Durability, FeedFacts, HandoverFacts, Outcome, Progress, SaveMethod, SnapshotFacts, SpooledFacts,
    TaskStatus, TransferFacts,
};
use baton_proto::data::{PackingFacts, SnapshotId};
use baton_proto::digest::FileDigest;
use baton_proto::rdb::RdbHead;

use super::requests::{extent, manifest};
use super::*;

every!(statuses: TaskStatus {
    Running = TaskStatus::Running(Progress {
        doing: "saving".into(),
        bytes_done: 5,
        bytes_total: Some(9),
        bytes_wire: 3,
        ready: true,
    }),
    Done = TaskStatus::Done(Outcome::CanarySeen),
    Failed = TaskStatus::Failed(fault()),
});

pub(crate) fn packing() -> PackingFacts {
    PackingFacts {
        mean_level: Some(3.5),
        stored: 1,
        plain: 2,
        chunks: 9,
        limited: true,
        why: "the wire is slow".into(),
    }
}

fn transfer() -> TransferFacts {
    TransferFacts {
        bytes_raw: 1 << 33,
        bytes_wire: 1 << 32,
        digest: FileDigest([9; 32]),
        seconds: 12.5,
        waited_seconds: 1.25,
        chunks_resumed: 3,
        reconnects: 1,
        packing: packing(),
    }
}

pub(crate) fn landed() -> Outcome {
    let feed = FeedFacts {
        seconds: 13.0,
        behind_seconds: 0.5,
        lineage: lineage(),
        overlapped: true,
        durable: Durability::AppendOnly,
        kept: vec!["dump.rdb.before-fo-7k2m".into()],
        spooled: Some(SpooledFacts { bytes: 100, bytes_wire: 50, seconds: 1.5 }),
    };
    Outcome::Landed { transfer: transfer(), feed: Box::new(feed) }
}

fn differences() -> Differences {
    Differences { seen: 10, seen_successor: 9, only_deposed: 2, only_successor: 1, differing: 3, by_form: 1, unread: 1 }
}

fn comparison() -> Comparison {
    let example = |key: &str| Example { db: 3, key: key.into(), types: Some(["hash".into(), "list".into()]) };
    Comparison {
        with: at("10.0.0.3:6379"),
        seconds: 2.5,
        stopped: Some("its time was up".into()),
        all: differences(),
        databases: BTreeMap::from([(3, differences())]),
        examples: Examples {
            only_deposed: vec![example("a")],
            only_successor: vec![example("b")],
            differing: vec![example("c")],
        },
    }
}

every!(comparisons: Compared {
    Made = Compared::Made(Box::new(comparison())),
    NotMade = Compared::NotMade { why: "it is stopped".into() },
});

every!(durabilities: Durability {
    Dump = Durability::Dump,
    AppendOnly = Durability::AppendOnly,
});

every!(outcomes: Outcome {
    Fenced = Outcome::Fenced { from: at("10.0.0.1:6379"), lineage: lineage() },
    Deposed = Outcome::Deposed,
    SavedAside = Outcome::SavedAside(AsideFacts {
        file: "/data/baton-re-1.diverged.rdb".into(),
        bytes: 9,
        past_fork_bytes: Some(120),
        keyspace: super::reports::keyspace(),
        lineage: lineage(),
        compared: Some(Compared::Made(Box::new(comparison()))),
    }),
    Promoted = Outcome::Promoted { lineage: lineage() },
    Following = Outcome::Following { link_seconds: 0.25 },
    HandedOver = Outcome::HandedOver(HandoverFacts { lineage: lineage(), found: true, blocked_seconds: Some(0.04) }),
    KeptPrimary = Outcome::KeptPrimary { lineage: lineage() },
    Backlog = Outcome::Backlog { created: true, bytes: 1 << 28 },
    Spooling = Outcome::Spooling { since: lineage() },
    GivenBack = Outcome::GivenBack,
    Snapshot = Outcome::Snapshot(SnapshotFacts {
        id: SnapshotId("fo-7k2m".into()),
        bytes: 1 << 33,
        head: RdbHead {
            format: format(),
            written_by: Some("7.0.15".into()),
            lineage: Some(lineage()),
            created_unix: Some(1_764_000_000),
            used_memory_bytes: Some(1 << 34),
        },
        keyspace: super::reports::keyspace(),
        lineage: lineage(),
        method: SaveMethod::Save,
        seconds: 8.5,
    }),
    Offered = Outcome::Offered { manifest: manifest(), extent: extent() },
    Pulled = Outcome::Pulled(transfer()),
    Landed = landed(),
    Stopped = Outcome::Stopped { was_running: true },
    Installed = Outcome::Installed { kept: vec!["dump.rdb.before-fo-7k2m".into()] },
    Started = Outcome::Started { boot_seconds: 0.5, load_seconds: 7.25 },
    AofEnabled = Outcome::AofEnabled { rewrite_seconds: 4.0 },
    Persisted = Outcome::Persisted {
        file: "/etc/redis/redis.conf".into(),
        replica_of: Some(at("10.0.0.3:6379")),
        appendonly: true,
    },
    CanaryWritten = Outcome::CanaryWritten,
    CanarySeen = Outcome::CanarySeen,
    CanaryDropped = Outcome::CanaryDropped,
    Restored = Outcome::Restored { put_back: vec!["dump.rdb".into()], set_aside: vec!["written.rdb".into()] },
    Released = Outcome::Released { kept: vec!["dump.rdb.before-fo-7k2m".into()] },
});
