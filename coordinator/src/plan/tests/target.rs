//! Why a target is refused, and what becomes of one that runs.

use super::*;

#[test]
fn a_target_that_somebody_follows_is_refused() {
    let mut case = Case::new(Goal::Copy { start: true });
    case.d = Some(instance("default", D).replica(C, down(5), lineage('a', 900), 50));
    refused(&case, "target-followed", Level::Danger);
    let mut case = Case::new(Goal::Copy { start: true });
    case.d = Some(instance("default", D).configured_after(C));
    refused(&case, "target-followed", Level::Danger);
}

#[test]
fn a_target_that_holds_the_groups_own_data_is_told_apart() {
    let mut case = Case::replace();
    case.c = instance("default", C).primary(lineage('c', 0), 50).second(lineage('a', 900));
    let plan = case.plan();
    let check = plan.refusals().next().unwrap();
    assert!(check.says.contains("of this very group"), "{}", check.says);
    assert!(check.remedy.as_ref().is_some_and(|remedy| remedy.contains("coord runs")));
}

#[test]
fn a_target_that_runs_empty_is_stopped_first() {
    let mut case = Case::replace();
    case.c = instance("default", C).primary(lineage('c', 0), 0);
    let plan = case.plan();
    assert_eq!(plan.refusals().count(), 0);
    assert!(names(&plan).windows(2).any(|pair| pair == ["stop", "install"]));
}

#[test]
fn a_target_that_holds_data_is_refused_unless_it_is_to_be_replaced() {
    let mut case = Case::replace();
    case.c = instance("default", C).primary(lineage('c', 0), 3);
    refused(&case, "target-free", Level::Danger);
    case.intent.replace_target_data = true;
    assert_eq!(case.refusals().0, Vec::<String>::new());
    let keeps = |step: &Step| matches!(step, Step::Release { keep_old: true, .. });
    assert!(case.plan().steps.iter().any(keeps), "what is replaced is kept");
}

#[test]
fn a_target_with_a_role_of_its_own_is_refused_though_it_is_empty() {
    let mut case = Case::replace();
    case.c = instance("default", C).replica("10.0.0.9:6379", down(1), lineage('c', 0), 0);
    assert!(case.refusals().0.contains(&"target-free".to_owned()));
    let mut case = Case::replace();
    case.c = instance("default", C).primary(lineage('c', 0), 0).serving(&["10.0.0.9:6379"]);
    assert!(case.refusals().0.contains(&"target-free".to_owned()));
}

#[test]
fn a_target_whose_port_is_taken_or_whose_password_is_wrong_is_refused() {
    let mut case = Case::replace();
    case.c = instance("default", C).state(ServerState::Silent { error: "no RESP".into() });
    refused(&case, "target-free", Level::Refuse);
    let mut case = Case::replace();
    let denied = ServerState::Denied { user: "default".into(), error: "WRONGPASS".into() };
    case.c = instance("default", C).state(denied);
    let plan = case.plan();
    let check = plan.refusals().next().unwrap();
    assert!(check.says.contains('c') && check.says.contains("`default`"), "{}", check.says);
    let mut case = Case::replace();
    case.rehearsal = Err(Fault::new(FaultKind::Refused, "port 6379 is taken"));
    refused(&case, "target-port", Level::Refuse);
}

#[test]
fn a_target_that_is_too_old_for_the_snapshot_is_refused_before_anything_is_sent() {
    let mut case = Case::replace();
    case.c.binary = Some(ServerVersion::new(Product::Redis, "6.2.14").unwrap());
    refused(&case, "target-version", Level::Refuse);
    case.c.binary = None;
    refused(&case, "target-version", Level::Refuse);
}

#[test]
fn a_module_that_is_a_part_of_the_server_is_not_missed() {
    let mut case = Case::replace();
    case.b = with_running(replica(B, 900), |running| {
        running.modules = vec!["lua".into()];
        running.version = ServerVersion::new(Product::Valkey, "9.1.2").unwrap();
    });
    case.c.binary = ServerVersion::new(Product::Valkey, "9.1.2").ok();
    assert_eq!(case.refusals().0, Vec::<String>::new());
}

#[test]
fn a_target_without_the_sources_modules_is_refused() {
    let mut case = Case::replace();
    case.b = with_running(replica(B, 900), |running| running.modules = vec!["ReJSON".into()]);
    refused(&case, "target-modules", Level::Refuse);
    case.c.settings.load_modules = vec!["/usr/lib/redis/rejson.so".into()];
    assert_eq!(case.refusals().0, Vec::<String>::new());
}

#[test]
fn a_target_without_memory_disk_or_rights_is_refused() {
    let mut case = Case::replace();
    case.c.settings.maxmemory_bytes = 999_999;
    refused(&case, "target-maxmemory", Level::Refuse);
    let mut case = Case::replace();
    case.b = with_running(replica(B, 900), |running| running.memory.used_bytes = 7_000_000_000);
    refused(&case, "target-memory", Level::Refuse);
    let mut case = Case::replace();
    case.c.files.free_bytes = 999_999;
    refused(&case, "target-disk", Level::Refuse);
    let mut case = Case::replace();
    case.c.files.write_error = Some("permission denied".into());
    refused(&case, "target-dir", Level::Refuse);
}

#[test]
fn a_start_command_that_takes_no_arguments_is_refused() {
    let mut case = Case::replace();
    case.c.service.takes_arguments = false;
    refused(&case, "target-start", Level::Refuse);
    case.intent.goal = Goal::Copy { start: false };
    assert_eq!(case.refusals().0, Vec::<String>::new());
}

#[test]
fn a_target_that_would_start_as_somebodys_replica_is_refused() {
    let mut case = Case::replace();
    case.c.settings.replica_of = Some("10.0.0.9:6379".parse().unwrap());
    assert!(case.refusals().0.contains(&"target-role".to_owned()));
}
