//! Switchover: the parts, the order of steps, each refusal, and what is foretold.

use baton_proto::report::{Link, ReplicaLine, Role};
use baton_proto::{HostPort, InstanceRef};

use super::*;

/// The everyday case: A leads, B and D follow it, all stand at 900.
struct Pair {
    a: InstanceReport,
    b: InstanceReport,
    d: InstanceReport,
    path: ReachVerdict,
    expect_primary: Option<HostPort>,
}

fn line(address: &str) -> ReplicaLine {
    ReplicaLine { address: address.parse().unwrap(), online: true, offset: 900, lag_seconds: 0 }
}

fn linked(address: &str, to: &str) -> InstanceReport {
    let report = instance("default", address).replica(to, up(), lineage('a', 900), 50);
    with_running(report, |running| {
        running.replication.backlog = Some(Backlog { first_offset: 100, held_bytes: 801 });
    })
}

impl Pair {
    fn new() -> Self {
        let a = instance("default", A).primary(lineage('a', 900), 50);
        let a = with_running(a, |running| {
            running.role = Role::Primary { replicas: vec![line(B), line(D)] };
            running.memory.used_bytes = 1_000_000;
        });
        Pair { a, b: linked(B, A), d: linked(D, A), path: ReachVerdict::Open, expect_primary: None }
    }

    /// The same after the handover, as a run left it that died there: D still follows A.
    fn handed_over() -> Self {
        let mut pair = Pair::new();
        pair.a = linked(A, B);
        pair.b = instance("default", B).primary(lineage('a', 900), 50);
        pair.b = with_running(pair.b, |running| {
            running.role = Role::Primary { replicas: vec![line(A)] };
            running.replication.backlog = Some(Backlog { first_offset: 100, held_bytes: 801 });
        });
        pair
    }

    fn cast(&self, to: &str) -> Result<(World, Cast), CastError> {
        let world = World::default()
            .with("a", AGENT_A, vec![self.a.clone()])
            .with("b", AGENT_B, vec![self.b.clone()])
            .with("d", AGENT_D, vec![self.d.clone()])
            .with("c", AGENT_C, vec![instance("default", C)])
            .probe("a", B, self.path)
            .probe("d", B, self.path);
        let cast = Cast::switchover(&world, &Topology::of(&world), &word("a"), &word(to))?;
        Ok((world, cast))
    }

    fn plan(&self) -> Plan {
        let (world, cast) = self.cast("b").unwrap();
        let intent = Intent {
            expect_primary: self.expect_primary.clone(),
            ..Case::new(Goal::Switchover { timeout_ms: 10_000 }).intent
        };
        let (nobody, run) = (BTreeMap::new(), RunId::new("so-test").unwrap());
        let scene = cast.scene(&world, &intent, &nobody, &run).unwrap();
        Plan::build(None, &scene)
    }
}

#[track_caller]
fn refused(pair: &Pair, id: &str, level: Level) {
    let plan = pair.plan();
    let refusals: Vec<_> = plan.refusals().map(|check| (check.id.as_str(), check.level)).collect();
    assert_eq!(refusals, [(id, level)]);
    assert!(plan.refusals().all(|check| check.remedy.as_ref().is_some_and(|remedy| !remedy.is_empty())));
}

#[track_caller]
fn warned(pair: &Pair, id: &str) {
    let plan = pair.plan();
    assert_eq!(plan.refusals().count(), 0, "{:?}", plan.checks);
    let warnings: Vec<_> = plan.checks.iter().filter(|c| c.level == Level::Warn).map(|c| c.id.as_str()).collect();
    assert_eq!(warnings, [id]);
}

fn running(report: &mut InstanceReport, change: impl FnOnce(&mut Running)) {
    *report = with_running(report.clone(), change);
}

#[test]
fn everybody_follows_the_replica_and_none_takes_the_data_anew() {
    let plan = Pair::new().plan();
    assert_eq!(plan.refusals().collect::<Vec<_>>(), Vec::<&Check>::new());
    assert_eq!((names(&plan), plan.warnings()), (vec!["hand-over", "siblings", "persist", "canary"], 0));
    assert_eq!(plan.outcome(), (Some(&named("b")), vec![&named("a"), &named("d")]));
    let resyncs: Vec<_> = plan.forecasts.iter().map(|f| (f.replica.clone(), f.to.clone(), f.resync)).collect();
    let partial = |replica: &str| (named(replica), named("b"), Resync::Partial);
    assert_eq!(resyncs, [partial("a"), partial("d")]);
}

#[test]
fn without_siblings_there_is_one_replica_to_move() {
    let mut pair = Pair::new();
    pair.d = instance("default", D);
    running(&mut pair.a, |a| a.role = Role::Primary { replicas: vec![line(B)] });
    let plan = pair.plan();
    assert_eq!((names(&plan), plan.refusals().count()), (vec!["hand-over", "persist", "canary"], 0));
}

#[test]
fn what_an_earlier_run_left_is_planned() {
    let plan = Pair::handed_over().plan();
    assert_eq!(plan.refusals().collect::<Vec<_>>(), Vec::<&Check>::new());
    assert_eq!(names(&plan), ["hand-over", "siblings", "persist", "canary"]);
    let siblings = |step: &Step| matches!(step, Step::AttachSiblings { replicas, .. } if *replicas == [named("d")]);
    assert!(plan.steps.iter().any(siblings), "the one that still follows the old primary");
    let mut pair = Pair::handed_over();
    pair.d = linked(D, B);
    assert_eq!(names(&pair.plan()), ["hand-over", "persist", "canary"]);
}

#[test]
fn the_address_under_which_the_primary_knows_its_replica_is_used() {
    let seen_as = |pair: &Pair| {
        let step = pair.plan().steps.into_iter().next();
        match step {
            Some(Step::HandOver { seen_as, .. }) => seen_as.to_string(),
            other => panic!("{other:?}"),
        }
    };
    let mut pair = Pair::new();
    assert_eq!(seen_as(&pair), B);
    pair.b.address = "machine-b.example:6379".parse().unwrap();
    assert_eq!(seen_as(&pair), B);
    running(&mut pair.a, |a| a.role = Role::Primary { replicas: vec![line("192.0.2.7:40000"), line(D)] });
    let refusals = pair.plan().refusals().map(|check| check.id.clone()).collect::<Vec<_>>();
    assert!(refusals.contains(&"primary-hand-over".to_owned()), "{refusals:?}");
}

#[test]
fn only_a_replica_of_the_primary_can_take_over() {
    let no_replica = |to: &str| CastError::NoReplica { primary: named("a"), target: named(to) };
    assert_eq!(Pair::new().cast("c").err(), Some(no_replica("c")));
    assert_eq!(Pair::new().cast("a").err(), Some(CastError::Same(named("a"))));
    let mut pair = Pair::new();
    pair.a = linked(A, D);
    pair.b = linked(B, A);
    pair.d = instance("default", D).primary(lineage('a', 900), 50);
    let lead = named("d").to_string();
    assert_eq!(pair.cast("b").err(), Some(CastError::NotPrimary { word: named("a"), lead }));
}

#[test]
fn a_primary_that_does_not_serve_hands_nothing_over() {
    let mut pair = Pair::new();
    running(&mut pair.a, |a| a.persistence.loading = true);
    refused(&pair, "primary-serves", Level::Refuse);
    let mut pair = Pair::new();
    pair.expect_primary = Some(D.parse().unwrap());
    refused(&pair, "primary-expected", Level::Danger);
}

#[test]
fn a_replica_whose_link_is_not_up_does_not_take_over() {
    for link in [down(3), Link::Syncing] {
        let mut pair = Pair::new();
        pair.b = instance("default", B).replica(A, link, lineage('a', 900), 50);
        refused(&pair, "replica-link", Level::Refuse);
    }
    let mut pair = Pair::new();
    running(&mut pair.b, |b| b.replication.lineage = lineage('b', 900));
    refused(&pair, "replica-link", Level::Danger);
    let mut pair = Pair::new();
    running(&mut pair.a, |a| a.replication.lineage.offset = 900_000_000);
    warned(&pair, "replica-link");
}

#[test]
fn what_others_manage_is_left_to_them() {
    let mut pair = Pair::new();
    running(&mut pair.a, |a| a.sentinels = 3);
    refused(&pair, "group-sentinel", Level::Refuse);
    let mut pair = Pair::new();
    running(&mut pair.b, |b| b.cluster = true);
    refused(&pair, "group-cluster", Level::Refuse);
}

#[test]
fn a_server_without_the_command_is_refused() {
    let mut pair = Pair::new();
    running(&mut pair.a, |a| a.version = ServerVersion::new(Product::Redis, "6.0.20").unwrap());
    refused(&pair, "primary-hand-over", Level::Refuse);
}

#[test]
fn a_replica_that_would_not_take_writes_as_a_primary_is_refused() {
    let mut pair = Pair::new();
    pair.b.settings.maxmemory_bytes = 1000;
    refused(&pair, "replica-maxmemory", Level::Danger);
    pair.b.settings.maxmemory_bytes = 2_000_000;
    warned(&pair, "replica-maxmemory");
    let mut pair = Pair::new();
    pair.b.settings.min_replicas_to_write = 3;
    refused(&pair, "replica-writes", Level::Refuse);
    pair.b.settings.min_replicas_to_write = 2;
    warned(&pair, "replica-writes");
    pair.b.settings.min_replicas_to_write = 1;
    assert_eq!(pair.plan().warnings(), 0);
}

#[test]
fn a_replica_that_is_less_safe_as_a_primary_is_warned_of() {
    let mut pair = Pair::new();
    running(&mut pair.a, |a| a.persistence.aof_enabled = true);
    warned(&pair, "replica-aof");
    let mut pair = Pair::new();
    running(&mut pair.b, |b| {
        if let Role::Replica { priority, .. } = &mut b.role {
            *priority = 0;
        }
    });
    warned(&pair, "replica-priority");
}

#[test]
fn the_old_primary_must_be_able_to_follow() {
    let mut pair = Pair::new();
    pair.b.settings.requires_password = true;
    pair.d.settings.has_primary_password = true;
    refused(&pair, "path-password", Level::Refuse);
    let mut pair = Pair::new();
    pair.path = ReachVerdict::Refused;
    let refusals: Vec<_> = pair.plan().refusals().map(|check| check.id.clone()).collect();
    assert_eq!(refusals, ["path-open", "path-open"]);
    let mut pair = Pair::new();
    pair.b.binary = Some(ServerVersion::new(Product::Redis, "7.4.1").unwrap());
    let plan = pair.plan();
    assert_eq!((plan.refusals().count(), plan.warnings()), (0, 2), "neither could take a full resync");
}

#[test]
fn a_sibling_that_is_not_well_stays_behind_and_is_named() {
    let mut pair = Pair::new();
    pair.d = instance("default", D).replica(A, down(3), lineage('a', 800), 50);
    running(&mut pair.a, |a| a.role = Role::Primary { replicas: vec![line(B)] });
    warned(&pair, "siblings");
    let siblings: Vec<InstanceRef> = pair.plan().siblings;
    assert_eq!(siblings, Vec::<InstanceRef>::new());
}

#[test]
fn a_sibling_that_the_new_primarys_backlog_does_not_reach_takes_everything_anew() {
    let mut pair = Pair::new();
    running(&mut pair.b, |b| b.replication.backlog = Some(Backlog { first_offset: 900, held_bytes: 1 }));
    running(&mut pair.d, |d| d.replication.lineage.offset = 500);
    let resyncs: Vec<_> = pair.plan().forecasts.iter().map(|f| f.resync).collect();
    assert_eq!(resyncs, [Resync::Partial, Resync::Full]);
}
