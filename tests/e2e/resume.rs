//! Runs that stop half-way and are taken up: here or from another machine, to go on or to be undone; and two operators who
//! want the same thing at the same moment.

mod sealed;

use std::fs;

use baton_tests::coord::{Running, Said, code};
use baton_tests::hold::Hold;
use baton_tests::servers::REDIS_7_0;
use baton_tests::wait::{PATIENCE, wait_for};
use baton_tests::world::{A, B, C, World};
use rustix::process::Signal;

use crate::runs::{a_whose_agent_lives, in_the_middle};
use crate::scene::{FAILOVER, Lost, assert_no_leftovers, files};

/// Takes a run up, or undoes it.
#[track_caller]
pub(crate) fn take_up(world: &World, verb: &str, run: &str) -> Said {
    world.coord(&[verb, run, "--yes", "--json"])
}

/// Asserts that no run has any server.
#[track_caller]
pub(crate) fn assert_nobody_holds(world: &World) {
    for host in world.hosts() {
        let state = files(&host.dir.join("state"));
        let claims: Vec<_> = state.iter().filter(|name| name.starts_with("claim-")).collect();
        assert!(claims.is_empty(), "{} is still held: {claims:?}", host.name);
    }
}

/// A failover that is held before one of its steps.
fn held_before(lost: &Lost, step: &str, more: &[&str]) -> (Hold, Running) {
    let hold = Hold::set(lost.world.dir(), &format!("{step}-before"));
    let running = lost.world.start_coord(&[&FAILOVER[..], &["--yes", "--json"], more].concat());
    hold.wait();
    (hold, running)
}

#[test]
fn a_run_whose_coordinator_was_killed_is_resumed_and_sends_nothing_twice() {
    let (lost, relay, running) = in_the_middle();
    let run = running.run();
    running.kill();
    lost.world.coord(&["runs"]).says(&[&run, "at step"]);
    relay.limit(0);
    let said = take_up(&lost.world, "resume", &run).ends_with(code::DONE);
    let result = said.result();
    assert_eq!((&result["outcome"], &result["run"]), (&"done".into(), &run.as_str().into()), "{said}");
    let (wire, raw) = (result["bytes_wire"].as_u64().unwrap(), result["bytes_raw"].as_u64().unwrap());
    assert!(wire < raw + raw / 10, "{wire} bytes crossed for {raw}: {said}");
    lost.assert_replaced();
    assert_nobody_holds(&lost.world);
}

#[test]
fn a_run_is_resumed_from_another_machine_that_has_only_an_identity() {
    let (lost, relay, running) = in_the_middle();
    let run = running.run();
    running.kill();
    relay.limit(0);
    fs::remove_dir_all(lost.world.dir().join(".local")).unwrap();
    lost.world.coord(&["show", &run]).says(&["transfer started", "not ended"]);
    lost.world.coord(&["runs", "--agents"]).says(&[&run, "at step"]);
    take_up(&lost.world, "resume", &run).ends_with(code::DONE);
    lost.assert_replaced();
    assert_nobody_holds(&lost.world);
    lost.world.coord(&["show", &run]).says(&["taken up by", "ended: done"]);
}

#[test]
fn a_run_that_is_aborted_half_way_leaves_the_hosts_as_they_were_and_free_for_the_next() {
    let (lost, relay, running) = in_the_middle();
    let run = running.run();
    running.kill();
    // The pull would take a long time yet: it is called off, not waited for.
    let said = take_up(&lost.world, "abort", &run).ends_with(code::DONE);
    assert_eq!(said.result()["outcome"], "rolled-back", "{said}");
    lost.assert_b_is_untouched();
    assert_eq!(files(&lost.world.c().data_dir()), Vec::<String>::new());
    assert_nobody_holds(&lost.world);
    take_up(&lost.world, "abort", &run).ends_with(code::DONE).says(&["rolled-back"]);
    relay.limit(0);
    lost.failover_done(&[]);
    lost.assert_replaced();
}

#[test]
fn while_a_run_has_its_servers_another_is_told_who_since_when_and_how_to_watch() {
    let (lost, relay, running) = in_the_middle();
    relay.limit(200 << 10);
    let run = running.run();
    let said = lost.failover(&[]).ends_with(code::REFUSED);
    said.says(&[&format!("held by run {run} of operator"), "begun", "ago", &format!("coord show {run} -f")]);
    lost.world.coord(&["resume", &run, "--yes"]).ends_with(code::REFUSED).says(&["is being driven", "--take-over"]);
    let watching = lost.world.start_coord(&["show", &run, "-f"]);
    wait_for("the watcher is shown what happens", || {
        let said = watching.so_far();
        if said.stdout.contains("transfer started") { Ok(()) } else { Err(said.to_string()) }
    });
    relay.limit(0);
    running.wait().ends_with(code::DONE);
    watching.wait().ends_with(code::DONE).says(&["release done", "ended: done"]);
    lost.assert_replaced();
    assert_nobody_holds(&lost.world);
}

#[test]
fn of_two_operators_at_the_same_moment_one_runs_and_the_other_is_told() {
    let lost = Lost::with_little_on(REDIS_7_0);
    // Both have made their plan when they want to have the servers.
    let hold = Hold::set(lost.world.dir(), "claim-before");
    let start = || lost.world.start_coord(&[&FAILOVER[..], &["--yes", "--json"]].concat());
    let both = [start(), start()];
    hold.wait();
    for running in &both {
        wait_for("a plan is shown", || {
            let said = running.so_far();
            if said.stdout.contains("\"steps\"") || said.stdout.contains("\"plan\"") {
                Ok(())
            } else {
                Err(said.to_string())
            }
        });
    }
    drop(hold);
    let mut said = both.map(Running::wait);
    said.sort_by_key(|said| said.code);
    let [won, lost_out] = said;
    let run = won.ends_with(code::DONE).run();
    lost_out.ends_with(code::REFUSED).says(&[&format!("held by run {run}"), &format!("coord show {run} -f")]);
    lost.assert_replaced();
    assert_nobody_holds(&lost.world);
}

#[test]
fn a_coordinator_that_was_only_frozen_changes_nothing_once_another_has_its_run() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let (hold, frozen) = held_before(&lost, "load", &[]);
    frozen.signal(Signal::STOP);
    let run = frozen.run();
    drop(hold);
    take_up(&lost.world, "resume", &run).ends_with(code::DONE);
    lost.assert_replaced();
    frozen.signal(Signal::CONT);
    frozen.wait().ends_with(code::STOPPED).says(&["is done here", &format!("coord show {run}")]);
    lost.assert_replaced();
    lost.world.coord(&["show", &run]).says(&["ended: done"]);
}

#[test]
fn a_coordinator_that_wakes_in_a_transfer_after_its_run_was_ended_elsewhere_undoes_nothing() {
    let (lost, relay, frozen) = in_the_middle();
    frozen.signal(Signal::STOP);
    let run = frozen.run();
    relay.limit(0);
    take_up(&lost.world, "resume", &run).ends_with(code::DONE);
    frozen.signal(Signal::CONT);
    frozen.wait().ends_with(code::STOPPED).says(&["is done here", &format!("coord show {run}")]);
    assert_nobody_holds(&lost.world);
    lost.assert_replaced();
    lost.world.coord(&["show", &run]).says(&["ended: done"]);
    let note = lost.world.b().dir.join(format!("state/deposition-{run}.json"));
    let note = fs::read_to_string(&note).unwrap_or_else(|error| panic!("read {}: {error}", note.display()));
    assert!(note.contains("\"deposed\""), "the lost primary is deposed all the same: {note}");
}

#[test]
fn an_interrupt_lets_a_step_end_and_a_second_one_does_not_wait() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let (hold, running) = held_before(&lost, "gate", &[]);
    let run = running.run();
    running.interrupt();
    drop(hold);
    let said = running.wait().ends_with(code::INTERRUPTED);
    said.says(&[&format!("coord resume {run}"), &format!("coord abort {run}")]);
    take_up(&lost.world, "resume", &run).ends_with(code::DONE);
    lost.assert_replaced();
}

#[test]
fn a_run_that_was_aborted_once_its_target_serves_is_made_to_last_and_tells_what_is_missing() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let (hold, running) = held_before(&lost, "canary", &[]);
    let run = running.run();
    running.kill();
    drop(hold);
    let said = take_up(&lost.world, "abort", &run).ends_with(code::DEGRADED);
    let missing = said.result()["missing"].to_string();
    assert!(missing.contains("canary: not done"), "{said}");
    let (b, c) = (lost.world.b(), lost.world.c());
    b.await_in_sync_with(c);
    assert_eq!((b.content(), c.content()), (lost.before.clone(), lost.before.clone()));
    assert_nobody_holds(&lost.world);
}

#[test]
fn a_coordinator_that_is_lost_before_its_run_began_leaves_servers_that_an_abort_frees() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let hold = Hold::set(lost.world.dir(), "claim-after");
    let running = lost.world.start_coord(&[&FAILOVER[..], &["--yes", "--json"]].concat());
    hold.wait();
    running.kill();
    drop(hold);
    let claim = fs::read_to_string(lost.world.b().dir.join("state/claim-default.json")).unwrap();
    let run = claim.split('"').nth(3).unwrap().to_owned();
    lost.failover(&[]).ends_with(code::REFUSED).says(&[&format!("coord abort {run}")]);
    take_up(&lost.world, "resume", &run).ends_with(code::PREFLIGHT).says(&["before it began", "coord abort"]);
    take_up(&lost.world, "abort", &run).ends_with(code::DONE).says(&["rolled-back"]);
    assert_nobody_holds(&lost.world);
    lost.failover_done(&[]);
    lost.assert_replaced();
}

#[test]
fn a_run_that_has_ended_is_neither_resumed_nor_aborted_and_one_that_never_was_is_not_found() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let run = lost.failover_done(&[]).run();
    take_up(&lost.world, "resume", &run).ends_with(code::DONE).says(&["done"]);
    lost.world.coord(&["abort", &run, "--yes"]).ends_with(code::REFUSED).says(&["has ended, done", "coord switchover"]);
    lost.world.coord(&["resume", "fo-none", "--yes"]).ends_with(code::USAGE).says(&["coord runs --agents"]);
    lost.world.coord(&["abort", &run]).ends_with(code::REFUSED);
    lost.assert_replaced();
}

#[test]
fn a_primary_that_came_back_in_the_meantime_stops_the_resumption_and_the_run_is_aborted() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let (hold, running) = held_before(&lost, "snapshot", &[]);
    let run = running.run();
    running.kill();
    drop(hold);
    // Its agent is not there, so nobody holds it off writes.
    lost.world.a().start_server();
    take_up(&lost.world, "resume", &run).ends_with(code::REFUSED).says(&["lives", &format!("coord abort {run}")]);
    let said = take_up(&lost.world, "abort", &run).ends_with(code::DONE);
    assert_eq!(said.result()["outcome"], "rolled-back", "{said}");
    assert_eq!(lost.world.b().content(), lost.before);
    assert_no_leftovers(&lost.world);
    assert_nobody_holds(&lost.world);
}

#[test]
fn an_agent_that_is_gone_is_named_and_the_run_is_resumed_once_it_is_back() {
    let (lost, relay, running) = in_the_middle();
    let run = running.run();
    running.kill();
    lost.world.c().kill_agent();
    relay.limit(0);
    take_up(&lost.world, "resume", &run).ends_with(code::STOPPED).says(&["agent of machine-c does not answer"]);
    lost.world.c().start_agent();
    take_up(&lost.world, "resume", &run).ends_with(code::DONE);
    lost.assert_replaced();
}

#[test]
fn an_agent_that_was_away_when_its_run_was_taken_up_is_claimed_once_it_is_back() {
    let (lost, relay, running) = in_the_middle();
    let run = running.run();
    running.kill();
    lost.world.c().kill_agent();
    relay.limit(0);
    let aborting = lost.world.start_coord(&["abort", &run, "--yes", "--json"]);
    let journal = lost.world.dir().join(format!(".local/state/baton/runs/{run}.jsonl"));
    wait_for("the undo of what C's agent has to undo begins", || {
        let lines = fs::read_to_string(&journal).unwrap();
        if lines.contains("undo_started") { Ok(()) } else { Err(lines) }
    });
    lost.world.c().start_agent();
    let said = aborting.wait().ends_with(code::DONE);
    assert_eq!(said.result()["outcome"], "rolled-back", "{said}");
    lost.assert_b_is_untouched();
    assert_eq!(files(&lost.world.c().data_dir()), Vec::<String>::new());
    assert_nobody_holds(&lost.world);
}

#[test]
fn the_lost_primarys_own_agent_gives_back_what_the_run_had_there() {
    let lost = a_whose_agent_lives();
    let (hold, running) = held_before(&lost, "snapshot", &[]);
    let run = running.run();
    running.kill();
    drop(hold);
    take_up(&lost.world, "resume", &run).ends_with(code::DONE);
    lost.assert_replaced();
    assert_nobody_holds(&lost.world);
    lost.world.a().start_server();
    lost.world.a().await_info("role", "slave");
    lost.world.coord(&["rejoin", A, "--yes"]).ends_with(code::DONE);
}

#[test]
fn a_host_that_is_gone_for_good_is_given_up_and_holds_nobody() {
    let (lost, relay, running) = in_the_middle();
    let run = running.run();
    running.kill();
    lost.world.c().kill_agent();
    relay.limit(0);
    let abort = |more: &[&str]| {
        let args = [&["abort", &run, "--yes", "--json"], more].concat();
        lost.world.start_coord(&args).wait_within(PATIENCE * 2)
    };
    abort(&[]).ends_with(code::STOPPED).says(&["undo of transfer", "--without HOST"]);
    let said = abort(&["--without", C]).ends_with(code::DONE);
    assert_eq!(said.result()["outcome"], "rolled-back", "{said}");
    assert!(said.result()["missing"].to_string().contains("undo of transfer"), "{said}");
    assert!(!files(&lost.world.b().dir.join("state")).iter().any(|name| name.starts_with("claim-")), "B is free");
    // C may know more of the run than anybody who was asked, so A is not told that it may lead again.
    let note = lost.world.b().dir.join(format!("state/deposition-{run}.json"));
    assert!(fs::read_to_string(note).unwrap().contains("\"standing\":\"deposed\""));
    assert_eq!((lost.world.b().content(), lost.world.b().info("role")), (lost.before.clone(), "slave".to_owned()));
    lost.world.c().start_agent();
    take_up(&lost.world, "abort", &run).ends_with(code::DONE).says(&["machine-c was still held"]);
    assert_nobody_holds(&lost.world);
}

#[test]
fn an_order_without_a_claim_is_refused() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let said = lost.failover_done(&[]);
    let log = fs::read_to_string(lost.world.b().agent_log()).unwrap();
    assert!(log.contains("claimed") && log.contains("given back"), "{said}");
    // A leftover of a crash: an instance that nobody can have until somebody has looked.
    lost.world.b().kill_agent();
    fs::write(lost.world.b().dir.join("state/claim-default.json"), "{\"run\":").unwrap();
    lost.world.b().start_agent();
    let said = lost.world.coord(&["switchover", C, "--to", B, "--yes"]).ends_with(code::REFUSED);
    said.says(&["it is not known which run has machine-b/default", "claim-default.json"]);
}

#[test]
fn a_run_that_could_not_clear_away_stays_open_and_is_ended_once_all_agents_answer() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let (hold, running) = held_before(&lost, "release", &[]);
    let run = running.run();
    lost.world.c().kill_agent();
    drop(hold);
    let said = running.wait_within(PATIENCE * 4).ends_with(code::DEGRADED).says(&["release"]);
    let result = said.result();
    assert_eq!((&result["outcome"], &result["open"]), (&"degraded".into(), &true.into()), "{said}");
    lost.world.coord(&["runs"]).says(&[&run, "not cleared away"]);
    lost.world.coord(&["show", &run]).says(&[&format!("coord resume {run}"), "--without HOST"]);
    lost.world.c().start_agent();
    let said = take_up(&lost.world, "resume", &run).ends_with(code::DONE);
    let result = said.result();
    assert_eq!((&result["outcome"], &result["open"]), (&"done".into(), &false.into()), "{said}");
    assert_eq!(result["missing"], serde_json::json!([]), "{said}");
    lost.assert_replaced();
    assert_nobody_holds(&lost.world);
    assert_no_leftovers(&lost.world);
}
