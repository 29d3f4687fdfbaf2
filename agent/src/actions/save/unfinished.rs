//! Notes of pins whose files are still being written, kept in the agent's state directory. An agent that dies leaves a
//! pin that looks like any other and holds half a snapshot: it must not be offered, and is dropped by the agent that
//! comes after it.
//!
//! A note also tells where the pin is, without asking the server: during SAVE it does not answer.

use std::io;
use std::path::{Path, PathBuf};

use baton_proto::{InstanceName, RunId};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::{durable, names};

/// Largest note: three names.
const NOTE_BYTES_MAX: u64 = 16 * 1024;
/// Most names of the state directory that are looked at: a few notes and logs an instance.
const NAMES_MAX: usize = 10_000;
const PREFIX: &str = "following-";

/// The note of one run's pin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::actions) struct Note {
    path: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
struct Pin {
    instance: InstanceName,
    run: RunId,
    dir: PathBuf,
}

impl Pin {
    fn path(&self) -> PathBuf {
        self.dir.join(names::pin(&self.run))
    }

    /// What a note tells, if there is one.
    fn at(note: &Path) -> io::Result<Option<Pin>> {
        durable::read_note(note, NOTE_BYTES_MAX)
    }
}

impl Note {
    pub(in crate::actions) fn of(state: &Path, instance: &InstanceName, run: &RunId) -> Note {
        Note { path: state.join(format!("{PREFIX}{instance}-{run}.json")) }
    }

    pub(super) fn write(&self, instance: &InstanceName, run: &RunId, dir: &Path) -> io::Result<()> {
        let pin = Pin { instance: instance.clone(), run: run.clone(), dir: dir.to_owned() };
        durable::replace_file(&self.path, &serde_json::to_vec(&pin)?, 0o600)
    }

    pub(in crate::actions) fn remove(&self) -> io::Result<()> {
        durable::remove_file(&self.path).map(drop)
    }

    /// Where the pin is, if its file is not known to be whole. Where that cannot be read, half a snapshot must not pass for
    /// a whole one.
    pub(in crate::actions) fn pin(&self) -> io::Result<Option<PathBuf>> {
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", self.path.display()));
        Ok(Pin::at(&self.path).map_err(named)?.map(|pin| pin.path()))
    }
}

fn notes(state: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(state) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let paths = entries.take(NAMES_MAX).map(|entry| entry.map(|entry| entry.path()));
    let is_note = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(PREFIX));
    paths.filter(|path| !path.as_ref().is_ok_and(|path| !is_note(path))).collect()
}

/// Drops the pins of an instance that were being written when their agent ended, and their notes. The caller holds the
/// instance's lock: no save is being followed. An error is worth another try: what there is cannot be seen now.
pub(in crate::actions) fn drop_all(state: &Path, instance: &InstanceName) -> io::Result<()> {
    let mut unread = Ok(());
    for note in notes(state)? {
        let pin = match Pin::at(&note) {
            Ok(Some(pin)) if pin.instance == *instance => pin,
            Ok(_) => continue,
            // It will not get better, and nobody knows whose it is.
            Err(error)
                if error.kind() == io::ErrorKind::InvalidData || error.kind() == io::ErrorKind::UnexpectedEof =>
            {
                warn!(note = %note.display(), %error, "a damaged note: half a snapshot may be left");
                continue;
            }
            Err(error) => {
                unread = Err(io::Error::new(error.kind(), format!("{}: {error}", note.display())));
                continue;
            }
        };
        let path = pin.path();
        match durable::remove_file(&path).and_then(|_| durable::remove_file(&note)) {
            Ok(_) => {
                info!(%instance, run = %pin.run, pin = %path.display(), "dropped a snapshot that was being written")
            }
            // Without its directory there is no pin either; the note is kept in case the disk is mounted later.
            Err(error) => warn!(%instance, run = %pin.run, pin = %path.display(), %error, "half a snapshot is left"),
        }
    }
    unread
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_any(state: &Path) -> bool {
        !notes(state).unwrap().is_empty()
    }

    #[test]
    fn half_snapshots_are_dropped_by_instance_and_whole_ones_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (data, state) = (dir.path().join("data"), dir.path().join("state"));
        [&data, &state].iter().for_each(|dir| std::fs::create_dir(dir).unwrap());
        let run = |name: &str| RunId::new(name).unwrap();
        // The name of one instance begins as the other's does.
        let [one, other] = ["a", "a-b"].map(|name| InstanceName::new(name).unwrap());
        let pin = |run: &RunId| data.join(names::pin(run));
        for (instance, run) in [(&one, run("r1")), (&other, run("r2")), (&one, run("whole"))] {
            std::fs::write(pin(&run), "x").unwrap();
            let note = Note::of(&state, instance, &run);
            note.write(instance, &run, &data).unwrap();
            assert_eq!(note.pin().unwrap(), Some(pin(&run)));
        }
        let whole = Note::of(&state, &one, &run("whole"));
        whole.remove().unwrap();
        assert_eq!(whole.pin().unwrap(), None);
        drop_all(&state, &one).unwrap();
        assert_eq!([run("r1"), run("r2"), run("whole")].map(|run| pin(&run).exists()), [false, true, true]);
        assert!(is_any(&state));
        drop_all(&state, &other).unwrap();
        assert!(!is_any(&state) && !pin(&run("r2")).exists());
    }

    #[test]
    fn a_note_that_cannot_be_read_drops_nothing_and_does_not_make_its_snapshot_a_whole_one() {
        let dir = tempfile::tempdir().unwrap();
        let (instance, run) = (InstanceName::new("a").unwrap(), RunId::new("r").unwrap());
        let path = dir.path().join("following-a-r.json");
        std::fs::write(&path, "{\"instance\":\"a\",\"run\":\"../../etc\"").unwrap();
        drop_all(dir.path(), &instance).unwrap();
        assert!(is_any(dir.path()));
        let note = Note::of(dir.path(), &instance, &run);
        assert!(note.pin().unwrap_err().to_string().contains("following-a-r.json"));
        // A directory is there, and no file: as with a disk that fails, that may pass.
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        note.pin().unwrap_err();
        drop_all(dir.path(), &instance).unwrap_err();
        assert!(!is_any(&dir.path().join("none")));
    }
}
