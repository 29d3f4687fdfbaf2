//! What a program shows and whom it believes, while it runs: its identity can be renewed, and certificates of its authority
//! revoked, without a restart. Connections that were made before are judged anew by [`Credentials::is_revoked`].

use std::collections::HashSet;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use baton_proto::{Fault, FaultKind};
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{ResolvesClientCert, WebPkiServerVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{DistinguishedName, RootCertStore, SignatureScheme};
use rustls_pki_types::{
    CertificateDer, CertificateRevocationListDer, ServerName, SignatureVerificationAlgorithm, UnixTime,
};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate};

use crate::identity::{Identity, IdentityError};
use crate::verifier::{BelievesClients, BelievesServers, Shown};

/// Largest list of revoked certificates: one entry is some 40 bytes.
pub const REVOCATIONS_BYTES_MAX: usize = 48 * 1024;

/// An identity and the certificates that are not believed any more. Clones share them.
#[derive(Clone)]
pub struct Credentials(Arc<Shared>);

struct Shared {
    provider: Arc<CryptoProvider>,
    roots: Arc<RootCertStore>,
    hints: Vec<DistinguishedName>,
    now: RwLock<Now>,
}

struct Now {
    identity: Arc<Identity>,
    key: Arc<CertifiedKey>,
    servers: Arc<WebPkiServerVerifier>,
    clients: Arc<dyn ClientCertVerifier>,
    /// Number of the list; 0: there is none.
    list: u64,
    /// The list itself.
    bytes: Vec<u8>,
    revoked: HashSet<Vec<u8>>,
}

/// Why an identity or a list is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    #[error("it is the identity of the {found}, and this is the {own}")]
    OtherRole { found: String, own: String },
    #[error("it is of another authority")]
    OtherAuthority,
    #[error("it is no list of revoked certificates: {0}")]
    NoList(String),
    #[error("it is older than the list that is known, number {known}")]
    Old { known: u64 },
    #[error("it leaves out what another list has revoked: the authority's directory was copied or restored")]
    Forgets,
    #[error("{0}")]
    Tls(String),
}

impl From<TrustError> for Fault {
    fn from(error: TrustError) -> Fault {
        Fault::new(FaultKind::Invalid, error)
    }
}

pub(crate) fn tls(error: impl fmt::Display) -> TrustError {
    TrustError::Tls(error.to_string())
}

impl Credentials {
    /// Loads an identity bundle.
    pub fn load(path: &Path) -> Result<Credentials, IdentityError> {
        let content = |error: TrustError| IdentityError::Content { path: path.to_owned(), reason: error.to_string() };
        Self::new(Identity::load(path)?).map_err(content)
    }

    pub fn new(identity: Identity) -> Result<Credentials, TrustError> {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(identity.authority.clone()).map_err(tls)?;
        let (roots, hints) = (Arc::new(roots.clone()), roots.subjects());
        let key = certified(&identity, &provider)?;
        let (servers, clients) = verifiers(&roots, &provider, None)?;
        let now = Now {
            identity: Arc::new(identity),
            key,
            servers,
            clients,
            list: 0,
            bytes: Vec::new(),
            revoked: HashSet::new(),
        };
        Ok(Credentials(Arc::new(Shared { provider, roots, hints, now: RwLock::new(now) })))
    }

    fn read<T>(&self, read: impl FnOnce(&Now) -> T) -> T {
        // It is replaced field by field with values that were made before, so it is whole even if poisoned.
        read(&self.0.now.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The certificate and key that are shown now.
    pub(crate) fn shown(&self) -> Arc<CertifiedKey> {
        self.read(|now| Arc::clone(&now.key))
    }

    /// How signatures of a scheme are verified.
    pub(crate) fn algorithms(&self, scheme: SignatureScheme) -> Vec<&'static dyn SignatureVerificationAlgorithm> {
        let mapping = self.0.provider.signature_verification_algorithms.mapping;
        mapping.iter().filter(|(of, _)| *of == scheme).flat_map(|(_, with)| with.iter().copied()).collect()
    }

    pub fn identity(&self) -> Arc<Identity> {
        self.read(|now| Arc::clone(&now.identity))
    }

    /// Number of the list of revoked certificates that is known. 0: none is.
    pub fn list(&self) -> u64 {
        self.read(|now| now.list)
    }

    /// Whether a certificate, by its serial number, is not believed any more.
    pub fn is_revoked(&self, serial: &[u8]) -> bool {
        self.read(|now| now.revoked.contains(serial))
    }

    /// Shows another certificate from now on: of the same role, and of the same authority.
    pub fn renew(&self, identity: Identity) -> Result<(), TrustError> {
        self.check(&identity)?;
        let key = certified(&identity, &self.0.provider)?;
        let mut now = self.0.now.write().unwrap_or_else(PoisonError::into_inner);
        (now.identity, now.key) = (Arc::new(identity), key);
        Ok(())
    }

    /// Whether an identity may be shown instead of the present one.
    pub fn check(&self, identity: &Identity) -> Result<(), TrustError> {
        let own = self.identity();
        if identity.role() != own.role() {
            let (found, own) = (identity.role().to_string(), own.role().to_string());
            return Err(TrustError::OtherRole { found, own });
        }
        if identity.authority != own.authority {
            return Err(TrustError::OtherAuthority);
        }
        // As its peers will judge it: signed by the authority, valid now, not revoked; and its key is that of the certificate.
        let peers = self.read(|now| Arc::clone(&now.clients));
        peers.verify_client_cert(&identity.certificate, &[], UnixTime::now()).map_err(tls)?;
        certified(identity, &self.0.provider)?.keys_match().map_err(tls)
    }

    /// Believes none of the certificates of a list from now on. Only the authority signs one, and an older one is refused.
    pub fn revoke(&self, list: &[u8]) -> Result<u64, TrustError> {
        let authority = self.identity().authority.clone();
        let (number, revoked) = read_list(list, &authority)?;
        let (servers, clients) = verifiers(&self.0.roots, &self.0.provider, Some(list))?;
        // Held from the comparison on: of two lists that come at once the older one must not be the last.
        let mut now = self.0.now.write().unwrap_or_else(PoisonError::into_inner);
        let known = now.list;
        if number < known || (number == known && known > 0 && now.bytes != list) {
            return Err(TrustError::Old { known });
        }
        if !now.revoked.is_subset(&revoked) {
            return Err(TrustError::Forgets);
        }
        (now.servers, now.clients, now.list, now.revoked) = (servers, clients, number, revoked);
        now.bytes = list.to_vec();
        Ok(number)
    }

    /// Believes none of the certificates of the list that came with the identity, unless as much or more is known already.
    /// Yields it if it was news.
    pub fn revoke_by_identity(&self) -> Result<Option<Vec<u8>>, TrustError> {
        let Some(list) = self.identity().list.clone() else { return Ok(None) };
        let known = self.list();
        match self.revoke(&list) {
            Ok(number) => Ok((number > known).then_some(list)),
            Err(TrustError::Old { .. } | TrustError::Forgets) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, list {})", self.identity().role(), self.list())
    }
}

fn certified(identity: &Identity, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TrustError> {
    let chain = vec![identity.certificate.clone()];
    let key = CertifiedKey::from_der(chain, identity.key.clone_key(), provider).map_err(tls)?;
    Ok(Arc::new(key))
}

type Verifiers = (Arc<WebPkiServerVerifier>, Arc<dyn ClientCertVerifier>);

fn verifiers(
    roots: &Arc<RootCertStore>,
    provider: &Arc<CryptoProvider>,
    list: Option<&[u8]>,
) -> Result<Verifiers, TrustError> {
    let lists: Vec<_> = list.map(|list| CertificateRevocationListDer::from(list.to_vec())).into_iter().collect();
    let servers = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
        .with_crls(lists.clone())
        .only_check_end_entity_revocation()
        .allow_unknown_revocation_status();
    let clients = WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), Arc::clone(provider))
        .with_crls(lists)
        .only_check_end_entity_revocation()
        .allow_unknown_revocation_status();
    Ok((servers.build().map_err(tls)?, clients.build().map_err(tls)?))
}

/// The number of a list and the serial numbers on it, if the authority has signed it.
fn read_list(list: &[u8], authority: &CertificateDer<'_>) -> Result<(u64, HashSet<Vec<u8>>), TrustError> {
    let none = |error: String| TrustError::NoList(error);
    if list.len() > REVOCATIONS_BYTES_MAX {
        return Err(none(format!("{} bytes are too many", list.len())));
    }
    let (_, parsed) = CertificateRevocationList::from_der(list).map_err(|error| none(error.to_string()))?;
    let (_, authority) = X509Certificate::from_der(authority).map_err(|error| none(error.to_string()))?;
    if parsed.issuer() != authority.subject() {
        return Err(TrustError::OtherAuthority);
    }
    parsed.verify_signature(authority.public_key()).map_err(|_| TrustError::OtherAuthority)?;
    let number = parsed.crl_number().ok_or_else(|| none("it has no number".into()))?;
    let digits = number.to_u64_digits();
    let [number] = digits.as_slice() else { return Err(none("its number is no number of ours".into())) };
    let revoked = parsed.iter_revoked_certificates().map(|entry| entry.raw_serial().to_vec()).collect();
    Ok((*number, revoked))
}

impl ResolvesServerCert for Credentials {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.read(|now| Arc::clone(&now.key)))
    }
}

impl ResolvesClientCert for Credentials {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.read(|now| Arc::clone(&now.key)))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl BelievesServers for Credentials {
    fn believe_server(&self, shown: Shown<'_>, name: &ServerName<'_>) -> Result<(), rustls::Error> {
        let servers = self.read(|now| Arc::clone(&now.servers));
        servers.verify_server_cert(shown.certificate, shown.between, name, &[], shown.now).map(drop)
    }
}

impl BelievesClients for Credentials {
    fn believe_client(&self, shown: Shown<'_>) -> Result<(), rustls::Error> {
        let clients = self.read(|now| Arc::clone(&now.clients));
        clients.verify_client_cert(shown.certificate, shown.between, shown.now).map(drop)
    }

    fn authorities(&self) -> &[DistinguishedName] {
        &self.0.hints
    }
}
