//! What is asked, and what is answered.

use baton_proto::control::{Answer, Order, Reach, ReachVerdict, Reply, Request, TaskId, TaskState, TaskStatus};
use baton_proto::data::{Extent, Manifest, SnapshotId};
use baton_proto::deposed::Notice;
use baton_proto::digest::FileDigest;
use baton_proto::report::CertificateFacts;

use super::*;

fn task() -> TaskId {
    TaskId { run: run(), name: "snapshot".into() }
}

every!(requests: Request {
    Observe = Request::Observe,
    Reach = Request::Reach { instance: instance(), to: at("10.0.0.1:6379") },
    Knock = Request::Knock { host: host("machine-a"), address: at("10.0.0.1:7400") },
    Rehearse = Request::Rehearse { instance: instance(), seconds: 20 },
    Claim = Request::Claim { instance: instance(), run: run(), turn: turn() },
    Unclaim = Request::Unclaim { run: run(), turn: turn() },
    Record = Request::Record { run: run(), turn: turn(), at: 7, text: "{}\n".into(), last: true },
    Recall = Request::Recall { run: run(), at: 7 },
    Runs = Request::Runs,
    SigningRequest = Request::SigningRequest,
    Renew = Request::Renew { chain: "-----BEGIN CERTIFICATE-----".into() },
    Revoke = Request::Revoke { list: vec![0x30, 0x82] },
    Begin = Request::Begin(Order { task: task(), turn: turn(), instance: instance(), action: super::orders::pull() }),
    RecordAndBegin = Request::RecordAndBegin {
        at: 7,
        text: "{}\n".into(),
        order: Order { task: task(), turn: turn(), instance: instance(), action: super::orders::pull() },
    },
    Watch = Request::Watch { task: task(), seen: 9, turn: Some(turn()) },
    Limit = Request::Limit { run: run(), max_rate: Some(1_000_000) },
    Open = Request::Open { ticket: ticket(), session: 5 },
    Extent = Request::Extent { ticket: ticket(), seen: 4096, held: 3 },
    Chunk = Request::Chunk { ticket: ticket(), index: 4, held: 3 },
    Seal = Request::Seal { ticket: ticket() },
    Spooled = Request::Spooled { ticket: ticket(), at: 77 },
    Tell = Request::Tell { deposition: Box::new(deposition()), age_seconds: 60 },
    Replaced = Request::Replaced,
    Peers = Request::Peers { peers: peers() },
});

pub(crate) fn manifest() -> Manifest {
    Manifest { snapshot: SnapshotId("fo-7k2m".into()), format: format(), window: Some(16) }
}

pub(crate) fn extent() -> Extent {
    Extent { bytes: 1 << 33, whole: true }
}

pub(crate) fn reach() -> Reach {
    Reach { verdict: ReachVerdict::Busy, detail: "LOADING".into(), hung: true, tls: true }
}

every!(replies: Reply {
    Observed = Reply::Observed(Box::new(super::reports::report())),
    Reached = Reply::Reached(reach()),
    Knocked = Reply::Knocked { shut: Some(fault()) },
    Rehearsing = Reply::Rehearsing,
    Claimed = Reply::Claimed,
    Recorded = Reply::Recorded { bytes: 77 },
    Recalled = Reply::Recalled { text: "{}\n".into(), bytes: 3 },
    Runs = Reply::Runs(vec![run()]),
    SigningRequest = Reply::SigningRequest { pem: "-----BEGIN CERTIFICATE REQUEST-----".into() },
    Renewed = Reply::Renewed(CertificateFacts { expires_unix: 1_800_000_000, revocations: 2 }),
    Task = Reply::Task(TaskState { seq: 4, status: TaskStatus::Done(super::outcomes::landed()) }),
    Limited = Reply::Limited { was: vec![None, Some(5000)] },
    Opened = Reply::Opened { manifest: manifest(), extent: extent() },
    Extent = Reply::Extent(extent()),
    Sealing = Reply::Sealing { bytes_done: 1 << 30 },
    Sealed = Reply::Sealed { digest: FileDigest([7; 32]), packing: super::outcomes::packing() },
    Told = Reply::Told { deposition: Box::new(deposition()) },
    Replaced = Reply::Replaced(vec![Notice { deposition: deposition(), age_seconds: 5 }]),
    PeersKept = Reply::PeersKept,
});

/// As they cross the wire.
pub(crate) fn answers() -> Vec<(&'static str, Answer)> {
    let given = replies().into_iter().map(|(name, reply)| (name, Ok(reply)));
    given.chain([("Fault", Err(fault()))]).collect()
}

every!(verdicts: ReachVerdict {
    Open = ReachVerdict::Open,
    Rehearsal = ReachVerdict::Rehearsal,
    Busy = ReachVerdict::Busy,
    Denied = ReachVerdict::Denied,
    Unauthorised = ReachVerdict::Unauthorised,
    Refused = ReachVerdict::Refused,
    Silent = ReachVerdict::Silent,
    Unreachable = ReachVerdict::Unreachable,
});
