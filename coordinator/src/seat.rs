//! Having a run's instances: all of them before anything is done, and given back when it has ended.

use baton_proto::{Fault, FaultKind, HostName, InstanceRef};

use crate::client::{Agents, Seat};

/// Claims the instances for a new run, one after the other: who has the first has the run. If one cannot be had, none is.
pub async fn take(agents: &Agents, instances: &[InstanceRef], seat: &Seat) -> Result<(), Fault> {
    for (index, instance) in instances.iter().enumerate() {
        if let Err(fault) = agents.claim(instance, seat).await {
            let hosts = hosts(instances.iter().take(index));
            give_back(agents, &hosts, seat).await;
            return Err(explained(instance, fault));
        }
    }
    Ok(())
}

/// Claims the instances for the next turn of a run. Yields those whose agent does not answer: nothing can be ordered of
/// them, by anybody.
pub async fn take_over(
    agents: &Agents,
    instances: &[InstanceRef],
    seat: &Seat,
) -> Result<Vec<(InstanceRef, Fault)>, Fault> {
    let mut absent = Vec::new();
    for instance in instances {
        match agents.claim(instance, seat).await {
            Ok(()) => {}
            Err(fault) if fault.kind == FaultKind::Held => return Err(fault),
            Err(fault) => absent.push((instance.clone(), fault)),
        }
    }
    Ok(absent)
}

/// Gives back what the run has. An agent that does not answer keeps its claim, until `coord abort` meets it again.
pub async fn give_back(agents: &Agents, hosts: &[HostName], seat: &Seat) -> Vec<Fault> {
    let given = crate::observe::together(hosts, |host| agents.unclaim(host, seat)).await;
    given.into_iter().filter_map(Result::err).collect()
}

/// The hosts of instances, each once.
pub fn hosts<'a>(instances: impl IntoIterator<Item = &'a InstanceRef>) -> Vec<HostName> {
    let mut hosts: Vec<HostName> = instances.into_iter().map(|instance| instance.host.clone()).collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

fn explained(instance: &InstanceRef, fault: Fault) -> Fault {
    match fault.kind {
        FaultKind::Unsupported => {
            Fault::new(FaultKind::Unsupported, format!("the agent of {} is too old", instance.host))
                .because(fault)
                .hint(format!("upgrade baton-agent on {}: `coord install {}`", instance.host, instance.host))
        }
        _ => fault,
    }
}
