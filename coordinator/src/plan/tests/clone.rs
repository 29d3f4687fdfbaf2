//! A replica that is built from a server that serves: whom it follows, what the backlog is made, and when it is refused.

use super::*;
use crate::topology::writes::{Seen, Writes};

/// B is a lone primary of 1 MB, on which a steady 100 kB/s are written; C is fresh.
fn case() -> Case {
    let mut case = Case::new(Goal::Clone);
    case.intent.landing = None;
    case.b = with_running(instance("default", B).primary(lineage('b', 0), 50), |running| {
        running.memory.used_bytes = 1_000_000;
    });
    case.spoil_world = |world| writes(world, 100_000);
    case
}

fn writes(world: &mut World, bytes_per_second: u64) {
    world.writes.insert(named("b"), Writes { bytes_per_second, seen: Seen::Input });
}

fn check(plan: &Plan, id: &str) -> Check {
    plan.checks.iter().find(|check| check.id == id).unwrap_or_else(|| panic!("no {id}: {:?}", plan.checks)).clone()
}

#[test]
fn a_lone_primary_is_made_a_backlog_before_its_snapshot_and_followed_afterwards() {
    let plan = case().plan();
    assert_eq!(case().refusals().0, Vec::<String>::new());
    let steps = ["backlog", "boot", "snapshot", "transfer", "attach", "persist", "canary", "release"];
    assert_eq!(names(&plan), steps);
    let Step::Backlog { bytes, .. } = plan.steps[0] else { panic!("{:?}", plan.steps[0]) };
    // A minute of what is written, at the least.
    assert_eq!(bytes, 6_000_000);
    let forecast = &plan.forecasts[0];
    assert_eq!((forecast.resync, &forecast.replica, &forecast.to), (Resync::Partial, &named("c"), &named("b")));
    assert!((500_000..1_000_000).contains(&forecast.bytes), "{forecast:?}");
    let said = check(&plan, "source-backlog").says;
    assert!(said.contains("at most 100.0 kB/s") && said.contains("6.0 MB is made"), "{said}");
    assert_eq!(plan.outcome(), (Some(&named("b")), vec![&named("c")]));
    let Some(Step::Persist { instances }) = plan.steps.iter().find(|step| step.name() == "persist") else { panic!() };
    assert_eq!(instances, &[named("c")], "the source's own configuration is not ours to write");
    assert!(plan.steps.iter().any(|step| matches!(step, Step::Snapshot { method: SaveMethod::Bgsave, .. })));
}

#[test]
fn by_file_the_server_is_started_as_a_replica() {
    let mut case = case();
    case.intent.landing = Some(Way::File);
    let plan = case.plan();
    assert_eq!(names(&plan)[..5], ["backlog", "snapshot", "transfer", "install", "load"]);
    assert!(
        plan.steps.iter().any(|step| matches!(step, Step::Start { follow: Some(to), .. } if to.instance == named("b")))
    );
}

#[test]
fn a_slow_transfer_wants_a_larger_backlog() {
    let mut case = case();
    case.intent.budget.max_rate = Some(10_000);
    let plan = case.plan();
    let Step::Backlog { bytes, .. } = plan.steps[0] else { panic!("{:?}", plan.steps[0]) };
    // 100 s of transfer, and some to attach.
    assert_eq!(bytes, 42_000_000);
}

#[test]
fn a_backlog_that_memory_does_not_hold_is_refused_for_a_clone_and_told_for_a_failover() {
    let mut spoilt = case();
    spoilt.intent.budget.max_rate = Some(10_000);
    spoilt.spoil_world = |world| writes(world, 100_000_000);
    refused(&spoilt, "source-backlog", Level::Refuse);
    let plan = spoilt.plan();
    assert_eq!(plan.forecasts[0].resync, Resync::Full, "and foretold");
    let remedy = check(&plan, "source-backlog").remedy.unwrap();
    assert!(remedy.contains("repl-backlog-size") && remedy.contains("--max-rate"), "{remedy}");
    let mut failover = Case::new(Goal::Failover(Mode::Promote));
    failover.spoil_world = |world| writes(world, 10_000_000_000);
    assert_eq!(failover.refusals().0, Vec::<String>::new());
    assert_eq!(check(&failover.plan(), "source-backlog").level, Level::Warn);
}

#[test]
fn what_the_backlog_cannot_hold_is_spooled_where_the_target_lands_live() {
    let mut fixed = case();
    fixed.b = with_running(fixed.b, |running| {
        running.replication.backlog_bytes = 1 << 20;
        running.replication.backlog = Some(Backlog { first_offset: 1, held_bytes: 0 });
    });
    fixed.b.settings.configurable = false;
    fixed.intent.budget.max_rate = Some(1_000_000);
    fixed.spoil_world = |world| writes(world, 300_000);
    assert_eq!(fixed.refusals().0, Vec::<String>::new());
    let plan = fixed.plan();
    assert_eq!(names(&plan)[..5], ["backlog", "spool", "boot", "snapshot", "transfer"]);
    let landing = plan.steps.iter().find_map(|step| match step {
        Step::Transfer { landing, .. } => Some(landing.clone()),
        _ => None,
    });
    let Some(Landing::Spooled { follow, near_bytes, .. }) = landing else { panic!("{landing:?}") };
    assert_eq!((follow.to_string().as_str(), near_bytes), (B, 1 << 17));
    let forecast = &plan.forecasts[0];
    assert_eq!(forecast.resync, Resync::Partial);
    assert!(forecast.why.starts_with("by spool: ") && forecast.bytes > 1 << 20, "{forecast:?}");
    assert!(check(&plan, "source-backlog").says.contains("its agent spools"), "{plan:?}");
    // Whatever keeps it from being spooled is told.
    let refused = |spoil: fn(&mut Case), word: &str| {
        let mut case = case();
        case.b = fixed.b.clone();
        (case.spoil_world, case.intent.budget.max_rate) = (fixed.spoil_world, Some(1_000_000));
        spoil(&mut case);
        refused(&case, "source-backlog", Level::Refuse);
        let said = check(&case.plan(), "source-backlog").says;
        assert!(said.contains("nor can its agent spool it") && said.contains(word), "{said}");
        assert!(!names(&case.plan()).contains(&"spool"));
    };
    refused(|case| case.intent.landing = Some(Way::File), "does not land live");
    refused(|case| case.spoil_world = |world| writes(world, 900_000), "cross the network");
    refused(|case| case.b.files.free_bytes = 2_000_000, "disk");
    refused(|case| case.b = with_running(case.b.clone(), |running| running.sentinels = 3), "Sentinels");
    refused(|case| case.b.settings.min_replicas_to_write = 1, "min-replicas-to-write");
}

#[test]
fn a_source_that_is_promoted_is_spooled_if_its_backlog_cannot_grow() {
    let mut promoted = Case::new(Goal::Failover(Mode::Promote));
    promoted.intent.landing = None;
    promoted.b = with_running(promoted.b, |running| running.replication.backlog_bytes = 1 << 20);
    promoted.b.settings.configurable = false;
    let plan = promoted.plan();
    let place = |name| names(&plan).iter().position(|step| *step == name).unwrap_or_else(|| panic!("{plan:?}"));
    assert!(
        place("promote") < place("spool") && place("backlog") < place("spool") && place("spool") < place("snapshot")
    );
    assert_eq!(plan.forecasts[0].resync, Resync::Partial);
}

#[test]
fn a_replica_is_cloned_only_while_its_own_link_is_up() {
    let mut case = case();
    case.b = replica(B, 900);
    refused(&case, "source-serves", Level::Refuse);
    case.b = with_running(instance("default", B).replica(A, up(), lineage('a', 900), 50), |running| {
        running.replication.backlog = Some(Backlog { first_offset: 100, held_bytes: 801 });
    });
    case.a = Some(instance("default", A).primary(lineage('a', 900), 50).serving(&[B]));
    assert_eq!(case.refusals().0, Vec::<String>::new());
    let plan = case.plan();
    assert!(!names(&plan).contains(&"canary"), "nothing is written on a replica");
    assert_eq!(plan.outcome(), (Some(&named("a")), vec![&named("c")]));
}

#[test]
fn what_cannot_be_cloned_is_refused() {
    let mut stopped = case();
    stopped.b = instance("default", B);
    let (ids, _) = stopped.refusals();
    assert!(ids.contains(&"source-serves".to_owned()), "{ids:?}");
    let mut existing = case();
    existing.intent.snapshot = Some(SaveMethod::Existing);
    existing.b.files.dump_bytes = Some(1000);
    refused(&existing, "source-snapshot", Level::Refuse);
    let mut unconfigurable = case();
    unconfigurable.b.settings.configurable = false;
    refused(&unconfigurable, "source-backlog", Level::Refuse);
    let mut unreached = case();
    unreached.path = ReachVerdict::Refused;
    refused(&unreached, "path-open", Level::Refuse);
    let mut locked = case();
    locked.b.settings.requires_password = true;
    refused(&locked, "path-password", Level::Refuse);
}
