//! Settings of a running server that an action changes for a while, and puts back in every outcome.
//!
//! The old value is noted durably before the change, so that an agent that dies in between knows what to put back: the
//! agent that comes after it does so, or this one when the server answers again ([`super::recover`]), or the run's `Release`.
//! A server that was restarted has its own values again, and the note is void.
//!
//! What a run *holds* outlasts the action that borrowed it, and the agent: it is put back on the run's order, or when its
//! time is up, since whoever would give that order may be gone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use baton_proto::{Fault, FaultKind, RunId};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::middle;
use crate::blocking::blocking;
use crate::instance::Instance;
use crate::server::{ConnectError, Server, ServerError};
use crate::{durable, host};

/// Settings whose values are told nobody, in no log.
const SECRET: [&str; 1] = ["masterauth"];
/// Largest note: a few settings of a hundred bytes.
const NOTE_BYTES_MAX: u64 = 64 * 1024;

#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(Debug))]
struct Borrowed {
    /// The process whose setting it is; another one read its settings from its configuration file.
    pid: u32,
    name: String,
    value: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
}

/// For how long a run wants a setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub(super) run: RunId,
    pub(super) until_unix_ms: u64,
}

/// What is put back.
#[derive(Debug, Clone, Copy)]
pub(super) enum Which<'a> {
    /// All but what a run holds.
    Due,
    /// That, and what this run holds.
    Of(&'a RunId),
    All,
}

impl Borrowed {
    fn is(&self, which: Which) -> bool {
        match (which, &self.held) {
            (Which::All, _) | (_, None) => true,
            (Which::Due, Some(held)) => held.until_unix_ms <= host::clock_unix_ms(),
            (Which::Of(run), Some(held)) => held.run == *run || held.until_unix_ms <= host::clock_unix_ms(),
        }
    }

    fn shown(&self) -> &str {
        if SECRET.contains(&self.name.as_str()) { "(hidden)" } else { &self.value }
    }
}

fn path(instance: &Instance) -> PathBuf {
    instance.state_dir().join(format!("borrowed-{}.json", instance.name()))
}

/// A note that is no note counts as none: it was never whole, so its change was never made. One that cannot be read may hold
/// what is to be put back.
fn read(path: &Path) -> io::Result<Vec<Borrowed>> {
    let mut text = Vec::new();
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        file => file?.take(NOTE_BYTES_MAX).read_to_end(&mut text)?,
    };
    Ok(serde_json::from_slice(&text).unwrap_or_default())
}

async fn noted(instance: &Instance) -> Result<Vec<Borrowed>, Fault> {
    let path = path(instance);
    let read = blocking(move || read(&path)).await.flatten();
    read.map_err(|error| {
        Fault::new(FaultKind::Host, format!("read {}", self::path(instance).display()))
            .because(error)
            .hint("it holds settings of the server that are to be put back: let the agent's user read it")
    })
}

async fn note(instance: &Instance, all: &[Borrowed]) -> Result<(), Fault> {
    let path = path(instance);
    let failed =
        |error| Fault::new(FaultKind::Host, format!("write {}", self::path(instance).display())).because(error);
    let text = if all.is_empty() { None } else { Some(serde_json::to_vec(all).map_err(|error| failed(error.into()))?) };
    let written = blocking(move || match text {
        None => durable::remove_file(&path).map(drop),
        Some(text) => durable::replace_file(&path, &text, 0o600),
    });
    written.await.flatten().map_err(failed)
}

/// Puts the server's own values in the place of those that were borrowed, in what it tells of its settings: that is what
/// it will have when its replication or the next run asks for them.
pub(crate) async fn unborrowed(instance: &Instance, pid: u32, told: &mut BTreeMap<String, String>) {
    // Who only asks does without what cannot be read.
    let noted = noted(instance).await.unwrap_or_default();
    told.extend(noted.into_iter().filter(|own| own.pid == pid).map(|own| (own.name, own.value)));
}

/// Changes a setting until `give_back`. A setting that the server does not know, or that has the value already, is left
/// alone. Tells whether it has the value now.
pub(super) async fn borrow(
    instance: &Instance,
    server: &mut Server,
    pid: u32,
    name: &str,
    value: &str,
) -> Result<bool, Fault> {
    change(instance, server, pid, (name, value), None).await
}

/// The same, for a run and for a time. Refused while another run holds the setting.
pub(super) async fn hold(
    instance: &Instance,
    server: &mut Server,
    pid: u32,
    (name, value): (&str, &str),
    held: &Held,
) -> Result<bool, Fault> {
    let others = noted(instance).await?.into_iter().filter(|borrowed| borrowed.pid == pid && borrowed.name == name);
    if let Some(other) = others.filter_map(|borrowed| borrowed.held).find(|other| other.run != held.run) {
        return Err(Fault::new(FaultKind::Refused, format!("run {} has changed {name} of the server", other.run))
            .hint("wait until that run has ended"));
    }
    change(instance, server, pid, (name, value), Some(held)).await
}

async fn change(
    instance: &Instance,
    server: &mut Server,
    pid: u32,
    (name, value): (&str, &str),
    held: Option<&Held>,
) -> Result<bool, Fault> {
    let read = server.config(name).await.map_err(|error| error.fault(instance.name(), "CONFIG GET"))?;
    let old = match read {
        None => return Ok(false),
        Some(old) if old == value => return Ok(true),
        Some(old) => old,
    };
    let mut all = noted(instance).await?;
    all.retain(|borrowed| borrowed.pid == pid);
    // Borrowed twice: the first value is the server's own.
    let is_first = all.iter().all(|borrowed| borrowed.name != name);
    if is_first {
        all.push(Borrowed { pid, name: name.to_owned(), value: old, held: held.cloned() });
        note(instance, &all).await?;
    }
    middle("borrow-noted").await;
    let Err(error) = server.set_config(name, value).await else { return Ok(true) };
    // Refused, it was not changed, and there is nothing to put back.
    if is_first && matches!(error, ServerError::Said(_)) {
        all.pop();
        note(instance, &all).await?;
    }
    Err(error.fault(instance.name(), "CONFIG SET"))
}

/// Puts back what is borrowed and not held. The pid tells whose settings the server has.
pub(super) async fn give_back(instance: &Instance, server: &mut Server, pid: u32) -> Result<(), Fault> {
    put_back(instance, server, pid, Which::Due).await
}

async fn put_back(instance: &Instance, server: &mut Server, pid: u32, which: Which<'_>) -> Result<(), Fault> {
    let mut all = noted(instance).await?;
    if all.is_empty() {
        return Ok(());
    }
    all.retain(|borrowed| borrowed.pid == pid);
    let mut failed = None;
    let (due, mut left): (Vec<_>, Vec<_>) = all.into_iter().partition(|borrowed| borrowed.is(which));
    for borrowed in due {
        match server.set_config(&borrowed.name, &borrowed.value).await {
            Ok(()) => {
                info!(instance = %instance.name(), setting = borrowed.name, value = borrowed.shown(), "setting put back");
            }
            Err(error) => {
                warn!(instance = %instance.name(), setting = borrowed.name, value = borrowed.shown(), %error, "setting not put back");
                let doing = format!("CONFIG SET {} {}", borrowed.name, borrowed.shown());
                failed = Some(error.fault(instance.name(), &doing));
                left.push(borrowed);
            }
        }
    }
    middle("borrow-returned").await;
    note(instance, &left).await?;
    failed.map_or(Ok(()), Err)
}

/// Puts back settings that a crash, or a server that did not answer in time, left changed.
pub(super) async fn give_back_leftovers(instance: &Instance) -> Result<(), Fault> {
    give_back_now(instance, Which::Due).await
}

/// Puts back over a connection of its own.
pub(super) async fn give_back_now(instance: &Instance, which: Which<'_>) -> Result<(), Fault> {
    if !noted(instance).await?.iter().any(|borrowed| borrowed.is(which)) {
        return Ok(());
    }
    match instance.connect().await {
        Ok(mut server) => {
            let pid = super::look::look(instance, &mut server).await?.running.pid;
            put_back(instance, &mut server, pid, which).await
        }
        Err(ConnectError::Stopped(_)) => forget(instance).await,
        Err(error) => Err(error.fault(instance.name())),
    }
}

/// Forgets what was borrowed: the server has stopped.
pub(super) async fn forget(instance: &Instance) -> Result<(), Fault> {
    note(instance, &[]).await
}

/// Tells whether anything waits to be put back.
pub(super) async fn is_any(instance: &Instance) -> Result<bool, Fault> {
    Ok(noted(instance).await?.iter().any(|borrowed| borrowed.is(Which::Due)))
}

/// When the last thing that is held is to be put back, if anything is.
pub(super) async fn held_until_unix_ms(instance: &Instance) -> Option<u64> {
    // One that cannot be read now is looked for again by whoever clears up.
    let noted = noted(instance).await.unwrap_or_default();
    noted.into_iter().filter_map(|borrowed| Some(borrowed.held?.until_unix_ms)).max()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_run_holds_is_put_back_on_its_order_or_when_its_time_is_up() {
        let (ours, other) = (RunId::new("cl-aaaa").unwrap(), RunId::new("cl-bbbb").unwrap());
        let held = |until_unix_ms| Borrowed {
            pid: 7,
            name: "repl-backlog-size".into(),
            value: "1048576".into(),
            held: Some(Held { run: ours.clone(), until_unix_ms }),
        };
        let is = |which| (held(u64::MAX).is(which), held(1).is(which));
        assert_eq!(is(Which::Due), (false, true));
        assert_eq!(is(Which::Of(&other)), (false, true));
        assert_eq!(is(Which::Of(&ours)), (true, true));
        assert_eq!(is(Which::All), (true, true));
    }

    #[test]
    fn a_note_that_is_torn_or_far_too_long_is_none_and_one_that_cannot_be_read_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("borrowed.json");
        assert_eq!(read(&path).unwrap(), []);
        let one = Borrowed { pid: 7, name: "rdbcompression".into(), value: "yes".into(), held: None };
        let text = serde_json::to_vec(&[&one]).unwrap();
        std::fs::write(&path, &text).unwrap();
        assert_eq!(read(&path).unwrap(), [one]);
        std::fs::write(&path, &text[..text.len() - 1]).unwrap();
        assert_eq!(read(&path).unwrap(), []);
        std::fs::write(&path, [text, vec![b' '; NOTE_BYTES_MAX as usize], b"x".to_vec()].concat()).unwrap();
        assert_eq!(read(&path).unwrap().len(), 1, "what follows is not read");
        // Whoever reads a directory gets an error, also as root.
        assert!(read(dir.path()).is_err());
    }
}
