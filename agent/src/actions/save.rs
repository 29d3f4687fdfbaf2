//! Having a server write its dump, by SAVE or BGSAVE.
//!
//! SAVE is judged by its reply: after a failed one the server's status fields still say `ok`. BGSAVE is judged by the
//! status of the last background save once none runs. Both are confirmed on disk: the dump must be another file than
//! before. `LASTSAVE` alone would not do: it counts in whole seconds.

use std::path::Path;
use std::time::{Duration, SystemTime};

use baton_proto::control::{Progress, SaveMethod};
use baton_proto::report::{Link, Role, Running};
use baton_proto::{Fault, FaultKind};
use tokio::time::Instant;

use super::borrow;
use super::look::Watch;
use super::pace::Pace;
use super::stamp::Stamp;
use crate::instance::Instance;
use crate::server::{Server, ServerError};
use crate::service::LogMark;
use crate::tasks::ProgressSink;

/// How long a save may take: some 4 TB at 200 MB/s. A server says nothing during SAVE, and silence is not death.
pub(super) const SAVE_TIMEOUT: Duration = Duration::from_secs(6 * 3600);
/// How often a save is tried that another one, begun by the server itself, came before.
const ATTEMPTS_MAX: u32 = 5;
/// How long the new dump may take to be seen after a background save is over: a file system shared over a network may
/// show it late.
const SEEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How often the growing file is looked at.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// Most names that are looked at for the growing file.
const NAMES_MAX: usize = 10_000;

/// Writes the dump anew, and confirms that it is there.
pub(super) async fn save(
    instance: &Instance,
    server: Server,
    method: SaveMethod,
    dump: &Path,
    progress: &ProgressSink,
) -> Result<(), Fault> {
    let mut watch = Watch::new(instance, Some(server));
    let mark = LogMark::now(instance, Some(watch.server().await?)).await;
    for _ in 0..ATTEMPTS_MAX {
        let running = idle(&mut watch, progress).await?;
        let before = seen(dump)?;
        let growing =
            Growing { since: SystemTime::now(), expected: before.as_ref().map(|stamp| stamp.bytes), dump, progress };
        let server = watch.server().await?;
        let outcome = answered_while_frozen(instance, server, &running, async |server| match method {
            SaveMethod::Bgsave => server.call(&["BGSAVE"]).await,
            _ => growing.during(server.call_within(SAVE_TIMEOUT, &["SAVE"])).await,
        });
        match outcome.await? {
            Ok(_) if method == SaveMethod::Bgsave => return background(watch, &growing, before, &mark).await,
            Ok(_) => return changed(dump, before.as_ref()),
            Err(ServerError::Said(error)) if error.contains("in progress") || error.contains("child process") => {}
            Err(error) => {
                let fault = error.fault(instance.name(), &method.to_string());
                return Err(with_hint(mark.explain(fault).await, dump));
            }
        }
    }
    Err(Fault::new(FaultKind::Server, format!("{method} found another save running, {ATTEMPTS_MAX} times"))
        .hint("see the server's `save` points, and what else saves it"))
}

/// Waits until no save or rewrite runs.
async fn idle(watch: &mut Watch<'_>, progress: &ProgressSink) -> Result<Running, Fault> {
    let mut pace = Pace::within(SAVE_TIMEOUT);
    loop {
        let found = watch.look().await.map(|look| look.running);
        match found {
            Some(running) if !running.persistence.saving && !running.persistence.aof_rewriting => return Ok(running),
            Some(_) => {}
            None => return Err(watch.missed.take().unwrap_or_else(|| Fault::new(FaultKind::Server, "no answer"))),
        }
        progress.report(Progress { doing: "waiting for another save".into(), ..Progress::default() });
        if !pace.wait().await {
            return Err(Fault::new(FaultKind::Server, "another save does not end"));
        }
    }
}

/// Asks a server for a save. With `replica-serve-stale-data no`, a replica that lost its primary answers next to
/// nothing, not even SAVE: the setting is changed for the call.
async fn answered_while_frozen<T>(
    instance: &Instance,
    server: &mut Server,
    running: &Running,
    ask: impl AsyncFnOnce(&mut Server) -> Result<T, ServerError>,
) -> Result<Result<T, ServerError>, Fault> {
    let pid = running.pid;
    if matches!(&running.role, Role::Replica { link, .. } if !matches!(link, Link::Up { .. })) {
        for name in ["replica-serve-stale-data", "slave-serve-stale-data"] {
            borrow::borrow(instance, server, pid, name, "yes").await?;
        }
    }
    let outcome = ask(server).await;
    let back = match &outcome {
        Err(ServerError::Lost(_)) => match instance.connect().await {
            Ok(mut again) => borrow::give_back(instance, &mut again, pid).await,
            Err(_) => Ok(()),
        },
        _ => borrow::give_back(instance, server, pid).await,
    };
    // A setting that was not put back is noted and logged; the save's own failure matters more.
    if outcome.is_ok() {
        back?;
    }
    Ok(outcome)
}

/// Waits for a background save that has begun.
async fn background(
    mut watch: Watch<'_>,
    growing: &Growing<'_>,
    before: Option<Stamp>,
    mark: &LogMark,
) -> Result<(), Fault> {
    let mut pace = Pace::within(SAVE_TIMEOUT);
    loop {
        if let Some(look) = watch.look().await {
            let state = &look.running.persistence;
            if !state.saving && !state.last_save_ok {
                let fault = Fault::new(FaultKind::Server, "BGSAVE failed");
                return Err(with_hint(mark.explain(fault).await, growing.dump));
            }
            if !state.saving {
                break;
            }
        }
        growing.report();
        if !pace.wait().await {
            return Err(Fault::new(FaultKind::Server, format!("BGSAVE did not end within {SAVE_TIMEOUT:?}")));
        }
    }
    let mut pace = Pace::within(SEEN_TIMEOUT);
    loop {
        match changed(growing.dump, before.as_ref()) {
            Err(fault) if !pace.wait().await => return Err(mark.explain(fault).await),
            Err(_) => {}
            Ok(()) => return Ok(()),
        }
    }
}

fn seen(dump: &Path) -> Result<Option<Stamp>, Fault> {
    Stamp::at(dump).map_err(|error| Fault::new(FaultKind::Host, format!("look at {}", dump.display())).because(error))
}

fn changed(dump: &Path, before: Option<&Stamp>) -> Result<(), Fault> {
    match seen(dump)? {
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

/// The file that a save writes, told by its name `temp-<pid>.rdb`: the process number is that of a child, or of another
/// namespace, so the newest of that shape is taken.
struct Growing<'a> {
    since: SystemTime,
    expected: Option<u64>,
    dump: &'a Path,
    progress: &'a ProgressSink,
}

impl Growing<'_> {
    async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        let mut ticks = tokio::time::interval_at(Instant::now() + PROGRESS_INTERVAL, PROGRESS_INTERVAL);
        loop {
            tokio::select! {
                outcome = &mut work => return outcome,
                _ = ticks.tick() => self.report(),
            }
        }
    }

    fn report(&self) {
        let bytes_done = self.bytes();
        // The last dump's size is a guess, dropped once it is passed.
        let bytes_total = self.expected.filter(|expected| *expected >= bytes_done);
        self.progress.report(Progress { doing: "saving".into(), bytes_done, bytes_total, bytes_wire: 0, ready: false });
    }

    fn bytes(&self) -> u64 {
        let Some(Ok(names)) = self.dump.parent().map(std::fs::read_dir) else { return 0 };
        let written = names.take(NAMES_MAX).flatten().filter_map(|entry| {
            let name = entry.file_name();
            let name = name.to_str()?;
            name.strip_prefix("temp-")?.strip_suffix(".rdb")?;
            let found = entry.metadata().ok()?;
            let modified = found.modified().ok()?;
            (modified >= self.since).then_some((modified, found.len()))
        });
        written.max().map_or(0, |(_, bytes)| bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_file_that_grows_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let dump = dir.path().join("dump.rdb");
        let since = SystemTime::now() - Duration::from_secs(1);
        let sink = ProgressSink::detached();
        let bytes = |since| Growing { since, expected: None, dump: &dump, progress: &sink }.bytes();
        assert_eq!(bytes(since), 0);
        std::fs::write(&dump, [0; 50]).unwrap();
        std::fs::write(dir.path().join("temp-rewriteaof-1.aof"), [0; 60]).unwrap();
        std::fs::write(dir.path().join("temp-123.rdb"), [0; 7]).unwrap();
        assert_eq!(bytes(since), 7);
        assert_eq!(bytes(SystemTime::now() + Duration::from_secs(60)), 0, "left by a server that was killed long ago");
    }

    #[test]
    fn a_dump_counts_as_saved_only_if_it_is_another_file() {
        let dir = tempfile::tempdir().unwrap();
        let dump = dir.path().join("dump.rdb");
        assert!(changed(&dump, None).is_err());
        std::fs::write(&dump, "a").unwrap();
        let before = seen(&dump).unwrap();
        assert!(changed(&dump, None).is_ok());
        assert!(changed(&dump, before.as_ref()).is_err());
        std::fs::write(dir.path().join("temp-1.rdb"), "a").unwrap();
        std::fs::rename(dir.path().join("temp-1.rdb"), &dump).unwrap();
        assert!(changed(&dump, before.as_ref()).is_ok());
    }
}
