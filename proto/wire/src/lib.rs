//! How Baton's messages are carried: QUIC with mutual TLS 1.3, one request on one stream.
//!
//! ```text
//!   Dialer::dial ─── TLS: both certificates of one private CA ───> Listener::accept, Arrival::greet
//!        │       ─── first stream: Hello, answered in words ───>        │
//!        ▼                                                              ▼
//!      Link::ask ──────────────── a stream a request ─────────────> Peer::next ──> Responder::answer
//! ```
//!
//! Who may ask what is not decided here: a [`Peer`] tells its role, and the agent decides.

mod congestion;
mod greeting;
mod identity;
mod knock;
mod link;
mod listener;
mod seal;
mod socket;
mod tls;
mod tongue;
mod trust;
mod verifier;
mod words;

pub use congestion::Pace;
pub use identity::{Facts, Identity, IdentityError, Role};
pub use link::{DialError, Dialer, Link};
pub use listener::{Arrival, Asking, Listener, Peer, Responder};
pub use seal::Seal;
pub use trust::{Credentials, REVOCATIONS_BYTES_MAX, TrustError};
pub use verifier::{BelievesClients, BelievesServers, Shown, Verifier};
