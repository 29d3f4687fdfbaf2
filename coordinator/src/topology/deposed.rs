//! Replaced primaries, as the agents' notes tell of them.

use baton_proto::InstanceRef;
use baton_proto::deposed::Held;

use super::World;

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
}
