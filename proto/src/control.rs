//! What an agent is asked: by coordinators, and, where a request says so, by other agents.
//!
//! A server is only changed by an [`Order`]: one action on one instance for one run, which has [claimed](crate::claim) the
//! instance before. An order starts a task in the agent, which owns it: the task goes on when the coordinator is gone, and
//! `Watch` finds it again. Giving the same order again joins the task that runs, answers with the outcome of the one that
//! is done, and starts anew the one that failed. The actions are in `control/order.rs`, what comes of tasks in
//! `control/outcome.rs`. All other requests ask, or change what the agent itself keeps: claims, journals, certificates,
//! peers, notes of replaced primaries, the rate of what it sends.
//!
//! A new message is a variant here and a branch in `agent/src/serve.rs`; a new action is a variant of [`Action`], its
//! [`Outcome`], and a branch in `agent/src/actions.rs`.

mod order;
mod outcome;
mod reach;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use self::order::{Action, Landing, Order, SaveMethod, Saving, TaskId};
pub use self::outcome::{
    AsideFacts, Durability, FeedFacts, HandoverFacts, Outcome, Progress, SnapshotFacts, SpooledFacts, TaskState,
    TaskStatus, TransferFacts,
};
pub use self::reach::{Reach, ReachVerdict};
use crate::claim::Turn;
use crate::data::{Extent, Manifest, PackingFacts, Ticket};
use crate::deposed::{Deposition, Notice};
use crate::digest::FileDigest;
use crate::fault::Fault;
use crate::name::{HostName, HostPort, InstanceName, RunId};
use crate::report::{CertificateFacts, HostReport};

/// How long an agent holds a `Begin` or `Watch` until there is news: long enough that a watcher asks seldom, short enough
/// that progress is seen to move.
pub const WATCH_MS: u64 = 250;
/// Most bytes of a journal in one message: a message of its own size has room around them, however they are encoded.
pub const RECORD_BYTES_MAX: usize = 32 * 1024;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Report the host and its instances.
    Observe,
    /// Try to reach a server from here, the way this instance would reach it as its primary.
    Reach { instance: InstanceName, to: HostPort },
    /// Dial another agent from here, as a transfer between the two would.
    Knock { host: HostName, address: HostPort },
    /// Listen for a moment where this stopped instance would, so that another host can try to reach it. With no seconds,
    /// stop listening.
    Rehearse { instance: InstanceName, seconds: u32 },
    /// Have the instance for this run, so that no other run's orders are taken; or take the run's turn over.
    Claim { instance: InstanceName, run: RunId, turn: Turn },
    /// Give back every instance that this turn of the run has.
    Unclaim { run: RunId, turn: Turn },
    /// Keep a piece of the run's journal, from byte `at` on. The last piece makes it count, at once.
    Record { run: RunId, turn: Turn, at: u64, text: String, last: bool },
    /// Tell a piece of the journal that is kept of a run.
    Recall { run: RunId, at: u64 },
    /// Tell of which runs a journal is kept.
    Runs,
    /// Make a new key, and tell the request for its certificate.
    SigningRequest,
    /// Show the certificate of that key from now on. `chain` is it and the authority's, as PEM.
    Renew { chain: String },
    /// Believe none of these certificates: a list that the authority has signed (DER, RFC 5280). Connections of theirs end.
    Revoke {
        #[serde(with = "serde_bytes")]
        list: Vec<u8>,
    },
    /// Start an action, or join it.
    Begin(Order),
    /// Keep the rest of the run's journal, from byte `at` on, and then start an action or join it. Where the rest does not
    /// follow on what is kept, nothing is begun, and the answer tells how much is kept.
    RecordAndBegin { at: u64, text: String, order: Order },
    /// Wait for news of a task. To hear of it changes nothing, so a coordinator whose run was taken up may: its next order is
    /// refused. But only one of the turn that has the run counts as its coordinator's sign of life: by that, nobody else may
    /// take the run up, and one that was superseded would keep all others off. Who tells no turn is nobody's.
    Watch {
        task: TaskId,
        seen: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        turn: Option<Turn>,
    },
    /// Change how fast a run's snapshot may be sent from here, while it is. Nothing is no limit.
    Limit { run: RunId, max_rate: Option<u64> },
    /// Between agents: ask for the snapshot that the ticket stands for. All connections of one attempt name the same
    /// session; those of an older one are cut.
    Open { ticket: Ticket, session: u64 },
    /// Between agents: wait for the snapshot to have grown beyond what was seen, for a moment. All chunks before `held`
    /// are written on the asking side: a source that keeps only a few may let them go.
    Extent {
        ticket: Ticket,
        seen: u64,
        #[serde(default)]
        held: u32,
    },
    /// Between agents: ask for one chunk. Answered by a [`crate::data::FrameHead`] and the chunk's bytes. `held` as above.
    Chunk {
        ticket: Ticket,
        index: u32,
        #[serde(default)]
        held: u32,
    },
    /// Between agents: ask for the digest of the whole file, after the last chunk. Asked again until it is there.
    Seal { ticket: Ticket },
    /// Between agents: ask for a piece of what the run's spool holds behind offset `at`. Answered as a chunk is. Less than
    /// a whole chunk of it tells that there was no more; nothing, that nothing came for a moment.
    Spooled { ticket: Ticket, at: u64 },
    /// Between agents: tell the agent of a replaced primary. `age_seconds` is by the teller's clock.
    Tell { deposition: Box<Deposition>, age_seconds: u64 },
    /// Between agents: say what became of servers of the asking one's host.
    Replaced,
    /// Keep in mind the agents of this host's groups: they are asked that at the next start.
    Peers { peers: BTreeMap<HostName, HostPort> },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    Observed(Box<HostReport>),
    Reached(Reach),
    /// The other agent has greeted, or why it has not.
    Knocked {
        shut: Option<Fault>,
    },
    Rehearsing,
    Claimed,
    /// What is kept of the journal now.
    Recorded {
        bytes: u64,
    },
    Recalled {
        text: String,
        /// The whole journal.
        bytes: u64,
    },
    Runs(Vec<RunId>),
    SigningRequest {
        pem: String,
    },
    Renewed(CertificateFacts),
    Task(TaskState),
    /// `was` is the limit until now, for each offer of the run.
    Limited {
        was: Vec<Option<u64>>,
    },
    Opened {
        manifest: Manifest,
        extent: Extent,
    },
    Extent(Extent),
    /// The source still reads what it never sent.
    Sealing {
        bytes_done: u64,
    },
    Sealed {
        digest: FileDigest,
        packing: PackingFacts,
    },
    /// What the told agent holds now: it may know more of the run than the teller.
    Told {
        deposition: Box<Deposition>,
    },
    Replaced(Vec<Notice>),
    PeersKept,
}

/// What an agent answers to a request.
pub type Answer = Result<Reply, Fault>;
