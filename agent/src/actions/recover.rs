//! What an agent that died has left, cleared up by the one that comes after it: a server that it had adopted, settings of
//! servers that were changed for a while, and pins of snapshots that were being written.
//!
//! It is done in the background: the server may be in the middle of the very SAVE that was asked for, and answers nobody
//! until it is over. Left out: what belongs to a run that goes on, which the run's own orders complete.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::save::pin::blocking;
use super::save::{SAVE_TIMEOUT, unfinished};
use super::{adoption, borrow};
use crate::agent::Agent;
use crate::instance::Instance;

/// The first pause between two attempts.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
/// The longest: a setting may stay changed that long after a save.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Begins to clear up, for each instance.
pub fn recover(agent: &Arc<Agent>) {
    for instance in agent.instances.values() {
        tokio::spawn(clear_up(Arc::clone(instance)));
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
        if !borrow::is_any(&instance).await && adoption::adopted_at(&instance).await.is_none() {
            return;
        }
        // The fence first: a setting that is put back would have a server speak to whoever listens where its agent did.
        let back = match adoption::end(&instance).await {
            Ok(()) => borrow::give_back_leftovers(&instance).await,
            Err(fault) => Err(fault),
        };
        drop(lock);
        match back {
            Ok(()) => {
                info!(instance = %instance.name(), "settings that were changed for a save are put back");
                return;
            }
            Err(fault) if Instant::now() >= deadline => {
                warn!(instance = %instance.name(), "settings that were changed for a save are not put back: {fault}");
                return;
            }
            Err(_) => tokio::time::sleep(pause).await,
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}
