//! What all plans have in common: the order of steps, the primary and the path, and what is foretold.

mod clone;
mod condition;
mod in_place;
mod landing;
mod left;
mod pace;
mod source;
mod switchover;
mod target;

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
            intent: Intent { landing: Some(Way::File), ..Intent::of(goal) },
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
            Goal::Copy { .. } | Goal::Clone | Goal::Rejoin => Cast::pair(world, &word("b"), &word("c")),
            Goal::Switchover { .. } => Cast::switchover(world, &Topology::of(world), &word("a"), &word("b")),
            Goal::Failover(_) => {
                let topology = Topology::of(world);
                let to = (self.intent.goal != Goal::Failover(Mode::InPlace)).then(|| word("c"));
                Cast::of_group(world, cast::lost_group(&topology, &word("a"))?, to.as_ref(), self.source.as_ref())
            }
        }
    }

    fn plan(&self) -> Plan {
        let world = self.world();
        let cast = self.cast(&world).unwrap();
        let run = RunId::new("fo-test").unwrap();
        let rehearsals = [(named("c"), self.rehearsal.clone())].into();
        let scene = cast.scene(&world, &self.intent, &rehearsals, &run).unwrap();
        Plan::build(Some("a".into()), &scene)
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
    let order = [
        "fence", "depose", "snapshot", "transfer", "install", "load", "gate", "attach", "persist", "canary", "release",
    ];
    assert_eq!(names(&plan), order);
    assert_eq!(plan.forecasts.iter().map(|f| f.resync).collect::<Vec<_>>(), [Resync::Partial]);
}

#[test]
fn promote_serves_first_and_builds_the_target_as_a_replica() {
    let plan = Case::new(Goal::Failover(Mode::Promote)).plan();
    assert_eq!(plan.refusals().count(), 0);
    let order = [
        "fence", "depose", "promote", "backlog", "snapshot", "transfer", "install", "load", "attach", "persist",
        "canary", "release",
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
fn the_append_only_file_of_a_target_is_on_before_it_is_attached_as_a_replica() {
    for goal in [Goal::Failover(Mode::Promote), Goal::Clone] {
        let mut case = Case::new(goal);
        case.c.settings.appendonly = true;
        let plan = case.plan();
        let at = |name| names(&plan).iter().position(|step| *step == name).unwrap();
        assert!(at("load") < at("aof") && at("aof") < at("attach"), "{goal:?}");
    }
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
    refused(&case, "primary-hung", Level::Danger);
    case.intent.hung_is_dead = true;
    assert_eq!(case.refusals(), (Vec::new(), Level::Warn), "it is asked for by its own word");
}

#[test]
fn a_group_that_has_moved_since_the_operator_looked_is_refused() {
    let mut case = Case::replace();
    case.intent.expect_lineage = Some("aaaaaaaa:900".parse().unwrap());
    assert_eq!(case.refusals().0, Vec::<String>::new());
    for other in ["aaaaaaaa:899", "aaaaaaaa:901", "bbbbbbbb:900"] {
        case.intent.expect_lineage = Some(other.parse().unwrap());
        refused(&case, "lineage-expected", Level::Danger);
    }
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
fn a_host_that_leads_no_group_and_a_target_inside_the_group_are_told_apart() {
    let case = Case::replace();
    let world = case.world();
    let topology = Topology::of(&world);
    let cast = |failed: &str, to: &str| {
        Cast::of_group(&world, cast::lost_group(&topology, &word(failed))?, Some(&word(to)), None)
    };
    assert!(matches!(cast("c", "c"), Err(CastError::NoGroup { .. })));
    assert!(matches!(cast("a", "b"), Err(CastError::TargetInGroup { .. })));
    assert!(matches!(cast("a", "z"), Err(CastError::Word(_))));
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
