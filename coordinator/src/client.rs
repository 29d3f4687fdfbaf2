//! The coordinator's connections to the agents. A connection that broke is made again: what the agent was doing goes on
//! there, and is joined.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use baton_proto::control::{Action, Order, Outcome, Progress, Reach, Reply, Request, TaskId, TaskState, TaskStatus};
use baton_proto::report::{HostReport, InstanceReport};
use baton_proto::{Fault, FaultKind, HostName, HostPort, InstanceRef, RunId};
use baton_wire::{Dialer, Link};
use tokio::sync::Mutex;

use crate::inventory::Inventory;

/// How long an agent may be gone, in the middle of a task, before the step fails: enough for its restart.
const AGENT_GONE_MAX: Duration = Duration::from_secs(60);
/// Pause between two attempts to find an agent again.
const REDIAL_PAUSE: Duration = Duration::from_millis(500);

/// The agents of the inventory, dialled when first needed.
pub struct Agents {
    dialer: Dialer,
    addresses: HashMap<HostName, HostPort>,
    links: Mutex<HashMap<HostName, Link>>,
}

impl Agents {
    pub fn new(dialer: Dialer, inventory: &Inventory) -> Self {
        let addresses = inventory.hosts.iter().map(|(name, host)| (name.clone(), host.agent.clone())).collect();
        Self { dialer, addresses, links: Mutex::new(HashMap::new()) }
    }

    /// Where a host's agent listens.
    pub fn address(&self, host: &HostName) -> Result<&HostPort, Fault> {
        self.addresses.get(host).ok_or_else(|| {
            Fault::new(FaultKind::NotFound, format!("host {host} is not in coord.toml"))
                .hint(format!("add [hosts.{host}] with its agent's address"))
        })
    }

    async fn link(&self, host: &HostName) -> Result<Link, Fault> {
        if let Some(link) = self.links.lock().await.get(host) {
            return Ok(link.clone());
        }
        let link = self.dialer.dial(self.address(host)?, host).await?;
        self.links.lock().await.insert(host.clone(), link.clone());
        Ok(link)
    }

    /// Asks one thing. A connection that had gone stale is made anew once.
    pub async fn ask(&self, host: &HostName, request: &Request) -> Result<Reply, Fault> {
        match self.link(host).await?.ask(request).await {
            Err(fault) if fault.kind == FaultKind::Peer => {
                self.links.lock().await.remove(host);
                self.link(host).await?.ask(request).await
            }
            answer => answer,
        }
    }

    pub async fn observe(&self, host: &HostName) -> Result<HostReport, Fault> {
        match self.ask(host, &Request::Observe).await? {
            Reply::Observed(report) => Ok(*report),
            other => Err(unexpected(host, &other)),
        }
    }

    pub async fn observe_instance(&self, on: &InstanceRef) -> Result<InstanceReport, Fault> {
        let report = self.observe(&on.host).await?;
        let found = report.instances.into_iter().find(|instance| instance.name == on.instance);
        found.ok_or_else(|| Fault::new(FaultKind::NotFound, format!("{on} is gone from its agent's configuration")))
    }

    /// Has `from`'s agent try to reach a server the way `from` would as its replica.
    pub async fn reach(&self, from: &InstanceRef, to: &HostPort) -> Result<Reach, Fault> {
        let request = Request::Reach { instance: from.instance.clone(), to: to.clone() };
        match self.ask(&from.host, &request).await? {
            Reply::Reached(reach) => Ok(reach),
            other => Err(unexpected(&from.host, &other)),
        }
    }

    pub async fn rehearse(&self, on: &InstanceRef, seconds: u32) -> Result<(), Fault> {
        match self.ask(&on.host, &Request::Rehearse { instance: on.instance.clone(), seconds }).await? {
            Reply::Rehearsing => Ok(()),
            other => Err(unexpected(&on.host, &other)),
        }
    }

    /// Orders an action and follows it to its end. `name` names the task within the run: the same name joins the task
    /// that is there already.
    pub async fn order(
        &self,
        run: &RunId,
        name: &str,
        on: &InstanceRef,
        action: Action,
        mut progress: impl FnMut(&Progress),
    ) -> Result<Outcome, Fault> {
        let task = TaskId { run: run.clone(), name: name.into() };
        let order = Order { task: task.clone(), instance: on.instance.clone(), action };
        let begin = Request::Begin(order);
        let mut seen = None;
        let mut gone_since: Option<Instant> = None;
        loop {
            let request = match seen {
                Some(seen) => Request::Watch { task: task.clone(), seen },
                None => begin.clone(),
            };
            match self.ask(&on.host, &request).await {
                Ok(Reply::Task(TaskState { seq, status })) => {
                    gone_since = None;
                    seen = Some(seq);
                    match status {
                        TaskStatus::Running(state) => progress(&state),
                        TaskStatus::Done(outcome) => return Ok(outcome),
                        TaskStatus::Failed(fault) => return Err(fault),
                    }
                }
                Ok(other) => return Err(unexpected(&on.host, &other)),
                // The agent was restarted in between: ordering again goes on with what is left to do.
                Err(fault) if fault.kind == FaultKind::NotFound && seen.is_some() => seen = None,
                Err(fault) if fault.kind == FaultKind::Peer => {
                    let since = *gone_since.get_or_insert_with(Instant::now);
                    if since.elapsed() > AGENT_GONE_MAX {
                        return Err(fault.because(format!("gone for {}s", since.elapsed().as_secs())));
                    }
                    tokio::time::sleep(REDIAL_PAUSE).await;
                }
                Err(fault) => return Err(fault),
            }
        }
    }
}

fn unexpected(host: &HostName, reply: &Reply) -> Fault {
    let what = match reply {
        Reply::Observed(_) => "a report",
        Reply::Reached(_) => "a trial",
        Reply::Rehearsing => "a rehearsal",
        Reply::Task(_) => "a task",
        Reply::Limited { .. } => "a limit",
        Reply::Opened { .. } | Reply::Extent(_) => "a manifest",
        Reply::Sealing { .. } => "a seal",
        Reply::Sealed { .. } => "a seal",
    };
    Fault::new(FaultKind::Internal, format!("agent of {host} answered with {what}, which was not asked for"))
}
