//! Holds a deposed primary of this host off writes, as long as its note stands: also when its server comes back by itself,
//! and after each restart. What it holds stays; `coord rejoin` saves it aside and joins it to its successor.
//!
//! The fence is the one of survivors (`REPLICAOF 127.0.0.1 1`): data, id and offset are kept, writes are refused. It does
//! not wait for the instance's lock, since an action may hold that for hours.

use std::sync::Arc;
use std::time::Duration;

use baton_proto::Fault;
use baton_proto::deposed::{Held, Standing};
use baton_proto::report::{Fence, Link, Role, Running};
use tokio::time::sleep;
use tracing::{Instrument, debug, error_span, info, warn};

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

async fn stand(agent: Arc<Agent>, instance: Arc<Instance>) {
    loop {
        let mut watch = Watch::new(&instance, None);
        while let Some(held) =
            agent.notes.about(&agent, &instance).filter(|held| held.deposition.stands() || held.fenced)
        {
            let seeing = once(&agent, &instance, &held, &mut watch);
            let span = error_span!("guard", run = %held.deposition.run, instance = %instance.name());
            if let Err(fault) = seeing.instrument(span).await {
                debug!(instance = %instance.name(), run = %held.deposition.run, "not seen to: {fault}");
            }
            sleep(LOOK_EVERY).await;
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn once<'a>(agent: &Agent, instance: &'a Instance, held: &Held, watch: &mut Watch<'a>) -> Result<(), Fault> {
    let server = watch.server().await?;
    let done = see_to(agent, instance, held, server).await;
    if done.is_err() {
        // A connection that broke is of no more use.
        *watch = Watch::new(instance, None);
    }
    done
}

async fn see_to(agent: &Agent, instance: &Instance, held: &Held, server: &mut Server) -> Result<(), Fault> {
    let note = &held.deposition;
    let noted = |change: fn(&mut Held)| agent.notes.change(&note.run, change).map_err(|error| note_fault(&error));
    // From the look to the act nobody else tells the server whom to follow.
    let role = instance.role().await;
    let running = look::look(instance, server).await?.running;
    match duty(held, &running.role) {
        Duty::Nothing => {
            if !note.stands() {
                noted(|held| held.fenced = false)?;
            }
            return Ok(());
        }
        Duty::Hold => return read_only(server).await,
        Duty::Settle => {
            info!(instance = %instance.name(), run = %note.run, "follows its successor, and is not held any longer");
            return noted(|held| (held.deposition.standing, held.fenced) = (Standing::Rejoined, false));
        }
        Duty::Fence => {
            noted(|held| held.fenced = true)?;
            // Like a survivor's: whoever looks at the fenced server knows whose replica it is to be.
            let (run, from) = (note.run.clone(), note.successor_address.clone());
            let written = Fence { run, from, since_unix: note.since_unix };
            fence::write(instance.state_dir(), instance.name(), &written).map_err(|error| note_fault(&error))?;
            fence_now(instance, server, &running).await?;
            let stands = &running.replication.lineage;
            warn!(instance = %instance.name(), run = %note.run, successor = %note.successor, %stands,
                "deposed primary takes no more writes: `coord rejoin {}` saves aside what it holds", note.name());
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
    Ok(())
}

/// Stops the writes of a primary. The caller holds its role, from the look that saw it.
async fn fence_now(instance: &Instance, server: &mut Server, running: &Running) -> Result<(), Fault> {
    replication::replicate_holding_role(instance, server, running, &fence::address()).await?;
    read_only(server).await
}

/// A replica that is not read-only would take writes all the same. One of the names is unknown to old versions, and a
/// server that lets nobody change it is left as it is.
async fn read_only(server: &mut Server) -> Result<(), Fault> {
    for name in READ_ONLY {
        if matches!(server.config(name).await, Ok(Some(value)) if value == "no")
            && let Err(error) = server.set_config(name, "yes").await
        {
            warn!("{name} cannot be changed, and the fenced server takes writes: {error:?}");
        }
    }
    Ok(())
}

/// Fences a primary on an order, ahead of the next look.
pub(super) async fn fence_primary(instance: &Instance, server: &mut Server) -> Result<(), Fault> {
    let _role = instance.role().await;
    let running = look::look(instance, server).await?.running;
    fence_now(instance, server, &running).await
}

#[cfg(test)]
mod tests {
    use baton_proto::deposed::Deposition;
    use baton_proto::{HostName, HostPort, InstanceName, InstanceRef, Lineage, RunId};

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
}
