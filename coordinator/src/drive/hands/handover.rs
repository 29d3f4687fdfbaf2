//! Having a primary hand over. The primary's agent does it; the replica's agent only writes the first key as soon as it
//! can, which the primary's agent waits for: that is how long writes were blocked.

use baton_proto::control::Action;
use baton_proto::report::Role;
use baton_proto::{Fault, FaultKind, HostPort, InstanceRef};

use super::transfer::Crew as _;
use super::{AgentHands, Shown, primary, running, task};
use crate::plan::Resync;
use crate::plan::step::Upstream;
use crate::run::Learnt;

/// How much longer than the handover the replica waits for its first write: the primary's lock may not be free at once.
const AWAIT_LONGER_MS: u32 = 30_000;

impl AgentHands<'_> {
    pub(super) async fn hand_over(
        &self,
        from: &InstanceRef,
        to: &Upstream,
        seen_as: &HostPort,
        timeout_ms: u32,
        progress: Shown<'_>,
    ) -> Result<Vec<Learnt>, Fault> {
        let heir = &to.instance;
        let before = self.counters_now(heir).await?;
        let canary = format!("{:016x}", rand::random::<u64>());
        let awaiting =
            Action::AwaitWrites { value: canary.clone(), timeout_ms: timeout_ms.saturating_add(AWAIT_LONGER_MS) };
        self.order_until_ready(&format!("await-{canary}"), heir, awaiting, progress).await?;
        let action = Action::HandOver { to: seen_as.clone(), canary, timeout_ms };
        let ordered = self.order(&task("hand-over", from), from, action, progress).await;
        let mut learnt = Vec::new();
        let found = match ordered {
            Ok(outcome) => {
                let found = matches!(&outcome, baton_proto::control::Outcome::HandedOver(facts) if facts.found);
                learnt.push(Learnt::Outcome { on: from.clone(), outcome });
                found
            }
            Err(fault) if fault.kind == FaultKind::Refused => return Err(fault),
            // The primary or its agent may be lost, and the replica have taken over: then that is what counts.
            Err(fault) => match self.agents.observe_instance(heir).await {
                Ok(report) if report.server.running().is_some_and(|now| matches!(now.role, Role::Primary { .. })) => {
                    learnt.push(Learnt::Shortfall(format!(
                        "{heir} has taken over, and {from} is not seen to follow it: {fault}"
                    )));
                    true
                }
                _ => return Err(fault),
            },
        };
        let report = self.agents.observe_instance(heir).await?;
        let now = running(heir, &report)?;
        if !matches!(now.role, Role::Primary { .. }) {
            return Err(Fault::new(FaultKind::Verification, format!("{from} follows {heir}, which is no primary"))
                .hint("look at `coord status`: somebody else changed its role"));
        }
        learnt.push(primary(heir, now));
        if !found {
            learnt.extend(self.joined(from, heir, Resync::between(before, now.replication.counters)));
        }
        Ok(learnt)
    }
}
