use baton_proto::report::{Backlog, Link, LoadedKeys, Memory, Persistence, Replication, SyncCounters};
use baton_proto::version::{Product, ServerVersion};
use baton_proto::{HostPort, ReplId};
use proptest::prelude::*;

use super::*;

const ID: &str = "c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb";

fn at(offset: u64) -> Lineage {
    Lineage { id: ID.parse().unwrap(), offset }
}

fn keyspace(databases: &[(u32, u64, u64)]) -> Keyspace {
    databases.iter().map(|(db, keys, expires)| (*db, Keys { keys: *keys, expires: *expires })).collect()
}

fn server(version: &str, role: Role, keys: &[(u32, u64, u64)]) -> Running {
    let id: ReplId = "1".repeat(40).parse().unwrap();
    Running {
        version: ServerVersion::new(Product::Redis, version).unwrap(),
        pid: 1,
        uptime_seconds: 1,
        clients: 0,
        role,
        replication: Replication {
            lineage: Lineage { id, offset: 0 },
            second: None,
            backlog: None,
            backlog_bytes: 1 << 20,
            counters: SyncCounters::default(),
            input_bytes: 0,
        },
        keyspace: keyspace(keys),
        persistence: Persistence::default(),
        memory: Memory::default(),
        modules: Vec::new(),
        cluster: false,
        sentinels: 0,
    }
}

/// The source, frozen at the snapshot's offset.
fn source(keys: &[(u32, u64, u64)]) -> Running {
    let link = Link::Down { since_seconds: Some(9) };
    let role = Role::Replica { primary: HostPort::new("127.0.0.1", 1), link, priority: 100 };
    let mut running = server("7.0.15", role, keys);
    running.replication.lineage = at(16303);
    running
}

/// A target that loaded the snapshot, and dropped so many keys as expired.
fn target(version: &str, keys: &[(u32, u64, u64)], expired: u64) -> Running {
    let mut running = server(version, Role::Primary { replicas: Vec::new() }, keys);
    if running.version.remembers_lineage_as_primary() {
        running.replication.second = Some(at(16303));
        running.replication.backlog = Some(Backlog { first_offset: 16304, held_bytes: 0 });
        let loaded = running.keyspace.values().map(|db| db.keys).sum();
        running.persistence.load_keys = Some(LoadedKeys { loaded, expired });
    }
    running
}

fn opens(source: &Running, target: &Running) -> bool {
    opens_after(false, source, target)
}

fn opens_after(live: bool, source: &Running, target: &Running) -> bool {
    let lineage = at(16303);
    let expected = Expected { lineage: &lineage, snapshot: Some(&lineage), keyspace: &source.keyspace, live };
    judge(&expected, source, target).iter().all(|finding| finding.holds)
}

#[test]
fn an_older_dump_is_not_taken_for_the_source_as_it_is() {
    let (now, older) = (at(16303), at(16289));
    for snapshot in [Some(&older), None] {
        let expected = Expected { lineage: &now, snapshot, keyspace: &source(DATA).keyspace, live: false };
        let findings = judge(&expected, &source(DATA), &target("6.2.14", DATA, 0));
        assert_eq!(findings.iter().filter(|finding| !finding.holds).count(), 1);
    }
}

const DATA: &[(u32, u64, u64)] = &[(0, 500, 40), (3, 20, 20)];
const VERSIONS: [&str; 2] = ["6.2.14", "7.0.15"];

#[test]
fn a_target_that_holds_everything_passes() {
    for version in VERSIONS {
        assert!(opens(&source(DATA), &target(version, DATA, 0)), "{version}");
    }
}

#[test]
fn an_empty_target_never_passes_though_it_looks_healthy() {
    for version in VERSIONS {
        assert!(!opens(&source(DATA), &target(version, &[], 0)), "{version}");
        let mut healthy = target(version, &[], 0);
        healthy.persistence.last_save_ok = true;
        assert!(!opens(&source(&[(0, 10, 10)]), &healthy), "{version}, all keys with a time to live");
    }
}

#[test]
fn an_empty_data_set_passes() {
    for version in VERSIONS {
        assert!(opens(&source(&[]), &target(version, &[], 0)), "{version}");
    }
}

#[test]
fn keys_that_expired_meanwhile_may_be_missing() {
    for version in VERSIONS {
        assert!(opens(&source(DATA), &target(version, &[(0, 490, 30), (3, 15, 15)], 15)), "{version}");
    }
    assert!(opens(&source(&[(0, 10, 10)]), &target("7.0.15", &[], 10)), "all of them did");
}

#[test]
fn keys_that_ran_out_after_the_load_may_be_missing() {
    let mut loaded = target("7.0.15", &[(0, 490, 30), (3, 20, 20)], 4);
    assert!(!opens(&source(DATA), &loaded));
    loaded.memory.expired_keys = 6;
    assert!(opens(&source(DATA), &loaded));
}

#[test]
fn one_lasting_key_too_few_is_too_few() {
    for version in VERSIONS {
        assert!(!opens(&source(DATA), &target(version, &[(0, 499, 40), (3, 20, 20)], 1)), "{version}");
    }
}

#[test]
fn more_missing_than_expired_is_refused() {
    assert!(!opens(&source(DATA), &target("7.0.15", &[(0, 490, 30), (3, 20, 20)], 9)));
}

#[test]
fn keys_in_another_database_are_not_the_same_keys() {
    for version in VERSIONS {
        assert!(!opens(&source(&[(0, 500, 0)]), &target(version, &[(1, 500, 0)], 0)), "{version}");
    }
}

#[test]
fn a_source_that_moved_closes_the_gate() {
    let mut moved = source(DATA);
    moved.replication.lineage = at(16317);
    assert!(!opens(&moved, &target("7.0.15", DATA, 0)));
    let mut promoted = source(DATA);
    promoted.role = Role::Primary { replicas: Vec::new() };
    assert!(!opens(&promoted, &target("7.0.15", DATA, 0)));
}

#[test]
fn a_target_without_the_snapshots_lineage_is_refused_where_its_version_would_have_it() {
    for spoil in [
        |running: &mut Running| running.replication.second = None,
        |running: &mut Running| running.replication.second = Some(at(16302)),
        |running: &mut Running| running.replication.backlog = None,
        |running: &mut Running| running.persistence.loading = true,
    ] {
        let mut spoilt = target("7.0.15", DATA, 0);
        spoil(&mut spoilt);
        assert!(!opens(&source(DATA), &spoilt));
    }
}

#[test]
fn a_target_that_was_fed_has_the_lineage_and_explains_every_missing_key_whatever_its_version() {
    let fed = |keys: &[(u32, u64, u64)], expired: u64| {
        let mut running = target("6.2.14", keys, 0);
        running.replication.second = Some(at(16303));
        running.replication.backlog = Some(Backlog { first_offset: 16304, held_bytes: 0 });
        running.memory.expired_keys = expired;
        running
    };
    assert!(opens_after(true, &source(DATA), &fed(DATA, 0)));
    assert!(!opens_after(true, &source(DATA), &target("6.2.14", DATA, 0)), "it does not remember what it was fed");
    assert!(!opens_after(true, &source(DATA), &fed(&[(0, 490, 30), (3, 20, 20)], 9)), "ten are missing, nine expired");
    assert!(opens_after(true, &source(DATA), &fed(&[(0, 490, 30), (3, 20, 20)], 10)));
    assert!(opens_after(true, &source(&[(0, 10, 10)]), &fed(&[], 10)), "all of them did");
}

#[test]
fn a_target_that_is_itself_a_replica_is_refused() {
    let mut replica = target("7.0.15", DATA, 0);
    replica.role = source(DATA).role;
    assert!(!opens(&source(DATA), &replica));
}

proptest! {
    /// The promise itself: whoever passes holds every lasting key, and lacks no more than has expired.
    #[test]
    fn whoever_passes_holds_all_that_lasts(
        wanted in proptest::collection::vec((0u32..4, 0u64..50, 0u64..50), 0..4),
        found in proptest::collection::vec((0u32..4, 0u64..50, 0u64..50), 0..4),
        expired in 0u64..40,
        old in any::<bool>(),
    ) {
        let whole = |dbs: &[(u32, u64, u64)]| dbs.iter().map(|(db, lasting, ttl)| (*db, lasting + ttl, *ttl)).collect::<Vec<_>>();
        let (source, target) = (source(&whole(&wanted)), target(VERSIONS[usize::from(!old)], &whole(&found), expired));
        if opens(&source, &target) {
            for (db, keys) in &source.keyspace {
                let held = target.keyspace.get(db).copied().unwrap_or_default();
                prop_assert_eq!(lasting(*keys), lasting(held));
                prop_assert!(held.expires <= keys.expires);
            }
            let (wanted, found) = (total_keys(&source.keyspace), total_keys(&target.keyspace));
            prop_assert!(old || wanted - found <= expired);
            prop_assert!(wanted == 0 || found > 0 || !old);
        }
    }
}
