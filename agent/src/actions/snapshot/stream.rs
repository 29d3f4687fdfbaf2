//! A snapshot without a file: the server sends it to its agent as to a replica, and the agent keeps the few chunks that the
//! target has not written yet.
//!
//! ```text
//!   borrow settings ──> adopt, if its primary is lost ──> full resync ──> window ──> fence, give back ──> until it is taken
//! ```
//!
//! The order ends when the target holds everything: until then what is gone from the window is nowhere but in the server,
//! and on the target. So an agent that is asked for it knows it or has forgotten it, and there is nothing between. The
//! server waits as long as the target is slow; a target that takes nothing for long is given up.

use std::time::Duration;

use baton_proto::control::{Outcome, Progress, SaveMethod, SnapshotFacts};
use baton_proto::data::SnapshotId;
use baton_proto::rdb::{HEAD_BYTES_MAX, RdbHead, parse_head};
use baton_proto::report::{Link, Role, Running};
use baton_proto::{Fault, FaultKind, Lineage, RunId};
use tokio::time::{Instant, timeout};
use tracing::{info, warn};

use super::super::{adoption, borrow, look};
use crate::adopt::Adoption;
use crate::fence;
use crate::host::{self, Worked};
use crate::instance::Instance;
use crate::replica::payload::{Next, Payload};
use crate::replica::{self, Coming};
use crate::server::Server;
use crate::speeds::{self, Stage};
use crate::tasks::ProgressSink;
use crate::transfer::{Offers, Window};

/// How long a full window may stand still: a target that is restarted and reconnects is back long before.
const TAKER_PATIENCE: Duration = Duration::from_secs(15 * 60);
/// `repl-timeout` for as long: a server gives a replica up that reads nothing, and this one reads nothing while the window is
/// full. Longer than that can last.
const REPL_TIMEOUT_SECONDS: &str = "3600";

/// How often, in bytes, it is told how far the stream is.
const TELL_BYTES: u64 = 4 << 20;

/// How a server is brought to stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It serves replicas by itself.
    Serves,
    /// It is fenced, and has to be adopted.
    Frozen,
}

/// What came of a stream that was read to its end.
struct Received {
    id: SnapshotId,
    bytes: u64,
    head: RdbHead,
    stands: Lineage,
    /// How long the server's children had worked before.
    worked_before: Option<Worked>,
}

impl Received {
    /// How long the child worked that wrote it, if it has ended.
    fn worked_for(&self, pid: u32) -> Option<f64> {
        Some(host::worked_by(pid)?.children_seconds - self.worked_before?.children_seconds)
    }
}

pub(super) async fn stream(
    offers: &Offers,
    instance: &Instance,
    run: &RunId,
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    let begun = Instant::now();
    let window = offers.keep(run, instance.name());
    let mut told = Told { progress, state: Progress { doing: "streaming".into(), ..Progress::default() } };
    let received = tokio::select! {
        received = receive(instance, &window, &mut told) => received,
        // Released, or the target has lost what cannot be had again.
        Err(fault) = window.moved(u32::MAX) => Err(fault),
    };
    // In every outcome, and before anything else.
    let after = put_back(instance).await;
    let worked = match (&received, &after) {
        (Ok((received, _)), Ok(after)) => received.worked_for(after.pid),
        _ => None,
    };
    let facts = match (received, after) {
        (Ok((received, before)), Ok(after)) => facts(received, &before, after, begun),
        (Err(fault), Ok(_)) => Err(fault),
        (Ok(_), Err(fault)) => Err(fault),
        (Err(fault), Err(back)) => Err(fault.because(format!("moreover, the server is not as it was before: {back}"))),
    };
    let facts = match facts {
        Ok(facts) => facts,
        Err(fault) => {
            window.fail(fault.clone());
            return Err(fault);
        }
    };
    info!(instance = %instance.name(), bytes = facts.bytes, lineage = %facts.lineage, "snapshot streamed, it is kept until the target has it");
    let worked = worked.map(|seconds| speeds::sight(Stage::Work, facts.bytes, seconds));
    speeds::note(instance, worked.into_iter().collect()).await;
    told.state.bytes_total = Some(facts.bytes);
    until_taken(&window, &mut told).await?;
    Ok(Outcome::Snapshot(facts))
}

/// What is told of the stream.
struct Told<'a> {
    progress: &'a ProgressSink,
    state: Progress,
}

impl Told<'_> {
    fn tell(&mut self) {
        self.progress.report(self.state.clone());
    }
}

/// Has the server stream its snapshot into the window. Tells how it stood before.
async fn receive(instance: &Instance, window: &Window, told: &mut Told<'_>) -> Result<(Received, Running), Fault> {
    told.tell();
    let mut server = look::connect(instance).await?;
    let before = look::look_loaded(instance, &mut server).await?.running;
    let standing = standing(&before)?;
    settings(instance, &mut server, &before).await?;
    // Held until the last byte has come.
    let _adoption: Option<Adoption> = match standing {
        Standing::Serves => None,
        Standing::Frozen => Some(adoption::begin(instance, &mut server, &before).await?),
    };
    let bare = instance.connect_bare().await.map_err(|error| error.fault(instance.name()))?;
    let coming = replica::ask(instance.name(), bare, before.version, || told.tell()).await?;
    if standing == Standing::Frozen && coming.stands != before.replication.lineage {
        return Err(moved(&before.replication.lineage, &coming.stands));
    }
    let worked_before = host::worked_by(before.pid);
    let received = fill(instance, coming, window, told).await?;
    Ok((Received { worked_before, ..received }, before))
}

/// Judges by its role how the server is brought to stream.
fn standing(running: &Running) -> Result<Standing, Fault> {
    let refused = |why: String| {
        Err(Fault::new(FaultKind::Refused, "the server cannot stream its snapshot")
            .because(why)
            .hint("use `--snapshot save` or `--snapshot bgsave`"))
    };
    match &running.role {
        Role::Primary { .. } | Role::Replica { link: Link::Up { .. }, .. } => Ok(Standing::Serves),
        Role::Replica { primary, .. } if *primary != fence::address() => {
            refused(format!("its link to {primary} is down, and it is not fenced from it"))
        }
        _ if running.replication.lineage.id.is_none() => refused("it has no replication id to go on from".into()),
        _ if !running.version.continues_as_replica() => {
            refused(format!("{} cannot go on from where it stands", running.version))
        }
        Role::Replica { .. } => Ok(Standing::Frozen),
    }
}

/// Has the server stream without a file, at once, and for as long as it takes. Without the first there would be a file;
/// the others save time.
async fn settings(instance: &Instance, server: &mut Server, running: &Running) -> Result<(), Fault> {
    let known = borrow::borrow(instance, server, running.pid, "repl-diskless-sync", "yes").await?;
    if !known {
        return Err(Fault::new(FaultKind::Unsupported, "the server cannot stream its snapshot without a file")
            .because("it knows no `repl-diskless-sync`, or the agent may not ask")
            .hint("use `--snapshot save` or `--snapshot bgsave`"));
    }
    let others = [("repl-diskless-sync-delay", "0"), ("repl-timeout", REPL_TIMEOUT_SECONDS), ("rdbcompression", "no")];
    for (name, value) in others {
        if let Err(fault) = borrow::borrow(instance, server, running.pid, name, value).await {
            warn!(instance = %instance.name(), setting = name, "the stream goes on with the server's own setting: {fault}");
        }
    }
    Ok(())
}

/// Reads the stream into the window, as there is room.
async fn fill(instance: &Instance, coming: Coming, window: &Window, told: &mut Told<'_>) -> Result<Received, Fault> {
    let Coming { stands, ending, mut stream } = coming;
    let id = SnapshotId(format!("stream-{}-{}-{:016x}", stands.id, stands.offset, rand::random::<u64>()));
    let mut payload = Payload::new(ending, room(window).await?);
    let mut head: Option<RdbHead> = None;
    let damaged = |error: &dyn std::fmt::Display| {
        Fault::new(FaultKind::Verification, "the server streamed something that is no whole snapshot")
            .because(error)
            .hint("look in the server's log: its child may have been killed, or be out of memory")
    };
    loop {
        let next = payload.poll().map_err(|error| damaged(&error))?;
        if head.is_none() && (next != Next::More || payload.known().len() >= HEAD_BYTES_MAX) {
            let first = payload.known();
            let parsed = parse_head(first.get(..HEAD_BYTES_MAX).unwrap_or(first)).map_err(|error| damaged(&error))?;
            if let Some(written) = parsed.lineage.as_ref().filter(|written| **written != stands) {
                return Err(moved(&stands, written));
            }
            window.open(id.clone(), parsed.format);
            head = Some(parsed);
            told.state.ready = true;
        }
        match next {
            Next::More => {
                let most = payload.wants();
                let read = replica::read(instance.name(), &mut stream, payload.buffer(), most).await?;
                if read == 0 {
                    return Err(damaged(&payload.ended()));
                }
            }
            Next::Cut => {
                // The chunk counts before there is room for the next: it is what makes room.
                window.put(payload.cut());
                payload.refill(room(window).await?);
            }
            Next::End => break,
        }
        if told.state.bytes_done.abs_diff(payload.bytes()) >= TELL_BYTES || told.state.bytes_done == 0 {
            told.state.bytes_done = payload.bytes();
            told.tell();
        }
    }
    let (last, bytes) = payload.finish();
    told.state.bytes_done = bytes;
    window.finish(last);
    told.tell();
    let head = head.ok_or_else(|| Fault::new(FaultKind::Internal, "a snapshot without a head"))?;
    Ok(Received { id, bytes, head, stands, worked_before: None })
}

/// Waits until one more chunk may be filled.
async fn room(window: &Window) -> Result<Vec<u8>, Fault> {
    timeout(TAKER_PATIENCE, window.room()).await.unwrap_or_else(|_| Err(untaken()))
}

/// Waits until the target holds everything.
async fn until_taken(window: &Window, told: &mut Told<'_>) -> Result<(), Fault> {
    let mut gone = 0;
    loop {
        told.tell();
        match timeout(TAKER_PATIENCE, window.moved(gone)).await {
            Ok(Ok(None)) => return Ok(()),
            Ok(Ok(Some(now))) => gone = now,
            Ok(Err(fault)) => return Err(fault),
            Err(_) => {
                let fault = untaken();
                window.fail(fault.clone());
                return Err(fault);
            }
        }
    }
}

fn untaken() -> Fault {
    let patience = TAKER_PATIENCE.as_secs() / 60;
    Fault::new(FaultKind::Peer, format!("the target has taken nothing of the stream for {patience} minutes"))
        .hint("see that the agent of the target runs, and run it again")
}

fn moved(from: &Lineage, to: &Lineage) -> Fault {
    Fault::new(FaultKind::Verification, format!("the snapshot is of {to}, and its server stood at {from}"))
        .because("the server changed its role or its primary during the stream")
        .hint("look for a Sentinel or an operator at work on this group")
}

/// Fences the server again if it was adopted, gives settings back, and looks at it.
async fn put_back(instance: &Instance) -> Result<Running, Fault> {
    // If that fails, no setting is given back either: the password among them is not for whoever listens there next.
    adoption::end(instance).await?;
    if let Err(fault) = borrow::give_back_leftovers(instance).await {
        warn!(instance = %instance.name(), "settings are not put back yet: {fault}");
    }
    instance.running().await
}

/// What is known of the snapshot. A server that was adopted must stand where it stood.
fn facts(received: Received, before: &Running, after: Running, begun: Instant) -> Result<SnapshotFacts, Fault> {
    let Received { id, bytes, head, stands, .. } = received;
    let is_frozen = matches!(&before.role, Role::Replica { link: Link::Down { .. }, .. });
    if is_frozen && after.replication.lineage != stands {
        return Err(moved(&after.replication.lineage, &stands));
    }
    Ok(SnapshotFacts {
        id,
        bytes,
        head,
        keyspace: after.keyspace,
        lineage: stands,
        method: SaveMethod::Stream,
        seconds: begun.elapsed().as_secs_f64(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info::parse_running;

    const FENCED: &str = include_str!("../../info/fixtures/valkey-9.1.fenced.txt");
    const ORPHAN: &str = include_str!("../../info/fixtures/redis-7.0.orphan.txt");

    fn standing_of(info: &str) -> Result<Standing, String> {
        standing(&parse_running(info).unwrap()).map_err(|fault| fault.to_string())
    }

    #[test]
    fn only_a_fenced_server_is_adopted_and_an_orphan_is_left_alone() {
        assert_eq!(standing_of(FENCED), Ok(Standing::Frozen));
        assert!(standing_of(ORPHAN).unwrap_err().contains("is not fenced from it"));
        let linked = ORPHAN.replace("master_link_status:down", "master_link_status:up");
        assert_eq!(standing_of(&linked), Ok(Standing::Serves));
        assert_eq!(standing_of(&ORPHAN.replace("role:slave", "role:master")), Ok(Standing::Serves));
    }
}
