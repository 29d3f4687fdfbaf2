//! The source's host: a save that grows, fails or is done, and an agent that offers it. It does what `offers` does.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use baton_proto::chunk::{CHUNK_BYTES, ChunkIndex, Chunking};
use baton_proto::control::WATCH_MS;
use baton_proto::data::Extent;
use baton_proto::{Fault, FaultKind};

use super::network::Conn;
use super::plan::Plan;
use crate::transfer::sender::levels::Packed;
use crate::transfer::sender::{Job, Sender};

/// A snapshot that is written, or was.
#[derive(Debug, Clone)]
pub(super) struct Save {
    /// Tells one save from the next.
    pub(super) number: u32,
    began: Duration,
    rate: f64,
    bytes: u64,
    fails_after: Option<u64>,
}

impl Save {
    pub(super) fn begin(plan: &Plan, number: u32, began: Duration) -> Save {
        let fails_after = plan.failing_saves.get(number as usize).copied();
        Save { number, began, rate: plan.save.unwrap_or(f64::INFINITY), bytes: plan.bytes, fails_after }
    }

    fn after(&self, bytes: u64) -> Duration {
        self.began + Duration::from_secs_f64(bytes as f64 / self.rate)
    }

    pub(super) fn ends_at(&self) -> Duration {
        // The last bytes are there a moment before the server says that they are the last.
        self.after(self.fails_after.unwrap_or(self.bytes)) + Duration::from_millis(20)
    }

    pub(super) fn extent(&self, now: Duration) -> Result<Extent, Fault> {
        if now < self.ends_at() {
            let written = ((now.saturating_sub(self.began)).as_secs_f64() * self.rate) as u64;
            return Ok(Extent { bytes: written.min(self.fails_after.unwrap_or(self.bytes)), whole: false });
        }
        match self.fails_after {
            Some(_) => Err(Fault::new(FaultKind::Server, "the save failed")),
            None => Ok(Extent { bytes: self.bytes, whole: true }),
        }
    }

    /// When a question after news is answered.
    pub(super) fn answers_at(&self, now: Duration, seen: u64) -> Duration {
        let grown = self.after(seen + CHUNK_BYTES) + Duration::from_millis(1);
        grown.min(self.ends_at()).min(now + Duration::from_millis(WATCH_MS)).max(now)
    }
}

/// What is on its way.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flying {
    pub(super) conn: Conn,
    pub(super) wire_bytes: u32,
}

#[derive(Debug)]
pub(super) struct Offer {
    pub(super) save: u32,
    pub(super) sender: Sender,
    waiting: BTreeMap<ChunkIndex, Conn>,
    session: Option<u64>,
    /// Connections that are known to have ended.
    gone: BTreeSet<Conn>,
    flying: BTreeMap<u64, Flying>,
    sent: u64,
}

impl Offer {
    pub(super) fn new(save: u32, workers: usize) -> Offer {
        let (waiting, gone, flying) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new());
        Offer { save, sender: Sender::new(workers), waiting, session: None, gone, flying, sent: 0 }
    }

    /// Lets a session ask, and cuts older ones. Yields the bytes that are given up.
    pub(super) fn admit(&mut self, session: u64) -> Vec<u32> {
        self.session = Some(session);
        self.drop_flying(|conn| conn.session != session)
    }

    pub(super) fn is_admitted(&self, conn: Conn) -> bool {
        self.session == Some(conn.session)
    }

    /// Takes notice that a connection has ended. Yields the bytes that are given up.
    pub(super) fn end(&mut self, ended: Conn) -> Vec<u32> {
        self.gone.insert(ended);
        self.drop_flying(|conn| conn == ended)
    }

    fn drop_flying(&mut self, of: impl Fn(Conn) -> bool) -> Vec<u32> {
        let dropped: Vec<_> = self.flying.extract_if(.., |_, flying| of(flying.conn)).collect();
        dropped.iter().for_each(|(_, flying)| self.sender.handle_given_up(flying.wire_bytes));
        dropped.iter().map(|(_, flying)| flying.wire_bytes).collect()
    }

    pub(super) fn ask(&mut self, conn: Conn, index: ChunkIndex, path: (u64, f64)) {
        self.waiting.insert(index, conn);
        self.sender.handle_path(path.0, path.1, false);
        self.sender.handle_asked(index);
    }

    /// Takes a packed chunk, and yields what leaves. What nobody waits for is given up at once.
    pub(super) fn packed(&mut self, job: Job, facts: Packed) -> Option<(u64, Flying)> {
        self.sender.handle_packed(Some(facts));
        let conn = self.waiting.remove(&job.index).filter(|conn| self.is_admitted(*conn) && !self.gone.contains(conn));
        let Some(conn) = conn else {
            self.sender.handle_given_up(facts.wire_bytes);
            return None;
        };
        self.sent += 1;
        let flying = Flying { conn, wire_bytes: facts.wire_bytes };
        self.flying.insert(self.sent, flying);
        Some((self.sent, flying))
    }

    /// Takes notice of an arrival, if it was not given up before.
    pub(super) fn delivered(&mut self, now: Duration, number: u64) -> Option<u32> {
        let flying = self.flying.remove(&number)?;
        self.sender.handle_delivered(now, flying.wire_bytes);
        Some(flying.wire_bytes)
    }

    /// Any question that waits.
    pub(super) fn waiting(&self, pick: u8) -> Option<ChunkIndex> {
        self.waiting.keys().nth(usize::from(pick) % self.waiting.len().max(1)).copied()
    }
}

/// Bytes of a chunk that could be had when it was asked for.
pub(super) fn raw_bytes(extent: Extent, index: ChunkIndex) -> Option<u32> {
    Chunking::of(extent).ok()?.span(index).ok().map(|span| span.bytes)
}
