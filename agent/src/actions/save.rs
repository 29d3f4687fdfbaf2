//! Having a server write its dump, by SAVE or BGSAVE.
//!
//! SAVE is judged by its reply: after a failed one the server's status fields still say `ok`. BGSAVE is judged by the
//! status of the last background save once none runs, or by its file if another save has begun by then. Both are confirmed
//! on disk: the dump must be another file than before. `LASTSAVE` alone would not do: it counts in whole seconds.
//!
//! Meanwhile the file is followed ([`follow`]), and written without compression where there is room ([`plain`]): what is
//! sent is packed better then, and the save is over sooner.

mod candidates;
pub(super) mod follow;
pub(super) mod pin;
mod plain;
mod report;
mod silence;
pub(super) mod unfinished;

use std::path::Path;
use std::time::Duration;

use baton_proto::control::SaveMethod;
use baton_proto::report::{Link, Role, Running};
use baton_proto::{Fault, FaultKind};
use tokio::time::Instant;
use tracing::warn;

use self::candidates::Writer;
use self::follow::Follower;
pub(super) use self::silence::SILENCE_TIMEOUT;
use self::silence::Silence;
use super::borrow;
use super::look::Watch;
use super::pace::Pace;
use super::stamp::Stamp;
use crate::blocking::blocking;
use crate::host;
use crate::instance::Instance;
use crate::server::{ConnectError, Server, ServerError};
use crate::service::LogMark;

/// How long a save may take: some 4 TB at 200 MB/s. A server says nothing during SAVE, and silence is not death.
pub(super) const SAVE_TIMEOUT: Duration = Duration::from_secs(6 * 3600);
/// How often a save is tried that another one, begun by the server itself, came before.
const ATTEMPTS_MAX: u32 = 5;
/// How long the new dump may take to be seen after a background save is over: a file system shared over a network may
/// show it late.
const SEEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a followed save that has become the dump may still be under way for its server: it only has the end of its
/// child to see. What runs then is another save.
const LANDED_PATIENCE: Duration = Duration::from_secs(2);

/// Connects to a server that may be in the middle of a SAVE, as one is whose agent ended meanwhile: it answers nobody, and
/// its file grows.
pub(super) async fn answering(instance: &Instance, follower: &mut Follower<'_>) -> Result<Server, Fault> {
    let mut silence = Silence::new(follower.dir().to_owned());
    let mut pace = Pace::within(SAVE_TIMEOUT);
    loop {
        let error = match instance.connect().await {
            Ok(server) => return Ok(server),
            Err(error) => error,
        };
        silence.look().await;
        let may_save = matches!(error, ConnectError::Silent(_)) && silence.sees_files() && !silence.is_too_long();
        follower.report("waiting for another save");
        if !may_save || !pace.wait().await {
            return Err(error.fault(instance.name()));
        }
    }
}

/// What a save took.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    pub(super) seconds: f64,
    /// For how long of it a core worked; none where that cannot be told.
    pub(super) worked_seconds: Option<f64>,
}

/// Writes the dump anew, and confirms that it is there.
pub(super) async fn save(
    instance: &Instance,
    server: Server,
    method: SaveMethod,
    follower: &mut Follower<'_>,
) -> Result<Effort, Fault> {
    let dump = follower.dump().to_owned();
    let mut watch = Watch::new(instance, Some(server));
    let mark = LogMark::now(instance, Some(watch.server().await?)).await;
    for _ in 0..ATTEMPTS_MAX {
        let running = idle(&mut watch, follower).await?;
        let before = seen(&dump).await?;
        let server = watch.server().await?;
        let is_plain =
            follower.is_for_a_snapshot() && plain::borrow(instance, server, &running, &dump, before.as_ref()).await;
        let writer = match method {
            SaveMethod::Bgsave => Writer::ChildOf(running.pid),
            _ => Writer::Server(running.pid),
        };
        // What the last save was packed to says nothing of one that is not.
        follower.prepare(writer, before.as_ref().map(|stamp| stamp.bytes).filter(|_| !is_plain)).await;
        let (begun, worked) = (Instant::now(), host::worked_by(running.pid));
        let outcome = with_settings(instance, server, &running, async |server| match method {
            SaveMethod::Bgsave => server.call(&["BGSAVE"]).await,
            _ => follower.during(server.call_within(SAVE_TIMEOUT, &["SAVE"])).await,
        });
        match outcome.await? {
            Ok(_) => {
                if method == SaveMethod::Bgsave {
                    background(watch, running.pid, follower, &mark).await?;
                }
                confirm(follower, before.as_ref(), &mark).await?;
                let worked = worked.zip(host::worked_by(running.pid)).map(|(before, after)| match method {
                    SaveMethod::Bgsave => after.children_seconds - before.children_seconds,
                    _ => after.own_seconds - before.own_seconds,
                });
                return Ok(Effort { seconds: begun.elapsed().as_secs_f64(), worked_seconds: worked });
            }
            Err(ServerError::Said(error)) if error.contains("in progress") || error.contains("child process") => {}
            Err(error) => {
                let fault = error.fault(instance.name(), &method.to_string());
                return Err(with_hint(mark.explain(fault).await, &dump));
            }
        }
    }
    Err(Fault::new(FaultKind::Server, format!("{method} found another save running, {ATTEMPTS_MAX} times"))
        .hint("see the server's `save` points, and what else saves it"))
}

/// Waits until no save or rewrite runs. A server that misses an answer is not lost: it may be forking, or in a SAVE.
async fn idle(watch: &mut Watch<'_>, follower: &mut Follower<'_>) -> Result<Running, Fault> {
    let mut pace = Pace::within(SAVE_TIMEOUT);
    let mut silence = Silence::new(follower.dir().to_owned());
    loop {
        match watch.look().await.map(|look| look.running) {
            Some(running) if !running.persistence.saving && !running.persistence.aof_rewriting => return Ok(running),
            Some(_) => silence.heard(),
            None => {
                silence.look().await;
                if watch.has_ended() || silence.is_too_long() {
                    return Err(watch.missed.take().unwrap_or_else(|| Fault::new(FaultKind::Server, "no answer")));
                }
            }
        }
        follower.report("waiting for another save");
        if !pace.wait().await {
            return Err(Fault::new(FaultKind::Server, "another save does not end"));
        }
    }
}

/// Asks a server for a save, and puts back what was changed for it: once it is asked for, a child has its own copy of the
/// settings. With `replica-serve-stale-data no`, a replica that lost its primary answers next to nothing, not even SAVE:
/// that setting is changed as well.
async fn with_settings<T>(
    instance: &Instance,
    server: &mut Server,
    running: &Running,
    ask: impl AsyncFnOnce(&mut Server) -> Result<T, ServerError>,
) -> Result<Result<T, ServerError>, Fault> {
    let pid = running.pid;
    let mut ready = Ok(());
    if matches!(&running.role, Role::Replica { link, .. } if !matches!(link, Link::Up { .. })) {
        for name in ["replica-serve-stale-data", "slave-serve-stale-data"] {
            if ready.is_ok() {
                ready = borrow::borrow(instance, server, pid, name, "yes").await.map(drop);
            }
        }
    }
    let outcome = match ready {
        Ok(()) => Ok(ask(server).await),
        Err(fault) => Err(fault),
    };
    let back = match &outcome {
        Ok(Err(ServerError::Lost(_))) => match instance.connect().await {
            Ok(mut again) => borrow::give_back(instance, &mut again, pid).await,
            Err(error) => Err(error.fault(instance.name())),
        },
        _ => borrow::give_back(instance, server, pid).await,
    };
    // What the save came to matters more. A setting that was not put back is noted, and put back when the server answers.
    if let Err(fault) = back {
        warn!(instance = %instance.name(), "settings are not put back yet: {fault}");
    }
    outcome
}

/// Waits for a background save that a server has begun. Its child may outlive it, and then ends the save all the same.
async fn background(mut watch: Watch<'_>, pid: u32, follower: &mut Follower<'_>, mark: &LogMark) -> Result<(), Fault> {
    let mut pace = Pace::within(SAVE_TIMEOUT);
    let mut silence = Silence::new(follower.dir().to_owned());
    let mut landed = None;
    loop {
        let look = watch.look().await;
        follower.look().await;
        if follower.has_landed() {
            let since: Instant = *landed.get_or_insert_with(Instant::now);
            let is_over = look.is_some_and(|look| !look.running.persistence.saving);
            if is_over || since.elapsed() >= LANDED_PATIENCE {
                return Ok(());
            }
        } else if let Some(look) = look.filter(|look| look.running.pid == pid) {
            silence.heard();
            let state = &look.running.persistence;
            if !state.saving && !state.last_save_ok {
                let fault = Fault::new(FaultKind::Server, "BGSAVE failed");
                return Err(with_hint(mark.explain(fault).await, follower.dump()));
            }
            if !state.saving {
                return Ok(());
            }
        } else {
            silence.look().await;
            if silence.is_too_long() {
                return Err(outlived(watch.missed.take(), mark).await);
            }
        }
        if !follower.during(pace.wait()).await {
            return Err(Fault::new(FaultKind::Server, format!("BGSAVE did not end within {SAVE_TIMEOUT:?}")));
        }
    }
}

/// The server that was asked for a save is gone or hangs, and nobody writes its file.
async fn outlived(missed: Option<Fault>, mark: &LogMark) -> Fault {
    let mut fault = Fault::new(FaultKind::Server, "the server was lost during BGSAVE, and its file does not grow");
    fault = match missed {
        Some(missed) => fault.because(missed),
        None => fault.because("another process of the server answers: it was restarted meanwhile"),
    };
    mark.explain(fault).await.hint("see why the server ended, start it, and take the snapshot again")
}

/// Sees that a save that is said to be over has left a new dump. A file system shared over a network may show it late.
async fn confirm(follower: &mut Follower<'_>, before: Option<&Stamp>, mark: &LogMark) -> Result<(), Fault> {
    let dump = follower.dump().to_owned();
    let mut pace = Pace::within(SEEN_TIMEOUT);
    loop {
        // What has landed may have been replaced by the next save already.
        follower.look().await;
        if follower.has_landed() {
            return Ok(());
        }
        match changed(&dump, before).await {
            Ok(()) => break,
            Err(fault) if !pace.wait().await => return Err(mark.explain(fault).await),
            Err(_) => {}
        }
    }
    follower.conclude().await;
    Ok(())
}

async fn seen(dump: &Path) -> Result<Option<Stamp>, Fault> {
    let path = dump.to_owned();
    let found = blocking(move || Stamp::at(&path)).await.flatten();
    found.map_err(|error| Fault::new(FaultKind::Host, format!("look at {}", dump.display())).because(error))
}

async fn changed(dump: &Path, before: Option<&Stamp>) -> Result<(), Fault> {
    match seen(dump).await? {
        Some(after) if Some(&after) != before => Ok(()),
        _ => Err(Fault::new(
            FaultKind::Verification,
            format!("the server says that it saved, but {} is as before", dump.display()),
        )
        .hint(
            "the server may see other directories than the agent, as in a container: see `dir` in its configuration",
        )),
    }
}

fn with_hint(fault: Fault, dump: &Path) -> Fault {
    let says = |text: &str| fault.causes.iter().any(|cause| cause.contains(text));
    let dir = dump.parent().unwrap_or(dump).display();
    if says("No space left") {
        fault.hint(format!("free disk space in {dir}"))
    } else if says("Permission denied") || says("Read-only file system") {
        fault.hint(format!("the server's user must be able to write in {dir}"))
    } else if says("Cannot allocate memory") {
        fault.hint("there is no memory for a fork: use `--snapshot save`, or set vm.overcommit_memory=1")
    } else {
        fault
    }
}

#[cfg(test)]
mod tests {
    use super::super::look::tests::that_misses_one_answer;
    use super::*;
    use crate::instance::tests::with_conf;
    use crate::tasks::ProgressSink;

    #[tokio::test(start_paused = true)]
    async fn a_background_save_whose_server_and_child_are_gone_is_given_up_soon() {
        let dir = tempfile::tempdir().unwrap();
        // A port that was free a moment ago.
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let instance = with_conf(dir.path(), &format!("bind 127.0.0.1\nport {port}\n"));
        std::fs::write(dir.path().join("temp-7.rdb"), "REDIS, and no more").unwrap();
        let progress = ProgressSink::detached();
        let mut follower = Follower::watching(dir.path().join("dump.rdb"), &progress);
        let mark = LogMark::now(&instance, None).await;
        let began = Instant::now();
        let fault = background(Watch::new(&instance, None), 7, &mut follower, &mark).await.unwrap_err();
        assert!(began.elapsed() < SAVE_TIMEOUT / 60, "it took {:?}: {fault}", began.elapsed());
        assert!(fault.to_string().contains("server was lost") && fault.hint.is_some(), "{fault}");
    }

    #[tokio::test]
    async fn a_server_that_misses_an_answer_is_waited_for_until_it_is_idle() {
        let dir = tempfile::tempdir().unwrap();
        let instance = that_misses_one_answer(dir.path()).await;
        let progress = ProgressSink::detached();
        let mut follower = Follower::watching(dir.path().join("dump.rdb"), &progress);
        assert_eq!(idle(&mut Watch::new(&instance, None), &mut follower).await.map(|running| running.pid), Ok(7));
    }

    #[tokio::test]
    async fn a_dump_counts_as_saved_only_if_it_is_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let dump = dir.path().join("dump.rdb");
        assert!(changed(&dump, None).await.is_err());
        std::fs::write(&dump, "a").unwrap();
        let before = seen(&dump).await.unwrap();
        assert!(changed(&dump, None).await.is_ok());
        assert!(changed(&dump, before.as_ref()).await.is_err());
        std::fs::write(dir.path().join("temp-1.rdb"), "a").unwrap();
        std::fs::rename(dir.path().join("temp-1.rdb"), &dump).unwrap();
        assert!(changed(&dump, before.as_ref()).await.is_ok());
    }
}
