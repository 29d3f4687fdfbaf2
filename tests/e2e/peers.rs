//! Peers that are not what they should be, over the real wire: a source that lies, a program that speaks another version. Who
//! may ask what at all is `trespass.rs`.
//!
//! The lying source stands between `coord`, C's agent and B's real agent: it holds identities of all three, hands
//! everything on, and changes what the test says.

use std::net::SocketAddr;
use std::sync::Arc;

use baton_proto::chunk::ChunkIndex;
use baton_proto::control::Request;
use baton_proto::data::{FrameHead, Packing, Ticket};
use baton_proto::digest::chunk_digest;
use baton_proto::{Fault, FaultKind, HostName, HostPort};
use baton_tests::coord::{Said, code};
use baton_tests::dataset::Dataset;
use baton_tests::host::AGENT_PORT;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::world::{B, C, World};
use baton_wire::{Credentials, Dialer, Link, Listener, Peer, Role};
use tokio::runtime::Runtime;

use crate::scene::{FAILOVER, Lost};

fn host(name: &str) -> HostName {
    HostName::new(name).unwrap()
}

fn identity(world: &World, file: &str) -> Credentials {
    Credentials::load(&world.dir().join(file)).unwrap()
}

async fn dial(identity: &Credentials, to: SocketAddr, name: &str) -> Link {
    let address = HostPort::new(to.ip().to_string(), to.port());
    Dialer::new(identity, "a test").unwrap().dial(&address, &host(name)).await.unwrap()
}

/// What a lying source changes in what B's agent says and is asked.
trait Lie: Send + Sync + 'static {
    fn chunk(&self, head: &mut FrameHead, bytes: &mut Vec<u8>);
    fn ticket(&self, _ticket: &mut Ticket) {}
}

struct LyingSource {
    real: SocketAddr,
    operator: Credentials,
    target: Credentials,
}

impl LyingSource {
    /// Hands on all that one peer asks.
    async fn serve(self: Arc<Self>, peer: Peer, lie: Arc<impl Lie>) {
        let identity = if matches!(peer.role(), Role::Operator(_)) { &self.operator } else { &self.target };
        let link = dial(identity, self.real, B).await;
        while let Some(asking) = peer.next().await {
            let (link, lie) = (link.clone(), lie.clone());
            tokio::spawn(async move {
                let Some((mut request, responder)) = asking.read().await else { return };
                if let Request::Open { ticket, .. } | Request::Chunk { ticket, .. } | Request::Seal { ticket } =
                    &mut request
                {
                    lie.ticket(ticket);
                }
                if let Request::Chunk { ticket, index, .. } = request {
                    let chunk = chunk(&link, &ticket, index).await.map(|(mut head, mut bytes)| {
                        lie.chunk(&mut head, &mut bytes);
                        (head, bytes.into())
                    });
                    responder.chunk(chunk, |_| std::future::ready(())).await;
                } else {
                    responder.answer(&link.ask(&request).await).await;
                }
            });
        }
    }
}

/// Asks for a chunk as the target does.
pub(crate) async fn chunk(link: &Link, ticket: &Ticket, index: u32) -> Result<(FrameHead, Vec<u8>), Fault> {
    let mut bytes = Vec::new();
    let room = &mut bytes;
    let head = link.chunk(
        ticket,
        (index, 0),
        move |length| {
            room.resize(length, 0);
            room.as_mut_slice()
        },
        |_| (),
    );
    head.await.map(|head| (head, bytes))
}

/// A failover whose source lies.
fn failover_from_a_liar(lie: impl Lie) -> (Lost, Said) {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    let address = SocketAddr::from((baton_tests::address::fresh(), AGENT_PORT));
    let lost = Lost::with(world, Dataset::random(1, 10 << 20));
    let source = LyingSource {
        real: lost.world.b().agent_address(),
        operator: identity(&lost.world, "pki/operator.pem"),
        target: identity(&lost.world, "machine-c/machine-c.pem"),
    };
    let own = identity(&lost.world, "machine-b/machine-b.pem");
    lost.world.b().reach_agent_via(address);
    lost.world.write_coord_toml();
    let runtime = Runtime::new().unwrap();
    runtime.spawn(async move {
        let (source, lie) = (Arc::new(source), Arc::new(lie));
        let listener = Listener::bind(&own, address, "a lying agent").unwrap();
        while let Some(arrival) = listener.accept().await {
            let (source, lie) = (source.clone(), lie.clone());
            tokio::spawn(async move {
                if let Ok(peer) = arrival.greet().await {
                    source.serve(peer, lie).await;
                }
            });
        }
    });
    let said = lost.world.coord(&[&FAILOVER[..], &["--yes", "--json"]].concat());
    (lost, said)
}

#[track_caller]
fn assert_caught(lost: &Lost, said: Said, exit: i32) {
    let said = said.ends_with(exit).says(&["error:", "hint:", C]);
    assert!(!lost.world.c().dump_path().exists(), "nothing is placed\n{said}");
    assert!(lost.world.c().server_pids().is_empty(), "C is not started");
    lost.assert_b_is_untouched();
}

/// Hands everything on as it is.
struct Truth;
impl Lie for Truth {
    fn chunk(&self, _: &mut FrameHead, _: &mut Vec<u8>) {}
}

#[test]
fn a_go_between_that_changes_nothing_does_not_disturb() {
    let (lost, said) = failover_from_a_liar(Truth);
    said.ends_with(code::DONE);
    lost.assert_replaced();
}

/// Flips one bit of every copy of one chunk.
struct FlippedBit;
impl Lie for FlippedBit {
    fn chunk(&self, head: &mut FrameHead, bytes: &mut Vec<u8>) {
        if head.index == 1 {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
        }
    }
}

#[test]
fn a_bit_that_was_flipped_on_the_way_is_caught_and_nothing_is_placed() {
    let (lost, said) = failover_from_a_liar(FlippedBit);
    assert_caught(&lost, said, code::VERIFICATION);
}

/// Sends other bytes in the place of one chunk, with the digest that fits them.
struct OtherBytes;
impl Lie for OtherBytes {
    fn chunk(&self, head: &mut FrameHead, bytes: &mut Vec<u8>) {
        if head.index == 1 {
            *bytes = vec![9; head.raw_bytes as usize];
            head.packing = Packing::Store;
            head.wire_bytes = head.raw_bytes;
            head.digest = chunk_digest(ChunkIndex(1), bytes, false);
        }
    }
}

#[test]
fn other_bytes_with_a_digest_of_their_own_are_caught_by_the_files_digest() {
    let (lost, said) = failover_from_a_liar(OtherBytes);
    assert_caught(&lost, said, code::VERIFICATION);
}

/// Cuts one chunk short.
struct ShortChunk;
impl Lie for ShortChunk {
    fn chunk(&self, head: &mut FrameHead, bytes: &mut Vec<u8>) {
        if head.index == 1 {
            bytes.truncate(bytes.len() / 2);
            head.wire_bytes = bytes.len() as u32;
        }
    }
}

#[test]
fn a_chunk_that_was_cut_short_is_caught_and_nothing_is_placed() {
    let (lost, said) = failover_from_a_liar(ShortChunk);
    assert_caught(&lost, said, code::VERIFICATION);
}

/// Asks B's agent with a ticket of its own.
struct WrongTicket;
impl Lie for WrongTicket {
    fn chunk(&self, _: &mut FrameHead, _: &mut Vec<u8>) {}
    fn ticket(&self, ticket: &mut Ticket) {
        ticket.secret[0] ^= 1;
    }
}

#[test]
fn a_wrong_ticket_opens_nothing_and_the_run_is_rolled_back() {
    let (lost, said) = failover_from_a_liar(WrongTicket);
    assert_caught(&lost, said.says(&["ticket"]), code::ROLLED_BACK);
}

#[test]
fn a_program_of_another_protocol_version_is_answered_in_words() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let answer = Runtime::new().unwrap().block_on(greet_with_versions(&lost.world, 7, 9));
    let fault = answer.unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unsupported);
    for word in ["no common protocol version", "a program of the future speaks 7-9", "baton-agent"] {
        assert!(fault.message.contains(word), "{fault}");
    }
    assert!(fault.hint.is_some_and(|hint| hint.contains("upgrade baton-agent")));
}

/// Greets B's agent by hand, as a program of other versions would.
async fn greet_with_versions(world: &World, min: u16, max: u16) -> Result<baton_proto::hello::Hello, Fault> {
    use rustls_pki_types::pem::PemObject as _;
    use rustls_pki_types::{CertificateDer, PrivateKeyDer};

    let pem = std::fs::read(world.dir().join("pki/operator.pem")).unwrap();
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(&pem).collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    let (_, _) = roots.add_parsable_certificates(certificates.clone());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(certificates[..1].to_vec(), key)
        .unwrap();
    tls.alpn_protocols = vec![baton_proto::hello::ALPN.to_vec()];
    let tls = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = quinn::Endpoint::client(([127, 0, 0, 1], 0).into()).unwrap();
    endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(tls)));
    let connection = endpoint.connect(world.b().agent_address(), B).unwrap().await.unwrap();
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    let hello = baton_proto::hello::Hello { min, max, software: "a program of the future".into() };
    send.write_all(&baton_proto::codec::encode(&hello).unwrap()).await.unwrap();
    send.finish().unwrap();
    let answer = recv.read_to_end(4096).await.unwrap();
    baton_proto::codec::decode(&answer).unwrap()
}
