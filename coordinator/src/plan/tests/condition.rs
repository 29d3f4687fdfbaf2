//! What surrounds the servers: each check fires on what spoils a move, and is silent otherwise.

use baton_proto::condition::{BufferLimit, RefusedOrder};

use super::*;
use crate::topology::{Door, Knock};

/// Asserts that one check says this, and that without the spoiling it says nothing.
#[track_caller]
fn says(case: &Case, id: &str, level: Level) {
    let found = |case: &Case| case.plan().checks.iter().find(|check| check.id == id).map(|check| check.level);
    assert_eq!(found(&Case::new(case.intent.goal)).filter(|level| *level > Level::Ok), None, "unspoilt");
    assert_eq!(found(case), Some(level));
}

fn on_host(name: &str, world: &mut World, change: fn(&mut baton_proto::report::HostReport)) {
    if let Some(HostView::Answered { report, .. }) = world.hosts.get_mut(&host(name)).map(|host| &mut host.view) {
        change(report);
    }
}

#[test]
fn a_fork_that_the_kernel_or_a_group_may_refuse_is_warned_of() {
    let forked = || {
        let mut case = Case::replace();
        case.intent.snapshot = Some(SaveMethod::Bgsave);
        case
    };
    let mut case = forked();
    case.spoil_world = |world| {
        on_host("b", world, |report| {
            report.condition.overcommit_memory = Some(0);
            report.memory_available_bytes = 1000;
        });
    };
    says(&case, "source-fork", Level::Warn);
    let mut case = forked();
    case.b.condition.memory_left_bytes = Some(1000);
    says(&case, "source-fork", Level::Warn);
    let mut case = forked();
    case.b = with_running(case.b, |running| running.memory.rss_bytes = 2 << 30);
    case.spoil_world = |world| on_host("b", world, |report| report.condition.huge_pages_always = true);
    says(&case, "source-huge-pages", Level::Warn);
    case.intent.snapshot = Some(SaveMethod::Save);
    assert!(case.plan().checks.iter().all(|check| check.id != "source-huge-pages"), "SAVE does not fork");
}

#[test]
fn a_source_that_is_swapped_out_or_could_not_save_is_warned_of() {
    let mut case = Case::replace();
    case.b.condition.swapped_bytes = 500_000;
    says(&case, "source-swap", Level::Warn);
    let mut case = Case::replace();
    case.b = with_running(case.b, |running| running.persistence.last_save_ok = false);
    says(&case, "source-last-save", Level::Warn);
}

#[test]
fn an_order_that_a_server_would_refuse_stops_the_run_if_it_is_needed() {
    let order = |command: &str| RefusedOrder { command: command.into(), error: "no permissions".into() };
    let mut case = Case::replace();
    case.b.condition.refused = vec![order("REPLICAOF")];
    says(&case, "orders", Level::Refuse);
    case.b.condition.refused = vec![order("CONFIG")];
    says(&case, "orders", Level::Warn);
    case.b.condition.refused = vec![order("BGSAVE")];
    assert!(case.plan().checks.iter().all(|check| check.id != "orders"), "it is saved by SAVE");
}

#[test]
fn files_that_cannot_be_written_or_that_others_write_are_warned_of_with_what_they_should_say() {
    let mut case = Case::replace();
    case.c.condition.config_locked = Some("it belongs to root".into());
    case.c.condition.dir_locked = Some("it belongs to root".into());
    case.b.condition.config_managed = Some("Ansible managed".into());
    for id in ["config-locked", "data-dir", "config-managed"] {
        says(&case, id, Level::Warn);
    }
    let plan = case.plan();
    let remedy =
        |id: &str| plan.checks.iter().find(|check| check.id == id).and_then(|check| check.remedy.clone()).unwrap();
    assert!(remedy("config-locked").contains("no `replicaof`"), "{}", remedy("config-locked"));
    assert!(remedy("config-managed").contains("`replicaof 10.0.0.3 6379`"), "{}", remedy("config-managed"));
}

#[test]
fn a_target_without_room_for_databases_users_or_keys_is_told() {
    let mut case = Case::replace();
    case.c.condition.databases = Some(0);
    says(&case, "target-databases", Level::Refuse);
    let mut case = Case::replace();
    case.b.condition.users = Some(["app".to_owned()].into());
    case.c.condition.users = Some([].into());
    says(&case, "target-users", Level::Warn);
    let mut case = Case::replace();
    case.c.settings.maxmemory_bytes = 1_050_000;
    case.c.settings.maxmemory_policy = "allkeys-lru".into();
    says(&case, "target-eviction", Level::Warn);
}

#[test]
fn a_primary_to_be_that_would_refuse_writes_or_cut_its_replicas_off_is_told() {
    let mut case = Case::replace();
    case.c.settings.min_replicas_to_write = 2;
    says(&case, "primary-writes", Level::Refuse);
    case.c.settings.min_replicas_to_write = 1;
    says(&case, "primary-writes", Level::Warn);
    let mut case = Case::replace();
    case.d = Some(replica(D, 850));
    case.c.condition.replica_buffer = Some(BufferLimit { hard_bytes: 1000, ..BufferLimit::default() });
    says(&case, "path-buffer", Level::Warn);
    let mut sibling = replica(D, 850);
    sibling.condition.diskless_load = Some("on-empty-db".into());
    case.d = Some(sibling);
    says(&case, "path-diskless-load", Level::Warn);
}

#[test]
fn a_cluster_is_refused_and_sentinels_are_warned_of() {
    let mut case = Case::replace();
    case.b = with_running(case.b, |running| running.cluster = true);
    says(&case, "group-cluster", Level::Refuse);
    let mut case = Case::replace();
    case.b = with_running(case.b, |running| running.sentinels = 3);
    says(&case, "group-sentinel", Level::Warn);
}

#[test]
fn agents_that_do_not_meet_are_refused_with_a_word_about_udp() {
    let mut case = Case::replace();
    case.spoil_world = |world| {
        world.knocks.push(Knock { from: host("c"), to: host("b"), door: Door::Shut("no answer".into()) });
    };
    says(&case, "path-agents", Level::Refuse);
    let plan = case.plan();
    let check = plan.refusals().next().unwrap();
    assert!(check.remedy.as_ref().unwrap().contains("UDP"), "{check:?}");
    case.spoil_world = |world| world.knocks.push(Knock { from: host("c"), to: host("b"), door: Door::Open });
    assert_eq!(case.refusals().0, Vec::<String>::new());
}
