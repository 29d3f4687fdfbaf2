//! The role that a run's start gave a server: in the server's file as soon as it has loaded, and out of it again if the run
//! is undone.
//!
//! A server that is a replica by the arguments of its start alone would be a second primary, with all the data, after its
//! next restart. Only the server itself writes its file. A note, durable before, tells that the line there is the run's.

use std::io;
use std::path::PathBuf;

use baton_proto::report::Role;
use baton_proto::{Fault, FaultKind, HostPort, RunId};
use tracing::{info, warn};

use super::{look, middle, persist, replication};
use crate::blocking::blocking;
use crate::durable;
use crate::instance::Instance;
use crate::server::Server;

/// Largest note: an address.
const NOTE_BYTES_MAX: u64 = 4 * 1024;

/// Has a replica's file say whom it follows, if it says nothing of that yet. A failure is logged: the run's end tries again,
/// and tells.
pub(super) async fn write(instance: &Instance, run: &RunId) {
    if let Err(fault) = try_write(instance, run).await {
        warn!(instance = %instance.name(), "a replica until the server's next restart only: {fault}");
    }
}

async fn try_write(instance: &Instance, run: &RunId) -> Result<(), Fault> {
    let mut server = look::connect(instance).await?;
    let Role::Replica { primary, .. } = look::look(instance, &mut server).await?.running.role else { return Ok(()) };
    // A line that stood there before is not the run's to take out, and makes no primary of it either.
    if instance.conf()?.replica_of().is_some() {
        return Ok(());
    }
    let (path, text) = (path(instance, run), primary.to_string());
    let noted = blocking(move || durable::replace_file(&path, text.as_bytes(), 0o600)).await.flatten();
    noted.map_err(|error| failed(instance, run, "write", error))?;
    middle("role-noted").await;
    persist::persist_role(instance, &mut server).await
}

/// Makes a server that is to be stopped a primary again, as its file is then to say, if the run has made it a replica there.
/// Tells whether it had.
pub(super) async fn take_back(instance: &Instance, run: &RunId, server: &mut Server) -> Result<bool, Fault> {
    if written(instance, run).await?.is_none() {
        return Ok(false);
    }
    let running = look::look_loaded(instance, server).await?.running;
    if matches!(running.role, Role::Replica { .. }) {
        look::call(instance, server, &[running.version.replicaof(), "NO", "ONE"]).await?;
        replication::until_role(instance, server, "a primary", |role| matches!(role, Role::Primary { .. })).await?;
    }
    persist::persist_with(instance, server).await?;
    info!(instance = %instance.name(), "its file makes it no replica any more");
    forget(instance, run).await?;
    Ok(true)
}

/// Sees that a file does not make its server the replica that the run had made it. Asked when the server is stopped.
pub(super) async fn is_taken_back(instance: &Instance, run: &RunId) -> Result<(), Fault> {
    let Some(follow) = written(instance, run).await? else { return Ok(()) };
    let (line, file) = (format!("replicaof {} {}", follow.host, follow.port), instance.config().config.display());
    Err(Fault::new(FaultKind::Host, format!("{file} says `{line}`, and the server is stopped"))
        .because("the server wrote that when the run had started it, and nobody else writes its file")
        .hint(format!("remove that line, or start the server so that it can; then go on with run {run}")))
}

/// Forgets that the line in the file is the run's.
pub(super) async fn forget(instance: &Instance, run: &RunId) -> Result<(), Fault> {
    let path = path(instance, run);
    let removed = blocking(move || durable::remove_file(&path).map(drop)).await.flatten();
    removed.map_err(|error| failed(instance, run, "remove", error))
}

/// Whom the file has the server follow, if the run has had that written.
async fn written(instance: &Instance, run: &RunId) -> Result<Option<HostPort>, Fault> {
    let path = path(instance, run);
    let noted = blocking(move || durable::read_if_there(&path, NOTE_BYTES_MAX)).await.flatten();
    let noted = noted.map_err(|error| failed(instance, run, "read", error))?;
    let Some(noted) = noted.and_then(|text| String::from_utf8(text).ok()?.parse::<HostPort>().ok()) else {
        return Ok(None);
    };
    Ok(instance.conf()?.replica_of().filter(|follow| *follow == noted))
}

fn path(instance: &Instance, run: &RunId) -> PathBuf {
    instance.state_dir().join(format!("role-{}-{run}", instance.name()))
}

fn failed(instance: &Instance, run: &RunId, doing: &str, error: io::Error) -> Fault {
    Fault::new(FaultKind::Host, format!("{doing} {}", path(instance, run).display()))
        .because(error)
        .hint("see that the agent's state directory can be written and has space")
}
