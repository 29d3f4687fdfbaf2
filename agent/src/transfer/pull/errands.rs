//! What the receiver wants done, one function each: of the source over the network, and of the store.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use baton_proto::chunk::{CHUNK_BYTES, ChunkIndex, Chunking};
use baton_proto::control::{Reply, Request};
use baton_proto::data::{Extent, Manifest, PackingFacts, Ticket};
use baton_proto::digest::{ChunkDigest, FileDigest};
use baton_proto::rdb::Checksum;
use baton_proto::{Fault, FaultKind};
use baton_wire::{Dialer, Link};

use super::PullOrder;
use crate::blocking::try_blocking;
use crate::transfer::buffers::Buffers;
use crate::transfer::packing::Unpacker;
use crate::transfer::receiver::{CHECKING_MAX, ChunkSums, Trouble};
use crate::transfer::store::{Opened, Store};
use crate::transfer::workers::Workers;

/// Most chunks unpacked and written at a time.
const UNPACKING_MAX: usize = 4;

/// A chunk that was checked and written.
pub(super) struct Arrived {
    pub(super) sums: ChunkSums,
    pub(super) wire_bytes: u64,
}

/// How far the source is with its digest of the whole file.
pub(super) enum Seal {
    Reading { bytes_done: u64 },
    Done(FileDigest, PackingFacts),
}

/// The connections of one attempt, used in turn.
#[derive(Clone)]
pub(super) struct Lanes {
    links: Arc<Vec<Link>>,
    turn: Arc<AtomicUsize>,
    /// Bytes of chunks that have come on them.
    arrived: Arc<AtomicU64>,
}

impl Lanes {
    fn next(&self) -> Result<Link, Fault> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let link = self.links.get(turn % self.links.len().max(1)).cloned();
        link.ok_or_else(|| Fault::new(FaultKind::Internal, "there is no connection"))
    }

    pub(super) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    fn close(&self) {
        self.links.iter().for_each(Link::close);
    }
}

pub(super) struct Errands {
    pub(super) order: Arc<PullOrder>,
    pub(super) lanes: Option<Lanes>,
    pub(super) store: Option<Arc<Store>>,
    dialer: Dialer,
    unpackers: Arc<Workers<Unpacker>>,
    buffers: Buffers,
}

impl Errands {
    pub(super) fn new(dialer: Dialer, order: PullOrder) -> std::io::Result<Errands> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let unpackers = Workers::start("unpack", cores.clamp(CHECKING_MAX, UNPACKING_MAX))?;
        let (order, unpackers) = (Arc::new(order), Arc::new(unpackers));
        Ok(Errands { order, lanes: None, store: None, dialer, unpackers, buffers: Buffers::default() })
    }

    pub(super) fn hang_up(&mut self) {
        if let Some(lanes) = self.lanes.take() {
            lanes.close();
        }
    }

    fn lanes(&self) -> Result<&Lanes, Fault> {
        let missing = || Fault::new(FaultKind::Internal, "something was asked for without a connection");
        self.lanes.as_ref().ok_or_else(missing)
    }

    fn link(&self) -> Result<Link, Fault> {
        self.lanes()?.next()
    }

    fn store(&self) -> Result<Arc<Store>, Fault> {
        self.store.clone().ok_or_else(|| Fault::new(FaultKind::Internal, "a chunk was wanted without a file"))
    }

    fn ticket(&self) -> Ticket {
        self.order.ticket.clone()
    }

    /// Dials after a pause, and opens the snapshot on every lane. Its format is looked at here, before a byte of it is
    /// asked for.
    pub(super) fn connect(
        &mut self,
        after: Duration,
    ) -> impl Future<Output = Result<(Lanes, Manifest, Extent), Trouble>> + use<> {
        // What still waits on the old ones learns so that it was lost.
        self.hang_up();
        let (dialer, order) = (self.dialer.clone(), Arc::clone(&self.order));
        async move {
            tokio::time::sleep(after).await;
            open_all(&dialer, &order).await.map_err(trouble)
        }
    }

    pub(super) fn prepare(
        &self,
        manifest: Manifest,
        extent: Extent,
    ) -> impl Future<Output = Result<Opened, Fault>> + use<> {
        let order = Arc::clone(&self.order);
        try_blocking(move || Store::open(&order.place, &manifest.snapshot, extent))
    }

    pub(super) fn extent(
        &self,
        seen: u64,
        held: u32,
    ) -> Result<impl Future<Output = Result<Extent, Trouble>> + use<>, Fault> {
        let (link, ticket) = (self.link()?, self.ticket());
        Ok(async move {
            match link.ask(&Request::Extent { ticket, seen, held }).await {
                Ok(Reply::Extent(extent)) => Ok(extent),
                Ok(_) => Err(trouble(astray())),
                Err(fault) => Err(trouble(fault)),
            }
        })
    }

    /// Asks for a chunk, checks it, and writes it to its place.
    pub(super) fn fetch(
        &self,
        index: ChunkIndex,
        chunking: Chunking,
        held: u32,
    ) -> Result<impl Future<Output = Result<Arrived, Trouble>> + use<>, Fault> {
        let (link, store, ticket) = (self.link()?, self.store()?, self.ticket());
        let arrived = Arc::clone(&self.lanes()?.arrived);
        let (unpackers, buffers) = (Arc::clone(&self.unpackers), self.buffers.clone());
        Ok(async move {
            let mut wire = None;
            let count = |bytes: usize| {
                arrived.fetch_add(bytes as u64, Ordering::Relaxed);
            };
            let asked = (index.0, held);
            let head = link.chunk(&ticket, asked, |bytes| wire.insert(buffers.take(bytes)), count).await;
            let head = head.map_err(trouble)?;
            let wire = wire.unwrap_or_else(|| buffers.take(0));
            let wire_bytes = u64::from(head.wire_bytes);
            let write = move |unpacker: &mut Unpacker| {
                let mut room = buffers.take(CHUNK_BYTES as usize);
                let (span, raw) = match unpacker.unpack(&chunking, index, &head, &wire, &mut room) {
                    Ok(chunk) => chunk,
                    Err(error) => {
                        let offset = chunking.span(index).map_or(0, |span| span.offset);
                        let fault = format!("chunk {} at offset {offset} came damaged", index.0);
                        return Ok(Err(Fault::new(FaultKind::Verification, fault).because(error)));
                    }
                };
                store.write(&head, span, raw)?;
                Ok(Ok(ChunkSums { digest: head.digest, crc: Checksum::of(raw) }))
            };
            match unpackers.work(write).await {
                Ok(Ok(sums)) => Ok(Arrived { sums, wire_bytes }),
                Ok(Err(damage)) => Err(Trouble::Damage(damage)),
                Err(fault) => Err(Trouble::Final(fault)),
            }
        })
    }

    pub(super) fn check(
        &self,
        index: ChunkIndex,
        chunking: Chunking,
        digest: ChunkDigest,
    ) -> Result<impl Future<Output = Result<Option<Checksum>, Fault>> + use<>, Fault> {
        let (store, unpackers, buffers) = (self.store()?, Arc::clone(&self.unpackers), self.buffers.clone());
        Ok(async move {
            let check =
                move |_: &mut Unpacker| store.check(index, &chunking, &digest, &mut buffers.take(CHUNK_BYTES as usize));
            unpackers.work(check).await
        })
    }

    pub(super) fn sync(&self) -> Result<impl Future<Output = Result<(), Fault>> + use<>, Fault> {
        let store = self.store()?;
        Ok(try_blocking(move || store.sync()))
    }

    /// Asks for the digest of the whole file: the source may have to read what it never sent.
    pub(super) fn seal(&self) -> Result<impl Future<Output = Result<Seal, Trouble>> + use<>, Fault> {
        let (link, request) = (self.link()?, Request::Seal { ticket: self.ticket() });
        Ok(async move {
            match link.ask(&request).await {
                Ok(Reply::Sealed { digest, packing }) => Ok(Seal::Done(digest, packing)),
                Ok(Reply::Sealing { bytes_done }) => Ok(Seal::Reading { bytes_done }),
                Ok(_) => Err(trouble(astray())),
                Err(fault) => Err(trouble(fault)),
            }
        })
    }

    pub(super) fn finish(&self, bytes: u64) -> Result<impl Future<Output = Result<Vec<u8>, Fault>> + use<>, Fault> {
        let store = self.store()?;
        Ok(try_blocking(move || store.finish(bytes)))
    }
}

async fn open_all(dialer: &Dialer, order: &PullOrder) -> Result<(Lanes, Manifest, Extent), Fault> {
    let session = rand::random();
    let (first, manifest, extent) = open(dialer, order, session).await?;
    let mut links = vec![first];
    for _ in 1..order.lanes {
        let (link, ..) = open(&dialer.with_own_socket().map_err(no_socket)?, order, session).await?;
        links.push(link);
    }
    Ok((Lanes { links: Arc::new(links), turn: Arc::default(), arrived: Arc::default() }, manifest, extent))
}

async fn open(dialer: &Dialer, order: &PullOrder, session: u64) -> Result<(Link, Manifest, Extent), Fault> {
    let link = dialer.connect(&order.address, &order.from).await?;
    let request = Request::Open { ticket: order.ticket.clone(), session };
    let Reply::Opened { manifest, extent } = link.ask(&request).await? else {
        return Err(astray());
    };
    if !order.reads.reads(manifest.format) {
        let (format, reads) = (manifest.format, order.reads);
        return Err(Fault::new(FaultKind::Refused, format!("the snapshot's format {format} is too new for {reads}"))
            .because(format!("{reads} reads up to {}; no byte of the snapshot was sent", reads.writes()))
            .hint("install a server on this host that is at least as new as the one that wrote the snapshot"));
    }
    Ok((link, manifest, extent))
}

fn no_socket(error: anyhow::Error) -> Fault {
    Fault::new(FaultKind::Host, "open a socket for another lane").because(error)
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
