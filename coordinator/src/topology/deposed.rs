//! Replaced primaries, as the agents' notes tell of them.

use baton_proto::InstanceRef;
use baton_proto::deposed::Held;

use super::{Place, World, group};

impl World {
    /// The newest word on each deposition that still stands. The deposed one's own agent counts before others: it knows
    /// whether it has heard.
    pub fn depositions(&self) -> Vec<&Held> {
        let all = || self.hosts.keys().filter_map(|host| Some((host, self.report(host)?)));
        let mut found: Vec<&Held> = Vec::new();
        let own =
            all().flat_map(|(host, report)| report.depositions.iter().filter(|held| held.deposition.host == *host));
        let others = all().flat_map(|(_, report)| report.depositions.iter());
        for held in own.chain(others) {
            if !found.iter().any(|known| known.deposition.run == held.deposition.run) {
                found.push(held);
            }
        }
        // An end that any agent has heard of is an end.
        let ended = |held: &Held| {
            let of_run = |other: &&Held| other.deposition.run == held.deposition.run;
            all().flat_map(|(_, report)| &report.depositions).filter(of_run).any(|other| !other.deposition.stands())
        };
        found.retain(|held| !ended(held));
        found
    }

    /// The deposition of an instance that still stands.
    pub fn deposed(&self, name: &InstanceRef) -> Option<&Held> {
        let report = self.report(&name.host)?;
        let instance = self.instance(name)?;
        let only = report.instances.len() == 1;
        let about = |held: &&Held| held.deposition.is_about(&name.host, &name.instance, instance.address.port, only);
        self.depositions().into_iter().filter(about).max_by_key(|held| held.deposition.since_unix)
    }

    /// The deposition of the primary that a replica still follows, or followed until it was fenced: a replica that was left
    /// behind when that primary was replaced. One that the deposing run itself holds is not: that may still move it.
    pub fn stray(&self, name: &InstanceRef) -> Option<&Held> {
        let report = self.instance(name)?;
        let follows = group::upstream_address(report)?;
        let place = self.place(&follows, &name.host);
        let about = |held: &&Held| {
            let note = &held.deposition;
            let is_instance = |found: &InstanceRef| {
                found.host == note.host && note.instance.as_ref().is_none_or(|named| *named == found.instance)
            };
            let followed = follows == note.address
                || match &place {
                    Place::Instance(found) => is_instance(found),
                    Place::Host(host) => *host == note.host && follows.port == note.address.port,
                    Place::Unknown => false,
                };
            let is_held = report.claim.as_ref().is_some_and(|claim| claim.run == note.run);
            followed && !is_held && note.successor != *name
        };
        if self.deposed(name).is_some() {
            return None;
        }
        self.depositions().into_iter().filter(about).max_by_key(|held| held.deposition.since_unix)
    }

    /// The deposition after which an instance is to be joined to the group again: its own, or that of whom it follows.
    pub fn joins_after(&self, name: &InstanceRef) -> Option<&Held> {
        self.deposed(name).or_else(|| self.stray(name))
    }
}
