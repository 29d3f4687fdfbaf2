//! Settings of a running server that an action changes for a while, and puts back in every outcome.
//!
//! The old value is noted durably before the change, so that an agent that dies in between knows what to put back: the
//! next action that borrows, or the run's `Release`, does it. A server that was restarted has its own values again, and
//! the note is void.

use std::path::PathBuf;

use baton_proto::{Fault, FaultKind};
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::durable;
use crate::instance::Instance;
use crate::server::Server;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Borrowed {
    /// The process whose setting it is; another one read its settings from its configuration file.
    pid: u32,
    name: String,
    value: String,
}

fn path(instance: &Instance) -> PathBuf {
    instance.state_dir().join(format!("borrowed-{}.json", instance.name()))
}

/// A note that cannot be read is treated as none: it was never whole, so its change was never made.
fn noted(instance: &Instance) -> Vec<Borrowed> {
    std::fs::read(path(instance)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

fn note(instance: &Instance, all: &[Borrowed]) -> Result<(), Fault> {
    let path = path(instance);
    let written = match serde_json::to_vec(all) {
        Ok(_) if all.is_empty() => durable::remove_file(&path).map(drop),
        Ok(text) => durable::replace_file(&path, &text, 0o600),
        Err(error) => Err(error.into()),
    };
    written.map_err(|error| Fault::new(FaultKind::Host, format!("write {}", path.display())).because(error))
}

/// Changes a setting until `give_back`. A setting that the server does not know, or that has the value already, is left
/// alone.
pub(super) async fn borrow(
    instance: &Instance,
    server: &mut Server,
    pid: u32,
    name: &str,
    value: &str,
) -> Result<(), Fault> {
    let read = server.config(name).await.map_err(|error| error.fault(instance.name(), "CONFIG GET"))?;
    let Some(old) = read.filter(|old| old != value) else { return Ok(()) };
    let mut all = noted(instance);
    all.retain(|borrowed| borrowed.pid == pid);
    // Borrowed twice: the first value is the server's own.
    if all.iter().all(|borrowed| borrowed.name != name) {
        all.push(Borrowed { pid, name: name.to_owned(), value: old });
        note(instance, &all)?;
    }
    server.set_config(name, value).await.map_err(|error| error.fault(instance.name(), "CONFIG SET"))
}

/// Puts back what is borrowed. The pid tells whose settings the server has.
pub(super) async fn give_back(instance: &Instance, server: &mut Server, pid: u32) -> Result<(), Fault> {
    let mut all = noted(instance);
    if all.is_empty() {
        return Ok(());
    }
    let mut failed = None;
    let mut left = Vec::new();
    for borrowed in all.drain(..).filter(|borrowed| borrowed.pid == pid) {
        if let Err(error) = server.set_config(&borrowed.name, &borrowed.value).await {
            warn!(instance = %instance.name(), setting = borrowed.name, value = borrowed.value, %error, "setting not put back");
            failed = Some(error.fault(instance.name(), &format!("CONFIG SET {} {}", borrowed.name, borrowed.value)));
            left.push(borrowed);
        }
    }
    note(instance, &left)?;
    failed.map_or(Ok(()), Err)
}

/// Tells whether anything waits to be put back.
pub(super) fn is_any(instance: &Instance) -> bool {
    !noted(instance).is_empty()
}

/// Forgets what was borrowed: the server has stopped.
pub(super) fn forget(instance: &Instance) -> Result<(), Fault> {
    note(instance, &[])
}
