//! The target's process: the receiver, and what it has asked for and was not answered. It does what `pull` does.

use std::collections::BTreeMap;
use std::time::Duration;

use baton_proto::chunk::ChunkIndex;
use baton_proto::digest::ChunkDigest;

use super::disk::Begun;
use super::network::Conn;
use crate::transfer::receiver::{LinkNumber, Receiver};

/// A chunk that was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fetch {
    pub(super) conn: Conn,
    pub(super) link: LinkNumber,
    /// It has come, and is checked and written: a lost link does not matter any more.
    pub(super) is_here: bool,
}

/// A process that pulls.
#[derive(Debug, Default)]
pub(super) struct Process {
    pub(super) receiver: Receiver,
    pub(super) began: Duration,
    /// The session whose connections are used.
    pub(super) session: u64,
    pub(super) link: LinkNumber,
    turn: u8,
    /// The session that is being dialled.
    pub(super) dialling: Option<u64>,
    pub(super) fetches: BTreeMap<ChunkIndex, Fetch>,
    pub(super) checks: BTreeMap<ChunkIndex, ChunkDigest>,
    pub(super) extent: Option<(u64, LinkNumber)>,
    /// The session whose answer to that has come, and is not told yet.
    pub(super) heard: Option<u64>,
    pub(super) seal: Option<(u64, LinkNumber)>,
    pub(super) sync: Option<Begun>,
    pub(super) disk_free_at: Duration,
}

impl Process {
    pub(super) fn begin(now: Duration, session: u64) -> Process {
        Process { began: now, session, ..Process::default() }
    }

    /// The connection whose turn it is.
    pub(super) fn lane(&mut self, lanes: u8) -> Conn {
        self.turn = (self.turn + 1) % lanes;
        Conn { session: self.session, lane: self.turn }
    }

    /// The receiver's time.
    pub(super) fn elapsed(&self, now: Duration) -> Duration {
        now.saturating_sub(self.began)
    }

    /// Chunks that wait on connections that are lost.
    pub(super) fn lost(&self, is_lost: impl Fn(Conn) -> bool) -> Vec<ChunkIndex> {
        let lost = self.fetches.iter().filter(|(_, fetch)| !fetch.is_here && is_lost(fetch.conn));
        lost.map(|(index, _)| *index).collect()
    }
}
