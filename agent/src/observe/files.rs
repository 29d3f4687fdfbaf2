//! A look at a data directory: what lies there, how much more fits, and whether it can be written.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use baton_proto::report::Files;

use crate::instance::DataFiles;
use crate::{host, names};

pub(super) fn look(data: &DataFiles, reserve_bytes: u64) -> Files {
    let dump = fs::metadata(data.dump()).ok().filter(fs::Metadata::is_file);
    let modified = dump.as_ref().and_then(|dump| host::unix_time(dump.modified().ok()?));
    Files {
        dump_bytes: dump.map(|dump| dump.len()),
        dump_modified_unix: modified.map(|since| since.as_secs()),
        has_aof: [&data.appendfilename, &data.appenddirname].iter().any(|name| data.dir.join(name).exists()),
        free_bytes: host::free_bytes(&data.dir, reserve_bytes).unwrap_or(0),
        filesystem: fs::metadata(&data.dir).ok().map(|dir| dir.dev()),
        write_error: try_to_write(&data.dir).err().map(|error| format!("{}: {error}", data.dir.display())),
    }
}

/// Makes a file and removes it: permissions alone do not tell of a read-only file system or of mandatory controls.
fn try_to_write(dir: &Path) -> io::Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let path = dir.join(names::probe(std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)));
    OpenOptions::new().write(true).create_new(true).open(&path)?;
    fs::remove_file(&path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn data(dir: &Path) -> DataFiles {
        DataFiles {
            dir: dir.to_owned(),
            dbfilename: "dump.rdb".into(),
            appendfilename: "appendonly.aof".into(),
            appenddirname: "appendonlydir".into(),
        }
    }

    #[test]
    fn an_empty_directory_has_nothing_and_can_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let files = look(&data(dir.path()), 0);
        assert_eq!(
            (files.dump_bytes, files.dump_modified_unix, files.has_aof, files.write_error),
            (None, None, false, None)
        );
        assert!(files.free_bytes > 0);
        assert_eq!(files.filesystem, look(&data(dir.path()), 0).filesystem);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0, "the probe was removed");
    }

    #[test]
    fn a_dump_and_either_kind_of_aof_are_found() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("dump.rdb"), b"REDIS0011").unwrap();
        fs::create_dir(dir.path().join("appendonlydir")).unwrap();
        let files = look(&data(dir.path()), u64::MAX);
        assert_eq!((files.dump_bytes, files.has_aof, files.free_bytes), (Some(9), true, 0));
        assert!(files.dump_modified_unix.is_some());
        fs::remove_dir(dir.path().join("appendonlydir")).unwrap();
        fs::write(dir.path().join("appendonly.aof"), b"").unwrap();
        assert!(look(&data(dir.path()), 0).has_aof);
    }

    #[test]
    fn a_directory_that_is_not_there_cannot_be_written() {
        let dir = tempfile::tempdir().unwrap();
        let error = look(&data(&dir.path().join("none")), 0).write_error.unwrap();
        assert!(error.contains("none: No such file"), "{error}");
    }
}
