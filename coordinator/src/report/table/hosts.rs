//! What is to be said of hosts and runs, beside the groups: who has which server, whose certificate ends, who does not know
//! what was revoked, and whose versions differ.

use std::collections::BTreeMap;

use baton_proto::HostName;

use crate::report::units::Span;
use crate::topology::World;

/// From when on a certificate's end is told: long enough for who looks once a month.
const ENDS_SOON_SECONDS: u64 = 30 * SECONDS_A_DAY;
const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// A sentence for each thing that needs a look on these hosts, at this time.
pub fn notes(hosts: &[&HostName], world: &World, now_unix: u64) -> Vec<String> {
    let notes = held(hosts, world).into_iter().chain(certificates(hosts, world, now_unix));
    notes.chain(versions(hosts, world)).collect()
}

/// Which agents are of other versions than this program, or than each other.
fn versions(hosts: &[&HostName], world: &World) -> Option<String> {
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for host in hosts {
        if let Some(report) = world.report(host) {
            found.entry(&report.software).or_default().push(host.as_str());
        }
    }
    let own = env!("CARGO_PKG_VERSION");
    if found.keys().all(|software| software.split_whitespace().last() == Some(own)) {
        return None;
    }
    let found: Vec<String> = found.iter().map(|(software, on)| format!("{software} on {}", on.join(", "))).collect();
    Some(format!(
        "versions differ: coord {own} here, {}; bring the older ones up: `coord install HOST`",
        found.join(", ")
    ))
}

/// The runs that have servers of these hosts.
fn held(hosts: &[&HostName], world: &World) -> Vec<String> {
    let instances = world.instances().filter(|(name, _)| hosts.contains(&&name.host));
    let held = instances.filter_map(|(name, report)| Some((name, report.claim.as_ref()?)));
    held.map(|(name, claim)| {
        let (run, by) = (&claim.run, &claim.by);
        let heard = match claim.quiet_ms {
            Some(quiet) => format!("its coordinator was last heard of {} ago", Span(quiet / 1000)),
            None => "nothing was heard of its coordinator since the agent was started".into(),
        };
        format!("{name} is held by run {run} of operator {by}; {heard}: `coord show {run} -f`")
    })
    .collect()
}

fn certificates(hosts: &[&HostName], world: &World, now_unix: u64) -> Vec<String> {
    let facts = |host: &HostName| world.report(host).and_then(|report| report.certificate);
    let told = world.hosts.keys().filter_map(facts).map(|facts| facts.revocations);
    // All of them may be new, or were away: then this machine alone knows.
    let newest = told.max().unwrap_or(0).max(world.revocations);
    let mut notes = Vec::new();
    for host in hosts {
        let Some(facts) = facts(host) else { continue };
        let left = facts.expires_unix.saturating_sub(now_unix);
        if left == 0 {
            notes.push(format!("the certificate of {host} has ended: `coord pki issue {host} --dir DIR --out FILE`"));
        } else if left < ENDS_SOON_SECONDS {
            let days = left / SECONDS_A_DAY;
            notes.push(format!("the certificate of {host} ends in {days} days: `coord pki rotate {host} --dir DIR`"));
        }
        if facts.revocations < newest {
            let known = facts.revocations;
            notes.push(format!(
                "{host} does not know all that was revoked (list {known} of {newest}): `coord pki push --dir DIR`"
            ));
        }
    }
    notes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::HostView;
    use crate::topology::fixture::{NOW, healthy, host};
    use baton_proto::claim::{Claim, Turn};
    use baton_proto::report::CertificateFacts;

    fn told(change: impl FnOnce(&mut World)) -> Vec<String> {
        let mut world = healthy();
        change(&mut world);
        let hosts: Vec<&HostName> = world.hosts.keys().collect();
        notes(&hosts, &world, NOW)
    }

    fn with_certificate(world: &mut World, name: &str, days: u64, revocations: u64) {
        let Some(HostView::Answered { report, .. }) = world.hosts.get_mut(&host(name)).map(|host| &mut host.view)
        else {
            panic!("{name} does not answer")
        };
        report.certificate = Some(CertificateFacts { expires_unix: NOW + days * SECONDS_A_DAY, revocations });
    }

    #[test]
    fn a_certificate_is_told_of_when_it_ends_soon_and_a_list_when_others_know_a_newer_one() {
        assert_eq!(told(|_| {}), Vec::<String>::new(), "agents that do not tell are not judged");
        assert_eq!(told(|world| with_certificate(world, "machine-a", 31, 0)), Vec::<String>::new());
        let soon = told(|world| with_certificate(world, "machine-a", 29, 0));
        assert_eq!(soon, ["the certificate of machine-a ends in 29 days: `coord pki rotate machine-a --dir DIR`"]);
        let ended = told(|world| with_certificate(world, "machine-a", 0, 0));
        assert_eq!(ended, ["the certificate of machine-a has ended: `coord pki issue machine-a --dir DIR --out FILE`"]);
        let lag = told(|world| {
            with_certificate(world, "machine-a", 400, 1);
            with_certificate(world, "machine-b", 400, 2);
        });
        assert_eq!(lag, ["machine-a does not know all that was revoked (list 1 of 2): `coord pki push --dir DIR`"]);
        let all = told(|world| {
            with_certificate(world, "machine-a", 400, 1);
            with_certificate(world, "machine-b", 400, 1);
            world.revocations = 2;
        });
        assert_eq!(all.len(), 2, "{all:?}");
        let behind = told(|world| {
            with_certificate(world, "machine-a", 400, 3);
            world.revocations = 2;
        });
        assert_eq!(behind, Vec::<String>::new(), "what this machine does not know, its agents need not be told");
    }

    fn with_software(world: &mut World, name: &str, software: &str) {
        let Some(HostView::Answered { report, .. }) = world.hosts.get_mut(&host(name)).map(|host| &mut host.view)
        else {
            panic!("{name} does not answer")
        };
        report.software = software.into();
    }

    #[test]
    fn agents_of_another_version_are_told_of_with_those_of_this_one() {
        let notes = told(|world| with_software(world, "machine-b", "baton-agent 99.0.0"));
        let own = env!("CARGO_PKG_VERSION");
        let all = format!(
            "versions differ: coord {own} here, baton-agent {own} on machine-a, machine-c, baton-agent 99.0.0 on \
             machine-b; bring the older ones up: `coord install HOST`"
        );
        assert_eq!(notes, [all]);
    }

    #[test]
    fn who_has_a_server_is_told_with_how_to_watch() {
        let notes = told(|world| {
            let Some(HostView::Answered { report, .. }) = world.hosts.get_mut(&host("machine-b")).map(|h| &mut h.view)
            else {
                panic!("machine-b answers")
            };
            report.instances[0].claim = Some(Claim {
                run: baton_proto::RunId::new("fo-7k2m").unwrap(),
                turn: Turn { epoch: 1, holder: 1 },
                by: "ada".into(),
                since_unix: NOW,
                quiet_ms: Some(4000),
            });
        });
        assert_eq!(
            notes,
            [
                "machine-b is held by run fo-7k2m of operator ada; its coordinator was last heard of 4s ago: `coord show fo-7k2m -f`"
            ]
        );
    }
}
