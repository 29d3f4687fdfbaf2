//! Many servers on three hosts: found, seen, and the primaries of one host replaced by one command.

use std::fs;
use std::time::Instant;

use baton_tests::coord::{Said, code};
use baton_tests::dataset::Dataset;
use baton_tests::fleet::{FIRST_PORT, Fleet, Server, name_all};
use baton_tests::hold::Hold;
use baton_tests::host::quoted_path;
use baton_tests::programs;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::{PATIENCE, wait_for};
use baton_tests::world::{A, B, C};
use serde_json::Value;

/// Primaries on A, and as many replicas on B. With one free server fewer on C they are fifty.
const GROUPS: u16 = 17;
/// The port of a server on C that shares it with nobody on A.
const OTHER_PORT: u16 = 6500;
const FAILOVER: [&str; 5] = ["failover", A, "--to", C, "--yes"];

fn fleet(groups: u16, spares: u16) -> Fleet {
    Fleet::new(&ServerProgram::named(REDIS_7_0), groups, spares)
}

/// The same with data, and with A lost.
fn lost(groups: u16, spares: u16, dataset: impl Fn(u16) -> Dataset) -> Fleet {
    let fleet = fleet(groups, spares);
    fleet.load(dataset);
    fleet.lose_a();
    fleet
}

fn little(port: u16) -> Dataset {
    Dataset::mixed(port.into(), 40 << 10)
}

/// Tells how long something took, for whoever reads the output: `tests/run fifty -- --nocapture`.
fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = work();
    eprintln!("{what}: {:.2} s", begun.elapsed().as_secs_f64());
    done
}

/// The last event of all groups.
#[track_caller]
fn results(said: &Said) -> Vec<Value> {
    let found = said.events().into_iter().rfind(|event| event["event"] == "batch-result");
    let groups = found.and_then(|event| event["groups"].as_array().cloned());
    groups.unwrap_or_else(|| panic!("there is no result of all\n{said}"))
}

#[test]
fn fifty_servers_are_found_and_shown() {
    let fleet = timed("start of the servers and agents", || fleet(GROUPS, GROUPS - 1));
    let file = fleet.world.dir().join("found.toml");
    let found = timed("baton-agent discover", || {
        let mut command = fleet.world.a().command(&programs::agent());
        command.args(["discover", "--write", file.to_str().unwrap()]).output().unwrap()
    });
    assert!(found.status.success(), "{found:?}");
    let written = fs::read_to_string(&file).unwrap();
    for server in &fleet.servers {
        let line = format!("config = {}\n", quoted_path(&server.conf_path()));
        assert_eq!(written.matches(&line).count(), 1, "{} in:\n{written}", server.name());
    }
    for number in 1..=3 {
        let said = timed(&format!("coord status, look {number}"), || fleet.world.coord(&["status", "--json"]));
        let said = said.ends_with(code::DONE);
        let groups = said.events().into_iter().filter(|event| event["event"] == "group").count();
        let spares = said.events().into_iter().filter(|event| event["event"] == "spare").count();
        assert_eq!((groups, spares), (usize::from(GROUPS), usize::from(GROUPS - 1)), "{said}");
    }
}

#[test]
fn one_command_replaces_all_primaries_of_a_lost_host() {
    let mut fleet = fleet(GROUPS, GROUPS - 1);
    fleet.load(little);
    // While they live this is not the verb for them, and nothing is done.
    let said = fleet.world.coord(&FAILOVER).ends_with(code::REFUSED);
    for server in fleet.on(A) {
        let (heir, name) = (format!("{B}/redis-{}", server.port), server.name());
        assert!(said.stdout.contains(&format!("coord switchover {name} --to {heir}")), "{said}");
    }
    fleet.lose_a();
    // C has a server too few: which group has none is told, and all wait for the operator's word.
    let last = format!("{A}:{}", FIRST_PORT + GROUPS - 1);
    let said = timed("dry run", || fleet.world.coord(&["failover", A, "--to", C, "--dry-run"]));
    said.ends_with(code::PREFLIGHT).says(&["batch-target", &last, "16 ready, 1 refused", "--skip-refused"]);
    fleet.on(B).for_each(|replica| assert_eq!(replica.client().field("master_host"), fleet.world.a().ip.to_string()));
    // One more, which does not run.
    fleet.servers.push(Server::new(fleet.world.c(), OTHER_PORT, None));
    name_all(&fleet.world, &fleet.servers);
    fleet.world.c().restart_agent();

    let said = timed("failover of 17 groups", || {
        fleet.world.start_coord(&[&FAILOVER[..], &["--max-rate", "100MB/s"]].concat()).wait_within(2 * PATIENCE)
    });
    let said =
        said.ends_with(code::DONE).says(&["17 ready", "4 at a time, 100.0 MB/s together", "same port", "17 done in"]);
    for port in FIRST_PORT..FIRST_PORT + GROUPS {
        let label = format!("{A}:{port} ");
        // Each line of the progress tells whose it is.
        assert!(said.stderr.lines().any(|line| line.starts_with(&label) && line.contains("done after")), "{said}");
        let to = if port + 1 == FIRST_PORT + GROUPS { OTHER_PORT } else { port };
        fleet.assert_moved(port, to);
    }
    let runs = fleet.world.coord(&["runs"]).ends_with(code::DONE);
    assert_eq!(runs.stdout.lines().filter(|line| line.ends_with(" done")).count(), usize::from(GROUPS), "{runs}");
    let status = timed("coord status with a lost host", || fleet.world.coord(&["status", "--json"]));
    let groups: Vec<_> = status.events().into_iter().filter(|event| event["event"] == "group").collect();
    assert_eq!(groups.len(), usize::from(GROUPS), "{status}");
    assert!(groups.iter().all(|group| group["health"] == "ok"), "{status}");
    // There is nothing left to do, and that is said.
    fleet.world.coord(&FAILOVER).ends_with(code::PREFLIGHT).says(&["no group has its primary on"]);
}

#[test]
fn interrupted_once_all_stop_at_safe_points_fenced_and_each_can_be_resumed() {
    let fleet = lost(4, 4, little);
    let hold = Hold::set(fleet.world.dir(), "snapshot-before");
    let running = fleet.world.start_coord(&[&FAILOVER[..], &["--jobs", "2", "--json"]].concat());
    hold.wait();
    wait_for("both that have their turn have begun the snapshot", || {
        let begun = |event: &&Value| event["step"] == "snapshot" && event["state"] == "started";
        match running.events().iter().filter(begun).count() {
            2 => Ok(()),
            _ => Err(running.so_far().to_string()),
        }
    });
    // None waits for its turn before it is safe from its primary.
    fleet.on(B).for_each(|replica| replica.await_field("master_host", "127.0.0.1"));
    running.interrupt();
    let ended = |events: &[Value]| {
        events.iter().filter(|event| event["event"] == "result" && event["outcome"] == "interrupted").count()
    };
    wait_for("those that wait for their turn have stopped", || match ended(&running.events()) {
        2 => Ok(()),
        _ => Err(running.so_far().to_string()),
    });
    drop(hold);
    let said = running.wait().ends_with(code::INTERRUPTED).says(&["coord resume $run"]);
    let results = results(&said);
    assert!(results.len() == 4 && results.iter().all(|group| group["outcome"] == "interrupted"), "{said}");
    for group in &results {
        fleet.world.coord(&["resume", group["run"].as_str().unwrap(), "--yes"]).ends_with(code::DONE);
    }
    (FIRST_PORT..FIRST_PORT + 4).for_each(|port| fleet.assert_moved(port, port));
}

#[test]
fn promoted_all_are_served_at_once_and_get_their_replicas_in_turn() {
    let fleet = lost(4, 3, little);
    let hold = Hold::set(fleet.world.dir(), "snapshot-before");
    let more = ["--mode", "promote", "--jobs", "1", "--skip-refused", "--json"];
    let running = fleet.world.start_coord(&[&FAILOVER[..], &more].concat());
    hold.wait();
    fleet.on(B).take(3).for_each(|new| new.await_field("role", "master"));
    drop(hold);
    // The fourth has no target: it is left as it is, and counts in the exit code.
    let said = running.wait().ends_with(code::PREFLIGHT);
    let outcomes: Vec<_> = results(&said).iter().map(|group| group["outcome"].as_str().unwrap().to_owned()).collect();
    assert_eq!(outcomes, ["done", "done", "done", "refused"], "{said}");
    for port in FIRST_PORT..FIRST_PORT + 3 {
        fleet.server(C, port).await_field("master_link_status", "up");
        fleet.server(C, port).await_mark(port);
    }
    assert_eq!(fleet.server(B, FIRST_PORT + 3).client().field("role"), "slave");
    // The one that is left can be named by its address, though the status now calls it by its host alone.
    let last = format!("{A}:{}", FIRST_PORT + 3);
    fleet
        .world
        .coord(&["failover", &last, "--to", "machine-c/redis-6400", "--dry-run"])
        .says(&["target-free", "refuse"]);
}

#[test]
fn one_rate_is_shared_by_all_that_send() {
    const RATE: u64 = 2_000_000;
    let fleet = lost(4, 4, |port| Dataset::random(port.into(), 1 << 20));
    let said = fleet.world.coord(&[&FAILOVER[..], &["--max-rate", "2MB/s", "--jobs", "3", "--json"]].concat());
    let said = said.ends_with(code::DONE);
    let of_runs = said.events().into_iter().filter(|event| event["event"] == "result");
    let wire: u64 = of_runs.map(|event| event["bytes_wire"].as_u64().unwrap()).sum();
    let least = wire as f64 / RATE as f64;
    let took = said.events().last().unwrap()["seconds"].as_f64().unwrap();
    // What a limit lets pass beyond itself: a full bucket at each start, and the clock's grain.
    assert!(took >= 0.8 * least, "{took} s, where {least} s are the least\n{said}");
}

#[test]
fn one_that_fails_is_undone_and_the_others_are_done_and_the_next_command_is_told() {
    let fleet = lost(3, 3, little);
    let hold = Hold::set(fleet.world.dir(), "transfer-before");
    let running = fleet.world.start_coord(&[&FAILOVER[..], &["--jobs", "3"]].concat());
    hold.wait();
    let broken = FIRST_PORT + 1;
    fleet.server(C, broken).lose();
    drop(hold);
    let said = running.wait().ends_with(code::ROLLED_BACK).says(&["2 done, 1 rolled-back in"]);
    let label = format!("{A}:{broken}");
    let again = format!("coord failover {label} --to {C}/redis-{broken}");
    let row = said.stdout.lines().rfind(|line| line.contains(&label)).unwrap_or_default();
    assert!(row.contains("rolled-back") && row.ends_with(&again), "{said}");
    assert!(said.stderr.lines().any(|line| line.starts_with(&label) && line.contains("error:")), "{said}");
    [FIRST_PORT, FIRST_PORT + 2].into_iter().for_each(|port| fleet.assert_moved(port, port));
    // As it is told, word by word.
    let words: Vec<&str> = again.split(' ').skip(1).chain(["--yes"]).collect();
    fleet.world.coord(&words).ends_with(code::DONE);
    fleet.assert_moved(broken, broken);
}

#[test]
fn where_their_replicas_are_all_are_taken_over_in_place() {
    let fleet = lost(4, 4, little);
    let said = fleet.world.coord(&["failover", A, "--yes"]).ends_with(code::DONE);
    said.says(&["failover (in place) of machine-a: 4 groups", "in place", "4 done in"]);
    for server in fleet.on(B) {
        server.await_field("role", "master");
        server.await_mark(server.port);
    }
    assert!(fleet.on(C).all(|spare| spare.client().field("role") == "master"), "none of C has a part");
}
