//! The agent as the primary of a server of its own host, for as long as a snapshot arrives.
//!
//! ```text
//!   transfer ──held prefix──> stream ══ part file, by sendfile ══> the server
//!                               ↑
//!   listener ──visits──> handshake ── requests                  (both pure)
//! ```
//!
//! The server asks for a full resync, as of any primary, and gets the snapshot under the snapshot's own lineage: chunks in
//! order, each only after it was verified, from the page cache of the file that they were just written to. The mark that
//! ends the stream is drawn by lot and sent only after the whole file was verified: what is cut off or damaged on its
//! way can never complete a load. Afterwards the link is kept alive by bare newlines, which do not count in its offset; or
//! what was written at the source since comes on it, from a spool ([`crate::spool`]).
//!
//! Left out: what is done to the server before and after ([`crate::actions`]), and the bytes' way here
//! ([`crate::transfer`]).

pub mod handshake;
pub mod requests;

mod catch_up;
mod listener;
mod stream;
#[cfg(test)]
mod tests;

pub(crate) use catch_up::{CatchingUp, catch_up};
pub(crate) use listener::Listener;
pub(crate) use stream::{Fed, FeedError, Kept, Signs, feed};

/// Hexadecimal digits that are drawn by lot: a secret, a mark, or an id.
pub(crate) fn drawn<const BYTES: usize>() -> String
where
    rand::distr::StandardUniform: rand::distr::Distribution<[u8; BYTES]>,
{
    rand::random::<[u8; BYTES]>().iter().map(|byte| format!("{byte:02x}")).collect()
}
