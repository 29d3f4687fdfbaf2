//! `--snapshot stream`: the snapshot goes through memory, and nothing of it is ever a file on the source's host.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use baton_tests::bench::cpu::peak_memory;
use baton_tests::coord::{Running, code};
use baton_tests::dataset::Dataset;
use baton_tests::host::Host;
use baton_tests::process::tail;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{A, B, C, World};

use crate::resume::take_up;
use crate::scene::{
    FAILOVER, Lost, MIXED_BYTES, assert_no_leftovers, blake3_of, counts, files, on_every_server, resyncs,
};

on_every_server! {
    a_frozen_source_streams_and_no_file_appears_beside_its_data
    a_promoted_source_streams_as_an_ordinary_primary
    an_agent_that_is_killed_half_way_costs_another_stream_and_the_source_stays_whole
}

/// Bytes that no compression makes smaller: more chunks than are kept.
const DATA_BYTES: u64 = 60 << 20;
const PASSWORD: &str = "correct-horse";
/// Most memory that an agent may take that streams.
const MEMORY_MAX: u64 = 96 << 20;
/// Slow enough for a test to do something in the middle of it.
const SLOW: &str = "8MB/s";

/// Looks again and again at what is in a directory.
struct Watcher {
    stop: Arc<AtomicBool>,
    looking: std::thread::JoinHandle<BTreeSet<String>>,
}

impl Watcher {
    fn of(dir: PathBuf) -> Watcher {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let looking = std::thread::spawn(move || {
            let mut seen = BTreeSet::new();
            while !stopped.load(Ordering::Relaxed) {
                // The agent tries whether it may write there, as it does to observe.
                seen.extend(files(&dir).into_iter().filter(|name| !name.starts_with("baton-probe-")));
                std::thread::sleep(Duration::from_millis(1));
            }
            seen
        });
        Watcher { stop, looking }
    }

    fn seen(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.looking.join().unwrap().into_iter().collect()
    }
}

/// Every setting that a stream borrows, as the server has it now.
fn settings(host: &Host) -> Vec<String> {
    let names = ["masterauth", "tls-replication", "repl-timeout", "rdbcompression"];
    let diskless = ["repl-diskless-sync", "repl-diskless-sync-delay"];
    let get = |name: &str| host.client().call(&["CONFIG", "GET", name]).text();
    names.iter().chain(&diskless).map(|name| get(name)).collect()
}

/// Asserts that nothing of a stream is left in the agent's notes.
#[track_caller]
fn assert_no_notes(host: &Host) {
    let of_a_stream = |name: &String| name.starts_with("adopted-") || name.starts_with("borrowed-");
    let left: Vec<_> = files(&host.dir.join("state")).into_iter().filter(of_a_stream).collect();
    assert!(left.is_empty(), "left in the state directory: {left:?}");
}

/// A world in which replicas load what they are sent without a file, so that every file on B is somebody's doing.
fn without_files(server: &str) -> World {
    let world = World::of_three(&ServerProgram::named(server));
    for host in world.hosts() {
        host.configure(|conf| {
            conf.set("repl-diskless-load", "swapdb").set("repl-diskless-sync", "no").set("repl-diskless-sync-delay", 5);
            conf.set("requirepass", PASSWORD).set("masterauth", PASSWORD);
        });
    }
    world
}

fn a_frozen_source_streams_and_no_file_appears_beside_its_data(server: &str) {
    let world = without_files(server);
    world.start();
    Dataset::mixed(7, 4 * MIXED_BYTES).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    world.b().client().call(&["SAVE"]);
    let lost = Lost::after(world);
    let b = lost.world.b();
    let (dump, before) = (blake3_of(&b.dump_path()), settings(b));
    let watcher = Watcher::of(b.data_dir());
    let said = lost.failover_done(&["--snapshot", "stream"]);
    assert_eq!(watcher.seen(), ["dump.rdb"], "{said}");
    assert_eq!(blake3_of(&b.dump_path()), dump, "B's own dump is as it was");
    let partial = lost.world.c().program.is_7_or_later();
    assert_eq!(resyncs(lost.world.c()), if partial { counts(0, 1) } else { counts(1, 0) }, "{said}");
    let result = said.result();
    assert_eq!(result["keys"], lost.before.total(), "{said}");
    if partial {
        // A full resync makes 6.2 write the dump anew.
        let placed = lost.world.c().dump_path();
        assert_eq!(result["blake3"], blake3_of(&placed).as_str(), "{said}");
        assert_eq!(result["bytes_raw"], placed.metadata().unwrap().len(), "{said}");
    }
    assert_eq!(settings(b), before);
    assert_no_notes(b);
    let log = tail(&b.agent_log(), 10_000);
    assert!(log.contains("setting=\"masterauth\"") && !log.contains(PASSWORD), "{log}");
    lost.assert_replaced();
}

fn a_promoted_source_streams_as_an_ordinary_primary(server: &str) {
    let lost = Lost::with(without_files(server), Dataset::mixed(7, MIXED_BYTES));
    let b = lost.world.b();
    let before = settings(b);
    let watcher = Watcher::of(b.data_dir());
    let said = lost.failover_done(&["--mode", "promote", "--snapshot", "stream"]);
    assert_eq!(watcher.seen(), Vec::<String>::new(), "{said}");
    assert_eq!(settings(b), before);
    assert_no_notes(b);
    lost.assert_promoted();
}

/// Starts the failover, and waits until a good part of the snapshot is on C.
fn start_and_await_the_middle(lost: &Lost) -> Running {
    let more = ["--snapshot", "stream", "--max-rate", SLOW, "--yes", "--json"];
    let running = lost.world.start_coord(&[&FAILOVER[..], &more].concat());
    wait_for("a part of the snapshot has crossed", || {
        let events = running.events();
        let of = |event: &&serde_json::Value| event["step"] == "transfer" && event["on"] == C;
        let done = events.iter().rfind(of).and_then(|event| event["bytes_done"].as_u64()).unwrap_or_default();
        if done > DATA_BYTES / 4 { Ok(()) } else { Err(running.so_far().to_string()) }
    });
    running
}

/// B is whole, and follows nobody.
#[track_caller]
fn assert_b_is_fenced(lost: &Lost, lineage: &(String, String)) {
    let b = lost.world.b();
    b.await_info("master_port", "1");
    assert_eq!((b.info("role"), b.info("master_host")), ("slave".into(), "127.0.0.1".into()));
    assert_eq!(lineage_of(b), *lineage);
    assert_eq!(b.content(), lost.before);
}

fn lineage_of(host: &Host) -> (String, String) {
    (host.info("master_replid"), host.info("slave_repl_offset"))
}

fn an_agent_that_is_killed_half_way_costs_another_stream_and_the_source_stays_whole(server: &str) {
    let lost = Lost::with(without_files(server), Dataset::random(11, DATA_BYTES));
    let b = lost.world.b();
    let (lineage, before) = (lineage_of(b), settings(b));
    let running = start_and_await_the_middle(&lost);
    b.kill_agent();
    // It hangs on where its agent was, and nothing is there: as good as a fence.
    b.await_info("master_link_status", "down");
    assert_ne!(b.info("master_port"), "1");
    assert_eq!((lineage_of(b), b.content()), (lineage, lost.before.clone()));
    b.start_agent();
    let said = running.wait().ends_with(code::DONE);
    assert_eq!(said.result()["outcome"], "done", "{said}");
    // Of what does not shrink, more is on its way at a time than of anything else.
    let peak = peak_memory(b.agent_pid()).expect("the agent lives");
    assert!(peak < MEMORY_MAX, "the agent took {peak} bytes\n{said}");
    assert_eq!(settings(b), before);
    assert_no_notes(b);
    lost.assert_replaced();
}

#[test]
fn whoever_comes_after_a_killed_agent_puts_the_fence_back_though_nobody_orders_it() {
    let lost = Lost::with(without_files(REDIS_7_0), Dataset::random(11, DATA_BYTES));
    let b = lost.world.b();
    let (lineage, before) = (lineage_of(b), settings(b));
    let running = start_and_await_the_middle(&lost);
    running.kill();
    b.kill_agent();
    b.await_info("master_link_status", "down");
    b.start_agent();
    assert_b_is_fenced(&lost, &lineage);
    wait_for("settings are put back", || {
        let now = settings(b);
        if now == before { Ok(()) } else { Err(now.join(" ")) }
    });
    wait_for("the notes are removed", || {
        let state = files(&b.dir.join("state"));
        if state.iter().any(|name| name.starts_with("borrowed-")) { Err(state.join(" ")) } else { Ok(()) }
    });
    assert_no_notes(b);
}

#[test]
fn a_run_that_is_interrupted_half_way_leaves_the_source_whole_and_is_resumed_with_its_stream() {
    let lost = Lost::with(without_files(REDIS_7_0), Dataset::random(11, DATA_BYTES));
    let b = lost.world.b();
    let (lineage, before) = (lineage_of(b), settings(b));
    let running = start_and_await_the_middle(&lost);
    running.interrupt();
    let run = running.wait().ends_with(code::INTERRUPTED).run();
    // Its agents go on with what was ordered; to others B is fenced, which it is again at the end.
    assert_ne!(b.info("master_port"), "1", "its stream goes on");
    assert_eq!((lineage_of(b), b.content()), (lineage, lost.before.clone()));
    take_up(&lost.world, "resume", &run).ends_with(code::DONE);
    assert_eq!((b.content(), lost.world.c().content()), (lost.before.clone(), lost.before.clone()));
    assert_eq!((lost.world.c().info("connected_slaves").as_str(), settings(b)), ("1", before));
    assert_no_notes(b);
}

#[test]
fn a_source_whose_disk_is_full_streams_without_being_told() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    world.b().configure_agent(|toml| {
        toml.top.set("disk_reserve", "\"1000TiB\"");
    });
    let lost = Lost::with(world, Dataset::mixed(7, MIXED_BYTES));
    let plan = lost.world.coord(&["failover", A, "--to", C, "--dry-run"]).ends_with(code::DONE);
    plan.says(&["streams from memory, since its disk has", "streamed from memory", "is the last copy"]);
    lost.world.coord(&["failover", A, "--to", C, "--dry-run", "--snapshot", "save"]).ends_with(code::PREFLIGHT);
    let dump = blake3_of(&lost.world.b().dump_path());
    let said = lost.failover_done(&[]);
    assert_eq!(blake3_of(&lost.world.b().dump_path()), dump, "B wrote no dump\n{said}");
    lost.assert_replaced();
}

#[test]
fn a_primary_is_copied_by_a_stream_while_it_serves() {
    let mut world = World::new();
    for name in [B, C] {
        world.add(name, &ServerProgram::named(REDIS_7_0));
    }
    let b = world.b();
    b.start_server();
    world.hosts().iter().for_each(Host::start_agent);
    Dataset::mixed(7, MIXED_BYTES).load(&mut b.client());
    let before = settings(b);
    let said = world.coord(&["copy", B, C, "--snapshot", "stream", "--start", "--yes", "--json"]).ends_with(code::DONE);
    assert_eq!(world.c().content(), b.content(), "{said}");
    assert_eq!(files(&b.data_dir()), Vec::<String>::new(), "{said}");
    assert_eq!((settings(b), b.info("role").as_str()), (before, "master"));
    assert_no_notes(b);
    assert_no_leftovers(&world);
}
