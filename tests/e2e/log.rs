//! What the agents log: each line is read by the programs that collect it, and tells its run.

use std::fs;
use std::os::unix::fs::MetadataExt;

use baton_tests::host::{Host, quoted};
use baton_tests::process::Process;
use baton_tests::programs;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{B, C, World};
use serde_json::Value;

use crate::scene::Lost;

fn log_json(host: &Host) {
    host.configure_agent(|toml| {
        toml.top.set("log", quoted("json"));
    });
}

/// The lines of an agent's log, of which each must be an object.
fn lines(host: &Host) -> Vec<Value> {
    let text = fs::read_to_string(host.agent_log()).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

#[test]
fn as_json_every_line_of_a_run_names_it() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    world.hosts().iter().for_each(log_json);
    let lost = Lost::with_little_in(world);
    let run = lost.failover_done(&[]).run();
    for host in [B, C].map(|name| lost.world.host(name)) {
        let lines = lines(host);
        for line in &lines {
            for name in ["time", "level", "target", "message"] {
                assert!(line[name].is_string(), "{name}: {line}");
            }
            let target = line["target"].as_str().unwrap();
            let of_a_run = ["baton_agent::actions", "baton_agent::transfer::pull", "baton_agent::transfer::offers"];
            if of_a_run.iter().any(|module| target.starts_with(module)) {
                assert_eq!(line["run"], run.as_str(), "{line}");
            }
        }
        let begun = lines.iter().filter(|line| line["message"].as_str().unwrap().starts_with("begin: "));
        let begun: Vec<_> = begun.collect();
        assert!(!begun.is_empty());
        for line in begun {
            assert_eq!((&line["run"], &line["instance"]), (&run.as_str().into(), &"default".into()), "{line}");
            assert!(line["task"].is_string() && line["operator"].is_string(), "{line}");
        }
    }
    let sent = lines(lost.world.b()).into_iter().find(|line| line["message"] == "snapshot was sent");
    assert_eq!(sent.expect("B tells that it sent the snapshot")["run"], run.as_str());
}

#[test]
fn the_journal_gets_priorities_instead_of_times() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    let log = world.b().agent_log();
    fs::write(&log, "").unwrap();
    let file = fs::metadata(&log).unwrap();
    // systemd.exec(5): the agent's stderr is the journal if it is this file.
    for (stream, begins) in [(format!("{}:{}", file.dev(), file.ino()), "<6>baton_agent::"), ("1:1".into(), "20")] {
        fs::write(&log, "").unwrap();
        let mut command = world.b().command(&programs::agent());
        command.args(["run", "--config", "agent.toml"]).env("JOURNAL_STREAM", stream);
        let agent = Process::start(command, &log);
        let ready = wait_for("the agent is ready", || {
            let text = fs::read_to_string(&log).unwrap();
            text.lines().find(|line| line.contains("agent is ready")).map(str::to_owned).ok_or(text)
        });
        assert!(ready.starts_with(begins), "{ready}");
        assert!(agent.terminate().success());
    }
}
