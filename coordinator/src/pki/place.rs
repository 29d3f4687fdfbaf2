//! Where keys lie: files that only their owner can read, and that are never written over.
//!
//! A file is written whole under a temporary name, synced, and then linked to its own name. The link fails where something
//! stands already, so that after a crash at any point there is either nothing under that name or all of it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::PkiError;

const DIRECTORY_MODE: u32 = 0o700;
const SECRET_MODE: u32 = 0o600;
const PUBLIC_MODE: u32 = 0o644;

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    let path = path.to_owned();
    move |error| PkiError::File { doing, path, error }
}

fn mode(metadata: &std::fs::Metadata) -> u32 {
    metadata.permissions().mode() & 0o7777
}

/// Makes the directory for its owner alone, or accepts one in which only its owner can change anything.
pub(super) fn directory(dir: &Path) -> Result<(), PkiError> {
    match DirBuilder::new().mode(DIRECTORY_MODE).create(dir) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let mode = mode(&dir.metadata().map_err(failed("read directory", dir))?);
            if mode & 0o022 != 0 { Err(PkiError::Open { path: dir.to_owned(), mode }) } else { Ok(()) }
        }
        Err(error) => Err(failed("make directory", dir)(error)),
    }
}

pub(super) fn secret(path: &Path, text: &str) -> Result<(), PkiError> {
    create(path, text, SECRET_MODE)
}

pub(super) fn public(path: &Path, text: &str) -> Result<(), PkiError> {
    create(path, text, PUBLIC_MODE)
}

fn create(path: &Path, text: &str, mode: u32) -> Result<(), PkiError> {
    let temporary = temporary_name(path);
    let written = write(&temporary, text, mode).map_err(failed("write", path)).and_then(|()| {
        std::fs::hard_link(&temporary, path).map_err(|error| match error.kind() {
            ErrorKind::AlreadyExists => PkiError::Exists(path.to_owned()),
            _ => failed("write", path)(error),
        })
    });
    // The file has its own name now, or the failure is the one to tell.
    let _ = std::fs::remove_file(&temporary);
    written?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync directory of", path))
}

fn temporary_name(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{:08x}.new", rand::random::<u32>()))
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Reads a file of which the content is bounded.
pub(super) fn read(path: &Path, bytes_max: u64) -> Result<String, PkiError> {
    let file = File::open(path).map_err(failed("read", path))?;
    bounded(file, path, bytes_max)
}

/// Reads a file that nobody but its owner may read.
pub(super) fn read_secret(path: &Path, bytes_max: u64) -> Result<String, PkiError> {
    let file = File::open(path).map_err(failed("read", path))?;
    // Of the file that was opened, not of the one that may stand there by now.
    let mode = mode(&file.metadata().map_err(failed("read", path))?);
    if mode & 0o077 != 0 {
        return Err(PkiError::Exposed { path: path.to_owned(), mode });
    }
    bounded(file, path, bytes_max)
}

fn bounded(file: File, path: &Path, bytes_max: u64) -> Result<String, PkiError> {
    let large =
        || PkiError::NoAuthority { path: path.to_owned(), reason: format!("it is larger than {bytes_max} bytes") };
    if file.metadata().map_err(failed("read", path))?.len() > bytes_max {
        return Err(large());
    }
    std::io::read_to_string(file).map_err(failed("read", path))
}
