//! Everything that is refused before anything is changed: the words name the host and the remedy, and every server, file
//! and configuration is afterwards what it was before.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use baton_tests::coord::{Said, code};
use baton_tests::dataset::Dataset;
use baton_tests::footprint::Footprint;
use baton_tests::host::{SERVER_PORT, quoted};
use baton_tests::servers::{REDIS_6_2, REDIS_7_0, ServerProgram, VALKEY_9_1};
use baton_tests::wait::wait_for;
use baton_tests::world::{A, B, C, D, World};

use crate::scene::{FAILOVER, LITTLE_BYTES, Lost, lagging_sibling};

/// Asserts that a failover is refused with these words and leaves everything as it was, and that a dry run says the same.
#[track_caller]
pub(crate) fn assert_refused(world: &World, more: &[&str], exit: i32, words: &[&str]) -> Said {
    let before = Footprint::of(world);
    let dry = world.coord(&[&FAILOVER[..], &["--dry-run"], more].concat()).ends_with(exit).says(words);
    let said = world.coord(&[&FAILOVER[..], &["--yes"], more].concat()).ends_with(exit).says(words).says(&["hint:"]);
    assert_eq!(Footprint::of(world), before, "{dry}{said}");
    said
}

fn three(server: &str) -> World {
    World::of_three(&ServerProgram::named(server))
}

/// A and B of one server, C of another.
fn mixed_versions(group: &str, target: &str) -> World {
    let mut world = World::new();
    for (name, server) in [(A, group), (B, group), (C, target)] {
        world.add(name, &ServerProgram::named(server));
    }
    world.replicate(B, A);
    world
}

#[test]
fn a_c_that_runs_with_data_is_not_replaced_unasked() {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    world.c().start_server();
    world.c().client().call(&["SET", "precious", "of C"]);
    Dataset::mixed(1, LITTLE_BYTES).load(&mut world.a().client());
    let lost = Lost::after(world);
    assert_refused(&lost.world, &[], code::REFUSED, &[C, "data", "--replace-target-data"]);
}

#[test]
fn a_c_whose_maxmemory_is_too_small_is_refused() {
    let world = three(REDIS_7_0);
    world.c().configure(|conf| {
        conf.set("maxmemory", "2mb");
    });
    let lost = Lost::with(world, Dataset::mixed(1, 4 << 20));
    assert_refused(&lost.world, &[], code::PREFLIGHT, &[C, "maxmemory"]);
}

#[test]
fn a_c_with_too_little_memory_is_refused() {
    let world = three(REDIS_7_0);
    world.c().configure_agent(|toml| {
        toml.top.set("memory_reserve", quoted("100TB"));
    });
    let lost = Lost::with_little_in(world);
    assert_refused(&lost.world, &[], code::PREFLIGHT, &[C, "memory"]);
}

#[test]
fn a_disk_that_is_too_small_is_refused_on_either_side() {
    for host in [B, C] {
        let world = three(REDIS_7_0);
        world.host(host).configure_agent(|toml| {
            toml.top.set("disk_reserve", quoted("100TB"));
        });
        let lost = Lost::with_little_in(world);
        // Left to itself, a B whose disk is full streams from memory: see `stream`.
        assert_refused(&lost.world, &["--snapshot", "save"], code::PREFLIGHT, &[host, "disk"]);
    }
}

#[test]
fn a_snapshot_that_is_newer_than_what_c_reads_is_refused() {
    for (group, target, format) in [(REDIS_7_0, REDIS_6_2, "REDIS0010"), (VALKEY_9_1, REDIS_7_0, "VALKEY080")] {
        let lost = Lost::with_little_in(mixed_versions(group, target));
        assert_refused(&lost.world, &[], code::PREFLIGHT, &[C, format]);
    }
}

#[test]
fn an_older_snapshot_is_taken_by_a_newer_c() {
    for (group, target) in [(REDIS_6_2, REDIS_7_0), (REDIS_7_0, VALKEY_9_1)] {
        let lost = Lost::with_little_in(mixed_versions(group, target));
        lost.failover_done(&[]);
        assert_eq!(crate::scene::resyncs(lost.world.c()), crate::scene::counts(0, 1));
        // Digests are a server's own, so between two versions the keys are compared.
        assert_eq!(lost.world.c().content().keys, lost.before.keys);
        assert_eq!(lost.world.b().content(), lost.before);
    }
}

/// Builds a module that does nothing but exist. Its few lines stand for redismodule.h, which no package brings.
fn build_module(dir: &Path) -> PathBuf {
    let (source, module) = (dir.join("nothing.c"), dir.join("nothing.so"));
    let text = r#"
        typedef int (*get_api)(const char *, void *);
        typedef void (*set_attributes)(void *, const char *, int, int);
        int RedisModule_OnLoad(void *ctx, void **argv, int argc) {
            set_attributes attributes = 0;
            (void)argv; (void)argc;
            ((get_api)((void **)ctx)[0])("RedisModule_SetModuleAttribs", (void *)&attributes);
            attributes(ctx, "batonnothing", 1, 1);
            return 0;
        }"#;
    fs::write(&source, text).unwrap();
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).args([&module, &source]).status();
    assert!(compiled.expect("cc is there, since Rust links with it").success());
    module
}

#[test]
fn a_module_that_c_lacks_is_refused() {
    let world = three(REDIS_7_0);
    let module = build_module(world.dir());
    for host in [A, B] {
        world.host(host).configure(|conf| {
            conf.set("loadmodule", module.display());
        });
    }
    let lost = Lost::with_little_in(world);
    assert_refused(&lost.world, &[], code::PREFLIGHT, &[C, "batonnothing", "loadmodule"]);
    lost.world.c().configure(|conf| {
        conf.set("loadmodule", module.display());
    });
    lost.failover_done(&[]);
    lost.assert_replaced();
}

#[test]
fn an_a_that_is_alive_is_not_replaced() {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    Dataset::mixed(1, LITTLE_BYTES).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    assert_refused(&world, &[], code::REFUSED, &[A, "lives"]);
    // The agent alone is gone: the replica still sees its primary.
    world.a().kill_agent();
    assert_refused(&world, &[], code::REFUSED, &[A, B]);
}

#[test]
fn an_a_that_answers_although_its_replica_lost_it_is_not_replaced() {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    Dataset::mixed(1, LITTLE_BYTES).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    // B cannot follow any more, but A serves its clients.
    world.a().client().call(&["CONFIG", "SET", "requirepass", "new"]);
    world.a().kill_agent();
    world.b().client().call(&["CONFIG", "SET", "masterauth", "wrong"]);
    let mut client = baton_tests::resp::Client::connect(world.a().address(), Some("new")).unwrap();
    client.call(&["CLIENT", "KILL", "TYPE", "replica"]);
    world.b().await_info("master_link_status", "down");
    let before = world.b().content();
    world.coord(&[&FAILOVER[..], &["--yes"]].concat()).ends_with(code::REFUSED).says(&[A, "hint:"]);
    assert_eq!(world.b().content(), before);
    assert_eq!(world.b().info("master_host"), world.a().ip.to_string());
}

#[test]
fn a_source_that_is_not_the_freshest_is_refused() {
    let lost = lagging_sibling(REDIS_7_0);
    assert_refused(&lost.world, &["--source", D], code::REFUSED, &[D, "behind machine-b"]);
}

#[test]
fn a_source_that_is_saving_is_refused() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let mut client = lost.world.b().client();
    // Long enough to be there for the whole test; the world's end ends it.
    client.call(&["CONFIG", "SET", "rdb-key-save-delay", "1000000"]);
    client.call(&["BGSAVE"]);
    lost.world.b().await_info("rdb_bgsave_in_progress", "1");
    let said = lost.world.coord(&[&FAILOVER[..], &["--yes"]].concat());
    said.ends_with(code::PREFLIGHT).says(&[B, "saving", "hint:"]);
    assert_eq!(lost.world.b().info("master_host"), lost.world.a().ip.to_string(), "B was not fenced");
    assert_eq!(lost.world.b().content(), lost.before);
}

#[test]
fn a_source_that_is_loading_is_refused() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let b = lost.world.b();
    b.client().call(&["SAVE"]);
    b.kill_server();
    b.configure(|conf| {
        conf.set("key-load-delay", "50000").set("loading-process-events-interval-bytes", "1024");
    });
    let mut command = baton_tests::process::hermetic(&b.program.path, &b.dir);
    command.arg(b.conf_path());
    let server = baton_tests::process::Process::start(command, &b.dir.join("server.out"));
    b.await_info("loading", "1");
    let said = lost.world.coord(&[&FAILOVER[..], &["--yes"]].concat());
    said.ends_with(code::PREFLIGHT).says(&[B, "loading", "hint:"]);
    drop(server);
}

#[test]
fn a_port_of_c_that_is_taken_is_refused() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let _taken = TcpListener::bind(lost.world.c().address()).unwrap();
    assert_refused(&lost.world, &[], code::PREFLIGHT, &[C, &SERVER_PORT.to_string()]);
}

#[test]
fn a_c_that_listens_where_b_cannot_reach_it_is_refused() {
    let world = three(REDIS_7_0);
    let (own, other) = (world.c().ip, baton_tests::address::fresh());
    world.c().configure(|conf| {
        conf.set("bind", other);
    });
    world.c().configure_agent(|toml| {
        toml.instance.set("address", quoted(&format!("{own}:{SERVER_PORT}")));
    });
    let lost = Lost::with_little_in(world);
    assert_refused(&lost.world, &[], code::PREFLIGHT, &[C, B, "bind"]);
}

#[test]
fn a_c_whose_protected_mode_keeps_b_out_is_refused() {
    let world = three(REDIS_7_0);
    world.c().configure(|conf| {
        conf.set("protected-mode", "yes");
    });
    let lost = Lost::with_little_in(world);
    assert_refused(&lost.world, &[], code::PREFLIGHT, &[C, B, "protected"]);
}

#[test]
fn a_c_that_lacks_the_password_that_b_sends_is_refused() {
    let world = three(REDIS_7_0);
    for host in [A, B] {
        world.host(host).configure(|conf| {
            conf.set("requirepass", "secret-of-a").set("masterauth", "secret-of-a");
        });
    }
    let lost = Lost::with_little_in(world);
    let said = assert_refused(&lost.world, &[], code::PREFLIGHT, &[C, B, "masterauth"]);
    assert!(!said.stderr.contains("secret-of-a") && !said.stdout.contains("secret-of-a"), "{said}");
}

#[test]
fn a_data_directory_that_cannot_be_written_is_refused() {
    let world = three(REDIS_7_0);
    world.c().configure(|conf| {
        // Not even root writes here.
        conf.set("dir", "/proc");
    });
    let lost = Lost::with_little_in(world);
    assert_refused(&lost.world, &[], code::PREFLIGHT, &[C, "/proc"]);
}

#[test]
fn a_c_whose_agent_does_not_answer_is_refused() {
    let lost = Lost::with_little_on(REDIS_7_0);
    lost.world.c().kill_agent();
    assert_refused(&lost.world, &[], code::PREFLIGHT, &[C, "agent"]);
}

#[test]
fn another_primary_than_the_expected_one_is_refused() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let wrong = format!("{}:6379", lost.world.c().ip);
    let right = format!("{}:6379", lost.world.a().ip);
    assert_refused(&lost.world, &["--expect-primary", &wrong], code::REFUSED, &[&wrong, &right]);
    lost.failover_done(&["--expect-primary", &right]);
    lost.assert_replaced();
}

#[test]
fn data_that_is_older_than_allowed_is_refused() {
    let lost = Lost::with_little_on(REDIS_7_0);
    wait_for("B has been alone for more than a second", || {
        let seconds = lost.world.b().info("master_link_down_since_seconds");
        if seconds.parse::<u64>().is_ok_and(|seconds| seconds > 1) { Ok(()) } else { Err(seconds) }
    });
    assert_refused(&lost.world, &["--max-data-age", "1s"], code::REFUSED, &[B, "--max-data-age"]);
}

#[test]
fn all_refusals_are_told_at_once() {
    let world = three(REDIS_7_0);
    world.c().configure(|conf| {
        conf.set("maxmemory", "1mb").set("dir", "/proc");
    });
    world.b().configure_agent(|toml| {
        toml.top.set("disk_reserve", quoted("100TB"));
    });
    let lost = Lost::with(world, Dataset::mixed(1, 4 << 20));
    assert_refused(&lost.world, &[], code::PREFLIGHT, &["maxmemory", "/proc", "disk"]);
}

#[test]
fn without_yes_and_without_a_terminal_nothing_is_done() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let before = Footprint::of(&lost.world);
    lost.world.coord(&FAILOVER).ends_with(code::USAGE).says(&["--yes"]);
    assert_eq!(Footprint::of(&lost.world), before);
}

#[test]
fn names_that_are_in_no_inventory_are_a_usage_error() {
    let lost = Lost::with_little_on(REDIS_7_0);
    lost.world.coord(&["failover", A, "--to", "machine-z", "--yes"]).ends_with(code::USAGE).says(&["machine-z", C]);
    lost.world.coord(&["failover", "machine-z", "--to", C, "--yes"]).ends_with(code::USAGE).says(&["machine-z"]);
    lost.world.coord(&["failover", A, "--to", A, "--yes"]);
    lost.assert_b_is_untouched();
}

/// A replica that is started again on its append-only file has forgotten whose replica it was, on every server alike.
#[test]
fn a_b_that_has_forgotten_its_history_is_promoted_or_nothing() {
    for server in [REDIS_6_2, REDIS_7_0, VALKEY_9_1] {
        let world = three(server);
        world.b().configure(|conf| {
            conf.set("appendonly", "yes").set("appendfsync", "always");
        });
        let lost = Lost::with(world, Dataset::mixed(1, LITTLE_BYTES));
        let b = lost.world.b();
        // What came by its first resync is in the file once that is rewritten; until then a killed server has none of it.
        wait_for("B's append-only file holds all", || {
            let mut client = b.try_client()?;
            let under_way = ["aof_rewrite_scheduled", "aof_rewrite_in_progress"].map(|field| client.field(field));
            if under_way.iter().all(|is| is == "0") { Ok(()) } else { Err(format!("{under_way:?}")) }
        });
        b.kill_server();
        b.start_server();
        wait_for("B has loaded", || match b.try_client()?.field("loading").as_str() {
            "0" => Ok(()),
            loading => Err(loading.to_owned()),
        });
        assert_eq!(b.content(), lost.before, "nothing but its history is forgotten");
        assert_refused(&lost.world, &[], code::PREFLIGHT, &["source-history", B, "--mode promote"]);
        lost.failover_done(&["--mode", "promote"]);
        lost.assert_promoted();
    }
}
