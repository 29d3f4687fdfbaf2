//! A source that can be made to misbehave: real offers and connections, and hooks that see every chunk and every extent
//! before it leaves.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use baton_proto::Fault;
use baton_proto::control::{Reply, Request};
use baton_proto::data::{Extent, FrameHead};
use baton_wire::{Credentials, Listener, Peer, Responder};
use bytes::Bytes;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::transfer::Offers;

pub(super) type Chunk = (FrameHead, Bytes);

/// What becomes of a chunk that is about to leave.
pub(super) enum Serve {
    Send(Result<Chunk, Fault>),
    /// It is held back for as long as the connection lives.
    Hold,
    /// The connection that asks for it is cut instead.
    HangUp,
    /// Every connection is cut instead.
    Cut,
}

/// Gets how many chunks were served before, the chunk's index, and the chunk.
pub(super) type OnChunk = Arc<dyn Fn(u32, u32, Result<Chunk, Fault>) -> Serve + Send + Sync>;
/// Gets how far the snapshot is, and yields what is told of it.
pub(super) type OnExtent = Arc<dyn Fn(Extent) -> Extent + Send + Sync>;

/// What a source does beside its duty.
#[derive(Clone)]
pub(super) struct Hooks {
    pub(super) chunk: OnChunk,
    pub(super) extent: OnExtent,
}

impl Default for Hooks {
    /// It behaves.
    fn default() -> Hooks {
        Hooks { chunk: Arc::new(|_, _, chunk| Serve::Send(chunk)), extent: Arc::new(|extent| extent) }
    }
}

impl Hooks {
    pub(super) fn chunk(hook: impl Fn(u32, u32, Result<Chunk, Fault>) -> Serve + Send + Sync + 'static) -> Hooks {
        Hooks { chunk: Arc::new(hook), ..Hooks::default() }
    }

    pub(super) fn extent(hook: impl Fn(Extent) -> Extent + Send + Sync + 'static) -> Hooks {
        Hooks { extent: Arc::new(hook), ..Hooks::default() }
    }
}

/// A private authority that lives as long as its test.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    pub(super) fn new() -> Authority {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Authority { issuer: Issuer::new(params, key), pem }
    }

    /// Makes the identity of a host's agent.
    pub(super) fn identity(&self, dir: &Path, host: &str) -> Credentials {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI(format!("baton://agent/{host}").try_into().unwrap()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let path = dir.join(format!("{host}.pem"));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
        std::io::Write::write_all(&mut file, (certificate + &key.serialize_pem() + &self.pem).as_bytes()).unwrap();
        Credentials::load(&path).unwrap()
    }
}

pub(super) struct Source {
    pub(super) port: u16,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

struct Shared {
    offers: Offers,
    hooks: Hooks,
    served: AtomicU32,
    /// Who has asked for chunks.
    askers: Mutex<BTreeSet<SocketAddr>>,
    /// Counts the cuts.
    cut: watch::Sender<u32>,
}

impl Source {
    pub(super) fn start(identity: Credentials, hooks: Hooks) -> Source {
        let listener = Listener::bind(&identity, ([127, 0, 0, 1], 0).into(), "test").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (served, askers, cut) = (AtomicU32::new(0), Mutex::default(), watch::Sender::new(0));
        let shared = Arc::new(Shared { offers: Offers::start().unwrap(), hooks, served, askers, cut });
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            let mut peers = JoinSet::new();
            while let Some(arrival) = listener.accept().await {
                let shared = Arc::clone(&serving);
                peers.spawn(async move {
                    let mut cut = shared.cut.subscribe();
                    let Ok(peer) = arrival.greet().await else { return };
                    tokio::select! {
                        () = shared.converse(&peer) => {}
                        _ = cut.changed() => peer.hang_up("cut by the test"),
                    }
                });
            }
        });
        Source { port, shared, accepting }
    }

    pub(super) fn offers(&self) -> &Offers {
        &self.shared.offers
    }

    /// Chunks that were served.
    pub(super) fn served(&self) -> u32 {
        self.shared.served.load(Ordering::SeqCst)
    }

    /// Connections on which chunks were asked for.
    pub(super) fn askers(&self) -> usize {
        self.shared.askers.lock().unwrap().len()
    }

    pub(super) fn cut(&self) {
        self.shared.cut.send_modify(|cuts| *cuts += 1);
    }

    pub(super) async fn stop(&mut self) {
        self.cut();
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }
}

impl Shared {
    async fn converse(self: &Arc<Self>, peer: &Peer) {
        let mut streams = JoinSet::new();
        while let Some(asking) = peer.next().await {
            let (shared, peer) = (Arc::clone(self), peer.clone());
            streams.spawn(async move {
                if let Some((request, responder)) = asking.read().await {
                    shared.respond(&peer, request, responder).await;
                }
            });
        }
    }

    async fn respond(&self, peer: &Peer, request: Request, responder: Responder) {
        let told = |reply: Reply| match reply {
            Reply::Opened { manifest, extent } => Reply::Opened { manifest, extent: (self.hooks.extent)(extent) },
            Reply::Extent(extent) => Reply::Extent((self.hooks.extent)(extent)),
            other => other,
        };
        let answer = match request {
            Request::Open { ticket, session } => self.offers.open(peer, &ticket, session),
            Request::Extent { ticket, seen, held } => self.offers.extent(peer, &ticket, (seen, held)).await,
            Request::Seal { ticket } => self.offers.seal(peer, &ticket).await,
            Request::Chunk { ticket, index, held } => {
                let chunk = self.offers.chunk(peer, &ticket, (index, held)).await;
                self.askers.lock().unwrap().insert(peer.address());
                let before = self.served.fetch_add(1, Ordering::SeqCst);
                match (self.hooks.chunk)(before, index, chunk) {
                    Serve::Send(chunk) => responder.chunk(chunk, |bytes| self.offers.pace(&ticket.run, bytes)).await,
                    Serve::HangUp => peer.hang_up("cut by the test"),
                    Serve::Hold => std::future::pending().await,
                    Serve::Cut => self.cut.send_modify(|cuts| *cuts += 1),
                }
                return;
            }
            _ => panic!("a target asks for nothing else"),
        };
        responder.answer(&answer.map(told)).await;
    }
}
