//! `coord status --watch`, while a primary is lost.

use std::fs;
use std::io::Write;
use std::process::{Child, Stdio};
use std::time::Duration;

use baton_tests::coord::code;
use baton_tests::process::hermetic;
use baton_tests::programs;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{A, B, C, World};

/// Where a coord's output goes.
fn until(fact: &str, mut said: impl FnMut() -> String, word: &str) -> String {
    wait_for(fact, || {
        let text = said();
        if text.contains(word) { Ok(text) } else { Err(text) }
    })
}

#[test]
fn on_a_pipe_what_changed_is_told_and_nothing_else() {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    let coord = world.start_coord(&["status", "--watch", "1"]);
    let out = || coord.so_far().stdout;
    let first = until("the first look is shown", out, "verdict: ok");
    assert!([A, B, C].iter().all(|host| first.contains(host)), "{first}");
    // Writes and the time that passes are no change.
    world.a().client().call(&["SET", "watched", "1"]);
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(out(), first);
    world.lose_a();
    let lost = until("the loss is shown", out, "primary dead");
    let later = lost.strip_prefix(&first).expect("what was told stays");
    assert!(
        later.starts_with("20") && later.contains("group machine-a: degraded"),
        "a time, and what changed: {later}"
    );
    assert!(!lost.contains('\u{1b}'), "nothing is painted");
    coord.interrupt();
    coord.wait().ends_with(code::DONE);
}

#[test]
fn programs_get_a_line_for_each_thing_that_changed() {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    let coord = world.start_coord(&["status", "--watch", "1", "--json"]);
    let reasons = || {
        let groups = coord.events().into_iter().filter(|event| event["event"] == "group");
        groups.map(|group| group["reason"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    wait_for("the first look is told", || if reasons() == ["ok"] { Ok(()) } else { Err(format!("{:?}", reasons())) });
    world.lose_a();
    wait_for("the loss is told", || match reasons().last().map(String::as_str) {
        Some("primary_dead") => Ok(()),
        _ => Err(coord.so_far().to_string()),
    });
    let events = coord.events();
    assert!(events.iter().all(|event| event["at"].as_str().is_some_and(|at| at.ends_with('Z'))), "{events:?}");
    let hosts = |name: &str| events.iter().filter(|event| event["event"] == "host" && event["host"] == name).count();
    assert_eq!((hosts(B), hosts(C)), (1, 1), "nothing happened to them");
    coord.interrupt();
    coord.wait().ends_with(code::DONE);
}

#[test]
fn a_word_that_names_nothing_is_a_mistake_and_nobody_watches_for_it() {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    world.coord(&["status", "machine-z", "--watch"]).ends_with(code::USAGE).says(&["machine-z"]);
    world.coord(&["status", "--watch", "0"]).ends_with(code::USAGE).says(&["--watch"]);
}

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `script` of util-linux gives it a terminal.
#[test]
fn on_a_terminal_it_is_painted_in_place_and_ctrl_c_ends_it_well() {
    let world = World::in_sync(&ServerProgram::named(REDIS_7_0));
    let coord = format!("exec {} status --watch 1", programs::coord().display());
    let mut command = hermetic("script".as_ref(), world.dir());
    command.args(["-qefc", &coord, "screen"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut script = Ended(command.spawn().expect("script is there: util-linux"));
    let screen = || String::from_utf8_lossy(&fs::read(world.dir().join("screen")).unwrap_or_default()).into_owned();
    until("the first look is painted", screen, "verdict: ok");
    world.lose_a();
    let painted = until("the loss is painted", screen, "primary dead");
    let last = painted.rsplit("\u{1b}[H").next().unwrap();
    assert!(painted.matches("\u{1b}[H").count() > 1 && last.contains("until Ctrl-C"), "{painted:?}");
    script.0.stdin.as_mut().unwrap().write_all(b"\x03").unwrap();
    let ended = wait_for("Ctrl-C ends it", || match script.0.try_wait() {
        Ok(Some(status)) => Ok(status),
        other => Err(format!("{other:?} {:?}", screen())),
    });
    assert_eq!(ended.code(), Some(code::DONE));
}
