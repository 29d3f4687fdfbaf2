//! Who is trusted: whoever the server itself would trust, by the chain and without a name.
//!
//! Of the trusted certificates those that signed themselves are where a chain must end, and the others help it there, as in
//! OpenSSL. A server's own certificate that stands among them is trusted as it is.

use std::fmt;
use std::sync::Arc;

use baton_wire::{BelievesClients, BelievesServers, Shown};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::client::verify_server_cert_signed_by_trust_anchor;
use tokio_rustls::rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms};
use tokio_rustls::rustls::server::danger::ClientCertVerifier;
use tokio_rustls::rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use tokio_rustls::rustls::{CertificateError, DistinguishedName, Error, OtherError, RootCertStore};
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

/// Whether what a peer shows is itself among the trusted ones, and in its time.
fn is_known(trusted: &[Certificate], shown: &Shown<'_>) -> bool {
    trusted.iter().any(|known| known == shown.certificate)
        && X509Certificate::from_der(shown.certificate).is_ok_and(|(_, parsed)| {
            let now = i64::try_from(shown.now.as_secs()).unwrap_or(i64::MAX);
            let validity = parsed.validity();
            (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now)
        })
}

/// What may help a peer's chain to its end: what it shows itself, and what is known here.
fn with<'a>(known: &[Certificate], shown: &Shown<'a>) -> Vec<CertificateDer<'a>> {
    shown.between.iter().chain(known).cloned().collect()
}

impl BelievesServers for Chain {
    fn believe_server(&self, shown: Shown<'_>, _: &ServerName<'_>) -> Result<(), Error> {
        if is_known(&self.trusted, &shown) {
            return Ok(());
        }
        let between = with(&self.between, &shown);
        ParsedCertificate::try_from(shown.certificate)
            .and_then(|parsed| {
                let algorithms = self.algorithms.all;
                verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, &between, shown.now, algorithms)
            })
            .map_err(|error| self.words(shown.certificate, error))
    }
}

/// Trusts everybody: for nothing but the question whether TLS is spoken at all.
#[derive(Debug)]
pub(super) struct Anybody;

impl BelievesServers for Anybody {
    fn believe_server(&self, _: Shown<'_>, _: &ServerName<'_>) -> Result<(), Error> {
        Ok(())
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

impl BelievesClients for Clients {
    fn believe_client(&self, shown: Shown<'_>) -> Result<(), Error> {
        if is_known(&self.trusted, &shown) {
            return Ok(());
        }
        self.by_chain.verify_client_cert(shown.certificate, &with(&self.between, &shown), shown.now).map(drop)
    }

    fn authorities(&self) -> &[DistinguishedName] {
        self.by_chain.root_hint_subjects()
    }

    fn must_show(&self) -> bool {
        self.by_chain.client_auth_mandatory()
    }
}
