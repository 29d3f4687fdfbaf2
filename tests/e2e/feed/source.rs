//! A go-between before B's agent that ends, or damages, a transfer at a chunk that the test names. It holds identities of
//! both agents, and hands on all else.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use baton_proto::control::Request;
use baton_proto::data::Ticket;
use baton_proto::{Fault, FaultKind, HostName, HostPort};
use baton_tests::host::AGENT_PORT;
use baton_tests::world::B;
use baton_wire::{Credentials, Dialer, Link, Listener, Peer};
use tokio::sync::watch;

use crate::peers;

use super::Story;

/// What the go-between does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Deed {
    Nothing,
    /// Refuses chunks from this one on.
    EndAt(u32),
    /// Refuses to tell the digest of the whole.
    EndAfterLast,
    /// Flips a bit of every copy of this chunk.
    Flip(u32),
}

/// A go-between that B's agent is reached by.
#[derive(Clone)]
pub(super) struct GoBetween {
    deed: Arc<Mutex<Deed>>,
    /// Whether the time of the deed has come: until then whoever asks waits.
    due: watch::Sender<bool>,
    real: SocketAddr,
    target: Arc<Credentials>,
}

impl GoBetween {
    /// Stands in before B's agent.
    pub(super) fn before(story: &Story, deed: Deed) -> GoBetween {
        let identity = |file: &str| Credentials::load(&story.lost.world.dir().join(file)).unwrap();
        let address = SocketAddr::from((baton_tests::address::fresh(), AGENT_PORT));
        let (real, target) = (story.lost.world.b().agent_address(), Arc::new(identity("machine-c/machine-c.pem")));
        let between = GoBetween { deed: Arc::new(Mutex::new(deed)), due: watch::Sender::new(true), real, target };
        let (own, serving) = (identity("machine-b/machine-b.pem"), between.clone());
        story.lost.world.b().reach_agent_via(address);
        let bound = std::sync::mpsc::channel();
        story.runtime.spawn(async move {
            let listener = Listener::bind(&own, address, "a go-between").unwrap();
            bound.0.send(()).unwrap();
            while let Some(arrival) = listener.accept().await {
                let between = serving.clone();
                tokio::spawn(async move {
                    if let Ok(peer) = arrival.greet().await {
                        between.serve(peer).await;
                    }
                });
            }
        });
        bound.1.recv().unwrap();
        between
    }

    pub(super) fn does(&self, deed: Deed) {
        *self.deed.lock().unwrap() = deed;
    }

    /// Puts an end off, or lets it come.
    pub(super) fn is_due(&self, due: bool) {
        self.due.send_replace(due);
    }

    async fn serve(self, peer: Peer) {
        let address = HostPort::new(self.real.ip().to_string(), self.real.port());
        let dialer = Dialer::new(&self.target, "a go-between").unwrap();
        let link = dialer.dial(&address, &HostName::new(B).unwrap()).await.unwrap();
        while let Some(asking) = peer.next().await {
            let (link, deed, mut due) = (link.clone(), *self.deed.lock().unwrap(), self.due.subscribe());
            tokio::spawn(async move {
                let Some((request, responder)) = asking.read().await else { return };
                let mut over = async || {
                    due.wait_for(|due| *due).await.unwrap();
                    Fault::new(FaultKind::NotFound, "the source is lost for good")
                };
                match request {
                    Request::Chunk { ticket, index, .. } => {
                        let chunk = match deed {
                            Deed::EndAt(end) if index >= end => Err(over().await),
                            _ => chunk(&link, &ticket, index, deed).await,
                        };
                        let chunk = chunk.map(|(head, bytes)| (head, bytes.into()));
                        responder.chunk(chunk, |_| std::future::ready(())).await;
                    }
                    Request::Seal { .. } if deed == Deed::EndAfterLast => {
                        let over = over().await;
                        responder.answer(&Err(over)).await;
                    }
                    request => responder.answer(&link.ask(&request).await).await,
                }
            });
        }
    }
}

async fn chunk(
    link: &Link,
    ticket: &Ticket,
    index: u32,
    deed: Deed,
) -> Result<(baton_proto::data::FrameHead, Vec<u8>), Fault> {
    let (head, mut bytes) = peers::chunk(link, ticket, index).await?;
    if deed == Deed::Flip(index) {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    }
    Ok((head, bytes))
}
