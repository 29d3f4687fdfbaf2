//! Has what is written on a server kept by its agent, from before a snapshot is taken ([`crate::spool`]).

use std::sync::Arc;
use std::time::Duration;

use baton_proto::control::Outcome;
use baton_proto::report::{Link, Role};
use baton_proto::{Fault, FaultKind, RunId};

use super::look::{self, Look};
use crate::agent::Agent;
use crate::instance::Instance;
use crate::replica;

/// How often the server is asked to go on: between the look and the question, more may be written than a small backlog
/// holds.
const ASKS_MAX: u32 = 3;

pub(super) async fn spool(
    agent: &Agent,
    instance: &Arc<Instance>,
    run: &RunId,
    hold: Duration,
) -> Result<Outcome, Fault> {
    if let Some(since) = agent.spools.since(run, instance.name()) {
        return Ok(Outcome::Spooling { since });
    }
    // A link that was lost is another the next time; a disk that is full is not.
    if let Some(fault) = agent.spools.failure(run).filter(|fault| fault.kind == FaultKind::Host) {
        return Err(fault);
    }
    let mut asked = 0;
    let (link, since) = loop {
        asked += 1;
        let mut server = look::connect(instance).await?;
        let look = look::look_loaded(instance, &mut server).await?;
        can_be_spooled(&look)?;
        let since = look.running.replication.lineage;
        let bare = instance.connect_bare().await.map_err(|error| error.fault(instance.name()))?;
        match replica::go_on(instance.name(), bare, &since).await {
            Ok(link) => break (link, since),
            Err(fault) if asked >= ASKS_MAX => return Err(fault),
            Err(_) => {}
        }
    };
    agent.spools.keep(run, instance, (link, since.clone()), hold).await?;
    Ok(Outcome::Spooling { since })
}

/// Judges whether one more replica may be asked for, which holds nothing.
fn can_be_spooled(look: &Look) -> Result<(), Fault> {
    let running = &look.running;
    let refused = |why: &str, hint: &str| {
        Err(Fault::new(FaultKind::Refused, "what is written on the server cannot be spooled").because(why).hint(hint))
    };
    match &running.role {
        Role::Primary { .. } | Role::Replica { link: Link::Up { .. }, .. } => {}
        Role::Replica { .. } => return refused("its link to its primary is down", "see `coord status`"),
    }
    if running.replication.backlog.is_none() {
        return refused("it has no backlog to go on from", "run it again: a backlog is made first");
    }
    // It is told only where the setting is on.
    let counts = ["min_slaves_good_slaves", "min_replicas_good_replicas"];
    if counts.iter().any(|name| look.info.number(name).is_some()) {
        return refused(
            "it takes writes only with so many replicas (min-replicas-to-write), and would count its agent as one",
            "let it have a larger repl-backlog-size instead",
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info::{Info, parse_running};

    const SERVES: &str = "redis_version:7.0.15\r\nprocess_id:7\r\nrole:master\r\n\
        master_replid:c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb\r\nmaster_repl_offset:9\r\n\
        master_replid2:0000000000000000000000000000000000000000\r\nsecond_repl_offset:-1\r\n\
        repl_backlog_active:1\r\nrepl_backlog_size:1048576\r\nrepl_backlog_first_byte_offset:1\r\nrepl_backlog_histlen:9\r\n";

    fn judged(info: &str) -> Result<(), Fault> {
        can_be_spooled(&Look { running: parse_running(info).unwrap(), info: Info::parse(info) })
    }

    #[test]
    fn only_a_server_that_serves_keeps_a_backlog_and_counts_no_replicas_is_spooled() {
        assert_eq!(judged(SERVES), Ok(()));
        for (info, word) in [
            (SERVES.replace("repl_backlog_active:1", "repl_backlog_active:0"), "backlog"),
            (format!("{SERVES}min_slaves_good_slaves:1\r\n"), "min-replicas-to-write"),
            (SERVES.replace("role:master", "role:slave\r\nmaster_host:10.0.0.9\r\nmaster_port:6379"), "is down"),
        ] {
            let fault = judged(&info).unwrap_err();
            assert!(fault.to_string().contains(word) && fault.hint.is_some(), "{fault}");
        }
    }
}
