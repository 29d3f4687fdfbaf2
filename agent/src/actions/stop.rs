//! Stops a server, with its data saved first or without.
//!
//! An `exec` server is told by `SHUTDOWN`, also when other hands started it. A service manager must do it itself, or it
//! would start the server again: there the saving is done, or forbidden, beforehand.
//!
//! A server that is stopped for what a run installs is held by its service manager until it is started on that, or on what
//! was put back: whoever starts it in between would have it save over the files, or take writes.
//!
//! A server that does not go is asked once more by SIGTERM and then left: this agent never sends SIGKILL. A child of a
//! killed server that was saving goes on and renames its file over whatever dump stands there by then (Redis up to 6.0),
//! and data that was not saved would be lost without anybody having decided so.

use std::time::Duration;

use baton_proto::control::{Outcome, Progress, SaveMethod, Saving};
use baton_proto::report::{Role, Running, total_keys};
use baton_proto::{Fault, FaultKind, RunId};
use tracing::{info, warn};

use super::look::{self};
use super::pace::Pace;
use super::save::follow::Follower;
use super::{borrow, landing, role, save};
use crate::instance::Instance;
use crate::reach;
use crate::server::{Answer, ConnectError, Server, ServerError};
use crate::service::{self, LogMark, Process, Then};
use crate::tasks::ProgressSink;

/// How long a server that does not answer is given to find its voice: loading slow keys, it may miss some seconds.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);
/// How long a SHUTDOWN without a save may take: from 7.0 on a primary waits up to ten seconds for its replicas.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a process may take to end once it said that it does: freeing hundreds of GB of memory takes a while.
const EXIT_TIMEOUT: Duration = Duration::from_secs(60);

pub(super) async fn stop(
    instance: &Instance,
    run: &RunId,
    save: Saving,
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    let then = match save {
        Saving::Empty | Saving::Always => Then::Hold,
        // To be undone: what the run installed is moved away next.
        Saving::IfChanged if landing::site(instance, run).await?.note.exists() => Then::Hold,
        Saving::IfChanged => Then::Leave,
    };
    let Some(mut server) = answering(instance).await? else {
        if save == Saving::IfChanged {
            role::is_taken_back(instance, run).await?;
        }
        // Its service manager may be about to start it again, or in the middle of it.
        if let Some(stopped) = service::stop(instance, then).await {
            stopped?;
        }
        return stopped(instance, false, then).await;
    };
    let mut running = look::look(instance, &mut server).await?.running;
    may_be_stopped(&running, save)?;
    if save == Saving::IfChanged && role::take_back(instance, run, &mut server).await? {
        running = look::look(instance, &mut server).await?.running;
    }
    let save = match save {
        Saving::Empty => false,
        Saving::Always => true,
        Saving::IfChanged => {
            running.persistence.changes_since_save > 0 && !holds_nothing(instance, &mut server, &running).await?
        }
    };
    let mark = LogMark::now(instance, Some(&mut server)).await;
    // None where the server lives in a container of its own; then only its port tells.
    let process = Process::of(running.pid);
    progress.report(Progress { doing: "stopping".into(), ..Progress::default() });
    let managed = !matches!(instance.config().service, crate::config::ServiceConfig::Exec(_));
    let told = if managed {
        stop_managed(instance, &mut server, &running, (save, then), progress).await
    } else {
        shut_down(instance, &mut server, save).await
    };
    if let Err(fault) = told {
        // It may run on, and is to be started again then by whomever.
        service::settle(instance).await?;
        if let Ok(mut server) = instance.connect().await {
            borrow::give_back(instance, &mut server, running.pid).await?;
        }
        return Err(mark.explain(fault).await);
    }
    if !gone(instance, process.as_ref()).await
        && let Some(process) = &process
        && process.terminate().is_ok()
    {
        warn!(instance = %instance.name(), pid = running.pid, "the server said that it ends, and did not: sent SIGTERM");
        gone(instance, Some(process)).await;
    }
    if !gone_now(instance, process.as_ref()).await {
        let fault = Fault::new(FaultKind::Server, format!("process {} does not end", running.pid));
        return Err(mark.explain(fault).await.hint("see what it waits for; this agent does not kill it"));
    }
    stopped(instance, true, then).await
}

/// Whether a server was started on nothing and holds nothing: then there is nothing to save, and no dump is to be left.
async fn holds_nothing(instance: &Instance, server: &mut Server, running: &Running) -> Result<bool, Fault> {
    if total_keys(&running.keyspace) > 0 || instance.data_files().await?.dump().exists() {
        return Ok(false);
    }
    // Functions are no keys, and are saved with them. A server before 7.0 has none, and does not know the word.
    Ok(match server.call(&["FUNCTION", "LIST"]).await {
        Ok(Answer::List(functions)) => functions.is_empty(),
        Ok(_) => false,
        Err(ServerError::Said(_)) => !running.version.has_functions(),
        Err(error) => return Err(error.fault(instance.name(), "FUNCTION LIST")),
    })
}

/// Sees that nobody depends on the server: what was true when the plan was made may no longer be.
fn may_be_stopped(running: &Running, save: Saving) -> Result<(), Fault> {
    let keys = total_keys(&running.keyspace);
    if save == Saving::Empty && keys > 0 {
        return Err(Fault::new(
            FaultKind::Refused,
            format!("the server holds {keys} keys, and was to be stopped as empty"),
        )
        .because("somebody has written there since the plan was made")
        .hint("look at `coord status`: is it in use, or the target of another run?"));
    }
    match &running.role {
        Role::Primary { replicas } if !replicas.is_empty() => {
            Err(Fault::new(FaultKind::Refused, format!("{} replicas follow the server", replicas.len()))
                .because("it has become a primary since the plan was made")
                .hint("look at `coord status` and `coord runs`: another run may have ended here"))
        }
        _ => Ok(()),
    }
}

async fn stopped(instance: &Instance, was_running: bool, then: Then) -> Result<Outcome, Fault> {
    if then == Then::Leave {
        service::settle(instance).await?;
    }
    borrow::forget(instance).await?;
    info!(instance = %instance.name(), was_running, "stopped");
    Ok(Outcome::Stopped { was_running })
}

/// Connects to the server. None: nothing listens, or nothing yet that could answer.
async fn answering(instance: &Instance) -> Result<Option<Server>, Fault> {
    reach::end_rehearsal(instance).await;
    let mut pace = Pace::within(ANSWER_TIMEOUT);
    loop {
        match instance.connect().await {
            Ok(server) => return Ok(Some(server)),
            Err(ConnectError::Stopped(_)) => return Ok(None),
            // Still loading what it was started on: there is nothing to save, and its manager can end it.
            Err(ConnectError::Silent(_)) if service::is_loading(instance).await? => return Ok(None),
            Err(error @ ConnectError::Silent(_)) if !pace.wait().await => return Err(error.fault(instance.name())),
            Err(ConnectError::Silent(_)) => {}
            Err(error) => return Err(error.fault(instance.name())),
        }
    }
}

/// Tells the server itself to end.
async fn shut_down(instance: &Instance, server: &mut Server, save: bool) -> Result<(), Fault> {
    let (limit, how) = if save { (save::SAVE_TIMEOUT, "SAVE") } else { (SHUTDOWN_TIMEOUT, "NOSAVE") };
    match server.call_within(limit, &["SHUTDOWN", how]).await {
        // A server that ends breaks the connection instead of answering.
        Err(ServerError::Lost(_)) | Ok(_) => Ok(()),
        Err(error) => Err(error.fault(instance.name(), &format!("SHUTDOWN {how}"))),
    }
}

/// Has the service manager stop the server. It does so by SIGTERM, on which a server saves if it has save points; and
/// a manager kills a server whose save takes longer than its own limit. So the save is done, and judged, beforehand.
async fn stop_managed(
    instance: &Instance,
    server: &mut Server,
    running: &Running,
    (save, then): (bool, Then),
    progress: &ProgressSink,
) -> Result<(), Fault> {
    let mut unsaved = false;
    if save {
        let dump = instance.data_files().await?.dump();
        let connection = look::connect(instance).await?;
        save::save(instance, connection, SaveMethod::Save, &mut Follower::watching(dump, progress)).await?;
        unsaved = look::look(instance, server).await?.running.persistence.changes_since_save > 0;
    }
    // What came after the save is saved by the server as it ends; without a save, or with nothing new, it must not.
    // Any save point will do.
    if !unsaved {
        borrow::borrow(instance, server, running.pid, "save", "").await?;
    } else if server.config("save").await.is_ok_and(|points| points.is_some_and(|points| points.is_empty())) {
        borrow::borrow(instance, server, running.pid, "save", "3600 1").await?;
    }
    service::stop(instance, then).await.unwrap_or(Ok(()))
}

/// Waits until the process is gone and nothing listens any more.
async fn gone(instance: &Instance, process: Option<&Process>) -> bool {
    let mut pace = Pace::within(EXIT_TIMEOUT);
    loop {
        if gone_now(instance, process).await {
            return true;
        }
        if !pace.wait().await {
            return false;
        }
    }
}

async fn gone_now(instance: &Instance, process: Option<&Process>) -> bool {
    process.is_none_or(|process| !process.is_alive())
        && matches!(instance.connect().await, Err(ConnectError::Stopped(_)))
}
