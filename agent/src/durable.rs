//! Files that survive a crash at any point.
//!
//! `replace_file` leaves either the old content or the new one: before the rename the old file is untouched; after it,
//! the directory sync makes the new name last. It does not guard against two writers of one name: the caller holds a lock,
//! of the instance or of what is kept there. All of this blocks, for as long as the disk takes.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// Replaces a file's content as a whole. A new file gets `mode`.
pub fn replace_file(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let temp = temp_name(path)?;
    // What a crash left there is ours and worth nothing.
    remove_if_there(&temp)?;
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&temp)?;
    file.write_all(content)?;
    file.sync_all()?;
    drop(file);
    rename(&temp, path)
}

/// Reads a file that need not be there. A larger one than it can be is an error: something else stands there.
pub fn read_if_there(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    let mut bytes = Vec::new();
    file.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        let text = format!("{} is larger than {bytes_max} bytes", path.display());
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    Ok(Some(bytes))
}

/// Reads a note in JSON that need not be there. One that is damaged is an error, and not none.
pub fn read_note<T: DeserializeOwned>(path: &Path, bytes_max: u64) -> io::Result<Option<T>> {
    let text = read_if_there(path, bytes_max)?;
    Ok(text.map(|text| serde_json::from_slice(&text)).transpose()?)
}

/// Renames within a directory, and makes the new name last.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to)?;
    fsync_dir(parent(to))
}

/// Removes a file, and makes that last. Tells whether it was there.
pub fn remove_file(path: &Path) -> io::Result<bool> {
    let was_there = remove_if_there(path)?;
    if was_there {
        fsync_dir(parent(path))?;
    }
    Ok(was_there)
}

/// Makes the names in a directory last.
pub fn fsync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Removes a file that need not be there. Tells whether it was.
pub fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    }
}

fn temp_name(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "path names no file"))?;
    let mut temp = std::ffi::OsString::from(".");
    temp.push(name);
    temp.push(".new");
    Ok(path.with_file_name(temp))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn content_is_replaced_whole_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("note");
        for content in [&b""[..], b"one", &[7; 100_000]] {
            replace_file(&path, content, 0o600).unwrap();
            assert_eq!(fs::read(&path).unwrap(), content);
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_crash_before_the_rename_left_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("note");
        replace_file(&path, b"old", 0o600).unwrap();
        fs::write(dir.path().join(".note.new"), b"half of a newer one, far longer than what follows").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        replace_file(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn a_file_is_read_if_it_is_there_and_no_larger_than_it_can_be() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("note");
        assert_eq!(read_if_there(&path, 4).unwrap(), None);
        fs::write(&path, "four").unwrap();
        assert_eq!(read_if_there(&path, 4).unwrap().as_deref(), Some(&b"four"[..]));
        assert_eq!(read_if_there(&path, 3).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn removing_what_is_not_there_is_no_failure() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("note");
        replace_file(&path, b"x", 0o600).unwrap();
        assert!(remove_file(&path).unwrap());
        assert!(!remove_file(&path).unwrap());
    }
}
