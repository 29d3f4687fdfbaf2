//! The end of a feed: the server has loaded, its data is made to last, and it leaves for itself or for another primary.
//! Every step leaves a note of what a crash would leave behind.

use std::time::Duration;

use baton_proto::control::{Durability, FeedFacts, Outcome, Progress, TransferFacts};
use baton_proto::report::{Link, Role, Running};
use baton_proto::{Fault, FaultKind};
use tracing::{info, warn};

use super::level::Spooled;
use super::note::{Landed, Note, Stage};
use super::{Loaded, Target};
use crate::actions::look::{self, Watch};
use crate::actions::pace::Pace;
use crate::actions::place::{self, Site};
use crate::actions::{borrow, landing, middle, persist, replication};
use crate::instance::Instance;
use crate::server::{ConnectError, Server};

/// How long the link may take to be seen up after the server has said that it has loaded.
const LINK_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes notice of a server that has left its feed, if it has. Tells whether it had.
pub(super) async fn finish(instance: &Instance, note: &Note, landed: Landed) -> Result<bool, Fault> {
    let mut server = match instance.connect().await {
        Ok(server) => server,
        Err(ConnectError::Stopped(_)) => return Ok(false),
        Err(error) => return Err(error.fault(instance.name())),
    };
    let running = look::look(instance, &mut server).await?.running;
    if running.pid != note.pid || !has_left(&running, &landed) {
        return Ok(false);
    }
    landed_now(instance, note.clone(), landed, &running).await?;
    borrow::give_back(instance, &mut server, running.pid).await?;
    make_role_last(instance, &mut server).await;
    Ok(true)
}

/// Whether a server is what it is to be after its feed.
pub(super) fn has_left(running: &Running, landed: &Landed) -> bool {
    match (&running.role, &landed.follow) {
        (Role::Primary { .. }, None) => running.replication.second.as_ref() == Some(&landed.feed.lineage),
        (role, Some(to)) => replication::follows(role, to),
        _ => false,
    }
}

/// A server that is started again before the run's end is to be what the run has made it, and no second primary.
async fn make_role_last(instance: &Instance, server: &mut Server) {
    if let Err(fault) = persist::persist_role(instance, server).await {
        warn!(instance = %instance.name(), "what it is after its feed, until the server's next restart only: {fault}");
    }
}

async fn landed_now(instance: &Instance, note: Note, landed: Landed, running: &Running) -> Result<(), Fault> {
    let landed = Landed { changes: running.persistence.changes_since_save, ..landed };
    Note { stage: Stage::Landed(landed), ..note }.write(instance).await
}

impl Target<'_> {
    /// Makes what was loaded last, and has the server leave its feed.
    pub(super) async fn settle(
        &self,
        transfer: TransferFacts,
        loaded: Loaded,
        spooled: Option<Spooled>,
    ) -> Result<Outcome, Fault> {
        let instance = self.instance;
        let mut watch = Watch::new(instance, None);
        self.confirm(&mut watch, &loaded, LINK_TIMEOUT, "linked", |_| true).await?;
        let running = self
            .confirm(&mut watch, &loaded, self.limit, "done with its append-only file", |running| {
                let state = &running.persistence;
                !state.saving && !state.aof_rewriting && (!loaded.aof || state.aof_enabled && state.aof_rewrite_ok)
            })
            .await?;
        let durable = if loaded.aof { Durability::AppendOnly } else { Durability::Dump };
        // The append-only file is the server's, and stays.
        let site = Site { aof: Vec::new(), ..self.site.clone() };
        let (bytes, overlapped) = (transfer.bytes_raw, loaded.overlapped);
        let kept = landing::on_disk(site, move |site| {
            if !overlapped {
                place::drop_servers_copy(site, bytes)?;
            }
            place::install(site)
        });
        let kept = kept.await?;
        // It goes on until the server has left: every moment in between, more is written at the source.
        let mut catching_up = None;
        if let Some(spooled) = spooled {
            middle("level-before").await;
            catching_up = Some(self.level(&mut watch, &loaded, spooled).await?);
        }
        let feed = FeedFacts {
            seconds: loaded.fed.seconds,
            behind_seconds: loaded.fed.behind_seconds,
            lineage: loaded.lineage.clone(),
            overlapped,
            durable,
            kept,
            spooled: catching_up.as_ref().map(|(_, facts)| facts.clone()),
        };
        let landed = Landed { transfer, feed, follow: self.follow.clone(), changes: 0 };
        let note = Note {
            run: self.site.run.clone(),
            pid: running.pid,
            address: loaded.address.clone(),
            stage: Stage::Loaded(landed.clone()),
        };
        middle("feed-placed").await;
        note.write(instance).await?;
        middle("feed-noted").await;
        let running = self.leave(watch.server().await?, &running, &landed).await?;
        drop((catching_up, loaded.kept));
        middle("feed-left").await;
        landed_now(instance, note, landed.clone(), &running).await?;
        borrow::give_back(instance, watch.server().await?, running.pid).await?;
        make_role_last(instance, watch.server().await?).await;
        info!(instance = %instance.name(), feed = ?landed.feed, "landed");
        Ok(Outcome::Landed { transfer: landed.transfer, feed: Box::new(landed.feed) })
    }

    /// Waits until the server that has loaded is what it should be, as the replica that it still is.
    async fn confirm(
        &self,
        watch: &mut Watch<'_>,
        loaded: &Loaded,
        limit: Duration,
        wanted: &str,
        is_wanted: impl Fn(&Running) -> bool,
    ) -> Result<Running, Fault> {
        let mut pace = Pace::within(limit);
        let mut seen = String::new();
        loop {
            if let Some(look) = watch.look().await {
                let running = look.running;
                if !replication::follows(&running.role, &loaded.address) {
                    return Err(Fault::new(FaultKind::Refused, "somebody else changed the server's role")
                        .because(replication::said(&running.role))
                        .hint("look for a Sentinel or an operator at work on this server"));
                }
                let is_up = matches!(running.role, Role::Replica { link: Link::Up { .. }, .. });
                let stands = &running.replication.lineage;
                if is_up && !running.persistence.loading && is_wanted(&running) {
                    if *stands == loaded.lineage {
                        return Ok(running);
                    }
                    return Err(Fault::new(FaultKind::Verification, "the server has not taken the snapshot's lineage")
                        .because(format!("it stands at {stands}, and the snapshot at {}", loaded.lineage)));
                }
                seen = format!("link up: {is_up}, {:?}", running.persistence);
            }
            self.progress
                .report(Progress { doing: format!("waiting until the server is {wanted}"), ..Progress::default() });
            if !pace.wait().await {
                let fault =
                    Fault::new(FaultKind::Server, format!("the server was not {wanted} within {} s", limit.as_secs()));
                return Err(watch.missed.take().map_or(fault.clone().because(seen), |missed| fault.because(missed)));
            }
        }
    }

    /// Has the server leave the feed: for itself, or for another primary.
    async fn leave(&self, server: &mut Server, before: &Running, landed: &Landed) -> Result<Running, Fault> {
        let instance = self.instance;
        let Some(to) = &self.follow else {
            look::call(instance, server, &[before.version.replicaof(), "NO", "ONE"]).await?;
            let is_primary = |role: &Role| matches!(role, Role::Primary { .. });
            let running = replication::until_role(instance, server, "a primary", is_primary).await?;
            if running.replication.backlog.is_none() || !has_left(&running, landed) {
                warn!(instance = %instance.name(), replication = ?running.replication, "the lineage of a feed was not kept");
                return Err(Fault::new(FaultKind::Verification, "the server did not keep the snapshot's lineage")
                    .because(format!(
                        "it remembers {:?}, and not {}",
                        running.replication.second, landed.feed.lineage
                    )));
            }
            return Ok(running);
        };
        // Its own password for its primary, before it goes there.
        borrow::give_back(instance, server, before.pid).await?;
        replication::replicate(instance, server, before, to).await
    }
}
