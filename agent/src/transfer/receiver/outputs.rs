//! What the receiver wants done next.

use std::time::Duration;

use baton_proto::Fault;
use baton_proto::chunk::{ChunkIndex, Chunking};
use baton_proto::data::{Extent, Manifest, PackingFacts};
use baton_proto::digest::{ChunkDigest, FileDigest};

use super::line::{LinkNumber, State};
use super::{CHECKING_MAX, Receiver, STALL, SYNC_AFTER, SYNC_CHUNKS, Stage};

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Drop the link that there is, dial after a pause, and open the snapshot.
    Connect {
        after: Duration,
        link: LinkNumber,
    },
    /// Open the store for the snapshot; tell what it claims to hold, and for how much there is room.
    Prepare {
        manifest: Manifest,
        extent: Extent,
    },
    /// Ask the source for news once the snapshot has grown beyond what was seen.
    Extent {
        link: LinkNumber,
        seen: u64,
    },
    /// Ask for a chunk on this link, check it, and write it.
    Fetch {
        index: ChunkIndex,
        chunking: Chunking,
        link: LinkNumber,
    },
    /// Read a chunk back, and compare.
    Check {
        index: ChunkIndex,
        chunking: Chunking,
        digest: ChunkDigest,
    },
    /// Sync what was written.
    Sync,
    /// Ask for the digest of the whole file, or how far it is.
    Seal {
        link: LinkNumber,
    },
    /// Give the file its length, sync it, and read its end.
    Finish {
        bytes: u64,
    },
    Done(Received),
    Fail(Fault),
    /// Nothing until the next input, or until this time.
    Wait {
        until: Option<Duration>,
    },
}

/// A snapshot that is here.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    pub bytes: u64,
    pub digest: FileDigest,
    pub packing: PackingFacts,
}

impl Receiver {
    /// Tells what to do next. Asked until it says to wait.
    pub fn poll_output(&mut self, now: Duration) -> Output {
        if let Some(output) = self.poll_sync(now) {
            return output;
        }
        if let Some(output) = self.poll_end() {
            return output;
        }
        if matches!(self.stage, Stage::Fetching) && self.chunks.all_held() {
            self.stage = Stage::Sealing { asked: false, done: 0 };
            self.moved_at = now;
        }
        if self.wants_link()
            && let Some((after, link)) = self.line.dial()
        {
            return Output::Connect { after, link };
        }
        self.poll_stage(now).unwrap_or_else(|| Output::Wait { until: self.deadline() })
    }

    fn poll_stage(&mut self, now: Duration) -> Option<Output> {
        let (link, is_up) = (self.line.number(), self.line.is(State::Up));
        if let Stage::Preparing { asked: asked @ false } = &mut self.stage {
            *asked = true;
            let extent = self.extent;
            return self.manifest.clone().map(|manifest| Output::Prepare { manifest, extent });
        }
        match &mut self.stage {
            Stage::Fetching => self.poll_fetching(now),
            Stage::Sealing { asked, .. } if is_up && !*asked => {
                *asked = true;
                Some(Output::Seal { link })
            }
            Stage::Finishing { asked, received, .. } if !*asked => {
                *asked = true;
                Some(Output::Finish { bytes: received.bytes })
            }
            _ => None,
        }
    }

    fn poll_fetching(&mut self, now: Duration) -> Option<Output> {
        let chunking = *self.chunks.chunking();
        if self.line.is(State::Up) {
            let link = self.line.number();
            if !chunking.is_whole() && !self.extent_asked {
                self.extent_asked = true;
                return Some(Output::Extent { link, seen: chunking.bytes() });
            }
            if self.chunks.asked() < self.window {
                if self.chunks.asked() == 0 {
                    // Silence counts from the question on.
                    self.moved_at = now;
                }
                if let Some(index) = self.chunks.ask() {
                    return Some(Output::Fetch { index, chunking, link });
                }
            }
        }
        if self.chunks.checking() < CHECKING_MAX {
            let (index, digest) = self.chunks.check()?;
            return Some(Output::Check { index, chunking, digest });
        }
        None
    }

    fn poll_sync(&mut self, now: Duration) -> Option<Output> {
        if self.syncing || self.unsynced == 0 || matches!(self.stage, Stage::Ended) {
            return None;
        }
        let last = self.chunks.all_held() || matches!(self.stage, Stage::Failing(_));
        if self.unsynced >= SYNC_CHUNKS || last || now >= self.written_at + SYNC_AFTER {
            (self.syncing, self.unsynced) = (true, 0);
            return Some(Output::Sync);
        }
        None
    }

    fn poll_end(&mut self) -> Option<Output> {
        match &self.stage {
            // What has arrived is kept for the next attempt: a failure waits for the sync.
            Stage::Failing(_) if self.syncing => Some(Output::Wait { until: None }),
            Stage::Failing(fault) => {
                let fault = fault.clone();
                self.stage = Stage::Ended;
                Some(Output::Fail(fault))
            }
            Stage::Passed(received) => {
                let received = received.clone();
                self.stage = Stage::Ended;
                Some(Output::Done(received))
            }
            Stage::Ended => Some(Output::Wait { until: None }),
            _ => None,
        }
    }

    fn wants_link(&self) -> bool {
        match self.stage {
            Stage::Opening | Stage::Sealing { .. } => true,
            // What was asked for on a link that was given up comes home only when that link is dropped.
            Stage::Fetching => {
                self.chunks.missing() > 0 || self.chunks.asked() > 0 || !self.chunks.chunking().is_whole()
            }
            _ => false,
        }
    }

    pub(super) fn stall_at(&self) -> Option<Duration> {
        let waits = self.line.is(State::Up) && matches!(self.stage, Stage::Fetching) && self.chunks.asked() > 0;
        waits.then(|| self.moved_at + STALL)
    }

    fn deadline(&self) -> Option<Duration> {
        let sync_at = (self.unsynced > 0 && !self.syncing).then(|| self.written_at + SYNC_AFTER);
        sync_at.into_iter().chain(self.stall_at()).min()
    }
}
