//! Runs that do not go their usual way: interrupted, orphaned, several instances on a host, servers with settings that
//! stand in the way.

use std::fs;

use baton_tests::content::Content;
use baton_tests::coord::{Running, code};
use baton_tests::dataset::Dataset;
use baton_tests::hold::Hold;
use baton_tests::host::{quoted, quoted_path};

use baton_tests::relay::{Passing, Relay};
use baton_tests::resp::Client;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{A, World};

use crate::resume::take_up;
use crate::scene::{FAILOVER, Lost, on_every_server};

on_every_server! {
    a_b_that_serves_no_stale_data_is_saved_all_the_same_and_keeps_its_setting
}

/// A failover that is in the middle of its transfer.
pub(crate) fn in_the_middle() -> (Lost, Relay, Running) {
    in_the_middle_of(World::of_three(&ServerProgram::named(REDIS_7_0)), &[])
}

/// The same in a world that was configured, and with more words on the command line.
pub(crate) fn in_the_middle_of(world: World, more: &[&str]) -> (Lost, Relay, Running) {
    let relay = Relay::to(world.b().agent_address());
    world.b().reach_agent_via(relay.address);
    world.write_coord_toml();
    let lost = Lost::with(world, Dataset::random(3, 12 << 20));
    relay.limit(3 << 20);
    let running = lost.world.start_coord(&[&FAILOVER[..], &["--yes", "--json"], more].concat());
    wait_for("a part of the snapshot has crossed", || {
        if relay.brought() > 3 << 20 { Ok(()) } else { Err(running.so_far().to_string()) }
    });
    (lost, relay, running)
}

#[test]
fn an_interrupted_run_says_so_and_is_resumed() {
    let (lost, relay, running) = in_the_middle();
    running.interrupt();
    let said = running.wait().ends_with(code::INTERRUPTED).says(&["interrupted", "hint:"]);
    assert_eq!(said.result()["outcome"], "interrupted", "{said}");
    assert_eq!(lost.world.b().content(), lost.before);
    lost.world.coord(&["runs"]).says(&[&said.run(), "interrupted"]);
    relay.limit(0);
    take_up(&lost.world, "resume", &said.run()).ends_with(code::DONE);
    assert_eq!(lost.world.c().info("connected_slaves"), "1");
}

#[test]
fn an_interrupt_while_the_plan_is_made_says_that_nothing_was_changed() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let hold = Hold::set(lost.world.dir(), "look-before");
    let running = lost.world.start_coord(&[&FAILOVER[..], &["--yes", "--json"]].concat());
    hold.wait();
    running.interrupt();
    let said = running.wait().ends_with(code::INTERRUPTED).says(&["interrupted, nothing was changed"]);
    assert_eq!(said.result()["outcome"], "interrupted", "{said}");
    drop(hold);
    // While agents are asked: this one's datagrams are lost, so the look at the hosts takes its time.
    let relay = Relay::to(lost.world.b().agent_address());
    relay.pass(Passing::Nothing);
    lost.world.b().reach_agent_via(relay.address);
    lost.world.write_coord_toml();
    let mut running = lost.world.start_coord(&[&FAILOVER[..], &["--yes"]].concat());
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(running.ended().is_none(), "it waits for an answer");
    running.interrupt();
    running.wait().ends_with(code::INTERRUPTED).says(&["interrupted, nothing was changed"]);
    assert_eq!(lost.world.coord(&["runs", "--json"]).events(), Vec::<serde_json::Value>::new(), "no run was begun");
    assert_eq!(lost.world.b().info("master_host"), lost.world.a().ip.to_string(), "B was not fenced");
    lost.assert_b_is_untouched();
}

/// A has lost its server, and its agent answers.
pub(crate) fn a_whose_agent_lives() -> Lost {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    Dataset::mixed(1, 100 << 10).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    let before = world.b().content();
    world.a().kill_server();
    world.b().await_info("master_link_status", "down");
    Lost { world, before }
}

#[test]
fn an_a_whose_agent_lives_and_whose_server_is_gone_is_replaced() {
    let lost = a_whose_agent_lives();
    lost.failover_done(&[]);
    lost.assert_replaced();
}

fn a_b_that_serves_no_stale_data_is_saved_all_the_same_and_keeps_its_setting(server: &str) {
    let world = World::of_three(&ServerProgram::named(server));
    world.b().configure(|conf| {
        conf.set("replica-serve-stale-data", "no");
    });
    world.start();
    Dataset::mixed(1, 100 << 10).load(&mut world.a().client());
    world.b().await_in_sync_with(world.a());
    let before = world.b().content();
    world.lose_a();
    let lost = Lost { world, before };
    lost.failover_done(&[]);
    assert_eq!(lost.world.b().client().config("replica-serve-stale-data"), "no");
    lost.assert_replaced();
}

#[test]
fn a_snapshot_without_a_checksum_of_its_own_is_moved_and_vouched_for_by_its_hash() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    world.b().configure(|conf| {
        conf.set("rdbchecksum", "no");
    });
    let lost = Lost::with_little_in(world);
    lost.failover_done(&[]);
    lost.assert_replaced();
}

#[test]
fn one_of_two_instances_of_a_host_is_named_with_its_host() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    let c = world.c();
    let data = c.dir.join("data/cache");
    fs::create_dir(&data).unwrap();
    let conf = c.dir.join("cache.conf");
    let text = fs::read_to_string(c.conf_path()).unwrap().replace("port 6379", "port 6380");
    fs::write(&conf, text.replace(&format!("dir {}", c.data_dir().display()), &format!("dir {}", data.display())))
        .unwrap();
    let exec = format!("{{ exec = [{}, {}] }}", quoted_path(&c.program.path), quoted_path(&conf));
    c.configure_agent(|toml| {
        toml.others = format!("[[instance]]\nname = \"cache\"\nconfig = {}\nservice = {exec}\n", quoted("cache.conf"));
    });
    let lost = Lost::with_little_in(world);
    lost.failover(&[]).says(&["machine-c/default", "machine-c/cache"]);
    lost.assert_b_is_untouched();
    let said = lost.world.coord(&["failover", A, "--to", "machine-c/cache", "--yes", "--json"]).ends_with(code::DONE);
    assert_eq!(said.result()["primary"], "machine-c/cache", "{said}");
    let mut client = Client::connect((lost.world.c().ip, 6380).into(), None).unwrap();
    assert_eq!(Content::of(&mut client), lost.before);
    assert_eq!(client.field("connected_slaves"), "1");
    assert_eq!(lost.world.b().info("master_port"), "6380");
}
