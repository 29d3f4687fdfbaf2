//! Sees that a server keeps what is written after a snapshot, until the replica that is built from it asks for it.
//!
//! A server that never had a replica has no backlog, and no lineage that a snapshot could name. It makes both at the first
//! `PSYNC` of a replica, before it forks: with diskless replication it waits some seconds for more replicas, and forks for
//! nobody if none is left by then. So this agent asks as a replica would, and leaves as soon as the backlog is there.
//! (Measured on Redis 4.0 to 8.0 and Valkey 7.2 to 9.1. The server counts a full resync for it, but sends nothing.)
//!
//! The size is changed before the snapshot: up to Redis 6.2, a server empties its backlog with every change of its size.

use std::sync::Arc;
use std::time::Duration;

use baton_proto::control::{Outcome, Progress};
use baton_proto::report::{Role, Running};
use baton_proto::{Fault, FaultKind, RunId};
use tokio::time::Instant;
use tracing::{info, warn};

use super::borrow::{self, Held};
use super::look::{self, Look, Watch};
use super::middle;
use super::pace::Pace;
use super::recover;
use super::save::{SAVE_TIMEOUT, SILENCE_TIMEOUT};
use crate::host;
use crate::instance::Instance;
use crate::server::{Server, ServerError};
use crate::tasks::ProgressSink;

/// Seconds that a server is to wait for more replicas before it forks for the first: its own default, many times of what
/// it takes to make a backlog.
const FORK_DELAY_SECONDS: u32 = 5;
/// How long a backlog may take to be there: less than that, so that the replica is gone in time.
const CREATE_TIMEOUT: Duration = Duration::from_secs(3);

/// Has a backlog of at least `bytes`, for as long as the run needs it.
pub(super) async fn have(
    instance: &Arc<Instance>,
    run: &RunId,
    bytes: u64,
    hold: Duration,
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    let mut server = look::connect(instance).await?;
    let before = look::look_loaded(instance, &mut server).await?;
    let until_unix_ms = host::clock_unix_ms().saturating_add(u64::try_from(hold.as_millis()).unwrap_or(u64::MAX));
    let held = Held { run: run.clone(), until_unix_ms };
    let had = before.running.replication.backlog.is_some();
    let grown = grow(instance, &mut server, &before.running, bytes, &held).await;
    let created = match grown {
        Ok(()) if !had => create(instance, &mut server, &before, progress).await,
        other => other,
    };
    // Whatever came of it: what is held is put back in the end.
    recover::give_back_later(instance).await;
    created?;
    let after = look::look(instance, &mut server).await?.running;
    let size = after.replication.backlog_bytes;
    if after.pid != before.running.pid || after.replication.backlog.is_none() || size < bytes {
        return Err(Fault::new(FaultKind::Server, "the server does not keep the backlog that it was told to")
            .because(format!("{:?} of {size} B, and {bytes} B are wanted", after.replication.backlog))
            .hint("see the server's log: it may have been restarted"));
    }
    info!(instance = %instance.name(), created = !had, bytes = size, "backlog is held");
    Ok(Outcome::Backlog { created: !had, bytes: size })
}

/// Makes it large enough, and keeps a primary from dropping it while nobody follows.
async fn grow(
    instance: &Instance,
    server: &mut Server,
    running: &Running,
    bytes: u64,
    held: &Held,
) -> Result<(), Fault> {
    let pid = running.pid;
    if running.replication.backlog_bytes < bytes {
        let known = borrow::hold(instance, server, pid, ("repl-backlog-size", &bytes.to_string()), held).await?;
        if !known {
            return Err(Fault::new(FaultKind::Unsupported, "the server knows no repl-backlog-size"));
        }
    }
    middle("backlog-grown").await;
    if matches!(running.role, Role::Replica { .. }) {
        return Ok(());
    }
    match server.config("repl-backlog-ttl").await {
        Ok(_) => borrow::hold(instance, server, pid, ("repl-backlog-ttl", "0"), held).await.map(drop),
        // Without CONFIG it keeps the backlog for as long as it is configured, an hour by default.
        Err(ServerError::Said(error)) => {
            warn!(instance = %instance.name(), error, "the time to live of the backlog is left as it is");
            Ok(())
        }
        Err(error) => Err(error.fault(instance.name(), "CONFIG GET repl-backlog-ttl")),
    }
}

/// Has a backlog made where there was none, and sees that nothing else came of it.
async fn create(instance: &Instance, server: &mut Server, before: &Look, progress: &ProgressSink) -> Result<(), Fault> {
    let pid = before.running.pid;
    let asked = match delay_forks(instance, server, pid).await {
        Ok(()) => ask_as_a_replica(instance, server).await,
        Err(fault) => Err(fault),
    };
    // The replica has left before its settings do: a shorter delay would have the server fork for it.
    let idle = idle(instance, before, progress).await;
    borrow::give_back(instance, server, pid).await?;
    asked.and(idle)
}

/// Has the server wait before it forks for a replica.
async fn delay_forks(instance: &Instance, server: &mut Server, pid: u32) -> Result<(), Fault> {
    borrow::borrow(instance, server, pid, "repl-diskless-sync", "yes").await?;
    let delay = server.config("repl-diskless-sync-delay").await;
    let delay = delay.map_err(|error| error.fault(instance.name(), "CONFIG GET"))?;
    if delay.and_then(|seconds| seconds.parse().ok()).is_none_or(|seconds: u32| seconds < FORK_DELAY_SECONDS) {
        let seconds = FORK_DELAY_SECONDS.to_string();
        borrow::borrow(instance, server, pid, "repl-diskless-sync-delay", &seconds).await?;
    }
    // From Redis 7.0 on: so many replicas are not waited for. None is no such number.
    borrow::borrow(instance, server, pid, "repl-diskless-sync-max-replicas", "0").await.map(drop)
}

/// Asks for everything as a replica, and leaves once there is a backlog.
async fn ask_as_a_replica(instance: &Instance, server: &mut Server) -> Result<(), Fault> {
    let mut replica = look::connect(instance).await?;
    let ask = async {
        replica.call(&["REPLCONF", "capa", "eof", "capa", "psync2"]).await?;
        // The answer comes with the fork, which is not waited for.
        replica.call_within(CREATE_TIMEOUT, &["PSYNC", "?", "-1"]).await.map(drop)
    };
    let made = async {
        let mut pace = Pace::within(CREATE_TIMEOUT);
        while look::look(instance, server).await?.running.replication.backlog.is_none() {
            if !pace.wait().await {
                return Err(Fault::new(FaultKind::Server, "the server made no backlog"));
            }
        }
        Ok(())
    };
    tokio::pin!(made);
    tokio::select! {
        made = &mut made => made,
        answered = ask => match answered {
            Err(error @ ServerError::Said(_)) => {
                let fault = error.fault(instance.name(), "PSYNC");
                Err(fault.hint("let the agent's user have +psync and +replconf, and see `rename-command` in redis.conf"))
            }
            // Bare newlines keep a replica waiting, which the client may not understand. The backlog is there by then.
            _ => made.await,
        },
    }
}

/// Waits until the replica is gone, and a save that was begun for it all the same is over. A server that misses an answer
/// is not lost: it may be forking.
async fn idle(instance: &Instance, before: &Look, progress: &ProgressSink) -> Result<(), Fault> {
    // One that has told no port is not among the replicas that are listed.
    let replicas = |look: &Look| look.info.number("connected_slaves").or(look.info.number("connected_replicas"));
    let forks = |look: &Look| look.info.number("total_forks");
    let mut watch = Watch::new(instance, None);
    let (mut pace, mut heard) = (Pace::within(SAVE_TIMEOUT), Instant::now());
    loop {
        match watch.look().await {
            Some(look) if replicas(&look) <= replicas(before) && !look.running.persistence.saving => {
                if forks(&look) > forks(before) {
                    warn!(instance = %instance.name(), "the server has forked while its backlog was made");
                }
                return Ok(());
            }
            Some(_) => heard = Instant::now(),
            None if watch.has_ended() || heard.elapsed() >= SILENCE_TIMEOUT => {
                return Err(watch.missed.take().unwrap_or_else(|| Fault::new(FaultKind::Server, "no answer")));
            }
            None => {}
        }
        progress.report(Progress { doing: "waiting for another save".into(), ..Progress::default() });
        if !pace.wait().await {
            return Err(Fault::new(FaultKind::Server, "another save does not end"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::look::tests::{IDLE, that_misses_one_answer};
    use super::*;
    use crate::info::{Info, parse_running};

    #[tokio::test]
    async fn a_server_that_misses_an_answer_is_waited_for_until_it_is_idle() {
        let dir = tempfile::tempdir().unwrap();
        let instance = that_misses_one_answer(dir.path()).await;
        let before = Look { running: parse_running(IDLE).unwrap(), info: Info::parse(IDLE) };
        assert_eq!(idle(&instance, &before, &ProgressSink::detached()).await, Ok(()));
    }
}
