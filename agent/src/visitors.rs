//! The connections that are open, so that one whose certificate is revoked ends at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use baton_wire::{Credentials, Peer};
use tracing::info;

/// Everybody who is connected.
#[derive(Default)]
pub struct Visitors(Mutex<Vec<Weak<Peer>>>);

impl Visitors {
    fn all(&self) -> MutexGuard<'_, Vec<Weak<Peer>>> {
        // Nothing can panic while it is held, so it is whole even if poisoned.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One more. Those who have left are forgotten: there are never more than connections and one.
    pub fn enter(&self, peer: &Arc<Peer>) {
        let mut all = self.all();
        all.retain(|peer| peer.strong_count() > 0);
        all.push(Arc::downgrade(peer));
    }

    /// Ends the connections of those who are not believed any more.
    pub fn turn_out(&self, credentials: &Credentials) {
        for peer in self.all().iter().filter_map(Weak::upgrade) {
            if credentials.is_revoked(&peer.facts().serial) {
                info!(peer = %peer.address(), role = %peer.role(), "its certificate is revoked");
                peer.hang_up("your certificate is revoked");
            }
        }
    }
}
