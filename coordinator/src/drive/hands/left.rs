//! A last look at those that the plan could not move along: their agents may answer by now.

use std::time::Duration;

use baton_proto::HostPort;

use super::AgentHands;
use crate::observe::together;
use crate::plan::left::{self, Follows, Unmoved, Unseen};
use crate::plan::step::Upstream;
use crate::run::Learnt;

/// How long an agent that did not answer before may take now. The group serves: nobody waits for more than the result.
const LOOK_TIMEOUT: Duration = Duration::from_secs(5);

impl AgentHands<'_> {
    /// Names what was left behind. It changes nothing, and cannot fail.
    pub(super) async fn left_behind(
        &self,
        replicas: &[Unmoved],
        hosts: &[Unseen],
        strangers: &[HostPort],
        (from, to): (&[HostPort], &Upstream),
    ) -> Vec<Learnt> {
        let looked = together(replicas, |Unmoved { instance: name, command }| async move {
            let report = tokio::time::timeout(LOOK_TIMEOUT, self.agents.observe_instance(name)).await;
            let follows = report.ok().and_then(Result::ok).map(|report| left::follows(&report, from, &to.address));
            match follows {
                Some(Follows::New) => None,
                Some(Follows::Old { runs }) => Some(left::left_behind(name, runs, command)),
                Some(Follows::Other) | None => {
                    Some(format!("{name} does not follow {}; once it is well: {command}", to.instance))
                }
            }
        });
        let asked = together(hosts, |unseen| async move {
            let report = match tokio::time::timeout(LOOK_TIMEOUT, self.agents.observe(&unseen.host)).await {
                Ok(Ok(report)) => Ok(report),
                Ok(Err(fault)) => Err(fault.to_string()),
                Err(_) => Err(format!("not within {} s", LOOK_TIMEOUT.as_secs())),
            };
            left::missing_of(unseen, report.as_ref().map_err(Clone::clone), from, &to.address)
        });
        let (looked, asked) = tokio::join!(looked, asked);
        let strangers = strangers.iter().map(|address| {
            format!("{address} was left behind: no agent reports it; have it follow {} by hand", to.address)
        });
        let all = looked.into_iter().flatten().chain(asked.into_iter().flatten()).chain(strangers);
        all.map(Learnt::Shortfall).collect()
    }
}
