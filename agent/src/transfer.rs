//! Moving a snapshot from the agent that pinned it to the agent that needs it. The target pulls; the source serves nobody
//! without a ticket.
//!
//! ```text
//!   source                                        target
//!   offers ── tickets (pure)                     pull ── receiver (pure: what to do next)
//!      └───── packing (pure) ═══ chunks, QUIC ══>  ├──── packing (pure: unpack and check)
//!                                                  └──── store ── map (pure: what is held)
//! ```
//!
//! A chunk counts as held when its bytes and then its record in the map are synced; a pull that is broken off anywhere
//! goes on from what the map says, and what the map says is checked against the file before the pull is done.
//! Left out: naming files and putting the snapshot in its place, which the actions do.

pub mod map;
pub mod packing;
pub mod receiver;
pub mod tickets;

mod bench;
mod growth;
mod offers;
mod pull;
mod store;

#[cfg(test)]
mod loopback;

/// A snapshot whose length is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Whole {
    pub snapshot: baton_proto::data::SnapshotId,
    pub bytes: u64,
    pub format: baton_proto::version::RdbFormat,
}

pub use growth::{Grower, Growth};
pub use offers::Offers;
pub use pull::{PullOrder, pull};
