//! How the operator, the terminal or the system says that the command is to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::drive::Interrupts;

/// What the operator, the terminal or the system sends when the command is to end.
pub(super) struct Signals([Option<Signal>; 3]);

impl Signals {
    pub(super) fn listen() -> Signals {
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        Signals(kinds.map(|kind| signal(kind).ok()))
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
