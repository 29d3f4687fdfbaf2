//! A durable note of a feed: that the server follows this agent, and, later, that it was fed by it.
//!
//! It is written before the server is told to follow, and goes once the server is an empty primary again, or at the end
//! of the run. An agent that starts and finds one knows that the server follows a feed that is no more.

use std::path::PathBuf;

use baton_proto::control::{FeedFacts, TransferFacts};
use baton_proto::{Fault, FaultKind, HostPort, RunId};
use serde::{Deserialize, Serialize};

use crate::blocking::blocking;
use crate::durable;
use crate::instance::Instance;

/// Largest note: a few names and numbers.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Note {
    pub(super) run: RunId,
    /// The process that is fed. Of another one nothing is known.
    pub(super) pid: u32,
    /// Where it was told to follow.
    pub(super) address: HostPort,
    pub(super) stage: Stage,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Stage {
    /// What it holds came by the feed: it was empty, and is a read-only replica of it.
    Feeding,
    /// It has loaded, the file is its dump, and it is about to leave the feed.
    Loaded(Landed),
    /// It is a primary itself, or follows another.
    Landed(Landed),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Landed {
    pub(super) transfer: TransferFacts,
    pub(super) feed: FeedFacts,
    /// Whom it follows afterwards.
    pub(super) follow: Option<HostPort>,
    /// `rdb_changes_since_last_save` when it had landed: what is changed later is somebody's data.
    pub(super) changes: u64,
}

fn path(instance: &Instance) -> PathBuf {
    instance.state_dir().join(format!("feed-{}.json", instance.name()))
}

fn failed(instance: &Instance, doing: &str, error: impl std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Host, format!("{doing} {}", path(instance).display()))
        .because(error)
        .hint("see that the agent's state directory can be written and has space")
}

impl Note {
    /// The note of an instance. Where it is not known whether the server was fed, it is not taken for one that was not: it
    /// would be left following a feed that is no more, or be emptied of what somebody has written.
    pub(super) async fn read(instance: &Instance) -> Result<Option<Note>, Fault> {
        let path = path(instance);
        blocking(move || durable::read_note(&path, NOTE_BYTES_MAX)).await.flatten().map_err(|error| {
            let file = self::path(instance);
            Fault::new(FaultKind::Host, "it is not known whether the server was fed by its agent")
                .because(format!("{}: {error}", file.display()))
                .hint(format!(
                    "let baton-agent read {}; if it is damaged, see whom the server follows and what it holds, then remove the file",
                    file.display()
                ))
        })
    }

    pub(super) async fn write(&self, instance: &Instance) -> Result<(), Fault> {
        let (path, text) = (path(instance), serde_json::to_vec(self));
        let text = text.map_err(|error| failed(instance, "write", error))?;
        let written = blocking(move || durable::replace_file(&path, &text, 0o600)).await.flatten();
        written.map_err(|error| failed(instance, "write", error))
    }

    pub(super) async fn remove(instance: &Instance) -> Result<(), Fault> {
        let path = path(instance);
        let removed = blocking(move || durable::remove_file(&path).map(drop)).await.flatten();
        removed.map_err(|error| failed(instance, "remove", error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::tests::with_conf;

    #[tokio::test]
    async fn a_note_that_cannot_be_read_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let instance = with_conf(dir.path(), "port 0\n");
        std::fs::create_dir(instance.state_dir()).unwrap();
        assert_eq!(Note::read(&instance).await, Ok(None));
        let run = RunId::new("fo-1").unwrap();
        let note = Note { run, pid: 7, address: HostPort::new("127.0.0.1", 4000), stage: Stage::Feeding };
        note.write(&instance).await.unwrap();
        assert_eq!(Note::read(&instance).await, Ok(Some(note)));
        let whole = std::fs::read(path(&instance)).unwrap();
        std::fs::write(path(&instance), &whole[..whole.len() / 2]).unwrap();
        let fault = Note::read(&instance).await.unwrap_err();
        assert!(fault.hint.unwrap().contains("feed-default.json"));
        // A directory is there, and no file: as with a disk that fails, what it holds cannot be read.
        std::fs::remove_file(path(&instance)).unwrap();
        std::fs::create_dir(path(&instance)).unwrap();
        assert_eq!(Note::read(&instance).await.unwrap_err().kind, FaultKind::Host);
    }
}
