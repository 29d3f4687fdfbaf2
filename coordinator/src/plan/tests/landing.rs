//! Which way the snapshot lands, what stands against it, and what follows from it.

use super::*;

fn auto(goal: Goal) -> Case {
    let mut case = Case::new(goal);
    case.intent.landing = None;
    case
}

fn way(case: &Case) -> Way {
    match transfer(&case.plan()) {
        Step::Transfer { landing: Landing::Live { .. }, .. } => Way::Live,
        _ => Way::File,
    }
}

#[test]
fn a_target_that_is_empty_is_fed_live_and_started_before_if_need_be() {
    let mut case = auto(Goal::Failover(Mode::Replace));
    let plan = case.plan();
    let steps = ["fence", "depose", "boot", "snapshot", "transfer", "gate", "attach", "persist", "canary", "release"];
    assert_eq!(names(&plan), steps);
    assert!(matches!(transfer(&plan), Step::Transfer { landing: Landing::Live { follow: None, .. }, .. }));
    case.c = instance("default", C).primary(lineage('c', 0), 0);
    assert!(!names(&case.plan()).contains(&"boot"), "one that runs is not started");
    assert!(!names(&case.plan()).contains(&"stop"), "nor stopped");
}

#[test]
fn a_replica_that_is_fed_follows_its_primary_afterwards() {
    let case = auto(Goal::Failover(Mode::Promote));
    let plan = case.plan();
    let Step::Transfer { landing: Landing::Live { follow, .. }, .. } = transfer(&plan) else { panic!("{plan:?}") };
    assert_eq!(follow.as_ref().map(ToString::to_string).as_deref(), Some(B));
    assert_eq!(names(&plan)[..6], ["fence", "depose", "promote", "backlog", "boot", "snapshot"]);
}

#[test]
fn where_nothing_is_loaded_nothing_is_fed() {
    assert_eq!(way(&auto(Goal::Copy { start: false })), Way::File);
    assert_eq!(way(&auto(Goal::Copy { start: true })), Way::Live);
}

#[test]
fn a_live_landing_needs_no_start_command_that_takes_arguments() {
    let mut case = auto(Goal::Failover(Mode::Replace));
    case.c = instance("default", C).primary(lineage('c', 0), 0);
    case.c.service.takes_arguments = false;
    assert_eq!(case.refusals().0, Vec::<String>::new());
    case.intent.landing = Some(Way::File);
    refused(&case, "target-start", Level::Refuse);
}

/// What stands against a live landing: `auto` takes the file, and who asks for live is told why not.
#[test]
fn every_obstacle_has_auto_land_by_file_and_refuses_live() {
    let empty = || instance("default", C).primary(lineage('c', 0), 0);
    let old = ServerVersion::new(Product::Redis, "3.2.13").unwrap();
    let with = |change: fn(&mut InstanceReport)| {
        let mut report = empty();
        change(&mut report);
        report
    };
    let cases = [
        ("TLS", with(|report| report.settings.tls_replication = true)),
        ("CONFIG", with(|report| report.settings.configurable = false)),
        ("no lineage", with_running(empty(), |running| running.version = old)),
        ("holds data", {
            let mut stopped = instance("default", C);
            stopped.files.dump_bytes = Some(200);
            stopped
        }),
        ("holds data", {
            let mut stopped = instance("default", C);
            stopped.files.has_aof = true;
            stopped
        }),
    ];
    for (reason, report) in cases {
        let mut case = auto(Goal::Failover(Mode::Replace));
        case.c = report;
        assert_eq!(way(&case), Way::File, "{reason}");
        let plan = case.plan();
        let said = plan.checks.iter().find(|check| check.id == "target-landing").unwrap();
        assert!(said.level == Level::Ok && said.says.contains(reason), "{said:?}");
        case.intent.landing = Some(Way::Live);
        refused(&case, "target-landing", Level::Refuse);
    }
    let mut case = auto(Goal::Failover(Mode::Replace));
    case.c = instance("default", C).primary(lineage('c', 0), 3);
    case.intent.replace_target_data = true;
    assert_eq!(way(&case), Way::File, "keys that are to be replaced are kept aside first");
}

#[test]
fn a_replica_that_was_fed_remembers_the_lineage_before_seven_too() {
    let mut case = auto(Goal::Failover(Mode::Replace));
    let old = ServerVersion::new(Product::Redis, "6.2.14").unwrap();
    case.b = with_running(replica(B, 900), |running| running.version = old);
    case.c.binary = Some(old);
    assert_eq!(case.plan().forecasts[0].resync, Resync::Partial);
    // One that lags gets everything anew all the same: the backlog begins where the snapshot stands.
    case.d = Some(with_running(replica(D, 800), |running| running.version = old));
    let lags = case.plan().forecasts.iter().find(|forecast| forecast.replica == named("d")).unwrap().resync;
    assert_eq!(lags, Resync::Full);
}
