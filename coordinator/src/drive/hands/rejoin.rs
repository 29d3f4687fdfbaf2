//! Notes of replaced primaries, and what one of them holds.

use baton_proto::compared::{Compared, Comparing};
use baton_proto::control::{Action, Outcome};
use baton_proto::deposed::Deposition;
use baton_proto::{Fault, FaultKind, InstanceRef};

use super::{AgentHands, Shown, primary, running, task};
use crate::observe::together;
use crate::run::Learnt;

impl AgentHands<'_> {
    /// Every keeper must have the note, and the deposed one's own agent if it answers: the others tell it once it does.
    pub(super) async fn depose(
        &self,
        keepers: &[InstanceRef],
        own: Option<&InstanceRef>,
        note: &Deposition,
        progress: Shown<'_>,
    ) -> Result<Vec<Learnt>, Fault> {
        let mut learnt = Vec::new();
        // Whoever hears of it by another agent believes the end of it by this alone.
        let seal = self.agents.credentials().seal(&note.words())?;
        let note = &Deposition { seal: Some(seal.to_string()), ..note.clone() };
        // A later word on the same run is another task.
        let name = format!("note-{:?}", note.standing).to_lowercase();
        let order = || Action::Depose { deposition: Box::new(note.clone()) };
        let told = |keeper| {
            let name = task(&name, keeper);
            async move { self.one(&name, keeper, order(), progress).await }
        };
        for noted in together(keepers, told).await {
            match noted {
                Ok(noted) => learnt.extend(noted),
                Err(fault) if note.stands() || fault.kind == FaultKind::Held => return Err(fault),
                // The word of the others comes round to it: what it tells the deposed one is answered by the later word.
                Err(_) => {}
            }
        }
        if let Some(own) = own {
            // It need not answer, so it is had only now.
            let ordered = async {
                self.agents.claim(own, self.seat).await?;
                self.one(&task(&name, own), own, order(), progress).await
            };
            match ordered.await {
                Ok(noted) => learnt.extend(noted),
                Err(fault) if !note.stands() => {
                    learnt.push(Learnt::Shortfall(format!("{own} still holds that it is deposed: {fault}")));
                }
                Err(_) => {}
            }
        }
        Ok(learnt)
    }

    /// Saves aside what the deposed one holds, compares it if asked, and looks at whom it will follow.
    pub(super) async fn save_aside(
        &self,
        deposed: &InstanceRef,
        to: &InstanceRef,
        (note, compare): (&Deposition, Option<&Comparing>),
        progress: Shown<'_>,
    ) -> Result<Vec<Learnt>, Fault> {
        let action = Action::SaveAside { deposition: Box::new(note.clone()), compare: compare.cloned() };
        let mut learnt = self.one("aside", deposed, action, progress).await?;
        if compare.is_some() {
            learnt.iter_mut().for_each(|learnt| told_of_comparing(deposed, learnt));
        }
        let report = self.agents.observe_instance(to).await?;
        let now = running(to, &report)?;
        learnt.push(Learnt::Counters { on: to.clone(), counters: now.replication.counters });
        learnt.push(primary(to, now));
        Ok(learnt)
    }
}

/// An agent that does not know of comparing says nothing of it.
fn told_of_comparing(deposed: &InstanceRef, learnt: &mut Learnt) {
    if let Learnt::Outcome { outcome: Outcome::SavedAside(facts), .. } = learnt {
        let why = || format!("the agent of {} is older than that it could", deposed.host);
        facts.compared.get_or_insert_with(|| Compared::NotMade { why: why() });
    }
}
