//! Who a program is: one PEM bundle with its certificate, its key and the certificate of the private CA; and, where anything
//! was revoked before it was made, the list of that.

use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use baton_proto::HostName;
use rustls_pki_types::pem::{PemObject, SectionKind};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

/// What a certificate allows its holder to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Role {
    /// May give orders to agents.
    Operator(String),
    /// Is the agent of that host: takes orders, and pulls snapshots for which it holds a ticket.
    Agent(HostName),
}

/// The scheme and authority parts of the URI in which a certificate carries a role.
const ROLE_OPERATOR: &str = "baton://operator/";
const ROLE_AGENT: &str = "baton://agent/";

/// Largest identity bundle: three PEM blocks are about 2 KB, and the largest list of revoked certificates 65 KB.
const BUNDLE_BYTES_MAX: u64 = 128 * 1024;

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Role::Operator(name) => write!(f, "operator {name}"),
            Role::Agent(host) => write!(f, "agent of {host}"),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    #[error("read identity {path}: {error}")]
    Read { path: PathBuf, error: std::io::Error },
    #[error("write {path}: {error}")]
    Write { path: PathBuf, error: std::io::Error },
    #[error("identity {path} can be read by others (mode {mode:04o}); run `chmod 600 {path}`")]
    Exposed { path: PathBuf, mode: u32 },
    #[error("identity {path} is larger than {BUNDLE_BYTES_MAX} bytes")]
    Large { path: PathBuf },
    #[error("identity {path}: {reason}; make it with `coord pki issue` or `coord pki init`")]
    Content { path: PathBuf, reason: String },
}

/// A loaded identity.
pub struct Identity {
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: PrivateKeyDer<'static>,
    pub(crate) authority: CertificateDer<'static>,
    /// What was revoked when it was made, as the authority has signed it. Nobody has looked at it yet.
    pub(crate) list: Option<Vec<u8>>,
    facts: Facts,
}

/// What stands in a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    pub role: Role,
    pub serial: Vec<u8>,
    /// Seconds since 1970.
    pub expires_unix: u64,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, key hidden)", self.facts.role)
    }
}

impl Identity {
    /// Loads a bundle, and refuses a file that others can read.
    pub fn load(path: &Path) -> Result<Identity, IdentityError> {
        let read = |error| IdentityError::Read { path: path.to_owned(), error };
        let file = std::fs::File::open(path).map_err(read)?;
        let metadata = file.metadata().map_err(read)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::Exposed { path: path.to_owned(), mode });
        }
        if metadata.len() > BUNDLE_BYTES_MAX {
            return Err(IdentityError::Large { path: path.to_owned() });
        }
        let pem = std::io::read_to_string(file).map_err(read)?;
        Self::parse(pem.as_bytes()).map_err(|reason| IdentityError::Content { path: path.to_owned(), reason })
    }

    /// Reads certificate, key, CA certificate and list, in any order: the CA is the certificate that says so.
    pub fn parse(pem: &[u8]) -> Result<Identity, String> {
        let (mut certificate, mut authority, mut key, mut list) = (None, None, None, None);
        for block in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
            let (kind, der) = block.map_err(|error| format!("not a PEM bundle: {error}"))?;
            match kind {
                SectionKind::Certificate => {
                    let der = CertificateDer::from(der);
                    let slot = if is_authority(&der)? { &mut authority } else { &mut certificate };
                    if slot.replace(der).is_some() {
                        return Err("it holds two certificates of the same kind".into());
                    }
                }
                SectionKind::PrivateKey => key = Some(PrivateKeyDer::Pkcs8(der.into())),
                SectionKind::Crl => list = Some(der),
                _ => {}
            }
        }
        let certificate = certificate.ok_or("it holds no certificate of a host or operator")?;
        let authority = authority.ok_or("it holds no CA certificate")?;
        let key = key.ok_or("it holds no private key (PKCS#8)")?;
        let facts = facts_of(&certificate)?;
        Ok(Identity { certificate, key, authority, list, facts })
    }

    pub fn role(&self) -> &Role {
        &self.facts.role
    }

    pub fn facts(&self) -> &Facts {
        &self.facts
    }
}

fn parsed<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, String> {
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|error| format!("unreadable certificate: {error}"))?;
    Ok(certificate)
}

fn is_authority(der: &CertificateDer<'_>) -> Result<bool, String> {
    Ok(parsed(der)?.is_ca())
}

impl Facts {
    /// Reads the first certificate of a PEM text.
    pub fn of_pem(pem: &[u8]) -> Result<Facts, String> {
        let first = CertificateDer::pem_slice_iter(pem).next().ok_or("it holds no certificate")?;
        facts_of(&first.map_err(|error| error.to_string())?)
    }
}

/// Reads what a verified certificate says.
pub(crate) fn facts_of(der: &CertificateDer<'_>) -> Result<Facts, String> {
    let certificate = parsed(der)?;
    let expires_unix = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Ok(Facts { role: role_of(der)?, serial: certificate.raw_serial().to_vec(), expires_unix })
}

/// Reads the role that a verified certificate carries. A certificate with none, or with two, has none.
fn role_of(der: &CertificateDer<'_>) -> Result<Role, String> {
    let certificate = parsed(der)?;
    let names = certificate.subject_alternative_name().map_err(|error| format!("unreadable names: {error}"))?;
    let uris = names.iter().flat_map(|names| &names.value.general_names).filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    let mut roles = uris.filter_map(|uri| {
        if let Some(name) = uri.strip_prefix(ROLE_OPERATOR) {
            return Some(Role::Operator(name.chars().filter(|c| c.is_ascii_graphic()).take(64).collect()));
        }
        uri.strip_prefix(ROLE_AGENT).and_then(|host| HostName::new(host).ok()).map(Role::Agent)
    });
    match (roles.next(), roles.next()) {
        (Some(role), None) => Ok(role),
        _ => Err("its certificate carries no role of Baton".into()),
    }
}
