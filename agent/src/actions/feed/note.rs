//! A durable note of a feed: that the server follows this agent, and, later, that it was fed by it.
//!
//! It is written before the server is told to follow, and goes once the server is an empty primary again, or at the end
//! of the run. An agent that starts and finds one knows that the server follows a feed that is no more.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;

use baton_proto::control::{FeedFacts, TransferFacts};
use baton_proto::{Fault, FaultKind, HostPort, RunId};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::actions::save::pin::blocking;
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
    /// The note of an instance. One that cannot be read was never whole, and its server was never told anything.
    pub(super) async fn read(instance: &Instance) -> Option<Note> {
        let path = path(instance);
        let read = move || -> io::Result<Option<Note>> {
            let file = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            let mut text = Vec::new();
            file.take(NOTE_BYTES_MAX).read_to_end(&mut text)?;
            Ok(Some(serde_json::from_slice(&text)?))
        };
        blocking(read).await.flatten().unwrap_or_else(|error| {
            warn!(instance = %instance.name(), %error, "the note of a feed cannot be read and is taken as absent");
            None
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
