//! The fixtures are what real servers said, less the fields that nobody here reads.

use baton_proto::report::total_keys;
use proptest::prelude::*;

use super::*;

const REPLICA_6_2: &str = include_str!("fixtures/redis-6.2.replica.txt");
const LOADED_6_2: &str = include_str!("fixtures/redis-6.2.loaded.txt");
const ORPHAN_7_0: &str = include_str!("fixtures/redis-7.0.orphan.txt");
const LOADED_7_0: &str = include_str!("fixtures/redis-7.0.loaded.txt");
const LOADING_7_0: &str = include_str!("fixtures/redis-7.0.loading.txt");
const PRIMARY_9_1: &str = include_str!("fixtures/valkey-9.1.primary.txt");
const FENCED_9_1: &str = include_str!("fixtures/valkey-9.1.fenced.txt");
const ALL: [&str; 7] = [REPLICA_6_2, LOADED_6_2, ORPHAN_7_0, LOADED_7_0, LOADING_7_0, PRIMARY_9_1, FENCED_9_1];

fn lineage(id: &str, offset: u64) -> Lineage {
    Lineage { id: id.parse().unwrap(), offset }
}

fn replica(text: &str) -> (HostPort, Link) {
    match parse_running(text).unwrap().role {
        Role::Replica { primary, link, .. } => (primary, link),
        Role::Primary { .. } => panic!("a replica was read as a primary"),
    }
}

#[test]
fn a_linked_replica_of_redis_6_2_is_read() {
    let running = parse_running(REPLICA_6_2).unwrap();
    assert_eq!(running.version.to_string(), "redis 6.2.14");
    assert_eq!(replica(REPLICA_6_2), (HostPort::new("127.0.0.61", 27010), Link::Up { last_io_seconds: 0 }));
    assert_eq!(running.replication.lineage, lineage("751b3c8483119f07e9d4a6cd2328766bac06520d", 1345));
    assert_eq!(running.replication.second, None);
    assert_eq!(running.replication.backlog, Some(Backlog { first_offset: 1, held_bytes: 1345 }));
    assert_eq!(running.keyspace[&0], Keys { keys: 6, expires: 5 });
    assert_eq!((running.keyspace[&9].keys, total_keys(&running.keyspace)), (5, 11));
    assert_eq!(running.persistence.load_keys, None, "6.2 does not count what it loads");
    assert_eq!(running.clients, 0, "neither the asker nor the link to the primary is a client");
}

#[test]
fn an_orphan_tells_since_when_its_link_is_down() {
    let running = parse_running(ORPHAN_7_0).unwrap();
    assert_eq!(replica(ORPHAN_7_0).1, Link::Down { since_seconds: Some(1) });
    assert_eq!(running.replication.lineage, lineage("562f510ab37107cee8c78546849383ea257ed427", 1445));
}

#[test]
fn a_fenced_replica_keeps_its_lineage() {
    let running = parse_running(FENCED_9_1).unwrap();
    assert_eq!(replica(FENCED_9_1), (HostPort::new("127.0.0.1", 1), Link::Down { since_seconds: Some(2) }));
    assert_eq!(running.replication.lineage, lineage("893aabe2ca651ec3e7e91ac0c5d009b6420ddd82", 1445));
}

#[test]
fn a_replica_that_never_had_a_link_says_so() {
    let never = ORPHAN_7_0.replace("master_link_down_since_seconds:1", "master_link_down_since_seconds:-1");
    assert_eq!(replica(&never).1, Link::Down { since_seconds: None });
    let syncing = ORPHAN_7_0.replace("master_sync_in_progress:0", "master_sync_in_progress:1");
    assert_eq!(replica(&syncing).1, Link::Syncing);
}

#[test]
fn a_primary_that_loaded_a_replicas_snapshot_remembers_where_that_stood() {
    let running = parse_running(LOADED_7_0).unwrap();
    assert_eq!(running.role, Role::Primary { replicas: vec![] });
    assert_eq!(running.replication.second, Some(lineage("562f510ab37107cee8c78546849383ea257ed427", 1445)));
    assert_eq!(running.replication.backlog, Some(Backlog { first_offset: 1446, held_bytes: 0 }));
    assert_eq!(running.persistence.load_keys, Some(LoadedKeys { loaded: 11, expired: 0 }));
    assert_eq!(parse_running(LOADED_6_2).unwrap().replication.second, None, "6.2 forgets");
}

#[test]
fn a_primary_of_valkey_9_1_is_read_with_its_replicas_and_modules() {
    let running = parse_running(PRIMARY_9_1).unwrap();
    assert_eq!(running.version.to_string(), "valkey 9.1.2");
    let address = HostPort::new("127.0.0.1", 27031);
    let line = ReplicaLine { address, online: true, offset: 708, lag_seconds: 1 };
    assert_eq!(running.role, Role::Primary { replicas: vec![line] });
    assert_eq!(running.modules, ["lua"]);
    assert_eq!((running.replication.backlog_bytes, running.replication.counters.full), (10 << 20, 1));
    assert_eq!(total_keys(&running.keyspace), 11);
}

#[test]
fn a_loading_server_tells_how_far_it_is() {
    let persistence = parse_running(LOADING_7_0).unwrap().persistence;
    assert!(persistence.loading && !persistence.saving && persistence.last_save_ok);
    assert_eq!((persistence.loaded_bytes, persistence.loading_total_bytes), (196_607, 25_433_729));
}

#[test]
fn todays_words_are_read_as_the_old_ones() {
    let renamed = FENCED_9_1.replace("master_", "primary_").replace("slave_", "replica_").replace(":slave", ":replica");
    assert_eq!(parse_running(&renamed), parse_running(FENCED_9_1));
}

#[test]
fn what_cannot_be_judged_is_an_error() {
    assert_eq!(parse_running(""), Err(InfoError::Missing("role")));
    let sentinel = parse_running("redis_version:7.0.15\r\nredis_mode:sentinel\r\nprocess_id:1\r\n");
    assert_eq!(sentinel, Err(InfoError::Missing("role")));
    let error = parse_running(&ORPHAN_7_0.replace("127.0.0.61", "a b")).unwrap_err();
    assert_eq!(error.to_string(), "INFO says `master_host:a b`, which is not understood");
    let error = parse_running(&ORPHAN_7_0.replace("562f", "xyz0")).unwrap_err();
    assert!(matches!(error, InfoError::Strange { field: "master_replid", .. }));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        let _ = parse_running(&text);
    }

    #[test]
    fn no_changed_value_makes_it_panic(which in 0..ALL.len(), line in 0usize..120, value in "[-0-9a-f=,:.]{0,20}") {
        let mut lines: Vec<String> = ALL[which].lines().map(str::to_owned).collect();
        if let Some(line) = lines.get_mut(line) {
            let name = line.split(':').next().unwrap_or_default().to_owned();
            *line = format!("{name}:{value}");
        }
        let _ = parse_running(&lines.join("\r\n"));
    }
}
