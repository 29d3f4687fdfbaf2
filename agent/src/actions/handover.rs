//! A primary that hands its role to one of its replicas without losing a write.
//!
//! ```text
//!                 FAILOVER TO replica TIMEOUT ms
//!   leads ──────────────────────────────────────> waiting: writes are held until the replica has read all
//!     ^  <── not within the timeout ────────────────┤
//!     |                                             v
//!     |  <── the replica cannot be reached ────── yielding: read-only, the replica is told to take over
//!     |                                             v
//!     └── keep_primary sees that it is here        follows: a replica of its successor
//! ```
//!
//! The server does all of it by itself, and so does not depend on this agent: one that dies in the middle leaves a server
//! that comes to `leads` or to `follows`, and the agent after it finds it there. Writes are held by the server, with an end;
//! the agent pauses nothing.
//!
//! How long writes were blocked is measured by one clock, this host's: from before the server is told until a key that the
//! successor wrote as its first has come back by replication.

use std::time::Duration;

use baton_proto::control::{HandoverFacts, Outcome, Progress, ReachVerdict};
use baton_proto::report::{Link, Role};
use baton_proto::{Fault, FaultKind, HostPort, Lineage, RunId};
use tokio::time::Instant;
use tracing::{info, warn};

use super::look::{self, Look, Watch};
use super::pace::Pace;
use super::persist;
use crate::info::Info;
use crate::instance::Instance;
use crate::server::Server;
use crate::service::LogMark;
use crate::tasks::ProgressSink;
use crate::{names, reach};

/// How long the change of roles may take once the replica has read all, which a server does not limit by itself: two
/// handshakes, and a few attempts at them a second apart.
const YIELD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a server may be in the middle of it before its successor is tried from here.
const YIELD_DOUBTFUL: Duration = Duration::from_secs(2);
/// How long a server may give no answer: one that is busy misses some.
const UNSEEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the successor's first write is waited for once the link to it is up. It takes no writes as long as
/// `min-replicas-to-write` wants more replicas than have followed it yet.
const CANARY_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a server stands in a handover.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Stage {
    Leads,
    /// It holds writes back until the replica has read all.
    Waiting,
    /// It has told the replica to take over.
    Yielding,
    Follows {
        primary: HostPort,
        linked: bool,
    },
}

impl Stage {
    /// While it yields, a server already says that it is a replica.
    fn of(role: &Role, info: &Info) -> Stage {
        match (info.field("master_failover_state").or_else(|| info.field("primary_failover_state")), role) {
            (Some("waiting-for-sync"), _) => Stage::Waiting,
            (Some("failover-in-progress"), _) => Stage::Yielding,
            (_, Role::Primary { .. }) => Stage::Leads,
            (_, Role::Replica { primary, link, .. }) => {
                Stage::Follows { primary: primary.clone(), linked: matches!(link, Link::Up { .. }) }
            }
        }
    }

    fn seen(look: &Look) -> Stage {
        Stage::of(&look.running.role, &look.info)
    }
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Stage::Leads => "it is the primary",
            Stage::Waiting => "writes wait until the replica has read all",
            Stage::Yielding => "roles change",
            Stage::Follows { linked: true, .. } => "it follows the new primary",
            Stage::Follows { linked: false, .. } => "waiting for the link to the new primary",
        })
    }
}

/// Hands over to `to`, and waits until this instance follows it. `canary` is what the successor writes.
pub(super) async fn hand_over(
    instance: &Instance,
    to: &HostPort,
    canary: (&RunId, &str),
    limit: Duration,
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    let mut server = look::connect(instance).await?;
    let mark = LogMark::now(instance, Some(&mut server)).await;
    let before = look::look_loaded(instance, &mut server).await?;
    let stage = Stage::seen(&before);
    let found = matches!(stage, Stage::Follows { .. });
    let begun = match stage {
        Stage::Leads => Some(begin(instance, &mut server, &before.running.role, to, limit).await?),
        Stage::Follows { primary, .. } if primary != *to => return Err(follows_another(&primary)),
        // An attempt whose agent died goes on in the server.
        Stage::Waiting | Stage::Yielding | Stage::Follows { .. } => None,
    };
    let mut watch = Watch::new(instance, Some(server));
    let lineage = match yielded(instance, &mut watch, to, limit, progress).await {
        Ok(lineage) => lineage,
        Err(fault) => return Err(mark.explain(fault).await),
    };
    let blocked = match begun {
        Some(begun) => came_back(&mut watch, canary).await.then(|| begun.elapsed()),
        None => None,
    };
    // A restart before the run's end would bring a second primary.
    let persisted = match watch.server().await {
        Ok(server) => persist::persist_with(instance, server).await,
        Err(fault) => Err(fault),
    };
    if let Err(fault) = persisted {
        warn!(instance = %instance.name(), "a replica of {to} until the server's next restart only: {fault}");
    }
    info!(instance = %instance.name(), %to, ?blocked, "handed over");
    let blocked_seconds = blocked.map(|blocked| blocked.as_secs_f64());
    Ok(Outcome::HandedOver(HandoverFacts { lineage, found, blocked_seconds }))
}

/// Tells the server, and when that was.
async fn begin(
    instance: &Instance,
    server: &mut Server,
    role: &Role,
    to: &HostPort,
    limit: Duration,
) -> Result<Instant, Fault> {
    let Role::Primary { replicas } = role else {
        return Err(Fault::new(FaultKind::Refused, "the server is not a primary"));
    };
    if !replicas.iter().any(|line| line.address == *to && line.online) {
        return Err(Fault::new(FaultKind::Refused, format!("{to} is not a replica that this server is linked to"))
            .hint("look at `coord status`: the replica's link broke since the plan was made"));
    }
    let begun = Instant::now();
    let milliseconds = limit.as_millis().to_string();
    let failover = ["FAILOVER", "TO", &to.host, &to.port.to_string(), "TIMEOUT", &milliseconds];
    look::call(instance, server, &failover).await?;
    Ok(begun)
}

/// Waits until the server is a linked replica of `to`, or leads again.
async fn yielded(
    instance: &Instance,
    watch: &mut Watch<'_>,
    to: &HostPort,
    limit: Duration,
    progress: &ProgressSink,
) -> Result<Lineage, Fault> {
    let mut pace = Pace::closely_within(limit + YIELD_TIMEOUT);
    let mut seen_at = Instant::now();
    let mut yielding: Option<Instant> = None;
    let mut tried: Option<String> = None;
    loop {
        if let Some(look) = watch.look().await {
            seen_at = Instant::now();
            let stage = Stage::seen(&look);
            progress.report(Progress { doing: stage.to_string(), ..Progress::default() });
            match stage {
                Stage::Leads => return Err(given_up(to, limit, tried)),
                Stage::Follows { primary, .. } if primary != *to => return Err(follows_another(&primary)),
                Stage::Follows { linked: true, .. } => return Ok(look.running.replication.lineage),
                Stage::Follows { .. } | Stage::Waiting => {}
                Stage::Yielding => {
                    let since = *yielding.get_or_insert_with(Instant::now);
                    if since.elapsed() >= YIELD_DOUBTFUL {
                        yielding = Some(Instant::now());
                        tried = take_back(instance, watch, to).await?.or(tried);
                    }
                }
            }
        }
        if seen_at.elapsed() >= UNSEEN_TIMEOUT || !pace.wait().await {
            break;
        }
    }
    let fault = Fault::new(FaultKind::Server, format!("it cannot be told whether {to} has taken over"));
    let fault = match watch.missed.take() {
        Some(missed) => fault.because(missed),
        None => fault.because("the server is read-only, and waits for an answer of its successor"),
    };
    Err(fault.hint(format!("see what {to} does; if it is lost and no primary, say FAILOVER ABORT to this server")))
}

/// Ends a change of roles whose successor cannot have heard of it: nobody listens there, or it lets this server not in. In
/// every other case it may be about to take over, and to lead again would make two primaries. Yields the reason if it was
/// ended.
async fn take_back(instance: &Instance, watch: &mut Watch<'_>, to: &HostPort) -> Result<Option<String>, Fault> {
    let reach = reach::reach(instance, to).await;
    let deaf = matches!(reach.verdict, ReachVerdict::Refused | ReachVerdict::Denied | ReachVerdict::Unauthorised);
    if !deaf {
        return Ok(None);
    }
    match watch.server().await?.call(&["FAILOVER", "ABORT"]).await {
        Ok(_) => Ok(Some(reach.detail)),
        // It ended by itself meanwhile, which the next look shows.
        Err(error) => {
            info!(instance = %instance.name(), %error, "the handover had ended");
            Ok(None)
        }
    }
}

/// Waits until the successor's first write is here.
async fn came_back(watch: &mut Watch<'_>, (run, value): (&RunId, &str)) -> bool {
    let key = names::canary_key(run);
    let mut pace = Pace::closely_within(CANARY_TIMEOUT);
    loop {
        if let Ok(server) = watch.server().await
            && let Ok(answer) = server.call(&["GET", &key]).await
            && answer.as_text() == Some(value)
        {
            return true;
        }
        if !pace.wait().await {
            return false;
        }
    }
}

/// Sees that the server leads, and waits for the end of a handover that is under way. As long as that is safe the server
/// gives up by itself; afterwards it is ended only if its successor cannot have heard of it.
pub(super) async fn keep_primary(instance: &Instance, limit: Duration) -> Result<Outcome, Fault> {
    let mut watch = Watch::new(instance, None);
    let mut pace = Pace::within(limit + YIELD_TIMEOUT);
    let mut seen_at = Instant::now();
    let mut yielding: Option<Instant> = None;
    let mut seen = None;
    loop {
        if let Some(look) = watch.look().await {
            seen_at = Instant::now();
            let stage = Stage::seen(&look);
            if let (Stage::Yielding, Role::Replica { primary, .. }) = (&stage, &look.running.role)
                && yielding.get_or_insert_with(Instant::now).elapsed() >= YIELD_DOUBTFUL
            {
                yielding = Some(Instant::now());
                take_back(instance, &mut watch, primary).await?;
            }
            match stage {
                Stage::Leads => return Ok(Outcome::KeptPrimary { lineage: look.running.replication.lineage }),
                Stage::Follows { primary, linked: true } => return Err(follows_another(&primary)),
                other => seen = Some(other),
            }
        }
        if seen_at.elapsed() >= UNSEEN_TIMEOUT || !pace.wait().await {
            break;
        }
    }
    let fault = Fault::new(FaultKind::Server, "the server did not become a primary again");
    let fault = match (watch.missed.take(), seen) {
        (Some(missed), _) => fault.because(missed),
        (None, Some(stage)) => fault.because(stage),
        (None, None) => fault,
    };
    Err(fault.hint(
        "see both servers with `coord status`; if its successor is lost and no primary, say FAILOVER ABORT to it",
    ))
}

fn given_up(to: &HostPort, limit: Duration, tried: Option<String>) -> Fault {
    match tried {
        Some(detail) => Fault::new(FaultKind::Server, format!("{to} cannot take over: {detail}")),
        None => Fault::new(
            FaultKind::Server,
            format!(
                "{to} did not take over within {} s, and this server is the primary as before",
                limit.as_secs_f32()
            ),
        )
        .hint("see its lag with `coord status`, or give it longer with --timeout"),
    }
}

fn follows_another(primary: &HostPort) -> Fault {
    Fault::new(FaultKind::Refused, format!("the server follows {primary}"))
        .hint("look at `coord status`: somebody else changed its role")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_yields_is_not_taken_for_a_replica_yet() {
        let stage = |failover: &str, role: &str| {
            let text = format!(
                "role:{role}\r\nmaster_host:10.0.0.2\r\nmaster_port:6379\r\nmaster_link_status:up\r\nmaster_failover_state:{failover}\r\n"
            );
            let info = Info::parse(&text);
            Stage::of(&info.role().unwrap(), &info)
        };
        let primary = HostPort::new("10.0.0.2", 6379);
        assert_eq!(stage("no-failover", "master"), Stage::Leads);
        assert_eq!(stage("waiting-for-sync", "master"), Stage::Waiting);
        assert_eq!(stage("failover-in-progress", "slave"), Stage::Yielding);
        assert_eq!(stage("no-failover", "slave"), Stage::Follows { primary, linked: true });
    }
}
