//! An instance's state in a sentence, for the `state:` lines of an error.

use baton_proto::InstanceRef;
use baton_proto::report::{Link, Role, Running, ServerState, total_keys};

use super::{HostView, World};
use crate::report::units::Count;

/// Says in which state an instance was found.
pub fn describe(world: &World, name: &InstanceRef) -> String {
    let Some(report) = world.instance(name) else {
        return match world.hosts.get(&name.host).map(|host| &host.view) {
            Some(HostView::Unreachable { error }) => format!("`{name}` unknown, its agent does not answer: {error}"),
            _ => format!("`{name}` unknown"),
        };
    };
    let fence = report.fence.as_ref().map(|fence| format!(", fenced off {} by run {}", fence.from, fence.run));
    let state = match &report.server {
        ServerState::Stopped => "stopped".into(),
        ServerState::Silent { error } => format!("does not answer: {error}"),
        ServerState::Denied { user, error } => format!("refuses its agent, user `{user}`: {error}"),
        ServerState::Strange { error } => format!("is not understood: {error}"),
        ServerState::Running(running) => describe_running(running, report.fence.is_some()),
    };
    format!("`{name}` {state}{}", fence.unwrap_or_default())
}

fn describe_running(running: &Running, fenced: bool) -> String {
    let keys = Count(total_keys(&running.keyspace));
    let at = &running.replication.lineage;
    match &running.role {
        Role::Primary { replicas } => format!("primary with {} replicas, {keys} keys, at {at}", replicas.len()),
        Role::Replica { .. } if fenced => format!("frozen replica, read-only, {keys} keys, at {at}"),
        Role::Replica { primary, link, .. } => {
            let link = match link {
                Link::Up { .. } => "linked to",
                Link::Syncing => "syncing from",
                Link::Down { .. } => "without link to",
            };
            format!("replica {link} {primary}, {keys} keys, at {at}")
        }
    }
}
