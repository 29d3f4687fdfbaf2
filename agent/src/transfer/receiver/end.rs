//! The end of a pull: the digest of the whole file, and the end of what was read back.

use std::time::Duration;

use baton_proto::data::PackingFacts;
use baton_proto::digest::FileDigest;
use baton_proto::rdb::{RdbError, check_end};
use baton_proto::{Fault, FaultKind};

use super::{LinkNumber, ReceiveError, Received, Receiver, STALL, Stage, Trouble};

impl Receiver {
    /// Takes notice that the source still reads what it never sent, and how far it is.
    pub fn handle_sealing(&mut self, now: Duration, link: LinkNumber, bytes_done: u64) -> Result<(), ReceiveError> {
        let done = match self.stage {
            Stage::Sealing { asked: true, done } => done,
            _ if self.stage.is_over() => return Ok(()),
            _ => return Err(self.unexpected("a seal under way")),
        };
        let same_link = link == self.line.number();
        let goes_on = same_link && bytes_done > done;
        self.stage = Stage::Sealing { asked: false, done: if goes_on { bytes_done } else { done } };
        if goes_on {
            self.moved_at = now;
            self.line.works();
        } else if same_link && now >= self.moved_at + STALL {
            let silence = format!("the source's digest of the file did not go on for {} s", STALL.as_secs());
            self.trouble(link, Trouble::Link(Fault::new(FaultKind::Peer, silence)));
        }
        Ok(())
    }

    /// Takes the source's digest of the whole file.
    pub fn handle_sealed(&mut self, sealed: FileDigest, packing: PackingFacts) -> Result<(), ReceiveError> {
        match self.stage {
            Stage::Sealing { asked: true, .. } => {}
            _ if self.stage.is_over() => return Ok(()),
            _ => return Err(self.unexpected("a seal")),
        }
        let (digest, crc) = self.chunks.sums();
        if digest == sealed {
            let received = Received { bytes: self.extent.bytes, digest, packing };
            self.stage = Stage::Finishing { received, crc, asked: false };
        } else if !self.afresh && self.chunks.claimed() > 0 {
            // Each chunk has the digest that was recorded for it, so a record is wrong.
            self.afresh = true;
            self.chunks.drop_claimed();
            self.stage = Stage::Fetching;
        } else {
            self.fail(
                Fault::new(FaultKind::Verification, "the file differs from what the source has sent")
                    .because(format!("its BLAKE3 is {digest}, the source says {sealed}")),
            );
        }
        Ok(())
    }

    pub fn handle_seal_failed(&mut self, link: LinkNumber, trouble: Trouble) -> Result<(), ReceiveError> {
        match self.stage {
            Stage::Sealing { asked: true, done } => self.stage = Stage::Sealing { asked: false, done },
            _ if self.stage.is_over() => return Ok(()),
            _ => return Err(self.unexpected("a failed seal")),
        }
        self.trouble(link, trouble);
        Ok(())
    }

    /// Takes the end of the file, as it was read back after the last sync.
    pub fn handle_finished(&mut self, tail: &[u8]) -> Result<(), ReceiveError> {
        match std::mem::replace(&mut self.stage, Stage::Ended) {
            Stage::Finishing { received, crc, asked: true } => {
                self.stage = match check_end(tail, crc) {
                    Ok(()) => Stage::Passed(received),
                    Err(error) => Stage::Failing(damaged_at_source(error)),
                };
                Ok(())
            }
            other => {
                self.stage = other;
                if self.stage.is_over() { Ok(()) } else { Err(self.unexpected("an end")) }
            }
        }
    }
}

fn damaged_at_source(error: RdbError) -> Fault {
    Fault::new(FaultKind::Verification, "the snapshot was damaged on the source after it was written")
        .because(error)
        .hint("take a new snapshot: run it again with `--snapshot save` or `--snapshot bgsave`")
}
