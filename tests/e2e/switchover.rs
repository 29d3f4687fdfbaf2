//! `coord switchover`: a primary that lives hands its role to a replica, under clients that write all the time.

mod stuck;

use std::fs;

use baton_proto::control::{Action, Order, Reply, Request, TaskId};
use baton_proto::{HostName, HostPort, InstanceName, RunId};
use baton_tests::coord::{Running, Said, code};
use baton_tests::dataset::Dataset;
use baton_tests::hold::Hold;
use baton_tests::host::Host;
use baton_tests::process::signal;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::{wait_for, wait_until};
use baton_tests::world::{A, B, D, World};
use baton_tests::writer::Writers;
use baton_wire::{Credentials, Dialer};
use rustix::process::Signal;
use tokio::runtime::Runtime;

use crate::resume::take_up;
use crate::scene::{LITTLE_BYTES, TURN, assert_serves, claim, configured_primary, on_every_server, resyncs};

on_every_server! {
    no_acknowledged_write_is_lost_and_everybody_follows_the_new_primary
    servers_with_passwords_hand_over_there_and_back
    a_replica_that_hangs_does_not_take_over_and_the_primary_serves_again
}

const SWITCHOVER: [&str; 5] = ["switchover", A, "--to", B, "--json"];
/// Clients that write.
const CLIENTS: usize = 4;

/// A leads; B and D follow it, and are in sync.
fn group(server: &str) -> World {
    let mut world = World::of_three(&ServerProgram::named(server));
    let program = world.c().program.clone();
    world.add(D, &program);
    world.replicate(D, A);
    start(world)
}

/// A leads, B follows it.
fn pair(server: &str) -> World {
    start(World::of_three(&ServerProgram::named(server)))
}

fn start(world: World) -> World {
    world.start();
    Dataset::mixed(7, LITTLE_BYTES).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    world
}

#[track_caller]
fn switchover(world: &World, more: &[&str]) -> Said {
    world.coord(&[&SWITCHOVER[..], &["--yes"], more].concat())
}

/// Asserts that a server is a replica that takes no writes.
#[track_caller]
fn assert_read_only(host: &Host) {
    assert_eq!(host.info("role"), "slave");
    let refused = host.client().try_call(&["SET", "key", "value"]).unwrap_err();
    assert!(refused.contains("READONLY"), "{refused}");
}

fn no_acknowledged_write_is_lost_and_everybody_follows_the_new_primary(server: &str) {
    let world = group(server);
    let full_before = resyncs(world.b()).0;
    let writers = Writers::start(CLIENTS, &[world.a(), world.b()]);
    wait_until("the clients write", || writers.acknowledged() > 1000);
    let said = switchover(&world, &[]).ends_with(code::DONE);
    let told = writers.acknowledged();
    wait_until("the clients go on", || writers.acknowledged() > told + 1000);
    let written = writers.stop();
    let missing = written.missing_on(world.b());
    assert!(
        missing.is_empty(),
        "{} of {} acknowledged writes are lost: {missing:?}",
        missing.len(),
        written.keys.len()
    );
    let result = said.result();
    assert_eq!((&result["outcome"], &result["primary"]), (&"done".into(), &B.into()), "{said}");
    assert_eq!((&result["replicas"], &result["resync"]), (&[A, D].as_slice().into(), &"partial".into()), "{said}");
    assert_eq!(result["resyncs"], serde_json::json!({ A: "partial", D: "partial" }), "{said}");
    assert_eq!(resyncs(world.b()).0, full_before, "B served a full resync");
    let blocked = result["blocked_ms"].as_f64().unwrap_or_else(|| panic!("it is not told for how long\n{said}"));
    // What the clients saw contains what was told, which is at most what writes were really blocked for.
    println!("{server}: writes were blocked for {blocked} ms, a client waited {:?}", written.longest_gap);
    assert!(blocked > 0.0, "{said}");
    assert_read_only(world.a());
    assert!(said.run().starts_with("so-"), "{said}");
    world.coord(&["show", &said.run()]).ends_with(code::DONE).says(&["hands over", "writes    were blocked for"]);
    world.coord(&["runs"]).says(&[&said.run(), "switchover", "done"]);
    for replica in [A, D] {
        world.host(replica).await_in_sync_with(world.b());
    }
    assert_serves(&world, B, &[A, D], &world.b().content());
}

fn servers_with_passwords_hand_over_there_and_back(server: &str) {
    let world = World::of_three(&ServerProgram::named(server));
    for host in world.hosts() {
        host.configure(|conf| {
            conf.set("requirepass", "\"correct-horse battery\"").set("masterauth", "\"correct-horse battery\"");
        });
    }
    let world = start(world);
    let before = world.a().content();
    switchover(&world, &[]).ends_with(code::DONE);
    assert_serves(&world, B, &[A], &before);
    let said = world.coord(&["switchover", B, "--to", A, "--yes", "--json"]).ends_with(code::DONE);
    assert_eq!(said.result()["resync"], "partial", "{said}");
    assert_serves(&world, A, &[B], &before);
    assert_read_only(world.b());
}

#[test]
fn a_dry_run_changes_nothing() {
    let world = group(REDIS_7_0);
    let state = |host: &Host| (host.info("role"), host.info("master_repl_offset"), fs::read(host.conf_path()).unwrap());
    // Between two looks a primary's heartbeat may move the offset.
    world.a().client().call(&["CONFIG", "SET", "repl-ping-replica-period", "3600"]);
    let before: Vec<_> = [A, B, D].map(|name| state(world.host(name))).into();
    let said = switchover(&world, &["--dry-run"]).ends_with(code::DONE);
    let plan = said.events().into_iter().rfind(|event| event["event"] == "plan").unwrap();
    assert_eq!(plan["steps"], serde_json::json!(["hand-over", "siblings", "persist", "canary"]), "{said}");
    assert!(plan["forecasts"].as_array().unwrap().iter().all(|forecast| forecast["resync"] == "partial"), "{said}");
    assert_eq!([A, B, D].map(|name| state(world.host(name))).to_vec(), before);
    world.coord(&["runs"]).says(&["no runs yet"]);
}

#[test]
fn a_group_that_a_sentinel_watches_is_left_to_it() {
    let world = pair(REDIS_7_0);
    let mut sentinel = world.a().client();
    sentinel.call(&["SUBSCRIBE", "__sentinel__:hello"]);
    switchover(&world, &[]).ends_with(code::PREFLIGHT).says(&["group-sentinel"]);
    assert_eq!(world.a().info("role"), "master");
}

#[test]
fn what_is_done_already_is_found_done() {
    let world = pair(REDIS_7_0);
    let before = world.a().content();
    switchover(&world, &[]).ends_with(code::DONE);
    let said = switchover(&world, &[]).ends_with(code::DONE);
    let result = said.result();
    assert_eq!((&result["primary"], &result["blocked_ms"]), (&B.into(), &serde_json::Value::Null), "{said}");
    assert_eq!(result["replicas"], serde_json::json!([A]), "{said}");
    assert_serves(&world, B, &[A], &before);
}

/// A switchover whose replica hangs when the primary is told to hand over: writes wait for it.
struct Waiting {
    world: World,
    coord: Running,
}

impl Waiting {
    /// The agent of A is kept busy until B hangs, so that the one comes surely before the other.
    fn of(world: World, timeout: &str) -> Self {
        let busy = Busy::keep(&world, A);
        let coord = world.start_coord(&[&SWITCHOVER[..], &["--yes", "--timeout", timeout]].concat());
        wait_for("the agent of A has its order", || {
            let log = fs::read_to_string(world.a().agent_log()).unwrap_or_default();
            if log.contains("begin: hand over to") { Ok(()) } else { Err(coord.so_far().to_string()) }
        });
        world.b().server_pids().into_iter().for_each(|pid| signal(pid, Signal::STOP));
        busy.release(&world);
        Self { world, coord }
    }

    /// The same, seen to wait; it does so for longer than the test takes.
    fn for_long(world: World) -> Self {
        let waiting = Self::of(world, "300s");
        waiting.world.a().await_info("master_failover_state", "waiting-for-sync");
        waiting
    }

    fn wake(&self) {
        self.world.b().server_pids().into_iter().for_each(|pid| signal(pid, Signal::CONT));
    }
}

/// An order that holds the lock of a host's instance until a key is there.
struct Busy {
    host: String,
    run: RunId,
}

impl Busy {
    fn keep(world: &World, host: &str) -> Self {
        let run = RunId::new("busy").unwrap();
        let action = Action::ReadCanary { value: "release".into(), timeout_seconds: 600 };
        let task = TaskId { run: run.clone(), name: "busy".into() };
        let instance = InstanceName::new("default").unwrap();
        let order = Request::Begin(Order { task, turn: TURN, instance, action });
        let identity = Credentials::load(&world.dir().join("pki/operator.pem")).unwrap();
        let agent = world.host(host).agent_address();
        let address = HostPort::new(agent.ip().to_string(), agent.port());
        Runtime::new().unwrap().block_on(async {
            let dialer = Dialer::new(&identity, "a test").unwrap();
            let link = dialer.dial(&address, &HostName::new(host).unwrap()).await.unwrap();
            claim(&link, &run).await;
            assert!(matches!(link.ask(&order).await.unwrap(), Reply::Task(_)));
            // It goes on; the instance is free for the runs of others.
            link.ask(&Request::Unclaim { run: run.clone(), turn: TURN }).await.unwrap();
        });
        Self { host: host.to_owned(), run }
    }

    fn release(self, world: &World) {
        let key = format!("baton:canary:{}", self.run);
        world.host(&self.host).client().call(&["SET", &key, "release", "PX", "60000"]);
    }
}

fn a_replica_that_hangs_does_not_take_over_and_the_primary_serves_again(server: &str) {
    let world = pair(server);
    let writers = Writers::start(CLIENTS, &[world.a()]);
    wait_until("the clients write", || writers.acknowledged() > 1000);
    let waiting = Waiting::of(world, "1s");
    let said = waiting.coord.wait().ends_with(code::ROLLED_BACK).says(&["state:", "hint:", "coord switchover"]);
    assert_eq!(said.result()["outcome"], "rolled-back", "{said}");
    let world = waiting.world;
    assert_eq!(world.a().info("role"), "master");
    let told = writers.acknowledged();
    wait_until("the clients go on", || writers.acknowledged() > told + 1000);
    let written = writers.stop();
    assert_eq!(written.missing_on(world.a()), Vec::<&String>::new());
    world.a().client().call(&["SET", "written-afterwards", "x"]);
    assert_eq!(configured_primary(world.a()), None);
    world.b().server_pids().into_iter().for_each(|pid| signal(pid, Signal::CONT));
    world.b().await_in_sync_with(world.a());
    assert_eq!(written.missing_on(world.b()), Vec::<&String>::new());
    switchover(&world, &[]).ends_with(code::DONE);
    assert_eq!(world.b().client().call(&["GET", "written-afterwards"]).text(), "x");
    assert_read_only(world.a());
}

#[test]
fn an_agent_that_is_killed_in_the_middle_finds_the_handover_done() {
    let waiting = Waiting::for_long(pair(REDIS_7_0));
    waiting.world.a().kill_agent();
    waiting.wake();
    waiting.world.a().await_info("role", "slave");
    waiting.world.a().start_agent();
    let said = waiting.coord.wait().ends_with(code::DONE);
    let world = waiting.world;
    assert_eq!((&said.result()["primary"], &said.result()["replicas"]), (&B.into(), &serde_json::json!([A])), "{said}");
    world.a().await_in_sync_with(world.b());
    assert_eq!(configured_primary(world.a()), Some(format!("{} 6379", world.b().ip)));
    assert_read_only(world.a());
}

#[test]
fn a_coordinator_that_is_killed_in_the_middle_leaves_one_primary_and_the_run_is_resumed() {
    let waiting = Waiting::for_long(group(REDIS_7_0));
    let run = waiting.coord.run();
    waiting.coord.kill();
    for pid in waiting.world.b().server_pids() {
        signal(pid, Signal::CONT);
    }
    let world = waiting.world;
    world.b().await_info("role", "master");
    world.a().await_in_sync_with(world.b());
    assert_read_only(world.a());
    // Those of the dead run, and the one by which its order was held up, expire by themselves, but not at once.
    let canaries = wait_for("the first write of the dead run", || {
        let keys = world.b().client().call(&["KEYS", "baton:canary:*"]).list();
        if keys.len() == 2 { Ok(keys) } else { Err(format!("{keys:?}")) }
    });
    for key in canaries {
        world.b().client().call(&["DEL", &key.text()]);
    }
    let before = world.b().content();
    let said = take_up(&world, "resume", &run).ends_with(code::DONE);
    assert_eq!(said.result()["resyncs"], serde_json::json!({ D: "partial" }), "{said}");
    assert_serves(&world, B, &[A, D], &before);
}

#[test]
fn a_primary_that_dies_in_the_middle_is_told_of_and_the_replica_stays_one() {
    let waiting = Waiting::for_long(pair(REDIS_7_0));
    waiting.world.a().kill_server();
    waiting.wake();
    let said = waiting.coord.wait().ends_with(code::STOPPED).says(&["state:", "`machine-a", "stopped", "hint:"]);
    assert_eq!(said.result()["outcome"], "failed", "{said}");
    assert_eq!(waiting.world.b().info("role"), "slave");
}

/// A run whose coordinator died when A's handover had begun, and a handover that has come so far that A leads no more while B,
/// which hangs, does not lead yet.
fn between_two_primaries() -> (World, String) {
    let world = pair(REDIS_7_0);
    let hold = Hold::set(world.dir(), "hand-over-before");
    let coord = world.start_coord(&[&SWITCHOVER[..], &["--yes", "--timeout", "60s"]].concat());
    hold.wait();
    let run = coord.run();
    coord.kill();
    drop(hold);
    world.b().server_pids().into_iter().for_each(|pid| signal(pid, Signal::STOP));
    let (ip, port) = (world.b().ip.to_string(), baton_tests::host::SERVER_PORT.to_string());
    world.a().client().call(&["FAILOVER", "TO", &ip, &port, "FORCE", "TIMEOUT", "100"]);
    world.a().await_info("master_failover_state", "failover-in-progress");
    (world, run)
}

#[test]
fn a_handover_that_is_under_way_when_its_run_is_resumed_is_waited_for() {
    let (world, run) = between_two_primaries();
    let mut resuming = world.start_coord(&["resume", &run, "--yes", "--json"]);
    wait_for("the agent of A waits for the end of it", || {
        let log = fs::read_to_string(world.a().agent_log()).unwrap_or_default();
        if log.contains("begin: keep the role of primary") { Ok(()) } else { Err(resuming.so_far().to_string()) }
    });
    // Longer than until B is first tried from A: it hangs, and may have heard of it.
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert!(resuming.ended().is_none(), "{}", resuming.so_far());
    assert_eq!(world.a().info("master_failover_state"), "failover-in-progress");
    world.b().server_pids().into_iter().for_each(|pid| signal(pid, Signal::CONT));
    let said = resuming.wait().ends_with(code::DONE);
    assert_eq!(said.result()["primary"], B, "{said}");
    assert_serves(&world, B, &[A], &world.b().content());
    assert_read_only(world.a());
}

#[test]
fn a_handover_whose_replica_is_lost_meanwhile_is_ended_and_the_primary_leads() {
    let (world, run) = between_two_primaries();
    world.b().kill_server();
    let said = take_up(&world, "abort", &run).ends_with(code::DONE);
    assert_eq!(said.result()["outcome"], "rolled-back", "{said}");
    assert_eq!((world.a().info("role"), configured_primary(world.a())), ("master".to_owned(), None));
    world.a().client().call(&["SET", "written-afterwards", "x"]);
}
