//! Finding a run's journal again: here, and on the hosts that take part.
//!
//! Of several copies the one that counts is that of the latest turn, and of those the longest: whoever was taken over writes
//! nothing more to any host. A host is not believed what no operator has [sealed](super::seal).

use std::time::Duration;

use baton_proto::{Fault, FaultKind, HostName, RunId};

use super::{JournalError, Journals, Record, parse, seal, whole};
use crate::client::Agents;
use crate::run::Event;

/// How long a host may take to tell a journal.
const RECALL_TIMEOUT: Duration = Duration::from_secs(5);

/// A journal that was found.
pub struct Found {
    pub text: String,
    pub records: Vec<Record>,
    /// Which host tells it, and why it is not to be believed.
    doubt: Option<(HostName, String)>,
    /// Who may keep a longer one, and why it was not told.
    pub untold: Vec<(HostName, Fault)>,
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

    /// A torn last line is cut off.
    fn of(mut text: String) -> Result<Option<Found>, (usize, serde_json::Error)> {
        let records = parse(text.as_bytes())?;
        text.truncate(whole(text.as_bytes()).len());
        Ok(if records.is_empty() { None } else { Some(Found { text, records, doubt: None, untold: Vec::new() }) })
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
        let late = || Fault::new(FaultKind::Peer, format!("not within {}s", RECALL_TIMEOUT.as_secs()));
        let text = tokio::time::timeout(RECALL_TIMEOUT, agents.recall(&host, run)).await;
        (host, text.unwrap_or_else(|_| Err(late())))
    });
    let mut unread = None;
    let mut found: Vec<Found> = Vec::new();
    let mut untold = Vec::new();
    for (host, text) in recalled.await {
        let text = match text {
            Ok(text) => text,
            Err(fault) if fault.kind == FaultKind::NotFound => continue,
            Err(fault) => {
                untold.push((host, fault));
                continue;
            }
        };
        match Found::of(text) {
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
    let best = best.map(|best| Found { untold, ..best });
    best.ok_or_else(|| unread.or(unknown).unwrap_or_else(dir))
}
