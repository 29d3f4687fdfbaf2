//! What an authority has signed and what it has revoked: `issued.jsonl`, one line for each, and `revoked.crl`, the list that
//! agents are given. Neither is a secret.

use std::collections::BTreeSet;
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use baton_wire::Role;
use serde::{Deserialize, Serialize};

use super::{FILE_BYTES_MAX, PkiError, place};

pub(super) const ISSUED: &str = "issued.jsonl";
pub(super) const REVOKED: &str = "revoked.crl";
/// Length of a line of PEM.
const PEM_LINE_CHARS: usize = 64;

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "entry", rename_all = "kebab-case")]
pub enum Entry {
    /// `serial` is hexadecimal; `role` as `operator NAME` or `agent of HOST`.
    Issued {
        serial: String,
        role: String,
        at_unix: u64,
        expires_unix: u64,
    },
    Revoked {
        serial: String,
        at_unix: u64,
    },
}

/// What was signed, and has neither been revoked nor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Valid {
    pub serial: String,
    pub role: String,
    pub expires_unix: u64,
}

/// The ledger of a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    entries: Vec<Entry>,
}

impl Ledger {
    pub fn read(dir: &Path) -> Result<Ledger, PkiError> {
        let path = dir.join(ISSUED);
        if !path.exists() {
            return Ok(Ledger::default());
        }
        let text = place::read(&path, FILE_BYTES_MAX * 64)?;
        let parse = |line: &str| serde_json::from_str(line);
        let entries = text.lines().filter(|line| !line.is_empty()).map(parse).collect::<Result<Vec<Entry>, _>>();
        let entries = entries.map_err(|error| PkiError::Ledger { path, error })?;
        Ok(Ledger { entries })
    }

    /// What of this role is still believed.
    pub fn valid(&self, role: Option<&Role>, now_unix: u64) -> Vec<Valid> {
        let revoked: BTreeSet<&str> = self.revoked().collect();
        let wanted = role.map(ToString::to_string);
        let valid = self.entries.iter().filter_map(|entry| match entry {
            Entry::Issued { serial, role, expires_unix, .. } => {
                Some(Valid { serial: serial.clone(), role: role.clone(), expires_unix: *expires_unix })
            }
            Entry::Revoked { .. } => None,
        });
        valid
            .filter(|valid| valid.expires_unix > now_unix && !revoked.contains(valid.serial.as_str()))
            .filter(|valid| wanted.as_ref().is_none_or(|wanted| *wanted == valid.role))
            .collect()
    }

    /// The serial numbers of all that was revoked.
    pub fn revoked(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Revoked { serial, .. } => Some(serial.as_str()),
            Entry::Issued { .. } => None,
        })
    }

    /// How often something was revoked: the number of the list grows with it.
    pub fn revocations(&self) -> u64 {
        self.revoked().count() as u64
    }
}

/// Adds a line, synced.
pub(super) fn append(dir: &Path, entry: &Entry) -> Result<(), PkiError> {
    let path = dir.join(ISSUED);
    let failed = |error| PkiError::File { doing: "write", path: path.clone(), error };
    let mut line = serde_json::to_vec(entry).map_err(|error| failed(error.into()))?;
    line.push(b'\n');
    let mut file = OpenOptions::new().append(true).create(true).open(&path).map_err(failed)?;
    file.write_all(&line).and_then(|()| file.sync_all()).map_err(failed)
}

/// The list that agents are given, if anything was ever revoked.
pub fn list(dir: &Path) -> Result<Option<Vec<u8>>, PkiError> {
    let path = dir.join(REVOKED);
    match std::fs::read(&path) {
        Ok(list) => Ok(Some(list)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PkiError::File { doing: "read", path, error }),
    }
}

/// A list as it stands in an identity bundle (RFC 7468, section 6).
pub(super) fn pem(list: &[u8]) -> String {
    let text = hex::BASE64.encode(list);
    let lines: Vec<&str> =
        text.as_bytes().chunks(PEM_LINE_CHARS).filter_map(|line| str::from_utf8(line).ok()).collect();
    format!("-----BEGIN X509 CRL-----\n{}\n-----END X509 CRL-----\n", lines.join("\n"))
}

/// Keeps a list in a directory that need not be there yet.
pub fn keep(dir: &Path, list: &[u8]) -> Result<PathBuf, PkiError> {
    let failed = |error| PkiError::File { doing: "make directory", path: dir.to_owned(), error };
    std::fs::create_dir_all(dir).map_err(failed)?;
    replace_list(dir, list)
}

/// Puts another list in its place, whole or not at all.
pub(super) fn replace_list(dir: &Path, list: &[u8]) -> Result<PathBuf, PkiError> {
    let (path, new) = (dir.join(REVOKED), dir.join(format!(".{REVOKED}.new")));
    let failed = |error| PkiError::File { doing: "write", path: path.clone(), error };
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).open(&new).map_err(failed)?;
    file.write_all(list).and_then(|()| file.sync_all()).map_err(failed)?;
    std::fs::rename(&new, &path).map_err(failed)?;
    Ok(path)
}
