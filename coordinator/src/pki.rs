//! The private certificate authority: makes it, and signs the identities of operators and agents with it.
//!
//! A directory holds it: `ca.key`, `ca.pem`, and `operator.pem`, the identity of who made it. Nothing that stands there is
//! ever written over, but for the list of what was revoked. Roles are names in the certificates; `baton-wire` reads them.

pub mod ledger;
mod place;

use std::path::{Path, PathBuf};

use baton_proto::HostName;
use baton_wire::{Facts, Role};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertificateSigningRequestParams,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, RevokedCertParams, SanType, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use self::ledger::{Entry, Ledger};
use crate::error::{CoordError, Exit};

/// Names of the files in the directory.
pub(crate) const CA_KEY: &str = "ca.key";
pub(crate) const CA_CERTIFICATE: &str = "ca.pem";
pub(crate) const OPERATOR: &str = "operator.pem";

/// How long the authority is valid. Everything it signed must be made again when it ends.
const CA_DAYS: i64 = 3650;
/// How long an identity is valid.
const IDENTITY_DAYS: i64 = 730;
/// How far before its making a certificate is valid: a machine may be made, or come back, with a clock that is wrong, and
/// whose certificate is not valid yet can be told nothing at all.
const CLOCK_SKEW: Duration = Duration::days(1);
/// Largest file read back: a key or a certificate is about 1 KB.
const FILE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    #[error("{} exists, and nothing is written over", .0.display())]
    Exists(PathBuf),
    #[error("{doing} {}: {error}", path.display())]
    File { doing: &'static str, path: PathBuf, error: std::io::Error },
    #[error("{} can be changed by others (mode {mode:04o})", path.display())]
    Open { path: PathBuf, mode: u32 },
    #[error("{} can be read by others (mode {mode:04o}), so it no longer proves anything", path.display())]
    Exposed { path: PathBuf, mode: u32 },
    #[error("{} holds no certificate authority: {reason}", path.display())]
    NoAuthority { path: PathBuf, reason: String },
    #[error("host name `{0}` cannot be in a certificate: {1}")]
    HostName(HostName, &'static str),
    #[error("{} cannot be read: {error}", path.display())]
    Ledger { path: PathBuf, error: serde_json::Error },
    #[error("no certificate of the {0} is valid, or none is known of: {1} lists them")]
    NoneValid(Role, String),
    #[error("the signing request is not understood: {0}")]
    Request(rcgen::Error),
    #[error("make certificate: {0}")]
    Certificate(#[from] rcgen::Error),
}

impl PkiError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Exists(path) if path.ends_with(CA_KEY) => Some(format!(
                "an authority is there: `coord pki issue HOST --dir {} --out FILE` signs with it",
                path.parent().unwrap_or(Path::new(".")).display()
            )),
            Self::Exists(path) => Some(format!("name another path, or move {} away first", path.display())),
            Self::Open { path, .. } => Some(format!("run `chmod go-w {}`, or name another directory", path.display())),
            Self::Exposed { path, .. } => Some(format!(
                "if nobody else can have read it run `chmod 600 {}`, else make a new authority with `coord pki init DIR`",
                path.display()
            )),
            Self::NoAuthority { .. } => Some("make one with `coord pki init DIR`".into()),
            Self::HostName(..) => Some("name the host as DNS would: letters, digits and `-` in each part".into()),
            Self::NoneValid(..) => Some("identities that were made before there was a list of them end with their time; a new authority ends them at once".into()),
            Self::File { .. } | Self::Certificate(_) | Self::Ledger { .. } | Self::Request(_) => None,
        }
    }
}

impl From<PkiError> for CoordError {
    fn from(error: PkiError) -> Self {
        let exit = match &error {
            PkiError::Certificate(_) => Exit::Defect,
            _ => Exit::Usage,
        };
        let mut converted = CoordError::new(exit, &error);
        converted.hint = error.hint();
        converted
    }
}

/// What `init` made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    pub authority: PathBuf,
    pub operator: PathBuf,
    pub operator_name: String,
}

/// Makes an authority and the identity of an operator in a directory, which is made if it is not there.
pub fn init(dir: &Path, operator: &str) -> Result<Made, PkiError> {
    place::directory(dir)?;
    let paths = [CA_KEY, CA_CERTIFICATE, OPERATOR].map(|name| dir.join(name));
    if let Some(there) = paths.iter().find(|path| path.symlink_metadata().is_ok()) {
        return Err(PkiError::Exists(there.clone()));
    }
    let now = OffsetDateTime::now_utc();
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let params = authority(now);
    let certificate = params.self_signed(&key)?;
    let key_pem = key.serialize_pem();
    let authority = Authority { issuer: Issuer::new(params, key), certificate_pem: certificate.pem() };
    let operator = uri_name(operator);
    let identity = authority.sign(operator_params(&operator, now)?)?;
    let [ca_key, ca_certificate, operator_path] = paths;
    place::secret(&ca_key, &key_pem)?;
    place::public(&ca_certificate, &authority.certificate_pem)?;
    place::secret(&operator_path, &identity)?;
    note_issued(dir, &identity)?;
    Ok(Made { authority: ca_certificate, operator: operator_path, operator_name: operator })
}

/// Makes the identity of a host's agent. It is a secret: it belongs on that host, and nowhere else.
pub fn issue(host: &HostName, dir: &Path, out: &Path) -> Result<(), PkiError> {
    check_host(host)?;
    if out.symlink_metadata().is_ok() {
        return Err(PkiError::Exists(out.to_owned()));
    }
    let authority = Authority::load(dir)?;
    let identity = authority.sign(agent_params(host, OffsetDateTime::now_utc())?)?;
    place::secret(out, &with_list(&identity, dir)?)?;
    note_issued(dir, &identity)
}

/// Makes the identity of another operator, by name: the journal and the agents tell who gave which order.
pub fn operator(name: &str, dir: &Path, out: &Path) -> Result<String, PkiError> {
    if out.symlink_metadata().is_ok() {
        return Err(PkiError::Exists(out.to_owned()));
    }
    let (authority, name) = (Authority::load(dir)?, uri_name(name));
    let identity = authority.sign(operator_params(&name, OffsetDateTime::now_utc())?)?;
    place::secret(out, &with_list(&identity, dir)?)?;
    note_issued(dir, &identity)?;
    Ok(name)
}

/// Adds to a bundle what is revoked by now: whoever is new would believe it until told.
fn with_list(bundle: &str, dir: &Path) -> Result<String, PkiError> {
    let list = ledger::list(dir)?.map(|list| ledger::pem(&list)).unwrap_or_default();
    Ok([bundle, list.as_str()].concat())
}

/// Signs the key of an agent that asks for a new certificate. Yields it and the authority's: no secret.
pub fn renew(host: &HostName, dir: &Path, request: &str) -> Result<String, PkiError> {
    check_host(host)?;
    let authority = Authority::load(dir)?;
    let request = CertificateSigningRequestParams::from_pem(request).map_err(PkiError::Request)?;
    // Of what it asks for only the key is taken: who it is, its address in the inventory says.
    let params = agent_params(host, OffsetDateTime::now_utc())?;
    let certificate = params.signed_by(&request.public_key, &authority.issuer)?.pem();
    note_issued(dir, &certificate)?;
    Ok([certificate, authority.certificate_pem].concat())
}

/// Revokes every certificate of a role, but for those that are to stay. Yields the serial numbers, and the list that agents
/// are to be given.
pub fn revoke(role: &Role, dir: &Path, but: &[String]) -> Result<(Vec<String>, Vec<u8>), PkiError> {
    let authority = Authority::load(dir)?;
    let valid = Ledger::read(dir)?.valid(Some(role), unix_now());
    let serials: Vec<String> =
        valid.into_iter().map(|valid| valid.serial).filter(|serial| !but.contains(serial)).collect();
    if serials.is_empty() {
        let lists = format!("`coord pki list --dir {}`", dir.display());
        return Err(PkiError::NoneValid(role.clone(), lists));
    }
    for serial in &serials {
        ledger::append(dir, &Entry::Revoked { serial: serial.clone(), at_unix: unix_now() })?;
    }
    let list = authority.list(&Ledger::read(dir)?)?;
    ledger::replace_list(dir, &list)?;
    Ok((serials, list))
}

fn note_issued(dir: &Path, bundle: &str) -> Result<(), PkiError> {
    // The first certificate of what was signed is the new one.
    let facts =
        Facts::of_pem(bundle.as_bytes()).map_err(|reason| PkiError::NoAuthority { path: dir.to_owned(), reason })?;
    let (serial, role) = (hex::HEXLOWER.encode(&facts.serial), facts.role.to_string());
    ledger::append(dir, &Entry::Issued { serial, role, at_unix: unix_now(), expires_unix: facts.expires_unix })
}

pub fn unix_now() -> u64 {
    u64::try_from(OffsetDateTime::now_utc().unix_timestamp()).unwrap_or(0)
}

/// Name of the operator where the environment gives none.
pub const OPERATOR_DEFAULT: &str = "operator";
/// Longest name of an operator, as in the reader.
const OPERATOR_CHARS_MAX: usize = 64;

/// Makes of a user's name one that needs no escapes in a URI.
fn uri_name(name: &str) -> String {
    let name: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect();
    let name: String = name.chars().take(OPERATOR_CHARS_MAX).collect();
    if name.is_empty() { OPERATOR_DEFAULT.into() } else { name }
}

/// Refuses a name with which TLS would not find the host: what a name may be is stricter there.
fn check_host(host: &HostName) -> Result<(), PkiError> {
    let refuse = |why| Err(PkiError::HostName(host.clone(), why));
    let mut last = "";
    for label in host.as_str().split('.') {
        if label.is_empty() {
            return refuse("it has an empty part");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return refuse("a part of it begins or ends with `-`");
        }
        last = label;
    }
    let hex = last.strip_prefix("0x").is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_hexdigit()));
    if hex || last.bytes().all(|b| b.is_ascii_digit()) {
        return refuse("its last part is a number, as in an IP address");
    }
    Ok(())
}

fn named(name: String) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn authority(now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    // Two authorities of the same name would be told apart by a failed signature alone.
    params.distinguished_name = named(format!("Baton CA {:08x}", rand::random::<u32>()));
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign, KeyUsagePurpose::DigitalSignature];
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + Duration::days(CA_DAYS);
    params
}

fn operator_params(name: &str, now: OffsetDateTime) -> Result<CertificateParams, PkiError> {
    let mut params = leaf(format!("operator {name}"), now);
    params.subject_alt_names = vec![SanType::URI(format!("baton://operator/{name}").try_into()?)];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn agent_params(host: &HostName, now: OffsetDateTime) -> Result<CertificateParams, PkiError> {
    let mut params = leaf(format!("agent {host}"), now);
    params.subject_alt_names = vec![
        SanType::DnsName(host.as_str().to_owned().try_into()?),
        SanType::URI(format!("baton://agent/{host}").try_into()?),
    ];
    // An agent also dials: it pulls snapshots from other agents.
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    Ok(params)
}

fn leaf(name: String, now: OffsetDateTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = named(name);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + Duration::days(IDENTITY_DAYS);
    params
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate_pem: String,
}

impl Authority {
    /// Loads the authority of a directory, and refuses a key that others can read.
    fn load(dir: &Path) -> Result<Authority, PkiError> {
        let (key_path, certificate_path) = (dir.join(CA_KEY), dir.join(CA_CERTIFICATE));
        let key_pem = place::read_secret(&key_path, FILE_BYTES_MAX)?;
        let certificate_pem = place::read(&certificate_path, FILE_BYTES_MAX)?;
        let none = |path: &Path, error: rcgen::Error| PkiError::NoAuthority {
            path: path.to_owned(),
            reason: error.to_string(),
        };
        let key = KeyPair::from_pem(&key_pem).map_err(|error| none(&key_path, error))?;
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key).map_err(|error| none(&certificate_path, error))?;
        Ok(Authority { issuer, certificate_pem })
    }

    /// Signs a new key, and returns the bundle: certificate, key, and the certificate of the authority.
    fn sign(&self, params: CertificateParams) -> Result<String, PkiError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let certificate = params.signed_by(&key, &self.issuer)?;
        Ok([certificate.pem(), key.serialize_pem(), self.certificate_pem.clone()].concat())
    }
}

impl Authority {
    /// The list of all that was revoked. Its number grows with each; it does not end, since agents are given the next when
    /// there is one.
    fn list(&self, ledger: &Ledger) -> Result<Vec<u8>, PkiError> {
        let now = OffsetDateTime::now_utc();
        let revoked = ledger.revoked().filter_map(|serial| hex::HEXLOWER.decode(serial.as_bytes()).ok());
        let entry = |serial: Vec<u8>| RevokedCertParams {
            serial_number: SerialNumber::from(serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        };
        let params = CertificateRevocationListParams {
            this_update: now - CLOCK_SKEW,
            next_update: now + Duration::days(CA_DAYS),
            crl_number: SerialNumber::from(ledger.revocations()),
            issuing_distribution_point: None,
            revoked_certs: revoked.map(entry).collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(params.signed_by(&self.issuer)?.der().to_vec())
    }
}

#[cfg(test)]
mod tests;
