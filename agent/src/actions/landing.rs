//! A snapshot's way from a pin to the place of a dump on another host: offer, pull, install, restore, release. The bytes
//! are moved by `transfer`, the files by [`super::place`]; here is who may and when.

use std::path::Path;
use std::time::Duration;

use baton_proto::control::{Landing, Outcome, TransferFacts};
use baton_proto::data::{Budget, SnapshotId, Ticket};
use baton_proto::{Fault, FaultKind, HostName, HostPort, RunId};
use tracing::info;

use super::borrow::{self, Which};
use super::feed;
use super::middle;
use super::place::{self, Site};
use super::role;
use super::save::unfinished::Note;
use super::stamp::Stamp;
use crate::agent::Agent;
use crate::blocking::{blocking, try_blocking};
use crate::instance::Instance;
use crate::reach;
use crate::server::ConnectError;
use crate::service;
use crate::speeds;
use crate::tasks::ProgressSink;
use crate::transfer::{Place, PullOrder, pull as pull_snapshot};

pub(super) async fn site(instance: &Instance, run: &RunId) -> Result<Site, Fault> {
    let files = instance.data_files().await?;
    let note = |of: &str| instance.state_dir().join(format!("{of}-{}-{run}.json", instance.name()));
    Ok(Site {
        run: run.clone(),
        dir: files.dir,
        dump: files.dbfilename,
        aof: vec![files.appenddirname, files.appendfilename],
        note: note("install"),
        pulled: note("pulled"),
    })
}

/// Does file work on a thread that may wait: it syncs.
pub(super) async fn on_disk<T: Send + 'static>(
    site: Site,
    work: impl FnOnce(&Site) -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    try_blocking(move || work(&site)).await
}

/// Files are moved only while no server has them open, or could save over them.
async fn must_be_stopped(instance: &Instance, doing: &str) -> Result<(), Fault> {
    reach::end_rehearsal(instance).await;
    let seen = match instance.connect().await {
        Err(ConnectError::Stopped(_)) => return Ok(()),
        Ok(_) => "it answers".to_owned(),
        Err(error) => error.to_string(),
    };
    Err(Fault::new(FaultKind::Refused, format!("{doing} while the server runs"))
        .because(seen)
        .hint("stop the server first"))
}

/// Sees that no server runs, and that none is started until its files have been moved, and it is started on them.
async fn hold_stopped(instance: &Instance, doing: &str) -> Result<(), Fault> {
    // Before, so that somebody else's start changes nothing; then nobody's can.
    must_be_stopped(instance, doing).await?;
    service::hold(instance).await?;
    let stopped = must_be_stopped(instance, doing).await;
    if stopped.is_err() {
        service::settle(instance).await?;
    }
    stopped
}

fn same_run(ticket: &Ticket, run: &RunId) -> Result<(), Fault> {
    if ticket.run == *run {
        return Ok(());
    }
    Err(Fault::new(FaultKind::Invalid, format!("the ticket is of run {}, and the order of run {run}", ticket.run)))
}

pub(super) async fn offer(
    agent: &Agent,
    instance: &Instance,
    run: &RunId,
    ticket: Ticket,
    to: HostName,
    budget: Budget,
) -> Result<Outcome, Fault> {
    same_run(&ticket, run)?;
    if let Some(window) = agent.offers.window(run) {
        info!(instance = %instance.name(), %to, "offering the stream");
        let (manifest, extent) = agent.offers.offer_stream(window, ticket, to, budget)?;
        return Ok(Outcome::Offered { manifest, extent });
    }
    let note = Note::of(instance.state_dir(), instance.name(), run);
    // While it is being written, its note tells where it is: the server may be busy with the SAVE and answer nobody.
    let noted = blocking(move || note.pin()).await.flatten().map_err(|error| {
        Fault::new(FaultKind::Host, "it is not known whether the snapshot is whole")
            .because(error)
            .hint("see that the agent's state directory can be read, and take the snapshot again")
    })?;
    let pin = match noted {
        Some(pin) if agent.offers.growth(run).is_some() => pin,
        Some(pin) => return Err(half(&pin)),
        None => site(instance, run).await?.pin(),
    };
    let path = pin.clone();
    let stamp = blocking(move || Stamp::at(&path)).await.flatten().ok().flatten().ok_or_else(|| {
        Fault::new(FaultKind::NotFound, format!("no snapshot of run {run} is pinned at {}", pin.display()))
            .hint("take the snapshot again")
    })?;
    info!(instance = %instance.name(), %to, pin = %pin.display(), "offering");
    let (manifest, extent) = agent.offers.offer(&pin, SnapshotId(stamp.id()), ticket, to, budget)?;
    Ok(Outcome::Offered { manifest, extent })
}

/// A pin that nobody feeds: the agent that followed its save has ended, or the save has.
fn half(pin: &Path) -> Fault {
    Fault::new(FaultKind::NotFound, format!("the snapshot {} is not whole", pin.display()))
        .because("the agent was restarted, or the save failed, while it was being written")
        .hint("take the snapshot again")
}

pub(super) async fn pull(
    agent: &Agent,
    instance: &Instance,
    run: &RunId,
    (from, address): (HostName, HostPort),
    (ticket, landing): (Ticket, Landing),
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    same_run(&ticket, run)?;
    let site = site(instance, run).await?;
    if site.note.exists() && matches!(landing, Landing::File { .. }) {
        return Err(Fault::new(FaultKind::Refused, format!("run {run} has begun to install its snapshot already"))
            .hint("install again to complete it, or restore"));
    }
    let reads = service::binary_version(&instance.config().service).await.map_err(|error| {
        Fault::new(FaultKind::Host, "the version of the server here is not known, and so not which snapshots it reads")
            .because(error)
            .hint("correct the instance's `service` in agent.toml")
    })?;
    let order = PullOrder {
        run: run.clone(),
        from,
        address,
        ticket,
        place: Place {
            part: site.part(),
            map: site.map(),
            free_bytes_min: agent.config.disk_reserve_bytes,
            // What is fed is read back from the cache.
            loads: landing.is_live() || landing == Landing::File { loads: true },
        },
        reads,
        lanes: agent.config.lanes,
        supply: None,
        called_off: instance.called_off(),
    };
    match landing {
        Landing::File { .. } => pulled(agent, instance, &site, order, progress).await.map(Outcome::Pulled),
        Landing::Live { follow, timeout_seconds } => {
            let limit = Duration::from_secs(timeout_seconds.into());
            let target = feed::Target { instance, site, follow, limit, near_bytes: None, progress };
            feed::land(agent, target, order).await
        }
        Landing::Spooled { follow, near_bytes, timeout_seconds } => {
            let limit = Duration::from_secs(timeout_seconds.into());
            let (follow, near_bytes) = (Some(follow), Some(near_bytes));
            feed::land(agent, feed::Target { instance, site, follow, limit, near_bytes, progress }, order).await
        }
    }
}

/// Pulls, and notes what was pulled: only that is installed.
pub(super) async fn pulled(
    agent: &Agent,
    instance: &Instance,
    site: &Site,
    order: PullOrder,
    progress: &ProgressSink,
) -> Result<TransferFacts, Fault> {
    on_disk(site.clone(), place::pulled::begin).await?;
    let from = order.from.clone();
    let facts = pull_snapshot(&agent.dialer, order, progress).await?;
    speeds::note(instance, speeds::of_transfer(&from, &facts).into_iter().collect()).await;
    let digest = facts.digest;
    middle("pull-received").await;
    on_disk(site.clone(), move |site| place::pulled::finish(site, digest)).await?;
    Ok(facts)
}

pub(super) async fn install(instance: &Instance, run: &RunId) -> Result<Outcome, Fault> {
    hold_stopped(instance, "files are not moved").await?;
    let kept = on_disk(site(instance, run).await?, place::install).await?;
    info!(instance = %instance.name(), ?kept, "snapshot installed");
    Ok(Outcome::Installed { kept })
}

pub(super) async fn restore(instance: &Instance, run: &RunId) -> Result<Outcome, Fault> {
    // Whoever started it on its old files would have them replaced by a full resync.
    role::is_taken_back(instance, run).await?;
    let site = site(instance, run).await?;
    let was_fed = feed::unland(instance, &site).await?;
    // A part is beside what a server has; only an installation must be undone under a stopped one, or an emptied one.
    if site.note.exists() && !was_fed {
        hold_stopped(instance, "files are not moved back").await?;
    }
    let (put_back, set_aside) =
        on_disk(site.clone(), |site| Ok((place::restore(site)?, place::set_aside_later(site)?))).await?;
    feed::forget(instance, &site).await?;
    service::settle(instance).await?;
    info!(instance = %instance.name(), ?put_back, ?set_aside, "restored");
    Ok(Outcome::Restored { put_back, set_aside })
}

pub(super) async fn release(instance: &Instance, run: &RunId, keep_old: bool) -> Result<Outcome, Fault> {
    service::settle(instance).await?;
    borrow::give_back_now(instance, Which::Of(run)).await?;
    let note = Note::of(instance.state_dir(), instance.name(), run);
    let site = site(instance, run).await?;
    feed::forget(instance, &site).await?;
    role::forget(instance, run).await?;
    middle("release-returned").await;
    let kept = on_disk(site, move |site| {
        let kept = place::release(site, keep_old)?;
        note.remove().map_err(|error| Fault::new(FaultKind::Host, "remove the note of a save").because(error))?;
        Ok(kept)
    });
    let kept = kept.await?;
    info!(instance = %instance.name(), ?kept, "released");
    Ok(Outcome::Released { kept })
}
