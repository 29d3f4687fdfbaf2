//! `coord rejoin --compare`: in which keys a deposed primary differs from its successor is told before it follows.

use std::thread::sleep;
use std::time::Duration;

use baton_tests::coord::{Said, code};
use baton_tests::hold::Hold;
use baton_tests::host::Host;
use baton_tests::resp::Client;
use baton_tests::servers::ServerProgram;
use baton_tests::wait::wait_for;
use baton_tests::world::{A, C, World};
use baton_tests::writer::Writers;
use serde_json::{Value, json};

use crate::scene::{Lost, on_every_server};

on_every_server! {
    what_differs_is_counted_and_named_and_what_only_looks_different_is_not
    a_successor_that_serves_meanwhile_shows_only_what_it_has_more
    a_comparison_that_cannot_be_made_is_told_and_the_rejoin_goes_on
}

/// Enough keys that both servers are read through in several steps.
const STRINGS: u32 = 3000;
/// Larger than what is read at once.
const LARGE_BYTES: usize = 600_000;

/// What both hold when A is lost.
fn write_common(client: &mut Client) {
    select(client, 0);
    for number in 0..STRINGS {
        client.call(&["SET", &format!("s:{number}"), "common"]);
    }
    client.call(&["SET", "number", "123"]);
    client.call(&["SET", "large:string", &"x".repeat(LARGE_BYTES)]);
    client.call(&["RPUSH", "list", "a", "b"]);
    client.call(&["HSET", "hash", "a", "1", "b", "2"]);
    client.call(&["SADD", "set", "1", "2", "3"]);
    client.call(&["ZADD", "zset", "3.1", "a", "-inf", "b"]);
    client.call(&["XADD", "stream", "1-1", "a", "1"]);
    client.call(&["XADD", "stream:same", "1-1", "a", "1"]);
    let filler = "y".repeat(1000);
    for number in 0..1000 {
        let name = format!("n{number}");
        client.call(&["HSET", "large:hash", &name, &filler]);
        client.call(&["HSET", "large:hash:same", &name, &filler]);
        client.call(&["RPUSH", "large:list:same", &format!("{name}{filler}")]);
        client.call(&["SADD", "large:set:same", &format!("{name}{filler}")]);
        client.call(&["ZADD", "large:zset:same", "0.1", &format!("{name}{filler}")]);
    }
    select(client, 3);
    client.call(&["SET", "kept", "common"]);
    client.call(&["SET", "dropped", "common"]);
}

fn select(client: &mut Client, db: u32) {
    client.call(&["SELECT", &db.to_string()]);
}

/// A world in which C has taken A's place, and A's server is back with what both held. Its agent is not, so that it takes
/// writes.
fn returned(world: World) -> Lost {
    world.start();
    write_common(&mut world.a().client());
    world.a().client().call(&["SAVE"]);
    let lost = Lost::after(world);
    lost.failover_done(&[]);
    lost.world.a().start_server();
    assert_eq!(lost.world.a().content(), lost.world.c().content());
    lost
}

/// Has A fenced by its agent.
fn fence(a: &Host) {
    a.start_agent();
    a.await_info("role", "slave");
}

/// Has a value encoded otherwise, with nothing changed that it holds.
#[track_caller]
fn encode_otherwise(a: &mut Client, c: &mut Client, key: &str, steps: &[&[&str]]) {
    steps.iter().for_each(|step| drop(a.call(step)));
    let encoding = |client: &mut Client| client.call(&["OBJECT", "ENCODING", key]).text();
    assert_ne!(encoding(a), encoding(c), "{key}");
}

fn what_differs_is_counted_and_named_and_what_only_looks_different_is_not(server: &str) {
    let lost = returned(World::of_three(&ServerProgram::named(server)));
    let (world, a) = (&lost.world, lost.world.a());
    let (mut on_a, mut on_c) = (a.client(), world.c().client());
    // Only on A: in three databases, more than are named, one that would clear the screen, one that C has removed.
    for number in 0..25 {
        on_a.call(&["SET", &format!("only-a:{number:02}"), "alone"]);
    }
    on_a.call(&["SET", "bell\x07\x1b[2J", "alone"]);
    on_c.call(&["DEL", "s:4"]);
    // Only on C: two that are new, one that A has removed.
    on_c.call(&["MSET", "only-c:1", "alone", "only-c:2", "alone"]);
    on_a.call(&["DEL", "s:2"]);
    // On both, and not the same: small and large, of one type and of two.
    on_a.call(&["SET", "s:1", "on A"]);
    on_c.call(&["SET", "s:3", "on C"]);
    on_a.call(&["SETRANGE", "large:string", &(LARGE_BYTES - 1).to_string(), "z"]);
    on_c.call(&["HSET", "large:hash", "n999", "other"]);
    on_a.call(&["DEL", "list"]);
    on_a.call(&["SADD", "list", "a", "b"]);
    on_a.call(&["XADD", "stream", "1-2", "b", "2"]);
    // The same, though its bytes are others.
    let long = "l".repeat(100);
    encode_otherwise(&mut on_a, &mut on_c, "hash", &[&["HSET", "hash", "c", &long], &["HDEL", "hash", "c"]]);
    encode_otherwise(&mut on_a, &mut on_c, "set", &[&["SADD", "set", &long], &["SREM", "set", &long]]);
    encode_otherwise(&mut on_a, &mut on_c, "zset", &[&["ZADD", "zset", "1", &long], &["ZREM", "zset", &long]]);
    encode_otherwise(&mut on_a, &mut on_c, "number", &[&["SET", "number", "12"], &["APPEND", "number", "3"]]);
    on_a.call(&["HDEL", "large:hash:same", "n0"]);
    on_a.call(&["HSET", "large:hash:same", "n0", &"y".repeat(1000)]);
    for client in [&mut on_a, &mut on_c] {
        select(client, 3);
    }
    on_a.call(&["SET", "only-a", "alone"]);
    on_c.call(&["DEL", "dropped"]);
    select(&mut on_a, 5);
    on_a.call(&["MSET", "one", "1", "two", "2"]);
    // Its time is up before A is joined. A, fenced, keeps such keys, and counts them.
    on_a.call(&["SET", "expired", "alone", "PX", "1500"]);
    fence(a);
    sleep(Duration::from_millis(2000));
    select(&mut on_a, 5);
    assert_eq!(on_a.call(&["DBSIZE"]).int(), 3);

    let said = world.coord(&["rejoin", A, "--compare", "--yes", "--json"]).ends_with(code::DONE);
    let compared = compared(&said);
    assert_eq!((&compared["made"], &compared["stopped"]), (&json!(true), &Value::Null), "{said}");
    assert_counts(&compared["databases"]["0"], [27, 3, 6]);
    assert_counts(&compared["databases"]["3"], [2, 0, 0]);
    assert_counts(&compared["databases"]["5"], [2, 0, 0]);
    assert_counts(&compared["all"], [31, 3, 6]);
    assert_eq!((&compared["all"]["by_form"], &compared["all"]["unread"]), (&json!(1), &json!(0)));
    let examples = &compared["examples"];
    assert_eq!(names(&examples["only_successor"]), ["only-c:1", "only-c:2", "s:2"]);
    assert_eq!(names(&examples["differing"]), ["large:hash", "large:string", "list", "s:1", "s:3", "stream"]);
    let types = examples["differing"].as_array().unwrap().iter().find(|named| named["key"] == "list").unwrap();
    assert_eq!(types["types"], json!(["set", "list"]));
    assert_eq!(names(&examples["only_deposed"]).len(), 20);

    // A person reads the same.
    let shown = world.coord(&["show", &said.run()]).says(&[
        &format!("differs   31 only on {A}, 3 only on {C}, 6 with other values"),
        &format!("differs   database 3: 2 only on {A}, 0 only on {C}, 0 with other values"),
        &format!("differs   only on {C}: "),
        "and 11 more",
        "told apart by DUMP alone",
        "(set, list)",
        "diverged  ",
    ]);
    assert!(!shown.stdout.contains('\x1b') && !shown.stdout.contains('\x07'), "{shown}");
    a.await_in_sync_with(world.c());
    assert_eq!(a.content(), world.c().content());
}

fn a_successor_that_serves_meanwhile_shows_only_what_it_has_more(server: &str) {
    let lost = returned(World::of_three(&ServerProgram::named(server)));
    let (world, a) = (&lost.world, lost.world.a());
    fence(a);
    let writers = Writers::start(2, &[world.c()]);
    wait_for("C takes writes", || match writers.acknowledged() {
        0..1000 => Err(writers.acknowledged().to_string()),
        _ => Ok(()),
    });
    let before = writers.acknowledged();
    let said = world.coord(&["rejoin", A, "--compare", "--yes", "--json"]).ends_with(code::DONE);
    let written = writers.stop().keys.len() as u64;
    let compared = compared(&said);
    let all = &compared["all"];
    assert_eq!((&all["only_deposed"], &all["differing"], &all["unread"]), (&json!(0), &json!(0), &json!(0)), "{said}");
    let only_successor = all["only_successor"].as_u64().unwrap();
    assert!((before..=written).contains(&only_successor), "{before}..{written}: {said}");
    a.await_in_sync_with(world.c());
}

fn a_comparison_that_cannot_be_made_is_told_and_the_rejoin_goes_on(server: &str) {
    let world = World::of_three(&ServerProgram::named(server));
    for host in world.hosts() {
        host.configure(|conf| {
            // Enough for a replica, and for nothing else.
            conf.set("user", "repl on >secret +psync +replconf +ping");
            conf.set("masteruser", "repl").set("masterauth", "secret");
        });
    }
    let lost = returned(world);
    let (world, a) = (&lost.world, lost.world.a());
    a.client().call(&["SET", "alone", "on A"]);
    fence(a);
    // Its login is wrong while it compares, and right when it follows.
    let (before, after) = (Hold::set(&a.dir, "save-aside-before"), Hold::set(&a.dir, "save-aside-after"));
    let running = world.start_coord(&["rejoin", A, "--compare", "--yes", "--json"]);
    before.wait();
    a.client().call(&["CONFIG", "SET", "masterauth", "wrong"]);
    drop(before);
    after.wait();
    a.client().call(&["CONFIG", "SET", "masterauth", "secret"]);
    drop(after);
    let said = running.wait().ends_with(code::DONE);
    assert_not_made(&said, &["cannot be asked", "masterauth", "WRONGPASS"]);
    assert!(!said.to_string().contains("wrong"), "{said}");
    a.await_in_sync_with(world.c());
    assert_eq!(a.content(), world.c().content());
    let file = said.result()["aside"]["file"].as_str().unwrap().to_owned();
    assert!(std::fs::metadata(&file).unwrap().len() > 0, "{file}");
}

#[test]
fn a_login_that_may_only_replicate_is_told_and_the_rejoin_goes_on() {
    let world = World::of_three(&ServerProgram::named(baton_tests::servers::REDIS_7_0));
    for host in world.hosts() {
        host.configure(|conf| {
            conf.set("user", "repl on >secret +psync +replconf +ping");
            conf.set("masteruser", "repl").set("masterauth", "secret");
        });
    }
    let lost = returned(world);
    let (world, a) = (&lost.world, lost.world.a());
    fence(a);
    let said = world.coord(&["rejoin", A, "--compare", "--yes", "--json"]).ends_with(code::DONE);
    assert_not_made(&said, &["refuses INFO", "NOPERM"]);
    world.coord(&["show", &said.run()]).says(&["differs   not compared: ", "NOPERM"]);
    a.await_in_sync_with(world.c());
}

#[test]
fn a_comparison_ends_at_its_limit_with_what_it_has() {
    let lost = returned(World::of_three(&ServerProgram::named(baton_tests::servers::REDIS_7_0)));
    let (world, a) = (&lost.world, lost.world.a());
    fence(a);
    // It is held up for longer than it may take, between the first database and the next. The limit leaves a busy machine the
    // time to come that far.
    let hold = Hold::set(&a.dir, "compare-database-3");
    let running = world.start_coord(&["rejoin", A, "--compare", "--compare-limit", "12s", "--yes", "--json"]);
    hold.wait();
    let said = running.wait().ends_with(code::DONE);
    drop(hold);
    let compared = compared(&said);
    assert_eq!(compared["made"], true, "{said}");
    assert_eq!(compared["stopped"], "stopped after 12 s, which was its limit");
    assert_counts(&compared["all"], [0, 0, 0]);
    assert!(compared["all"]["seen"].as_u64() >= Some(STRINGS.into()), "{said}");
    world.coord(&["show", &said.run()]).says(&["no key differs", "not all: stopped after 12 s"]);
    a.await_in_sync_with(world.c());
    world.coord(&["rejoin", A, "--compare-limit", "1s"]).ends_with(code::USAGE).says(&["--compare"]);
}

#[track_caller]
fn compared(said: &Said) -> Value {
    let compared = said.result()["aside"]["compared"].clone();
    assert!(compared.is_object(), "{said}");
    compared
}

#[track_caller]
fn assert_not_made(said: &Said, words: &[&str]) {
    let compared = compared(said);
    assert_eq!(compared["made"], false, "{said}");
    let why = compared["why"].as_str().unwrap();
    words.iter().for_each(|word| assert!(why.contains(word), "`{word}` is not in `{why}`"));
    assert_eq!(said.result()["outcome"], "done", "{said}");
}

#[track_caller]
fn assert_counts(found: &Value, expected: [u64; 3]) {
    let counts = ["only_deposed", "only_successor", "differing"].map(|name| found[name].as_u64());
    assert_eq!(counts, expected.map(Some), "{found}");
}

/// Names in order.
fn names(examples: &Value) -> Vec<String> {
    let mut names: Vec<_> =
        examples.as_array().unwrap().iter().map(|named| named["key"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}
