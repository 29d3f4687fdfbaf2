//! A source whose backlog is too short and cannot grow: its agent spools what is written while the snapshot travels.

mod full;

use std::collections::BTreeMap;
use std::time::Duration;

use baton_tests::conf::Conf;
use baton_tests::coord::{Running, Said, code};
use baton_tests::dataset::Dataset;
use baton_tests::hold::Hold;
use baton_tests::host::Host;
use baton_tests::servers::{REDIS_7_0, ServerProgram, VALKEY_9_1};
use baton_tests::steady::{self, Steady};
use baton_tests::wait::{wait_for, wait_until};
use baton_tests::world::{A, B, C, World};

use crate::clone::{await_step, offset};
use crate::resume::take_up;
use crate::scene::{assert_no_leftovers, counts, files, on_every_server, resyncs};

on_every_server! {
    what_is_written_meanwhile_is_spooled_and_the_clone_joins_partially
    a_promoted_source_is_spooled_as_well
}

const CLONE: [&str; 7] = ["clone", A, C, "--yes", "--json", "--max-rate", RATE];
/// No compression makes it smaller, so that a rate makes it last.
const DATA_BYTES: u64 = 6 << 20;
const RATE: &str = "1MB/s";
const BACKLOG_BYTES: u64 = 1 << 20;
/// Bytes a second that are written.
const WRITES: u64 = 270_000;

/// The backlog stays as it is: nobody may change a setting.
fn fixed(conf: &mut Conf) {
    conf.set("repl-backlog-size", BACKLOG_BYTES).set("repl-backlog-ttl", 1234);
    conf.add("rename-command", "CONFIG \"\"");
}

/// A, which has a backlog since it had a replica once, with its data; and C, which waits with nothing but its agent.
fn world(server: &str) -> World {
    world_of(server, |_| {})
}

fn world_of(server: &str, configure: impl Fn(&mut Conf)) -> World {
    loaded(laid_out(server, configure))
}

/// Hosts of which nothing runs yet.
fn laid_out(server: &str, configure: impl Fn(&mut Conf)) -> World {
    let mut world = World::new();
    for name in [A, B, C] {
        world.add(name, &ServerProgram::named(server));
        world.host(name).configure(&configure);
    }
    world.a().configure(fixed);
    world.replicate(B, A);
    world
}

fn loaded(world: World) -> World {
    world.start();
    world.b().await_in_sync_with(world.a());
    world.b().kill_server();
    world.a().await_info("connected_slaves", "0");
    Dataset::random(5, DATA_BYTES).load(&mut world.a().client());
    world
}

/// Begins a clone of A under writes.
fn begin(world: &World) -> (Steady, Running) {
    let writer = Steady::start(world.a(), WRITES);
    wait_until("some is written", || world.a().client().call(&["EXISTS", &steady::key(20)]).int() == 1);
    (writer, world.start_coord(&CLONE))
}

/// Waits until C has loaded and is being fed the spool.
fn await_catching_up(world: &World) {
    wait_for("C has loaded, and follows its agent", || {
        let mut info = world.c().try_client()?.try_info()?;
        let state = ["master_host", "master_link_status", "loading"].map(|name| info.remove(name).unwrap_or_default());
        if state == ["127.0.0.1", "up", "0"] { Ok(()) } else { Err(format!("{state:?}")) }
    });
}

/// Asserts that C follows A for good and holds what that holds, that it was spooled, and that nothing is left.
#[track_caller]
fn assert_cloned(world: &World, said: &Said, acknowledged: &BTreeMap<String, String>) {
    assert_eq!(said.result()["outcome"], "done", "{said}");
    assert_joined(world, world.a(), said, acknowledged);
    assert_nothing_is_left(world);
}

/// Asserts that C follows a source, holds what that holds, and was fed what was spooled there.
#[track_caller]
fn assert_joined(world: &World, source: &Host, said: &Said, acknowledged: &BTreeMap<String, String>) {
    let result = said.result();
    assert_eq!(result["resync"], "partial", "{said}");
    assert!(result["spooled_bytes"].as_u64().is_some_and(|bytes| bytes > BACKLOG_BYTES), "{said}");
    world.c().await_in_sync_with(source);
    assert_eq!(world.c().content(), source.content(), "{said}");
    assert_eq!(steady::missing_on(world.c(), acknowledged), [""; 0], "what was acknowledged");
    assert_eq!(source.info("connected_slaves"), "1", "its agent has left");
    assert_no_spool(source);
}

#[track_caller]
fn assert_no_spool(source: &Host) {
    wait_for("no file without a name is kept", || {
        let kept = nameless(source);
        if kept.is_empty() { Ok(()) } else { Err(kept.join(" ")) }
    });
}

#[track_caller]
fn assert_nothing_is_left(world: &World) {
    assert_no_leftovers(world);
    for host in world.hosts() {
        let notes: Vec<_> = files(&host.dir.join("state"))
            .into_iter()
            .filter(|name| ["feed-", "borrowed-", "pulled-", "install-"].iter().any(|note| name.starts_with(note)))
            .collect();
        assert!(notes.is_empty(), "left in the state directory of {}: {notes:?}", host.name);
        assert_no_spool(host);
    }
}

/// Files of the data directory that the agent has open and that have no name.
fn nameless(host: &Host) -> Vec<String> {
    let open = std::fs::read_dir(format!("/proc/{}/fd", host.agent_pid())).unwrap().flatten();
    let dir = host.data_dir().to_string_lossy().into_owned();
    let targets = open.filter_map(|fd| std::fs::read_link(fd.path()).ok());
    let names = targets.map(|path| path.to_string_lossy().into_owned());
    names.filter(|path| path.starts_with(&dir) && path.ends_with("(deleted)")).collect()
}

fn what_is_written_meanwhile_is_spooled_and_the_clone_joins_partially(server: &str) {
    let world = world(server);
    let before = offset(world.a());
    let (writer, running) = begin(&world);
    let said = running.wait().ends_with(code::DONE);
    let acknowledged = writer.acknowledged();
    assert!(offset(world.a()) - before > 2 * BACKLOG_BYTES, "too little was written to tell: {said}");
    // A full resync of its first replica, and then its agent and C, which both went on from where they were.
    assert_eq!(resyncs(world.a()), counts(1, 2), "{said}");
    assert_cloned(&world, &said, &acknowledged);
}

fn a_promoted_source_is_spooled_as_well(server: &str) {
    let world = World::of_three(&ServerProgram::named(server));
    world.b().configure(fixed);
    world.start();
    Dataset::random(5, DATA_BYTES).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    world.lose_a();
    let more = ["--mode", "promote", "--max-rate", RATE, "--yes", "--json"];
    let running = world.start_coord(&[&["failover", A, "--to", C][..], &more].concat());
    await_step(&running, "spool");
    let writer = Steady::start(world.b(), WRITES);
    let said = running.wait().ends_with(code::DEGRADED);
    let acknowledged = writer.acknowledged();
    // B may not write its configuration, and is degraded for that alone.
    let missing = said.result()["missing"].to_string();
    assert!(missing.contains("CONFIG REWRITE"), "{said}");
    assert_joined(&world, world.b(), &said, &acknowledged);
}

#[test]
fn nobody_who_waits_for_replicas_counts_the_agent() {
    for server in [REDIS_7_0, VALKEY_9_1] {
        let world = world(server);
        let (writer, running) = begin(&world);
        await_step(&running, "transfer");
        let mut a = world.a().client();
        assert_eq!(a.info()["connected_slaves"], "1", "its agent follows it");
        a.call(&["SET", "waited-for", "yes"]);
        // Longer than the agent takes to say where it is.
        assert_eq!(a.call(&["WAIT", "1", "2500"]).int(), 0);
        let said = running.wait().ends_with(code::DONE);
        assert_cloned(&world, &said, &writer.acknowledged());
        assert_eq!(world.c().client().call(&["GET", "waited-for"]).text(), "yes");
    }
}

#[test]
fn transactions_and_large_values_may_lie_across_the_end_of_the_spool() {
    let world = world(REDIS_7_0);
    let (writer, running) = begin(&world);
    await_step(&running, "transfer");
    let mut a = world.a().client();
    let large = "x".repeat(300_000);
    let mut number = 0;
    while !running.events().iter().any(|event| event["event"] == "step" && event["step"] == "persist") {
        number += 1;
        a.call(&["MULTI"]);
        a.call(&["SELECT", "3"]);
        a.call(&["INCR", "counted"]);
        a.call(&["APPEND", "appended", "."]);
        a.call(&["SELECT", "0"]);
        a.call(&["INCR", "counted"]);
        a.call(&["EXEC"]);
        if number % 16 == 0 {
            a.call(&["SET", "large", &large]);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let said = running.wait().ends_with(code::DONE);
    assert_cloned(&world, &said, &writer.acknowledged());
}

#[test]
fn a_target_with_an_append_only_file_and_passwords_on_both_sides_is_fed_as_well() {
    let world = world_of(REDIS_7_0, |conf| {
        conf.set("requirepass", "open").set("masterauth", "open").set("appendonly", "yes");
    });
    let (writer, running) = begin(&world);
    let said = running.wait().ends_with(code::DONE);
    assert_cloned(&world, &said, &writer.acknowledged());
    // What it was fed is in its own file.
    let held = world.c().content();
    world.a().kill_server();
    world.c().kill_server();
    world.c().start_server();
    assert_eq!(world.c().content(), held);
}

#[test]
fn either_agent_may_be_killed_half_way_and_nothing_is_left_of_it() {
    for name in [A, C] {
        let world = world(REDIS_7_0);
        let (writer, running) = begin(&world);
        await_step(&running, "transfer");
        wait_until("the spool has begun to fill", || !nameless(world.a()).is_empty());
        world.host(name).kill_agent();
        world.host(name).start_agent();
        let said = running.wait().ends_with(code::DONE);
        assert_cloned(&world, &said, &writer.acknowledged());
    }
}

#[test]
fn either_agent_may_be_killed_while_c_catches_up() {
    for name in [A, C] {
        let world = world(REDIS_7_0);
        let hold = Hold::set(&world.c().dir, "level-before");
        let (writer, running) = begin(&world);
        hold.wait();
        await_catching_up(&world);
        world.host(name).kill_agent();
        drop(hold);
        world.host(name).start_agent();
        let said = running.wait().ends_with(code::DONE);
        assert_cloned(&world, &said, &writer.acknowledged());
    }
}

#[test]
fn a_run_that_stopped_is_resumed_with_another_snapshot_if_its_spool_is_lost() {
    let world = world(REDIS_7_0);
    let (writer, running) = begin(&world);
    await_step(&running, "transfer");
    let run = running.run();
    running.kill();
    world.a().kill_agent();
    world.a().start_agent();
    let said = take_up(&world, "resume", &run).ends_with(code::DONE);
    assert_cloned(&world, &said, &writer.acknowledged());
}

#[test]
fn a_run_that_is_aborted_leaves_neither_spool_nor_data() {
    let world = world(REDIS_7_0);
    let (writer, running) = begin(&world);
    await_step(&running, "transfer");
    let run = running.run();
    running.kill();
    take_up(&world, "abort", &run).ends_with(code::DONE);
    writer.acknowledged();
    world.a().await_info("connected_slaves", "0");
    assert_nothing_is_left(&world);
    assert_eq!(files(&world.c().data_dir()), Vec::<String>::new());
}

#[test]
fn a_link_that_the_source_cuts_is_taken_up_again() {
    let world = world(REDIS_7_0);
    let (writer, running) = begin(&world);
    await_step(&running, "transfer");
    for _ in 0..3 {
        world.a().client().call(&["CLIENT", "KILL", "TYPE", "replica"]);
        std::thread::sleep(Duration::from_millis(300));
    }
    let said = running.wait().ends_with(code::DONE);
    assert_cloned(&world, &said, &writer.acknowledged());
}

#[test]
fn a_dry_run_tells_of_the_spool_and_why() {
    let world = world(REDIS_7_0);
    let writer = Steady::start(world.a(), WRITES);
    wait_until("some is written", || world.a().client().call(&["EXISTS", &steady::key(20)]).int() == 1);
    let said = world.coord(&["clone", A, C, "--dry-run", "--max-rate", RATE]).ends_with(code::DONE);
    said.says(&["its agent spools", "spool what is written", "by spool: ", "fed the spool, then follows"]);
    let said = world.coord(&["clone", A, C, "--dry-run", "--max-rate", RATE, "--landing", "file"]);
    said.ends_with(code::PREFLIGHT).says(&[
        "nor can its agent spool it: the target does not land live",
        "leave `--landing file` out",
        "repl-backlog-size",
    ]);
    assert_eq!(files(&world.c().data_dir()), Vec::<String>::new());
    writer.acknowledged();
    assert_eq!(world.a().info("connected_slaves"), "0");
}
