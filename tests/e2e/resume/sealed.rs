//! What a host says of a run that no operator has written: nobody acts on it, and the others' copies count.

use std::fs;
use std::path::PathBuf;

use baton_tests::coord::code;
use baton_tests::hold::Hold;
use baton_tests::relay::Relay;
use baton_tests::world::C;

use super::{assert_nobody_holds, take_up};
use crate::runs::in_the_middle;
use crate::scene::Lost;

/// A turn that nobody took: later than all others.
const MADE_UP: &str = "{\"at_unix_ms\":1,\"event\":{\"taken_up\":{\"epoch\":9,\"by\":\"olga\",\"to\":\"resume\"}}}\n";

fn copy_at(lost: &Lost, host: &str, run: &str) -> PathBuf {
    lost.world.host(host).dir.join(format!("state/runs/{run}.jsonl"))
}

/// A run whose coordinator is lost with its machine, so that only what the hosts keep is left. B is reached by the relay.
fn stopped() -> (Lost, Relay, String) {
    let (lost, relay, running) = in_the_middle();
    let run = running.run();
    running.kill();
    relay.limit(0);
    fs::remove_dir_all(lost.world.dir().join(".local")).unwrap();
    (lost, relay, run)
}

#[test]
fn what_a_host_made_up_is_refused_and_shown_and_the_others_copies_bring_the_run_to_an_end() {
    let (lost, _relay, run) = stopped();
    let path = copy_at(&lost, C, &run);
    let honest = fs::read_to_string(&path).unwrap();
    fs::write(&path, [&honest, MADE_UP].concat()).unwrap();
    for verb in ["resume", "abort"] {
        let said = take_up(&lost.world, verb, &run).ends_with(code::REFUSED);
        let error = format!("the journal of run {run} that machine-c keeps is not believed: no operator has signed it");
        said.says(&[&error, &format!("coord show {run}"), &format!("coord abort {run} --without machine-c")]);
    }
    let shown = lost.world.coord(&["show", &run]).ends_with(code::DONE);
    shown.says(&["warning:", "machine-c keeps is not believed", "taken up by olga"]);
    lost.world.coord(&["runs", "--agents"]).says(&["warning:", "machine-c keeps is not believed", &run]);
    // Nothing was done on the word of it: whoever has the honest ones goes on.
    lost.world.coord(&["abort", &run, "--without", C, "--yes"]).ends_with(code::DONE);
    lost.assert_b_is_untouched();
}

#[test]
fn lines_of_an_operator_can_be_neither_changed_nor_put_into_another_run() {
    let (lost, _relay, run) = stopped();
    let path = copy_at(&lost, C, &run);
    let honest = fs::read_to_string(&path).unwrap();
    let (begun, rest) = honest.split_once('\n').unwrap();
    // Another primary would be called lost.
    let changed =
        format!("{}\n{rest}{}", begun.replace("\"failed\":\"machine-a\"", "\"failed\":\"machine-b\""), MADE_UP);
    assert_ne!(begun, changed.lines().next().unwrap());
    fs::write(&path, changed).unwrap();
    take_up(&lost.world, "resume", &run).ends_with(code::REFUSED).says(&["machine-c keeps is not believed"]);
    // One that says less than an honest one is passed over, as one that is damaged is.
    let all: Vec<&str> = honest.split_inclusive('\n').collect();
    fs::write(&path, all[..2].concat().replace("\"failed\":\"machine-a\"", "\"failed\":\"machine-b\"")).unwrap();
    take_up(&lost.world, "resume", &run).ends_with(code::DONE);
    lost.assert_replaced();
    assert_nobody_holds(&lost.world);
}

/// Another machine, of an operator who is new.
fn operator(lost: &Lost, name: &str) -> String {
    let (file, config) = (format!("{name}.pem"), format!("{name}.toml"));
    lost.world.coord(&["pki", "operator", name, "--dir", "pki", "--out", &file]).ends_with(code::DONE);
    let toml = fs::read_to_string(lost.world.dir().join("coord.toml")).unwrap();
    let toml = format!("state = \"{name}\"\n{}", toml.replace("pki/operator.pem", &file));
    fs::write(lost.world.dir().join(&config), toml).unwrap();
    config
}

#[test]
fn who_is_revoked_is_not_believed_unless_somebody_has_looked() {
    let (lost, _relay, run) = stopped();
    let bob = operator(&lost, "bob");
    let hold = Hold::set(lost.world.dir(), "transfer-before");
    let running = lost.world.start_coord(&["--config", &bob, "resume", &run, "--yes", "--json"]);
    hold.wait();
    running.kill();
    drop(hold);
    lost.world.coord(&["pki", "revoke", "--operator", "bob", "--dir", "pki"]);
    let carol = operator(&lost, "carol");
    let resume = ["--config", &carol, "resume", &run, "--yes"];
    let said =
        lost.world.coord(&resume).ends_with(code::REFUSED).says(&["is not believed", "evoked", "--believe machine-"]);
    let (_, host) = said.stderr.split_once("--believe ").unwrap();
    let (host, _) = host.split_once('`').unwrap();
    lost.world.coord(&[&resume[..], &["--believe", host]].concat()).ends_with(code::DONE);
    lost.assert_replaced();
    // What she went on with counts by her name.
    fs::remove_dir_all(lost.world.dir().join("carol")).unwrap();
    let shown = lost.world.coord(&["--config", &carol, "show", &run]).says(&["taken up by bob", "taken up by carol"]);
    assert!(!shown.stderr.contains("warning"), "{shown}");
}
