//! Lands a snapshot in a running, empty server while it arrives: for a moment the agent is its primary ([`crate::feed`]).
//!
//! ```text
//!   empty primary ──> replica of this agent ──stream, mark──> loaded ──> the file is its dump ──> primary, or replica
//!         ^                    │                                │                │                of another
//!         └────────────────────┴──── whatever breaks: end ──────┴────────────────┘
//! ```
//!
//! Where it is to follow a source whose backlog is too short, it is fed what that has spooled since, before it leaves
//! ([`level`]).
//!
//! The server is not touched before the snapshot's first chunk is here. Settings are borrowed, and given back in every
//! outcome: a secret as the password of its primary, so that nobody else on this host can fetch the data; no saving by
//! itself, so that the dump's place is ours; read-only, so that what it holds is known to be the feed's; patience. A note
//! tells the agent that comes after a crash what it finds.

mod checks;
mod level;
mod note;
mod settle;
mod undo;

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use baton_proto::control::{Outcome, Progress};
use baton_proto::rdb::{HEAD_BYTES_MAX, parse_head};
use baton_proto::report::{Running, total_keys};
use baton_proto::{Fault, FaultKind, HostPort, Lineage, ReplId};
use tokio::sync::watch;
use tokio::time::timeout;
use tracing::info;

use super::look;
use super::place::{self, Site};
use super::{borrow, landing, middle, replication};
use crate::agent::Agent;
use crate::blocking::blocking;
use crate::feed::{Fed, FeedError, Kept, Listener, Signs, drawn, feed};
use crate::instance::Instance;
use crate::server::Server;
use crate::service::LogMark;
use crate::spool::Taker;
use crate::tasks::ProgressSink;
use crate::transfer::{PullOrder, Supply};
use crate::{host, speeds};
use level::Spooled;
use note::{Note, Stage};
use settle::{finish, has_left};

pub(super) use undo::{forget, unland};

/// How long a server that was told to follow may take to come: it tries once a second.
const COME_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a server waits for the next byte of its feed: the source may be out of reach for minutes.
const PATIENCE_SECONDS: u32 = 3600;

/// What a feed works on.
pub(super) struct Target<'a> {
    pub(super) instance: &'a Instance,
    pub(super) site: Site,
    pub(super) follow: Option<HostPort>,
    /// How long the server may take nothing, load after the last byte, or write its append-only file.
    pub(super) limit: Duration,
    /// It is also fed what its source has spooled, until no more bytes than these are missing.
    pub(super) near_bytes: Option<u64>,
    pub(super) progress: &'a ProgressSink,
}

/// A server that has loaded, and its link.
struct Loaded {
    address: HostPort,
    lineage: Lineage,
    overlapped: bool,
    /// Whether it keeps an append-only file, which it writes anew.
    aof: bool,
    fed: Fed,
    kept: Kept,
}

/// Pulls, and feeds the server meanwhile.
pub(super) async fn land(agent: &Agent, target: Target<'_>, order: PullOrder) -> Result<Outcome, Fault> {
    if let Some(outcome) = target.landed_already().await? {
        return Ok(outcome);
    }
    undo::end(target.instance, &target.site).await?;
    let mut server = look::connect(target.instance).await?;
    target.check(&mut server).await?;
    let mark = LogMark::now(target.instance, Some(&mut server)).await;
    let (supply, supplied) = watch::channel(Supply::default());
    let part = order.place.part.clone();
    let spooled = target.near_bytes.map(|near_bytes| Spooled {
        taker: Taker::of(agent.dialer.clone(), &order),
        near_bytes,
        called_off: order.called_off.clone(),
    });
    let order = PullOrder { supply: Some(supply), ..order };
    let pulled = landing::pulled(agent, target.instance, &target.site, order, target.progress);
    let fed = target.feed(server, part, supplied, &mark);
    tokio::pin!(pulled, fed);
    // A feed that fails ends the pull. The other way round, the feed notices by itself: broken off anywhere, it might
    // leave an order on its way to the server.
    let landed = tokio::select! {
        transfer = &mut pulled => match (transfer, fed.await) {
            (Ok(transfer), Ok(loaded)) => Ok((transfer, loaded)),
            (Err(fault), _) | (_, Err(fault)) => Err(fault),
        },
        loaded = &mut fed => match loaded {
            Ok(loaded) => pulled.await.map(|transfer| (transfer, loaded)),
            Err(fault) => Err(fault),
        },
    };
    let landed = match landed {
        Ok((transfer, loaded)) => target.settle(transfer, loaded, spooled).await,
        Err(fault) => Err(fault),
    };
    match landed {
        Ok(outcome) => Ok(outcome),
        Err(fault) => Err(match undo::end(target.instance, &target.site).await {
            Ok(()) => fault,
            Err(left) => fault.because(format!("and the server is not yet what it was: {left}")),
        }),
    }
}

/// What the agent finds of a feed when it starts: it brings the server back, or finds that it has landed.
pub(super) async fn recover(instance: &Instance) -> Result<(), Fault> {
    let Some(note) = Note::read(instance).await? else { return Ok(()) };
    let site = landing::site(instance, &note.run).await?;
    if let Stage::Loaded(landed) = &note.stage
        && finish(instance, &note, landed.clone()).await?
    {
        return Ok(());
    }
    undo::end(instance, &site).await
}

/// Whether a feed is left that has neither landed nor been ended.
pub(super) async fn is_left(instance: &Instance) -> Result<bool, Fault> {
    Ok(Note::read(instance).await?.is_some_and(|note| !matches!(note.stage, Stage::Landed(_))))
}

impl Target<'_> {
    /// What was done by an order of which only the note is left.
    async fn landed_already(&self) -> Result<Option<Outcome>, Fault> {
        let Some(note) = Note::read(self.instance).await?.filter(|note| note.run == self.site.run) else {
            return Ok(None);
        };
        let landed = match &note.stage {
            Stage::Feeding => return Ok(None),
            Stage::Loaded(landed) if finish(self.instance, &note, landed.clone()).await? => landed,
            Stage::Loaded(_) => return Ok(None),
            Stage::Landed(landed) => landed,
        };
        borrow::give_back_leftovers(self.instance).await?;
        let running = look::look(self.instance, &mut look::connect(self.instance).await?).await?.running;
        if running.pid != note.pid || !has_left(&running, landed) {
            return Err(Fault::new(FaultKind::Refused, "the server has landed before, and is another since")
                .because(format!("process {} was fed, process {} answers", note.pid, running.pid))
                .hint("look at `coord status`; restore takes the landing back"));
        }
        Ok(Some(Outcome::Landed { transfer: landed.transfer.clone(), feed: Box::new(landed.feed.clone()) }))
    }

    /// Sees that the server can be fed. Tells what it is.
    async fn check(&self, server: &mut Server) -> Result<Running, Fault> {
        let look = look::look_loaded(self.instance, server).await?;
        let settings = checks::settings(self.instance, server).await?;
        checks::may_be_fed(&look, &settings)?;
        if !settings.contains_key("repl-diskless-load") && place::dump_stands(&self.site)? {
            // It writes what it is fed over its dump, before it loads.
            let dump = self.site.dir.join(&self.site.dump);
            return Err(Fault::new(FaultKind::Refused, format!("{} would be overwritten", dump.display()))
                .because(format!("{} loads by way of its dump", look.running.version))
                .hint("move it away, or land the snapshot by file"));
        }
        Ok(look.running)
    }

    /// Waits for the snapshot to begin, makes the server follow this agent, and sees it load.
    async fn feed(
        &self,
        mut server: Server,
        part: PathBuf,
        mut supplied: watch::Receiver<Supply>,
        mark: &LogMark,
    ) -> Result<Loaded, Fault> {
        if supplied.wait_for(|supply| supply.held_bytes > 0).await.is_err() {
            return Err(Fault::new(FaultKind::Peer, FeedError::Ended(0)));
        }
        let (part, lineage) = blocking(move || open(&part)).await.map_err(internal)??;
        let listener = Listener::bind().await.map_err(|error| {
            Fault::new(FaultKind::Host, "listen on a port of 127.0.0.1 for the server").because(error)
        })?;
        // Once more: minutes may have passed.
        let before = self.check(&mut server).await?;
        let address = listener.address();
        let (run, pid) = (self.site.run.clone(), before.pid);
        Note { run, pid, address: address.clone(), stage: Stage::Feeding }.write(self.instance).await?;
        let overlapped = self.borrow(&mut server, pid, listener.secret()).await?;
        middle("feed-borrowed").await;
        let following = replication::replicate(self.instance, &mut server, &before, &address).await?;
        middle("feed-told").await;
        let keys = total_keys(&following.keyspace);
        if keys > 0 || following.pid != pid {
            return Err(Fault::new(FaultKind::Refused, "the server is not to be fed")
                .because(format!("{keys} keys were written while it was being prepared"))
                .hint("somebody uses it: name another target"));
        }
        info!(instance = %self.instance.name(), %address, %lineage, "feeding");
        let guest = match timeout(COME_TIMEOUT, listener.admit(&lineage)).await {
            Ok(guest) => guest,
            Err(_) => {
                let message = format!("the server did not come for its data within {} s", COME_TIMEOUT.as_secs());
                let fault = mark.explain(Fault::new(FaultKind::Server, message)).await;
                return Err(fault.hint("is it in a container of its own? then land the snapshot by file"));
            }
        };
        let worked = host::worked_by(pid);
        let watched = supplied.clone();
        let tell = |fed| {
            let supply = *watched.borrow();
            if supply.verified {
                self.progress.report(loading(fed, supply.held_bytes));
            }
        };
        let (fed, kept) = match feed(guest, part, supplied.clone(), (self.limit, self.signs()), tell).await {
            Ok(fed) => fed,
            Err(error) => return Err(self.failed(error, supplied, mark).await),
        };
        if fed.offset != lineage.offset {
            return Err(Fault::new(FaultKind::Verification, "the server does not stand where the snapshot does")
                .because(format!("it says {}, and the snapshot {lineage}", fed.offset)));
        }
        let worked = worked.zip(host::worked_by(pid)).map(|(before, after)| after.own_seconds - before.own_seconds);
        let bytes = watched.borrow().held_bytes;
        speeds::note(self.instance, vec![speeds::sight(speeds::Stage::Load, bytes, busy_seconds(&fed, worked))]).await;
        Ok(Loaded { address, lineage, overlapped, aof: before.persistence.aof_enabled, fed, kept })
    }

    fn signs(&self) -> Signs {
        // What is spooled is told by commands.
        if self.near_bytes.is_some() { Signs::Nothing } else { Signs::Newlines }
    }

    /// Changes what must be otherwise during the feed. Tells whether the server loads while the bytes arrive.
    async fn borrow(&self, server: &mut Server, pid: u32, secret: &str) -> Result<bool, Fault> {
        let instance = self.instance;
        borrow::borrow(instance, server, pid, "save", "").await?;
        // The older name is known to all versions.
        if !borrow::borrow(instance, server, pid, "slave-read-only", "yes").await? {
            borrow::borrow(instance, server, pid, "replica-read-only", "yes").await?;
        }
        let waits = server.config("repl-timeout").await.ok().flatten().and_then(|seconds| seconds.parse().ok());
        if waits.is_none_or(|seconds: u32| seconds < PATIENCE_SECONDS) {
            borrow::borrow(instance, server, pid, "repl-timeout", &PATIENCE_SECONDS.to_string()).await?;
        }
        if !borrow::borrow(instance, server, pid, "masterauth", secret).await? {
            return Err(Fault::new(FaultKind::Unsupported, "the server takes no password for its primary")
                .hint("land the snapshot by file"));
        }
        borrow::borrow(instance, server, pid, "repl-diskless-load", "on-empty-db").await
    }

    /// Says why a feed broke, in the server's own words where it has any.
    async fn failed(&self, error: FeedError, mut supplied: watch::Receiver<Supply>, mark: &LogMark) -> Fault {
        match error {
            FeedError::Broken { .. } | FeedError::Stalled { .. } | FeedError::Late(_) => {
                mark.explain(Fault::new(FaultKind::Server, &error)).await.hint(
                    "the server is made empty again, and what has arrived is kept: see its log, then repeat, or land it by file",
                )
            }
            // The pull has failed, and says why.
            FeedError::Ended(_) => Fault::new(FaultKind::Peer, error),
            FeedError::TakenBack => {
                // The pull goes on, so that the next attempt finds nothing wrong any more.
                let _ = supplied.wait_for(|supply| supply.verified).await;
                Fault::new(FaultKind::Verification, error).hint("repeat: the snapshot is whole now")
            }
            FeedError::Read(_) => Fault::new(FaultKind::Host, error),
        }
    }
}

/// How long the load took, had the bytes been there: no less than the server worked at it, nor than it kept them waiting.
fn busy_seconds(fed: &Fed, worked: Option<f64>) -> f64 {
    (fed.seconds - fed.waited_seconds).max(worked.unwrap_or(0.0))
}

/// Opens what has arrived, and reads under which lineage it is to be given away: its own, or, of a server that never had
/// one, a new one.
fn open(part: &Path) -> Result<(File, Lineage), Fault> {
    let read = |error: std::io::Error| Fault::new(FaultKind::Host, format!("read {}", part.display())).because(error);
    let mut file = File::open(part).map_err(read)?;
    let mut head = Vec::new();
    (&mut file).take(HEAD_BYTES_MAX as u64).read_to_end(&mut head).map_err(read)?;
    let head = parse_head(&head)
        .map_err(|error| Fault::new(FaultKind::Verification, "the snapshot is none").because(error))?;
    let lineage = match head.lineage {
        Some(lineage) => lineage,
        None => {
            let id: ReplId = drawn::<20>().parse().map_err(internal)?;
            Lineage { id, offset: 0 }
        }
    };
    Ok((file, lineage))
}

fn loading(bytes_done: u64, bytes_total: u64) -> Progress {
    Progress { doing: "loading".into(), bytes_done, bytes_total: Some(bytes_total), bytes_wire: 0, ready: false }
}

fn internal(error: impl std::fmt::Display) -> Fault {
    Fault::new(FaultKind::Internal, "prepare a feed").because(error)
}
