//! Reads the files of a server's TLS.

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::files::{Files, Pair};

/// Largest file read: the bundle of a whole system's authorities takes a fourth of it.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Most files of a `tls-ca-cert-dir`: a system has some 150 authorities, each under two names.
const CA_FILES_MAX: usize = 1024;
/// Most certificates read from one file.
const CERTIFICATES_MAX: usize = 1024;

type Certificate = CertificateDer<'static>;

/// Every certificate that the server trusts.
pub(super) fn trusted(files: &Files) -> Result<Vec<Certificate>, String> {
    let mut all = Vec::new();
    for file in files.ca_file.iter().chain(&files.ca_of_agent) {
        all.extend(certificates(file)?);
    }
    if let Some(dir) = &files.ca_dir {
        for file in listed(dir)? {
            // What else lies there does not matter, as it does not to the server.
            all.extend(certificates(&file).unwrap_or_default());
        }
    }
    if all.is_empty() {
        return Err(match files.trust_in_words().as_str() {
            "" => "no CA is known: redis.conf names no `tls-ca-cert-file`, and agent.toml no `tls_ca`".to_owned(),
            places => format!("no CA is known: {places} holds no certificate"),
        });
    }
    Ok(all)
}

/// A chain and its key, if the configuration names them.
pub(super) fn own(pair: Option<&Pair>) -> Result<Option<(Vec<Certificate>, PrivateKeyDer<'static>)>, String> {
    let Some((cert, key)) = pair else { return Ok(None) };
    let chain = certificates(cert)?;
    if chain.is_empty() {
        return Err(format!("{} holds no certificate", cert.display()));
    }
    let text = read(key)?;
    let key = PrivateKeyDer::from_pem_slice(&text)
        .map_err(|error| format!("{} holds no key that can be read without a password: {error}", key.display()))?;
    Ok(Some((chain, key)))
}

fn certificates(file: &Path) -> Result<Vec<Certificate>, String> {
    let text = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).take(CERTIFICATES_MAX).collect();
    found.map_err(|error| format!("{}: {error}", file.display()))
}

fn listed(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let entries = fs::read_dir(dir).map_err(|error| format!("read {}: {error}", dir.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).take(CA_FILES_MAX).collect())
}

fn read(file: &Path) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let opened = fs::File::open(file);
    let read = opened.and_then(|opened| opened.take(FILE_BYTES_MAX.saturating_add(1)).read_to_end(&mut bytes));
    match read {
        Ok(_) if bytes.len() as u64 > FILE_BYTES_MAX => {
            Err(format!("{} is larger than {FILE_BYTES_MAX} bytes", file.display()))
        }
        Ok(_) => Ok(bytes),
        Err(error) => Err(format!("read {}: {error}", file.display())),
    }
}
