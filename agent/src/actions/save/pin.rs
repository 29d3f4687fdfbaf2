//! The pin of a snapshot: a hard link that keeps its file, whatever becomes of its name, made while it is being written.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use baton_proto::{InstanceName, RunId};
use rustix::fs::OFlags;

use super::super::stamp::Stamp;
use super::candidates::Candidate;
use super::unfinished::Note;
use crate::instance::Instance;
use crate::{durable, names};

/// The pin of a run's snapshot.
#[derive(Debug, Clone)]
pub(in crate::actions) struct Pin {
    pub(super) instance: InstanceName,
    pub(super) run: RunId,
    /// The directory in which the server saves.
    pub(super) dir: PathBuf,
    pub(in crate::actions) path: PathBuf,
    pub(super) note: Note,
}

impl Pin {
    pub(in crate::actions) fn new(instance: &Instance, run: &RunId, dir: PathBuf) -> Pin {
        let (path, note) = (dir.join(names::pin(run)), Note::of(instance.state_dir(), instance.name(), run));
        Pin { instance: instance.name().clone(), run: run.clone(), dir, path, note }
    }

    /// Removes the pin, and then its note.
    pub(in crate::actions) fn clear(&self) -> io::Result<()> {
        durable::remove_if_there(&self.path)?;
        self.note.remove()
    }

    /// Pins a file that is being written, and opens it through the pin. None: the name is gone, or leads to another file.
    pub(super) fn link(&self, found: &Candidate) -> io::Result<Option<File>> {
        self.note.write(&self.instance, &self.run, &self.dir)?;
        let linked = link_and_open(found, &self.path);
        if !matches!(linked, Ok(Some(_))) {
            self.clear()?;
        }
        linked
    }
}

fn link_and_open(found: &Candidate, pin: &Path) -> io::Result<Option<File>> {
    durable::remove_if_there(pin)?;
    // Links the name itself: a symbolic link would not lead anywhere else.
    match std::fs::hard_link(&found.path, pin) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        linked => linked?,
    }
    // No link is followed, and what is not a file does not make us wait.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(pin)?;
    let opened = file.metadata()?;
    let is_same = opened.is_file() && Stamp::of(&opened).same_inode(&found.stamp);
    Ok(is_same.then_some(file))
}
