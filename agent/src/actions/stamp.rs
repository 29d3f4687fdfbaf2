//! Which file stands at a name: enough to tell the file that a save wrote from the one before it, and a file that was
//! moved from another of the same name.

use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

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
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified_seconds: metadata.mtime(),
            modified_nanoseconds: metadata.mtime_nsec(),
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
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Names the file's content: a resumed transfer must find the same.
    pub(super) fn id(&self) -> String {
        format!("{:x}-{:x}-{:x}.{:x}", self.inode, self.bytes, self.modified_seconds, self.modified_nanoseconds)
    }
}

#[cfg(test)]
mod tests {
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
}
