//! The target's side: carries out what the receiver says. Each thing it asks for is a task that ends in one piece of news;
//! one loop hands the news to the receiver. Left out: every decision (see `receiver`).

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use baton_proto::chunk::ChunkIndex;
use baton_proto::control::{Progress, Reply, Request, TransferFacts};
use baton_proto::data::{FRAME_HEAD_BYTES, PackingFacts, Ticket};
use baton_proto::digest::{ChunkDigest, FileDigest};
use baton_proto::version::ServerVersion;
use baton_proto::{Fault, FaultKind, HostName, HostPort, RunId};
use baton_wire::{Dialer, Link};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, info};

use crate::tasks::ProgressSink;
use crate::transfer::Whole;
use crate::transfer::bench::{Bench, blocking};
use crate::transfer::map::Held;
use crate::transfer::packing::Unpacker;
use crate::transfer::receiver::{LinkNumber, Output, ReceiveError, Receiver, Trouble, UNPACKING_MAX, Verdict};
use crate::transfer::store::Store;

/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_millis(100);

/// What to pull, and to where.
#[derive(Debug, Clone)]
pub struct PullOrder {
    pub run: RunId,
    pub from: HostName,
    pub address: HostPort,
    pub ticket: Ticket,
    /// The partial snapshot and the map beside it, in the server's data directory.
    pub part: PathBuf,
    pub map: PathBuf,
    /// The server that is to load the snapshot.
    pub reads: ServerVersion,
    /// Space that is to stay free.
    pub free_bytes_min: u64,
}

/// Pulls a snapshot, going on from what an earlier attempt left. Afterwards the part file is whole, verified and synced;
/// after a failure it is kept, and a further pull goes on from it.
pub async fn pull(dialer: &Dialer, order: PullOrder, progress: &ProgressSink) -> Result<TransferFacts, Fault> {
    let (from, address) = (order.from.clone(), order.address.clone());
    let outcome = Pull::new(dialer.clone(), order, progress.clone()).run().await;
    outcome.map_err(|mut fault| {
        fault.message = format!("transfer from {from}: {}", fault.message);
        if fault.kind == FaultKind::Peer && fault.hint.is_none() {
            fault.hint =
                Some(format!("see that the agent of {from} runs, and that UDP to {address} is open from here"));
        }
        fault
    })
}

/// How a task has ended.
enum News {
    Connected(Result<(Link, Whole), Trouble>),
    Prepared(Result<(Arc<Store>, Held), Fault>),
    Chunk { index: ChunkIndex, link: LinkNumber, result: Result<Arrived, Trouble> },
    Synced(Result<(), Fault>),
    Sealed { link: LinkNumber, result: Result<FileDigest, Trouble> },
    Verified(Result<Verdict, Fault>),
}

/// A chunk that was checked and written.
struct Arrived {
    digest: ChunkDigest,
    wire_bytes: u64,
}

struct Pull {
    dialer: Dialer,
    order: Arc<PullOrder>,
    progress: ProgressSink,
    receiver: Receiver,
    tasks: JoinSet<News>,
    bench: Arc<Bench<Unpacker>>,
    link: Option<Link>,
    store: Option<Arc<Store>>,
    bytes_total: Option<u64>,
    bytes_wire: u64,
    /// Set while the file is read back: how far that is.
    verifying: Option<Arc<AtomicU64>>,
    began: Instant,
}

impl Pull {
    fn new(dialer: Dialer, order: PullOrder, progress: ProgressSink) -> Pull {
        Pull {
            dialer,
            order: Arc::new(order),
            progress,
            receiver: Receiver::default(),
            tasks: JoinSet::new(),
            bench: Arc::new(Bench::new(UNPACKING_MAX)),
            link: None,
            store: None,
            bytes_total: None,
            bytes_wire: 0,
            verifying: None,
            began: Instant::now(),
        }
    }

    async fn run(mut self) -> Result<TransferFacts, Fault> {
        let mut reports = tokio::time::interval(REPORT_EVERY);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outcome = loop {
            let until = match self.drain() {
                Ok(Next::Wait(until)) => until,
                Ok(Next::Done(digest)) => break Ok(digest),
                Err(fault) => break Err(fault),
            };
            if self.tasks.is_empty() && until.is_none() {
                break Err(Fault::new(FaultKind::Internal, "nothing is left to wait for"));
            }
            tokio::select! {
                Some(news) = self.tasks.join_next() => self.tell(news)?,
                () = pause(self.began, until) => self.receiver.handle_tick(self.began.elapsed()),
                _ = reports.tick() => self.report(),
            }
        };
        if let Some(link) = self.link.take() {
            link.close();
        }
        self.report();
        let digest = outcome?;
        let facts = TransferFacts {
            bytes_raw: self.bytes_total.unwrap_or(0),
            bytes_wire: self.bytes_wire,
            digest,
            seconds: self.began.elapsed().as_secs_f64(),
            chunks_resumed: self.receiver.chunks_resumed(),
            reconnects: self.receiver.reconnects(),
            packing: PackingFacts { mean_level: None, stored: 0, chunks: 0, why: String::new() },
        };
        info!(run = %self.order.run, from = %self.order.from, ?facts, "snapshot is here");
        Ok(facts)
    }

    /// Does what the receiver says until it waits.
    fn drain(&mut self) -> Result<Next, Fault> {
        loop {
            match self.receiver.poll_output(self.began.elapsed()) {
                Output::Wait { until } => return Ok(Next::Wait(until)),
                Output::Done(digest) => return Ok(Next::Done(digest)),
                Output::Fail(fault) => return Err(fault),
                Output::Connect { after, link } => self.connect(after, link),
                Output::Prepare(manifest) => self.prepare(manifest),
                Output::Fetch { index, link } => self.fetch(index, link)?,
                Output::Sync(batch) => {
                    let store = self.store()?;
                    self.tasks.spawn(async move { News::Synced(blocking(move || store.sync(&batch)).await) });
                }
                Output::Seal { link } => self.seal(link)?,
                Output::Verify(digests) => {
                    let (store, done) = (self.store()?, Arc::new(AtomicU64::new(0)));
                    self.verifying = Some(Arc::clone(&done));
                    let verify = blocking(move || store.verify(&digests, &done));
                    self.tasks.spawn(async move { News::Verified(verify.await) });
                }
            }
        }
    }

    /// Dials and opens the snapshot. Its format is looked at here, before a byte of it is asked for.
    fn connect(&mut self, after: Duration, number: LinkNumber) {
        if let Some(old) = self.link.take() {
            // What still waits on it learns so that it was lost.
            old.close();
        }
        if number > 1 {
            info!(run = %self.order.run, from = %self.order.from, ?after, attempt = number, "reconnecting");
        }
        let (dialer, order) = (self.dialer.clone(), Arc::clone(&self.order));
        self.tasks.spawn(async move {
            tokio::time::sleep(after).await;
            News::Connected(open(&dialer, &order).await.map_err(trouble))
        });
    }

    fn prepare(&mut self, manifest: Whole) {
        self.bytes_total = Some(manifest.bytes);
        let order = Arc::clone(&self.order);
        let open = blocking(move || Store::open(&order.part, &order.map, &manifest, order.free_bytes_min));
        self.tasks.spawn(async move { News::Prepared(open.await.map(|(store, held)| (Arc::new(store), held))) });
    }

    fn fetch(&mut self, index: ChunkIndex, number: LinkNumber) -> Result<(), Fault> {
        let (link, store, bench) = (self.link()?, self.store()?, Arc::clone(&self.bench));
        let ticket = self.order.ticket.clone();
        self.tasks.spawn(async move {
            let result = fetch(&link, &ticket, index, store, &bench).await;
            News::Chunk { index, link: number, result }
        });
        Ok(())
    }

    fn seal(&mut self, number: LinkNumber) -> Result<(), Fault> {
        let link = self.link()?;
        let request = Request::Seal { ticket: self.order.ticket.clone() };
        self.tasks.spawn(async move {
            let result = match link.ask(&request).await {
                Ok(Reply::Sealed { digest, .. }) => Ok(digest),
                Ok(_) => Err(trouble(astray())),
                Err(fault) => Err(trouble(fault)),
            };
            News::Sealed { link: number, result }
        });
        Ok(())
    }

    /// Hands news to the receiver.
    fn tell(&mut self, news: Result<News, tokio::task::JoinError>) -> Result<(), Fault> {
        let broken = |error| Fault::new(FaultKind::Internal, "a part of the transfer broke off").because(error);
        let now = self.began.elapsed();
        let told = match news.map_err(broken)? {
            News::Connected(Ok((link, manifest))) => {
                self.link = Some(link);
                self.receiver.handle_connected(now, manifest)
            }
            News::Connected(Err(trouble)) => {
                debug!(run = %self.order.run, ?trouble, "no connection");
                self.receiver.handle_connect_failed(trouble)
            }
            News::Prepared(Ok((store, held))) => {
                self.store = Some(store);
                self.receiver.handle_prepared(&held)
            }
            News::Chunk { index, result: Ok(arrived), .. } => {
                self.bytes_wire += arrived.wire_bytes;
                self.receiver.handle_written(now, index, arrived.digest)
            }
            News::Chunk { index, link, result: Err(trouble) } => {
                debug!(run = %self.order.run, chunk = index.0, ?trouble, "chunk did not come");
                self.receiver.handle_chunk_failed(index, link, trouble)
            }
            News::Synced(Ok(())) => self.receiver.handle_synced(),
            News::Sealed { result: Ok(digest), .. } => self.receiver.handle_sealed(digest),
            News::Sealed { link, result: Err(trouble) } => self.receiver.handle_seal_failed(link, trouble),
            News::Verified(Ok(verdict)) => {
                self.verifying = None;
                if !verdict.bad.is_empty() {
                    let (run, bad) = (&self.order.run, verdict.bad.len());
                    tracing::warn!(%run, bad, "chunks read back differ from what was recorded");
                }
                self.receiver.handle_verified(verdict)
            }
            News::Prepared(Err(fault)) | News::Synced(Err(fault)) | News::Verified(Err(fault)) => {
                self.receiver.handle_store_failed(fault);
                Ok(())
            }
        };
        told.map_err(|error: ReceiveError| Fault::new(FaultKind::Internal, error))
    }

    fn report(&self) {
        let (doing, bytes_done) = match (&self.verifying, &self.link) {
            (Some(done), _) => ("verifying", done.load(Ordering::Relaxed)),
            (None, Some(_)) => ("transferring", self.receiver.bytes_done()),
            (None, None) => ("connecting", self.receiver.bytes_done()),
        };
        let (bytes_total, bytes_wire) = (self.bytes_total, self.bytes_wire);
        self.progress.report(Progress { doing: doing.into(), bytes_done, bytes_total, bytes_wire, ready: false });
    }

    fn link(&self) -> Result<Link, Fault> {
        self.link.clone().ok_or_else(|| Fault::new(FaultKind::Internal, "a chunk was wanted without a connection"))
    }

    fn store(&self) -> Result<Arc<Store>, Fault> {
        self.store.clone().ok_or_else(|| Fault::new(FaultKind::Internal, "a chunk was wanted without a file"))
    }
}

/// What the receiver's outputs end in.
enum Next {
    Wait(Option<Duration>),
    Done(FileDigest),
}

async fn pause(began: Instant, until: Option<Duration>) {
    match until {
        Some(until) => tokio::time::sleep_until(began + until).await,
        None => std::future::pending().await,
    }
}

async fn open(dialer: &Dialer, order: &PullOrder) -> Result<(Link, Whole), Fault> {
    let link = dialer.dial(&order.address, &order.from).await?;
    let open = Request::Open { ticket: order.ticket.clone(), session: 0 };
    let Reply::Opened { manifest, extent } = link.ask(&open).await? else {
        return Err(astray());
    };
    let manifest = Whole { snapshot: manifest.snapshot, bytes: extent.bytes, format: manifest.format };
    if !order.reads.reads(manifest.format) {
        let (format, reads) = (manifest.format, order.reads);
        return Err(Fault::new(FaultKind::Refused, format!("the snapshot's format {format} is too new for {reads}"))
            .because(format!("{reads} reads up to {}; no byte of the snapshot was sent", reads.writes()))
            .hint("install a server on this host that is at least as new as the one that wrote the snapshot"));
    }
    Ok((link, manifest))
}

/// Asks for a chunk, checks it, and writes it to its place.
async fn fetch(
    link: &Link,
    ticket: &Ticket,
    index: ChunkIndex,
    store: Arc<Store>,
    bench: &Bench<Unpacker>,
) -> Result<Arrived, Trouble> {
    let (head, wire) = link.chunk(ticket, index.0).await.map_err(trouble)?;
    let wire_bytes = (FRAME_HEAD_BYTES + wire.len()) as u64;
    let write = move |unpacker: &mut Unpacker| {
        let (span, raw) = match unpacker.unpack(store.chunking(), index, &head, &wire) {
            Ok(chunk) => chunk,
            Err(error) => {
                let offset = store.chunking().span(index).map_or(0, |span| span.offset);
                let fault = format!("chunk {} at offset {offset} came damaged", index.0);
                return Ok(Err(Fault::new(FaultKind::Verification, fault).because(error)));
            }
        };
        store.write(span, raw)?;
        Ok(Ok(head.digest))
    };
    match bench.work(write).await {
        Ok(Ok(digest)) => Ok(Arrived { digest, wire_bytes }),
        Ok(Err(damage)) => Err(Trouble::Damage(damage)),
        Err(fault) => Err(Trouble::Final(fault)),
    }
}

fn astray() -> Fault {
    Fault::new(FaultKind::Unsupported, "the agent answered something else than it was asked")
}

/// Sorts a fault by whether asking again may help.
fn trouble(fault: Fault) -> Trouble {
    match fault.kind {
        FaultKind::Peer => Trouble::Link(fault),
        FaultKind::Verification => Trouble::Damage(fault),
        _ => Trouble::Final(fault),
    }
}
