//! A source that can be made to misbehave: real offers and connections, and a hook that sees every chunk before it leaves.

use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use baton_proto::Fault;
use baton_proto::control::{Reply, Request};
use baton_proto::data::FrameHead;
use baton_wire::{Identity, Listener, Peer, Responder, Role};
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
    /// Every connection is cut instead.
    Cut,
}

/// Gets how many chunks were served before, the chunk's index, and the chunk.
pub(super) type Hook = Arc<dyn Fn(u32, u32, Result<Chunk, Fault>) -> Serve + Send + Sync>;

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
    pub(super) fn identity(&self, dir: &Path, host: &str) -> Identity {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![host.to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::URI(format!("baton://agent/{host}").try_into().unwrap()));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let certificate = params.signed_by(&key, &self.issuer).unwrap().pem();
        let path = dir.join(format!("{host}.pem"));
        let mut options = std::fs::OpenOptions::new();
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&path).unwrap();
        std::io::Write::write_all(&mut file, (certificate + &key.serialize_pem() + &self.pem).as_bytes()).unwrap();
        Identity::load(&path).unwrap()
    }
}

pub(super) struct Source {
    pub(super) offers: Arc<Offers>,
    pub(super) port: u16,
    served: Arc<AtomicU32>,
    accepting: JoinHandle<()>,
}

struct Shared {
    offers: Arc<Offers>,
    hook: Hook,
    served: Arc<AtomicU32>,
    /// Counts the cuts.
    cut: watch::Sender<u32>,
}

impl Source {
    pub(super) fn start(identity: Identity, hook: Hook) -> Source {
        let listener = Listener::bind(&identity, ([127, 0, 0, 1], 0).into(), "test").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (offers, served) = (Arc::new(Offers::default()), Arc::new(AtomicU32::new(0)));
        let shared =
            Shared { offers: Arc::clone(&offers), hook, served: Arc::clone(&served), cut: watch::Sender::new(0) };
        let shared = Arc::new(shared);
        let accepting = tokio::spawn(async move {
            let mut peers = JoinSet::new();
            while let Some(arrival) = listener.accept().await {
                let shared = Arc::clone(&shared);
                peers.spawn(async move {
                    let mut cut = shared.cut.subscribe();
                    let Ok(peer) = arrival.greet().await else { return };
                    let serve = async { shared.converse(&peer).await };
                    tokio::select! {
                        () = serve => {}
                        _ = cut.changed() => {}
                    }
                    // All of the connection's handles are dropped here, which closes it.
                });
            }
        });
        Source { offers, port, served, accepting }
    }

    /// Chunks that were served.
    pub(super) fn served(&self) -> u32 {
        self.served.load(Ordering::SeqCst)
    }

    pub(super) async fn stop(&mut self) {
        self.accepting.abort();
        let _ = (&mut self.accepting).await;
    }
}

impl Shared {
    async fn converse(self: &Arc<Self>, peer: &Peer) {
        let Role::Agent(host) = peer.role().clone() else { return };
        let mut streams = JoinSet::new();
        while let Some(asking) = peer.next().await {
            let (shared, host) = (Arc::clone(self), host.clone());
            streams.spawn(async move {
                if let Some((request, responder)) = asking.read().await {
                    shared.respond(&host, request, responder).await;
                }
            });
        }
    }

    async fn respond(&self, host: &baton_proto::HostName, request: Request, responder: Responder) {
        match request {
            Request::Open { ticket, .. } => {
                let opened = self.offers.open(host, &ticket);
                responder.answer(&opened.map(|(manifest, extent)| Reply::Opened { manifest, extent })).await;
            }
            Request::Seal { ticket } => {
                let digest = self.offers.seal(host, &ticket).await;
                responder.answer(&digest.map(|(digest, packing)| Reply::Sealed { digest, packing })).await;
            }
            Request::Chunk { ticket, index } => {
                let chunk = self.offers.chunk(host, &ticket, index).await;
                let before = self.served.fetch_add(1, Ordering::SeqCst);
                match (self.hook)(before, index, chunk) {
                    Serve::Send(chunk) => responder.chunk(chunk).await,
                    Serve::Cut => self.cut.send_modify(|cuts| *cuts += 1),
                }
            }
            _ => panic!("a target asks for nothing else"),
        }
    }
}
