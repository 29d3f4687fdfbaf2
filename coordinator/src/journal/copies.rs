//! A run's journal in more than one place: a file here, and a copy on every host that takes part.
//!
//! ```text
//!   event ──> the file, synced ──> before anything is done: every host that answers, one at least ──> the act
//! ```
//!
//! A step's end goes out with the next step's start, since nothing is done in between. A host that does not answer is
//! passed over, and gets what it missed once it does. Of several copies the one that counts is that of the latest turn, and
//! of those the longest: a coordinator that was taken over writes nothing more to any host. A host is not believed what no
//! operator has [sealed](super::seal).

use std::time::Duration;

use baton_proto::{Fault, FaultKind, HostName, InstanceRef, RunId};

use super::{Journal, JournalError, Journals, Record, parse, seal};
use crate::client::{Agents, Seat};
use crate::drive::Log;
use crate::run::Event;

/// How long a host may take to keep what it is told.
const COPY_TIMEOUT: Duration = Duration::from_secs(3);
/// The same for one that did not the last time: a host that is gone must not hold up every step.
const RETRY_TIMEOUT: Duration = Duration::from_millis(300);
/// How long a host may take to tell a journal.
const RECALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How often a host is told anew that keeps another beginning than it should.
const ATTEMPTS_MAX: usize = 3;

/// The journal of a run that this coordinator drives.
pub struct Kept<'a> {
    file: Journal,
    agents: &'a Agents,
    seat: &'a Seat,
    /// All that the run changes.
    instances: Vec<InstanceRef>,
    text: String,
    copies: Vec<Copy>,
}

struct Copy {
    host: HostName,
    /// How much of the journal it keeps.
    bytes: usize,
    answers: bool,
}

impl<'a> Kept<'a> {
    /// `text` is what the file holds already.
    pub fn new(
        file: Journal,
        text: String,
        agents: &'a Agents,
        seat: &'a Seat,
        instances: Vec<InstanceRef>,
    ) -> Kept<'a> {
        let hosts = crate::seat::hosts(&instances).into_iter();
        let copies = hosts.map(|host| Copy { host, bytes: 0, answers: true }).collect();
        Kept { file, agents, seat, instances, text, copies }
    }

    /// Brings every copy up to the journal's end. Yields how many hosts keep all of it, or why none does.
    async fn copy(&mut self) -> Result<usize, JournalError> {
        let (agents, seat, text, instances) = (self.agents, self.seat, self.text.as_str(), self.instances.as_slice());
        let mut telling = Vec::new();
        for copy in &mut self.copies {
            telling.push(async move {
                let limit = if copy.answers { COPY_TIMEOUT } else { RETRY_TIMEOUT };
                let told =
                    tokio::time::timeout(limit, tell(agents, seat, instances, (&copy.host, copy.bytes), text)).await;
                let told = told.unwrap_or_else(|_| Err(late(&copy.host)));
                copy.answers = told.is_ok();
                if told.is_ok() {
                    copy.bytes = text.len();
                }
                told
            });
        }
        let mut kept = 0;
        let mut missed = Fault::new(FaultKind::NotFound, "no host takes part");
        for told in crate::observe::together(telling, |telling| telling).await {
            match told {
                Ok(()) => kept += 1,
                Err(fault) if fault.kind == FaultKind::Held => return Err(JournalError::Held(fault)),
                Err(fault) => missed = fault,
            }
        }
        match missed.kind {
            _ if kept > 0 => Ok(kept),
            // No host has anything of the run.
            FaultKind::NotFound => Err(JournalError::Held(missed)),
            _ => Err(JournalError::NoCopy(missed)),
        }
    }
}

async fn tell(
    agents: &Agents,
    seat: &Seat,
    instances: &[InstanceRef],
    (host, mut from): (&HostName, usize),
    text: &str,
) -> Result<(), Fault> {
    for _ in 0..ATTEMPTS_MAX {
        let rest = text.get(from..).unwrap_or_default();
        match agents.record(host, seat, from as u64, rest).await {
            Ok(bytes) if bytes == text.len() as u64 => return Ok(()),
            Ok(_) => {}
            Err(fault) if fault.kind == FaultKind::Held => {
                for instance in instances.iter().filter(|instance| instance.host == *host) {
                    reclaim(agents, seat, instance, &fault).await?;
                }
            }
            Err(fault) => return Err(fault),
        }
        // It lost what it kept, or keeps more than it should: it gets all anew.
        from = 0;
    }
    Err(Fault::new(FaultKind::Host, format!("{host} does not keep the journal that it is told")))
}

/// Claims an instance whose host was away when the turn was taken, and still has the turn before; or is told that another has
/// the next. One that the run has no more is not claimed: whoever took the run up has ended it, and given it back.
async fn reclaim(agents: &Agents, seat: &Seat, instance: &InstanceRef, denied: &Fault) -> Result<(), Fault> {
    match agents.observe_instance(instance).await?.claim {
        Some(claim) if claim.run == seat.run => agents.claim(instance, seat).await,
        _ => Err(Fault { kind: FaultKind::NotFound, ..denied.clone() }),
    }
}

fn late(host: &HostName) -> Fault {
    Fault::new(FaultKind::Peer, format!("the agent of {host} did not answer in time"))
}

impl Log for Kept<'_> {
    async fn append(&mut self, event: &Event) -> Result<(), JournalError> {
        let line = serde_json::to_string(&Record::now(event)).map_err(JournalError::Event)?;
        let sealed = seal::seal(self.agents.credentials(), &self.seat.run, &self.text, &line);
        let line = sealed.map_err(JournalError::Seal)?;
        self.file.append(&line)?;
        self.text += &line;
        match event {
            // Something is done next, on the word of this.
            Event::Begun { .. } | Event::TakenUp { .. } | Event::StepStarted { .. } | Event::UndoStarted { .. } => {
                self.copy().await.map(drop)
            }
            Event::Interrupted | Event::Ended { .. } => match self.copy().await {
                Err(JournalError::NoCopy(_)) | Ok(_) => Ok(()),
                Err(error) => Err(error),
            },
            // The next step's start takes it along.
            Event::StepDone { .. } | Event::StepFailed { .. } | Event::Undone { .. } | Event::UndoFailed { .. } => {
                Ok(())
            }
        }
    }
}

/// A journal that was found.
pub struct Found {
    pub text: String,
    pub records: Vec<Record>,
    /// Which host tells it, and why it is not to be believed.
    doubt: Option<(HostName, String)>,
}

impl Found {
    /// The epoch of the last turn that wrote into it.
    pub fn epoch(&self) -> u32 {
        let epochs = self.records.iter().filter_map(|record| match record.event {
            Event::TakenUp { epoch, .. } => Some(epoch),
            _ => None,
        });
        epochs.max().unwrap_or(1)
    }
}

impl Found {
    fn of(text: String) -> Result<Option<Found>, (usize, serde_json::Error)> {
        let records = parse(text.as_bytes())?;
        Ok(if records.is_empty() { None } else { Some(Found { text, records, doubt: None }) })
    }

    /// Why nothing is to be done on the word of it, if so.
    pub fn doubted(&self, run: &RunId) -> Option<JournalError> {
        let (host, reason) = self.doubt.clone()?;
        Some(JournalError::Unsealed { run: run.clone(), host, reason })
    }

    /// The same of a host's copy, if an operator has written it.
    fn judged(mut self, agents: &Agents, host: HostName, run: &RunId) -> Found {
        self.doubt = seal::sealed_by(agents.credentials(), run, &self.text).err().map(|reason| (host, reason));
        self
    }

    /// Whether a host has a part in the run, by its plan: others have nothing to tell of it.
    fn has_part(&self, host: &HostName) -> bool {
        match self.records.first().map(|record| &record.event) {
            Some(Event::Begun { plan, .. }) => plan.instances().iter().any(|instance| instance.host == *host),
            _ => false,
        }
    }

    fn begins_as(&self, other: &Found) -> bool {
        self.records.first() == other.records.first()
    }
}

/// Finds the journal of a run, here and on those of the hosts that answer and have a part in it. Where there is one here, only copies
/// that began as it did count. A copy that nobody has sealed is found only where none says as much.
pub async fn find(
    journals: &Journals,
    hosts: Vec<HostName>,
    agents: &Agents,
    run: &RunId,
) -> Result<Found, JournalError> {
    let damaged = |(line, error)| JournalError::Line { path: journals.path(run), line, error };
    let (here, unknown) = match journals.text(run) {
        Ok(text) => (Found::of(text).map_err(damaged)?, None),
        Err(error @ JournalError::Unknown { .. }) => (None, Some(error)),
        Err(error) => return Err(error),
    };
    let recalled = crate::observe::together(hosts, |host| async move {
        let text = tokio::time::timeout(RECALL_TIMEOUT, agents.recall(&host, run)).await.ok()?.ok()?;
        Some((host, Found::of(text)))
    });
    let mut unread = None;
    let mut found: Vec<Found> = Vec::new();
    for (host, copy) in recalled.await.into_iter().flatten() {
        match copy {
            Ok(Some(copy)) if copy.has_part(&host) && here.as_ref().is_none_or(|here| here.begins_as(&copy)) => {
                found.push(copy.judged(agents, host, run));
            }
            Ok(_) => {}
            // A copy that is damaged does not hide a whole one.
            Err((line, error)) => unread = Some(JournalError::Copy { host, line, error }),
        }
    }
    found.extend(here);
    let best = found.into_iter().max_by_key(|found| (found.epoch(), found.records.len(), found.doubt.is_none()));
    let dir = || JournalError::Unknown { run: run.clone(), dir: journals.dir.clone() };
    best.ok_or_else(|| unread.or(unknown).unwrap_or_else(dir))
}
