//! Whether a server can be fed: it must hold nothing, follow nobody, and let its settings be changed for a while.

use std::collections::BTreeMap;

use baton_proto::report::{Role, total_keys};
use baton_proto::{Fault, FaultKind};

use crate::actions::look::Look;
use crate::actions::replication::said;
use crate::instance::Instance;
use crate::server::{Server, ServerError};

/// The settings of a server, all of them: a feed without `CONFIG` could not be kept from others.
pub(super) async fn settings(instance: &Instance, server: &mut Server) -> Result<BTreeMap<String, String>, Fault> {
    server.all_config().await.map_err(|error| match error {
        ServerError::Said(_) => Fault::new(FaultKind::Unsupported, "the server cannot be fed while it runs")
            .because(error)
            .because("without CONFIG its feed could not be kept from others on this host")
            .hint(BY_FILE),
        ServerError::Lost(_) => error.fault(instance.name(), "CONFIG GET"),
    })
}

/// What always works.
const BY_FILE: &str = "land the snapshot by file: stop the server, install, start";

/// Tells what keeps a server from being fed.
pub(super) fn may_be_fed(look: &Look, settings: &BTreeMap<String, String>) -> Result<(), Fault> {
    let running = &look.running;
    let unsupported = |why: String| {
        Fault::new(FaultKind::Unsupported, "the server cannot be fed while it runs").because(why).hint(BY_FILE)
    };
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|set| set == value);
    if is("tls-replication", "yes") {
        return Err(unsupported("`tls-replication yes`: it would ask for its data by TLS only".into()));
    }
    if is("cluster-enabled", "yes") {
        return Err(unsupported("it is a node of a cluster, and follows by the cluster's rules only".into()));
    }
    if !running.version.continues_as_replica() {
        return Err(unsupported(format!("{} does not keep the lineage of what it loads", running.version)));
    }
    let refused = |why: String, hint: &str| {
        Err(Fault::new(FaultKind::Refused, "the server is not to be fed").because(why).hint(hint))
    };
    match &running.role {
        Role::Primary { replicas } if replicas.is_empty() => {}
        Role::Primary { replicas } => {
            return refused(
                format!("{} replicas follow it, and would be emptied with it", replicas.len()),
                "look at `coord status`: it is in use",
            );
        }
        role => return refused(said(role), "make it a primary first, if nobody needs its data"),
    }
    let keys = total_keys(&running.keyspace);
    if keys > 0 {
        return refused(format!("it holds {keys} keys"), "name a target that is empty, or empty this one by hand");
    }
    if let Some(libraries) = libraries(look).filter(|libraries| *libraries > 0) {
        let why = format!("it holds {libraries} libraries of functions, which the snapshot's would replace");
        return refused(why, "drop them by FUNCTION FLUSH, if nobody needs them");
    }
    let state = &running.persistence;
    if state.saving || state.aof_rewriting {
        return refused("it is saving".into(), "repeat when it has saved");
    }
    Ok(())
}

/// Libraries of functions that a server holds, where it knows functions.
pub(super) fn libraries(look: &Look) -> Option<u64> {
    look.info.number("number_of_libraries")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info::{Info, parse_running};

    const EMPTY: &str = "redis_version:7.0.15\r\nprocess_id:7\r\nrole:master\r\n\
        master_replid:c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb\r\nmaster_repl_offset:0\r\n\
        master_replid2:0000000000000000000000000000000000000000\r\nsecond_repl_offset:-1\r\nnumber_of_libraries:0\r\n";

    fn judged(more: &str, settings: &[(&str, &str)]) -> Result<(), Fault> {
        let text = format!("{EMPTY}{more}");
        let look = Look { running: parse_running(&text).unwrap(), info: Info::parse(&text) };
        let settings = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        may_be_fed(&look, &settings.collect())
    }

    #[test]
    fn an_empty_primary_may_be_fed_and_nobody_else() {
        assert_eq!(judged("", &[("tls-replication", "no")]), Ok(()));
        for (more, kind, word) in [
            ("db3:keys=1,expires=0\r\n", FaultKind::Refused, "1 keys"),
            ("number_of_libraries:2\r\n", FaultKind::Refused, "2 libraries"),
            ("slave0:ip=10.0.0.9,port=6379,state=online,offset=1,lag=0\r\n", FaultKind::Refused, "1 replicas"),
            ("role:slave\r\nmaster_host:10.0.0.9\r\nmaster_port:6379\r\n", FaultKind::Refused, "follows 10.0.0.9"),
            ("rdb_bgsave_in_progress:1\r\n", FaultKind::Refused, "saving"),
            ("redis_version:3.2.13\r\n", FaultKind::Unsupported, "lineage"),
        ] {
            let fault = judged(more, &[]).unwrap_err();
            assert_eq!(fault.kind, kind, "{fault}");
            assert!(fault.to_string().contains(word) && fault.hint.is_some(), "{fault}");
        }
        for setting in ["tls-replication", "cluster-enabled"] {
            let fault = judged("", &[(setting, "yes")]).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Unsupported, "{fault}");
        }
    }
}
