//! Who knocks at an agent: what each shows in the handshake, and QUIC by hand, so that a stranger says all that it can say
//! before the agent has judged it.

use std::net::SocketAddr;
use std::sync::Arc;

use baton_proto::codec;
use baton_proto::control::{Answer, Request};
use baton_proto::data::{FRAME_HEAD_BYTES, FrameHead, Packing};
use baton_proto::hello::{ALPN, Hello};
use baton_proto::{Fault, FaultKind};
use baton_tests::coord::code;
use baton_tests::tls::Anybody;
use baton_tests::world::{B, World};
use quinn::{Connection, ConnectionError, Endpoint};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use time::{Duration, OffsetDateTime};

/// Largest answer that is read: more than any to a sample.
const ANSWER_BYTES_MAX: usize = 4 * 1024 * 1024;

/// A certificate and its key, as PEM. None: it shows none.
pub(crate) type Shown = Option<Vec<u8>>;

/// Somebody whom no agent lets in.
pub(crate) struct Stranger {
    pub(crate) name: &'static str,
    pub(crate) shown: Shown,
    /// The TLS alert that it hears (RFC 8446, section 6). None: it is let through the handshake, and then the connection ends.
    pub(crate) alert: Option<u8>,
    /// What the agent's log says of it.
    pub(crate) logged: &'static str,
}

const UNSUPPORTED_CERTIFICATE: u8 = 43;
const CERTIFICATE_REVOKED: u8 = 44;
const CERTIFICATE_EXPIRED: u8 = 45;
const UNKNOWN_CA: u8 = 48;
const DECRYPT_ERROR: u8 = 51;
const CERTIFICATE_REQUIRED: u8 = 116;

/// Everybody who is to be kept out of the agents of this world. Two of them are revoked by it.
pub(crate) fn strangers(world: &World) -> Vec<Stranger> {
    let coord = |args: &[&str]| drop(world.coord(args).ends_with(code::DONE));
    let file = |path: &str| Some(std::fs::read(world.dir().join(path)).unwrap());
    coord(&["pki", "init", "other-pki"]);
    coord(&["pki", "issue", B, "--dir", "other-pki", "--out", "foreign-agent.pem"]);
    coord(&["pki", "operator", "mallory", "--dir", "pki", "--out", "revoked-operator.pem"]);
    coord(&["pki", "issue", "machine-x", "--dir", "pki", "--out", "revoked-agent.pem"]);
    // An agent that was lost does not hear of it.
    world.coord(&["pki", "revoke", "--operator", "mallory", "--dir", "pki"]);
    world.coord(&["pki", "revoke", "machine-x", "--dir", "pki"]).says(&["told        machine-b (list 2)"]);
    let ours = Authority::of(world, "pki");
    let signed = |role: &str, change: fn(&mut CertificateParams)| Some(ours.sign(role, change));
    let stranger = |name, shown, alert, logged| Stranger { name, shown, alert, logged };
    vec![
        stranger("nobody", None, Some(CERTIFICATE_REQUIRED), "peer sent no certificates"),
        stranger(
            "a foreign operator",
            file("other-pki/operator.pem"),
            Some(UNKNOWN_CA),
            "made by another CA than our own",
        ),
        stranger("a foreign agent", file("foreign-agent.pem"), Some(UNKNOWN_CA), "made by another CA than our own"),
        stranger(
            "an operator of a CA that took our CA's name",
            Some(Authority::named_as(world, "pki").sign(OPERATOR, |_| {})),
            Some(DECRYPT_ERROR),
            "BadSignature",
        ),
        stranger("an expired operator", signed(OPERATOR, expired), Some(CERTIFICATE_EXPIRED), "expired"),
        stranger("an expired agent", signed(AGENT, expired), Some(CERTIFICATE_EXPIRED), "expired"),
        stranger("an operator of tomorrow", signed(OPERATOR, of_tomorrow), Some(CERTIFICATE_EXPIRED), "not valid yet"),
        stranger("a revoked operator", file("revoked-operator.pem"), Some(CERTIFICATE_REVOKED), "revoked"),
        stranger("a revoked agent", file("revoked-agent.pem"), Some(CERTIFICATE_REVOKED), "revoked"),
        stranger(
            "a server's certificate",
            signed(OPERATOR, for_servers),
            Some(UNSUPPORTED_CERTIFICATE),
            "extended key usage",
        ),
        stranger("one without a role", signed("https://example.net/", |_| {}), None, "carries no role"),
        stranger("one with a made-up role", signed("baton://king/x", |_| {}), None, "carries no role"),
        stranger("one with two roles", signed(OPERATOR, also_an_agent), None, "carries no role"),
        stranger("an agent of no host", signed("baton://agent/../etc", |_| {}), None, "carries no role"),
    ]
}

const OPERATOR: &str = "baton://operator/olga";
const AGENT: &str = "baton://agent/machine-c";

fn expired(params: &mut CertificateParams) {
    params.not_after = OffsetDateTime::now_utc() - Duration::hours(1);
}

fn of_tomorrow(params: &mut CertificateParams) {
    params.not_before = OffsetDateTime::now_utc() + Duration::days(1);
}

fn for_servers(params: &mut CertificateParams) {
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
}

fn also_an_agent(params: &mut CertificateParams) {
    params.subject_alt_names.push(SanType::URI(AGENT.try_into().unwrap()));
}

/// An authority by its key.
struct Authority(Issuer<'static, KeyPair>);

impl Authority {
    /// The one of a directory, which only `coord` should use.
    fn of(world: &World, dir: &str) -> Self {
        let read = |name: &str| std::fs::read_to_string(world.dir().join(dir).join(name)).unwrap();
        let key = KeyPair::from_pem(&read("ca.key")).unwrap();
        Self(Issuer::from_ca_cert_pem(&read("ca.pem"), key).unwrap())
    }

    /// Another, which says that it is that one.
    fn named_as(world: &World, dir: &str) -> Self {
        let pem = std::fs::read_to_string(world.dir().join(dir).join("ca.pem")).unwrap();
        Self(Issuer::from_ca_cert_pem(&pem, KeyPair::generate().unwrap()).unwrap())
    }

    /// Signs a certificate that would be good, but for what is changed.
    fn sign(&self, role: &str, change: fn(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "a stranger");
        params.is_ca = IsCa::ExplicitNoCa;
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        params.subject_alt_names = vec![SanType::URI(role.try_into().unwrap())];
        let now = OffsetDateTime::now_utc();
        (params.not_before, params.not_after) = (now - Duration::days(3), now + Duration::days(3));
        change(&mut params);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.0).unwrap();
        [certificate.pem(), key.serialize_pem()].concat().into_bytes()
    }
}

/// How to dial with what is shown. Must be called within a tokio runtime.
pub(crate) fn endpoint(shown: &Shown) -> Endpoint {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)));
    let mut tls = match shown {
        None => builder.with_no_client_auth(),
        Some(pem) => {
            // The first certificate of a bundle is the holder's own.
            let own = CertificateDer::pem_slice_iter(pem).next().unwrap().unwrap();
            builder.with_client_auth_cert(vec![own], PrivateKeyDer::from_pem_slice(pem).unwrap()).unwrap()
        }
    };
    tls.alpn_protocols = vec![ALPN.to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
    endpoint
}

/// Connects, without a greeting.
pub(crate) async fn connect(endpoint: &Endpoint, to: SocketAddr) -> Result<Connection, ConnectionError> {
    endpoint.connect(to, B).unwrap().await
}

/// Connects, and greets as `coord` does. What was answered may come later.
pub(crate) async fn greet(endpoint: &Endpoint, to: SocketAddr) -> Result<Connection, ConnectionError> {
    let connection = connect(endpoint, to).await?;
    let hello = codec::encode(&Hello::new("a test")).unwrap();
    let answer = exchange(&connection, &hello).await?;
    let answer: Result<Hello, Fault> = codec::decode(&answer).unwrap();
    answer.unwrap();
    Ok(connection)
}

/// Sends bytes on a stream of their own, and reads what comes back to its end.
pub(crate) async fn exchange(connection: &Connection, bytes: &[u8]) -> Result<Vec<u8>, ConnectionError> {
    let (mut send, mut recv) = connection.open_bi().await?;
    // Whether it was taken shows in what comes back.
    let _ = send.write_all(bytes).await;
    let _ = send.finish();
    recv.read_to_end(ANSWER_BYTES_MAX).await.map_err(|error| match error {
        quinn::ReadToEndError::Read(quinn::ReadError::ConnectionLost(error)) => error,
        other => panic!("{other}"),
    })
}

/// Greets and asks in one breath, as a stranger would who knows that it will be refused. Nobody answers one, so that what
/// comes back is how the connection ended.
pub(crate) async fn burst(endpoint: &Endpoint, to: SocketAddr, request: &Request) -> Result<Vec<u8>, ConnectionError> {
    let connection = connect(endpoint, to).await?;
    let (hello, request) = (codec::encode(&Hello::new("a test")).unwrap(), codec::encode(request).unwrap());
    let (greeted, asked) = tokio::join!(exchange(&connection, &hello), exchange(&connection, &request));
    Ok([greeted?, asked?].concat())
}

/// Asks one thing. A fault that stands in the place of a chunk counts as any other; a chunk's bytes are an error of the test.
pub(crate) async fn ask(connection: &Connection, request: &Request) -> Answer {
    let bytes = exchange(connection, &codec::encode(request).unwrap()).await;
    let bytes = bytes.map_err(|error| Fault::new(FaultKind::Peer, error))?;
    if let Ok(answer) = codec::decode::<Answer>(&bytes) {
        return answer;
    }
    let (head, behind) = bytes.split_first_chunk::<FRAME_HEAD_BYTES>().expect("an answer or a chunk");
    let head = FrameHead::decode(head).expect("the head of a chunk");
    assert_eq!(head.packing, Packing::Fault, "{request:?} got {} bytes of data", behind.len());
    Err(codec::decode::<Fault>(behind).expect("a fault"))
}

/// The alert with which the other side ended a connection, if it was one.
pub(crate) fn alert(error: &ConnectionError) -> Option<u8> {
    let ConnectionError::ConnectionClosed(close) = error else { return None };
    u64::from(close.error_code).checked_sub(0x100).and_then(|alert| u8::try_from(alert).ok())
}
