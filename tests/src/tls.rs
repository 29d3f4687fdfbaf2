//! TLS of servers in a test: an authority that writes what a server needs, and the harness's own client, which shows the
//! certificate of the server that it visits and trusts whoever answers there.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::path::Path;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use time::{Duration, OffsetDateTime};

use crate::host::Host;

pub(crate) type Stream = StreamOwned<ClientConnection, TcpStream>;

/// How long a certificate is valid that is.
pub const VALID_DAYS: i64 = 10;
/// One that has been.
pub const EXPIRED_DAYS: i64 = -1;

/// An authority of a test's own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

fn params(name: &str, days: i64) -> CertificateParams {
    // Without a host name, as Redis lets pass.
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("no name is no wrong one");
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = OffsetDateTime::now_utc() - Duration::days(30);
    params.not_after = OffsetDateTime::now_utc() + Duration::days(days);
    params
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let key = KeyPair::generate().expect("a key is made");
        let mut params = params(name, VALID_DAYS);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).expect("it signs itself").pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Gives a host a certificate and a key, and this authority to trust.
    pub fn equip(&self, host: &Host, days: i64) {
        let key = KeyPair::generate().expect("a key is made");
        let certificate = params(&host.name, days).signed_by(&key, &self.issuer).expect("it signs");
        fs::create_dir_all(host.tls_dir()).expect("the directory can be made");
        for (file, text) in [("ca.pem", &self.pem), ("cert.pem", &certificate.pem()), ("key.pem", &key.serialize_pem())]
        {
            fs::write(host.tls_dir().join(file), text).expect("the file can be written");
        }
    }
}

/// Goes on by TLS over a connection.
pub(crate) fn over(stream: TcpStream, files: &Path) -> Stream {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain =
        CertificateDer::pem_file_iter(files.join("cert.pem")).expect("a certificate").map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_file(files.join("key.pem")).expect("a key");
    let config = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .expect("the provider knows them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
        .with_client_auth_cert(chain, key)
        .expect("they fit");
    let whom = ServerName::IpAddress(IpAddr::from(Ipv4Addr::LOCALHOST).into());
    StreamOwned::new(ClientConnection::new(Arc::new(config), whom).expect("a client"), stream)
}

/// Believes every server that has the key of what it shows. The harness shares no code with what it tests.
#[derive(Debug)]
pub struct Anybody(pub Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
