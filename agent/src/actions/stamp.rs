//! Which file stands at a name: enough to tell the file that a save wrote from the one before it, and a file that was
//! moved from another of the same name.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use serde::{Deserialize, Serialize};

/// A file's inode, size and time. A rename or a hard link keeps all of them; a save changes them: Redis writes a new
/// file while the old one still holds its inode. The time guards against an inode that was freed and used again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    device: u64,
    inode: u64,
    pub(super) bytes: u64,
    modified_seconds: i64,
    modified_nanoseconds: i64,
    /// When it was made, nanoseconds since 1970; 0 where the file system does not tell. Tells an inode from a later file
    /// that got its number.
    #[serde(default)]
    born: u64,
}

impl Stamp {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_seconds: metadata.mtime(),
            modified_nanoseconds: metadata.mtime_nsec(),
            born: born(metadata).unwrap_or(0),
        }
    }

    /// Looks at a name. What a symbolic link points at is not looked at.
    pub(super) fn at(path: &Path) -> io::Result<Option<Self>> {
        match path.symlink_metadata() {
            Ok(metadata) => Ok(Some(Self::of(&metadata))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Tells whether both are the same file or directory, whatever was written to it in between.
    pub(super) fn same_inode(&self, other: &Stamp) -> bool {
        (self.device, self.inode, self.born) == (other.device, other.inode, other.born)
    }

    /// Names the file, for a resumed transfer to find the same. Size and time are no part of it: they change while a
    /// snapshot is being written, and nothing writes to it later.
    pub(super) fn id(&self) -> String {
        format!("{:x}-{:x}-{:x}", self.device, self.inode, self.born)
    }
}

fn born(metadata: &Metadata) -> Option<u64> {
    metadata.created().ok()?.duration_since(UNIX_EPOCH).ok()?.as_nanos().try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn a_move_keeps_the_stamp_and_a_rewrite_changes_it() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        assert_eq!(Stamp::at(&at("dump.rdb")).unwrap(), None);
        std::fs::write(at("dump.rdb"), "old").unwrap();
        let old = Stamp::at(&at("dump.rdb")).unwrap().unwrap();
        std::fs::hard_link(at("dump.rdb"), at("pin")).unwrap();
        std::fs::write(at("temp-1.rdb"), "new").unwrap();
        std::fs::rename(at("temp-1.rdb"), at("dump.rdb")).unwrap();
        let new = Stamp::at(&at("dump.rdb")).unwrap().unwrap();
        assert_ne!(old, new);
        assert_eq!(Stamp::at(&at("pin")).unwrap(), Some(old));
    }

    #[test]
    fn the_id_stays_while_a_file_grows_and_no_other_file_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("temp-1.rdb");
        std::fs::write(&path, "a").unwrap();
        let first = Stamp::at(&path).unwrap().unwrap();
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
        let grown = Stamp::at(&path).unwrap().unwrap();
        assert_ne!(grown, first);
        assert!(grown.same_inode(&first));
        assert_eq!(grown.id(), first.id());
        std::fs::write(dir.path().join("other"), "a").unwrap();
        assert_ne!(Stamp::at(&dir.path().join("other")).unwrap().unwrap().id(), first.id());
    }
}
