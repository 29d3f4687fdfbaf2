//! The agent at work: accepts connections, decides who may ask what, and hands requests to where they are done.

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context;
use baton_proto::claim::Turn;
use baton_proto::control::{Answer, Order, Reply, Request};
use baton_proto::{Fault, FaultKind, HostName, InstanceName, RunId};
use baton_wire::{Arrival, Dialer, Listener, Peer, Responder, Role};
use tokio::sync::Semaphore;
use tracing::{Instrument, Span, debug, info, warn};

use crate::agent::{Agent, SOFTWARE};
use crate::blocking::try_blocking;
use crate::certificates::Certificates;
use crate::claims::Claims;
use crate::config::AgentConfig;
use crate::deposed::{self, Notes};
use crate::instance::Instance;
use crate::journals::Journals;
use crate::peers::Peers;
use crate::spool::Spools;
use crate::tasks::Tasks;
use crate::transfer::Offers;
use crate::visitors::Visitors;
use crate::{actions, log, metrics, notify, observe, peers, reach};

/// Most connections at a time, greeted or not: a few coordinators and the agents of a group.
const CONNECTIONS_MAX: usize = 256;

/// The agent and its long work.
struct Desk {
    agent: Arc<Agent>,
    tasks: Tasks,
    visitors: Visitors,
}

/// Runs until `stop` resolves. Tasks and servers that the agent started are left to themselves then.
pub async fn run(config: AgentConfig, stop: impl Future<Output = ()>) -> anyhow::Result<()> {
    std::fs::create_dir_all(&config.state)
        .with_context(|| format!("create state directory {}", config.state.display()))?;
    let certificates = Certificates::load(&config.identity, &config.state)?;
    let identity = certificates.credentials().identity();
    let Role::Agent(host) = identity.role().clone() else {
        anyhow::bail!(
            "identity {} is that of the {}; an agent needs one made by `coord pki issue HOST --dir DIR --out FILE`",
            config.identity.display(),
            identity.role()
        );
    };
    let listener = Listener::bind(certificates.credentials(), config.listen, SOFTWARE)
        .with_context(|| format!("listen on {} (UDP)", config.listen))?;
    let instances = config
        .instances
        .iter()
        .map(|instance| (instance.name.clone(), Arc::new(Instance::new(instance.clone(), &config))));
    let instances: BTreeMap<_, _> = instances.collect();
    let dialer = Dialer::new(certificates.credentials(), SOFTWARE)?;
    let offers = Offers::start().context("start the threads that pack snapshots")?;
    let notes = Notes::load(&config.state).context("read the notes of replaced primaries")?;
    let claims = Claims::load(&host, &config.state, instances.keys());
    let journals = Journals::open(&config.state).context("open the journals of runs")?;
    let peers = Peers::load(&config.state);
    let spools = Spools::default();
    let agent = Agent { host, config, instances, offers, spools, dialer, notes, peers, claims, journals, certificates };
    let agent = Arc::new(agent);
    info!(host = %agent.host, listen = %listener.local_addr()?, instances = agent.instances.len(), "agent is ready");
    actions::recover(&agent);
    tokio::spawn(peers::ask(Arc::clone(&agent)));
    if let Some(listen) = agent.config.metrics {
        let served = metrics::serve(Arc::clone(&agent), listen).await;
        served.with_context(|| format!("serve the pages for monitoring at {listen}"))?;
    }
    notify::ready();
    actions::guard(&agent);
    tokio::spawn(deposed::herald(Arc::clone(&agent)));
    let desk = Arc::new(Desk { agent, tasks: Tasks::default(), visitors: Visitors::default() });
    tokio::select! {
        () = accept(&desk, &listener) => {}
        () = stop => info!("agent is stopping; servers go on"),
    }
    notify::stopping();
    listener.close().await;
    Ok(())
}

async fn accept(desk: &Arc<Desk>, listener: &Listener) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    while let Some(arrival) = listener.accept().await {
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            warn!(peer = %arrival.address(), "connection refused: {CONNECTIONS_MAX} are open");
            continue;
        };
        let desk = Arc::clone(desk);
        tokio::spawn(async move {
            converse(desk, arrival).await;
            drop(permit);
        });
    }
}

async fn converse(desk: Arc<Desk>, arrival: Arrival) {
    let address = arrival.address();
    let peer = match arrival.greet().await {
        Ok(peer) => Arc::new(peer),
        Err(fault) => {
            info!(peer = %address, "connection refused: {fault}");
            return;
        }
    };
    debug!(peer = %address, role = %peer.role(), "connected");
    desk.visitors.enter(&peer);
    // A list may have come between the handshake and now. What it asked beside its greeting is not heard either.
    let credentials = desk.agent.certificates.credentials();
    desk.visitors.turn_out(credentials);
    if credentials.is_revoked(&peer.facts().serial) {
        return;
    }
    // Bounded by the transport's limit on open streams.
    while let Some(asking) = peer.next().await {
        let (desk, peer) = (Arc::clone(&desk), Arc::clone(&peer));
        tokio::spawn(async move {
            if let Some((request, responder)) = asking.read().await {
                desk.respond(&peer, request, responder).await;
            }
        });
    }
    debug!(peer = %address, "disconnected");
}

impl Desk {
    async fn respond(&self, peer: &Peer, request: Request, responder: Responder) {
        let span = match &request {
            Request::Open { ticket, .. }
            | Request::Extent { ticket, .. }
            | Request::Chunk { ticket, .. }
            | Request::Seal { ticket }
            | Request::Spooled { ticket, .. } => log::transfer(&ticket.run),
            _ => Span::none(),
        };
        self.answer(peer, request, responder).instrument(span).await;
    }

    async fn answer(&self, peer: &Peer, request: Request, responder: Responder) {
        match (peer.role(), request) {
            (Role::Agent(_), Request::Chunk { ticket, index, held }) => {
                let Agent { offers, spools, .. } = &*self.agent;
                // It is told now, and not when all has crossed the network in vain.
                if let (Ok(()), Some(fault)) = (offers.check(peer, &ticket), spools.failure(&ticket.run)) {
                    return responder.chunk(Err(fault), |bytes| offers.pace(&ticket.run, bytes)).await;
                }
                let chunk = tokio::select! {
                    chunk = offers.chunk(peer, &ticket, (index, held)) => chunk,
                    // Nobody waits any more: it need not be packed.
                    () = peer.closed() => return,
                };
                responder.chunk(chunk, |bytes| offers.pace(&ticket.run, bytes)).await;
            }
            (Role::Agent(_), Request::Spooled { ticket, at }) => {
                let Agent { offers, spools, .. } = &*self.agent;
                let piece = match offers.check(peer, &ticket) {
                    Ok(()) => spools.piece(&ticket.run, at).await,
                    Err(fault) => Err(fault),
                };
                responder.chunk(piece, |bytes| offers.pace(&ticket.run, bytes)).await;
            }
            (Role::Agent(host), request) => responder.answer(&self.answer_agent(peer, host, request).await).await,
            (Role::Operator(name), request) => responder.answer(&self.answer_operator(name, request).await).await,
        }
    }

    /// Agents may pull what a ticket allows them, and tell of replaced primaries, and nothing else.
    async fn answer_agent(&self, peer: &Peer, host: &HostName, request: Request) -> Answer {
        let offers = &self.agent.offers;
        match request {
            Request::Open { ticket, session } => offers.open(peer, &ticket, session),
            Request::Extent { ticket, seen, held } => offers.extent(peer, &ticket, (seen, held)).await,
            Request::Seal { ticket } => offers.seal(peer, &ticket).await,
            Request::Tell { deposition, age_seconds } => {
                deposed::hear(&self.agent, host, *deposition, age_seconds).await
            }
            Request::Replaced => Ok(Reply::Replaced(deposed::notices(&self.agent, host))),
            _ => {
                warn!(%host, "refused an order of another agent");
                Err(Fault::new(
                    FaultKind::NotAllowed,
                    format!(
                        "the agent of {} takes orders from operators only, not from the agent of {host}",
                        self.agent.host
                    ),
                ))
            }
        }
    }

    /// Operators may ask and order everything, but get no snapshot's bytes.
    async fn answer_operator(&self, name: &str, request: Request) -> Answer {
        match request {
            Request::Observe => Ok(Reply::Observed(Box::new(observe::observe(&self.agent).await))),
            Request::Reach { instance, to } => Ok(Reply::Reached(reach::reach(&*self.instance(&instance)?, &to).await)),
            Request::Knock { host, address } => reach::knock(&self.agent.dialer, &host, &address).await,
            Request::Rehearse { instance, seconds } => {
                reach::rehearse(&*self.instance(&instance)?, seconds).await.map(|()| Reply::Rehearsing)
            }
            Request::Limit { run, max_rate } => self.agent.offers.limit(&run, max_rate),
            Request::Claim { instance, run, turn } => {
                let (instance, name) = (self.instance(&instance)?, name.to_owned());
                let claim = move |agent: &Agent| agent.claims.claim(instance.name(), &run, turn, &name);
                self.on_disk(claim).await.map(|()| Reply::Claimed)
            }
            Request::Unclaim { run, turn } => {
                self.on_disk(move |agent| agent.claims.unclaim(&run, turn)).await.map(|()| Reply::Claimed)
            }
            Request::Record { run, turn, at, text, last } => self.record(run, turn, at, text, last).await,
            Request::Recall { run, at } => self.on_disk(move |agent| agent.journals.recall(&run, at)).await,
            Request::Runs => self.on_disk(|agent| Ok(Reply::Runs(agent.journals.list()))).await,
            Request::SigningRequest => self.agent.certificates.signing_request(),
            Request::Renew { chain } => self.agent.certificates.renew(&chain),
            Request::Revoke { list } => {
                let taken = self.agent.certificates.revoke(&list)?;
                self.visitors.turn_out(self.agent.certificates.credentials());
                self.agent.dialer.turn_out(self.agent.certificates.credentials());
                Ok(taken)
            }
            Request::Begin(order) => self.begin(name, order).await.map(Reply::Task),
            Request::RecordAndBegin { at, text, order } => {
                // What is refused is not written down.
                self.admitted(&order)?;
                let whole = at.saturating_add(text.len() as u64);
                match self.record(order.task.run.clone(), order.turn, at, text, true).await? {
                    Reply::Recorded { bytes } if bytes == whole => self.begin(name, order).await.map(Reply::Task),
                    other => Ok(other),
                }
            }
            Request::Watch { task, seen, turn } => {
                self.agent.claims.heard(&task.run, turn);
                self.tasks.watch(&task, seen).await.map(Reply::Task)
            }
            Request::Peers { peers } => self.agent.peers.learn(peers).map(|()| Reply::PeersKept),
            Request::Tell { .. } | Request::Replaced => Err(Fault::new(
                FaultKind::NotAllowed,
                "agents tell each other of replaced primaries; operators order it",
            )),
            Request::Open { .. }
            | Request::Extent { .. }
            | Request::Chunk { .. }
            | Request::Seal { .. }
            | Request::Spooled { .. } => Err(Fault::new(
                FaultKind::NotAllowed,
                "snapshots are served to the agent that holds the ticket, not to operators",
            )),
        }
    }

    /// Does what reads or syncs files of the agent, on a thread that may wait: a SAVE may keep the same disk busy.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Agent) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let agent = Arc::clone(&self.agent);
        try_blocking(move || work(&agent)).await
    }

    async fn record(&self, run: RunId, turn: Turn, at: u64, text: String, last: bool) -> Answer {
        let record = move |agent: &Agent| {
            agent.claims.check_any(&run, turn)?;
            agent.journals.record(&run, at, (&text, last), &agent.claims.runs())
        };
        self.on_disk(record).await
    }

    async fn begin(&self, operator: &str, order: Order) -> Result<baton_proto::control::TaskState, Fault> {
        let instance = self.admitted(&order)?;
        let agent = Arc::clone(&self.agent);
        let run = order.task.run.clone();
        let operator = operator.to_owned();
        let span = log::task(&order.task, instance.name());
        let work = move |progress| {
            async move {
                info!(operator, "begin: {}", order.action);
                let outcome = actions::perform(&agent, &instance, (&run, order.turn), order.action, &progress).await;
                match &outcome {
                    Ok(_) => info!("done"),
                    Err(fault) => warn!("failed: {fault}"),
                }
                outcome
            }
            .instrument(span)
        };
        self.tasks.begin(order.task, order.turn, work).await
    }

    /// The instance of an order, if its run has that.
    fn admitted(&self, order: &Order) -> Result<Arc<Instance>, Fault> {
        let instance = self.instance(&order.instance)?;
        self.agent.claims.admit(instance.name(), &order.task.run, order.turn)?;
        Ok(instance)
    }

    fn instance(&self, name: &InstanceName) -> Result<Arc<Instance>, Fault> {
        self.agent.instances.get(name).cloned().ok_or_else(|| {
            let known: Vec<_> = self.agent.instances.keys().map(InstanceName::as_str).collect();
            Fault::new(FaultKind::NotFound, format!("host {} has no instance `{name}`", self.agent.host))
                .hint(format!("its agent.toml names: {}", known.join(", ")))
        })
    }
}
