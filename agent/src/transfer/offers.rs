//! The source's side: pinned or streamed snapshots that are offered to one agent each, read, packed and handed out chunk by
//! chunk, also while the server still writes them.
//!
//! Memory is bounded whatever is asked for: so many chunks are packed at a time, and packed ones wait until the path has
//! room. Left out: who the peer is (its certificate has told), making or removing the pin, and following the save.

mod offer;
mod origin;
mod pinned;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use baton_proto::chunk::ChunkIndex;
use baton_proto::control::Reply;
use baton_proto::data::{Budget, Extent, FrameHead, Manifest, RATE_MIN, SnapshotId, Ticket};
use baton_proto::{Fault, FaultKind, HostName, InstanceName, RunId};
use baton_wire::{Peer, Role};
use bytes::Bytes;
use tracing::info;

use crate::transfer::buffers::Buffers;
use crate::transfer::growth::{self, Grower, Growth};
use crate::transfer::packing::Packer;
use crate::transfer::tickets::{OFFERS_MAX, Tickets};
use crate::transfer::window::Window;
use crate::transfer::workers::Workers;
use offer::Offer;
use origin::Origin;
use pinned::Pinned;

/// Most workers that pack. Each needs room for a chunk, its packed form and what zstd keeps: some 30 MiB at the highest
/// level, a sixth of that at those for fast lines; and 8 more for plain forms, once there are any.
const WORKERS_MAX: usize = 16;

/// What a worker keeps.
#[derive(Default)]
struct Tools {
    packer: Packer,
}

/// What all offers use.
struct Shared {
    workers: Workers<Tools>,
    /// How many an offer uses unless it is told otherwise: one a core, since they take what is idle, and the server keeps its
    /// core.
    workers_max: usize,
    buffers: Buffers,
}

/// The snapshots that this agent offers.
pub struct Offers {
    tickets: Mutex<Tickets<Arc<Offer>>>,
    sent: AtomicU64,
    /// The saves that are followed.
    growths: Mutex<BTreeMap<RunId, Growth>>,
    /// The streams that are kept.
    windows: Mutex<BTreeMap<RunId, (InstanceName, Arc<Window>)>>,
    shared: Arc<Shared>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these mutexes guard is whole between any two statements, so a panic elsewhere does not spoil it.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn check_rate(max_rate: Option<u64>) -> Result<(), Fault> {
    match max_rate {
        Some(rate @ ..RATE_MIN) => {
            Err(Fault::new(FaultKind::Invalid, format!("a limit of {rate} bytes a second is too low for any snapshot"))
                .hint(format!("give at least {RATE_MIN} bytes a second")))
        }
        _ => Ok(()),
    }
}

impl Offers {
    pub fn start() -> std::io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let workers_max = cores.min(WORKERS_MAX);
        let shared = Shared { workers: Workers::start("pack", workers_max)?, workers_max, buffers: Buffers::default() };
        Ok(Self {
            tickets: Mutex::default(),
            sent: AtomicU64::new(0),
            growths: Mutex::default(),
            windows: Mutex::default(),
            shared: Arc::new(shared),
        })
    }

    /// Registers a save that is followed: an offer of this run then serves a snapshot that still grows.
    pub fn grow(&self, run: &RunId) -> Grower {
        let (grower, growth) = growth::begin();
        let mut growths = locked(&self.growths);
        // Runs that were given up leave theirs behind; which of them goes does not matter.
        if growths.len() >= OFFERS_MAX {
            growths.pop_first();
        }
        growths.insert(run.clone(), growth);
        grower
    }

    /// The growth of a run's snapshot, unless its save failed: what is pinned then is whole, or gone.
    pub fn growth(&self, run: &RunId) -> Option<Growth> {
        locked(&self.growths).get(run).filter(|growth| growth.now().is_ok()).cloned()
    }

    /// Registers a stream: an offer of this run then serves what its window keeps.
    pub fn keep(&self, run: &RunId, instance: &InstanceName) -> Arc<Window> {
        let (grower, growth) = growth::begin();
        let window = Arc::new(Window::new(grower, growth));
        let mut windows = locked(&self.windows);
        let forgotten = if windows.len() >= OFFERS_MAX { windows.pop_first() } else { None };
        let earlier = windows.insert(run.clone(), (instance.clone(), Arc::clone(&window)));
        drop(windows);
        for (_, window) in forgotten.into_iter().map(|(_, kept)| kept).chain(earlier) {
            window.fail(Fault::new(FaultKind::NotFound, "another stream has taken its place"));
        }
        window
    }

    /// The stream of a run, if it has one.
    pub fn window(&self, run: &RunId) -> Option<Arc<Window>> {
        locked(&self.windows).get(run).map(|(_, window)| Arc::clone(window))
    }

    /// Ends the streams of an instance that other runs have begun, and have not ended: a run that is given up leaves its
    /// stream to its target, and one that begins again does not wait for that.
    pub fn supersede(&self, run: &RunId, instance: &InstanceName) {
        for (other, (of, window)) in locked(&self.windows).iter() {
            if other != run && of == instance {
                window.fail(Fault::new(FaultKind::Refused, format!("run {run} has begun on this instance since")));
            }
        }
    }

    /// Offers a stream to the agent of one host.
    pub fn offer_stream(
        &self,
        window: Arc<Window>,
        ticket: Ticket,
        to: HostName,
        budget: Budget,
    ) -> Result<(Manifest, Extent), Fault> {
        let manifest = window.manifest().cloned().ok_or_else(|| {
            Fault::new(FaultKind::NotFound, format!("the stream of run {} has not begun yet", ticket.run))
                .hint("offer it when its snapshot is ready")
        })?;
        self.insert(Origin::Window(manifest, window), ticket, to, budget)
    }

    /// Offers a pinned snapshot to the agent of one host. Offered again, it keeps the digests that are known, and the limit
    /// that somebody has set since.
    pub fn offer(
        &self,
        pin: &Path,
        snapshot: SnapshotId,
        ticket: Ticket,
        to: HostName,
        budget: Budget,
    ) -> Result<(Manifest, Extent), Fault> {
        let pinned = Pinned::open(pin, snapshot, self.growth(&ticket.run))?;
        self.insert(Origin::File(pinned), ticket, to, budget)
    }

    fn insert(
        &self,
        mut origin: Origin,
        ticket: Ticket,
        to: HostName,
        mut budget: Budget,
    ) -> Result<(Manifest, Extent), Fault> {
        check_rate(budget.max_rate)?;
        let mut tickets = locked(&self.tickets);
        if let Some(earlier) = tickets.offered(&ticket.run) {
            origin.learn_from(&earlier.origin);
            budget.max_rate = earlier.max_rate();
        }
        let (manifest, extent) = (origin.manifest().clone(), origin.extent()?);
        let run = ticket.run.clone();
        tickets.insert(ticket, to.clone(), Offer::start(origin, Arc::clone(&self.shared), budget))?;
        info!(%run, snapshot = %manifest.snapshot, ?extent, %to, ?budget, "snapshot is offered");
        Ok((manifest, extent))
    }

    /// Tells a peer what its ticket stands for, and lets its connection ask for chunks.
    pub fn open(&self, peer: &Peer, ticket: &Ticket, session: u64) -> Result<Reply, Fault> {
        let offer = self.admit(peer, ticket)?;
        offer.origin.check()?;
        let extent = offer.origin.extent()?;
        offer.admit(peer, session)?;
        Ok(Reply::Opened { manifest: offer.origin.manifest().clone(), extent })
    }

    /// Waits a moment for the snapshot to grow. The target has written all chunks before `held`.
    pub async fn extent(&self, peer: &Peer, ticket: &Ticket, (seen, held): (u64, u32)) -> Result<Reply, Fault> {
        let offer = self.admit(peer, ticket)?;
        offer.origin.held(held);
        offer.grown(seen).await.map(Reply::Extent)
    }

    /// Reads and packs one chunk, when its turn comes. The target has written all chunks before `held`.
    pub async fn chunk(
        &self,
        peer: &Peer,
        ticket: &Ticket,
        (index, held): (u32, u32),
    ) -> Result<(FrameHead, Bytes), Fault> {
        self.admit(peer, ticket)?.chunk(peer, ChunkIndex(index), held).await
    }

    /// Bytes of chunks that have left since the agent was started.
    pub fn sent_bytes(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// Waits until so many bytes of a run may leave.
    pub async fn pace(&self, run: &RunId, bytes: usize) {
        self.sent.fetch_add(bytes as u64, Ordering::Relaxed);
        let offer = locked(&self.tickets).offered(run).cloned();
        if let Some(offer) = offer {
            offer.pace(bytes).await;
        }
    }

    /// Waits a moment for the digest of the whole file. Only chunks that were never sent are read for it.
    pub async fn seal(&self, peer: &Peer, ticket: &Ticket) -> Result<Reply, Fault> {
        let offer = self.admit(peer, ticket)?;
        Ok(match offer.seal().await? {
            Ok(digest) => Reply::Sealed { digest, packing: offer.facts() },
            Err(bytes_done) => Reply::Sealing { bytes_done },
        })
    }

    /// Changes how fast a run's snapshot may leave.
    pub fn limit(&self, run: &RunId, max_rate: Option<u64>) -> Result<Reply, Fault> {
        check_rate(max_rate)?;
        let offer = locked(&self.tickets).offered(run).cloned();
        let offer = offer.ok_or_else(|| {
            Fault::new(FaultKind::NotFound, format!("no snapshot of run {run} is offered here"))
                .hint("a rate can be changed while the snapshot is sent, at the run's source")
        })?;
        info!(%run, ?max_rate, "rate is changed");
        Ok(Reply::Limited { was: vec![offer.limit(max_rate)] })
    }

    /// Takes a run's offer back. Chunks on their way still arrive; a stream ends.
    pub fn revoke(&self, run: &RunId) {
        locked(&self.growths).remove(run);
        if let Some((_, window)) = locked(&self.windows).remove(run) {
            window.fail(Fault::new(FaultKind::NotFound, "the stream was released before its target had all of it"));
        }
        if locked(&self.tickets).revoke(run).is_some() {
            info!(%run, "snapshot is no longer offered");
        }
    }

    /// Sees that a peer shows the ticket of a snapshot that is offered to it.
    pub fn check(&self, peer: &Peer, ticket: &Ticket) -> Result<(), Fault> {
        self.admit(peer, ticket).map(drop)
    }

    fn admit(&self, peer: &Peer, ticket: &Ticket) -> Result<Arc<Offer>, Fault> {
        let Role::Agent(host) = peer.role() else {
            return Err(Fault::new(
                FaultKind::NotAllowed,
                "snapshots are served to the agent that holds the ticket, not to operators",
            ));
        };
        Ok(Arc::clone(locked(&self.tickets).lookup(host, ticket)?))
    }
}
