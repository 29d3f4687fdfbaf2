//! Feeds that break: C is an empty primary again with its own settings, and the order given again goes on.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use baton_proto::FaultKind;
use baton_proto::control::Outcome;
use baton_tests::dataset::Dataset;
use baton_tests::servers::REDIS_7_0;
use baton_tests::wait::{wait_for, wait_until};

use super::source::{Deed, GoBetween};
use super::{Ordered, Story, feed_note};
use crate::scene::{LITTLE_BYTES, files, on_every_server};

/// Six chunks and more.
const SIX_CHUNKS: u64 = 25 << 20;
/// A rate at which they take many seconds.
const SLOW: u64 = 2 << 20;

on_every_server! {
    a_source_that_is_lost_leaves_c_empty_and_the_next_pull_goes_on
    a_damaged_chunk_is_never_loaded
    an_agent_that_dies_is_followed_by_one_that_ends_the_feed
    a_server_that_dies_takes_its_feed_with_it
}

fn a_source_that_is_lost_leaves_c_empty_and_the_next_pull_goes_on(server: &str) {
    let story = Story::on(server, Dataset::random(1, SIX_CHUNKS), |_| {});
    let chunks = story.snapshot.bytes.div_ceil(baton_proto::chunk::CHUNK_BYTES) as u32;
    let source = GoBetween::before(&story, Deed::Nothing);
    story.offer(None);
    for deed in [Deed::EndAt(1), Deed::EndAt(chunks / 2), Deed::EndAt(chunks - 1), Deed::EndAfterLast] {
        source.does(deed);
        source.is_due(false);
        let (loads, order) = (loads(&story), story.begin_pull());
        wait_until("C loads what has come", || self::loads(&story) > loads);
        source.is_due(true);
        let fault = story.runtime.block_on(order).unwrap().unwrap_err();
        assert!(fault.to_string().contains("lost for good"), "{deed:?}: {fault}");
        story.assert_c_is_empty();
        assert!(!story.c().dump_path().exists(), "{deed:?}: nothing is placed");
    }
    source.does(Deed::Nothing);
    let (transfer, _) = story.land();
    assert_eq!(transfer.chunks_resumed, chunks, "nothing is sent twice");
    story.assert_landed();
    story.assert_b_joins_partially();
    story.release();
    // A server whose feed breaks comes again at once, as often as it is let.
    let log = std::fs::read_to_string(story.c().dir.join("redis.log")).unwrap();
    let came = log.lines().filter(|line| line.contains("Connecting to")).count();
    assert!(came < 60, "it came {came} times");
}

/// How often C has begun to load what it was fed.
fn loads(story: &Story) -> usize {
    let log = std::fs::read_to_string(story.c().dir.join("redis.log")).unwrap_or_default();
    log.lines().filter(|line| line.contains("Loading DB in memory")).count()
}

fn a_damaged_chunk_is_never_loaded(server: &str) {
    let story = Story::on(server, Dataset::random(1, SIX_CHUNKS), |_| {});
    let source = GoBetween::before(&story, Deed::Flip(3));
    story.offer(None);
    let fault = story.order(super::C, story.pull(None)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Verification, "{fault}");
    story.assert_c_is_empty();
    source.does(Deed::Nothing);
    story.land();
    story.assert_landed();
}

/// A story in which C is being fed slowly, and where its server goes for its data.
fn being_fed(server: &str) -> (Story, Ordered, u16) {
    let story = Story::on(server, Dataset::random(1, SIX_CHUNKS), |_| {});
    story.offer(Some(SLOW));
    let order = story.begin_pull();
    let port = wait_for("C loads what it is fed", || {
        let note = feed_note(story.c()).ok_or("no note")?;
        let port = note.split("127.0.0.1:").nth(1).ok_or(&note as &str)?;
        let port: u16 = port.split('"').next().unwrap_or_default().parse().map_err(|_| note.clone())?;
        if loads(&story) > 0 { Ok(port) } else { Err("not yet loading".to_owned()) }
    });
    (story, order, port)
}

fn an_agent_that_dies_is_followed_by_one_that_ends_the_feed(server: &str) {
    let (story, order, _) = being_fed(server);
    story.c().kill_agent();
    order.abort();
    wait_for("C has lost its feed", || {
        let info = story.c().try_client()?.try_info()?;
        let state = ["role", "master_link_status", "loading"].map(|name| info.get(name).cloned().unwrap_or_default());
        if state == ["slave", "down", "0"] { Ok(()) } else { Err(format!("{state:?}")) }
    });
    story.c().start_agent();
    wait_for("the note is gone", || feed_note(story.c()).map_or(Ok(()), Err));
    story.assert_c_is_empty();
    story.offer(None);
    let (transfer, _) = story.land();
    assert!(transfer.chunks_resumed > 0, "{transfer:?}");
    story.assert_landed();
}

fn a_server_that_dies_takes_its_feed_with_it(server: &str) {
    let (story, order, _) = being_fed(server);
    story.c().kill_server();
    story.runtime.block_on(order).unwrap().unwrap_err();
    assert_eq!(feed_note(story.c()), None);
    story.c().start_server();
    story.assert_c_is_empty();
    story.offer(None);
    let (transfer, _) = story.land();
    assert!(transfer.chunks_resumed > 0, "{transfer:?}");
    story.assert_landed();
}

#[test]
fn nobody_else_gets_a_byte_of_a_feed() {
    let (story, order, port) = being_fed(REDIS_7_0);
    // It has its one visitor: others are not even listened to.
    let mut visitor = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    visitor.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    visitor.write_all(b"AUTH guess\r\nREPLCONF capa eof\r\nPSYNC ? -1\r\n").unwrap();
    let mut answer = [0; 100];
    assert!(visitor.read(&mut answer).is_err(), "no answer");
    // It knows no password that is written anywhere.
    let secret = story.c().client().config("masterauth");
    assert_eq!(secret.len(), 64);
    for file in files(&story.c().dir.join("state")) {
        let text = std::fs::read_to_string(story.c().dir.join("state").join(&file)).unwrap_or_default();
        assert!(!text.contains(&secret), "{file}");
    }
    assert!(!std::fs::read_to_string(story.c().agent_log()).unwrap().contains(&secret));
    order.abort();
}

#[test]
fn a_server_that_holds_keys_is_refused_and_left_alone() {
    let story = Story::on(REDIS_7_0, Dataset::mixed(1, LITTLE_BYTES), |_| {});
    story.offer(None);
    story.c().client().call(&["SET", "somebodys", "data"]);
    let fault = story.order(super::C, story.pull(None)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Refused, "{fault}");
    assert!(fault.to_string().contains("1 keys") && fault.hint.is_some(), "{fault}");
    assert_eq!(story.c().client().call(&["GET", "somebodys"]).text(), "data");
    assert_eq!(super::settings(story.c()), story.settings);
    story.c().client().call(&["DEL", "somebodys"]);
    assert!(matches!(story.order(super::C, story.pull(None)), Ok(Outcome::Landed { .. })));
}

#[test]
fn a_server_without_config_is_told_to_land_by_file() {
    let story = Story::on(REDIS_7_0, Dataset::mixed(1, LITTLE_BYTES), |_| {});
    story.offer(None);
    story.c().kill_server();
    story.c().configure(|conf| {
        conf.set("rename-command", "CONFIG \"\"");
    });
    story.c().start_server();
    let fault = story.order(super::C, story.pull(None)).unwrap_err();
    assert_eq!(fault.kind, FaultKind::Unsupported, "{fault}");
    assert!(fault.hint.is_some_and(|hint| hint.contains("by file")));
    assert_eq!(story.c().info("role"), "master");
}
