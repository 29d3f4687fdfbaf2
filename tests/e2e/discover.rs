//! `baton-agent discover`: what it finds of servers that run, and what it writes.

use std::fs;

use baton_tests::host::quoted_path;
use baton_tests::programs;
use baton_tests::servers::{REDIS_6_2, REDIS_7_0, ServerProgram, VALKEY_9_1};
use baton_tests::world::{A, B, C, World};

const PASSWORD: &str = "correct-horse";

#[test]
fn servers_that_run_are_found_and_written_down_once_and_no_password_is_shown() {
    let mut world = World::new();
    for (name, program) in [(A, REDIS_6_2), (B, REDIS_7_0), (C, VALKEY_9_1)] {
        world.add(name, &ServerProgram::named(program));
    }
    // A secret that stands in a file which is read.
    world.c().configure(|conf| {
        conf.set("masterauth", PASSWORD);
    });
    world.hosts().iter().for_each(|host| host.start_server());
    let file = world.dir().join("found.toml");
    let discover = |arguments: &[&str]| {
        let mut command = world.a().command(&programs::agent());
        let output = command.arg("discover").args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let printed = discover(&[]);
    // Other tests run servers of their own meanwhile.
    discover(&["--write", file.to_str().unwrap()]);
    discover(&["--write", file.to_str().unwrap()]);
    let written = fs::read_to_string(&file).unwrap();
    for host in world.hosts() {
        let line = format!("config = {}\n", quoted_path(&host.conf_path()));
        for text in [&printed, &written] {
            assert_eq!(text.matches(&line).count(), 1, "{} in:\n{text}", host.name);
            assert!(!text.contains(PASSWORD));
        }
        let program = format!("exec = [{}, ", quoted_path(&host.program.path));
        let table = written.split("[[instance]]").find(|table| table.contains(&line)).unwrap();
        assert!(table.contains(&program), "{table}");
    }
}
