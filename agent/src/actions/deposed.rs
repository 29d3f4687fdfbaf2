//! The notes of replaced primaries on order, and saving aside what one of them holds before it follows its successor.

use std::path::Path;

use baton_proto::compared::{Compared, Comparing};
use baton_proto::control::{AsideFacts, Outcome, SaveMethod};
use baton_proto::deposed::Deposition;
use baton_proto::report::{Link, Role, Running};
use baton_proto::{Fault, FaultKind, RunId};
use tracing::info;

use super::save::pin::Pin;
use super::{guard, look, snapshot};
use crate::agent::Agent;
use crate::blocking::blocking;
use crate::instance::Instance;
use crate::tasks::ProgressSink;
use crate::{compare, deposed, durable, fence, names};

/// Keeps a note. One about this host is acted by at the guard's next look; of another, its agent is told.
pub(super) async fn note(agent: &Agent, instance: &Instance, mut note: Deposition) -> Result<Outcome, Fault> {
    let own = note.host == agent.host;
    if own {
        note.instance = Some(instance.name().clone());
        // A seal is asked for at the end of it as soon as another agent has told it with one: that one will have the next as
        // well. One that knows of no seals never will.
        if note.stands() {
            note.seal = None;
        }
    }
    let held = agent.notes.keep(note, own, true).map_err(|error| deposed::note_fault(&error))?;
    info!(run = %held.deposition.run, of = held.deposition.name(), standing = ?held.deposition.standing, "noted");
    Ok(Outcome::Deposed)
}

/// Saves what a deposed primary holds under a name that no run removes. It is fenced before, so that nothing is written
/// after the save has begun. What it holds can still be compared then: it is until it follows.
pub(super) async fn save_aside(
    agent: &Agent,
    instance: &Instance,
    run: &RunId,
    (note, compare): (&Deposition, Option<&Comparing>),
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    let mut server = look::connect(instance).await?;
    let mut running = look::look_loaded(instance, &mut server).await?.running;
    let dir = instance.data_files().await?.dir;
    let aside = dir.join(names::diverged(run));
    match &running.role {
        Role::Primary { .. } => {
            guard::fence_primary(instance, &mut server).await?;
            running = look::look_loaded(instance, &mut server).await?.running;
        }
        Role::Replica { primary, .. } if *primary == fence::address() => {}
        // It went on after the file was there: the step is done.
        Role::Replica { .. } if aside.exists() => {
            let why = "it follows its successor already, and holds what that holds".to_owned();
            return facts(&aside, note, &running, compare.map(|_| Compared::NotMade { why }));
        }
        Role::Replica { primary, link, .. } => {
            let linked = matches!(link, Link::Up { .. } | Link::Syncing);
            let how = if linked { "linked" } else { "not linked" };
            return Err(Fault::new(FaultKind::Refused, format!("it follows {primary} already, {how}"))
                .because("what it held as a primary may be gone: nothing was saved aside by this run")
                .hint("look at `coord status`; if it should follow that server, nothing is left to do"));
        }
    }
    drop(server);
    let stood = running.replication.lineage.clone();
    snapshot::snapshot(&agent.offers, instance, run, SaveMethod::Bgsave, progress).await?;
    let pin = Pin::new(instance, run, dir);
    let (from, to) = (pin.path.clone(), aside.clone());
    blocking(move || durable::rename(&from, &to).and_then(|()| pin.clear())).await.flatten().map_err(|error| {
        Fault::new(FaultKind::Host, format!("keep what it holds as {}", aside.display())).because(error)
    })?;
    let now = look::look_loaded(instance, &mut look::connect(instance).await?).await?.running;
    if now.replication.lineage != stood {
        return Err(Fault::new(FaultKind::Refused, "the server did not stand still while it was saved")
            .because(format!("{stood} before, {} after", now.replication.lineage))
            .hint("see who made it a primary, and repeat"));
    }
    info!(instance = %instance.name(), file = %aside.display(), "what it holds is saved aside");
    let compared = match compare {
        Some(comparing) => Some(compare::compare(instance, comparing, progress).await),
        None => None,
    };
    facts(&aside, note, &now, compared)
}

fn facts(aside: &Path, note: &Deposition, running: &Running, compared: Option<Compared>) -> Result<Outcome, Fault> {
    let found = std::fs::metadata(aside)
        .map_err(|error| Fault::new(FaultKind::Host, format!("look at {}", aside.display())).because(error))?;
    Ok(Outcome::SavedAside(AsideFacts {
        file: aside.display().to_string(),
        bytes: found.len(),
        past_fork_bytes: note.past_fork(&running.replication),
        keyspace: running.keyspace.clone(),
        lineage: running.replication.lineage.clone(),
        compared,
    }))
}
