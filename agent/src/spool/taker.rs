//! The target's side: asks for one piece after the other, over as many connections as that takes.

use std::time::Duration;

use baton_proto::data::Ticket;
use baton_proto::{Fault, FaultKind, HostName, HostPort};
use baton_wire::{Dialer, Link};
use tokio::time::{Instant, sleep};
use tracing::info;

use super::piece::unpack;
use crate::blocking::try_blocking;
use crate::transfer::PullOrder;
use crate::transfer::packing::Unpacker;

/// How long a source may be out of reach.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// Takes a run's spool.
pub(crate) struct Taker {
    dialer: Dialer,
    from: HostName,
    address: HostPort,
    ticket: Ticket,
    link: Option<Link>,
    unpacker: Option<Unpacker>,
}

/// A piece that was checked.
pub(crate) struct Piece {
    pub(crate) bytes: Vec<u8>,
    pub(crate) wire_bytes: u64,
}

impl Taker {
    /// Takes it from where a snapshot was ordered from.
    pub(crate) fn of(dialer: Dialer, order: &PullOrder) -> Taker {
        let PullOrder { from, address, ticket, .. } = order.clone();
        Taker { dialer, from, address, ticket, link: None, unpacker: None }
    }

    /// The piece behind an offset; it is empty if nothing was written for a moment.
    pub(crate) async fn next(&mut self, at: u64) -> Result<Piece, Fault> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let fault = match self.ask(at).await {
                Ok(piece) => return Ok(piece),
                Err(fault) => fault,
            };
            if !matches!(fault.kind, FaultKind::Peer | FaultKind::Verification) || Instant::now() >= deadline {
                return Err(fault);
            }
            self.link = None;
            info!(from = %self.from, at, "a piece of the spool did not come, and is asked for again: {fault}");
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn ask(&mut self, at: u64) -> Result<Piece, Fault> {
        let link = match &self.link {
            Some(link) => link.clone(),
            None => self.link.insert(self.dialer.dial(&self.address, &self.from).await?).clone(),
        };
        let mut wire = Vec::new();
        let head = link.spooled(&self.ticket, at, |bytes| {
            wire.resize(bytes, 0);
            &mut wire[..]
        });
        let head = head.await?;
        let mut unpacker = self.unpacker.take().unwrap_or_default();
        let (came, unpacker) = try_blocking(move || {
            let came = unpack(&mut unpacker, &head, &wire);
            Ok((came, unpacker))
        })
        .await?;
        self.unpacker = Some(unpacker);
        let damaged = |error| Fault::new(FaultKind::Verification, "a piece of the spool came damaged").because(error);
        Ok(Piece { bytes: came.map_err(damaged)?, wire_bytes: head.wire_bytes.into() })
    }
}
