//! The coordinator's connections to the agents. A connection that broke is made again: what the agent was doing goes on
//! there, and is joined.

mod follow;

use std::collections::HashMap;

use baton_proto::control::{Action, Order, Outcome, Progress, Reach, Reply, Request, TaskId};
use baton_proto::report::{HostReport, InstanceReport};
use baton_proto::{Fault, FaultKind, HostName, HostPort, InstanceRef, RunId};
use baton_wire::{Dialer, Link};
use tokio::sync::Mutex;

use crate::client::follow::{Ask, follow};
pub use crate::client::follow::{Followed, Until};
use crate::inventory::Inventory;

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

    /// Has `from`'s agent dial the agent of `to`. Yields why that does not answer it, if so.
    pub async fn knock(&self, from: &HostName, to: &HostName) -> Result<Option<Fault>, Fault> {
        let request = Request::Knock { host: to.clone(), address: self.address(to)?.clone() };
        match self.ask(from, &request).await? {
            Reply::Knocked { shut } => Ok(shut),
            other => Err(unexpected(from, &other)),
        }
    }

    pub async fn rehearse(&self, on: &InstanceRef, seconds: u32) -> Result<(), Fault> {
        match self.ask(&on.host, &Request::Rehearse { instance: on.instance.clone(), seconds }).await? {
            Reply::Rehearsing => Ok(()),
            other => Err(unexpected(&on.host, &other)),
        }
    }

    /// Changes how fast a run's snapshot is sent from a host. Yields the limits until now, one an offer.
    pub async fn limit(&self, host: &HostName, run: &RunId, max_rate: Option<u64>) -> Result<Vec<Option<u64>>, Fault> {
        match self.ask(host, &Request::Limit { run: run.clone(), max_rate }).await? {
            Reply::Limited { was } => Ok(was),
            other => Err(unexpected(host, &other)),
        }
    }

    /// Orders an action and follows it to its end. `name` names the task within the run: the same name joins the task
    /// that is there already. An agent that was restarted in between is given the order again: it goes on with what is
    /// left to do.
    pub async fn order(
        &self,
        run: &RunId,
        name: &str,
        on: &InstanceRef,
        action: Action,
        mut progress: impl FnMut(&Progress),
    ) -> Result<Outcome, Fault> {
        loop {
            let followed = self.begin(run, name, on, action.clone(), Until::End, &mut progress).await?;
            if let Followed::Done(outcome) = followed {
                return Ok(outcome);
            }
        }
    }

    /// Orders an action like [`Self::order`], and leaves it as soon as the next step can begin; then there is no outcome
    /// yet.
    pub async fn order_until_ready(
        &self,
        run: &RunId,
        name: &str,
        on: &InstanceRef,
        action: Action,
        mut progress: impl FnMut(&Progress),
    ) -> Result<Option<Outcome>, Fault> {
        loop {
            match self.begin(run, name, on, action.clone(), Until::Ready, &mut progress).await? {
                Followed::Ready => return Ok(None),
                Followed::Done(outcome) => return Ok(Some(outcome)),
                Followed::Unknown => {}
            }
        }
    }

    /// Follows a task that was ordered before. One that failed is not begun anew: its fault is the error.
    pub async fn join(
        &self,
        run: &RunId,
        name: &str,
        on: &InstanceRef,
        until: Until,
        progress: impl FnMut(&Progress),
    ) -> Result<Followed, Fault> {
        let task = TaskId { run: run.clone(), name: name.into() };
        let first = Request::Watch { task: task.clone(), seen: 0 };
        follow(&Agent { agents: self, host: &on.host }, &task, &first, until, progress).await
    }

    async fn begin(
        &self,
        run: &RunId,
        name: &str,
        on: &InstanceRef,
        action: Action,
        until: Until,
        progress: impl FnMut(&Progress),
    ) -> Result<Followed, Fault> {
        let task = TaskId { run: run.clone(), name: name.into() };
        let first = Request::Begin(Order { task: task.clone(), instance: on.instance.clone(), action });
        follow(&Agent { agents: self, host: &on.host }, &task, &first, until, progress).await
    }
}

/// One host's agent.
struct Agent<'a> {
    agents: &'a Agents,
    host: &'a HostName,
}

impl Ask for Agent<'_> {
    async fn ask(&self, request: &Request) -> Result<Reply, Fault> {
        self.agents.ask(self.host, request).await
    }
}

fn unexpected(host: &HostName, reply: &Reply) -> Fault {
    let what = follow::name(reply);
    Fault::new(FaultKind::Internal, format!("agent of {host} answered with {what}, which was not asked for"))
}
