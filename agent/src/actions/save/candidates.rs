//! Which file a save writes. Servers write `temp-<pid>.rdb` in their directory, with their own process number for SAVE
//! and their child's for BGSAVE, and rename it to the dump when it is whole.
//!
//! Others of that shape lie there too: what a killed server left behind, what its orphaned child still writes, the file of
//! another server that was given the same directory. A leftover may even carry the right number, as in a container, where
//! few numbers are in use; the server then truncates it and writes into it. The choice is pure; here is also the look
//! that it is made from.

use std::io;
use std::path::{Path, PathBuf};

use super::super::stamp::Stamp;

/// Most names that are looked at: a data directory holds a handful.
const NAMES_MAX: usize = 10_000;
/// Most files of the right shape: leftovers of years.
const CANDIDATES_MAX: usize = 256;

/// Who writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Writer {
    /// SAVE: the server itself. It takes the number from the same place as its `INFO`, in a container too.
    Server(u32),
    /// BGSAVE: a child of the server.
    ChildOf(u32),
}

/// A file that may be the one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) path: PathBuf,
    /// The process number in its name.
    pub(super) pid: u32,
    /// That process's parent, if there is such a process here. In a container the number is one of another namespace:
    /// then there is none, or an unrelated one.
    pub(super) parent: Option<u32>,
    pub(super) stamp: Stamp,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Choice<'a> {
    /// Its process is the writer.
    Sure(&'a Candidate),
    /// It is the only new one, and its process cannot be seen.
    Likely(&'a Candidate),
    /// There is none, or more than one.
    None,
}

/// Tells whether a file was made or written to since the save was asked for.
pub(super) fn is_fresh(candidate: &Candidate, before: &[Stamp]) -> bool {
    !before.contains(&candidate.stamp)
}

/// Chooses among the files that are there, by those that were there before the save was asked for.
pub(super) fn choose<'a>(writer: Writer, before: &[Stamp], found: &'a [Candidate]) -> Choice<'a> {
    let fresh = || found.iter().filter(|candidate| is_fresh(candidate, before));
    match writer {
        Writer::Server(server) => only(fresh().filter(|c| c.pid == server)).map_or(Choice::None, Choice::Sure),
        Writer::ChildOf(server) => {
            let children = || fresh().filter(|c| c.parent == Some(server) && c.pid != server);
            if children().next().is_some() {
                return only(children()).map_or(Choice::None, Choice::Sure);
            }
            // The server's own number stands for a SAVE, and an inode that was there for another writer.
            let is_new = |c: &&Candidate| c.pid != server && before.iter().all(|old| !old.same_inode(&c.stamp));
            only(fresh().filter(is_new)).map_or(Choice::None, Choice::Likely)
        }
    }
}

fn only<'a>(mut found: impl Iterator<Item = &'a Candidate>) -> Option<&'a Candidate> {
    found.next().filter(|_| found.next().is_none())
}

/// Looks at the files of that shape in a server's directory. For SAVE that is a single name.
pub(super) fn look(dir: &Path, writer: Writer) -> io::Result<Vec<Candidate>> {
    match writer {
        Writer::Server(pid) => Ok(candidate(dir.join(format!("temp-{pid}.rdb")), pid).into_iter().collect()),
        Writer::ChildOf(_) => {
            let named = std::fs::read_dir(dir)?.take(NAMES_MAX).flatten().filter_map(|entry| {
                let pid = pid_of(entry.file_name().to_str()?)?;
                candidate(entry.path(), pid)
            });
            Ok(named.take(CANDIDATES_MAX).collect())
        }
    }
}

/// The files of that shape, whoever writes them.
pub(super) fn all(dir: &Path) -> io::Result<Vec<Stamp>> {
    Ok(look(dir, Writer::ChildOf(0))?.into_iter().map(|candidate| candidate.stamp).collect())
}

/// A plain file; what a link points at is nobody's snapshot.
fn candidate(path: PathBuf, pid: u32) -> Option<Candidate> {
    let found = path.symlink_metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(Candidate { path, pid, parent: parent_of(pid), stamp: Stamp::of(&found) })
}

/// Reads the process number in a name. `temp-<time>.<pid>.rdb` is what a replica receives, and `temp-rewriteaof-<pid>.aof`
/// what becomes an append-only file.
fn pid_of(name: &str) -> Option<u32> {
    let digits = name.strip_prefix("temp-")?.strip_suffix(".rdb")?;
    digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))
}

fn parent_of(pid: u32) -> Option<u32> {
    parent_in(&std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?)
}

fn parent_in(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("PPid:")?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SERVER: u32 = 100;

    /// Makes a file, and yields it as a candidate.
    fn file(dir: &Path, pid: u32, parent: Option<u32>, text: &str) -> Candidate {
        let path = dir.join(format!("temp-{pid}.rdb"));
        std::fs::write(&path, text).unwrap();
        let stamp = Stamp::at(&path).unwrap().unwrap();
        Candidate { path, pid, parent, stamp }
    }

    #[test]
    fn save_writes_under_the_servers_own_number_and_no_other() {
        let dir = tempfile::tempdir().unwrap();
        let [own, other] =
            [(SERVER, None), (101, Some(SERVER))].map(|(pid, parent)| file(dir.path(), pid, parent, "x"));
        let found = [other.clone(), own.clone()];
        assert_eq!(choose(Writer::Server(SERVER), &[], &found), Choice::Sure(&own));
        assert_eq!(choose(Writer::Server(SERVER), &[], &found[..1]), Choice::None);
    }

    #[test]
    fn a_leftover_is_not_taken_until_the_save_writes_into_it() {
        let dir = tempfile::tempdir().unwrap();
        for (writer, pid, parent) in
            [(Writer::Server(SERVER), SERVER, None), (Writer::ChildOf(SERVER), 7, Some(SERVER))]
        {
            let left = file(dir.path(), pid, parent, "left by a server that was killed");
            let before = [left.stamp.clone()];
            assert_eq!(choose(writer, &before, std::slice::from_ref(&left)), Choice::None);
            let again = file(dir.path(), pid, parent, "a");
            assert!(again.stamp.same_inode(&left.stamp));
            assert_eq!(choose(writer, &before, std::slice::from_ref(&again)), Choice::Sure(&again));
        }
    }

    #[test]
    fn a_servers_own_child_is_told_from_another_servers() {
        let dir = tempfile::tempdir().unwrap();
        let own = file(dir.path(), 101, Some(SERVER), "own");
        let other = file(dir.path(), 201, Some(200), "of a server in the same directory");
        let found = [other.clone(), own.clone()];
        assert_eq!(choose(Writer::ChildOf(SERVER), &[], &found), Choice::Sure(&own));
        // Only later is it known that the first one was not the only one.
        assert_eq!(choose(Writer::ChildOf(SERVER), &[], &found[..1]), Choice::Likely(&other));
        let second = file(dir.path(), 102, Some(SERVER), "own too");
        assert_eq!(choose(Writer::ChildOf(SERVER), &[], &[own, second]), Choice::None);
    }

    #[test]
    fn of_a_child_that_cannot_be_seen_the_only_new_file_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let orphans = file(dir.path(), 7, None, "an orphan of the last server still writes");
        let before = [orphans.stamp.clone()];
        let orphans = file(dir.path(), 7, None, "an orphan of the last server still writes, and writes");
        let child = file(dir.path(), 25, Some(2), "a number that means another process here");
        let found = [orphans.clone(), child.clone()];
        assert_eq!(choose(Writer::ChildOf(SERVER), &before, &found), Choice::Likely(&child));
        assert_eq!(choose(Writer::ChildOf(SERVER), &before, &found[..1]), Choice::None);
        assert_eq!(choose(Writer::ChildOf(SERVER), &[], &found), Choice::None, "two are new");
        assert_eq!(choose(Writer::ChildOf(25), &[], &found[1..]), Choice::None, "that number is a SAVE's");
    }

    #[test]
    fn only_plain_files_of_the_shape_are_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let others = [
            "dump.rdb",
            "temp-rewriteaof-bg-5.aof",
            "temp-1700000000.5.rdb",
            "temp-+5.rdb",
            "temp-.rdb",
            "temp-5.rdb~",
        ];
        for name in others {
            std::fs::write(at(name), "x").unwrap();
        }
        std::fs::create_dir(at("temp-8.rdb")).unwrap();
        std::os::unix::fs::symlink(at("dump.rdb"), at("temp-9.rdb")).unwrap();
        assert_eq!(look(dir.path(), Writer::ChildOf(SERVER)).unwrap(), []);
        assert_eq!(look(dir.path(), Writer::Server(9)).unwrap(), []);
        std::fs::write(at("temp-5.rdb"), "x").unwrap();
        let names = |writer| look(dir.path(), writer).unwrap().into_iter().map(|c| c.pid).collect::<Vec<_>>();
        assert_eq!(
            (names(Writer::ChildOf(SERVER)), names(Writer::Server(5)), names(Writer::Server(6))),
            (vec![5], vec![5], vec![])
        );
        assert!(look(&at("none"), Writer::ChildOf(SERVER)).is_err());
    }

    #[test]
    fn the_parent_of_a_child_is_seen() {
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        assert_eq!(parent_of(child.id()), Some(std::process::id()));
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(parent_of(u32::MAX), None);
        assert_eq!(parent_in("Name:\tPPid:\nPPid:\t12\n"), Some(12));
    }

    proptest! {
        #[test]
        fn no_name_and_no_status_makes_it_panic(text in "\\PC{0,40}") {
            let _ = (pid_of(&text), pid_of(&format!("temp-{text}.rdb")), parent_in(&format!("PPid:{text}")));
        }
    }
}
