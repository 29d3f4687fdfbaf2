//! The middle of acts: between two changes to the world that a crash can separate. The agent that acts is held there, and each
//! of the five is killed meanwhile.
//!
//! ```text
//!   fence      note ─ role ─ file                      promote    role ─ note, file
//!   backlog    size ─ time to live                     follow     role ─ note ─ (the link comes)
//!   settings   note ─ setting; own value ─ note        persist    own values ─ file
//!   snapshot   (saved) ─ dump linked ─ note removed    pull       part whole ─ note
//!   install    note ─ old aside ─ dump ─ part gone     start      process ─ (it loads)
//!   feed       note, settings ─ role ─ (it is fed, loads), files ─ note ─ role ─ note ─ own settings
//!   release    own values ─ files, one by one           role       note ─ file
//! ```
//!
//! A step that orders several agents has its middle between the orders: there `coord` alone can be lost with anything left to
//! be told, and it is killed while the first agent is held after its act.
//!
//! Without a middle are: `depose`, one file that is put in its place whole; `offer`, which is in the agent's memory; `gate`,
//! which changes nothing; each of the canary's orders, one command of the server. SAVE and the transfer take long rather than
//! having parts: `save`, `transfer` and `live` break them off. Between any two changes of files, on the way there and back, the
//! unit tests of `agent/src/actions/place` stop.

use super::{BY_FILE, Cell, Flow, Held, LIVE, PROMOTE, Victim};

/// What is common to all ways is played for one, the shortest that has it.
const OF_FILE: [(Held, &str); 13] = [
    (Held::Source, "fence-noted"),
    (Held::Source, "fence-told"),
    (Held::Source, "borrow-noted"),
    (Held::Source, "borrow-returned"),
    (Held::Source, "snapshot-saved"),
    (Held::Source, "snapshot-pinned"),
    (Held::Target, "pull-received"),
    (Held::Target, "place-aside"),
    (Held::Target, "place-link"),
    (Held::Target, "place-unlink"),
    (Held::Target, "start-told"),
    (Held::Source, "follow-told"),
    (Held::Source, "place-pin"),
];
const OF_LIVE: [(Held, &str); 5] = [
    (Held::Target, "feed-borrowed"),
    (Held::Target, "feed-told"),
    (Held::Target, "feed-placed"),
    (Held::Target, "feed-noted"),
    (Held::Target, "feed-left"),
];
const OF_PROMOTE: [(Held, &str); 6] = [
    (Held::Source, "promote-told"),
    (Held::Source, "backlog-grown"),
    (Held::Source, "persist-returned"),
    (Held::Target, "start-told"),
    (Held::Target, "role-noted"),
    (Held::Target, "follow-told"),
];
/// Of the steps that order several agents: the first that has done its part.
const BETWEEN_ORDERS: [(Held, &str); 4] = [
    (Held::Source, "depose-after"),
    (Held::Target, "persist-after"),
    (Held::Target, "canary-after"),
    (Held::Source, "release-after"),
];

const EVERYBODY: [Victim; 5] =
    [Victim::Coord, Victim::SourceAgent, Victim::TargetAgent, Victim::SourceServer, Victim::TargetServer];

fn every_victim(flow: &Flow, points: &[(Held, &str)]) {
    for (number, (held, point)) in points.iter().enumerate() {
        for (at, victim) in EVERYBODY.into_iter().enumerate() {
            cells(flow, *held, point, (victim, number + at));
        }
    }
}

/// Both verbs for `coord`. When somebody else dies, most runs go on by themselves: there the verbs take turns.
fn cells(flow: &Flow, held: Held, point: &str, (victim, number): (Victim, usize)) {
    let verbs: &[&str] = match (victim, number % 2) {
        (Victim::Coord, _) => &["resume", "abort"],
        (_, 0) => &["resume"],
        (_, _) => &["abort"],
    };
    let old_dump = flow.args == BY_FILE.args;
    for verb in verbs {
        Cell { flow, victim, held, point: point.to_owned(), verb, old_dump }.play();
    }
}

#[test]
fn of_a_fence_and_of_settings_that_are_borrowed() {
    every_victim(&BY_FILE, &OF_FILE[..4]);
}

#[test]
fn of_a_snapshot_and_of_its_way() {
    every_victim(&BY_FILE, &OF_FILE[4..8]);
}

#[test]
fn of_an_installation_a_start_an_attach_and_a_release() {
    every_victim(&BY_FILE, &OF_FILE[8..]);
}

#[test]
fn of_a_feed() {
    every_victim(&LIVE, &OF_LIVE);
}

#[test]
fn of_a_promotion() {
    every_victim(&PROMOTE, &OF_PROMOTE);
}

#[test]
fn of_steps_that_order_several() {
    for (held, point) in BETWEEN_ORDERS {
        cells(&BY_FILE, held, point, (Victim::Coord, 0));
    }
}
