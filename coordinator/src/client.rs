//! The coordinator's connections to the agents. A connection that broke is made again: what the agent was doing goes on
//! there, and is joined.

mod carried;
mod follow;
mod tasks;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::PoisonError;

use baton_proto::claim::Turn;
use baton_proto::control::{RECORD_BYTES_MAX, Reach, Reply, Request};
use baton_proto::report::{CertificateFacts, HostReport, InstanceReport};
use baton_proto::{Fault, FaultKind, HostName, HostPort, InstanceRef, RunId};
use baton_wire::{Credentials, Dialer, Link};
use tokio::sync::Mutex;

pub use crate::client::carried::Carried;
pub use crate::client::follow::{Followed, Until};
use crate::inventory::Inventory;

/// Most pieces of a journal that are asked for: a little more than the largest journal holds.
const PIECES_MAX: usize = 1024;

/// A run, and this coordinator's turn at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seat {
    pub run: RunId,
    pub turn: Turn,
}

impl Seat {
    /// A turn of one's own.
    pub fn new(run: RunId, epoch: u32) -> Seat {
        Seat { run, turn: Turn { epoch, holder: rand::random() } }
    }
}

/// The agents of the inventory, dialled when first needed.
pub struct Agents {
    dialer: Dialer,
    credentials: Credentials,
    addresses: HashMap<HostName, HostPort>,
    links: Mutex<HashMap<HostName, Link>>,
    /// Number of the list of revoked certificates that this machine goes by.
    revocations: u64,
    /// Hosts whose agents were waited for in vain.
    gone: std::sync::Mutex<HashSet<HostName>>,
    /// What orders bring of the journals of their runs.
    carried: Carried,
}

impl Agents {
    /// The dialer is one of these credentials.
    pub fn new(dialer: Dialer, credentials: Credentials, inventory: &Inventory) -> Self {
        let revocations = credentials.list();
        let addresses = inventory.hosts.iter().map(|(name, host)| (name.clone(), host.agent.clone())).collect();
        let (links, gone) = (Mutex::new(HashMap::new()), std::sync::Mutex::default());
        Self { dialer, credentials, addresses, links, revocations, gone, carried: Carried::default() }
    }

    /// Who the operator is, and whom this machine believes.
    pub fn credentials(&self) -> &Credentials {
        &self.credentials
    }

    /// What orders bring of the journals of their runs.
    pub fn carried(&self) -> &Carried {
        &self.carried
    }

    /// Number of the list of revoked certificates that this machine goes by. 0: there is none.
    pub fn revocations(&self) -> u64 {
        self.revocations
    }

    /// Where a host's agent listens.
    pub fn address(&self, host: &HostName) -> Result<&HostPort, Fault> {
        self.addresses.get(host).ok_or_else(|| {
            Fault::new(FaultKind::NotFound, format!("host {host} is not in coord.toml"))
                .hint(format!("add [hosts.{host}] with its agent's address"))
        })
    }

    async fn link(&self, host: &HostName) -> Result<Link, Fault> {
        if let Some(link) = self.links.lock().await.get(host).filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        let link = self.dialer.connect(self.address(host)?, host).await?;
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

    /// Tells a host's agent whom to ask at its next start.
    pub async fn introduce(&self, host: &HostName, peers: BTreeMap<HostName, HostPort>) -> Result<(), Fault> {
        match self.ask(host, &Request::Peers { peers }).await? {
            Reply::PeersKept => Ok(()),
            other => Err(unexpected(host, &other)),
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

    /// Waits for a host's agent no longer than it takes to see that it is gone.
    pub fn give_up(&self, host: &HostName) {
        self.gone.lock().unwrap_or_else(PoisonError::into_inner).insert(host.clone());
    }

    /// Has an instance for the run.
    pub async fn claim(&self, on: &InstanceRef, seat: &Seat) -> Result<(), Fault> {
        let request = Request::Claim { instance: on.instance.clone(), run: seat.run.clone(), turn: seat.turn };
        match self.ask(&on.host, &request).await? {
            Reply::Claimed => Ok(()),
            other => Err(unexpected(&on.host, &other)),
        }
    }

    /// Claims an instance whose host was away when the turn was taken, and still has the turn before; or is told that another
    /// has the next. One that the run has no more is not claimed: whoever took the run up has ended it, and given it back.
    pub async fn reclaim(&self, on: &InstanceRef, seat: &Seat, denied: &Fault) -> Result<(), Fault> {
        match self.observe_instance(on).await?.claim {
            Some(claim) if claim.run == seat.run => self.claim(on, seat).await,
            _ => Err(Fault { kind: FaultKind::NotFound, ..denied.clone() }),
        }
    }

    /// Gives back what the run has on a host.
    pub async fn unclaim(&self, host: &HostName, seat: &Seat) -> Result<(), Fault> {
        match self.ask(host, &Request::Unclaim { run: seat.run.clone(), turn: seat.turn }).await? {
            Reply::Claimed => Ok(()),
            other => Err(unexpected(host, &other)),
        }
    }

    /// Has a host keep a journal's rest, from byte `at` on. Yields how much it keeps afterwards: less than all, if it did
    /// not keep what comes before.
    pub async fn record(&self, host: &HostName, seat: &Seat, at: u64, rest: &str) -> Result<u64, Fault> {
        let (mut at, mut rest) = (at, rest);
        loop {
            let (piece, more) = rest.split_at(rest.floor_char_boundary(RECORD_BYTES_MAX));
            let (run, turn, last) = (seat.run.clone(), seat.turn, more.is_empty());
            let request = Request::Record { run, turn, at, text: piece.to_owned(), last };
            let bytes = match self.ask(host, &request).await? {
                Reply::Recorded { bytes } => bytes,
                other => return Err(unexpected(host, &other)),
            };
            at = at.saturating_add(piece.len() as u64);
            if last || bytes != at {
                return Ok(bytes);
            }
            rest = more;
        }
    }

    /// The journal that a host keeps of a run.
    pub async fn recall(&self, host: &HostName, run: &RunId) -> Result<String, Fault> {
        let mut text = String::new();
        for _ in 0..PIECES_MAX {
            match self.ask(host, &Request::Recall { run: run.clone(), at: text.len() as u64 }).await? {
                Reply::Recalled { text: piece, bytes } => {
                    text += &piece;
                    if piece.is_empty() || text.len() as u64 >= bytes {
                        break;
                    }
                }
                other => return Err(unexpected(host, &other)),
            }
        }
        Ok(text)
    }

    /// Has a host's agent make a new key. Yields the request for its certificate.
    pub async fn signing_request(&self, host: &HostName) -> Result<String, Fault> {
        match self.ask(host, &Request::SigningRequest).await? {
            Reply::SigningRequest { pem } => Ok(pem),
            other => Err(unexpected(host, &other)),
        }
    }

    /// Brings the certificate of that key, and the authority's.
    pub async fn renew(&self, host: &HostName, chain: String) -> Result<CertificateFacts, Fault> {
        match self.ask(host, &Request::Renew { chain }).await? {
            Reply::Renewed(facts) => Ok(facts),
            other => Err(unexpected(host, &other)),
        }
    }

    /// Tells a host's agent which certificates are revoked.
    pub async fn revoke(&self, host: &HostName, list: Vec<u8>) -> Result<CertificateFacts, Fault> {
        match self.ask(host, &Request::Revoke { list }).await? {
            Reply::Renewed(facts) => Ok(facts),
            other => Err(unexpected(host, &other)),
        }
    }

    /// The runs of which a host keeps the journal.
    pub async fn runs(&self, host: &HostName) -> Result<Vec<RunId>, Fault> {
        match self.ask(host, &Request::Runs).await? {
            Reply::Runs(runs) => Ok(runs),
            other => Err(unexpected(host, &other)),
        }
    }
}

fn unexpected(host: &HostName, reply: &Reply) -> Fault {
    let what = follow::name(reply);
    Fault::new(FaultKind::Internal, format!("agent of {host} answered with {what}, which was not asked for"))
}
