//! Certificates at the agents: renewed and revoked while they run. Every agent is told of; one that does not answer makes the
//! command end with what is missing.

use std::path::Path;

use baton_proto::report::CertificateFacts;
use baton_proto::{Fault, HostName};
use baton_wire::Role;
use serde_json::json;

use super::SECONDS_A_DAY;
use crate::cli::context::Context;
use crate::error::{CoordError, Exit};
use crate::observe::together;
use crate::pki::ledger::{self, Ledger};
use crate::pki::{self, unix_now};

/// Has each host make a key, signs it, and brings the certificate.
pub(super) async fn rotate(
    context: &Context,
    hosts: &[HostName],
    dir: &Path,
    revoke: bool,
) -> Result<Exit, CoordError> {
    for host in hosts {
        context.inventory.word(host.as_str())?;
    }
    let hosts = if hosts.is_empty() { context.inventory.names() } else { hosts.to_vec() };
    // One after the other: if something is wrong with the first, the others still show what they had.
    let mut missing = Vec::new();
    for host in &hosts {
        match renewed(context, host, dir).await {
            Ok(facts) => tell_renewed(context, host, facts),
            Err(error) => missing.push((host.clone(), error)),
        }
    }
    let failed = |host: &HostName| missing.iter().any(|(missing, _)| missing == host);
    if revoke {
        let mut list = None;
        for host in hosts.iter().filter(|host| !failed(host)) {
            let role = Role::Agent(host.clone());
            let newest = Ledger::read(dir)?.valid(Some(&role), unix_now()).pop();
            let but: Vec<String> = newest.into_iter().map(|valid| valid.serial).collect();
            match pki::revoke(&role, dir, &but) {
                Ok((_, new)) => list = Some(new),
                // It had no other.
                Err(pki::PkiError::NoneValid(..)) => {}
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(list) = list {
            give(context, &list).await?;
        }
    }
    match missing.into_iter().next() {
        None => Ok(Exit::Done),
        Some((host, error)) => {
            let mut not = CoordError::new(Exit::Degraded, format!("the certificate of {host} is not renewed"));
            not.causes = [error.message].into_iter().chain(error.causes).collect();
            // Nobody believes it any more, so that it cannot ask for another by itself.
            let ended = not.causes.iter().any(|cause| cause.contains("expired"));
            let dir = dir.display();
            Err(not.hint(if ended {
                format!(
                    "make it another by `coord pki issue {host} --dir {dir} --out FILE`, put that in its place, and restart its agent"
                )
            } else {
                format!("what it shows it shows on; mend that, then `coord pki rotate {host} --dir {dir}`")
            }))
        }
    }
}

async fn renewed(context: &Context, host: &HostName, dir: &Path) -> Result<CertificateFacts, CoordError> {
    let fault = |fault: Fault| CoordError::of_fault(Exit::Degraded, format!("renew the certificate of {host}"), &fault);
    let request = context.agents.signing_request(host).await.map_err(fault)?;
    let chain = pki::renew(host, dir, &request)?;
    context.agents.renew(host, chain).await.map_err(fault)
}

fn tell_renewed(context: &Context, host: &HostName, facts: CertificateFacts) {
    let days = facts.expires_unix.saturating_sub(unix_now()) / SECONDS_A_DAY;
    context.console.event(&json!({ "event": "pki", "host": host, "expires_unix": facts.expires_unix }));
    context.console.result(|out| writeln!(out, "renewed     {host}, for {days} days"));
}

/// Revokes what a role has, and tells every agent.
pub(super) async fn revoke(context: &Context, role: &Role, dir: &Path) -> Result<Exit, CoordError> {
    let (serials, list) = pki::revoke(role, dir, &[])?;
    context.console.event(&json!({ "event": "pki", "revoked": role.to_string(), "serials": serials }));
    let count = serials.len();
    context.console.result(|out| {
        writeln!(out, "revoked     {count} certificate{} of the {role}", if count == 1 { "" } else { "s" })
    });
    give(context, &list).await
}

/// Tells every agent what is revoked.
pub(super) async fn push(context: &Context, dir: &Path) -> Result<Exit, CoordError> {
    match ledger::list(dir)? {
        Some(list) => give(context, &list).await,
        None => {
            context.console.result(|out| writeln!(out, "nothing was ever revoked"));
            Ok(Exit::Done)
        }
    }
}

async fn give(context: &Context, list: &[u8]) -> Result<Exit, CoordError> {
    // This machine goes by it as well.
    ledger::keep(&context.inventory.state, list)?;
    let hosts = context.inventory.names();
    let told = together(hosts, |host| async move {
        let told = context.agents.revoke(&host, list.to_vec()).await;
        (host, told)
    });
    let mut error: Option<CoordError> = None;
    for (host, told) in told.await {
        context.console.event(&json!({
            "event": "pki", "host": host, "told": told.is_ok(), "error": told.as_ref().err().map(ToString::to_string),
        }));
        match told {
            Ok(facts) => {
                context.console.result(|out| writeln!(out, "told        {host} (list {})", facts.revocations));
            }
            Err(fault) => {
                let first = || CoordError::new(Exit::Degraded, "not every agent knows what is revoked");
                error = Some(error.unwrap_or_else(first).because(format!("{host}: {fault}")));
            }
        }
    }
    match error {
        None => Ok(Exit::Done),
        Some(error) => Err(error
            .hint("when they answer, `coord pki push --dir DIR` tells them; a host that was revoked need not know")),
    }
}
