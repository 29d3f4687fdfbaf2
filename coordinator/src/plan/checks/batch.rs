//! Checks across the plans of several groups that move to one host: each may fit alone, and all of them not.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use baton_proto::HostName;
use baton_proto::control::SaveMethod;

use super::{danger, ok, refuse, target, warn};
use crate::plan::cast::CastError;
use crate::plan::steps::save_method;
use crate::plan::{Check, Scene};
use crate::report::units::Bytes;
use crate::topology::Group;

/// What one run takes of what it shares with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Demand {
    pub memory: Need,
    pub disk: Need,
    pub source_disk: Need,
}

/// So many bytes out of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    pub host: HostName,
    /// The file system, where it is about disk and an agent tells it.
    pub filesystem: Option<u64>,
    pub wanted: u64,
    pub has: u64,
    /// Whether those with the same host and file system are known to share one pool.
    pub is_shared: bool,
}

impl Demand {
    pub fn of(scene: &Scene) -> Demand {
        let target = &scene.target.name.host;
        let memory = Need {
            host: target.clone(),
            filesystem: None,
            wanted: scene.source.running().map_or(0, |running| running.memory.used_bytes),
            has: scene.world.report(target).map_or(0, |host| host.memory_available_bytes),
            is_shared: true,
        };
        let disk = |host: &HostName, files: &baton_proto::report::Files, wanted| Need {
            host: host.clone(),
            filesystem: files.filesystem,
            wanted,
            has: files.free_bytes,
            is_shared: files.filesystem.is_some(),
        };
        let saved = match save_method(scene).0 {
            SaveMethod::Existing | SaveMethod::Stream => 0,
            SaveMethod::Save | SaveMethod::Bgsave => scene.data_bytes(),
        };
        Demand {
            memory,
            disk: disk(target, &scene.target.report.files, target::disk_wanted(scene)),
            source_disk: disk(&scene.source.name.host, &scene.source.report.files, saved),
        }
    }
}

/// The primary lives: this verb is not for it.
pub fn alive(group: &Group) -> Check {
    let name = &group.name;
    let heir = group.replicas.iter().find(|replica| replica.is_linked()).map(|replica| replica.instance.to_string());
    let heir = heir.unwrap_or_else(|| "REPLICA".into());
    danger(
        "batch-alive",
        format!("{name} lives: it runs and answers as a primary"),
        format!("hand its role over with `coord switchover {name} --to {heir}`"),
    )
}

/// The target host has no server left for the group.
pub fn without_target(group: &str, host: &HostName) -> Check {
    refuse(
        "batch-target",
        format!("{host} has no free server left for {group} that reads what its servers write"),
        format!(
            "add one to the agent.toml of {host}, or name another with `coord failover {group} --to HOST/INSTANCE`"
        ),
    )
}

/// Nobody of the group can be the source.
pub fn without_cast(error: &CastError) -> Check {
    let reasons = error.reasons().join("; ");
    let why = if reasons.is_empty() { error.to_string() } else { format!("{error}: {reasons}") };
    refuse("batch-source", why, "see `coord status -v`")
}

/// Whether each run still fits beside those before it. There is an answer for each demand, in their order; a group without
/// one takes nothing. So many of the runs write a snapshot at a time.
pub fn fits(demands: &[Option<Demand>], jobs: usize) -> Vec<Vec<Check>> {
    let all = usize::MAX;
    let columns = [
        sums(demands, "batch-memory", ("memory for the data sets", all), |demand| &demand.memory),
        sums(demands, "batch-disk", ("disk for the snapshots and first append-only files", all), |demand| &demand.disk),
        sums(demands, "batch-source-disk", ("disk for the snapshots that are written at a time", jobs), |demand| {
            &demand.source_disk
        }),
    ];
    (0..demands.len()).map(|at| columns.iter().filter_map(|column| column.get(at)?.clone()).collect()).collect()
}

/// Adds up what is wanted of each pool, of the largest `at_once` only.
fn sums(
    demands: &[Option<Demand>],
    id: &'static str,
    (what, at_once): (&str, usize),
    need: impl Fn(&Demand) -> &Need,
) -> Vec<Option<Check>> {
    let mut pools: BTreeMap<(HostName, Option<u64>), Vec<u64>> = BTreeMap::new();
    let mut check = |need: &Need| {
        let pool = pools.entry((need.host.clone(), need.filesystem)).or_default();
        let mut wanted: Vec<u64> = pool.iter().copied().chain([need.wanted]).collect();
        wanted.sort_by_key(|bytes| Reverse(*bytes));
        let sum = wanted.iter().take(at_once).fold(0, |sum: u64, bytes| sum.saturating_add(*bytes));
        let (host, others) = (&need.host, pool.len());
        let says =
            format!("{host} has {} of {what}; with the {others} before it this takes {}", Bytes(need.has), Bytes(sum));
        if sum <= need.has {
            pool.push(need.wanted);
            return ok(id, says);
        }
        if !need.is_shared {
            pool.push(need.wanted);
            return warn(
                id,
                says,
                format!("see on {host} that these directories are on several disks; or upgrade its agent"),
            );
        }
        refuse(id, says, "move fewer groups at a time, each by its name, or make room")
    };
    demands.iter().map(|demand| demand.as_ref().map(|demand| check(need(demand)))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::Level;
    use crate::topology::fixture::host;

    fn need(on: &str, filesystem: Option<u64>, wanted: u64, has: u64) -> Need {
        Need { host: host(on), filesystem, wanted, has, is_shared: filesystem.is_some() }
    }

    fn demand(memory: u64, disk: u64, source: u64) -> Option<Demand> {
        let memory = Need { is_shared: true, ..need("c", None, memory, 100) };
        Some(Demand { memory, disk: need("c", Some(1), disk, 100), source_disk: need("b", Some(1), source, 100) })
    }

    fn levels(demands: &[Option<Demand>], jobs: usize) -> Vec<Vec<(String, Level)>> {
        let refusals = |checks: Vec<Check>| {
            let bad = checks.into_iter().filter(|check| check.level > Level::Ok);
            bad.map(|check| (check.id, check.level)).collect()
        };
        fits(demands, jobs).into_iter().map(refusals).collect()
    }

    #[test]
    fn what_fits_alone_may_not_fit_together_and_a_smaller_one_still_may() {
        let memory = vec![("batch-memory".to_owned(), Level::Refuse)];
        let found = levels(&[demand(60, 1, 1), demand(60, 1, 1), demand(40, 1, 1)], 4);
        assert_eq!(found, [vec![], memory, vec![]]);
        let disk = vec![("batch-disk".to_owned(), Level::Refuse)];
        assert_eq!(levels(&[demand(1, 60, 1), None, demand(1, 60, 1)], 4), [vec![], vec![], disk]);
    }

    #[test]
    fn of_the_sources_only_those_count_that_write_at_the_same_time() {
        let all = [demand(1, 1, 60), demand(1, 1, 30), demand(1, 1, 50)];
        assert_eq!(levels(&all, 1), [vec![], vec![], vec![]]);
        let last = vec![("batch-source-disk".to_owned(), Level::Refuse)];
        assert_eq!(levels(&all, 2), [vec![], vec![], last]);
    }

    #[test]
    fn other_file_systems_are_other_pools_and_an_unknown_one_only_warns() {
        let on = |filesystem: Option<u64>| {
            let mut demand = demand(1, 60, 1);
            demand.iter_mut().for_each(|demand| demand.disk = need("c", filesystem, 60, 100));
            demand
        };
        assert_eq!(levels(&[on(Some(1)), on(Some(2))], 4), [vec![], vec![]]);
        let warned = vec![("batch-disk".to_owned(), Level::Warn)];
        assert_eq!(levels(&[on(None), on(None)], 4), [vec![], warned]);
    }
}
