//! What an agent that died has left, cleared up by the one that comes after it: settings of servers that were changed for
//! a while, pins of snapshots that were being written, and feeds that did not land.
//!
//! It is done in the background: the server may be in the middle of the very SAVE that was asked for, and answers nobody
//! until it is over. Left out: what belongs to a run that goes on, which the run's own orders complete.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::borrow;
use super::feed;
use super::save::pin::blocking;
use super::save::{SAVE_TIMEOUT, unfinished};
use crate::agent::Agent;
use crate::host;
use crate::instance::Instance;

/// The first pause between two attempts.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
/// The longest: a setting may stay changed that long after a save.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Beyond the time that a run may hold a setting, so that it is seen to be over.
const HELD_SLACK: Duration = Duration::from_millis(100);

/// Begins to clear up, for each instance.
pub fn recover(agent: &Arc<Agent>) {
    for instance in agent.instances.values() {
        tokio::spawn(clear_up(Arc::clone(instance)));
    }
}

/// Has what a run holds put back when its time is up, if the run has not ended by then.
pub(super) async fn give_back_later(instance: &Arc<Instance>) {
    let Some(until) = borrow::held_until_unix_ms(instance).await else { return };
    let left = Duration::from_millis(until.saturating_sub(host::clock_unix_ms()));
    let instance = Arc::clone(instance);
    tokio::spawn(async move {
        tokio::time::sleep(left.saturating_add(HELD_SLACK)).await;
        if borrow::is_any(&instance).await {
            warn!(instance = %instance.name(), "a run has held settings of the server for as long as it may");
            end_hold(instance).await;
        }
    });
}

async fn end_hold(instance: Arc<Instance>) {
    let lock = instance.lock().await;
    let back = borrow::give_back_leftovers(&instance).await;
    drop(lock);
    if let Err(fault) = back {
        warn!(instance = %instance.name(), "what a run held is put back by the next action or start of the agent: {fault}");
    }
}

async fn clear_up(instance: Arc<Instance>) {
    let deadline = Instant::now() + SAVE_TIMEOUT;
    let mut pause = SHORTEST_PAUSE;
    let (state, name) = (instance.state_dir().to_owned(), instance.name().clone());
    loop {
        // Held for one attempt only: what is ordered meanwhile comes in between.
        let lock = instance.lock().await;
        let (state, name) = (state.clone(), name.clone());
        if let Err(error) = blocking(move || unfinished::drop_all(&state, &name)).await {
            warn!(instance = %instance.name(), %error, "half a snapshot may be left");
        }
        if !borrow::is_any(&instance).await && !feed::is_left(&instance).await {
            drop(lock);
            give_back_later(&instance).await;
            return;
        }
        // A server that follows a feed that is no more first: while it loads, it takes no settings.
        let back = match feed::recover(&instance).await {
            Ok(()) => borrow::give_back_leftovers(&instance).await,
            Err(fault) => Err(fault),
        };
        drop(lock);
        match back {
            Ok(()) => {
                info!(instance = %instance.name(), "settings that were changed for a while are put back");
                give_back_later(&instance).await;
                return;
            }
            Err(fault) if Instant::now() >= deadline => {
                warn!(instance = %instance.name(), "what an earlier agent left is not cleared up: {fault}");
                return;
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
