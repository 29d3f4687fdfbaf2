//! TLS 1.3 with certificates on both sides, and the settings of the QUIC transport.

use std::sync::Arc;
use std::time::Duration;

use baton_proto::hello::ALPN;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{AckFrequencyConfig, IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use rustls::crypto::CryptoProvider;

use crate::congestion::ModelBased;
use crate::trust::Credentials;
use crate::verifier::Verifier;

/// How long a connection lives without a packet. With [`KEEP_ALIVE`] it only ends so when the peer is gone.
const IDLE_MS: u32 = 15_000;
/// How often a silent connection shows that it lives; QUIC sends none by itself, and a save may be silent for minutes. It
/// is also how soon one learns that its peer was restarted.
const KEEP_ALIVE: Duration = Duration::from_millis(500);
/// Most requests in flight on a connection: the chunks of one transfer's window, and some for orders.
const STREAMS_MAX: u32 = 128;
/// Receive window of one stream. A larger one lets a lossy path collect more gaps in one stream than quinn tolerates
/// (1024), and quinn then ends the whole connection; throughput comes from many streams.
const STREAM_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Window of a connection, both ways: what a transfer's twelve chunk streams can use of their own windows, and so the
/// most a peer can make us buffer. 1 Gbit/s at 100 ms is 12 MB; where packets are lost as much again waits behind gaps.
const WINDOW_BYTES: u32 = 24 * 1024 * 1024;
/// Packets for one acknowledgement. Each costs both sides a packet, and a cipher operation, to no use: loss shows at once
/// in any case, for packets out of order are acknowledged as they come.
const ACK_EVERY_PACKETS: u32 = 10;
/// How long fewer packets than that wait. It bounds what is added to the round trip of a slow path.
const ACK_DELAY: Duration = Duration::from_millis(10);

/// Largest datagram that is tried: what Ethernet carries below IPv4 and UDP. quinn's own bound leaves room for IPv6, and
/// costs every packet of an IPv4 path a hundredth. Ten of larger ones would not fit what the kernel sends in one go.
const DATAGRAM_BYTES_MAX: u16 = 1472;
/// How exactly it is searched for. quinn's own 20 bytes end the search 17 below the bound; to come to it takes three more
/// packets.
const DATAGRAM_STEP: u16 = 4;

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn transport() -> Arc<TransportConfig> {
    let mut acknowledgements = AckFrequencyConfig::default();
    acknowledgements.ack_eliciting_threshold(VarInt::from_u32(ACK_EVERY_PACKETS)).max_ack_delay(Some(ACK_DELAY));
    let mut mtu = MtuDiscoveryConfig::default();
    mtu.upper_bound(DATAGRAM_BYTES_MAX).minimum_change(DATAGRAM_STEP);
    let mut config = TransportConfig::default();
    config
        .mtu_discovery_config(Some(mtu))
        .congestion_controller_factory(Arc::new(ModelBased))
        .ack_frequency_config(Some(acknowledgements))
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(IDLE_MS))))
        .keep_alive_interval(Some(KEEP_ALIVE))
        .max_concurrent_bidi_streams(VarInt::from_u32(STREAMS_MAX))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW_BYTES))
        .receive_window(VarInt::from_u32(WINDOW_BYTES))
        .send_window(u64::from(WINDOW_BYTES))
        // Chunk after chunk, not all of them a little.
        .send_fairness(false)
        .datagram_receive_buffer_size(None);
    Arc::new(config)
}

pub(crate) fn client(credentials: &Credentials) -> anyhow::Result<quinn::ClientConfig> {
    let provider = provider();
    let verifier = Verifier::new(credentials.clone(), &provider);
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        // The verifier of webpki below it does all there is to do; it only can be exchanged.
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(Arc::new(credentials.clone()));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session skips the check of certificates.
    tls.resumption = rustls::client::Resumption::disabled();
    let mut config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls)?));
    config.transport_config(transport());
    Ok(config)
}

pub(crate) fn server(credentials: &Credentials) -> anyhow::Result<quinn::ServerConfig> {
    let provider = provider();
    let verifier = Verifier::new(credentials.clone(), &provider);
    let mut tls = rustls::ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_client_cert_verifier(Arc::new(verifier))
        .with_cert_resolver(Arc::new(credentials.clone()));
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.send_tls13_tickets = 0;
    tls.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    let mut config = quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls)?));
    config.transport_config(transport());
    Ok(config)
}
