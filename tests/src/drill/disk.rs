//! A small disk of its own for a server's data directory, which can be made full. It is memory that is mounted, for which
//! one has to be root; where that cannot be, there is none.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// Room for a dump, its successor, an append-only file and its successor, beside what data of no size takes.
const ROOM: u64 = 8;
const ROOM_BYTES: u64 = 32 << 20;
/// What fills the disk.
const FILLING: &str = "filling";
static BLOCK: [u8; 64 << 10] = [0; 64 << 10];

/// A disk that goes when dropped; nothing may work on it then.
#[derive(Debug)]
pub struct Disk {
    path: PathBuf,
}

impl Disk {
    /// Mounts one over an empty directory.
    pub fn under(path: &Path, data_bytes: u64) -> Option<Self> {
        let size = format!("size={}", data_bytes * ROOM + ROOM_BYTES);
        let size = std::ffi::CString::new(size).ok()?;
        mount("baton-drill", path, "tmpfs", MountFlags::empty(), size.as_c_str()).ok()?;
        Some(Self { path: path.to_owned() })
    }

    /// Takes all the room that is left.
    pub fn fill(&self) {
        let mut file = File::create(self.path.join(FILLING)).expect("a file can be made");
        while file.write(&BLOCK).is_ok_and(|written| written > 0) {}
    }

    /// Gives the room back.
    pub fn empty(&self) {
        // It may be that it was never filled.
        let _ = fs::remove_file(self.path.join(FILLING));
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.path, UnmountFlags::DETACH) {
            eprintln!("{} stays mounted: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_nothing_more_until_it_is_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let Some(disk) = Disk::under(dir.path(), 0) else {
            eprintln!("nothing can be mounted here, so no disk is filled");
            return;
        };
        let write = |name: &str| fs::write(dir.path().join(name), BLOCK);
        write("first").unwrap();
        disk.fill();
        assert!(write("second").is_err(), "there is no room");
        disk.empty();
        write("second").unwrap();
        drop(disk);
        assert!(!dir.path().join("first").exists(), "the disk is gone");
    }
}
