//! The journal of a run that this coordinator drives: a file here, and a copy on every host that takes part.
//!
//! ```text
//!   event ──> the file, synced ──> each host that is acted on, one at least ──> the act there
//!                                └─> all others, while that goes on
//! ```
//!
//! Where it can, the order brings the journal's end along, and its agent keeps that first. So the word of an act is wherever its
//! effects are. A step's end goes out with the next step's start, since nothing is done in between. When the run stops, all
//! hosts are told before this coordinator goes.

use std::sync::Arc;

use baton_proto::{Fault, FaultKind, HostName, InstanceRef};

use super::copies::{Copies, Wanted};
use super::{Journal, JournalError, Record, seal};
use crate::client::{Agents, Seat};
use crate::drive::Log;
use crate::run::Event;

/// How often a host is told anew that keeps another beginning than it should.
const ATTEMPTS_MAX: usize = 3;

pub struct Kept<'a> {
    file: Journal,
    agents: &'a Agents,
    seat: &'a Seat,
    text: Arc<str>,
    copies: Copies<'a>,
}

impl<'a> Kept<'a> {
    /// `text` is what the file holds already, `instances` all that the run changes.
    pub fn new(
        file: Journal,
        text: String,
        agents: &'a Agents,
        seat: &'a Seat,
        instances: Vec<InstanceRef>,
    ) -> Kept<'a> {
        let hosts = crate::seat::hosts(&instances);
        let instances = Arc::<[InstanceRef]>::from(instances);
        let copies = Copies::new(hosts, (seat.run.clone(), agents.carried()), move |host, from, text| {
            let instances = Arc::clone(&instances);
            Box::pin(async move { tell(agents, seat, &instances, (&host, from), &text).await })
        });
        Kept { file, agents, seat, text: text.into(), copies }
    }
}

impl Log for Kept<'_> {
    async fn append(&mut self, event: &Event, acts_on: Option<&[HostName]>) -> Result<(), JournalError> {
        let line = serde_json::to_string(&Record::now(event)).map_err(JournalError::Event)?;
        let sealed = seal::seal(self.agents.credentials(), &self.seat.run, &self.text, &line);
        let line = sealed.map_err(JournalError::Seal)?;
        self.file.append(&line)?;
        self.text = [&*self.text, &line].concat().into();
        match event {
            // Something is done next, on the word of this.
            Event::Begun { .. } | Event::TakenUp { .. } | Event::StepStarted { .. } | Event::UndoStarted { .. } => {
                self.copies.bring_up_to(&self.text, acts_on.map_or(Wanted::All, Wanted::These)).await
            }
            Event::Interrupted | Event::Ended { .. } => match self.copies.bring_up_to(&self.text, Wanted::All).await {
                Err(JournalError::NoCopy(_)) | Ok(()) => Ok(()),
                Err(error) => Err(error),
            },
            // The next step's start takes it along.
            Event::StepDone { .. } | Event::StepFailed { .. } | Event::Undone { .. } | Event::UndoFailed { .. } => {
                Ok(())
            }
        }
    }

    async fn spread(&mut self) -> Fault {
        self.copies.spread().await
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
                    agents.reclaim(instance, seat, &fault).await?;
                }
            }
            Err(fault) => return Err(fault),
        }
        // It lost what it kept, or keeps more than it should: it gets all anew.
        from = 0;
    }
    Err(Fault::new(FaultKind::Host, format!("{host} does not keep the journal that it is told")))
}
