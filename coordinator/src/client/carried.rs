//! Orders that bring the end of their run's journal with them. An agent keeps it first, and then begins: so what is done on a
//! host has its word there, and costs no round trip of its own.
//!
//! ```text
//!   the journal lends ──> due ──> RecordAndBegin ──> kept
//!                          └── recalled: to be told ──> some host keeps all ──> Begin
//! ```
//!
//! Where an agent does not keep it so, it is told the whole journal, and given the order by itself. A host that cannot keep it,
//! or takes long to, is given the order if another keeps it all.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use baton_proto::control::{Order, RECORD_BYTES_MAX, Reply, Request};
use baton_proto::{Fault, FaultKind, HostName, RunId};
use tokio::time::{Instant, sleep};

use super::{Agents, Seat};

/// Most bytes of a journal that an order brings: a few lines. What is longer is told before.
const CARRIED_BYTES_MAX: usize = RECORD_BYTES_MAX / 4;
/// How long a host is given to keep what another may keep as well, and another what this one cannot. By then the journal has
/// had it told, see [`Carried::recall`].
const PATIENCE: Duration = Duration::from_secs(3);
/// How often it is looked whether one does.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What orders are to bring, and have brought.
#[derive(Default)]
pub struct Carried(Mutex<State>);

#[derive(Default)]
struct State {
    runs: HashMap<RunId, Run>,
    /// Hosts whose agents do not know of such orders.
    without: HashSet<HostName>,
}

#[derive(Default)]
struct Run {
    ends: HashMap<HostName, End>,
    /// How much of the journal some host must keep before anything is done.
    wanted: usize,
    /// How much of it some host keeps.
    bytes: usize,
}

struct End {
    at: usize,
    text: Arc<str>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Due,
    Kept,
    /// It is not tried so, or not again.
    Unkept,
}

impl Carried {
    /// Begins anew, with a journal of so many bytes of which all must be kept.
    pub fn renew(&self, run: &RunId, bytes: usize) {
        let mut state = self.state();
        let run = state.runs.entry(run.clone()).or_default();
        run.ends.clear();
        run.wanted = bytes;
    }

    /// Has the next order of the run to this host bring a journal's rest, from byte `at` on, if it can.
    pub fn lend(&self, run: &RunId, host: &HostName, at: usize, text: &Arc<str>) -> bool {
        let mut state = self.state();
        let fits = text.len().checked_sub(at).is_some_and(|rest| rest <= CARRIED_BYTES_MAX);
        if !fits || at == 0 || state.without.contains(host) {
            return false;
        }
        let end = End { at, text: Arc::clone(text), stage: Stage::Due };
        state.runs.entry(run.clone()).or_default().ends.insert(host.clone(), end);
        true
    }

    /// Has no order bring what was lent. Yields whether one has, so that the host keeps it.
    pub fn recall(&self, run: &RunId, host: &HostName) -> bool {
        let mut state = self.state();
        let Some(end) = state.runs.get_mut(run).and_then(|run| run.ends.get_mut(host)) else { return false };
        if end.stage == Stage::Due {
            end.stage = Stage::Unkept;
        }
        end.stage == Stage::Kept
    }

    /// Notes that some host keeps so much of the journal.
    pub fn kept(&self, run: &RunId, bytes: usize) {
        let mut state = self.state();
        let run = state.runs.entry(run.clone()).or_default();
        run.bytes = run.bytes.max(bytes);
    }

    /// What the next order to a host is to bring: the journal, and from which byte on.
    pub fn due(&self, run: &RunId, host: &HostName) -> Option<(usize, Arc<str>)> {
        let state = self.state();
        let end = state.runs.get(run)?.ends.get(host).filter(|end| end.stage == Stage::Due)?;
        Some((end.at, Arc::clone(&end.text)))
    }

    /// Notes what has become of it.
    pub fn tried(&self, run: &RunId, host: &HostName, is_kept: bool) {
        let mut state = self.state();
        let Some(run) = state.runs.get_mut(run) else { return };
        let Some(end) = run.ends.get_mut(host) else { return };
        end.stage = if is_kept { Stage::Kept } else { Stage::Unkept };
        if is_kept {
            run.bytes = run.bytes.max(end.text.len());
        }
    }

    /// Whether some host keeps all that must be kept.
    fn is_kept(&self, run: &RunId) -> bool {
        self.state().runs.get(run).is_none_or(|run| run.bytes >= run.wanted)
    }

    /// Has no order bring anything to a host whose agent does not know of it.
    pub fn rule_out(&self, host: &HostName) {
        self.state().without.insert(host.clone());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What an order needs of one agent.
pub(super) trait Post {
    fn ask(&self, request: &Request) -> impl Future<Output = Result<Reply, Fault>> + Send;

    /// Has the whole journal kept. Yields how much of it is.
    fn record(&self, text: &str) -> impl Future<Output = Result<u64, Fault>> + Send;
}

/// Gives an order, and with it what is due of the journal.
pub(super) async fn begin(carried: &Carried, post: &impl Post, host: &HostName, order: &Order) -> Result<Reply, Fault> {
    let run = &order.task.run;
    if let Some((at, text)) = carried.due(run, host) {
        let rest = text.get(at..).unwrap_or_default().to_owned();
        let brought = Request::RecordAndBegin { at: at as u64, text: rest, order: order.clone() };
        let brought = tokio::select! {
            brought = bring(carried, post, (run, host), (&brought, &text)) => brought?,
            // Its disk is busy. If it keeps it after all and begins, the order by itself joins that.
            () = overtaken(carried, run) => {
                carried.tried(run, host, false);
                None
            }
        };
        if let Some(begun) = brought {
            return Ok(begun);
        }
    }
    let until = Instant::now() + PATIENCE;
    while !carried.is_kept(run) {
        if Instant::now() >= until {
            let why = format!("no host keeps the journal of run {run}, so nothing is begun on {host}");
            return Err(
                Fault::new(FaultKind::Host, why).hint("see the logs of the agents: `journalctl -u baton-agent`")
            );
        }
        sleep(LOOK_EVERY).await;
    }
    post.ask(&Request::Begin(order.clone())).await
}

/// Gives an order that brings the journal's end. Yields nothing if it is to be given by itself.
async fn bring(
    carried: &Carried,
    post: &impl Post,
    (run, host): (&RunId, &HostName),
    (brought, text): (&Request, &str),
) -> Result<Option<Reply>, Fault> {
    match post.ask(brought).await {
        Ok(Reply::Recorded { .. }) => {}
        Ok(begun) => {
            carried.tried(run, host, true);
            return Ok(Some(begun));
        }
        Err(fault) if fault.kind == FaultKind::Unsupported => carried.rule_out(host),
        Err(fault) if fault.kind == FaultKind::Host => {}
        // It is asked again, or another has the run.
        Err(fault) => return Err(fault),
    }
    match post.record(text).await {
        Err(fault) if matches!(fault.kind, FaultKind::Held | FaultKind::Peer) => return Err(fault),
        recorded => carried.tried(run, host, recorded.is_ok_and(|bytes| bytes == text.len() as u64)),
    }
    Ok(None)
}

/// Resolves when a host has been given long enough, and another keeps the journal.
async fn overtaken(carried: &Carried, run: &RunId) {
    sleep(PATIENCE).await;
    while !carried.is_kept(run) {
        sleep(LOOK_EVERY).await;
    }
}

/// One host's agent, asked in a run's turn.
pub(super) struct Direct<'a> {
    pub(super) agents: &'a Agents,
    pub(super) host: &'a HostName,
    pub(super) seat: Seat,
}

impl Post for Direct<'_> {
    async fn ask(&self, request: &Request) -> Result<Reply, Fault> {
        self.agents.ask(self.host, request).await
    }

    async fn record(&self, text: &str) -> Result<u64, Fault> {
        self.agents.record(self.host, &self.seat, 0, text).await
    }
}

#[cfg(test)]
mod tests;
