//! What was left behind and is cleared up later: settings of servers that were changed for a while, by an agent that died or
//! by an action whose server did not answer at its end; the arguments of a start that service managers hold; feeds that did
//! not land; servers that were adopted; and pins of snapshots that were being written when an agent died.
//!
//! It is done in the background: the server may be in the middle of the very SAVE that was asked for, and answers nobody
//! until it is over. Left out: what belongs to a run that goes on, which the run's own orders complete.

use std::sync::Arc;
use std::time::Duration;

use baton_proto::{Fault, FaultKind};
use tokio::time::Instant;
use tracing::{Instrument, info, warn};

use super::save::{SAVE_TIMEOUT, unfinished};
use super::{adoption, borrow, feed};
use crate::agent::Agent;
use crate::blocking::blocking;
use crate::host;
use crate::instance::Instance;
use crate::service;

/// The first pause between two attempts.
const SHORTEST_PAUSE: Duration = Duration::from_millis(200);
/// The longest: a setting may stay changed that long after a save.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Beyond the time that a run may hold a setting, so that it is seen to be over.
const HELD_SLACK: Duration = Duration::from_millis(100);

/// Begins to clear up after an agent that died, for each instance.
pub fn recover(agent: &Arc<Agent>) {
    for instance in agent.instances.values() {
        tokio::spawn(clear_up(Arc::clone(instance)));
    }
}

/// Begins to clear up after an action, if it has left anything. Its caller holds the instance's lock.
pub(super) async fn after_action(instance: &Arc<Instance>) {
    // A note that cannot be read now may be readable later.
    let borrowed = borrow::is_any(instance).await.unwrap_or(true);
    if borrowed
        || service::is_left(instance)
        || feed::is_left(instance).await.unwrap_or(true)
        || !matches!(adoption::adopted_at(instance).await, Ok(None))
    {
        tokio::spawn(clear_up(Arc::clone(instance)).in_current_span());
    }
}

/// Has what a run holds put back when its time is up, if the run has not ended by then.
pub(super) async fn give_back_later(instance: &Arc<Instance>) {
    let Some(until) = borrow::held_until_unix_ms(instance).await else { return };
    let left = Duration::from_millis(until.saturating_sub(host::clock_unix_ms()));
    let instance = Arc::clone(instance);
    let giving_back = async move {
        tokio::time::sleep(left.saturating_add(HELD_SLACK)).await;
        if borrow::is_any(&instance).await.unwrap_or(true) {
            warn!(instance = %instance.name(), "a run has held settings of the server for as long as it may");
            end_hold(instance).await;
        }
    };
    tokio::spawn(giving_back.in_current_span());
}

async fn end_hold(instance: Arc<Instance>) {
    let lock = instance.lock().await;
    let back = borrow::give_back_leftovers(&instance).await;
    drop(lock);
    if let Err(fault) = back {
        warn!(instance = %instance.name(), "what a run held is put back by the next action or start of the agent: {fault}");
    }
}

/// Tries until nothing is left.
async fn clear_up(instance: Arc<Instance>) {
    let Some(only) = instance.begin_recovery() else { return };
    let deadline = Instant::now() + SAVE_TIMEOUT;
    let (mut pause, mut told): (_, Option<Fault>) = (SHORTEST_PAUSE, None);
    loop {
        // Held for one attempt only: what is ordered meanwhile comes in between.
        let lock = instance.lock().await;
        let tried = attempt(&instance).await;
        let late = Instant::now() >= deadline;
        // A server may just be busy; what is wrong with this host's files waits for a person.
        let amiss = tried.as_ref().err().filter(|fault| late || fault.kind == FaultKind::Host);
        if let Some(fault) = amiss.filter(|fault| told.as_ref() != Some(*fault)) {
            warn!(instance = %instance.name(), "what was left behind is not cleared up: {fault}");
            told = Some(fault.clone());
        }
        if tried.is_ok() || late {
            // In this order: an action that leaves something from here on begins anew.
            drop(only);
            drop(lock);
            give_back_later(&instance).await;
            return;
        }
        drop(lock);
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn attempt(instance: &Instance) -> Result<(), Fault> {
    let (state, name) = (instance.state_dir().to_owned(), instance.name().clone());
    let halves = blocking(move || unfinished::drop_all(&state, &name)).await.flatten();
    // A server that follows a feed that is no more first: while it loads, it takes no settings. So with the fence: a setting
    // that is put back would have a server speak to whoever listens where its agent did.
    if feed::is_left(instance).await? {
        feed::recover(instance).await?;
    }
    adoption::end(instance).await?;
    // A server that is restarted must not come up with the arguments of a run's start.
    service::clear_up(instance).await?;
    if borrow::is_any(instance).await? {
        borrow::give_back_leftovers(instance).await?;
        info!(instance = %instance.name(), "settings that were changed for a while are put back");
    }
    halves.map_err(|error| Fault::new(FaultKind::Host, "half a snapshot may be left").because(error))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;
    use crate::instance::tests::with_conf;

    const NOTE: &str = r#"[{"pid":7,"name":"rdbcompression","value":"yes"}]"#;

    #[tokio::test(start_paused = true)]
    async fn what_an_action_left_is_cleared_up_once_its_server_is_heard_of_again() {
        let dir = tempfile::tempdir().unwrap();
        let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = silent.local_addr().unwrap().port();
        let instance = Arc::new(with_conf(dir.path(), &format!("bind 127.0.0.1\nport {port}\n")));
        std::fs::create_dir(instance.state_dir()).unwrap();
        let note = instance.state_dir().join("borrowed-default.json");
        std::fs::write(&note, NOTE).unwrap();
        for _ in 0..3 {
            let lock = instance.lock().await;
            after_action(&instance).await;
            drop(lock);
        }
        tokio::time::sleep(LONGEST_PAUSE * 3).await;
        assert!(instance.begin_recovery().is_none(), "it goes on");
        assert_eq!(borrow::is_any(&instance).await, Ok(true));
        // What is restarted has its own settings.
        drop(silent);
        while note.exists() {
            tokio::time::sleep(LONGEST_PAUSE).await;
        }
        // Nothing is left, and what is left next begins anew.
        let lock = instance.lock().await;
        assert!(instance.begin_recovery().is_some());
        after_action(&instance).await;
        drop(lock);
        assert!(instance.begin_recovery().is_some());
    }
}
