//! Sends the snapshot while it is still being written.
//!
//! ```text
//!   source   snapshot ───── ready ───────── saved          step `snapshot` ends at ready
//!            offer          └─ offered                     step `transfer` ends when both have ended
//!   target   pull              └────────────────── pulled
//! ```
//!
//! The save is a task of its own, which this step joins by its name; what it comes to is learnt here, unless it had ended
//! before it was left. A save that fails fails the step at once, with its own fault: the pull then fails as well, but that
//! is only the consequence.
//!
//! A source's agent that is restarted forgets tasks and tickets, and gives up a snapshot that was still growing: its server
//! may write on, but nobody watches which file that is. So an attempt ends, and a new one begins:
//! - The save had been seen to end: the pin stands. A new ticket is offered for it, and the pull goes on where it was.
//! - It had not: the snapshot is ordered anew. The agent drops the pin of the one given up, waits for a save that still runs,
//!   and has another file written. It bears another id, so the target begins from the start.
//!
//! - What is written meanwhile is spooled there: the spool was lost with the agent. It is begun anew, and then the snapshot is
//!   ordered anew, since it is older than the spool.
//!
//! A stream is given up with its agent, and also when the target has lost what it had said to have: its source keeps only
//! the last few chunks. Either way it is ordered anew, and is another snapshot.
//!
//! Where both happen in an unlucky order, the pull may bring the old snapshot while the facts learnt are of the new one.
//! The ids tell, and what is pulled in the end is what is recorded.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use baton_proto::control::{Action, Landing, Outcome, Progress, SaveMethod, SnapshotFacts};
use baton_proto::data::{Budget, TICKET_SECRET_BYTES, Ticket};
use baton_proto::{Fault, FaultKind, HostName, HostPort, InstanceRef, Lineage, RunId};

use super::{Shown, task};
use crate::client::{Followed, Until};
use crate::plan::spool::HOLD_SECONDS;
use crate::run::Learnt;

/// How often a snapshot is offered in one run: once, and once more for each restart of its agent.
const OFFERS_MAX: u32 = 5;
/// How long a save is given to be seen failing once its pull has failed: the two tell of it over different hosts.
const VERDICT_WAIT: Duration = Duration::from_secs(2);

/// Gives orders, and joins those given before.
pub(super) trait Crew: Sync {
    fn order(
        &self,
        name: &str,
        on: &InstanceRef,
        action: Action,
        progress: Shown<'_>,
    ) -> impl Future<Output = Result<Outcome, Fault>> + Send;

    fn order_until_ready(
        &self,
        name: &str,
        on: &InstanceRef,
        action: Action,
        progress: Shown<'_>,
    ) -> impl Future<Output = Result<Option<Outcome>, Fault>> + Send;

    fn join(
        &self,
        name: &str,
        on: &InstanceRef,
        until: Until,
        progress: Shown<'_>,
    ) -> impl Future<Output = Result<Followed, Fault>> + Send;

    /// Where a host's agent listens.
    fn address(&self, host: &HostName) -> Result<HostPort, Fault>;
}

/// The name of the save's task, by which the transfer joins it.
pub(super) fn snapshot_task(source: &InstanceRef) -> String {
    task("snapshot", source)
}

pub(super) struct Transfer<'a, C> {
    pub(super) crew: &'a C,
    pub(super) run: &'a RunId,
    pub(super) source: &'a InstanceRef,
    pub(super) target: &'a InstanceRef,
    pub(super) method: SaveMethod,
    pub(super) budget: Budget,
    pub(super) landing: &'a Landing,
}

/// Why an attempt came to nothing.
enum Setback {
    /// The source's agent has forgotten what was agreed with it.
    Forgotten(Fault),
    Final(Fault),
}

impl Setback {
    /// Of an order that names what an agent knows only while it runs.
    fn of(fault: Fault) -> Self {
        if fault.kind == FaultKind::NotFound { Self::Forgotten(fault) } else { Self::Final(fault) }
    }
}

impl<C: Crew> Transfer<'_, C> {
    /// Sends the snapshot. `known` is what was learnt of it before, if its save had ended by then.
    pub(super) async fn carry(&self, known: Option<&SnapshotFacts>, progress: Shown<'_>) -> Result<Vec<Learnt>, Fault> {
        let mut snapshot = known.cloned();
        let mut attempts = 0;
        let (offered, pulled) = loop {
            attempts += 1;
            match self.attempt(&mut snapshot, progress).await {
                Ok(outcomes) => break outcomes,
                Err(Setback::Forgotten(_)) if attempts < OFFERS_MAX => {
                    if self.method == SaveMethod::Stream {
                        snapshot = None;
                    }
                }
                Err(Setback::Forgotten(fault) | Setback::Final(fault)) => return Err(fault),
            }
        };
        let saved = snapshot.filter(|facts| known != Some(facts)).map(Outcome::Snapshot);
        let of_source = saved.into_iter().chain([offered]).map(|outcome| (self.source, outcome));
        let learnt = of_source.chain([(self.target, pulled)]);
        Ok(learnt.map(|(on, outcome)| Learnt::Outcome { on: on.clone(), outcome }).collect())
    }

    /// Offers the snapshot and has it pulled, beside its save if that has not ended. Yields what the offer and the pull
    /// came to, and leaves in `snapshot` what the save did.
    async fn attempt(
        &self,
        snapshot: &mut Option<SnapshotFacts>,
        progress: Shown<'_>,
    ) -> Result<(Outcome, Outcome), Setback> {
        let spooled = match self.landing {
            Landing::Spooled { .. } => Some(self.spool().await?),
            _ => None,
        };
        if snapshot.as_ref().is_some_and(|facts| is_older(facts, spooled.as_ref())) {
            *snapshot = None;
        }
        if snapshot.is_none() {
            *snapshot = self.until_it_can_be_offered(progress).await?;
        }
        if snapshot.as_ref().is_some_and(|facts| is_older(facts, spooled.as_ref())) {
            return Err(Setback::Final(too_old(self.source)));
        }
        let secret = rand::random::<[u8; TICKET_SECRET_BYTES]>().to_vec();
        let ticket = Ticket { run: self.run.clone(), secret };
        // A ticket is made for this attempt alone, so the attempt has task names of its own.
        let attempt: u32 = rand::random();
        let offer = Action::Offer { ticket: ticket.clone(), to: self.target.host.clone(), budget: self.budget };
        let offered = self.crew.order(&format!("offer-{attempt:08x}"), self.source, offer, &|_, _| {}).await;
        let offered = match offered {
            Ok(offered) => offered,
            Err(fault) => return Err(self.cause_of(fault, snapshot.is_none()).await),
        };
        let address = self.crew.address(&self.source.host).map_err(Setback::Final)?;
        let landing = self.landing.clone();
        let pull = Action::Pull { from: self.source.host.clone(), address, ticket, landing };
        let pull_task = format!("pull-{attempt:08x}");
        let pull = self.crew.order(&pull_task, self.target, pull, progress);
        let pulled = match snapshot {
            Some(_) => pull.await.map_err(Setback::of)?,
            None => self.beside_the_save(pull, snapshot, progress).await?,
        };
        self.is_the_same(snapshot.as_ref(), &offered)?;
        Ok((offered, pulled))
    }

    /// Sees that what is written is spooled, and tells since where.
    async fn spool(&self) -> Result<Lineage, Setback> {
        // A name of its own: one that was begun before may have been lost since.
        let name = format!("spool-{:08x}", rand::random::<u32>());
        let action = Action::Spool { hold_seconds: HOLD_SECONDS };
        match self.crew.order(&name, self.source, action, &|_, _| {}).await.map_err(Setback::of)? {
            Outcome::Spooling { since } => Ok(since),
            _ => Err(Setback::Final(astray())),
        }
    }

    /// Joins the save until enough of it is there. Only one that its agent has forgotten is ordered anew.
    async fn until_it_can_be_offered(&self, progress: Shown<'_>) -> Result<Option<SnapshotFacts>, Setback> {
        let name = snapshot_task(self.source);
        let joined = match self.crew.join(&name, self.source, Until::Ready, progress).await {
            // It has been given up, and can be had again.
            Err(fault) if self.is_gone(&fault) => Followed::Unknown,
            joined => joined.map_err(Setback::Final)?,
        };
        let ended = match joined {
            Followed::Ready => None,
            Followed::Done(outcome) => Some(outcome),
            Followed::Unknown => {
                let action = Action::Snapshot { method: self.method };
                let ordered = self.crew.order_until_ready(&name, self.source, action, progress).await;
                ordered.map_err(Setback::Final)?
            }
        };
        ended.map(facts).transpose().map_err(Setback::Final)
    }

    /// Waits for the pull and the save at once.
    async fn beside_the_save(
        &self,
        pull: impl Future<Output = Result<Outcome, Fault>> + Send,
        snapshot: &mut Option<SnapshotFacts>,
        progress: Shown<'_>,
    ) -> Result<Outcome, Setback> {
        let name = snapshot_task(self.source);
        let mut save = pin!(self.crew.join(&name, self.source, Until::End, progress));
        let mut pull = pin!(pull);
        tokio::select! {
            // If both have failed, the save is the cause.
            biased;
            saved = &mut save => {
                *snapshot = Some(self.saved(saved, progress)?);
                pull.await.map_err(Setback::of)
            }
            pulled = &mut pull => match pulled {
                Ok(pulled) => {
                    *snapshot = Some(self.saved(save.await, progress)?);
                    Ok(pulled)
                }
                Err(fault) => Err(self.cause_of(fault, true).await),
            },
        }
    }

    fn saved(&self, joined: Result<Followed, Fault>, progress: Shown<'_>) -> Result<SnapshotFacts, Setback> {
        let joined = joined
            .map_err(|fault| if self.is_gone(&fault) { Setback::Forgotten(fault) } else { Setback::Final(fault) });
        match joined? {
            Followed::Done(outcome) => {
                let facts = facts(outcome).map_err(Setback::Final)?;
                let (bytes_done, bytes_total) = (facts.bytes, Some(facts.bytes));
                let saved = Progress { doing: "saved".into(), bytes_done, bytes_total, ..Progress::default() };
                progress(self.source, &saved);
                Ok(facts)
            }
            Followed::Ready | Followed::Unknown => Err(Setback::Forgotten(
                Fault::new(
                    FaultKind::NotFound,
                    format!("the snapshot of {} was given up while it was written", self.source),
                )
                .because(format!("the agent of {} was restarted", self.source.host)),
            )),
        }
    }

    /// Tells why the offer or the pull failed. While the save runs (`saving`), it may be because of the save, which is given
    /// a moment to say so.
    async fn cause_of(&self, fault: Fault, saving: bool) -> Setback {
        if !saving {
            return Setback::of(fault);
        }
        let name = snapshot_task(self.source);
        let verdict = self.crew.join(&name, self.source, Until::End, &|_, _| {});
        match tokio::time::timeout(VERDICT_WAIT, verdict).await {
            Ok(Err(cause)) if self.is_gone(&cause) => Setback::Forgotten(cause),
            Ok(Err(cause)) => Setback::Final(cause),
            Ok(Ok(Followed::Unknown)) => Setback::Forgotten(fault),
            // What was forgotten is looked for by the next attempt; the save may still be about to tell why.
            Ok(Ok(Followed::Done(_) | Followed::Ready)) | Err(_) => Setback::of(fault),
        }
    }

    /// Whether a save that failed is a stream of which the target needs what is no longer kept. Its server is well.
    fn is_gone(&self, fault: &Fault) -> bool {
        self.method == SaveMethod::Stream && fault.kind == FaultKind::NotFound
    }

    /// Sees that what was pulled is what was saved.
    fn is_the_same(&self, snapshot: Option<&SnapshotFacts>, offered: &Outcome) -> Result<(), Setback> {
        let (Some(facts), Outcome::Offered { manifest, .. }) = (snapshot, offered) else {
            return Err(Setback::Final(astray()));
        };
        if facts.id == manifest.snapshot {
            return Ok(());
        }
        Err(Setback::Forgotten(
            Fault::new(
                FaultKind::Verification,
                format!("{} offered another snapshot than the one it had taken", self.source),
            )
            .because(format!("{} was taken, {} was offered", facts.id, manifest.snapshot))
            .hint(format!("look in the log of the agent of {}: it was restarted", self.source.host)),
        ))
    }
}

/// Whether a snapshot was taken before its spool was begun, or in another history.
fn is_older(snapshot: &SnapshotFacts, since: Option<&Lineage>) -> bool {
    let taken = snapshot.head.lineage.as_ref().unwrap_or(&snapshot.lineage);
    since.is_some_and(|since| taken.id != since.id || taken.offset < since.offset)
}

fn too_old(source: &InstanceRef) -> Fault {
    Fault::new(FaultKind::Refused, format!("the snapshot of {source} is older than what is spooled there"))
        .because("the spool that was begun before it was given up")
        .hint(format!("look in the log of the agent of {}, then run it again", source.host))
}

fn facts(outcome: Outcome) -> Result<SnapshotFacts, Fault> {
    match outcome {
        Outcome::Snapshot(facts) => Ok(facts),
        _ => Err(astray()),
    }
}

fn astray() -> Fault {
    Fault::new(FaultKind::Internal, "an agent told of another outcome than that of its order")
}

#[cfg(test)]
mod tests;
