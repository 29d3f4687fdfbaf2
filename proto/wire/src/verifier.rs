//! Verifiers for rustls that differ in one thing alone: which certificates they believe. That a peer has the key of the one
//! that it shows is seen in the same way for all.

use std::fmt;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// What a peer has shown, and when. `between` are the certificates that came with its own.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    pub certificate: &'a CertificateDer<'a>,
    pub between: &'a [CertificateDer<'a>],
    pub now: UnixTime,
}

/// Whom a client believes.
pub trait BelievesServers: fmt::Debug + Send + Sync {
    /// The error is why not.
    fn believe_server(&self, shown: Shown<'_>, name: &ServerName<'_>) -> Result<(), Error>;
}

/// Whom a server believes.
pub trait BelievesClients: fmt::Debug + Send + Sync {
    /// The error is why not.
    fn believe_client(&self, shown: Shown<'_>) -> Result<(), Error>;

    /// Whose certificates are asked for.
    fn authorities(&self) -> &[DistinguishedName];

    /// Whether who shows no certificate is turned away.
    fn must_show(&self) -> bool {
        true
    }
}

/// A verifier that believes whom `B` does.
#[derive(Debug)]
pub struct Verifier<B> {
    believer: B,
    algorithms: WebPkiSupportedAlgorithms,
}

impl<B> Verifier<B> {
    pub fn new(believer: B, provider: &CryptoProvider) -> Self {
        Self { believer, algorithms: provider.signature_verification_algorithms }
    }
}

impl<B: BelievesServers> ServerCertVerifier for Verifier<B> {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.believer.believe_server(Shown { certificate, between, now }, name)?;
        Ok(ServerCertVerified::assertion())
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

impl<B: BelievesClients> ClientCertVerifier for Verifier<B> {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.believer.authorities()
    }

    fn client_auth_mandatory(&self) -> bool {
        self.believer.must_show()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.believer.believe_client(Shown { certificate, between, now })?;
        Ok(ClientCertVerified::assertion())
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
