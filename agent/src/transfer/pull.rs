//! The target's side: carries out what the receiver says. Each thing it asks for is a task that ends in one piece of news;
//! one loop hands the news to the receiver. Left out: every decision (see `receiver`), and what each task does (`errands`).

mod errands;

use std::sync::Arc;
use std::time::Duration;

use baton_proto::chunk::ChunkIndex;
use baton_proto::control::{Progress, TransferFacts};
use baton_proto::data::{Extent, Manifest, Ticket};
use baton_proto::rdb::Checksum;
use baton_proto::version::ServerVersion;
use baton_proto::{Fault, FaultKind, HostName, HostPort, RunId};
use baton_wire::Dialer;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{Instrument, debug, info};

use crate::instance::CalledOff;
use crate::tasks::ProgressSink;
use crate::transfer::receiver::{LinkNumber, Output, ReceiveError, Received, Receiver, Trouble};
use crate::transfer::store::{Opened, Place};
use crate::transfer::supply::Supply;
use errands::{Arrived, Errands, Lanes, Seal};

/// How often progress is reported.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// How long a pull that is over waits for the chunks that its workers still have: more than a starved worker needs until
/// another takes its place, and its few chunks besides.
const REST_MAX: Duration = Duration::from_secs(10);

/// What to pull, and to where.
#[derive(Debug, Clone)]
pub struct PullOrder {
    pub run: RunId,
    pub from: HostName,
    pub address: HostPort,
    pub ticket: Ticket,
    pub place: Place,
    /// The server that is to load the snapshot.
    pub reads: ServerVersion,
    /// Connections to use, each with a socket of its own.
    pub lanes: usize,
    /// Who wants to know how much is here, while it arrives.
    pub supply: Option<watch::Sender<Supply>>,
    pub called_off: CalledOff,
}

/// Pulls a snapshot, going on from what an earlier attempt left. Afterwards the part file is whole, verified and synced;
/// after a failure it is kept, and a further pull goes on from it.
pub async fn pull(dialer: &Dialer, order: PullOrder, progress: &ProgressSink) -> Result<TransferFacts, Fault> {
    let (from, address) = (order.from.clone(), order.address.clone());
    let outcome = match Pull::new(dialer.clone(), order, progress.clone()) {
        Ok(pull) => pull.run().await,
        Err(error) => Err(Fault::new(FaultKind::Host, "start the threads that unpack").because(error)),
    };
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
    Connected(Result<(Lanes, Manifest, Extent), Trouble>),
    Prepared(Result<Opened, Fault>),
    Extent { link: LinkNumber, result: Result<Extent, Trouble> },
    Chunk { index: ChunkIndex, link: LinkNumber, result: Result<Arrived, Trouble> },
    Checked { index: ChunkIndex, result: Result<Option<Checksum>, Fault> },
    Synced(Result<(), Fault>),
    Sealed { link: LinkNumber, result: Result<Seal, Trouble> },
    Finished(Result<Vec<u8>, Fault>),
}

struct Pull {
    errands: Errands,
    called_off: CalledOff,
    progress: ProgressSink,
    receiver: Receiver,
    tasks: JoinSet<News>,
    /// Bytes of chunks that crossed the network, in earlier attempts too.
    bytes_wire: u64,
    /// Bytes of chunks that had come on the present lanes at the last look.
    arrived: u64,
    /// Chunks that are asked for.
    fetching: usize,
    starved: Starved,
    began: Instant,
}

/// The time in which there was nothing to ask for: the source had no more of the snapshot yet.
#[derive(Debug, Default)]
struct Starved {
    sum: Duration,
    since: Option<Duration>,
}

impl Starved {
    fn look(&mut self, now: Duration, is_starved: bool) {
        if let Some(since) = self.since.take() {
            self.sum += now.saturating_sub(since);
        }
        self.since = is_starved.then_some(now);
    }
}

/// What the receiver's outputs end in.
enum Next {
    Wait(Option<Duration>),
    Done(Box<Received>),
}

impl Pull {
    fn new(dialer: Dialer, order: PullOrder, progress: ProgressSink) -> std::io::Result<Pull> {
        Ok(Pull {
            called_off: order.called_off.clone(),
            errands: Errands::new(dialer, order)?,
            progress,
            receiver: Receiver::default(),
            tasks: JoinSet::new(),
            bytes_wire: 0,
            arrived: 0,
            fetching: 0,
            starved: Starved::default(),
            began: Instant::now(),
        })
    }

    /// Begins an errand, whose log lines are this pull's as well.
    fn begin(&mut self, errand: impl Future<Output = News> + Send + 'static) {
        self.tasks.spawn(errand.in_current_span());
    }

    async fn run(mut self) -> Result<TransferFacts, Fault> {
        let mut reports = tokio::time::interval(REPORT_EVERY);
        reports.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outcome = loop {
            let until = match self.drain() {
                Ok(Next::Wait(until)) => until,
                Ok(Next::Done(received)) => break Ok(received),
                Err(fault) => break Err(fault),
            };
            let idle = self.fetching == 0 && self.errands.store.is_some() && !self.receiver.extent().whole;
            self.starved.look(self.began.elapsed(), idle);
            if self.tasks.is_empty() && until.is_none() {
                break Err(Fault::new(FaultKind::Internal, "nothing is left to wait for"));
            }
            tokio::select! {
                Some(news) = self.tasks.join_next() => {
                    self.tell(news)?;
                    self.supply(false);
                }
                () = pause(self.began, until) => self.receiver.handle_tick(self.began.elapsed()),
                _ = reports.tick() => self.look(),
                fault = self.called_off.wait() => break Err(fault),
            }
        };
        self.errands.hang_up();
        self.rest().await;
        self.report();
        let received = outcome?;
        self.supply(true);
        let facts = TransferFacts {
            bytes_raw: received.bytes,
            bytes_wire: self.bytes_wire,
            digest: received.digest,
            seconds: self.began.elapsed().as_secs_f64(),
            waited_seconds: self.starved.sum.as_secs_f64(),
            chunks_resumed: self.receiver.chunks_resumed(),
            reconnects: self.receiver.reconnects(),
            packing: received.packing,
        };
        info!(run = %self.errands.order.run, from = %self.errands.order.from, ?facts, "snapshot is here");
        Ok(facts)
    }

    /// Waits until nothing writes any more: a worker ends what it has begun, and the pull that goes on from here is to find
    /// all of it, once.
    async fn rest(&mut self) {
        let all = async { while self.tasks.join_next().await.is_some() {} };
        // What takes longer, such as a pause before dialling again, is given up.
        let _ = tokio::time::timeout(REST_MAX, all).await;
    }

    /// Does what the receiver says until it waits.
    fn drain(&mut self) -> Result<Next, Fault> {
        loop {
            let held = self.receiver.held_before();
            let errands = &mut self.errands;
            match self.receiver.poll_output(self.began.elapsed()) {
                Output::Wait { until } => return Ok(Next::Wait(until)),
                Output::Done(received) => return Ok(Next::Done(Box::new(received))),
                Output::Fail(fault) => return Err(fault),
                Output::Connect { after, link } => {
                    if link > 1 {
                        let order = &errands.order;
                        info!(run = %order.run, from = %order.from, ?after, attempt = link, "reconnecting");
                    }
                    let dialled = errands.connect(after);
                    self.begin(async move { News::Connected(dialled.await) });
                }
                Output::Prepare { manifest, extent } => {
                    let opened = errands.prepare(manifest, extent);
                    self.begin(async move { News::Prepared(opened.await) });
                }
                Output::Extent { link, seen } => {
                    let grown = errands.extent(seen, held)?;
                    self.begin(async move { News::Extent { link, result: grown.await } });
                }
                Output::Fetch { index, chunking, link } => {
                    let fetched = errands.fetch(index, chunking, held)?;
                    self.fetching += 1;
                    self.begin(async move { News::Chunk { index, link, result: fetched.await } });
                }
                Output::Check { index, chunking, digest } => {
                    let checked = errands.check(index, chunking, digest)?;
                    self.begin(async move { News::Checked { index, result: checked.await } });
                }
                Output::Sync => {
                    let synced = errands.sync()?;
                    self.begin(async move { News::Synced(synced.await) });
                }
                Output::Seal { link } => {
                    let sealed = errands.seal()?;
                    self.begin(async move { News::Sealed { link, result: sealed.await } });
                }
                Output::Finish { bytes } => {
                    let finished = errands.finish(bytes)?;
                    self.begin(async move { News::Finished(finished.await) });
                }
            }
        }
    }

    /// Hands news to the receiver.
    fn tell(&mut self, news: Result<News, tokio::task::JoinError>) -> Result<(), Fault> {
        let broken = |error| Fault::new(FaultKind::Internal, "a part of the transfer broke off").because(error);
        let now = self.began.elapsed();
        if matches!(news, Ok(News::Chunk { .. })) {
            self.fetching = self.fetching.saturating_sub(1);
        }
        let run = &self.errands.order.run;
        let told = match news.map_err(broken)? {
            News::Connected(Ok((lanes, manifest, extent))) => {
                self.errands.lanes = Some(lanes);
                self.receiver.handle_connected(now, manifest, extent)
            }
            News::Connected(Err(trouble)) => {
                debug!(%run, ?trouble, "no connection");
                self.receiver.handle_connect_failed(trouble)
            }
            News::Prepared(Ok(Opened { store, held, wire_bytes, room_bytes })) => {
                self.bytes_wire += wire_bytes;
                self.errands.store = Some(Arc::new(store));
                self.receiver.handle_prepared(held, room_bytes)
            }
            News::Extent { link, result: Ok(extent) } => self.receiver.handle_extent(link, extent),
            News::Extent { link, result: Err(trouble) } => self.receiver.handle_extent_failed(link, trouble),
            News::Chunk { index, result: Ok(arrived), .. } => {
                self.bytes_wire += arrived.wire_bytes;
                self.receiver.handle_written(now, index, arrived.sums)
            }
            News::Chunk { index, link, result: Err(trouble) } => {
                debug!(%run, chunk = index.0, ?trouble, "chunk did not come");
                self.receiver.handle_chunk_failed(index, link, trouble)
            }
            News::Checked { index, result: Ok(found) } => {
                if found.is_none() {
                    tracing::warn!(%run, chunk = index.0, "chunk is not what was recorded, and is fetched again");
                }
                self.receiver.handle_checked(index, found)
            }
            News::Synced(Ok(())) => self.receiver.handle_synced(),
            News::Sealed { link, result: Ok(Seal::Reading { bytes_done }) } => {
                self.receiver.handle_sealing(now, link, bytes_done)
            }
            News::Sealed { result: Ok(Seal::Done(digest, packing)), .. } => {
                self.receiver.handle_sealed(digest, packing)
            }
            News::Sealed { link, result: Err(trouble) } => self.receiver.handle_seal_failed(link, trouble),
            News::Finished(Ok(tail)) => self.receiver.handle_finished(&tail),
            News::Prepared(Err(fault))
            | News::Checked { result: Err(fault), .. }
            | News::Synced(Err(fault))
            | News::Finished(Err(fault)) => {
                self.receiver.handle_store_failed(fault);
                Ok(())
            }
        };
        told.map_err(|error: ReceiveError| Fault::new(FaultKind::Internal, error))
    }

    fn supply(&self, verified: bool) {
        let now = Supply { held_bytes: self.receiver.held_prefix_bytes(), verified };
        if let Some(supply) = &self.errands.order.supply {
            supply.send_if_modified(|known| std::mem::replace(known, now) != now);
        }
    }

    /// Looks at what is under way, now and then.
    fn look(&mut self) {
        let arrived = self.errands.lanes.as_ref().map_or(0, Lanes::arrived);
        if std::mem::replace(&mut self.arrived, arrived) != arrived {
            self.receiver.handle_arriving(self.began.elapsed());
        }
        self.report();
    }

    fn report(&self) {
        let extent = self.receiver.extent();
        let doing = if self.errands.lanes.is_some() { "transferring" } else { "connecting" };
        self.progress.report(Progress {
            doing: doing.into(),
            bytes_done: self.receiver.bytes_done(),
            bytes_total: extent.whole.then_some(extent.bytes),
            bytes_wire: self.bytes_wire,
            ready: false,
        });
    }
}

async fn pause(began: Instant, until: Option<Duration>) {
    match until {
        Some(until) => tokio::time::sleep_until(began + until).await,
        None => std::future::pending().await,
    }
}
