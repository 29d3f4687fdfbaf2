//! A comes back with its agent: in the middle of a run, right after it, and an hour later, with clients that go on writing to
//! it. Its agent stops that, what it took is kept, and it leads again if the run is rolled back.

use baton_tests::coord::{Running, code};
use baton_tests::hold::Hold;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::{wait_for, wait_until};
use baton_tests::world::{A, B, C, World};
use baton_tests::writer::{Writers, Written};

use crate::resume::{assert_nobody_holds, take_up};
use crate::scene::{FAILOVER, Lost, assert_serves};

/// A run that is held before a step.
fn held_before(lost: &Lost, step: &str) -> (Hold, Running) {
    let hold = Hold::set(lost.world.dir(), &format!("{step}-before"));
    let running = lost.world.start_coord(&[&FAILOVER[..], &["--yes", "--json"]].concat());
    hold.wait();
    (hold, running)
}

/// A's server comes back with clients, and takes writes alone; then its agent does, and they end.
fn returns_with_clients(lost: &Lost) -> Written {
    let a = lost.world.a();
    a.start_server();
    let writers = Writers::start(2, &[a]);
    wait_for("A takes writes alone", || match writers.acknowledged() {
        0..100 => Err(writers.acknowledged().to_string()),
        _ => Ok(()),
    });
    a.start_agent();
    a.await_info("role", "slave");
    let written = writers.stop();
    assert!(written.missing_on(a).is_empty(), "A holds what it acknowledged");
    written
}

/// Joins A again, and sees that what it took alone is in the file that is named.
fn assert_rejoined_with_all_kept(lost: &Lost, written: &Written) {
    let a = lost.world.a();
    let said = lost.world.coord(&["rejoin", A, "--yes", "--json"]).ends_with(code::DONE);
    let file = said.result()["aside"]["file"].as_str().expect("the file is named").to_owned();
    a.await_in_sync_with(lost.world.c());
    assert_eq!(a.content(), lost.world.c().content());
    assert_nobody_holds(&lost.world);
    // A's own server loads the file, apart from everybody.
    a.kill_server();
    a.kill_agent();
    a.configure(|conf| {
        conf.set("dbfilename", "scratch.rdb").set("replicaof", "no one").set("appendonly", "no");
    });
    std::fs::copy(&file, a.data_dir().join("scratch.rdb")).unwrap();
    a.start_server();
    assert!(written.missing_on(a).is_empty(), "every acknowledged write is in {file}");
}

#[test]
fn an_a_that_returns_in_the_middle_of_the_run_is_held_off_and_the_run_goes_on() {
    for step in ["snapshot", "gate", "attach"] {
        let lost = Lost::with_little_on(REDIS_7_0);
        let (hold, running) = held_before(&lost, step);
        let written = returns_with_clients(&lost);
        drop(hold);
        running.wait().ends_with(code::DONE);
        assert_serves(&lost.world, C, &[B], &lost.before);
        assert_eq!(lost.world.a().info("role"), "slave", "A takes no writes");
        assert_rejoined_with_all_kept(&lost, &written);
    }
}

#[test]
fn an_a_whose_agent_is_back_before_its_server_takes_hardly_a_write() {
    let lost = Lost::with_little_on(REDIS_7_0);
    lost.failover_done(&[]);
    let a = lost.world.a();
    a.start_agent();
    lost.world.coord(&["status"]).says(&["deposed"]);
    let writers = Writers::start(1, &[a]);
    a.start_server();
    a.await_info("role", "slave");
    let written = writers.stop();
    assert!(written.missing_on(a).is_empty());
    assert_rejoined_with_all_kept(&lost, &written);
}

#[test]
fn an_a_that_returns_an_hour_later_is_held_off_all_the_same() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    // The time of day alone passes: what measures durations is as it was.
    [A, B, C].iter().for_each(|host| world.host(host).clock().jump(0));
    let lost = Lost::with_little_in(world);
    lost.failover_done(&[]);
    [A, B, C].iter().for_each(|host| lost.world.host(host).clock().jump(3600));
    let written = returns_with_clients(&lost);
    lost.world.coord(&["status"]).says(&["machine-a was deposed by run", "coord rejoin machine-a"]);
    assert_rejoined_with_all_kept(&lost, &written);
}

#[test]
fn a_deposed_a_stays_so_through_restarts_of_its_server_its_agent_and_its_peers() {
    let lost = Lost::with_little_on(REDIS_7_0);
    lost.failover_done(&[]);
    let a = lost.world.a();
    let mut written = returns_with_clients(&lost);
    // Its server, by somebody who makes it a primary again.
    a.client().call(&["REPLICAOF", "NO", "ONE"]);
    a.await_info("role", "slave");
    // Its server, as it was before the fence was in its file.
    a.kill_server();
    a.configure(|_| {});
    a.start_server();
    a.await_info("role", "slave");
    // All of its host, while nobody else can tell it anything.
    [B, C].iter().for_each(|host| lost.world.host(host).kill_agent());
    a.kill_agent();
    a.kill_server();
    a.configure(|_| {});
    a.start_server();
    a.start_agent();
    a.await_info("role", "slave");
    [B, C].iter().for_each(|host| lost.world.host(host).start_agent());
    // What was written with `save ""` died with its server.
    written.keys.clear();
    assert_rejoined_with_all_kept(&lost, &written);
}

#[test]
fn a_deposed_a_is_fenced_though_its_agent_can_write_nothing_down() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let run = lost.failover_done(&[]).run();
    let written = returns_with_clients(&lost);
    let a = lost.world.a();
    let state = a.dir.join("state");
    let note = state.join("fence-default.json");
    std::fs::remove_file(&note).unwrap();
    // No file can be made where a directory is: as good as a disk that is full, also for root.
    let in_the_way = [".fence-default.json.new".to_owned(), format!(".deposition-{run}.json.new")];
    let in_the_way = in_the_way.map(|name| state.join(name));
    in_the_way.iter().for_each(|path| std::fs::create_dir(path).unwrap());
    a.client().call(&["REPLICAOF", "NO", "ONE"]);
    a.await_info("role", "slave");
    wait_until("its agent says what is amiss, and once", || {
        let log = std::fs::read_to_string(a.agent_log()).unwrap();
        log.matches("write the note of a replaced primary").count() == 1
    });
    assert!(!note.exists());
    // It is written down as soon as it can be.
    in_the_way.iter().for_each(|path| std::fs::remove_dir(path).unwrap());
    wait_until("the fence is noted", || note.exists());
    assert_rejoined_with_all_kept(&lost, &written);
}

#[test]
fn an_a_that_was_held_off_leads_again_once_the_run_is_rolled_back() {
    for verb in ["abort", "failed"] {
        let lost = Lost::with_little_on(REDIS_7_0);
        let (hold, running) = held_before(&lost, "install");
        let a = lost.world.a();
        a.start_server();
        a.start_agent();
        a.await_info("role", "slave");
        if verb == "abort" {
            let run = running.run();
            running.kill();
            drop(hold);
            let said = take_up(&lost.world, "abort", &run).ends_with(code::DONE);
            assert_eq!(said.result()["outcome"], "rolled-back", "{said}");
        } else {
            // What was pulled is gone, so it cannot be installed.
            let data = lost.world.c().data_dir();
            let parts = crate::scene::files(&data);
            let part = parts.iter().find(|name| name.ends_with(".part.rdb")).expect("a part is there");
            std::fs::remove_file(data.join(part)).unwrap();
            drop(hold);
            assert_eq!(running.wait().ends_with(code::ROLLED_BACK).result()["outcome"], "rolled-back");
        }
        a.await_info("role", "master");
        wait_until("A takes writes", || a.client().try_call(&["SET", "again", "1"]).is_ok());
        assert_eq!(lost.world.b().content(), lost.before);
        assert_nobody_holds(&lost.world);
    }
}
