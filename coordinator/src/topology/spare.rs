//! Which spare could take the place of a lost primary. A proposal for a person; the plan's checks decide.

use std::cmp::Reverse;

use baton_proto::InstanceRef;
use baton_proto::report::InstanceReport;
use baton_proto::version::ServerVersion;

use super::{Group, Topology, World};

impl Topology {
    /// The spare to propose for a group: one that reads what the group's servers write, on another host than any of
    /// them; rather one without data of its own, of the same version, with more free disk.
    pub fn spare_for(&self, group: &Group, world: &World) -> Option<InstanceRef> {
        let running = |name: &InstanceRef| world.instance(name)?.server.running().map(|running| running.version);
        let versions: Vec<ServerVersion> = group.members().filter_map(running).collect();
        let elsewhere = |name: &&InstanceRef| {
            let mut members = group.members();
            group.primary.place.host() != Some(&name.host) && !members.any(|member| member.host == name.host)
        };
        let candidates = self.spares.iter().filter(elsewhere).filter_map(|name| {
            let report = world.instance(name)?;
            let version = version(report)?;
            let reads_all = versions.iter().all(|other| version.reads(other.writes()));
            let rank = (has_data(report), !versions.contains(&version), Reverse(report.files.free_bytes));
            reads_all.then_some((rank, name))
        });
        candidates.min().map(|(_, name)| name.clone())
    }
}

fn version(report: &InstanceReport) -> Option<ServerVersion> {
    report.server.running().map(|running| running.version).or(report.binary)
}

fn has_data(report: &InstanceReport) -> bool {
    report.files.dump_bytes.is_some_and(|bytes| bytes > 0) || report.files.has_aof
}
