//! The agents of this host's groups, as a coordinator has told them: an agent that starts asks them whether its servers were
//! replaced while it was away. Until they have answered, nobody is sent to a primary of this host (`metrics/health.rs`).
//!
//! ```text
//!   coord ──learn──> Peers, peers.json        start ──ask──> each peer's notes of this host ──deposed::hear──> Notes
//! ```
//!
//! What a peer tells is believed as if it had come by itself: see [`crate::deposed`]. An agent that nobody has told of a peer
//! asks nobody, and waits for nothing.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use baton_proto::control::{Reply, Request};
use baton_proto::deposed::Notice;
use baton_proto::{Fault, FaultKind, HostName, HostPort};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tracing::{debug, info, warn};

use crate::agent::Agent;
use crate::{deposed, durable};

/// Most peers that are kept: a group has some hosts, and a host some groups.
const PEERS_MAX: usize = 64;
/// Largest file that is read: a name and an address are some dozen bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;
/// How long one dial may take, and the pause between two. As in `deposed/herald.rs`: within a longer dial, the first packet is
/// repeated ever later, and an agent that has just come up would wait for it.
const DIAL_TIMEOUT: Duration = Duration::from_millis(700);
const PAUSE: Duration = Duration::from_millis(300);
/// How long a peer has to answer once it was reached: it looks into its memory.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a primary that came up together with its agent is kept from clients while not all peers have answered. When the
/// power of a site comes back, its agents come up within some seconds of each other: those that know of a replacement are
/// there by then. A peer that is gone for good costs this once a boot, until it is taken out of coord.toml.
const CAME_BACK_MAX: Duration = Duration::from_secs(10);
/// The same for a primary that ran on while its agent was restarted, as for an upgrade. Its agent had heard of all that was
/// long ago; what remains is the time of the restart. Two dials, for one may be lost.
const STAYED_MAX: Duration = Duration::from_secs(2);
/// A server that has run this much longer than its agent did not come up with it: in a boot, the one may wait that long for the
/// other, or for the network.
const TOGETHER_SECONDS: u64 = 30;

/// Whom to ask, and whether they have answered.
pub struct Peers {
    path: PathBuf,
    known: Mutex<BTreeMap<HostName, HostPort>>,
    began: Instant,
    /// Whether all that were known at the start have answered.
    heard: AtomicBool,
}

impl Peers {
    /// Reads whom this agent knows. A file that cannot be read is logged, and is none.
    pub fn load(state: &Path) -> Peers {
        let path = state.join("peers.json");
        let known = read(&path).unwrap_or_else(|error| {
            warn!(path = %path.display(), %error, "the names of peers cannot be read and are taken as none");
            BTreeMap::new()
        });
        let heard = AtomicBool::new(known.is_empty());
        Peers { path, known: Mutex::new(known), began: Instant::now(), heard }
    }

    pub fn known(&self) -> BTreeMap<HostName, HostPort> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Keeps whom to ask at the next start.
    pub fn learn(&self, peers: BTreeMap<HostName, HostPort>) -> Result<(), Fault> {
        if peers.len() > PEERS_MAX {
            return Err(Fault::new(FaultKind::Refused, format!("more than {PEERS_MAX} peers")));
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let written = serde_json::to_vec(&peers).map_err(io::Error::from);
        let kept = written.and_then(|text| durable::replace_file(&self.path, &text, 0o600));
        kept.map_err(|error| {
            Fault::new(FaultKind::Host, "write the names of the peers")
                .because(error)
                .hint("see that the agent's state directory can be written and has space")
        })?;
        *known = peers;
        Ok(())
    }

    /// Whether it may yet turn out that a primary of this host was replaced.
    pub fn may_know_better(&self, uptime_seconds: u64) -> bool {
        !self.heard.load(Ordering::Acquire) && self.began.elapsed() < patience(self.began.elapsed(), uptime_seconds)
    }
}

/// How long peers are waited for, by how long the agent and the server have run.
fn patience(agent: Duration, uptime_seconds: u64) -> Duration {
    let stayed = uptime_seconds > agent.as_secs().saturating_add(TOGETHER_SECONDS);
    if stayed { STAYED_MAX } else { CAME_BACK_MAX }
}

fn read(path: &Path) -> io::Result<BTreeMap<HostName, HostPort>> {
    let mut known: BTreeMap<HostName, HostPort> = durable::read_note(path, FILE_BYTES_MAX)?.unwrap_or_default();
    while known.len() > PEERS_MAX {
        known.pop_last();
    }
    Ok(known)
}

/// Asks all peers at the same time, until each has answered or it has taken too long to matter.
pub async fn ask(agent: Arc<Agent>) {
    let mut asking = JoinSet::new();
    for (host, address) in agent.peers.known().into_iter().filter(|(host, _)| *host != agent.host) {
        let agent = Arc::clone(&agent);
        asking.spawn(async move { timeout(CAME_BACK_MAX, ask_one(&agent, &host, &address)).await.is_ok() });
    }
    let answered = asking.join_all().await;
    let all = answered.iter().all(|answered| *answered);
    if all {
        agent.peers.heard.store(true, Ordering::Release);
    }
    let peers = answered.len();
    if peers > 0 {
        info!(peers, all, "peers were asked whether servers of this host were replaced");
    }
}

/// Asks one peer until it answers.
async fn ask_one(agent: &Agent, host: &HostName, address: &HostPort) {
    loop {
        match notices(agent, host, address).await {
            Ok(notices) => {
                for Notice { deposition, age_seconds } in notices {
                    // What is not believed is logged there, and `coord status` tells of it.
                    let _ = deposed::hear(agent, host, deposition, age_seconds).await;
                }
                return;
            }
            // An agent of an older version: it tells by itself what it knows, a little later.
            Err(fault) if fault.kind == FaultKind::Unsupported => return,
            Err(fault) => debug!(%host, "does not say whether servers of this host were replaced: {fault}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn notices(agent: &Agent, host: &HostName, address: &HostPort) -> Result<Vec<Notice>, Fault> {
    let late = |_| Fault::new(FaultKind::Peer, format!("the agent of {host} does not answer"));
    let link = timeout(DIAL_TIMEOUT, agent.dialer.dial(address, host)).await.map_err(late)??;
    let answer = timeout(ANSWER_TIMEOUT, link.ask(&Request::Replaced)).await.map_err(late);
    link.close();
    match answer?? {
        Reply::Replaced(notices) => Ok(notices),
        other => Err(Fault::new(FaultKind::Internal, format!("answered with {other:?}, which was not asked for"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peers(names: &[&str]) -> BTreeMap<HostName, HostPort> {
        names.iter().map(|name| (HostName::new(name).unwrap(), HostPort::new(*name, 7400))).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn who_knows_nobody_waits_for_nobody_and_who_does_not_for_ever() {
        let state = tempfile::tempdir().unwrap();
        assert!(!Peers::load(state.path()).may_know_better(1));
        Peers::load(state.path()).learn(peers(&["machine-b"])).unwrap();
        let again = Peers::load(state.path());
        assert_eq!(again.known(), peers(&["machine-b"]));
        assert!(again.may_know_better(1) && again.may_know_better(1000));
        tokio::time::advance(STAYED_MAX).await;
        assert!(again.may_know_better(3), "it came up with its agent");
        assert!(!again.may_know_better(1000), "it ran on while its agent was restarted");
        tokio::time::advance(CAME_BACK_MAX).await;
        assert!(!again.may_know_better(12));
        let answered = Peers::load(state.path());
        answered.heard.store(true, Ordering::Release);
        assert!(!answered.may_know_better(1));
    }

    #[test]
    fn more_than_a_group_has_are_refused_and_a_torn_file_is_none() {
        let state = tempfile::tempdir().unwrap();
        let names: Vec<String> = (0..=PEERS_MAX).map(|number| format!("m{number}")).collect();
        let many = peers(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let loaded = Peers::load(state.path());
            assert!(loaded.learn(many).is_err());
            assert_eq!(loaded.known(), peers(&[]));
            std::fs::write(state.path().join("peers.json"), "{").unwrap();
            assert_eq!(Peers::load(state.path()).known(), peers(&[]));
        });
    }
}
