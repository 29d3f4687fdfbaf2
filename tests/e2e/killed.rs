//! The kill matrix: whoever takes part is killed at every point of every step, and the run is brought to an end.
//!
//! ```text
//!   coord           before and after each step          then resumed, and in a second pass aborted
//!   source's agent  before and after each of its acts   started again; the run goes on by itself, or is taken up
//!   target's agent  the same
//!   source's server before and after each step          started again by hand, as a person would
//!   target's server the same                            the run's business
//! ```
//!
//! "After" is after the act and before its record; `middle` has what is between. Whatever happens: the exit code is one that is documented, what B held is
//! there, at most one server takes writes and exactly one if the run is done, and nothing is left over.

mod middle;

use std::{fmt, fs};

use baton_tests::coord::{Said, code};
use baton_tests::dataset::Dataset;
use baton_tests::hold::Hold;
use baton_tests::host::Host;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{A, B, C, World};

use crate::resume::assert_nobody_holds;
use crate::scene::{LITTLE_BYTES, Lost, assert_no_leftovers, files};

/// A dump without a key, as C may have one from before.
const OLD_DUMP: &[u8] = b"REDIS0010\xff\0\0\0\0\0\0\0\0";

/// A way to replace A, with the steps that it takes and what each agent is ordered for them.
struct Flow {
    args: &'static [&'static str],
    steps: &'static [&'static str],
    source_acts: &'static [&'static str],
    target_acts: &'static [&'static str],
    serves: &'static str,
}

const BY_FILE: Flow = Flow {
    args: &["--to", C, "--landing", "file"],
    steps: &[
        "fence", "depose", "snapshot", "transfer", "install", "load", "gate", "attach", "persist", "canary", "release",
    ],
    source_acts: &["fence", "depose", "snapshot", "offer", "follow", "persist", "canary", "release"],
    target_acts: &["depose", "pull", "install", "start", "persist", "canary", "release"],
    serves: C,
};
const LIVE: Flow = Flow {
    args: &["--to", C, "--landing", "live"],
    steps: &["fence", "depose", "boot", "snapshot", "transfer", "gate", "attach", "persist", "canary", "release"],
    source_acts: &["fence", "depose", "snapshot", "offer", "follow", "persist", "canary", "release"],
    target_acts: &["depose", "start", "pull", "persist", "canary", "release"],
    serves: C,
};
const PROMOTE: Flow = Flow {
    args: &["--to", C, "--mode", "promote", "--landing", "file"],
    steps: &[
        "fence", "depose", "promote", "backlog", "snapshot", "transfer", "install", "load", "attach", "persist",
        "canary", "release",
    ],
    source_acts: &["fence", "depose", "promote", "backlog", "snapshot", "offer", "persist", "canary", "release"],
    target_acts: &["depose", "pull", "install", "start", "follow", "persist", "canary", "release"],
    serves: B,
};

/// B takes over where it is. C, the other survivor, is what the target is elsewhere.
const IN_PLACE: Flow = Flow {
    args: &["--to", B],
    steps: &["fence", "depose", "promote", "siblings", "persist", "canary"],
    source_acts: &["fence", "depose", "promote", "persist", "canary"],
    target_acts: &["fence", "depose", "follow", "persist", "canary"],
    serves: B,
};

impl Flow {
    /// A has been lost, and C is as the flow wants it.
    fn lost(&self, old_dump: bool) -> Lost {
        let world = World::of_three(&ServerProgram::named(REDIS_7_0));
        if old_dump {
            fs::write(world.c().dump_path(), OLD_DUMP).unwrap();
        }
        world.start();
        if self.args == IN_PLACE.args {
            world.replicate(C, A);
            world.c().start_server();
        }
        Dataset::mixed(7, LITTLE_BYTES).load(&mut world.a().client());
        Lost::after(world)
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Coord,
    SourceAgent,
    TargetAgent,
    SourceServer,
    TargetServer,
}

/// One cell of the matrix.
struct Cell<'a> {
    flow: &'a Flow,
    victim: Victim,
    /// Who comes to the point; the victim need not be the same.
    held: Held,
    point: String,
    verb: &'static str,
    /// Whether a dump of another server lies where C's is to be.
    old_dump: bool,
}

/// A program with points.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Held {
    Coord,
    Source,
    Target,
}

impl fmt::Display for Cell<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} killed at {}, {} {}", self.victim, self.point, self.flow.args.join(" "), self.verb)
    }
}

/// Kills the victim at every point, each time in a world of its own.
fn every_cell(flow: &Flow, victim: Victim) {
    let names = match victim {
        Victim::SourceAgent => flow.source_acts,
        Victim::TargetAgent => flow.target_acts,
        _ => flow.steps,
    };
    let points = names.iter().flat_map(|name| ["before", "after"].map(|at| format!("{name}-{at}")));
    for (number, point) in points.enumerate() {
        // Most runs go on by themselves when somebody else than `coord` dies: there one pass has both verbs in turn.
        let verbs: &[&str] = match (victim, number % 2) {
            (Victim::Coord, _) => &["resume", "abort"],
            (_, 0) => &["resume"],
            (_, _) => &["abort"],
        };
        for verb in verbs {
            let held = match victim {
                Victim::SourceAgent => Held::Source,
                Victim::TargetAgent => Held::Target,
                _ => Held::Coord,
            };
            Cell { flow, victim, held, point: point.clone(), verb, old_dump: false }.play();
        }
    }
}

impl Cell<'_> {
    fn play(&self) {
        println!("{self}");
        let lost = self.flow.lost(self.old_dump);
        // So that B has its data if its server is started again.
        lost.world.b().client().call(&["SAVE"]);
        let settings = settings(lost.world.b());
        let home = match self.held {
            Held::Source => &lost.world.b().dir,
            Held::Target => &lost.world.c().dir,
            Held::Coord => lost.world.dir(),
        };
        let hold = Hold::set(home, &self.point);
        let args = [&["failover", A, "--yes", "--json"], self.flow.args].concat();
        let running = lost.world.start_coord(&args);
        hold.wait();
        let run = running.run();
        let said = match self.victim {
            Victim::Coord => {
                running.kill();
                drop(hold);
                None
            }
            Victim::SourceAgent | Victim::TargetAgent => {
                let host = if self.victim == Victim::SourceAgent { lost.world.b() } else { lost.world.c() };
                host.kill_agent();
                drop(hold);
                host.start_agent();
                Some(running.wait())
            }
            Victim::SourceServer | Victim::TargetServer => {
                let host = if self.victim == Victim::SourceServer { lost.world.b() } else { lost.world.c() };
                host.kill_server();
                drop(hold);
                Some(running.wait())
            }
        };
        let said = self.brought_to_an_end(&lost, said, &run);
        self.judge(&lost, &said, &settings);
    }

    /// Takes the run up if it has not ended, as a person would: with the servers that are not Baton's started again.
    fn brought_to_an_end(&self, lost: &Lost, said: Option<Said>, run: &str) -> Said {
        if let Some(said) = said
            && said.code != code::STOPPED
        {
            start_if_down(lost.world.b());
            return said;
        }
        start_if_down(lost.world.b());
        let mut said = lost.world.coord(&[self.verb, run, "--yes", "--json", "--take-over"]);
        if said.code == code::STOPPED && lost.world.c().try_client().is_err() {
            // The target serves already, and its server died: it is the group's, not the run's.
            said.clone().says(&["hint:"]);
            start_if_down(lost.world.c());
            said = lost.world.coord(&[self.verb, run, "--yes", "--json"]);
        }
        said
    }

    #[track_caller]
    fn judge(&self, lost: &Lost, said: &Said, settings_before: &[String]) {
        let (b, c) = (lost.world.b(), lost.world.c());
        let outcome = said.result()["outcome"].as_str().unwrap_or_default().to_owned();
        let documented = match outcome.as_str() {
            "done" => said.code == code::DONE,
            "degraded" => said.code == code::DEGRADED,
            "rolled-back" => [code::ROLLED_BACK, code::VERIFICATION, code::DONE].contains(&said.code),
            "refused" => said.code == code::REFUSED,
            _ => false,
        };
        assert!(documented, "{self}: {outcome} with {}\n{said}", said.code);
        // An abort says that it has aborted, and a resumption that it is done, unless the world has not let it.
        if self.victim == Victim::Coord && self.verb == "resume" {
            assert_eq!(outcome, "done", "{self}\n{said}");
        }
        let serves = ["done", "degraded"].contains(&outcome.as_str());
        // What is a server of the group by now its operator starts again, on what its file says.
        if outcome == "done" || (serves && self.flow.serves == C) {
            start_if_down(c);
        }
        assert_eq!(b.content(), lost.before, "{self}: what B holds\n{said}");
        let writable = [b, c].into_iter().filter(|host| takes_writes(host)).map(|host| host.name.as_str());
        let with_data: Vec<&str> = writable.filter(|name| !lost.world.host(name).content().keys.is_empty()).collect();
        let expected: &[&str] = if serves { &[self.flow.serves] } else { &[] };
        assert_eq!(with_data, expected, "{self}: who takes writes\n{said}");
        if serves {
            assert_eq!(lost.world.host(self.flow.serves).content(), lost.before, "{self}\n{said}");
        }
        if outcome == "done" {
            let replica = if self.flow.serves == C { b } else { c };
            replica.await_in_sync_with(lost.world.host(self.flow.serves));
            assert_eq!(replica.content(), lost.before, "{self}\n{said}");
        }
        if self.old_dump && outcome != "degraded" {
            let files = files(&c.data_dir());
            let is_old = |name: &String| fs::read(c.data_dir().join(name)).is_ok_and(|bytes| bytes == OLD_DUMP);
            let old: Vec<_> = files.iter().filter(|name| is_old(name)).collect();
            let expected = if serves { "dump.rdb.before-" } else { "dump.rdb" };
            assert!(old.len() == 1 && old[0].starts_with(expected), "{self}: where C's own dump is: {files:?}\n{said}");
        }
        if outcome != "degraded" {
            assert_no_leftovers(&lost.world);
            assert_eq!(settings(b), settings_before, "{self}: settings of B\n{said}");
        }
        assert_nobody_holds(&lost.world);
    }
}

fn start_if_down(host: &Host) {
    if host.server_pids().is_empty() {
        host.start_server();
    }
    wait_for(&format!("{} has loaded", host.name), || {
        let loading = host.try_client()?.try_info()?.remove("loading").unwrap_or_default();
        if loading == "0" { Ok(()) } else { Err(loading) }
    });
}

fn takes_writes(host: &Host) -> bool {
    host.try_client().is_ok_and(|mut client| client.field("role") == "master")
}

/// What a run changes for a while.
fn settings(host: &Host) -> Vec<String> {
    let names = ["rdbcompression", "repl-diskless-load", "repl-backlog-size", "save", "appendonly", "masterauth"];
    let mut client = host.client();
    names.iter().map(|name| format!("{name} {}", client.config(name))).collect()
}

#[test]
fn the_matrix_names_every_step_and_every_act() {
    for flow in [BY_FILE, LIVE, PROMOTE, IN_PLACE] {
        let lost = flow.lost(false);
        let args = [&["failover", A, "--yes", "--json"], flow.args].concat();
        let said = lost.world.coord(&args).ends_with(code::DONE);
        let events = said.events();
        let started = events.iter().filter(|event| event["event"] == "step" && event["state"] == "started");
        let steps: Vec<_> = started.map(|event| event["step"].as_str().unwrap_or_default().to_owned()).collect();
        assert_eq!(steps, flow.steps, "{said}");
    }
}

macro_rules! matrix {
    ($($module:ident $flow:ident)*) => {
        $(mod $module {
            use super::{$flow, Victim, every_cell};
            #[test] fn coord_is_killed() { every_cell(&$flow, Victim::Coord); }
            #[test] fn the_agent_of_the_source_is_killed() { every_cell(&$flow, Victim::SourceAgent); }
            #[test] fn the_agent_of_the_target_is_killed() { every_cell(&$flow, Victim::TargetAgent); }
            #[test] fn the_server_of_the_source_is_killed() { every_cell(&$flow, Victim::SourceServer); }
            #[test] fn the_server_of_the_target_is_killed() { every_cell(&$flow, Victim::TargetServer); }
        })*
    };
}
matrix! { by_file BY_FILE live LIVE promote PROMOTE in_place IN_PLACE }
