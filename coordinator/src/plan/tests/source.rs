//! Who becomes the source, how it is saved, and why it is refused.

use super::*;

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
    let by_tls = |goal| {
        let mut case = Case::new(goal);
        case.b.settings.tls_replication = true;
        // Chosen by itself where its disk is full, but for this.
        case.b.files.free_bytes = 0;
        case.refusals().0
    };
    assert_eq!(
        by_tls(Goal::Failover(Mode::Replace)),
        ["source-disk"],
        "its agent would take its primary's place in plain"
    );
    assert_eq!(by_tls(Goal::Failover(Mode::Promote)), Vec::<String>::new());
    assert!(old(Goal::Failover(Mode::Replace)), "it cannot go on from where it stands");
    assert!(!old(Goal::Failover(Mode::Promote)), "it serves by itself by then");
}

#[test]
fn a_source_that_has_forgotten_its_history_is_only_promoted() {
    let forgetful = |goal| {
        let mut case = Case::new(goal);
        case.b = with_running(replica(B, 900), |running| {
            running.replication.lineage = lineage('f', 1);
            running.replication.backlog = None;
        });
        case
    };
    let case = forgetful(Goal::Failover(Mode::Replace));
    refused(&case, "source-history", Level::Refuse);
    let check = case.plan().refusals().next().unwrap().clone();
    assert!(check.remedy.unwrap().contains("--mode promote"), "{}", check.says);
    assert_eq!(forgetful(Goal::Failover(Mode::Promote)).refusals().0, Vec::<String>::new());
    // At the beginning of a history with a backlog it is one that has just begun to follow.
    let mut case = Case::replace();
    case.b = with_running(replica(B, 900), |running| {
        running.replication.lineage = lineage('a', 1);
        running.replication.backlog = Some(Backlog { first_offset: 1, held_bytes: 1 });
    });
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
