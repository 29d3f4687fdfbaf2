//! Targets of runs whose agents feed them: a server that loads a snapshot while it arrives follows a port of its own host, which
//! its agent has opened. It is in no group yet.

use baton_proto::report::{InstanceReport, Role};
use baton_proto::{HostPort, InstanceRef, RunId};

/// A server that a run fills.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fed {
    pub instance: InstanceRef,
    pub run: RunId,
    /// Where its agent feeds it.
    pub by: HostPort,
}

/// Where an agent feeds its server: it tells it this address.
const FED_BY: &str = "127.0.0.1";

/// An instance that a run has, and that follows such a port. Whether a server is there is for the caller to say, and that it is
/// no fence.
pub(super) fn fed(instance: &InstanceRef, report: &InstanceReport) -> Option<Fed> {
    let run = report.claim.as_ref()?.run.clone();
    let Role::Replica { primary, .. } = &report.server.running()?.role else { return None };
    (primary.host == FED_BY).then(|| Fed { instance: instance.clone(), run, by: primary.clone() })
}

#[cfg(test)]
mod tests {
    use baton_proto::claim::{Claim, Turn};

    use super::*;
    use crate::topology::fixture::*;
    use crate::topology::{Topology, World};

    fn world(follows: &str, held: bool) -> World {
        let mut target = instance("default", "10.0.0.3:6379").replica(
            follows,
            baton_proto::report::Link::Syncing,
            lineage('b', 1),
            0,
        );
        let turn = Turn { epoch: 1, holder: 7 };
        let run = RunId::new("fo-7k2m").unwrap();
        target.claim = held.then(|| Claim { run, turn, by: "ada".into(), since_unix: NOW, quiet_ms: None });
        lost_primary().with("machine-c", "10.0.0.3:7400", vec![target])
    }

    fn groups(topology: &Topology) -> Vec<&str> {
        topology.groups.iter().map(|group| group.name.as_str()).collect()
    }

    #[test]
    fn a_target_that_its_agent_feeds_is_a_target_and_no_group() {
        let topology = Topology::of(&world("127.0.0.1:40001", true));
        assert_eq!(groups(&topology), ["machine-a"]);
        let run = RunId::new("fo-7k2m").unwrap();
        assert_eq!(topology.fed, [Fed { instance: named("machine-c"), run, by: at("127.0.0.1:40001") }]);
        assert_eq!(topology.spares, []);
    }

    #[test]
    fn who_is_held_by_no_run_or_follows_somebody_is_shown_as_before() {
        assert_eq!(Topology::of(&world("127.0.0.1:40001", false)).fed, []);
        assert_eq!(Topology::of(&world("127.0.0.1:1", true)).fed, [], "it is fenced");
        let joined = Topology::of(&world("10.0.0.1:6379", true));
        assert_eq!((joined.fed.len(), groups(&joined)), (0, vec!["machine-a"]));
    }
}
