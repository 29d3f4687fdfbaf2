//! What is written on a server while its snapshot travels, kept for the server that is built from it.
//!
//! ```text
//!   source                                                       target
//!   server ──as to a replica──> keeper ══> file ──piece by piece──> taker ──> feed::catch_up ──> server
//!                                  └─ account (pure: offsets)         └─ piece (pure: packing, checking)
//! ```
//!
//! It is for a source whose backlog cannot hold that much. The agent asks the server to go on from where it stands, before
//! the snapshot is taken, and reads as fast as the server writes: no limit of the server's output buffers is reached. It
//! acknowledges nothing, so no `WAIT` counts it. The file has no name: it is gone with the agent, however that ends, and
//! the snapshot is then of no more use for this. It takes what the disk has beyond the agent's reserve, and no more.
//!
//! Left out: whether a spool is wanted (the coordinator's plan), and what the target's server is told ([`crate::actions`]).

pub mod account;
pub mod piece;

mod keeper;
mod taker;

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use baton_proto::control::WATCH_MS;
use baton_proto::data::FrameHead;
use baton_proto::{Fault, FaultKind, InstanceName, Lineage, RunId};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tracing::{Instrument, info, warn};

use self::account::{Account, AccountError};
use crate::blocking::try_blocking;
use crate::instance::Instance;
use crate::replica::Link;
pub(crate) use taker::{Piece, Taker};

/// Most spools at a time: each has a task, a connection to its server and a file that grows. Runs have an instance each, and
/// some dozen servers of a host may be moved at once.
const SPOOLS_MAX: usize = 64;

/// The spools of this agent, one a run.
#[derive(Default)]
pub struct Spools {
    kept: Mutex<BTreeMap<RunId, Kept>>,
}

/// A spool at work. It ends when this is dropped.
struct Kept {
    instance: InstanceName,
    spool: Arc<Spool>,
    keeping: JoinHandle<()>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

/// What is kept.
struct Spool {
    /// Everything behind this point.
    since: Lineage,
    file: Arc<File>,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone)]
struct State {
    account: Account,
    failed: Option<Fault>,
}

impl Spools {
    fn kept(&self) -> MutexGuard<'_, BTreeMap<RunId, Kept>> {
        // It is whole between any two statements, so a panic elsewhere does not spoil it.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Since where the run's spool of an instance keeps everything, if it has one that has not failed.
    pub(crate) fn since(&self, run: &RunId, instance: &InstanceName) -> Option<Lineage> {
        let kept = self.kept();
        let kept = kept.get(run).filter(|kept| kept.instance == *instance)?;
        kept.spool.state.borrow().failed.is_none().then(|| kept.spool.since.clone())
    }

    /// Why the run's spool was given up, if it had one. Its snapshot is then of no use to whoever waits for both.
    pub(crate) fn failure(&self, run: &RunId) -> Option<Fault> {
        self.kept().get(run)?.spool.state.borrow().failed.clone()
    }

    /// Keeps what comes on a link behind `since`, for so long at most. An earlier spool of the run ends.
    pub(crate) async fn keep(
        &self,
        run: &RunId,
        instance: &Arc<Instance>,
        (link, since): (Link, Lineage),
        hold: Duration,
    ) -> Result<(), Fault> {
        make_room(&mut self.kept(), run)?;
        let dir = instance.data_files().await?.dir;
        let place = dir.clone();
        let file = try_blocking(move || keeper::nameless(&place)).await?;
        let state = State { account: Account::new(since.offset), failed: None };
        let spool = Arc::new(Spool { since, file: Arc::new(file), state: watch::Sender::new(state) });
        info!(%run, instance = %instance.name(), since = %spool.since, dir = %dir.display(), "spooling");
        let keeping = keeper::keep(Arc::clone(instance), Arc::clone(&spool), link, (dir, hold));
        let keeping = tokio::spawn(keeping.in_current_span());
        let new = Kept { instance: instance.name().clone(), spool, keeping };
        // Once more: others may have come meanwhile.
        let mut kept = self.kept();
        make_room(&mut kept, run)?;
        drop(kept.insert(run.clone(), new));
        Ok(())
    }

    /// Ends the run's spool, and gives its disk space back.
    pub(crate) fn end(&self, run: &RunId) {
        if let Some(kept) = self.kept().remove(run) {
            let bytes = kept.spool.state.borrow().account.bytes();
            info!(%run, instance = %kept.instance, bytes, "the spool is ended");
        }
    }

    /// Reads and packs a piece of what is behind an offset. With nothing there, it waits a moment.
    pub(crate) async fn piece(&self, run: &RunId, at: u64) -> Result<(FrameHead, Bytes), Fault> {
        let spool = self.kept().get(run).map(|kept| Arc::clone(&kept.spool));
        let spool = spool.ok_or_else(|| {
            Fault::new(FaultKind::NotFound, format!("nothing is spooled here for run {run}"))
                .because("the agent was restarted since, or the spool was released")
                .hint("take the snapshot again")
        })?;
        let mut heard = spool.state.subscribe();
        let news = heard.wait_for(|state| state.failed.is_some() || state.account.end() > at);
        let _ = tokio::time::timeout(Duration::from_millis(WATCH_MS), news).await;
        let State { account, failed } = spool.state.borrow().clone();
        if let Some(fault) = failed {
            return Err(fault);
        }
        let span = account.piece(at).map_err(|error| match error {
            // As good as none.
            AccountError::Before { .. } => Fault::new(FaultKind::NotFound, error).hint("take the snapshot again"),
            AccountError::Beyond { .. } => Fault::new(FaultKind::Invalid, error),
        })?;
        let file = Arc::clone(&spool.file);
        try_blocking(move || {
            let mut raw = vec![0; span.bytes];
            file.read_exact_at(&mut raw, span.position)
                .map_err(|error| Fault::new(FaultKind::Host, "read the spool").because(error))?;
            Ok(piece::pack(raw))
        })
        .await
    }
}

/// Sees that there is room for the run's spool. One that has failed is of no use to anybody.
fn make_room(kept: &mut BTreeMap<RunId, Kept>, run: &RunId) -> Result<(), Fault> {
    if kept.len() < SPOOLS_MAX || kept.contains_key(run) {
        return Ok(());
    }
    let failed = kept.iter().find(|(_, kept)| kept.spool.state.borrow().failed.is_some()).map(|(run, _)| run.clone());
    let failed = failed.ok_or_else(|| {
        Fault::new(FaultKind::Refused, format!("this agent keeps {SPOOLS_MAX} spools already"))
            .hint("see `coord runs`: wait for some to end, or end those that nobody goes on with by `coord abort`")
    })?;
    kept.remove(&failed);
    Ok(())
}

impl Spool {
    /// Gives it up, and its disk space back.
    async fn fail(&self, fault: Fault) {
        warn!(since = %self.since, "the spool is given up: {fault}");
        self.state.send_modify(|state| state.failed = Some(fault));
        let file = Arc::clone(&self.file);
        // What fails here is freed when the run ends.
        let _ = try_blocking(move || Ok(file.set_len(0))).await;
    }
}

#[cfg(test)]
mod tests;
