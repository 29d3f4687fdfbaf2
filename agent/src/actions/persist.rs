//! Has the server write its configuration file, and reads it back from disk: a role that is only in memory is gone with
//! the next restart.

use std::path::{Path, PathBuf};

use baton_proto::control::Outcome;
use baton_proto::report::Role;
use baton_proto::{Fault, FaultKind, HostPort};
use tracing::warn;

use super::borrow::{self, Which};
use super::{look, middle};
use crate::durable;
use crate::instance::Instance;
use crate::server::{Server, ServerError};
use crate::service;

pub(super) async fn persist(instance: &Instance) -> Result<Outcome, Fault> {
    service::settle(instance).await?;
    let mut server = look::connect(instance).await?;
    persist_with(instance, &mut server).await
}

/// The same over a connection that is there already.
pub(super) async fn persist_with(instance: &Instance, server: &mut Server) -> Result<Outcome, Fault> {
    // What was changed for a while must not get into the file.
    borrow::give_back_now(instance, Which::All).await?;
    let look = look::look_loaded(instance, server).await?;
    let file = instance.config().config.clone();
    same_file(look.info.field("config_file").unwrap_or_default(), &file)?;
    middle("persist-returned").await;
    if let Err(error) = server.call(&["CONFIG", "REWRITE"]).await {
        let fault = error.fault(instance.name(), "CONFIG REWRITE");
        return Err(match hint(&error, &file) {
            Some(hint) => fault.hint(hint),
            None => fault,
        });
    }
    // Servers before 7.0 do not sync the new name.
    if let Some(dir) = file.parent()
        && let Err(error) = durable::fsync_dir(dir)
    {
        warn!(dir = %dir.display(), %error, "the configuration's directory could not be synced");
    }
    // The file as the next start will read it, with what it includes: that may say otherwise than the server.
    let conf = instance.conf()?;
    let (replica_of, appendonly) = (conf.replica_of(), conf.appendonly());
    let follows = match &look.running.role {
        Role::Primary { .. } => None,
        Role::Replica { primary, .. } => Some(primary.clone()),
    };
    let shown = |address: &Option<HostPort>| address.as_ref().map_or("nobody".to_owned(), ToString::to_string);
    let mut differences = Vec::new();
    if replica_of != follows {
        differences.push(format!("it says that the server follows {}, not {}", shown(&replica_of), shown(&follows)));
    }
    if appendonly != look.running.persistence.aof_enabled {
        differences.push(format!("it says appendonly {}", if appendonly { "yes" } else { "no" }));
    }
    if !differences.is_empty() {
        let mut fault =
            Fault::new(FaultKind::Verification, format!("{} says otherwise than the server", file.display()))
                .hint("see the files that it includes: what stands there last wins");
        fault.causes = differences;
        return Err(fault);
    }
    Ok(Outcome::Persisted { file: file.display().to_string(), replica_of, appendonly })
}

/// Has the server write whom it follows, if its file says otherwise: a restart would read that from it. Not while its
/// append-only file is off and the file wants it on, or the other way round, since that would be written as well.
pub(super) async fn persist_role(instance: &Instance, server: &mut Server) -> Result<(), Fault> {
    let running = look::look(instance, server).await?.running;
    let conf = instance.conf()?;
    let is_written = match &running.role {
        Role::Primary { .. } => conf.replica_of().is_none(),
        Role::Replica { primary, .. } => conf.replica_of().as_ref() == Some(primary),
    };
    if is_written || conf.appendonly() != running.persistence.aof_enabled {
        return Ok(());
    }
    persist_with(instance, server).await.map(drop)
}

/// Sees that the server would write the file that this agent reads.
fn same_file(servers: &str, ours: &Path) -> Result<(), Fault> {
    if servers.is_empty() {
        return Err(Fault::new(FaultKind::Server, "the server runs without a configuration file")
            .because("what it is told now is forgotten with its next restart")
            .hint(format!("start it with {}", ours.display())));
    }
    let real = |path: &Path| path.canonicalize().ok();
    match (real(&PathBuf::from(servers)), real(ours)) {
        (Some(servers_real), Some(ours_real)) if servers_real != ours_real => Err(Fault::new(
            FaultKind::Invalid,
            format!("the server reads {servers}, and agent.toml names {}", ours.display()),
        )
        .hint("correct `config` of this instance in agent.toml")),
        // A path that does not exist here is that of a container.
        _ => Ok(()),
    }
}

fn hint(error: &ServerError, file: &Path) -> Option<String> {
    let ServerError::Said(error) = error else { return None };
    let dir = file.parent().unwrap_or(file).display();
    if error.contains("Permission denied") || error.contains("Read-only") {
        Some(format!(
            "the server's user must be able to write {} and its directory {dir} (servers from 6.2 on put a new file in its place)",
            file.display()
        ))
    } else if error.contains("without a config file") {
        Some(format!("start the server with {}", file.display()))
    } else if error.contains("No space") {
        Some(format!("free disk space in {dir}"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_server_and_the_agent_must_mean_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let (conf, other, link) = (dir.path().join("a.conf"), dir.path().join("b.conf"), dir.path().join("link.conf"));
        std::fs::write(&conf, "").unwrap();
        std::fs::write(&other, "").unwrap();
        std::os::unix::fs::symlink(&conf, &link).unwrap();
        let same = |servers: &Path| same_file(servers.to_str().unwrap(), &conf);
        assert!(same(&conf).is_ok());
        assert!(same(&link).is_ok());
        assert!(same(Path::new("/container/redis.conf")).is_ok());
        assert_eq!(same(&other).unwrap_err().kind, FaultKind::Invalid);
        assert_eq!(same_file("", &conf).unwrap_err().kind, FaultKind::Server);
    }

    #[test]
    fn a_file_that_cannot_be_written_has_a_remedy() {
        let said = |text: &str| hint(&ServerError::Said(text.into()), Path::new("/etc/redis/redis.conf"));
        assert!(said("ERR Rewriting config file: Permission denied").unwrap().contains("/etc/redis"));
        assert_eq!(said("ERR unknown"), None);
    }
}
