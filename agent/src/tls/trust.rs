//! Who is trusted: whoever the server itself would trust, by the chain and without a name.
//!
//! Of the trusted certificates those that signed themselves are where a chain must end, and the others help it there, as in
//! OpenSSL. A server's own certificate that stands among them is trusted as it is.

use std::fmt;
use std::sync::Arc;

use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{
    CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
};
use tokio_rustls::rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, RootCertStore, SignatureScheme,
};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

type Certificate = CertificateDer<'static>;

/// Why a certificate is not trusted, in words.
#[derive(Debug)]
pub(super) struct Mistrust(String);

impl fmt::Display for Mistrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Mistrust {}

fn mistrust(words: String) -> Error {
    Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Mistrust(words)))))
}

/// Trusts what leads to a known authority.
#[derive(Debug)]
pub(super) struct Chain {
    trusted: Vec<Certificate>,
    roots: RootCertStore,
    between: Vec<Certificate>,
    /// Where `trusted` was read.
    places: String,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Chain {
    pub(super) fn new(trusted: Vec<Certificate>, places: String, provider: &CryptoProvider) -> Chain {
        let (roots, between): (Vec<_>, Vec<_>) = trusted.iter().cloned().partition(signed_itself);
        Chain { roots: store(roots), between, trusted, places, algorithms: provider.signature_verification_algorithms }
    }

    fn words(&self, certificate: &CertificateDer, error: Error) -> Error {
        let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return error };
        let Error::InvalidCertificate(reason) = &error else { return error };
        let validity = parsed.validity();
        let whose = format!("its certificate ({})", parsed.subject());
        mistrust(match reason {
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                // An authority's may be the one; then the certificate itself tells another time.
                match parsed.validity().is_valid() {
                    true => format!("{whose} is of a CA whose own certificate has expired"),
                    false => format!("{whose} has expired on {}", validity.not_after),
                }
            }
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                format!("{whose} is valid only from {} on; see the clocks", validity.not_before)
            }
            CertificateError::UnknownIssuer => {
                format!("{whose} is of another CA ({}) than {} has", parsed.issuer(), self.places)
            }
            _ if parsed.version() != X509Version::V3 => {
                format!("{whose} is of X.509 version 1, which this agent cannot verify; issue it with extensions")
            }
            other => format!("{whose} is not trusted: {other}"),
        })
    }
}

/// Those that can be an authority; others would not be used.
fn store(certificates: Vec<Certificate>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(certificates);
    roots
}

fn signed_itself(certificate: &Certificate) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| parsed.subject() == parsed.issuer())
}

/// Whether a certificate is itself among the trusted ones, and in its time.
fn is_known(trusted: &[Certificate], certificate: &CertificateDer, now: UnixTime) -> bool {
    trusted.iter().any(|known| known == certificate)
        && X509Certificate::from_der(certificate).is_ok_and(|(_, parsed)| {
            let now = i64::try_from(now.as_secs()).unwrap_or(i64::MAX);
            let validity = parsed.validity();
            (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
        })
}

impl ServerCertVerifier for Chain {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        shown: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if is_known(&self.trusted, certificate, now) {
            return Ok(ServerCertVerified::assertion());
        }
        let between: Vec<CertificateDer> = shown.iter().chain(&self.between).cloned().collect();
        ParsedCertificate::try_from(certificate)
            .and_then(|parsed| {
                verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, &between, now, self.algorithms.all)
            })
            .map(|()| ServerCertVerified::assertion())
            .map_err(|error| self.words(certificate, error))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// Trusts everybody: for nothing but the question whether TLS is spoken at all.
#[derive(Debug)]
pub(super) struct Anybody(pub(super) Arc<CryptoProvider>);

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

/// Judges whoever connects, as the server will.
#[derive(Debug)]
pub(super) struct Clients {
    trusted: Vec<Certificate>,
    by_chain: Arc<dyn ClientCertVerifier>,
    between: Vec<Certificate>,
}

impl Clients {
    /// With `must`, who shows no certificate is turned away.
    pub(super) fn new(trusted: Vec<Certificate>, must: bool, provider: Arc<CryptoProvider>) -> Result<Clients, String> {
        let (roots, between): (Vec<_>, Vec<_>) = trusted.iter().cloned().partition(signed_itself);
        let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(store(roots)), provider);
        let builder = if must { builder } else { builder.allow_unauthenticated() };
        Ok(Clients { by_chain: builder.build().map_err(|error| error.to_string())?, trusted, between })
    }
}

impl ClientCertVerifier for Clients {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.by_chain.root_hint_subjects()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.by_chain.client_auth_mandatory()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        shown: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        if is_known(&self.trusted, certificate, now) {
            return Ok(ClientCertVerified::assertion());
        }
        let between: Vec<CertificateDer> = shown.iter().chain(&self.between).cloned().collect();
        self.by_chain.verify_client_cert(certificate, &between, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.by_chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.by_chain.supported_verify_schemes()
    }
}
