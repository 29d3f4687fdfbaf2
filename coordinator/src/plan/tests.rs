//! Each refusal, the order of steps, who becomes the source, and what is foretold.

mod clone;
mod landing;
mod switchover;

use std::time::Duration;

use baton_proto::control::{Landing, ReachVerdict, SaveMethod};
use baton_proto::data::Budget;
use baton_proto::report::{Backlog, InstanceReport, Running, ServerState};
use baton_proto::version::{Product, ServerVersion};
use baton_proto::{FaultKind, RunId};

use super::*;
use crate::inventory::Word;
use crate::plan::cast::{Cast, CastError};
use crate::topology::fixture::{Populate, Shape, down, host, instance, lineage, named, up};
use crate::topology::{HostView, Topology};

const A: &str = "10.0.0.1:6379";
const B: &str = "10.0.0.2:6379";
const C: &str = "10.0.0.3:6379";
const D: &str = "10.0.0.4:6379";
const AGENT_A: &str = "10.0.0.1:7400";
const AGENT_B: &str = "10.0.0.2:7400";
const AGENT_C: &str = "10.0.0.3:7400";
const AGENT_D: &str = "10.0.0.4:7400";

/// The everyday case: A is gone, B is frozen at 900 with 50 keys, C is fresh. Tests spoil a part of it.
struct Case {
    a: Option<InstanceReport>,
    b: InstanceReport,
    c: InstanceReport,
    d: Option<InstanceReport>,
    probe_of_a: ReachVerdict,
    path: ReachVerdict,
    rehearsal: Result<(), Fault>,
    source: Option<Word>,
    intent: Intent,
    spoil_world: fn(&mut World),
}

fn replica(address: &str, offset: u64) -> InstanceReport {
    let report = instance("default", address).replica(A, down(192), lineage('a', offset), 50);
    with_running(report, |running| {
        running.memory.used_bytes = 1_000_000;
        running.replication.backlog = Some(Backlog { first_offset: 100, held_bytes: offset - 99 });
    })
}

fn with_running(mut report: InstanceReport, change: impl FnOnce(&mut Running)) -> InstanceReport {
    if let ServerState::Running(running) = &mut report.server {
        change(running);
    }
    report
}

fn word(name: &str) -> Word {
    Word { host: host(name), instance: None }
}

impl Case {
    fn new(goal: Goal) -> Self {
        Case {
            a: None,
            b: replica(B, 900),
            c: instance("default", C),
            d: None,
            probe_of_a: ReachVerdict::Refused,
            path: ReachVerdict::Open,
            rehearsal: Ok(()),
            source: None,
            intent: Intent {
                goal,
                snapshot: None,
                landing: Some(Way::File),
                budget: Budget::default(),
                replace_target_data: false,
                expect_primary: None,
                max_data_age_seconds: None,
            },
            spoil_world: |_| {},
        }
    }

    fn replace() -> Self {
        Self::new(Goal::Failover(Mode::Replace))
    }

    fn world(&self) -> World {
        let mut world = match &self.a {
            Some(a) => World::default().with("a", AGENT_A, vec![a.clone()]),
            None => World::default().without("a", AGENT_A, "no agent listens"),
        };
        world = world.with("b", AGENT_B, vec![self.b.clone()]).with("c", AGENT_C, vec![self.c.clone()]);
        if let Some(d) = &self.d {
            world = world.with("d", AGENT_D, vec![d.clone()]).probe("d", C, self.path).probe("d", B, self.path);
        }
        world = world.probe("b", A, self.probe_of_a).probe("b", C, self.path).probe("c", B, self.path);
        (self.spoil_world)(&mut world);
        world
    }

    fn cast(&self, world: &World) -> Result<Cast, CastError> {
        match self.intent.goal {
            Goal::Copy { .. } | Goal::Clone => Cast::pair(world, &word("b"), &word("c")),
            Goal::Switchover { .. } => Cast::switchover(world, &Topology::of(world), &word("a"), &word("b")),
            Goal::Failover(_) => {
                Cast::failover(world, &Topology::of(world), &word("a"), &word("c"), self.source.as_ref())
            }
        }
    }

    fn plan(&self) -> Plan {
        let world = self.world();
        let cast = self.cast(&world).unwrap();
        let rehearsals = [(named("c"), self.rehearsal.clone())].into();
        let scene = cast.scene(&world, &self.intent, &rehearsals).unwrap();
        Plan::build(RunId::new("fo-test").unwrap(), Some("a".into()), &scene)
    }

    /// The ids of the checks that refuse, and the worst level.
    fn refusals(&self) -> (Vec<String>, Level) {
        let plan = self.plan();
        for check in plan.refusals() {
            assert!(check.remedy.as_ref().is_some_and(|remedy| !remedy.is_empty()), "{check:?} has no remedy");
        }
        (plan.refusals().map(|check| check.id.clone()).collect(), plan.level())
    }
}

/// Asserts that one spoilt part of the everyday case is refused by one check, at one level.
#[track_caller]
fn refused(case: &Case, id: &str, level: Level) {
    assert_eq!(case.refusals(), (vec![id.to_owned()], level));
}

fn names(plan: &Plan) -> Vec<&'static str> {
    plan.steps.iter().map(Step::name).collect()
}

#[test]
fn the_everyday_case_is_ready_and_nothing_follows_the_target_before_the_gate() {
    let plan = Case::replace().plan();
    assert_eq!(plan.refusals().collect::<Vec<_>>(), Vec::<&Check>::new());
    let order = ["fence", "snapshot", "transfer", "install", "load", "gate", "attach", "persist", "canary", "release"];
    assert_eq!(names(&plan), order);
    assert_eq!(plan.forecasts.iter().map(|f| f.resync).collect::<Vec<_>>(), [Resync::Partial]);
}

#[test]
fn promote_serves_first_and_builds_the_target_as_a_replica() {
    let plan = Case::new(Goal::Failover(Mode::Promote)).plan();
    assert_eq!(plan.refusals().count(), 0);
    let order = [
        "fence", "promote", "backlog", "snapshot", "transfer", "install", "load", "attach", "persist", "canary",
        "release",
    ];
    assert_eq!(names(&plan), order);
    let follows_b = |step: &Step| matches!(step, Step::Start { follow: Some(to), .. } if to.instance == named("b"));
    assert!(plan.steps.iter().any(follows_b), "told at run time, it would take everything anew");
}

#[test]
fn copy_changes_no_roles() {
    let case = Case::new(Goal::Copy { start: false });
    assert_eq!(names(&case.plan()), ["snapshot", "transfer", "install", "release"]);
    let case = Case::new(Goal::Copy { start: true });
    assert_eq!(names(&case.plan()), ["snapshot", "transfer", "install", "load", "release"]);
}

#[test]
fn nothing_follows_a_target_before_its_append_only_file_is_on_again() {
    let mut case = Case::replace();
    case.c.settings.appendonly = true;
    let plan = case.plan();
    let at = |name| names(&plan).iter().position(|step| *step == name).unwrap();
    assert!(at("gate") < at("aof") && at("aof") < at("attach"));
}

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
fn a_replica_too_old_for_its_primarys_format_is_warned_of_or_refused() {
    let old = ServerVersion::new(Product::Redis, "6.2.14").unwrap();
    let mut case = Case::replace();
    case.b.binary = Some(old);
    assert_eq!(case.plan().warnings(), 1, "it joins partially, but could not take a full resync");
    case.d = Some(replica(D, 950));
    refused(&case, "path-format", Level::Refuse);
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
fn a_primary_that_shows_any_sign_of_life_is_not_replaced() {
    for verdict in [ReachVerdict::Open, ReachVerdict::Busy, ReachVerdict::Denied, ReachVerdict::Unauthorised] {
        let mut case = Case::replace();
        case.probe_of_a = verdict;
        refused(&case, "primary-dead", Level::Danger);
    }
    let mut case = Case::replace();
    case.a = Some(instance("default", A).primary(lineage('a', 900), 50));
    refused(&case, "primary-dead", Level::Danger);
    let mut case = Case::replace();
    case.a = Some(instance("default", A).state(ServerState::Silent { error: "no answer".into() }));
    refused(&case, "primary-dead", Level::Danger);
}

#[test]
fn a_replica_that_is_still_linked_proves_that_the_primary_lives() {
    let mut case = Case::replace();
    case.b = instance("default", B).replica(A, up(), lineage('a', 900), 50);
    let (ids, level) = case.refusals();
    assert_eq!((ids.first().map(String::as_str), level), (Some("primary-dead"), Level::Danger));
}

#[test]
fn a_primary_that_its_own_agent_calls_stopped_is_dead() {
    let mut case = Case::replace();
    case.a = Some(instance("default", A));
    assert_eq!(case.refusals().0, Vec::<String>::new());
}

#[test]
fn a_primary_that_nobody_could_try_is_not_called_dead() {
    let mut case = Case::replace();
    case.spoil_world = |world| world.probes.retain(|probe| probe.to.to_string() != A);
    refused(&case, "primary-dead", Level::Refuse);
}

#[test]
fn an_operator_who_believes_in_another_primary_is_stopped() {
    let mut case = Case::replace();
    case.intent.expect_primary = Some("10.0.0.9:6379".parse().unwrap());
    refused(&case, "primary-expected", Level::Danger);
    case.intent.expect_primary = Some(A.parse().unwrap());
    assert_eq!(case.refusals().0, Vec::<String>::new());
}

#[test]
fn data_older_than_the_operator_allows_is_refused() {
    let mut case = Case::replace();
    case.intent.max_data_age_seconds = Some(60);
    refused(&case, "source-age", Level::Danger);
    case.intent.max_data_age_seconds = Some(3600);
    assert_eq!(case.refusals().0, Vec::<String>::new());
}

#[test]
fn the_freshest_survivor_is_the_source_and_the_other_has_its_reason() {
    let mut case = Case::replace();
    case.d = Some(replica(D, 950));
    let plan = case.plan();
    assert_eq!((&plan.source, plan.siblings.as_slice()), (&named("d"), [named("b")].as_slice()));
    let why = plan.checks.iter().find(|check| check.id == "source-others").unwrap();
    assert!(why.says.contains("50 bytes behind"), "{}", why.says);
    assert!(names(&plan).windows(2).any(|pair| pair == ["attach", "siblings"]));
    let resyncs: Vec<_> = plan.forecasts.iter().map(|f| (f.replica.clone(), f.resync)).collect();
    assert_eq!(resyncs, [(named("d"), Resync::Partial), (named("b"), Resync::Full)]);
}

#[test]
fn a_source_that_is_behind_another_survivor_is_refused() {
    let mut case = Case::replace();
    case.d = Some(replica(D, 950));
    case.source = Some(word("b"));
    refused(&case, "source-freshest", Level::Danger);
}

#[test]
fn a_survivor_with_another_history_is_never_the_source() {
    let mut case = Case::replace();
    case.b = replica(B, 900);
    case.d = Some(instance("default", D).replica(A, down(5), lineage('d', 99999), 1));
    let world = case.world();
    let cast = case.cast(&world).unwrap();
    // Whichever id the group is judged by, the two are never mixed.
    assert_eq!(cast.siblings, []);
    assert_eq!(cast.passed_over.len(), 1);
}

#[test]
fn survivors_that_cannot_be_the_source_are_listed_with_their_reasons() {
    let mut case = Case::replace();
    let denied = ServerState::Denied { user: "default".into(), error: "WRONGPASS invalid".into() };
    case.b = instance("default", B).state(denied).configured_after(A);
    let world = case.world();
    let error = case.cast(&world).unwrap_err();
    let CastError::NoSource { reasons, .. } = &error else { panic!("{error}") };
    assert!(reasons.iter().any(|why| why.contains("b:") && why.contains("`default`") && why.contains("WRONGPASS")));
}

#[test]
fn a_host_that_leads_no_group_and_a_target_inside_the_group_are_told_apart() {
    let case = Case::replace();
    let world = case.world();
    let topology = Topology::of(&world);
    let cast = |failed: &str, to: &str| Cast::failover(&world, &topology, &word(failed), &word(to), None);
    assert!(matches!(cast("c", "c"), Err(CastError::NoGroup { .. })));
    assert!(matches!(cast("a", "b"), Err(CastError::TargetInGroup { .. })));
    assert!(matches!(cast("a", "z"), Err(CastError::Word(_))));
}

#[test]
fn a_source_that_is_loading_or_saving_is_refused() {
    let mut case = Case::new(Goal::Copy { start: false });
    case.b = replica(B, 900).loading();
    refused(&case, "source-idle", Level::Refuse);
    let mut case = Case::replace();
    case.b = with_running(replica(B, 900), |running| running.persistence.saving = true);
    refused(&case, "source-idle", Level::Refuse);
}

#[test]
fn a_source_without_room_or_rights_for_its_snapshot_is_refused_where_a_file_is_asked_for() {
    let mut case = Case::replace();
    case.intent.snapshot = Some(SaveMethod::Save);
    case.b.files.free_bytes = 999_999;
    refused(&case, "source-disk", Level::Refuse);
    let mut case = Case::replace();
    case.intent.snapshot = Some(SaveMethod::Bgsave);
    case.b.files.write_error = Some("permission denied".into());
    refused(&case, "source-save", Level::Refuse);
    let mut case = Case::replace();
    case.intent.snapshot = Some(SaveMethod::Existing);
    refused(&case, "source-save", Level::Refuse);
}

#[test]
fn a_source_without_room_or_rights_streams_its_snapshot_and_the_plan_says_why() {
    let mut full = Case::replace();
    full.b.files.free_bytes = 999_999;
    let mut locked = Case::replace();
    locked.b.files.write_error = Some("permission denied".into());
    for (case, why) in [(full, "since its disk has"), (locked, "since its disk cannot be written")] {
        let plan = case.plan();
        assert_eq!(case.refusals(), (Vec::new(), plan.level()));
        let check = plan.checks.iter().find(|check| check.id == "source-save").unwrap();
        assert_eq!(check.level, Level::Ok, "{check:?}");
        assert!(check.says.contains("b streams from memory") && check.says.contains(why), "{check:?}");
        assert!(check.says.contains("its memory, frozen and fenced, is the last copy"), "{check:?}");
        let titles: Vec<_> = plan.steps.iter().map(Step::title).collect();
        assert!(titles.iter().any(|title| title.contains("streamed from memory")), "{titles:?}");
        assert!(titles.contains(&"transfer b -> c as it comes (QUIC, zstd, BLAKE3)".to_owned()), "{titles:?}");
        assert!(!titles.iter().any(|title| title.contains("pin")), "nothing is pinned: {titles:?}");
    }
}

#[test]
fn a_replica_without_its_primary_streams_only_in_a_failover_that_fences_it() {
    let copy = || {
        let mut case = Case::new(Goal::Copy { start: false });
        case.intent.snapshot = Some(SaveMethod::Stream);
        case
    };
    refused(&copy(), "source-save", Level::Refuse);
    let mut case = copy();
    case.b = instance("default", B).primary(lineage('a', 900), 5);
    assert_eq!(case.refusals().0, Vec::<String>::new());
    // Nor is it chosen: what is missing is told instead.
    let mut case = copy();
    case.intent.snapshot = None;
    case.b.files.free_bytes = 999_999;
    refused(&case, "source-disk", Level::Refuse);
    let old = |goal| {
        let mut case = Case::new(goal);
        case.intent.snapshot = Some(SaveMethod::Stream);
        let old = ServerVersion::new(Product::Redis, "3.2.13").unwrap();
        case.b = with_running(replica(B, 900), |running| running.version = old);
        case.c.binary = Some(old);
        case.refusals().0.contains(&"source-save".to_owned())
    };
    assert!(old(Goal::Failover(Mode::Replace)), "it cannot go on from where it stands");
    assert!(!old(Goal::Failover(Mode::Promote)), "it serves by itself by then");
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

#[test]
fn a_target_that_does_not_let_the_source_in_is_refused() {
    for verdict in [ReachVerdict::Refused, ReachVerdict::Silent, ReachVerdict::Denied, ReachVerdict::Unauthorised] {
        let mut case = Case::replace();
        case.path = verdict;
        refused(&case, "path-open", Level::Refuse);
    }
    let mut case = Case::replace();
    case.c.settings.protected_mode = true;
    refused(&case, "path-protected", Level::Refuse);
}

#[test]
fn a_password_on_one_side_only_is_refused() {
    let mut case = Case::replace();
    case.c.settings.requires_password = true;
    refused(&case, "path-password", Level::Refuse);
    let mut case = Case::replace();
    case.b.settings.has_primary_password = true;
    refused(&case, "path-password", Level::Refuse);
    case.c.settings.requires_password = true;
    assert_eq!(case.refusals().0, Vec::<String>::new());
}

#[test]
fn an_empty_source_is_warned_of_since_it_may_never_have_been_in_sync() {
    let mut case = Case::replace();
    case.b = with_running(replica(B, 900), |running| running.keyspace.clear());
    let plan = case.plan();
    assert_eq!((plan.refusals().count(), plan.warnings()), (0, 1));
}

#[test]
fn clocks_that_disagree_are_warned_of() {
    let mut case = Case::replace();
    case.spoil_world = |world| {
        if let Some(HostView::Answered { clock, .. }) = world.hosts.get_mut(&host("c")).map(|host| &mut host.view) {
            clock.offset_ms = i64::try_from(Duration::from_secs(90).as_millis()).unwrap();
        }
    };
    assert_eq!(case.plan().warnings(), 1);
}

#[test]
fn all_refusals_are_told_at_once() {
    let mut case = Case::replace();
    case.probe_of_a = ReachVerdict::Open;
    case.c.binary = Some(ServerVersion::new(Product::Redis, "6.2.14").unwrap());
    case.c.settings.maxmemory_bytes = 1;
    case.c.files.free_bytes = 0;
    let (ids, level) = case.refusals();
    assert_eq!(ids, ["primary-dead", "target-version", "target-maxmemory", "target-disk"]);
    assert_eq!(level, Level::Danger);
}

#[test]
fn servers_before_seven_forget_the_lineage_and_the_plan_says_full() {
    let mut case = Case::replace();
    let old = ServerVersion::new(Product::Redis, "6.2.14").unwrap();
    case.b = with_running(replica(B, 900), |running| running.version = old);
    case.c.binary = Some(old);
    assert_eq!(case.plan().forecasts[0].resync, Resync::Full);
    case.intent.goal = Goal::Failover(Mode::Promote);
    assert_eq!(case.plan().forecasts[0].resync, Resync::Partial);
}

#[test]
fn a_frozen_source_without_clients_is_saved_by_save_and_one_that_serves_by_bgsave() {
    let method = |case: &Case| {
        case.plan().steps.iter().find_map(|step| match step {
            Step::Snapshot { method, .. } => Some(*method),
            _ => None,
        })
    };
    let mut case = Case::replace();
    assert_eq!(method(&case), Some(SaveMethod::Save));
    case.b = with_running(replica(B, 900), |running| {
        running.clients = 7;
        running.memory.used_bytes = 2_000_000_000;
    });
    assert_eq!(method(&case), Some(SaveMethod::Bgsave));
    assert_eq!(method(&Case::new(Goal::Failover(Mode::Promote))), Some(SaveMethod::Bgsave));
    case.intent.snapshot = Some(SaveMethod::Save);
    assert_eq!(method(&case), Some(SaveMethod::Save));
}

fn transfer(plan: &Plan) -> &Step {
    plan.steps.iter().find(|step| step.name() == "transfer").unwrap()
}

#[test]
fn the_plan_says_that_a_snapshot_is_sent_while_it_is_written() {
    let mut case = Case::replace();
    assert_eq!(transfer(&case.plan()).title(), "transfer b -> c while it is written (QUIC, zstd, BLAKE3)");
    case.b.files.dump_bytes = Some(1_000_000);
    case.intent.snapshot = Some(SaveMethod::Existing);
    assert_eq!(transfer(&case.plan()).title(), "transfer b -> c (QUIC, zstd, BLAKE3)");
}

#[test]
fn what_the_transfer_may_use_goes_into_the_plan_and_is_told() {
    let mut case = Case::replace();
    case.intent.budget = Budget { max_rate: Some(50_000_000), cpu: Some(1) };
    let plan = case.plan();
    let Step::Transfer { budget, .. } = transfer(&plan) else { panic!("{plan:?}") };
    assert_eq!(*budget, case.intent.budget);
    let title = transfer(&plan).title();
    assert!(title.ends_with(", at most 50.0 MB/s, packed by 1 core"), "{title}");
}

#[test]
fn a_target_that_starts_at_once_keeps_the_file_in_memory_and_one_that_does_not_is_left_alone() {
    for (goal, expected) in [
        (Goal::Failover(Mode::Replace), true),
        (Goal::Failover(Mode::Promote), true),
        (Goal::Copy { start: true }, true),
        (Goal::Copy { start: false }, false),
    ] {
        let plan = Case::new(goal).plan();
        let expected = Landing::File { loads: expected };
        assert!(matches!(transfer(&plan), Step::Transfer { landing, .. } if *landing == expected), "{goal}");
    }
}

#[test]
fn a_journal_of_a_run_that_sent_only_whole_snapshots_can_still_be_read() {
    let step =
        r#"{"step":"transfer","source":{"host":"b","instance":"default"},"target":{"host":"c","instance":"default"}}"#;
    let step: Step = serde_json::from_str(step).unwrap();
    assert_eq!(step.title(), "transfer b -> c (QUIC, zstd, BLAKE3)");
}

#[test]
fn a_plan_survives_its_journal() {
    let mut case = Case::replace();
    case.intent.budget = Budget { max_rate: Some(1), cpu: None };
    case.d = Some(replica(D, 950));
    let plan = case.plan();
    let text = serde_json::to_string(&plan).unwrap();
    assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
}
