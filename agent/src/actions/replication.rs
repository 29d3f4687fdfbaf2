//! Whom an instance follows: nobody reachable (fenced), nobody (a primary), or another.

mod silence;

use std::time::Duration;

use baton_proto::control::{Outcome, Progress};
use baton_proto::report::{Fence, Link, Role, Running};
use baton_proto::{Fault, FaultKind, HostPort, Lineage, RunId};
use tokio::time::Instant;
use tracing::{info, warn};

use self::silence::Silence;
use super::look::{self, Look, Watch};
use super::middle;
use super::pace::Pace;
use super::persist;
use super::role;
use crate::fence;
use crate::info::Info;
use crate::instance::Instance;
use crate::server::Server;
use crate::service::LogMark;
use crate::tasks::ProgressSink;

/// How long a server may take to change its role: it does so before it answers the command.
const ROLE_TIMEOUT: Duration = Duration::from_secs(10);

/// Points a replica at an address where nothing answers. It keeps its data, its lineage and its read-only state, and
/// its former primary can no longer overwrite it.
pub(super) async fn fence(instance: &Instance, run: &RunId, expect: &Lineage) -> Result<Outcome, Fault> {
    let mut server = look::connect(instance).await?;
    let before = look::look_loaded(instance, &mut server).await?.running;
    let Role::Replica { primary, link, .. } = &before.role else {
        return Err(Fault::new(FaultKind::Refused, "the server is a primary, and only a replica can be fenced")
            .hint("somebody promoted it: look at the group with `coord status`"));
    };
    let stands = &before.replication.lineage;
    if matches!(link, Link::Up { .. } | Link::Syncing) || stands != expect {
        return Err(Fault::new(FaultKind::Refused, "the replica is not as it was when the plan was made")
            .because(format!("it follows {primary}, its link is {link:?}, and it stands at {stands}, not at {expect}"))
            .hint("look at `coord status`: the primary may have come back"));
    }
    if *primary == fence::address() {
        let from = fenced_from(instance)?;
        return Ok(Outcome::Fenced { from, lineage: before.replication.lineage });
    }
    // The note comes first: once the server is fenced, it no longer knows whom it followed.
    let note = Fence { run: run.clone(), from: primary.clone(), since_unix: unix_now() };
    fence::write(instance.state_dir(), instance.name(), &note).map_err(|error| note_fault("write", &error))?;
    let from = primary.clone();
    middle("fence-noted").await;
    let after = replicate(instance, &mut server, &before, &fence::address()).await?;
    middle("fence-told").await;
    if after.replication.lineage.id != before.replication.lineage.id {
        return Err(Fault::new(FaultKind::Verification, "the server changed its lineage while it was fenced")
            .because(format!("{} before, {} after", before.replication.lineage, after.replication.lineage)));
    }
    // A restart before the run's end would read the former primary from the file, and follow it again.
    if let Err(fault) = persist::persist_with(instance, &mut server).await {
        warn!(instance = %instance.name(), "fenced until the server's next restart only: {fault}");
    }
    info!(instance = %instance.name(), %from, "fenced");
    Ok(Outcome::Fenced { from, lineage: after.replication.lineage })
}

/// Whom a server followed that is fenced already: the note knows, or else the configuration file.
fn fenced_from(instance: &Instance) -> Result<HostPort, Fault> {
    if let Some(note) = fence::read(instance.state_dir(), instance.name()) {
        return Ok(note.from);
    }
    let configured = instance.conf().ok().and_then(|conf| conf.replica_of()).filter(|from| *from != fence::address());
    configured.ok_or_else(|| {
        Fault::new(FaultKind::NotFound, "the server is fenced already, and nothing tells whom it followed before")
            .hint("name its former primary in the note of its agent's state directory, or promote it by hand if its data will do; do not let it follow a server that may hold less")
    })
}

/// Makes the instance a primary.
pub(super) async fn promote(instance: &Instance) -> Result<Outcome, Fault> {
    let mut server = look::connect(instance).await?;
    let before = look::look_loaded(instance, &mut server).await?.running;
    let after = match before.role {
        Role::Primary { .. } => before,
        Role::Replica { .. } => {
            look::call(instance, &mut server, &[before.version.replicaof(), "NO", "ONE"]).await?;
            until_role(instance, &mut server, "a primary", |role| matches!(role, Role::Primary { .. })).await?
        }
    };
    middle("promote-told").await;
    drop_note(instance)?;
    // A restart before the run's end would read the fence from the file, and nobody would take writes.
    if let Err(fault) = persist::persist_with(instance, &mut server).await {
        warn!(instance = %instance.name(), "a primary until the server's next restart only: {fault}");
    }
    info!(instance = %instance.name(), lineage = %after.replication.lineage, "promoted");
    Ok(Outcome::Promoted { lineage: after.replication.lineage })
}

/// Makes the instance a replica of `to`, if it still stands where the plan saw it, and waits until the link is up.
pub(super) async fn follow(
    instance: &Instance,
    run: &RunId,
    to: &HostPort,
    expect: Option<&Lineage>,
    limit: Duration,
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    let mut server = look::connect(instance).await?;
    let mark = LogMark::now(instance, Some(&mut server)).await;
    // A replica of `to` that is loading is in the middle of a full resync: that is waited for, not refused.
    let before = look::look(instance, &mut server).await?.running;
    let begun = Instant::now();
    if !follows(&before.role, to) {
        let stands = &before.replication.lineage;
        if let Some(expect) = expect.filter(|expect| *expect != stands) {
            let message = format!("the server stands at {stands}, and not at {expect} as planned");
            return Err(Fault::new(FaultKind::Refused, message)
                .because("its data changed since the snapshot: to follow now could cost what it received since")
                .hint("see `coord status`, and plan anew"));
        }
        replicate(instance, &mut server, &before, to).await?;
    }
    middle("follow-told").await;
    drop_note(instance)?;
    // A restart before the run's end would read the fence from the file, and it would follow nobody.
    let is_fenced = instance.conf().is_ok_and(|conf| conf.replica_of().as_ref() == Some(&fence::address()));
    if is_fenced && let Err(fault) = persist::persist_with(instance, &mut server).await {
        warn!(instance = %instance.name(), "a replica of {to} until the server's next restart only: {fault}");
    }
    linked(instance, Watch::new(instance, Some(server)), to, limit, progress, &mark).await?;
    role::write(instance, run).await;
    Ok(Outcome::Following { link_seconds: begun.elapsed().as_secs_f64() })
}

/// Waits until a replica's link is up.
async fn linked(
    instance: &Instance,
    mut watch: Watch<'_>,
    to: &HostPort,
    limit: Duration,
    progress: &ProgressSink,
    mark: &LogMark,
) -> Result<(), Fault> {
    let mut pace = Pace::within(limit);
    let mut seen = String::new();
    let mut silence = Silence::default();
    loop {
        if let Some(Look { running, info }) = watch.look().await {
            match &running.role {
                Role::Replica { primary, link: Link::Up { .. }, .. } if primary == to => {
                    if !running.persistence.loading {
                        return Ok(());
                    }
                }
                Role::Replica { primary, .. } if primary == to => {}
                role => {
                    return Err(Fault::new(
                        FaultKind::Refused,
                        format!("somebody else changed the role: {}", said(role)),
                    )
                    .because(format!("it was told to follow {to}"))
                    .hint("look for a Sentinel or an operator at work on this group"));
                }
            }
            seen = link_fields(&info);
            let moves = running.persistence.loading || info.flag("master_sync_in_progress");
            match silence.look(instance, to, moves).await {
                Ok(None) => progress.report(sync_progress(&running, &info)),
                Ok(Some(why)) => {
                    let doing = format!("waiting for the link: {why}");
                    progress.report(Progress { doing, ..Progress::default() });
                }
                Err(fault) => return Err(mark.explain(fault).await),
            }
        } else if watch.has_ended() {
            let fault = Fault::new(FaultKind::Server, format!("the server ended before it was linked to {to}"));
            let fault = watch.missed.into_iter().fold(fault, Fault::because);
            return Err(mark.explain(fault).await.hint("see why it ended, then start it and repeat"));
        }
        if !pace.wait().await {
            break;
        }
    }
    let fault = Fault::new(FaultKind::Server, format!("no link to {to} within {} s", limit.as_secs()));
    let fault = match watch.missed {
        Some(missed) => fault.because(missed),
        None => fault.because(seen),
    };
    let fault = mark.explain(fault).await;
    let hint = link_hint(&fault.causes);
    Err(match hint {
        Some(hint) => fault.hint(hint),
        None => fault.hint("the server goes on trying; repeat to wait longer"),
    })
}

pub(super) fn follows(role: &Role, to: &HostPort) -> bool {
    matches!(role, Role::Replica { primary, .. } if primary == to)
}

pub(super) fn said(role: &Role) -> String {
    match role {
        Role::Primary { .. } => "it is a primary".to_owned(),
        Role::Replica { primary, .. } => format!("it follows {primary}"),
    }
}

/// Has the server follow an address, and sees that it does.
pub(super) async fn replicate(
    instance: &Instance,
    server: &mut Server,
    before: &Running,
    to: &HostPort,
) -> Result<Running, Fault> {
    let _role = instance.role().await;
    replicate_holding_role(instance, server, before, to).await
}

/// The same for a caller that holds the server's role, from the look that decided.
pub(super) async fn replicate_holding_role(
    instance: &Instance,
    server: &mut Server,
    before: &Running,
    to: &HostPort,
) -> Result<Running, Fault> {
    look::call(instance, server, &[before.version.replicaof(), &to.host, &to.port.to_string()]).await?;
    until_role(instance, server, &format!("a replica of {to}"), |role| follows(role, to)).await
}

pub(super) async fn until_role(
    instance: &Instance,
    server: &mut Server,
    wanted: &str,
    is_wanted: impl Fn(&Role) -> bool,
) -> Result<Running, Fault> {
    let mut pace = Pace::within(ROLE_TIMEOUT);
    loop {
        let running = look::look(instance, server).await?.running;
        if is_wanted(&running.role) {
            return Ok(running);
        }
        if !pace.wait().await {
            return Err(Fault::new(FaultKind::Server, format!("the server did not become {wanted}"))
                .because(said(&running.role)));
        }
    }
}

fn drop_note(instance: &Instance) -> Result<(), Fault> {
    fence::remove(instance.state_dir(), instance.name()).map_err(|error| note_fault("remove", &error))
}

fn note_fault(doing: &str, error: &std::io::Error) -> Fault {
    Fault::new(FaultKind::Host, format!("{doing} the fence note"))
        .because(error)
        .hint("see that the agent's state directory can be written and has space")
}

fn unix_now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// The server's own words on its link.
fn link_fields(info: &Info) -> String {
    let names = ["master_link_status", "master_sync_in_progress", "master_link_down_since_seconds", "loading"];
    let fields = names.iter().filter_map(|name| info.field(name).map(|value| format!("{name}:{value}")));
    fields.collect::<Vec<_>>().join(", ")
}

fn sync_progress(running: &Running, info: &Info) -> Progress {
    let number = |name: &str| info.number(name).unwrap_or(0);
    let known = |total: u64| (total > 0).then_some(total);
    if running.persistence.loading {
        let (done, total) = (running.persistence.loaded_bytes, running.persistence.loading_total_bytes);
        Progress {
            doing: "loading a full resync".into(),
            bytes_done: done,
            bytes_total: known(total),
            bytes_wire: 0,
            ready: false,
        }
    } else if info.flag("master_sync_in_progress") {
        // A primary that streams without a file announces no size.
        let (done, total) = (number("master_sync_read_bytes"), number("master_sync_total_bytes"));
        Progress {
            doing: "receiving a full resync".into(),
            bytes_done: done,
            bytes_total: known(total),
            bytes_wire: 0,
            ready: false,
        }
    } else {
        Progress { doing: "waiting for the link".into(), ..Progress::default() }
    }
}

/// What is known to keep a link from coming up, by what the server logs; `INFO` says no more than `down`.
fn link_hint(causes: &[String]) -> Option<&'static str> {
    let says = |texts: &[&str]| causes.iter().any(|line| texts.iter().any(|text| line.contains(text)));
    if says(&["NOAUTH", "WRONGPASS", "invalid password", "Unable to AUTH", "NOPERM"]) {
        Some("`masterauth` (and `masteruser`) of this server must match `requirepass` or the ACL of the primary")
    } else if says(&["DENIED", "protected mode"]) {
        Some("the primary is in protected mode: set a password there, or `protected-mode no`")
    } else if says(&["Connection refused", "No route", "timed out", "unreachable"]) {
        Some("the primary cannot be reached from here: see its `bind` and the firewall between")
    } else if says(&["RDB format version", "Wrong signature"]) {
        Some("this server is older than the primary and cannot read its snapshots: upgrade it")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_keeps_a_link_down_is_known_by_the_log() {
        let hint = |line: &str| link_hint(&[line.to_owned()]);
        assert!(
            hint("# Unable to AUTH to MASTER: -WRONGPASS invalid username-password pair")
                .unwrap()
                .contains("masterauth")
        );
        assert!(
            hint("# Error reply to PING from master: '-DENIED Redis is running in protected mode")
                .unwrap()
                .contains("protected")
        );
        assert!(hint("# Error condition on socket for SYNC: Connection refused").unwrap().contains("bind"));
        assert!(hint("# Can't handle RDB format version 10").unwrap().contains("older"));
        assert_eq!(hint("* MASTER <-> REPLICA sync started"), None);
    }

    #[test]
    fn a_link_is_described_in_the_servers_own_words() {
        let info =
            Info::parse("# Replication\r\nmaster_link_status:down\r\nmaster_sync_in_progress:1\r\nloading:0\r\n");
        assert_eq!(link_fields(&info), "master_link_status:down, master_sync_in_progress:1, loading:0");
    }
}
