//! What is observed.

use std::collections::BTreeSet;

use baton_proto::claim::Claim;
use baton_proto::condition::{BufferLimit, HostCondition, RefusedOrder, ServerCondition};
use baton_proto::deposed::Held;
use baton_proto::report::{
    Backlog, CertificateFacts, Fence, Files, HostReport, InstanceReport, Keys, Keyspace, Link, LoadedKeys, Memory,
    Persistence, ReplicaLine, Replication, Role, Running, ServerState, ServiceFact, Settings, SyncCounters,
};
use baton_proto::speeds::{Speed, Speeds, Transferred};

use super::*;

pub(crate) fn keyspace() -> Keyspace {
    BTreeMap::from([(0, Keys { keys: 10, expires: 3 }), (7, Keys { keys: 1, expires: 0 })])
}

fn replica(link: Link) -> Role {
    Role::Replica { primary: at("10.0.0.1:6379"), link, priority: 100 }
}

every!(links: Link {
    Up = Link::Up { last_io_seconds: 2 },
    Syncing = Link::Syncing,
    Down = Link::Down { since_seconds: Some(40) },
});

every!(roles: Role {
    Primary = Role::Primary {
        replicas: vec![ReplicaLine { address: at("10.0.0.2:6379"), online: true, offset: 900, lag_seconds: 1 }],
    },
    Replica = replica(Link::Down { since_seconds: Some(40) }),
});

fn running() -> Running {
    Running {
        version: version(),
        pid: 77,
        uptime_seconds: 4000,
        clients: 12,
        role: replica(Link::Up { last_io_seconds: 2 }),
        replication: Replication {
            lineage: lineage(),
            second: Some(lineage()),
            backlog: Some(Backlog { first_offset: 5, held_bytes: 900 }),
            backlog_bytes: 1 << 20,
            counters: SyncCounters { full: 1, partial_ok: 2, partial_err: 3 },
            input_bytes: 12345,
        },
        keyspace: keyspace(),
        persistence: Persistence {
            loading: true,
            loaded_bytes: 4,
            loading_total_bytes: 9,
            saving: true,
            aof_enabled: true,
            aof_rewriting: true,
            aof_rewrite_ok: true,
            last_save_ok: true,
            last_save_unix: 1_764_000_000,
            last_save_seconds: Some(9),
            changes_since_save: 6,
            load_keys: Some(LoadedKeys { loaded: 8, expired: 2 }),
        },
        memory: Memory {
            used_bytes: 1 << 30,
            rss_bytes: 1 << 31,
            maxmemory_bytes: 1 << 32,
            expired_keys: 4,
            evicted_keys: 5,
        },
        modules: vec!["search".into()],
        cluster: true,
        sentinels: 3,
    }
}

every!(states: ServerState {
    Stopped = ServerState::Stopped,
    Silent = ServerState::Silent { error: "timed out".into() },
    Denied = ServerState::Denied { user: "default".into(), error: "NOAUTH".into() },
    Running = ServerState::Running(Box::new(running())),
    Strange = ServerState::Strange { error: "what is that".into() },
});

pub(crate) fn of_instance() -> InstanceReport {
    InstanceReport {
        name: instance(),
        address: at("10.0.0.2:6379"),
        service: ServiceFact { kind: "systemd redis-server.service".into(), takes_arguments: true },
        binary: Some(version()),
        binary_error: Some("no such file".into()),
        settings: settings(),
        files: Files {
            dump_bytes: Some(1 << 33),
            dump_modified_unix: Some(1_764_000_000),
            has_aof: true,
            free_bytes: 1 << 36,
            filesystem: Some(66),
            write_error: Some("read-only".into()),
        },
        server: ServerState::Running(Box::new(running())),
        condition: ServerCondition {
            memory_left_bytes: Some(1 << 31),
            swapped_bytes: 4096,
            databases: Some(16),
            replica_buffer: Some(BufferLimit { hard_bytes: 9, soft_bytes: 8, soft_seconds: 7 }),
            diskless_load: Some("disabled".into()),
            refused: vec![RefusedOrder { command: "DEBUG".into(), error: "NOPERM".into() }],
            users: Some(BTreeSet::from(["baton".into()])),
            config_locked: Some("read-only".into()),
            config_managed: Some("# by ansible".into()),
            dir_locked: Some("no right".into()),
        },
        speeds: speeds(),
        fence: Some(Fence { run: run(), from: at("10.0.0.1:6379"), since_unix: 1_764_000_000 }),
        claim: Some(Claim {
            run: run(),
            turn: turn(),
            by: "ada".into(),
            since_unix: 1_764_000_000,
            quiet_ms: Some(250),
        }),
    }
}

fn speeds() -> Speeds {
    let speed = Speed { bytes: 1 << 33, seconds: 20.5, age_seconds: 60 };
    let transferred = Transferred { speed, bytes_wire: 1 << 32 };
    let transfers = BTreeMap::from([(host("machine-a"), transferred)]);
    Speeds { save: Some(speed), work: Some(speed), load: Some(speed), transfers }
}

fn settings() -> Settings {
    Settings {
        config_file: "/etc/redis/redis.conf".into(),
        port: 6379,
        bind: vec!["10.0.0.2".into()],
        protected_mode: true,
        unix_socket: Some("/run/redis.sock".into()),
        requires_password: true,
        has_primary_password: true,
        primary_user: Some("replica".into()),
        tls_replication: true,
        configurable: true,
        appendonly: true,
        dir: "/var/lib/redis".into(),
        dbfilename: "dump.rdb".into(),
        maxmemory_bytes: 1 << 32,
        maxmemory_policy: "noeviction".into(),
        serve_stale_data: true,
        min_replicas_to_write: 1,
        load_modules: vec!["/usr/lib/search.so".into()],
        replica_of: Some(at("10.0.0.1:6379")),
        error: Some("no such file".into()),
    }
}

pub(crate) fn report() -> HostReport {
    HostReport {
        host: host("machine-b"),
        software: "baton-agent 0.1.0".into(),
        clock_unix_ms: 1_764_000_000_123,
        cores: 8,
        memory_bytes: 1 << 36,
        memory_available_bytes: 1 << 35,
        condition: HostCondition {
            overcommit_memory: Some(1),
            huge_pages_always: true,
            swap_bytes: 1 << 30,
            swap_free_bytes: 1 << 29,
        },
        instances: vec![of_instance()],
        depositions: vec![Held {
            deposition: deposition(),
            told: true,
            untold: Some("no agent listens".into()),
            fenced: true,
            firsthand: true,
        }],
        certificate: Some(CertificateFacts { expires_unix: 1_800_000_000, revocations: 2 }),
        peers: Some(peers()),
    }
}
