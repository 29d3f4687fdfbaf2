//! One offer at work: chunks that are asked for, packed and on their way, and who asks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use baton_proto::chunk::ChunkIndex;
use baton_proto::control::WATCH_MS;
use baton_proto::data::{Budget, Extent, FrameHead, Packing, PackingFacts};
use baton_proto::digest::FileDigest;
use baton_proto::{Fault, FaultKind};
use baton_wire::{Pace, Peer};
use bytes::Bytes;
use tokio::sync::{Notify, oneshot, watch};
use tracing::{Instrument, debug, info};

use super::origin::Origin;
use super::{Shared, Tools};
use crate::blocking::try_blocking;
use crate::transfer::buffers::Buffer;
use crate::transfer::sender::levels::Packed;
use crate::transfer::sender::{Job, Sender};
use crate::transfer::throttle::Throttle;
use crate::transfer::workers::worked;

/// Most connections of a session: one a lane.
const LANES_MAX: usize = 16;
/// Longest pause between two looks at the limit: a changed one counts soon.
const LIMIT_LOOK: Duration = Duration::from_millis(100);

type Chunk = Result<(FrameHead, Buffer), Fault>;

/// The connections of one attempt to pull.
#[derive(Default)]
struct Session {
    id: Option<u64>,
    peers: Vec<Peer>,
    /// Whether another attempt has begun: what is still on its way then is given up.
    over: Arc<AtomicBool>,
}

struct Engine {
    sender: Sender,
    waiting: HashMap<ChunkIndex, oneshot::Sender<Chunk>>,
}

/// How far the digest of the whole file is.
#[derive(Clone)]
enum Seal {
    No,
    Reading(u64),
    Done(FileDigest),
    Failed(Fault),
}

pub(super) struct Offer {
    pub(super) origin: Origin,
    shared: Arc<Shared>,
    began: Instant,
    engine: Mutex<Engine>,
    /// Rings when there may be something to pack.
    bell: Notify,
    throttle: Mutex<Throttle>,
    session: Mutex<Session>,
    seal: watch::Sender<Seal>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these mutexes guard is whole between any two statements, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Offer {
    /// Begins to serve. It ends when the last handle is dropped.
    pub(super) fn start(origin: Origin, shared: Arc<Shared>, budget: Budget) -> Arc<Offer> {
        let most = shared.workers_max;
        let workers = budget.cpu.map_or_else(|| origin.workers(most), |cores| (cores as usize).min(most));
        let sender = Sender::with_backlog(workers, origin.backlog_bytes());
        let offer = Arc::new(Offer {
            origin,
            shared,
            began: Instant::now(),
            engine: Mutex::new(Engine { sender, waiting: HashMap::new() }),
            bell: Notify::new(),
            throttle: Mutex::new(Throttle::new(budget.max_rate)),
            session: Mutex::default(),
            seal: watch::Sender::new(Seal::No),
        });
        tokio::spawn(pump(Arc::downgrade(&offer)).in_current_span());
        offer
    }

    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Lets a connection ask for chunks. Those of an older attempt are cut: what they still hold back is wanted here, and
    /// their peer may be gone without a word.
    pub(super) fn admit(&self, peer: &Peer, id: u64) -> Result<(), Fault> {
        let mut old = Vec::new();
        let admitted = {
            let mut session = locked(&self.session);
            if session.id != Some(id) {
                session.over.store(true, Ordering::Relaxed);
                old = std::mem::take(&mut session.peers);
                (session.id, session.over) = (Some(id), Arc::default());
            }
            let has_room = session.peers.len() < LANES_MAX;
            if has_room {
                session.peers.push(peer.clone());
            }
            has_room
        };
        // While nothing is locked: with a connection goes what it holds back, and the engine hears of that.
        old.iter().for_each(|old| old.hang_up("another attempt has begun"));
        if admitted {
            return Ok(());
        }
        Err(Fault::new(FaultKind::Refused, format!("{LANES_MAX} connections pull this snapshot already")))
    }

    /// Sees that a connection is of the present attempt, and yields what tells whether that is over.
    fn check_admitted(&self, peer: &Peer) -> Result<Arc<AtomicBool>, Fault> {
        let session = locked(&self.session);
        if session.peers.iter().any(|admitted| admitted.is(peer)) {
            return Ok(Arc::clone(&session.over));
        }
        Err(Fault::new(
            FaultKind::Peer,
            "this connection has not opened the snapshot, or another attempt has begun since",
        ))
    }

    /// Waits a moment for the snapshot to have grown by a chunk.
    pub(super) async fn grown(&self, seen: u64) -> Result<Extent, Fault> {
        if let Some(mut growth) = self.origin.growth() {
            let wait = growth.beyond(seen.saturating_add(baton_proto::chunk::CHUNK_BYTES));
            let _ = tokio::time::timeout(Duration::from_millis(WATCH_MS), wait).await;
        }
        self.origin.extent()
    }

    /// Reads and packs one chunk, when its turn comes.
    pub(super) async fn chunk(
        self: &Arc<Self>,
        peer: &Peer,
        index: ChunkIndex,
        held: u32,
    ) -> Result<(FrameHead, Bytes), Fault> {
        let over = self.check_admitted(peer)?;
        self.origin.held(held);
        self.origin.asked(index)?;
        self.origin.chunking()?.span(index).map_err(|error| Fault::new(FaultKind::Invalid, error))?;
        let (told, wait) = oneshot::channel();
        // The connections are asked while nothing is locked: one drops what has arrived under its own lock, and the engine's
        // is taken for that.
        let peers = locked(&self.session).peers.clone();
        let window = peers.iter().map(Peer::window).sum();
        let paces: Vec<Pace> = peers.iter().filter_map(Peer::pace).collect();
        let pace = Pace { rate: paces.iter().map(|pace| pace.rate).sum(), grows: paces.iter().any(|pace| pace.grows) };
        {
            let mut engine = locked(&self.engine);
            // Whoever asked before hears that the question was taken over.
            engine.waiting.insert(index, told);
            engine.sender.handle_path(window, pace.rate, pace.grows);
            engine.sender.handle_asked(index);
        }
        drop(peers);
        let asked = Asked { offer: self, index };
        self.bell.notify_one();
        let taken_over = |_| Err(Fault::new(FaultKind::Peer, format!("chunk {} was asked for once more", index.0)));
        let (head, bytes) = wait.await.unwrap_or_else(taken_over)?;
        drop(asked);
        let sending = Sending { bytes, offer: Arc::clone(self), wire_bytes: head.wire_bytes, over };
        Ok((head, Bytes::from_owner(sending)))
    }

    /// Waits until so many bytes may leave.
    pub(super) async fn pace(&self, bytes: usize) {
        loop {
            let wait = match locked(&self.throttle).take(self.now(), bytes) {
                Ok(()) => return,
                Err(wait) => wait,
            };
            tokio::time::sleep(wait.min(LIMIT_LOOK)).await;
        }
    }

    pub(super) fn limit(&self, max_rate: Option<u64>) -> Option<u64> {
        locked(&self.throttle).set_rate(self.now(), max_rate)
    }

    pub(super) fn max_rate(&self) -> Option<u64> {
        locked(&self.throttle).rate()
    }

    pub(super) fn facts(&self) -> PackingFacts {
        let limited = self.max_rate().is_some();
        PackingFacts { limited, ..locked(&self.engine).sender.facts() }
    }

    /// Waits a moment for the digest of the whole file; an error in the place of it tells how far the reading is.
    pub(super) async fn seal(self: &Arc<Self>) -> Result<Result<FileDigest, u64>, Fault> {
        let mut begun = false;
        self.seal.send_if_modified(|seal| {
            begun = matches!(seal, Seal::No | Seal::Failed(_));
            if begun {
                *seal = Seal::Reading(0);
            }
            begun
        });
        if begun {
            let offer = Arc::clone(self);
            tokio::spawn(async move {
                let reading = Arc::clone(&offer);
                let digest = try_blocking(move || {
                    let mut buffer = reading.shared.buffers.take(baton_proto::chunk::CHUNK_BYTES as usize);
                    let done = |bytes| drop(reading.seal.send_replace(Seal::Reading(bytes)));
                    reading.origin.seal(&mut buffer, done)
                });
                offer.seal.send_replace(digest.await.map_or_else(Seal::Failed, Seal::Done));
            });
        }
        let mut heard = self.seal.subscribe();
        let over = heard.wait_for(|seal| matches!(seal, Seal::Done(_) | Seal::Failed(_)));
        let _ = tokio::time::timeout(Duration::from_millis(WATCH_MS), over).await;
        match self.seal.borrow().clone() {
            Seal::Done(digest) => {
                info!(packing = ?self.facts(), "snapshot was sent");
                Ok(Ok(digest))
            }
            Seal::Failed(fault) => Err(fault),
            Seal::Reading(bytes) => Ok(Err(bytes)),
            Seal::No => Ok(Err(0)),
        }
    }

    /// Does one job, and hands the chunk to whom waits for it.
    async fn work(self: Arc<Self>, job: Job) {
        let offer = Arc::clone(&self);
        let done = self.shared.workers.work(move |tools| offer.pack(job, tools)).await;
        let (facts, chunk) = match done {
            Ok((facts, head, bytes)) => (Some(facts), Ok((head, bytes))),
            Err(fault) => (None, Err(fault)),
        };
        let mut engine = locked(&self.engine);
        engine.sender.handle_packed(facts);
        let told = engine.waiting.remove(&job.index).map(|waiting| waiting.send(chunk));
        // Nobody waits for it any more: it does not leave.
        if let (false, Some(facts)) = (matches!(told, Some(Ok(()))), facts) {
            engine.sender.handle_given_up(facts.wire_bytes);
        }
        drop(engine);
        self.bell.notify_one();
    }

    fn pack(&self, job: Job, tools: &mut Tools) -> Result<(Packed, FrameHead, Buffer), Fault> {
        let size = baton_proto::chunk::CHUNK_BYTES as usize;
        let mut buffer = self.shared.buffers.take(size);
        let (began, before) = (Instant::now(), worked());
        let (raw, digest) = self.origin.read(job.index, &mut buffer)?;
        let raw_bytes = raw.len();
        let mut out = self.shared.buffers.take(size);
        let form = tools.packer.pack(raw, job.level, &mut out);
        let stored = form.packing == Packing::Store;
        let mut bytes = if stored { buffer } else { out };
        bytes.truncate(form.bytes);
        // Neither is longer than a chunk, which fits.
        let (raw_bytes, wire_bytes) = (raw_bytes as u32, bytes.len() as u32);
        debug!(chunk = job.index.0, level = ?job.level, stored, wire_bytes, took = ?began.elapsed(), "packed");
        let facts = Packed {
            level: job.level,
            stored,
            barren: form.barren,
            raw_bytes,
            wire_bytes,
            took: began.elapsed(),
            worked: worked().saturating_sub(before),
        };
        let head = FrameHead { packing: form.packing, index: job.index.0, raw_bytes, wire_bytes, digest };
        Ok((facts, head, bytes))
    }
}

/// Begins jobs as they become due, as long as the offer lives.
async fn pump(offer: Weak<Offer>) {
    while let Some(offer) = offer.upgrade() {
        let rung = offer.bell.notified();
        while let Some(job) = locked(&offer.engine).sender.poll_job() {
            tokio::spawn(Arc::clone(&offer).work(job).in_current_span());
        }
        // Looked at now and then, so that one that nobody holds any more ends.
        let _ = tokio::time::timeout(Duration::from_secs(1), rung).await;
    }
}

/// A question that is taken back when nobody waits for its answer, as when its connection has ended.
struct Asked<'a> {
    offer: &'a Offer,
    index: ChunkIndex,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let mut engine = locked(&self.offer.engine);
        if engine.waiting.get(&self.index).is_some_and(oneshot::Sender::is_closed) {
            engine.waiting.remove(&self.index);
            engine.sender.handle_dropped(self.index);
        }
    }
}

/// A chunk's bytes on their way. The transport drops them when they have arrived, or when the connection has ended.
struct Sending {
    bytes: Buffer,
    offer: Arc<Offer>,
    wire_bytes: u32,
    over: Arc<AtomicBool>,
}

impl AsRef<[u8]> for Sending {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Sending {
    fn drop(&mut self) {
        // The connection is not asked what became of it: it drops this while it holds its own lock.
        let (now, mut engine) = (self.offer.now(), locked(&self.offer.engine));
        if self.over.load(Ordering::Relaxed) {
            engine.sender.handle_given_up(self.wire_bytes);
        } else {
            engine.sender.handle_delivered(now, self.wire_bytes);
        }
        drop(engine);
        self.offer.bell.notify_one();
    }
}
