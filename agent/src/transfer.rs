//! Moving a snapshot from the agent that pinned it to the agent that needs it. The target pulls; the source serves nobody
//! without a ticket.
//!
//! ```text
//!   source                                        target
//!   offers ── tickets (pure: who may)            pull ── receiver (pure: what to do next)
//!      ├───── sender (pure: what, and how packed)  │
//!      └───── packing (pure) ═══ chunks, QUIC ══>  ├──── packing (pure: unpack and check)
//!                                                  └──── store ── map (pure: what is claimed)
//! ```
//!
//! A chunk is checked when it arrives, then written and recorded. A pull that is broken off anywhere goes on from what the
//! map claims, which is read back and compared before it is believed. The source may still be writing the snapshot: its
//! `growth` tells how far that is.
//! A pull tells how much is here without a gap, for whoever loads it meanwhile.
//! Left out: naming files and putting the snapshot in its place, which the actions do.

pub mod map;
pub mod packing;
pub mod plain;
pub mod receiver;
pub mod sender;
pub mod throttle;
pub mod tickets;

mod buffers;
#[cfg(test)]
mod dice;
mod growth;
#[cfg(test)]
mod material;
mod offers;
mod pieces;
mod pull;
mod store;
mod supply;
mod window;
mod workers;

#[cfg(test)]
mod loopback;
#[cfg(test)]
mod pair_tests;

pub use growth::{Grower, Growth};
pub use offers::Offers;
pub use pull::{PullOrder, pull};
pub use store::Place;
pub use supply::Supply;
pub use window::Window;
