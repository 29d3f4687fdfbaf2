//! What each step asks of which agent. Every order can be given again, so every step can.

mod canary;
mod handover;
mod join;
mod left;
mod rejoin;
mod transfer;

use baton_proto::control::{Action, Outcome, Progress, SaveMethod, Saving};
use baton_proto::deposed::{Deposition, Standing};
use baton_proto::report::{InstanceReport, Link, Role, Running, SyncCounters};
use baton_proto::{Fault, FaultKind, HostName, HostPort, InstanceRef};

use self::transfer::{Crew, Transfer, snapshot_task};
use crate::client::{Agents, Followed, Seat, Until};
use crate::drive::Hands;
use crate::plan::spool::HOLD_SECONDS;
use crate::plan::step::{Survivor, Upstream};
use crate::plan::steps::LOAD_TIMEOUT_SECONDS;
use crate::plan::{Forecast, Step};
use crate::run::{Learnt, Ledger};

/// How long a replica may take to come level: a full resync takes a save, a transfer and a load.
const JOIN_TIMEOUT_SECONDS: u32 = 3600;
/// How long the first rewrite of an append-only file may take.
const AOF_TIMEOUT_SECONDS: u32 = 3600;

/// Carries steps out through the agents.
pub struct AgentHands<'a> {
    pub agents: &'a Agents,
    pub seat: &'a Seat,
    /// The run was taken up: what a step does may have been done before.
    pub taken_up: bool,
    /// What the plan has foretold; the counters are held against it.
    pub forecasts: &'a [Forecast],
}

type Shown<'a> = &'a (dyn Fn(&InstanceRef, &Progress) + Sync);

impl Hands for AgentHands<'_> {
    async fn perform(&self, step: &Step, ledger: &Ledger, progress: Shown<'_>) -> Result<Vec<Learnt>, Fault> {
        match step {
            Step::Fence { replicas } => self.fence(replicas, progress).await,
            Step::Depose { keepers, own, deposition } => self.depose(keepers, own.as_ref(), deposition, progress).await,
            Step::SaveAside { deposed, primary, deposition, compare } => {
                self.save_aside(deposed, primary, (deposition, compare.as_ref()), progress).await
            }
            Step::Promote { on } => self.promote(on, progress).await,
            Step::HandOver { from, to, seen_as, timeout_ms } => {
                self.hand_over(from, to, seen_as, *timeout_ms, progress).await
            }
            Step::Backlog { source, bytes, hold_seconds } => {
                self.backlog(source, *bytes, *hold_seconds, ledger, progress).await
            }
            Step::Spool { source } => {
                self.one("spool", source, Action::Spool { hold_seconds: HOLD_SECONDS }, progress).await
            }
            Step::Snapshot { source, method } => self.snapshot(source, *method, progress).await,
            Step::Transfer { source, target, method, budget, landing } => {
                let (method, budget) = (*method, *budget);
                let transfer = Transfer { crew: self, run: &self.seat.run, source, target, method, budget, landing };
                let mut learnt = Vec::new();
                if landing.follow().is_some() {
                    // The target joins the source by itself as soon as it has loaded: count before.
                    learnt.push(self.counters(source).await?);
                }
                learnt.extend(transfer.carry(ledger.snapshot(), progress).await?);
                Ok(learnt)
            }
            Step::Stop { target, save, .. } => {
                let save = if *save { Saving::Always } else { Saving::Empty };
                self.one("stop", target, Action::Stop { save }, progress).await
            }
            Step::Install { target } => self.one("install", target, Action::Install, progress).await,
            Step::Boot { target } => self.start(target, None, progress).await,
            Step::Start { target, follow } => self.start(target, follow.as_ref(), progress).await,
            Step::Gate { source, target } => self.gate(source, target, ledger).await,
            Step::Attach { replica, to } => self.attach(replica, to, ledger, progress).await,
            Step::AttachSiblings { replicas, to } => self.attach_siblings(replicas, to, ledger, progress).await,
            Step::EnableAof { target, .. } => {
                self.one("aof", target, Action::EnableAof { timeout_seconds: AOF_TIMEOUT_SECONDS }, progress).await
            }
            Step::Persist { instances } => self.persist(instances, progress).await,
            Step::Canary { primary, replica } => self.canary(primary, replica, progress).await,
            Step::LeftBehind { replicas, hosts, strangers, from, to } => {
                Ok(self.left_behind(replicas, hosts, strangers, (from, to)).await)
            }
            Step::Release { source, target, keep_old } => {
                self.release(source, target, *keep_old, ledger, progress).await
            }
        }
    }

    async fn undo(&self, step: &Step) -> Result<Vec<Learnt>, Fault> {
        let nobody = |_: &InstanceRef, _: &Progress| {};
        match step {
            Step::HandOver { from, timeout_ms, .. } => {
                self.one("undo-hand-over", from, Action::KeepPrimary { timeout_ms: *timeout_ms }, &nobody).await
            }
            Step::Depose { keepers, own, deposition } => {
                let back = Deposition { standing: Standing::Reinstated, ..(**deposition).clone() };
                self.depose(keepers, own.as_ref(), &back, &nobody).await
            }
            Step::Backlog { source, .. } => self.one("undo-backlog", source, Action::GiveBack, &nobody).await,
            Step::Spool { source } => self.one("undo-spool", source, Action::GiveBack, &nobody).await,
            // While the save still runs this waits for its end in the agent: what a server writes cannot be called back.
            Step::Snapshot { source, .. } => {
                self.one("undo-snapshot", source, Action::Release { keep_old: true }, &nobody).await
            }
            // Not released: where the undo of what came after has failed, what it needs is still there when it is tried again.
            Step::Transfer { target, .. } => self.one("undo-transfer", target, Action::Restore, &nobody).await,
            Step::Stop { target, appendonly, .. } => self.start_again(target, *appendonly, &nobody).await,
            Step::Install { target } => self.one("undo-install", target, Action::Restore, &nobody).await,
            Step::Start { target, .. } | Step::Boot { target } => {
                self.one("undo-load", target, Action::Stop { save: Saving::IfChanged }, &nobody).await
            }
            _ => Ok(Vec::new()),
        }
    }
}

impl Crew for AgentHands<'_> {
    async fn order(&self, name: &str, on: &InstanceRef, action: Action, progress: Shown<'_>) -> Result<Outcome, Fault> {
        self.agents.order(self.seat, name, on, action, |state| progress(on, state)).await
    }

    async fn order_until_ready(
        &self,
        name: &str,
        on: &InstanceRef,
        action: Action,
        progress: Shown<'_>,
    ) -> Result<Option<Outcome>, Fault> {
        self.agents.order_until_ready(self.seat, name, on, action, |state| progress(on, state)).await
    }

    async fn join(&self, name: &str, on: &InstanceRef, until: Until, progress: Shown<'_>) -> Result<Followed, Fault> {
        self.agents.join(self.seat, name, on, until, |state| progress(on, state)).await
    }

    fn address(&self, host: &HostName) -> Result<HostPort, Fault> {
        self.agents.address(host).cloned()
    }
}

impl AgentHands<'_> {
    /// A step that is one order.
    async fn one(
        &self,
        name: &str,
        on: &InstanceRef,
        action: Action,
        progress: Shown<'_>,
    ) -> Result<Vec<Learnt>, Fault> {
        let outcome = self.order(&task(name, on), on, action, progress).await?;
        Ok(vec![Learnt::Outcome { on: on.clone(), outcome }])
    }

    /// Looks once more before the first change: a primary that came back since the plan was made is not lost.
    async fn fence(&self, replicas: &[Survivor], progress: Shown<'_>) -> Result<Vec<Learnt>, Fault> {
        for replica in replicas {
            let report = self.agents.observe_instance(&replica.instance).await?;
            stands_as_planned(replica, running(&replica.instance, &report)?)?;
        }
        let mut learnt = Vec::new();
        for replica in replicas {
            let fence = Action::Fence { expect: replica.lineage.clone() };
            learnt.extend(self.one("fence", &replica.instance, fence, progress).await?);
        }
        Ok(learnt)
    }

    /// Has the snapshot begun, and goes on as soon as it can be sent. What it comes to is learnt by the transfer, unless it
    /// has ended by then.
    async fn snapshot(
        &self,
        source: &InstanceRef,
        method: SaveMethod,
        progress: Shown<'_>,
    ) -> Result<Vec<Learnt>, Fault> {
        if self.taken_up {
            // Begun before, it need not be taken twice; one that failed is.
            match self.join(&snapshot_task(source), source, Until::Ready, progress).await {
                Ok(Followed::Ready) => return Ok(Vec::new()),
                Ok(Followed::Done(outcome)) => return Ok(vec![Learnt::Outcome { on: source.clone(), outcome }]),
                Ok(Followed::Unknown) | Err(_) => {}
            }
        }
        let action = Action::Snapshot { method };
        let ended = self.order_until_ready(&snapshot_task(source), source, action, progress).await?;
        Ok(ended.into_iter().map(|outcome| Learnt::Outcome { on: source.clone(), outcome }).collect())
    }

    /// Has the source keep what is written from now on. It is recorded who it is afterwards: a server that had no backlog
    /// begins a new history with its first.
    async fn backlog(
        &self,
        source: &InstanceRef,
        bytes: u64,
        hold_seconds: u32,
        ledger: &Ledger,
        progress: Shown<'_>,
    ) -> Result<Vec<Learnt>, Fault> {
        if ledger.primary(source).is_some() {
            self.still_as_judged(source, ledger).await?;
        }
        let mut learnt = self.one("backlog", source, Action::Backlog { bytes, hold_seconds }, progress).await?;
        let report = self.agents.observe_instance(source).await?;
        learnt.push(primary(source, running(source, &report)?));
        Ok(learnt)
    }

    async fn promote(&self, on: &InstanceRef, progress: Shown<'_>) -> Result<Vec<Learnt>, Fault> {
        let mut learnt = self.one("promote", on, Action::Promote, progress).await?;
        let report = self.agents.observe_instance(on).await?;
        learnt.push(primary(on, running(on, &report)?));
        Ok(learnt)
    }

    /// Brings back the server that the run had stopped, with the files that stood there before.
    async fn start_again(&self, target: &InstanceRef, aof: bool, progress: Shown<'_>) -> Result<Vec<Learnt>, Fault> {
        let action = Action::Start { follow: None, timeout_seconds: LOAD_TIMEOUT_SECONDS };
        let mut learnt = self.one("undo-stop", target, action, progress).await?;
        if aof {
            let action = Action::EnableAof { timeout_seconds: AOF_TIMEOUT_SECONDS };
            learnt.extend(self.one("undo-stop-aof", target, action, progress).await?);
        }
        Ok(learnt)
    }

    async fn start(
        &self,
        target: &InstanceRef,
        follow: Option<&Upstream>,
        progress: Shown<'_>,
    ) -> Result<Vec<Learnt>, Fault> {
        let mut learnt = Vec::new();
        if let Some(upstream) = follow {
            // The target joins by itself as soon as it has loaded: count before.
            learnt.push(self.counters(&upstream.instance).await?);
        }
        let follow = follow.map(|upstream| upstream.address.clone());
        let action = Action::Start { follow, timeout_seconds: LOAD_TIMEOUT_SECONDS };
        learnt.extend(self.one("load", target, action, progress).await?);
        Ok(learnt)
    }

    async fn persist(&self, instances: &[InstanceRef], progress: Shown<'_>) -> Result<Vec<Learnt>, Fault> {
        let mut learnt = Vec::new();
        for instance in instances {
            match self.one("persist", instance, Action::Persist, progress).await {
                Ok(persisted) => learnt.extend(persisted),
                Err(fault) if fault.kind == FaultKind::Held => return Err(fault),
                Err(fault) => {
                    learnt.push(Learnt::Shortfall(format!("{instance} would not come back in its new role: {fault}")));
                }
            }
        }
        Ok(learnt)
    }

    /// Drops what the run put there. If something is missing, the pinned snapshot and the old files are kept: they may be
    /// the last good copy. Of one that was streamed nothing is pinned, and there is nothing to keep.
    async fn release(
        &self,
        source: &InstanceRef,
        target: &InstanceRef,
        keep_old: bool,
        ledger: &Ledger,
        progress: Shown<'_>,
    ) -> Result<Vec<Learnt>, Fault> {
        let mut learnt = Vec::new();
        if self.taken_up {
            self.drop_canary(&[source, target], progress).await;
        }
        let whole = ledger.shortfalls().next().is_none();
        let streamed = ledger.snapshot().is_some_and(|facts| facts.method == SaveMethod::Stream);
        let mut missed = None;
        let mut take = |released: Result<Vec<Learnt>, Fault>| match released {
            Ok(more) => more,
            Err(fault) => {
                // The others are not to wait for it.
                missed.get_or_insert(fault);
                Vec::new()
            }
        };
        if whole || streamed {
            learnt.extend(take(self.one("release", source, Action::Release { keep_old: true }, progress).await));
        }
        if !whole {
            let copy = if streamed {
                format!("the snapshot was streamed, and no file of it stays on {source}: keep the dump of {target}")
            } else {
                format!("the snapshot stays on {source} as baton-{}.pin.rdb; remove it when all is well", self.seat.run)
            };
            learnt.push(Learnt::Shortfall(copy));
            if ledger.backlog().is_some() && !streamed {
                learnt.extend(take(self.one("give-back", source, Action::GiveBack, progress).await));
            }
        }
        // The target last: what it kept is what the result tells.
        let release = Action::Release { keep_old: keep_old || !whole };
        learnt.extend(take(self.one("release", target, release, progress).await));
        missed.map_or(Ok(learnt), Err)
    }

    async fn counters(&self, on: &InstanceRef) -> Result<Learnt, Fault> {
        Ok(Learnt::Counters { on: on.clone(), counters: self.counters_now(on).await? })
    }

    async fn counters_now(&self, on: &InstanceRef) -> Result<SyncCounters, Fault> {
        let report = self.agents.observe_instance(on).await?;
        Ok(running(on, &report)?.replication.counters)
    }
}

fn primary(on: &InstanceRef, running: &Running) -> Learnt {
    let follows = match &running.role {
        Role::Primary { .. } => None,
        Role::Replica { primary, .. } => Some(primary.clone()),
    };
    Learnt::Primary { on: on.clone(), pid: running.pid, id: running.replication.lineage.id.clone(), follows }
}

/// Names the task of a step on one instance: a step may work on several of one host.
fn task(step: &str, on: &InstanceRef) -> String {
    format!("{step}-{}", on.instance)
}

fn running<'a>(name: &InstanceRef, report: &'a InstanceReport) -> Result<&'a Running, Fault> {
    let address: &HostPort = &report.address;
    report
        .server
        .running()
        .ok_or_else(|| Fault::new(FaultKind::Server, format!("the server of {name} at {address} does not answer")))
}

fn stands_as_planned(replica: &Survivor, now: &Running) -> Result<(), Fault> {
    let name = &replica.instance;
    let refuse = |why: String| {
        Err(Fault::new(FaultKind::Refused, format!("{name} is not as it was when the plan was made: {why}"))
            .hint("look at `coord status`: the primary may have come back"))
    };
    if let Role::Replica { link: Link::Up { .. } | Link::Syncing, primary, .. } = &now.role {
        return refuse(format!("it is linked to {primary}"));
    }
    if now.replication.lineage != replica.lineage {
        return refuse(format!("it stands at {}, not at {}", now.replication.lineage, replica.lineage));
    }
    Ok(())
}

fn no_record(step: &str) -> Fault {
    Fault::new(FaultKind::Internal, format!("the run has no record of its {step}"))
}
