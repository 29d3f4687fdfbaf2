//! Holds a deposed primary of this host off writes, as long as its note stands: also when its server comes back by itself,
//! and after each restart. What it holds stays; `coord rejoin` saves it aside and joins it to its successor.
//!
//! The fence is the one of survivors (`REPLICAOF 127.0.0.1 1`): data, id and offset are kept, writes are refused. It does
//! not wait for the instance's lock, since an action may hold that for hours.

use std::sync::Arc;
use std::time::Duration;

use baton_proto::deposed::{Deposition, Held, Standing};
use baton_proto::report::{Fence, Link, Role, Running};
use baton_proto::{Fault, FaultKind, RunId};
use tokio::time::sleep;
use tracing::{Instrument, error_span, info, warn};

use super::look::{self, Watch};
use super::{persist, replication};
use crate::agent::Agent;
use crate::deposed::note_fault;
use crate::fence;
use crate::instance::Instance;
use crate::server::Server;

/// How often a deposed server is looked at, and so how long it may take writes after a start.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The setting by which a replica takes writes, by its names of all versions.
const READ_ONLY: [&str; 2] = ["replica-read-only", "slave-read-only"];

/// What is to be done about a server, by what its note says and what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Duty {
    Nothing,
    /// Stop its writes.
    Fence,
    /// It is fenced: see that it is read-only as well.
    Hold,
    /// The run was rolled back: let it lead again.
    Lead,
    /// Somebody has joined it to its successor.
    Settle,
}

fn duty(held: &Held, role: &Role) -> Duty {
    match (held.deposition.standing, role) {
        (Standing::Deposed, Role::Primary { .. }) => Duty::Fence,
        (Standing::Deposed, Role::Replica { primary, link: Link::Up { .. }, .. })
            if *primary == held.deposition.successor_address =>
        {
            Duty::Settle
        }
        (Standing::Deposed, Role::Replica { primary, .. }) if *primary == fence::address() => Duty::Hold,
        (Standing::Reinstated, Role::Replica { primary, .. }) if held.fenced && *primary == fence::address() => {
            Duty::Lead
        }
        _ => Duty::Nothing,
    }
}

/// Begins to guard each instance.
pub fn guard(agent: &Arc<Agent>) {
    for instance in agent.instances.values() {
        tokio::spawn(stand(Arc::clone(agent), Arc::clone(instance)));
    }
}

/// What is remembered from one look to the next.
#[derive(Default)]
struct Memory {
    /// Under whose note the server was fenced, if that could not be written down yet.
    unnoted: Option<RunId>,
    /// What was amiss, as it was logged.
    amiss: Option<String>,
}

impl Memory {
    /// Logs what is amiss when it changes, and not at every look. Tells whether it did.
    fn tell(&mut self, amiss: Option<&Fault>) -> bool {
        let now = amiss.map(|fault| {
            let hint = fault.hint.as_ref().map_or(String::new(), |hint| format!(" ({hint})"));
            format!("{fault}{hint}")
        });
        let is_news = now != self.amiss;
        match &now {
            Some(text) if is_news => warn!("the deposed primary is not quite seen to: {text}"),
            None if is_news => info!("the deposed primary is seen to again"),
            _ => {}
        }
        self.amiss = now;
        is_news
    }
}

async fn stand(agent: Arc<Agent>, instance: Arc<Instance>) {
    loop {
        let (mut watch, mut memory) = (Watch::new(&instance, None), Memory::default());
        while let Some(held) =
            agent.notes.about(&agent, &instance).filter(|held| held.deposition.stands() || held.fenced)
        {
            let seeing = async {
                let seen = once(&agent, &instance, &held, (&mut watch, &mut memory)).await;
                memory.tell(seen.as_ref().map_or_else(Some, Option::as_ref));
            };
            seeing.instrument(error_span!("guard", run = %held.deposition.run, instance = %instance.name())).await;
            sleep(LOOK_EVERY).await;
        }
        sleep(LOOK_EVERY).await;
    }
}

/// Looks once, and does what is due. Something may be amiss all the same.
async fn once<'a>(
    agent: &Agent,
    instance: &'a Instance,
    held: &Held,
    (watch, memory): (&mut Watch<'a>, &mut Memory),
) -> Result<Option<Fault>, Fault> {
    let server = watch.server().await?;
    let done = see_to(agent, instance, held, (server, memory)).await;
    if done.is_err() {
        // A connection that broke is of no more use.
        *watch = Watch::new(instance, None);
    }
    done
}

async fn see_to(
    agent: &Agent,
    instance: &Instance,
    held: &Held,
    (server, memory): (&mut Server, &mut Memory),
) -> Result<Option<Fault>, Fault> {
    let note = &held.deposition;
    let noted = |change: fn(&mut Held)| agent.notes.change(&note.run, change).map_err(|error| note_fault(&error));
    // From the look to the act nobody else tells the server whom to follow.
    let role = instance.role().await;
    let running = look::look(instance, server).await?.running;
    let mut amiss = None;
    match duty(held, &running.role) {
        Duty::Nothing => {
            if !note.stands() {
                noted(|held| held.fenced = false)?;
            }
            return Ok(None);
        }
        Duty::Hold => {
            if memory.unnoted.as_ref() == Some(&note.run) {
                amiss = note_fence(agent, instance, note).err();
                if amiss.is_none() {
                    memory.unnoted = None;
                }
            }
            return Ok(read_only(instance, server).await.or(amiss));
        }
        Duty::Settle => {
            info!(instance = %instance.name(), run = %note.run, "follows its successor, and is not held any longer");
            noted(|held| (held.deposition.standing, held.fenced) = (Standing::Rejoined, false))?;
            return Ok(None);
        }
        Duty::Fence => {
            // A disk that takes no note must not leave two primaries: it is fenced all the same, and noted later.
            let unnoted = note_fence(agent, instance, note).err();
            memory.unnoted = unnoted.as_ref().map(|_| note.run.clone());
            amiss = fence_now(instance, server, &running).await?.or(unnoted);
            let stands = &running.replication.lineage;
            warn!(instance = %instance.name(), run = %note.run, successor = %note.successor, %stands,
                "deposed primary is fenced: `coord rejoin {}` saves aside what it holds", note.name());
        }
        Duty::Lead => {
            look::call(instance, server, &[running.version.replicaof(), "NO", "ONE"]).await?;
            fence::remove(instance.state_dir(), instance.name()).map_err(|error| note_fault(&error))?;
            noted(|held| held.fenced = false)?;
            info!(instance = %instance.name(), run = %note.run, "the run was rolled back: it leads again");
        }
    }
    drop(role);
    // So that a restart brings it up in this role. Else it is seen to again then.
    if let Some(_lock) = instance.try_lock()
        && let Err(fault) = persist::persist_with(instance, server).await
    {
        warn!(instance = %instance.name(), "until the server's next restart only: {fault}");
    }
    Ok(amiss)
}

/// Writes down that this agent holds the server off writes, and, like a survivor's, whose replica it is to be: for whoever
/// looks at the fenced server.
fn note_fence(agent: &Agent, instance: &Instance, note: &Deposition) -> Result<(), Fault> {
    let (run, from) = (note.run.clone(), note.successor_address.clone());
    let fenced = Fence { run, from, since_unix: note.since_unix };
    // Either is of use without the other.
    let noted = agent.notes.change(&note.run, |held| held.fenced = true);
    let written = fence::write(instance.state_dir(), instance.name(), &fenced);
    noted.and(written).map_err(|error| note_fault(&error))
}

/// Stops the writes of a primary. The caller holds its role, from the look that saw it. What is told keeps it from being
/// read-only.
async fn fence_now(instance: &Instance, server: &mut Server, running: &Running) -> Result<Option<Fault>, Fault> {
    replication::replicate_holding_role(instance, server, running, &fence::address()).await?;
    Ok(read_only(instance, server).await)
}

/// A replica that is not read-only would take writes all the same. One of the names is unknown to old versions, and a
/// server that lets nobody change it is left as it is, and told of.
async fn read_only(instance: &Instance, server: &mut Server) -> Option<Fault> {
    for name in READ_ONLY {
        if matches!(server.config(name).await, Ok(Some(value)) if value == "no")
            && let Err(error) = server.set_config(name, "yes").await
        {
            let why = error.fault(instance.name(), &format!("CONFIG SET {name} yes"));
            return Some(Fault::new(FaultKind::Server, "the fenced server takes writes").because(why).hint(format!(
                "let the agent's user have +config|set, or set `{name} yes` in redis.conf and on the server"
            )));
        }
    }
    None
}

/// Fences a primary on an order, ahead of the next look.
pub(super) async fn fence_primary(instance: &Instance, server: &mut Server) -> Result<(), Fault> {
    let _role = instance.role().await;
    let running = look::look(instance, server).await?.running;
    if let Some(fault) = fence_now(instance, server, &running).await? {
        warn!(instance = %instance.name(), "{fault}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use baton_proto::{HostName, HostPort, InstanceName, InstanceRef, Lineage};

    use super::*;

    fn held(standing: Standing, fenced: bool) -> Held {
        let host = |name: &str| HostName::new(name).unwrap();
        let deposition = Deposition {
            run: RunId::new("fo-1").unwrap(),
            host: host("machine-a"),
            instance: None,
            agent: HostPort::new("10.0.0.1", 7400),
            address: HostPort::new("10.0.0.1", 6379),
            fork: Lineage { id: "c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb".parse().unwrap(), offset: 100 },
            successor: InstanceRef { host: host("machine-c"), instance: InstanceName::new("default").unwrap() },
            successor_address: HostPort::new("10.0.0.3", 6379),
            standing,
            since_unix: 1_700_000_000,
            seal: None,
        };
        Held { deposition, told: true, untold: None, fenced, firsthand: false }
    }

    fn replica(of: &HostPort, up: bool) -> Role {
        let link = if up { Link::Up { last_io_seconds: 0 } } else { Link::Down { since_seconds: None } };
        Role::Replica { primary: of.clone(), link, priority: 100 }
    }

    #[test]
    fn what_is_done_follows_from_the_note_and_the_role_alone() {
        use Standing::{Deposed, Reinstated, Rejoined};
        let primary = Role::Primary { replicas: Vec::new() };
        let (successor, other) = (HostPort::new("10.0.0.3", 6379), HostPort::new("10.0.0.9", 6379));
        let fenced = replica(&fence::address(), false);
        let table = [
            (Deposed, false, primary.clone(), Duty::Fence),
            // Also one that was fenced before: it was started again.
            (Deposed, true, primary.clone(), Duty::Fence),
            (Deposed, true, fenced.clone(), Duty::Hold),
            (Deposed, true, replica(&successor, true), Duty::Settle),
            (Deposed, true, replica(&successor, false), Duty::Nothing),
            (Deposed, false, replica(&other, true), Duty::Nothing),
            (Reinstated, true, fenced.clone(), Duty::Lead),
            // Somebody else has fenced it.
            (Reinstated, false, fenced.clone(), Duty::Nothing),
            (Reinstated, true, primary.clone(), Duty::Nothing),
            (Reinstated, true, replica(&other, true), Duty::Nothing),
            (Rejoined, true, primary, Duty::Nothing),
            (Rejoined, true, fenced, Duty::Nothing),
        ];
        for (standing, fenced, role, expected) in table {
            assert_eq!(duty(&held(standing, fenced), &role), expected, "{standing:?}, fenced {fenced}, {role:?}");
        }
    }

    #[test]
    fn what_is_amiss_is_told_when_it_changes_and_not_at_every_look() {
        let mut memory = Memory::default();
        let [full, denied] = ["no space left", "no permission"].map(|text| Fault::new(FaultKind::Host, text));
        let looks = [None, Some(&full), Some(&full), Some(&denied), Some(&denied), None, None, Some(&full)];
        let told = looks.map(|amiss| memory.tell(amiss));
        assert_eq!(told, [false, true, false, true, false, true, false, true]);
    }
}
