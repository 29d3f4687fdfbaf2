//! Adopting an instance: having it follow a port of this agent for a while, and fencing it again in every outcome.
//!
//! The server is given a secret in the place of its `masterauth`. An agent that dies leaves its server pointed at a port on
//! which nothing listens, as good as a fence, until something else listens there: a server that does will not know the
//! secret, and the server of this instance turns away, with its data, and without having told the group's password.
//! A note says whom the server was told to follow. The agent that comes after it puts the fence back, or the next action
//! does, before settings are given back (see [`super::recover`]).

use std::path::PathBuf;
use std::time::Duration;

use baton_proto::report::{Link, Role, Running};
use baton_proto::{Fault, FaultKind, HostPort};
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::borrow;
use super::look;
use super::pace::Pace;
use super::replication::replicate;
use crate::adopt::Adoption;
use crate::blocking::blocking;
use crate::instance::Instance;
use crate::server::{ConnectError, Server};
use crate::{durable, fence};

/// How long a server may take to find its new primary: it looks once a second.
const ADOPT_TIMEOUT: Duration = Duration::from_secs(30);
/// Largest note: an address.
const NOTE_BYTES_MAX: u64 = 4096;

/// Whom the server was told to follow.
#[derive(Debug, Serialize, Deserialize)]
struct Note {
    to: HostPort,
}

fn path(instance: &Instance) -> PathBuf {
    instance.state_dir().join(format!("adopted-{}.json", instance.name()))
}

/// Reads the note. Where it is not known whether the server was adopted, nothing is done that depends on it.
async fn read(instance: &Instance) -> Result<Option<Note>, Fault> {
    let path = path(instance);
    blocking(move || durable::read_note(&path, NOTE_BYTES_MAX)).await.flatten().map_err(|error| {
        let path = self::path(instance);
        Fault::new(FaultKind::Host, "it is not known whether the server was made to follow its agent")
            .because(format!("{}: {error}", path.display()))
            .hint(format!(
                "let baton-agent read {}; if it is damaged, have the server follow whom it should, then remove the file",
                path.display()
            ))
    })
}

async fn write(instance: &Instance, note: Option<&Note>) -> Result<(), Fault> {
    let path = path(instance);
    let failed = |error| {
        Fault::new(FaultKind::Host, format!("write {}", self::path(instance).display()))
            .because(error)
            .hint("see that the agent's state directory can be written and has space")
    };
    let text = note.map(serde_json::to_vec).transpose().map_err(|error| failed(error.into()))?;
    let written = blocking(move || match text {
        None => durable::remove_file(&path).map(drop),
        Some(text) => durable::replace_file(&path, &text, 0o600),
    });
    written.await.flatten().map_err(failed)
}

/// Adopts a fenced server, which stands as `before` says. Settings are given back by the caller, after [`end`].
pub(super) async fn begin(instance: &Instance, server: &mut Server, before: &Running) -> Result<Adoption, Fault> {
    let stands = &before.replication.lineage;
    let secret = format!("{:032x}", rand::random::<u128>());
    let adoption = Adoption::listen(stands.clone(), secret.clone()).await;
    let adoption = adoption.map_err(|error| Fault::new(FaultKind::Host, "listen on a loopback port").because(error))?;
    borrow::borrow(instance, server, before.pid, "masterauth", &secret).await?;
    // On its own host, and to a port that speaks it not. Servers that do not know the setting do not need it.
    borrow::borrow(instance, server, before.pid, "tls-replication", "no").await?;
    write(instance, Some(&Note { to: adoption.address().clone() })).await?;
    replicate(instance, server, before, adoption.address()).await?;
    let mut pace = Pace::within(ADOPT_TIMEOUT);
    loop {
        let now = look::look(instance, server).await?.running;
        let linked =
            matches!(&now.role, Role::Replica { primary, link: Link::Up { .. }, .. } if primary == adoption.address());
        if linked && now.replication.lineage == *stands {
            info!(instance = %instance.name(), port = adoption.address().port, "adopted");
            return Ok(adoption);
        }
        let why = match adoption.refused() {
            Some(why) => why.to_owned(),
            None if linked => format!("it stands at {}, and stood at {stands}", now.replication.lineage),
            None if pace.wait().await => continue,
            None => format!("its link was not up after {} s", ADOPT_TIMEOUT.as_secs()),
        };
        return Err(Fault::new(FaultKind::Server, "the server cannot be made to serve its data without its primary")
            .because(why)
            .hint("use `--snapshot save` or `--snapshot bgsave`, which need room on its disk"));
    }
}

/// Puts the fence back, if the server follows this agent or what became of it.
pub(super) async fn end(instance: &Instance) -> Result<(), Fault> {
    let Some(note) = read(instance).await? else { return Ok(()) };
    match instance.connect().await {
        Ok(mut server) => {
            let now = look::look(instance, &mut server).await?.running;
            if matches!(&now.role, Role::Replica { primary, .. } if *primary == note.to) {
                let after = replicate(instance, &mut server, &now, &fence::address()).await?;
                if after.replication.lineage != now.replication.lineage {
                    warn!(instance = %instance.name(), was = %now.replication.lineage, is = %after.replication.lineage, "the server has moved");
                }
                info!(instance = %instance.name(), lineage = %after.replication.lineage, "fenced again");
            }
        }
        // It comes back as its file says, which was written when it was fenced.
        Err(ConnectError::Stopped(_)) => {}
        Err(error) => return Err(error.fault(instance.name())),
    }
    write(instance, None).await
}

/// Whom a server follows that was adopted, if it has not been fenced again.
pub(crate) async fn adopted_at(instance: &Instance) -> Result<Option<HostPort>, Fault> {
    Ok(read(instance).await?.map(|note| note.to))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::tests::with_conf;

    #[tokio::test]
    async fn a_note_that_cannot_be_read_is_not_taken_for_none() {
        let dir = tempfile::tempdir().unwrap();
        let instance = with_conf(dir.path(), "port 0\nunixsocket none.sock\n");
        std::fs::create_dir(instance.state_dir()).unwrap();
        assert_eq!(end(&instance).await, Ok(()), "there is none");
        let note = Note { to: HostPort::new("127.0.0.1", 4000) };
        write(&instance, Some(&note)).await.unwrap();
        assert_eq!(adopted_at(&instance).await, Ok(Some(note.to)));
        std::fs::write(path(&instance), "{\"to\":").unwrap();
        let fault = end(&instance).await.unwrap_err();
        assert!(fault.hint.unwrap().contains("adopted-default.json") && path(&instance).exists());
        // A directory is there, and no file: as with a disk that fails, what it holds cannot be read.
        std::fs::remove_file(path(&instance)).unwrap();
        std::fs::create_dir(path(&instance)).unwrap();
        assert_eq!(adopted_at(&instance).await.unwrap_err().kind, FaultKind::Host);
    }
}
