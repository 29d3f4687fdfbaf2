//! Made-up worlds: a good end, and each thing that can be wrong with it.

use std::collections::BTreeMap;

use super::super::evidence::{Acknowledged, Ending, Running, Seen, Settings};
use super::*;
use crate::coord::code;
use crate::world::{A, B, C, D};

const ADDRESSES: [(&str, &str); 4] =
    [(A, "127.0.0.1:6379"), (B, "127.0.0.2:6379"), (C, "127.0.0.3:6379"), (D, "127.0.0.4:6379")];

fn address(host: &str) -> String {
    ADDRESSES.iter().find(|(name, _)| *name == host).unwrap().1.to_owned()
}

fn key(name: &str) -> Key {
    (0, name.as_bytes().to_vec())
}

fn keys(names: &[&str]) -> Keys {
    names.iter().map(|name| (key(name), format!("digest of {name}"))).collect()
}

fn settings() -> Settings {
    [("maxmemory", "0"), ("appendonly", "no"), ("replicaof", "")].map(|(n, v)| (n.to_owned(), v.to_owned())).into()
}

fn running(follows: Option<String>, names: &[&str]) -> Running {
    let (linked, takes_writes) = (follows.as_deref().is_some_and(|to| to != FENCE), follows.is_none());
    Running { follows, linked, takes_writes, keys: keys(names), settings: settings() }
}

fn seen(host: &str, part: Part, running: Option<Running>) -> Seen {
    let (processes, files) = (usize::from(running.is_some()), BTreeMap::from([("redis.log".to_owned(), 9)]));
    Seen { part, address: address(host), running, processes, files, settings_before: settings() }
}

fn ending(code: i32, outcome: &str, primary: Option<&str>) -> Ending {
    let (outcome, primary) = (Some(outcome.to_owned()), primary.map(ToOwned::to_owned));
    Ending { command: "coord".into(), code, outcome, primary, ..Ending::default() }
}

fn evidence(endings: Vec<Ending>, servers: [(&str, Seen); 3]) -> Evidence {
    Evidence {
        endings,
        servers: servers.map(|(host, seen)| (host.to_owned(), seen)).into(),
        held: keys(&["one", "two", "written-before:0:1"]),
        after: Vec::new(),
        fork: Vec::new(),
        aside: None,
        stray: Vec::new(),
    }
}

fn acknowledged(by: &str, names: &[&str]) -> Acknowledged {
    let keys = names.iter().map(|name| key(name)).collect();
    Acknowledged { by: by.to_owned(), keys, misread: Vec::new(), excused: false }
}

const ALL: [&str; 4] = ["one", "two", "written-before:0:1", "written-after:0:0"];

/// A is gone, C serves, B follows it, and clients have written.
fn replaced() -> Evidence {
    let servers = [
        (A, seen(A, Part::Lost, None)),
        (B, seen(B, Part::Survivor, Some(running(Some(address(C)), &ALL)))),
        (C, seen(C, Part::Target, Some(running(None, &ALL)))),
    ];
    let mut evidence = evidence(vec![ending(code::DONE, "done", Some(C))], servers);
    evidence.after.push(acknowledged(C, &["written-after:0:0"]));
    evidence
}

/// A is gone, B is fenced, C runs empty.
fn rolled_back() -> Evidence {
    let servers = [
        (A, seen(A, Part::Lost, None)),
        (B, seen(B, Part::Survivor, Some(running(Some(FENCE.into()), &ALL[..3])))),
        (C, seen(C, Part::Target, Some(running(None, &[])))),
    ];
    evidence(vec![ending(code::ROLLED_BACK, "rolled-back", None)], servers)
}

fn server<'a>(evidence: &'a mut Evidence, host: &str) -> &'a mut Running {
    seen_of(evidence, host).running.as_mut().unwrap()
}

fn seen_of<'a>(evidence: &'a mut Evidence, host: &str) -> &'a mut Seen {
    evidence.servers.get_mut(host).unwrap()
}

#[track_caller]
fn finds(evidence: &Evidence, rules: &[Rule]) {
    let found = judge(evidence);
    assert_eq!(found.iter().map(|finding| finding.rule).collect::<Vec<_>>(), rules, "{found:?}");
}

#[test]
fn nothing_is_found_where_all_is_well() {
    finds(&replaced(), &[]);
    finds(&rolled_back(), &[]);
}

#[test]
fn a_key_that_survived_a_and_is_gone_or_changed_is_found() {
    for lost in ["one", "written-before:0:1"] {
        let mut evidence = replaced();
        for host in [B, C] {
            server(&mut evidence, host).keys.remove(&key(lost));
        }
        finds(&evidence, &[Rule::LostKey]);
    }
    let mut evidence = replaced();
    for host in [B, C] {
        server(&mut evidence, host).keys.insert(key("two"), "another digest".into());
    }
    finds(&evidence, &[Rule::LostKey]);
    let mut evidence = rolled_back();
    server(&mut evidence, B).keys.remove(&key("one"));
    finds(&evidence, &[Rule::LostKey]);
    seen_of(&mut evidence, B).running = None;
    finds(&evidence, &[Rule::LostKey]);
}

#[test]
fn a_write_that_the_successor_acknowledged_and_has_not_is_found_unless_nobody_can_ask_for_it() {
    let mut evidence = replaced();
    evidence.after.push(acknowledged(C, &["written-after:1:0"]));
    finds(&evidence, &[Rule::LostWrite]);
    evidence.after[1].excused = true;
    finds(&evidence, &[]);
    // Also where the run was then rolled back.
    let mut evidence = rolled_back();
    evidence.after.push(acknowledged(C, &["written-after:0:0"]));
    finds(&evidence, &[Rule::LostWrite]);
}

#[test]
fn a_read_that_gave_something_else_is_found() {
    let mut evidence = replaced();
    evidence.after[0].misread.push("written-after:0:0 was read as (nil)".into());
    finds(&evidence, &[Rule::Misread]);
}

/// A came back after it was replaced, took a write, and was fenced.
fn with_a_fork() -> Evidence {
    let mut evidence = replaced();
    let with_fork = running(Some(FENCE.into()), &["one", "written-fork:0:0"]);
    evidence.servers.insert(A.to_owned(), seen(A, Part::Lost, Some(with_fork)));
    evidence.fork.push(acknowledged(A, &["written-fork:0:0"]));
    evidence
}

#[test]
fn a_write_that_a_took_alone_is_looked_for_in_a_and_in_what_was_saved_aside() {
    let mut evidence = with_a_fork();
    finds(&evidence, &[]);
    // It is joined again: then only the file has it.
    evidence.servers.insert(A.to_owned(), seen(A, Part::Lost, Some(running(Some(address(C)), &ALL))));
    finds(&evidence, &[Rule::LostWrite]);
    evidence.aside = Some(keys(&["written-fork:0:0"]));
    finds(&evidence, &[]);
    evidence.aside = Some(keys(&["one"]));
    finds(&evidence, &[Rule::LostWrite]);
}

#[test]
fn two_primaries_are_found_and_so_is_none() {
    let mut evidence = with_a_fork();
    let returned = server(&mut evidence, A);
    (returned.follows, returned.takes_writes) = (None, true);
    finds(&evidence, &[Rule::Primaries]);
    let mut evidence = replaced();
    server(&mut evidence, C).takes_writes = false;
    assert!(judge(&evidence).iter().any(|finding| finding.rule == Rule::Primaries));
    // A replica that takes writes is one as well.
    let mut evidence = replaced();
    server(&mut evidence, B).takes_writes = true;
    assert!(judge(&evidence).iter().any(|finding| finding.rule == Rule::Primaries));
    // Half-way there may be none, and never two.
    let mut evidence = rolled_back();
    evidence.endings = vec![ending(code::STOPPED, "failed", None)];
    finds(&evidence, &[]);
    *server(&mut evidence, C) = running(None, &["one"]);
    server(&mut evidence, B).takes_writes = true;
    assert!(judge(&evidence).iter().any(|finding| finding.rule == Rule::Primaries));
}

#[test]
fn a_primary_where_nobody_was_replaced_is_found_and_an_empty_target_is_none() {
    let mut evidence = rolled_back();
    let b = server(&mut evidence, B);
    (b.follows, b.takes_writes) = (None, true);
    finds(&evidence, &[Rule::Primaries]);
    let mut evidence = rolled_back();
    server(&mut evidence, C).keys = keys(&["one"]);
    finds(&evidence, &[Rule::Primaries, Rule::LostKey, Rule::LeftOver]);
}

#[test]
fn a_primary_other_than_the_one_that_is_named_is_found() {
    let mut evidence = replaced();
    evidence.endings[0].primary = Some(B.into());
    finds(&evidence, &[Rule::Primaries]);
}

#[test]
fn a_replica_that_follows_another_or_lags_or_differs_is_found() {
    let mut evidence = replaced();
    server(&mut evidence, B).follows = Some(address(D));
    finds(&evidence, &[Rule::Following]);
    let mut evidence = replaced();
    server(&mut evidence, B).follows = Some(FENCE.into());
    finds(&evidence, &[Rule::Following]);
    let mut evidence = replaced();
    server(&mut evidence, B).linked = false;
    finds(&evidence, &[Rule::Following]);
    let mut evidence = replaced();
    server(&mut evidence, B).keys.remove(&key("one"));
    finds(&evidence, &[Rule::Following]);
    let mut evidence = replaced();
    seen_of(&mut evidence, B).running = None;
    finds(&evidence, &[Rule::Following]);
    // Of a degraded run it is said that something is missing.
    evidence.endings = vec![ending(code::DEGRADED, "degraded", Some(C))];
    finds(&evidence, &[]);
    // And what: one that is left behind is named.
    let mut evidence = replaced();
    server(&mut evidence, B).follows = Some(address(D));
    evidence.endings = vec![ending(code::DEGRADED, "degraded", Some(C))];
    finds(&evidence, &[Rule::Following]);
    evidence.endings = vec![Ending { names: format!("{B} was left behind"), ..evidence.endings.remove(0) }];
    finds(&evidence, &[]);
}

#[test]
fn a_key_that_nobody_wrote_is_found() {
    let mut evidence = replaced();
    for host in [B, C] {
        server(&mut evidence, host).keys.extend(keys(&["canary"]));
    }
    finds(&evidence, &[Rule::ExtraKey]);
}

#[test]
fn a_file_that_is_left_over_is_found_unless_it_is_kept_for_a_person() {
    let mut evidence = replaced();
    seen_of(&mut evidence, B).files.insert("baton-fo-1.pin.rdb".into(), 7);
    finds(&evidence, &[Rule::LeftOver]);
    evidence.endings = vec![ending(code::DEGRADED, "degraded", Some(C))];
    finds(&evidence, &[Rule::LeftOver]);
    evidence.endings[0].names = "the snapshot stays as baton-fo-1.pin.rdb".into();
    finds(&evidence, &[]);
    let mut evidence = replaced();
    seen_of(&mut evidence, A).files.insert("baton-fo-1.diverged.rdb".into(), 7);
    finds(&evidence, &[]);
    let mut evidence = rolled_back();
    seen_of(&mut evidence, C).files.insert("dump.rdb".into(), 1 << 20);
    finds(&evidence, &[Rule::LeftOver]);
}

#[test]
fn a_setting_that_is_not_put_back_is_found_and_a_role_is_no_setting() {
    let mut evidence = replaced();
    server(&mut evidence, B).settings.insert("replicaof".into(), "127.0.0.3 6379".into());
    finds(&evidence, &[]);
    server(&mut evidence, B).settings.insert("appendonly".into(), "yes".into());
    finds(&evidence, &[Rule::Setting]);
}

#[test]
fn a_process_that_is_left_running_is_found() {
    let mut evidence = replaced();
    evidence.stray.push("process 7, coord".into());
    finds(&evidence, &[Rule::Process]);
    let mut evidence = replaced();
    seen_of(&mut evidence, C).processes = 2;
    finds(&evidence, &[Rule::Process]);
}

#[test]
fn a_code_that_is_not_documented_or_belies_the_outcome_is_found() {
    let mut evidence = replaced();
    evidence.endings[0].code = code::DEGRADED;
    finds(&evidence, &[Rule::ExitCode]);
    let mut evidence = rolled_back();
    evidence.endings.insert(0, Ending { command: "coord".into(), code: 101, ..Ending::default() });
    finds(&evidence, &[Rule::ExitCode]);
    // One that the drill killed has no code.
    (evidence.endings[0].code, evidence.endings[0].killed) = (-1, true);
    finds(&evidence, &[]);
}

#[test]
fn what_takes_up_a_run_has_codes_of_its_own() {
    use super::super::story::Verb::{Abort, Resume};
    let taken_up = |verb, code, outcome: Option<&str>| {
        let outcome = outcome.map(ToOwned::to_owned);
        Ending { verb: Some(verb), code, outcome, ..Ending::default() }.is_documented()
    };
    // What was asked for is no failure; what serves stays; a run that lives elsewhere is left alone.
    assert!(taken_up(Abort, code::DONE, Some("rolled-back")));
    assert!(taken_up(Abort, code::REFUSED, Some("done")));
    assert!(taken_up(Resume, code::DONE, Some("rolled-back")));
    assert!(taken_up(Resume, code::REFUSED, None));
    assert!(!taken_up(Abort, code::DONE, Some("refused")));
    assert!(!taken_up(Resume, code::DONE, None));
    assert!(!taken_up(Resume, 1, Some("done")));
}
