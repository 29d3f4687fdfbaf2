//! Attaching replicas: the gate, one more look at the primary, the join, and what the counters say of it.

use baton_proto::control::{Action, ReachVerdict};
use baton_proto::report::{Role, Running, SyncCounters, total_keys};
use baton_proto::{Fault, FaultKind, InstanceRef, Lineage};

use super::{AgentHands, JOIN_TIMEOUT_SECONDS, Shown, no_record, primary, running};
use crate::gate;
use crate::plan::Resync;
use crate::plan::step::Upstream;
use crate::run::{Learnt, Ledger};

impl AgentHands<'_> {
    /// Holds the target against the source.
    pub(super) async fn gate(
        &self,
        source: &InstanceRef,
        target: &Upstream,
        ledger: &Ledger,
    ) -> Result<Vec<Learnt>, Fault> {
        let (target_now, findings) = self.judge(source, target, ledger).await?;
        let findings = all_hold(source, target, findings)?;
        let counters = Learnt::Counters { on: target.instance.clone(), counters: target_now.replication.counters };
        let keys = total_keys(&target_now.keyspace);
        Ok(vec![counters, primary(&target.instance, &target_now), Learnt::Gate { findings, keys }])
    }

    /// Passes the gate once more, and has the source's host try the way to the target for real. Yields what the target is.
    async fn pass(&self, source: &InstanceRef, target: &Upstream, ledger: &Ledger) -> Result<Running, Fault> {
        let reach = self.agents.reach(source, &target.address);
        let ((target_now, mut findings), reach) = tokio::try_join!(self.judge(source, target, ledger), reach)?;
        findings.push(gate::Finding {
            holds: reach.verdict == ReachVerdict::Open,
            says: format!("{source} reaches {} at {}: {}", target.instance, target.address, reach.detail),
        });
        all_hold(source, target, findings)?;
        Ok(target_now)
    }

    /// Looks at both servers now. Yields what the target is, and what was found.
    async fn judge(
        &self,
        source: &InstanceRef,
        target: &Upstream,
        ledger: &Ledger,
    ) -> Result<(Running, Vec<gate::Finding>), Fault> {
        let snapshot = ledger.snapshot().ok_or_else(|| no_record("snapshot"))?;
        let (source_now, target_now) =
            tokio::try_join!(self.agents.observe_instance(source), self.agents.observe_instance(&target.instance))?;
        let (source_now, target_now) = (running(source, &source_now)?, running(&target.instance, &target_now)?);
        let expected = gate::Expected {
            lineage: &snapshot.lineage,
            snapshot: snapshot.head.lineage.as_ref(),
            keyspace: &snapshot.keyspace,
            live: ledger.feed().is_some(),
        };
        let findings = gate::judge(&expected, source_now, target_now);
        Ok((target_now.clone(), findings))
    }

    pub(super) async fn attach(
        &self,
        replica: &InstanceRef,
        to: &Upstream,
        ledger: &Ledger,
        progress: Shown<'_>,
    ) -> Result<Vec<Learnt>, Fault> {
        if self.follows_already(replica, to).await? {
            let before = ledger.counters(&to.instance).ok_or_else(|| no_record("counters"))?;
            return self.join(replica, to, None, before, progress).await;
        }
        // A target that was started as a replica follows already, and has moved on since the snapshot.
        let is_aside = ledger.aside().is_some_and(|(on, _)| on == replica);
        let Some(stood) = ledger.fenced_at(replica).filter(|_| !is_aside) else {
            let before = ledger.counters(&to.instance).ok_or_else(|| no_record("counters"))?;
            self.still_as_judged(&to.instance, ledger).await?;
            // One that was saved aside must still stand there: what came since is in no file.
            let aside = ledger.aside().filter(|(on, _)| *on == replica).map(|(_, facts)| facts.lineage.clone());
            return self.join(replica, to, aside, before, progress).await;
        };
        // Time has passed since the gate, and a server that was restarted meanwhile may have come up empty.
        let now = self.pass(replica, to, ledger).await?;
        let before = as_judged(&to.instance, &now, ledger)?;
        self.join(replica, to, Some(stood.clone()), before, progress).await
    }

    /// One after the other, so that each one's resync can be told from the counters.
    pub(super) async fn attach_siblings(
        &self,
        replicas: &[InstanceRef],
        to: &Upstream,
        ledger: &Ledger,
        progress: Shown<'_>,
    ) -> Result<Vec<Learnt>, Fault> {
        let mut learnt = Vec::new();
        for replica in replicas {
            let joined = async {
                if self.follows_already(replica, to).await? {
                    let before = self.counters_now(&to.instance).await?;
                    return self.join(replica, to, None, before, progress).await;
                }
                let before = self.still_as_judged(&to.instance, ledger).await?;
                self.join(replica, to, ledger.fenced_at(replica).cloned(), before, progress).await
            };
            match joined.await {
                Ok(joined) => learnt.extend(joined),
                Err(fault) if fault.kind == FaultKind::Held => return Err(fault),
                Err(fault) => {
                    learnt.push(Learnt::Shortfall(format!("{replica} does not follow {}: {fault}", to.instance)));
                }
            }
        }
        Ok(learnt)
    }

    /// Whether a step that was begun before the run was taken up has had the replica follow: then it stands elsewhere than
    /// it was judged to, as it should.
    async fn follows_already(&self, replica: &InstanceRef, to: &Upstream) -> Result<bool, Fault> {
        if !self.taken_up {
            return Ok(false);
        }
        let report = self.agents.observe_instance(replica).await?;
        let role = report.server.running().map(|running| &running.role);
        Ok(matches!(role, Some(Role::Replica { primary, .. }) if *primary == to.address))
    }

    /// Sees that the server to be followed is the very process that was judged, in the role and with the data that it had
    /// then. Yields its counters.
    pub(super) async fn still_as_judged(&self, on: &InstanceRef, ledger: &Ledger) -> Result<SyncCounters, Fault> {
        let report = self.agents.observe_instance(on).await?;
        as_judged(on, running(on, &report)?, ledger)
    }

    async fn join(
        &self,
        replica: &InstanceRef,
        to: &Upstream,
        expect: Option<Lineage>,
        before: SyncCounters,
        progress: Shown<'_>,
    ) -> Result<Vec<Learnt>, Fault> {
        let follow = Action::Follow { to: to.address.clone(), expect, timeout_seconds: JOIN_TIMEOUT_SECONDS };
        let mut learnt = self.one("attach", replica, follow, progress).await?;
        let report = self.agents.observe_instance(&to.instance).await?;
        let resync = Resync::between(before, running(&to.instance, &report)?.replication.counters);
        learnt.extend(self.joined(replica, &to.instance, resync));
        Ok(learnt)
    }

    /// What the primary's counters say of a join, held against what was foretold.
    pub(super) fn joined(&self, replica: &InstanceRef, to: &InstanceRef, resync: Option<Resync>) -> Vec<Learnt> {
        let Some(resync) = resync else {
            if self.taken_up {
                // It joined before anybody counted.
                return Vec::new();
            }
            return vec![Learnt::Shortfall(format!("{to} counted no resync of {replica}"))];
        };
        let mut learnt = vec![Learnt::Joined { replica: replica.clone(), resync }];
        let foretold = self.forecasts.iter().find(|forecast| forecast.replica == *replica);
        if resync == Resync::Full && foretold.is_some_and(|forecast| forecast.resync == Resync::Partial) {
            learnt.push(Learnt::Shortfall(format!(
                "{replica} took everything anew, where a partial resync was foretold"
            )));
        }
        learnt
    }
}

/// What was found, in words, or what of it does not hold.
fn all_hold(source: &InstanceRef, target: &Upstream, findings: Vec<gate::Finding>) -> Result<Vec<String>, Fault> {
    let failed: Vec<_> = findings.iter().filter(|finding| !finding.holds).collect();
    if failed.is_empty() {
        return Ok(findings.into_iter().map(|finding| finding.says).collect());
    }
    let refused = format!("{} does not hold what {source} holds, so {source} is not attached to it", target.instance);
    Err(failed.into_iter().fold(Fault::new(FaultKind::Refused, refused), |fault, finding| fault.because(&finding.says)))
}

/// Compares a server with the one that was judged. Yields its counters.
fn as_judged(on: &InstanceRef, now: &Running, ledger: &Ledger) -> Result<SyncCounters, Fault> {
    let (pid, id, follows) = ledger.primary(on).ok_or_else(|| no_record("primary"))?;
    let same_role = match &now.role {
        Role::Primary { .. } => follows.is_none(),
        Role::Replica { primary, .. } => follows == Some(primary),
    };
    if same_role && !now.persistence.loading && now.pid == pid && now.replication.lineage.id == *id {
        return Ok(now.replication.counters);
    }
    Err(Fault::new(FaultKind::Refused, format!("{on} is not the server that was judged, so nothing follows it"))
        .because(format!(
            "process {pid} under {} then, process {} under {} now",
            id.short(),
            now.pid,
            now.replication.lineage
        ))
        .hint(format!("see the log of the server on {}: it was restarted, or changed its role", on.host)))
}
