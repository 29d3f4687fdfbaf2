//! What can go wrong with a pull, and what follows: another link, or its end.

use baton_proto::Fault;
use baton_proto::chunk::{ChunkError, ChunkIndex};

use super::{LinkNumber, Receiver, Stage};

/// Why something asked of the source did not work out.
#[derive(Debug, Clone, PartialEq)]
pub enum Trouble {
    /// The link broke, or could not be made. Another may do better.
    Link(Fault),
    /// What came is not what was asked for. It may come whole the next time.
    Damage(Fault),
    /// Asking again would change nothing.
    Final(Fault),
}

/// An input that does not fit. Those about chunks can be a lying peer's; the others are a defect of the caller.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    #[error(transparent)]
    PastEnd(#[from] ChunkError),
    #[error("chunk {} came, which was not asked for", .0.0)]
    Unasked(ChunkIndex),
    #[error("chunk {} came a second time", .0.0)]
    Duplicate(ChunkIndex),
    #[error("the snapshot shrank from {from} bytes to {to}")]
    Shrunk { from: u64, to: u64 },
    #[error("{input} came while the transfer was {stage} and the link {link}")]
    Unexpected { input: &'static str, stage: &'static str, link: &'static str },
}

impl Receiver {
    /// What befell a link. Chunks of the old link come home by themselves, each with the same news.
    pub(super) fn trouble(&mut self, link: LinkNumber, trouble: Trouble) {
        match trouble {
            Trouble::Final(fault) | Trouble::Damage(fault) => self.fail(fault),
            Trouble::Link(fault) => {
                if let Err(fault) = self.line.broke(link, fault) {
                    self.fail(fault);
                }
            }
        }
    }

    /// Gives up. The first reason is the one that is told.
    pub(super) fn fail(&mut self, fault: Fault) {
        if !self.stage.is_over() {
            self.stage = Stage::Failing(fault);
        }
    }

    pub(super) fn unexpected(&self, input: &'static str) -> ReceiveError {
        ReceiveError::Unexpected { input, stage: self.stage.name(), link: self.line.name() }
    }
}
