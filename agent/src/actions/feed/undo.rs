//! Ends a feed that did not land, or takes one back that did: the server is an empty primary again, with its own settings
//! and the files that stood there.
//!
//! Keys are flushed under proof only that they came by the feed: the process is the one that was found empty, and it
//! still is the read-only replica that it was made then. It is told to be a primary and to flush in one go, so that
//! nobody's write comes in between. (Most servers drop by themselves what a broken stream brought; Redis 6.2 keeps it when
//! only the end mark is missing.) What landed already, and was written to since, is saved first and set aside.

use std::time::Duration;

use baton_proto::report::{Role, total_keys};
use baton_proto::{Fault, FaultKind};
use tracing::{info, warn};

use super::checks::libraries;
use super::note::{Landed, Note, Stage};
use crate::actions::look::{self, Look};
use crate::actions::pace::Pace;
use crate::actions::place::{self, Site};
use crate::actions::replication::follows;
use crate::actions::save::SAVE_TIMEOUT;
use crate::actions::{borrow, landing, persist};
use crate::instance::Instance;
use crate::server::{ConnectError, Server};

/// How long a server may take to notice that its feed has ended. One that loads from a file of its own cannot be
/// stopped while it does.
const END_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a server that is written to is saved before it is emptied.
const SAVES_MAX: u32 = 3;

/// Ends a feed that did not land, and keeps what has arrived for a further pull. Without a note there is nothing to end.
pub(super) async fn end(instance: &Instance, site: &Site) -> Result<(), Fault> {
    let Some(note) = Note::read(instance).await? else { return Ok(()) };
    if matches!(note.stage, Stage::Landed(_)) {
        return Ok(());
    }
    let mut pace = Pace::within(END_TIMEOUT);
    loop {
        let ended = try_end(instance, &note).await;
        match ended {
            Ok(true) => break,
            Ok(false) | Err(_) if pace.wait().await => {}
            Ok(false) => {
                return Err(Fault::new(FaultKind::Server, "the server still loads what it was fed")
                    .hint("this agent makes it an empty primary when it is told the next time, or is started anew"));
            }
            Err(fault) => return Err(fault),
        }
    }
    // Before its settings are its own again: until then it does not save by itself.
    landing::on_disk(site.clone(), place::take_back).await?;
    borrow::give_back_leftovers(instance).await?;
    Note::remove(instance).await?;
    info!(instance = %instance.name(), run = %note.run, "a feed was ended: the server is as it was before");
    Ok(())
}

/// Tells whether the server has nothing of the feed any more.
async fn try_end(instance: &Instance, note: &Note) -> Result<bool, Fault> {
    let mut server = match instance.connect().await {
        Ok(server) => server,
        // What it held is gone with it.
        Err(ConnectError::Stopped(_)) => return Ok(true),
        Err(error) => return Err(error.fault(instance.name())),
    };
    let look = look::look(instance, &mut server).await?;
    let keys = total_keys(&look.running.keyspace);
    match &look.running.role {
        Role::Replica { primary, .. } if *primary == note.address => {
            if look.running.persistence.loading {
                return Ok(false);
            }
            let is_ours = look.running.pid == note.pid;
            empty(instance, &mut server, &look, is_ours).await?;
            // Seen in the next round.
            Ok(false)
        }
        role => {
            if keys > 0 || matches!(role, Role::Replica { .. }) {
                let role = crate::actions::replication::said(role);
                warn!(instance = %instance.name(), keys, role, "somebody else has taken the server that was fed; it is left as it is");
            }
            Ok(true)
        }
    }
}

/// Makes a server a primary, and has it drop what it holds if that is the feed's.
async fn empty(instance: &Instance, server: &mut Server, look: &Look, is_ours: bool) -> Result<(), Fault> {
    let running = &look.running;
    let mut row: Vec<&[&str]> = Vec::new();
    let promote = [running.version.replicaof(), "NO", "ONE"];
    if matches!(running.role, Role::Replica { .. }) {
        row.push(&promote);
    }
    let functions = libraries(look).is_some_and(|libraries| libraries > 0);
    if is_ours && (total_keys(&running.keyspace) > 0 || functions) {
        // A flush is followed by a save, over the dump, where the server has save points.
        borrow::borrow(instance, server, running.pid, "save", "").await?;
        row.push(&["FLUSHALL", "ASYNC"]);
        if functions {
            row.push(&["FUNCTION", "FLUSH"]);
        }
    }
    let done = server.call_in_a_row(crate::server::CALL_TIMEOUT, &row).await;
    done.map_err(|error| error.fault(instance.name(), "to be emptied"))
}

/// Takes back what the run's feed brought, also after it has landed, up to the files, which `place` puts back. Tells
/// whether there was one.
pub(in crate::actions) async fn unland(instance: &Instance, site: &Site) -> Result<bool, Fault> {
    let Some(note) = Note::read(instance).await?.filter(|note| note.run == site.run) else { return Ok(false) };
    let Stage::Landed(landed) = &note.stage else {
        end(instance, site).await?;
        return Ok(true);
    };
    borrow::give_back_leftovers(instance).await?;
    let mut server = match instance.connect().await {
        Ok(server) => server,
        Err(ConnectError::Stopped(_)) => {
            if landed.feed.durable == baton_proto::control::Durability::AppendOnly {
                landing::on_disk(site.clone(), place::set_aof_aside).await?;
            }
            if names_its_primary(instance, landed) {
                let file = instance.config().config.display();
                warn!(instance = %instance.name(), %file, "the server is stopped, and its file still makes it a replica: see that line before it is started");
            }
            return Ok(true);
        }
        Err(error) => return Err(error.fault(instance.name())),
    };
    let look = save_what_changed(instance, &mut server, &note, landed).await?;
    let emptied = empty(instance, &mut server, &look, true).await;
    borrow::give_back(instance, &mut server, look.running.pid).await?;
    emptied?;
    if names_its_primary(instance, landed)
        && let Err(fault) = persist::persist_role(instance, &mut server).await
    {
        warn!(instance = %instance.name(), "a primary until the server's next restart only: {fault}");
    }
    Ok(true)
}

/// Whether the configuration file says whom the server follows since its feed: the feed's end has written that.
fn names_its_primary(instance: &Instance, landed: &Landed) -> bool {
    let follows = instance.conf().ok().and_then(|conf| conf.replica_of());
    follows.is_some() && follows == landed.follow
}

/// Has a server that was written to since it landed save, so that nothing of it is lost with what it was fed.
async fn save_what_changed(
    instance: &Instance,
    server: &mut Server,
    note: &Note,
    landed: &Landed,
) -> Result<Look, Fault> {
    let mut expected = Some(landed.changes);
    for _ in 0..SAVES_MAX {
        let look = look::look_loaded(instance, server).await?;
        let running = &look.running;
        if let Role::Primary { replicas } = &running.role
            && !replicas.is_empty()
        {
            return Err(Fault::new(FaultKind::Refused, format!("{} replicas follow the server", replicas.len()))
                .because("they would be emptied with it")
                .hint("look at `coord status`: the run may have gone further than is known here"));
        }
        // What it received of the one that it follows is there.
        if landed.follow.as_ref().is_some_and(|to| follows(&running.role, to)) {
            return Ok(look);
        }
        let is_same = running.pid == note.pid || expected == Some(0);
        if total_keys(&running.keyspace) == 0 || is_same && expected == Some(running.persistence.changes_since_save) {
            return Ok(look);
        }
        warn!(instance = %instance.name(), "the server was written to since it landed, and is saved before it is emptied");
        let saved = server.call_within(SAVE_TIMEOUT, &["SAVE"]).await;
        saved.map_err(|error| error.fault(instance.name(), "SAVE"))?;
        expected = Some(0);
    }
    Err(Fault::new(FaultKind::Refused, "the server is being written to, and is not emptied")
        .because(format!("it changed after each of {SAVES_MAX} saves"))
        .hint("stop its clients, then restore"))
}

/// Forgets the run's feed, at its end.
pub(in crate::actions) async fn forget(instance: &Instance, site: &Site) -> Result<(), Fault> {
    let Some(note) = Note::read(instance).await?.filter(|note| note.run == site.run) else { return Ok(()) };
    match note.stage {
        Stage::Landed(_) => Note::remove(instance).await,
        Stage::Feeding | Stage::Loaded(_) => end(instance, site).await,
    }
}
