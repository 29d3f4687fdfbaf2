//! A survivor takes over where it is.

use super::*;

fn in_place() -> Case {
    let mut case = Case::new(Goal::Failover(Mode::InPlace));
    case.d = Some(replica(D, 880));
    case
}

#[test]
fn the_freshest_survivor_leads_and_the_others_follow_it() {
    let plan = in_place().plan();
    assert_eq!(plan.refusals().collect::<Vec<_>>(), Vec::<&Check>::new());
    assert_eq!(names(&plan), ["fence", "depose", "promote", "siblings", "persist", "canary"]);
    assert_eq!((&plan.source, &plan.target), (&named("b"), &named("b")));
    assert_eq!(plan.outcome(), (Some(&named("b")), vec![&named("d")]));
    let [forecast] = plan.forecasts.as_slice() else { panic!("{:?}", plan.forecasts) };
    assert_eq!(
        (&forecast.replica, &forecast.to, forecast.resync, forecast.bytes),
        (&named("d"), &named("b"), Resync::Partial, 20)
    );
}

#[test]
fn every_instance_has_one_part_and_each_keeps_the_note_once() {
    let plan = in_place().plan();
    assert_eq!(plan.instances(), [named("b"), named("d")]);
    let keepers = plan.steps.iter().find_map(|step| match step {
        Step::Depose { keepers, .. } => Some(keepers.clone()),
        _ => None,
    });
    assert_eq!(keepers, Some(vec![named("b"), named("d")]));
}

#[test]
fn a_survivor_that_holds_less_than_another_does_not_lead() {
    let mut case = in_place();
    case.source = Some(word("d"));
    case.spoil_world = |world| *world = std::mem::take(world).probe("b", D, ReachVerdict::Open);
    refused(&case, "source-freshest", Level::Danger);
    let plan = case.plan();
    let remedy = plan.refusals().find_map(|check| check.remedy.clone());
    assert_eq!(remedy.as_deref(), Some("say --to b"));
}

#[test]
fn a_survivor_that_nobody_will_follow_is_warned_of() {
    let mut case = in_place();
    case.d = None;
    let plan = case.plan();
    assert_eq!(names(&plan), ["fence", "depose", "promote", "persist"]);
    let warned: Vec<_> = plan.checks.iter().filter(|check| check.level == Level::Warn).map(|c| c.id.as_str()).collect();
    assert_eq!(warned, ["primary-followed"]);
    assert_eq!(plan.outcome(), (Some(&named("b")), vec![]));
}

#[test]
fn a_survivor_whose_writes_wait_for_a_replica_is_refused_without_one() {
    let mut case = in_place();
    case.b.settings.min_replicas_to_write = 1;
    assert_eq!(case.refusals().0, Vec::<String>::new());
    case.d = None;
    refused(&case, "primary-writes", Level::Refuse);
}

#[test]
fn a_survivor_that_is_full_or_cannot_save_leads_all_the_same() {
    let mut case = in_place();
    case.b.files.free_bytes = 0;
    assert_eq!(case.refusals().0, Vec::<String>::new());
}
