//! The canary: a key that is written on the primary and must be seen on its replica.

use baton_proto::control::Action;
use baton_proto::report::{InstanceReport, Role};
use baton_proto::{Fault, InstanceRef};

use super::{AgentHands, Shown};
use crate::run::Learnt;

/// How long a canary may take to reach a replica whose link is up.
const CANARY_TIMEOUT_SECONDS: u32 = 10;

impl AgentHands<'_> {
    pub(super) async fn canary(
        &self,
        primary: &InstanceRef,
        replica: &InstanceRef,
        progress: Shown<'_>,
    ) -> Result<Vec<Learnt>, Fault> {
        let value = format!("{:016x}", rand::random::<u64>());
        let write = Action::WriteCanary { value: value.clone() };
        let mut learnt = self.one(&format!("canary-{value}"), primary, write, progress).await?;
        let read = Action::ReadCanary { value: value.clone(), timeout_seconds: CANARY_TIMEOUT_SECONDS };
        let seen = self.one(&format!("canary-{value}"), replica, read, progress).await;
        // Seen or not, it is no key of anybody's.
        let dropped = self.one(&format!("canary-drop-{value}"), primary, Action::DropCanary, progress).await;
        learnt.extend(seen?);
        learnt.extend(dropped?);
        Ok(learnt)
    }

    /// Drops the canary of a coordinator that died between writing and dropping it, where the step is passed over. It would
    /// expire by itself, so that nothing depends on this.
    pub(super) async fn drop_canary(&self, on: &[&InstanceRef], progress: Shown<'_>) {
        for on in on {
            let report = self.agents.observe_instance(on).await;
            let leads = |report: InstanceReport| {
                report.server.running().is_some_and(|now| matches!(now.role, Role::Primary { .. }))
            };
            if report.is_ok_and(leads) {
                let _ = self.one("canary-left", on, Action::DropCanary, progress).await;
            }
        }
    }
}
