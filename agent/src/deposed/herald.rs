//! Tells the agents of replaced primaries what became of them, until each has heard: the one that was away need know
//! nobody beforehand.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use baton_proto::control::{Reply, Request};
use baton_proto::deposed::{Deposition, Held};
use baton_proto::{Fault, FaultKind, RunId};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::agent::Agent;

/// Pause between two attempts: two primaries take writes for no longer than this and one dial.
const PAUSE: Duration = Duration::from_millis(300);
/// How long one dial may take. Within a longer one, the first packet is repeated ever later, and an agent that has just
/// come up would wait for it.
const DIAL_TIMEOUT: Duration = Duration::from_millis(700);
/// How long the other agent may take to look at its server and write its note down.
const TELL_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause after an agent did not believe a note: each refusal costs it a look at its server, and a line in its log.
const DISBELIEVED_PAUSE: Duration = Duration::from_secs(5);

/// Goes on as long as the agent does. All that is untold is tried at the same time: [`Notes`](super::Notes) bounds it.
pub async fn herald(agent: Arc<Agent>) {
    let mut disbelieved: BTreeMap<RunId, Instant> = BTreeMap::new();
    loop {
        disbelieved.retain(|_, since| since.elapsed() < DISBELIEVED_PAUSE);
        let mut telling = JoinSet::new();
        for held in agent.notes.all().into_iter().filter(|held| !held.told && held.deposition.host != agent.host) {
            if !disbelieved.contains_key(&held.deposition.run) {
                let agent = Arc::clone(&agent);
                telling.spawn(async move { tell_one(&agent, held).await });
            }
        }
        while let Some(told) = telling.join_next().await {
            if let Ok(Err(run)) = told {
                disbelieved.insert(run, Instant::now());
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Tries once. The run of a note that was heard and not believed is the error.
async fn tell_one(agent: &Agent, held: Held) -> Result<(), RunId> {
    let note = held.deposition;
    let told = tell(agent, &note).await;
    let refused = matches!(&told, Err(fault) if fault.kind == FaultKind::Refused);
    let noted = match told {
        Ok(theirs) => {
            info!(run = %note.run, host = %note.host, standing = ?theirs.standing, "told its agent");
            // Of its own server its word is enough: whoever has that agent needs nobody's leave there.
            let kept = agent.notes.keep(super::looked_at(agent, &note.host, theirs), true, true);
            kept.and_then(|_| agent.notes.change(&note.run, |held| (held.told, held.untold) = (true, None)))
        }
        Err(fault) => {
            debug!(run = %note.run, host = %note.host, "its agent is not told: {fault}");
            agent.notes.change(&note.run, |held| held.untold = Some(fault.to_string()))
        }
    };
    if let Err(error) = noted {
        warn!(run = %note.run, %error, "note of a replaced primary cannot be written");
    }
    if refused { Err(note.run) } else { Ok(()) }
}

async fn tell(agent: &Agent, note: &Deposition) -> Result<Deposition, Fault> {
    let late = |_| Fault::new(FaultKind::Peer, format!("the agent of {} does not answer", note.host));
    let link = timeout(DIAL_TIMEOUT, agent.dialer.dial(&note.agent, &note.host)).await.map_err(late)??;
    let request = Request::Tell { deposition: Box::new(note.clone()), age_seconds: super::age_seconds(note) };
    let answer = timeout(TELL_TIMEOUT, link.ask(&request)).await.map_err(late);
    link.close();
    match answer?? {
        Reply::Told { deposition } if deposition.run == note.run => Ok(*deposition),
        other => Err(Fault::new(FaultKind::Internal, format!("answered with {other:?}, which was not asked for"))),
    }
}
