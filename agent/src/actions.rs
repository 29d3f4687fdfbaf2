//! What an agent does to an instance on order: one function for each action of the protocol, by subject.
//!
//! Every action is check, act, confirm, under the instance's lock; only an offer, the wait for writes and a note of a
//! replaced primary do without. Every one can be repeated: what is done already is found done, and what a crash left half
//! done is completed. Long ones report progress; none waits without a limit, but for the lock. Judgement is not here:
//! whether an action is wise was decided by the coordinator's plan. What is refused here is what would lose data if the
//! plan were out of date.
//!
//! A new action is a variant of [`Action`] and of [`Outcome`], a function in a file here, and a branch below.

mod adoption;
mod aof;
mod backlog;
mod borrow;
mod canary;
mod deposed;
mod feed;
mod guard;
mod handover;
mod landing;
mod look;
mod pace;
mod persist;
mod place;
mod recover;
mod replication;
mod role;
mod save;
mod snapshot;
mod spool;
mod stamp;
mod start;
mod stop;

use std::sync::Arc;
use std::time::Duration;

use baton_proto::claim::Turn;
use baton_proto::control::{Action, Outcome, Progress, Saving};
use baton_proto::{Fault, RunId};

use crate::agent::Agent;
use crate::instance::Instance;
use crate::tasks::ProgressSink;

pub(crate) use self::adoption::adopted_at;
pub(crate) use self::borrow::unborrowed;
pub use self::guard::guard;
pub use self::recover::recover;

/// Does one action, when the instance is free. An offer changes nothing of the instance, and does not wait: a snapshot is
/// offered while it is being written. Nor does what only waits to write the canary, or notes who was replaced.
pub async fn perform(
    agent: &Agent,
    instance: &Arc<Instance>,
    (run, turn): (&RunId, Turn),
    action: Action,
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    let kind = point_of(&action);
    baton_hold::at(|| format!("{kind}-before")).await;
    if undoes(&action) {
        instance.call_off();
    }
    let lock = match &action {
        Action::Offer { .. } | Action::AwaitWrites { .. } | Action::Depose { .. } => None,
        Action::Release { .. } => {
            // At once: what is still being sent is not wanted any more, however long the lock takes.
            agent.offers.revoke(run);
            agent.spools.end(run);
            Some(instance.lock().await)
        }
        Action::Fence { .. } => {
            agent.offers.supersede(run, instance.name());
            Some(instance.lock().await)
        }
        _ => Some(match instance.try_lock() {
            Some(free) => free,
            None => {
                progress.report(Progress { doing: "waiting for another action".into(), ..Progress::default() });
                instance.lock().await
            }
        }),
    };
    // Its run may have been taken up by another while it waited.
    agent.claims.check(instance.name(), run, turn)?;
    if lock.is_some() {
        // What an agent that died has left: nothing is done to a server that waits for it.
        adoption::end(instance).await?;
    }
    let outcome = if can_be_left(&action) {
        let mut called_off = instance.called_off();
        tokio::select! {
            outcome = act(agent, instance, run, action, progress) => outcome,
            fault = called_off.wait() => Err(fault),
        }
    } else {
        act(agent, instance, run, action, progress).await
    };
    if lock.is_some() {
        recover::after_action(instance).await;
    }
    baton_hold::at(|| format!("{kind}-after")).await;
    outcome
}

/// A point in the middle of an action, between two changes to the world, at which a test stops it.
async fn middle(point: &'static str) {
    baton_hold::at(|| point.to_owned()).await;
}

/// Whether the action takes back what another of its run did or still does, or passes over it: a run that is aborted once
/// its target serves makes the roles last, and does not wait for a link that does not come.
fn undoes(action: &Action) -> bool {
    matches!(
        action,
        Action::Restore | Action::Release { .. } | Action::Stop { save: Saving::IfChanged } | Action::Persist
    )
}

/// Whether the action, once its server was told, only waits for it.
fn can_be_left(action: &Action) -> bool {
    matches!(action, Action::Start { .. } | Action::Follow { .. } | Action::EnableAof { .. })
}

/// The action's part of the names of its points at which a test stops it.
fn point_of(action: &Action) -> &'static str {
    match action {
        Action::Fence { .. } => "fence",
        Action::Depose { .. } => "depose",
        Action::SaveAside { .. } => "save-aside",
        Action::Promote => "promote",
        Action::Follow { .. } => "follow",
        Action::HandOver { .. } => "hand-over",
        Action::KeepPrimary { .. } => "keep-primary",
        Action::AwaitWrites { .. } => "await-writes",
        Action::Backlog { .. } => "backlog",
        Action::Spool { .. } => "spool",
        Action::GiveBack => "give-back",
        Action::Snapshot { .. } => "snapshot",
        Action::Offer { .. } => "offer",
        Action::Pull { .. } => "pull",
        Action::Stop { .. } => "stop",
        Action::Install => "install",
        Action::Start { .. } => "start",
        Action::EnableAof { .. } => "enable-aof",
        Action::Persist => "persist",
        Action::WriteCanary { .. } | Action::ReadCanary { .. } | Action::DropCanary => "canary",
        Action::Restore => "restore",
        Action::Release { .. } => "release",
    }
}

async fn act(
    agent: &Agent,
    instance: &Arc<Instance>,
    run: &RunId,
    action: Action,
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let milliseconds = |milliseconds: u32| Duration::from_millis(milliseconds.into());
    match action {
        Action::Fence { expect } => replication::fence(instance, run, &expect).await,
        Action::Depose { deposition } => deposed::note(agent, instance, *deposition).await,
        Action::SaveAside { deposition, compare } => {
            deposed::save_aside(agent, instance, run, (&deposition, compare.as_ref()), progress).await
        }
        Action::Promote => replication::promote(instance).await,
        Action::Follow { to, expect, timeout_seconds } => {
            replication::follow(instance, run, &to, expect.as_ref(), seconds(timeout_seconds), progress).await
        }
        Action::HandOver { to, canary, timeout_ms } => {
            handover::hand_over(instance, &to, (run, &canary), milliseconds(timeout_ms), progress).await
        }
        Action::KeepPrimary { timeout_ms } => handover::keep_primary(instance, milliseconds(timeout_ms)).await,
        Action::AwaitWrites { value, timeout_ms } => {
            canary::await_writes(instance, run, &value, milliseconds(timeout_ms), progress).await
        }
        Action::Backlog { bytes, hold_seconds } => {
            backlog::have(instance, run, bytes, seconds(hold_seconds), progress).await
        }
        Action::Spool { hold_seconds } => spool::spool(agent, instance, run, seconds(hold_seconds)).await,
        Action::GiveBack => {
            agent.spools.end(run);
            borrow::give_back_now(instance, borrow::Which::Of(run)).await?;
            Ok(Outcome::GivenBack)
        }
        Action::Snapshot { method } => snapshot::snapshot(&agent.offers, instance, run, method, progress).await,
        Action::Offer { ticket, to, budget } => landing::offer(agent, instance, run, ticket, to, budget).await,
        Action::Pull { from, address, ticket, landing } => {
            landing::pull(agent, instance, run, (from, address), (ticket, landing), progress).await
        }
        Action::Stop { save } => stop::stop(instance, run, save, progress).await,
        Action::Install => landing::install(instance, run).await,
        Action::Start { follow, timeout_seconds } => {
            start::start(instance, run, follow.as_ref(), seconds(timeout_seconds), progress).await
        }
        Action::EnableAof { timeout_seconds } => aof::enable(instance, run, seconds(timeout_seconds), progress).await,
        Action::Persist => persist::persist(instance).await,
        Action::WriteCanary { value } => canary::write(instance, run, &value).await,
        Action::ReadCanary { value, timeout_seconds } => {
            canary::read(instance, run, &value, seconds(timeout_seconds)).await
        }
        Action::DropCanary => canary::drop_key(instance, run).await,
        Action::Restore => landing::restore(instance, run).await,
        Action::Release { keep_old } => landing::release(instance, run, keep_old).await,
    }
}
