//! Who may talk to whom: real endpoints on loopback, with certificates that are right, foreign, expired or exposed.

use std::net::{SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use baton_proto::control::{Reply, Request};
use baton_proto::{Fault, FaultKind, HostName, HostPort};
use baton_wire::{Credentials, Dialer, Identity, Listener, Role};
use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use time::{Duration, OffsetDateTime};

/// A private CA that lives as long as its directory.
struct Authority {
    dir: tempfile::TempDir,
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { dir: tempfile::tempdir().unwrap(), issuer: Issuer::new(params, key), pem }
    }

    /// Writes a bundle that carries the URI, and for an agent its host's name.
    fn bundle(&self, uri: &str, host: Option<&str>, expired: bool) -> PathBuf {
        let mut params = CertificateParams::new(host.map(ToString::to_string).into_iter().collect::<Vec<_>>()).unwrap();
        params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        if host.is_some() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::days(3);
        params.not_after = if expired { now - Duration::days(1) } else { now + Duration::days(1) };
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let path = self.dir.path().join(format!("{}.pem", uri.replace(['/', ':'], "_")));
        std::fs::write(&path, [certificate.pem(), key.serialize_pem(), self.pem.clone()].concat()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    fn agent(&self, host: &str) -> Credentials {
        load(&self.bundle(&format!("baton://agent/{host}"), Some(host), false))
    }

    fn operator(&self) -> Credentials {
        load(&self.bundle("baton://operator/olga", None, false))
    }
}

fn load(path: &Path) -> Credentials {
    Credentials::load(path).unwrap()
}

fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

/// Listens as an agent that answers every request with the asker's role.
fn serve(identity: &Credentials) -> HostPort {
    serve_at(identity, SocketAddr::from(([127, 0, 0, 1], 0)))
}

fn serve_at(identity: &Credentials, at: SocketAddr) -> HostPort {
    let listener = Listener::bind(identity, at, "baton-agent test").unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Some(arrival) = listener.accept().await {
            tokio::spawn(async move {
                let Ok(peer) = arrival.greet().await else { return };
                while let Some(asking) = peer.next().await {
                    if let Some((_, responder)) = asking.read().await {
                        responder.answer(&Err(Fault::new(FaultKind::Invalid, peer.role()))).await;
                    }
                }
            });
        }
    });
    HostPort::new(address.ip().to_string(), address.port())
}

async fn ask(identity: &Credentials, address: &HostPort, of: &str) -> Result<Reply, Fault> {
    let dialer = Dialer::new(identity, "coord test").unwrap();
    let after = async { dialer.dial(address, &host(of)).await?.ask(&Request::Observe).await }.await;
    let beside = async { dialer.connect(address, &host(of)).await?.ask(&Request::Observe).await }.await;
    assert_eq!(after, beside, "a question behind the answer to the greeting, and one beside it");
    after
}

#[tokio::test]
async fn operator_and_agent_are_known_by_their_certificates() {
    let ca = Authority::new();
    let address = serve(&ca.agent("machine-b"));
    let said = |answer: Result<Reply, Fault>| answer.unwrap_err().message;
    assert_eq!(said(ask(&ca.operator(), &address, "machine-b").await), "operator olga");
    assert_eq!(said(ask(&ca.agent("machine-c"), &address, "machine-b").await), "agent of machine-c");
}

#[tokio::test]
async fn an_agent_that_is_not_the_one_dialled_is_refused() {
    let ca = Authority::new();
    let address = serve(&ca.agent("machine-c"));
    let fault = ask(&ca.operator(), &address, "machine-b").await.unwrap_err();
    assert!(fault.message.contains("machine-c"), "{fault}");
}

#[tokio::test]
async fn an_operator_cannot_pose_as_an_agent() {
    let ca = Authority::new();
    let posing = load(&ca.bundle("baton://operator/mallory", Some("machine-b"), false));
    let address = serve(&posing);
    let fault = ask(&ca.operator(), &address, "machine-b").await.unwrap_err();
    assert!(fault.message.contains("operator mallory"), "{fault}");
}

#[tokio::test]
async fn a_foreign_ca_is_refused_in_words_on_either_side() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let address = serve(&ours.agent("machine-b"));
    let fault = ask(&theirs.operator(), &address, "machine-b").await.unwrap_err();
    assert!(fault.to_string().contains("certificate"), "{fault}");
    // A client that trusts the agent but is not trusted by it.
    let mixed = ours.dir.path().join("mixed.pem");
    let foreign = std::fs::read_to_string(theirs.bundle("baton://operator/olga", None, false)).unwrap();
    std::fs::write(&mixed, foreign.replace(&theirs.pem, &ours.pem)).unwrap();
    std::fs::set_permissions(&mixed, std::fs::Permissions::from_mode(0o600)).unwrap();
    let fault = ask(&load(&mixed), &address, "machine-b").await.unwrap_err();
    assert!(fault.to_string().contains("refused our certificate"), "{fault}");
    assert_eq!(fault.kind, FaultKind::NotAllowed);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_in_words() {
    let ca = Authority::new();
    let address = serve(&ca.agent("machine-b"));
    let expired = load(&ca.bundle("baton://operator/late", None, true));
    let fault = ask(&expired, &address, "machine-b").await.unwrap_err();
    assert!(fault.to_string().contains("expired"), "{fault}");
    assert_eq!(fault.kind, FaultKind::NotAllowed);
}

#[tokio::test]
async fn a_certificate_without_a_role_is_no_identity() {
    let ca = Authority::new();
    for uri in ["https://example.net/", "baton://agent/../etc", "baton://king/x"] {
        let error = Identity::load(&ca.bundle(uri, None, false)).unwrap_err();
        assert!(error.to_string().contains("no role"), "{uri}: {error}");
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_is_told_at_once_and_as_such() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    drop(socket);
    let address = HostPort::new("127.0.0.1", address.port());
    let fault = ask(&Authority::new().operator(), &address, "machine-b").await.unwrap_err();
    assert!(fault.message.contains("no agent listens"), "{fault}");
}

#[tokio::test]
async fn a_restarted_agent_tells_those_that_were_connected_instead_of_letting_them_wait() {
    let authority = Authority::new();
    let identity = authority.agent("machine-b");
    // A runtime of its own, so that it can end without a word, as a killed process does.
    let first = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let address = {
        let _inside = first.enter();
        serve(&identity)
    };
    let link =
        Dialer::new(&authority.operator(), "coord test").unwrap().dial(&address, &host("machine-b")).await.unwrap();
    link.ask(&Request::Observe).await.unwrap_err();
    first.shutdown_background();
    let at = format!("{}:{}", address.host, address.port).parse().unwrap();
    let mut rebound = false;
    for _ in 0..500 {
        // The old socket closes when its last task has ended.
        let free = std::net::UdpSocket::bind(at).is_ok();
        if free {
            serve_at(&identity, at);
            rebound = true;
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(rebound, "the first listener never ended");
    let fault = link.ask(&Request::Observe).await.unwrap_err();
    assert!(format!("{fault:?}").contains("was restarted"), "{fault:?}");
}

#[test]
fn an_identity_that_others_can_read_is_refused_with_the_command_that_mends_it() {
    let ca = Authority::new();
    let path = ca.bundle("baton://agent/machine-b", Some("machine-b"), false);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = Identity::load(&path).unwrap_err().to_string();
    assert!(error.contains("0644") && error.contains("chmod 600"), "{error}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(*load(&path).identity().role(), Role::Agent(host("machine-b")));
}

/// Passes on what comes to it, and nothing back: whoever is behind it seems to send from a forged address.
fn one_way_to(address: &HostPort) -> HostPort {
    let (inward, outward) = (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
    outward.connect(address.to_string()).unwrap();
    let here = inward.local_addr().unwrap();
    std::thread::spawn(move || {
        let mut datagram = [0; 2048];
        while let Ok(bytes) = inward.recv(&mut datagram) {
            let _ = outward.send(&datagram[..bytes]);
        }
    });
    HostPort::new("127.0.0.1", here.port())
}

#[tokio::test]
async fn who_cannot_show_that_its_address_is_its_own_takes_nobodys_place() {
    let authority = Authority::new();
    let credentials = authority.agent("machine-b");
    let listener = Listener::bind(&credentials, SocketAddr::from(([127, 0, 0, 1], 0)), "baton-agent test").unwrap();
    let address = HostPort::new("127.0.0.1", listener.local_addr().unwrap().port());
    let (come, mut came) = tokio::sync::mpsc::unbounded_channel();
    let accepting = tokio::spawn(async move {
        while let Some(arrival) = listener.accept().await {
            if come.send(arrival).is_err() {
                break;
            }
        }
    });
    let forged = one_way_to(&address);
    let dialer = Dialer::new(&authority.operator(), "coord test").unwrap();
    let flood: Vec<_> = (0..100)
        .map(|_| {
            let (dialer, forged) = (dialer.clone(), forged.clone());
            tokio::spawn(async move { dialer.connect(&forged, &host("machine-b")).await.map(drop) })
        })
        .collect();
    // None of them is greeted: each that is let in keeps its place.
    let mut let_in = Vec::new();
    while let Ok(Some(arrival)) = tokio::time::timeout(std::time::Duration::from_secs(1), came.recv()).await {
        let_in.push(arrival);
    }
    assert_eq!(let_in.len(), 32, "of a hundred");
    let honest = tokio::spawn(async move { dialer.dial(&address, &host("machine-b")).await.map(drop) });
    let arrival = came.recv().await.unwrap();
    let _peer = arrival.greet().await.unwrap();
    honest.await.unwrap().unwrap();
    flood.iter().for_each(tokio::task::JoinHandle::abort);
    accepting.abort();
}
