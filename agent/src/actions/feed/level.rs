//! Brings a server that has loaded level with its source: it is fed what the source has spooled since the snapshot, until so
//! little is missing that the source's backlog holds it.

use std::time::Duration;

use baton_proto::control::{Progress, SpooledFacts};
use baton_proto::{Fault, FaultKind};
use tokio::time::{Instant, timeout};
use tracing::info;

use super::{Loaded, Target};
use crate::actions::look::Watch;
use crate::actions::replication;
use crate::feed::{CatchingUp, catch_up};
use crate::instance::CalledOff;
use crate::spool::Taker;

/// How often the server is looked at while it takes what is sent.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Where what was written since the snapshot comes from.
pub(super) struct Spooled {
    pub(super) taker: Taker,
    /// No more bytes than these may be missing.
    pub(super) near_bytes: u64,
    pub(super) called_off: CalledOff,
}

impl Target<'_> {
    /// Feeds the server until it is level. It goes on being fed until what is returned is dropped.
    pub(super) async fn level(
        &self,
        watch: &mut Watch<'_>,
        loaded: &Loaded,
        spooled: Spooled,
    ) -> Result<(CatchingUp, SpooledFacts), Fault> {
        let Spooled { taker, near_bytes, mut called_off } = spooled;
        let (began, from) = (Instant::now(), loaded.lineage.offset);
        let catching_up = catch_up(&loaded.kept, from, taker, self.limit);
        let mut caught = catching_up.caught.clone();
        while began.elapsed() < self.limit {
            let changed = tokio::select! {
                changed = timeout(LOOK_EVERY, caught.changed()) => changed,
                fault = called_off.wait() => return Err(fault),
            };
            let now = caught.borrow_and_update().clone();
            if let Some(fault) = now.failed {
                return Err(fault);
            }
            if let Ok(Err(_)) = changed {
                return Err(Fault::new(FaultKind::Internal, "the feed behind the snapshot broke off"));
            }
            let bytes = now.fed.saturating_sub(from);
            self.progress.report(Progress {
                doing: "catching up from the spool".into(),
                bytes_done: bytes,
                bytes_wire: now.wire_bytes,
                ..Progress::default()
            });
            if now.behind.is_none_or(|behind| behind > near_bytes) {
                continue;
            }
            let Some(look) = watch.look().await else { continue };
            let running = look.running;
            if !replication::follows(&running.role, &loaded.address) {
                return Err(Fault::new(FaultKind::Refused, "somebody else changed the server's role")
                    .because(replication::said(&running.role))
                    .hint("look for a Sentinel or an operator at work on this server"));
            }
            let stands = &running.replication.lineage;
            if stands.id == loaded.lineage.id && stands.offset.saturating_add(near_bytes) >= now.fed {
                info!(instance = %self.instance.name(), %stands, bytes, "the server is level with its source");
                let seconds = began.elapsed().as_secs_f64();
                return Ok((catching_up, SpooledFacts { bytes, bytes_wire: now.wire_bytes, seconds }));
            }
        }
        Err(Fault::new(
            FaultKind::Server,
            format!("the server has not come level with its source within {} s", self.limit.as_secs()),
        )
        .because("more is written there than crosses the network, or is loaded here")
        .hint("raise --max-rate, or run it when less is written"))
    }
}
