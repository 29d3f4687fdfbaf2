//! How the operator, the terminal or the system says that the command is to end.
//!
//! Once a process listens, it is ended by none of these by itself any more. So a command that begins a run listens from its
//! first look at the hosts to its end: until the run exists it is left at once, then [`crate::drive`] finds a safe point.

use std::future::Future;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::drive::Interrupts;
use crate::error::{CoordError, Exit};

/// What the operator, the terminal or the system sends when the command is to end.
pub(super) struct Signals([Option<Signal>; 3]);

impl Signals {
    pub(super) fn listen() -> Signals {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Signals(kinds.map(|kind| signal(kind).ok()))
    }

    /// Does what changes nothing yet, and leaves it at once when the command is to end.
    pub(super) async fn unless<T>(
        &mut self,
        work: impl Future<Output = Result<T, CoordError>>,
    ) -> Result<T, CoordError> {
        tokio::select! {
            result = work => result,
            () = self.next() => Err(CoordError::new(Exit::Interrupted, "interrupted, nothing was changed")),
        }
    }
}

impl Interrupts for Signals {
    async fn next(&mut self) {
        let [interrupt, terminate, hangup] = &mut self.0;
        tokio::select! {
            () = caught(interrupt) => {}
            () = caught(terminate) => {}
            () = caught(hangup) => {}
        }
    }
}

async fn caught(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}
