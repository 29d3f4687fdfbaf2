//! The gate, and the traps it stands before: a C that comes up empty is never followed.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use baton_tests::coord::code;
use baton_tests::host::{Host, quoted_path};
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::world::{B, C, World};

use crate::scene::{Lost, on_every_server};

on_every_server! {
    by_hand_a_c_with_appendonly_yes_comes_up_empty_and_empties_b
    with_appendonly_yes_at_c_the_data_is_there_and_the_append_only_file_is_on_again
    a_c_whose_start_script_loses_the_dump_is_never_followed
    a_c_that_loads_an_older_dump_is_never_followed
}

/// The trap, without Baton: the procedure that every operator knows by hand.
fn by_hand_a_c_with_appendonly_yes_comes_up_empty_and_empties_b(server: &str) {
    let lost = Lost::with_little_on(server);
    let (b, c) = (lost.world.b(), lost.world.c());
    c.configure(|conf| {
        conf.set("appendonly", "yes");
    });
    b.client().call(&["SAVE"]);
    fs::copy(b.dump_path(), c.dump_path()).unwrap();
    c.start_server();
    assert_eq!(c.content().total(), 0, "C ignores the dump");
    b.client().call(&["REPLICAOF", &c.ip.to_string(), "6379"]);
    b.await_info("master_link_status", "up");
    assert_eq!(b.content().total(), 0, "every light is green, and the last copy is gone");
}

fn with_appendonly_yes_at_c_the_data_is_there_and_the_append_only_file_is_on_again(server: &str) {
    let world = World::of_three(&ServerProgram::named(server));
    for host in world.hosts() {
        host.configure(|conf| {
            conf.set("appendonly", "yes");
        });
    }
    let lost = Lost::with_little_in(world);
    lost.failover_done(&[]);
    let c = lost.world.c();
    assert_eq!(c.client().config("appendonly"), "yes");
    assert_eq!(lost.world.b().client().config("appendonly"), "yes");
    lost.assert_replaced();
    // What a restart finds is the append-only file: the data is in it.
    let written = baton_tests::conf::directives(&c.conf_path());
    assert!(written.contains(&("appendonly".to_owned(), "yes".to_owned())), "{written:?}");
    c.kill_server();
    c.start_server();
    assert_eq!(c.content(), lost.before);
}

#[test]
fn with_appendonly_yes_a_promoted_b_gets_its_replica_partially() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    for host in world.hosts() {
        host.configure(|conf| {
            conf.set("appendonly", "yes");
        });
    }
    let lost = Lost::with_little_in(world);
    lost.failover_done(&["--mode", "promote"]);
    assert_eq!(lost.world.c().client().config("appendonly"), "yes");
    assert_eq!(crate::scene::resyncs(lost.world.b()), crate::scene::counts(0, 1));
    lost.assert_promoted();
}

/// Gives C a service of kind `command`, whose start script does something of its own before it starts the server. The
/// program is named in the command, so that the agent can ask it for its version.
fn start_by_script(c: &Host, before: &str) {
    let (conf, dir) = (c.conf_path(), c.dir.display());
    let script = |name: &str, body: String| {
        let path = c.dir.join(name);
        fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        quoted_path(&path)
    };
    let running = format!("test -f {dir}/server.pid && kill -0 $(cat {dir}/server.pid) 2>/dev/null");
    let start = format!(
        "cd {dir}/data\n{before}\nprogram=$1; shift\n\
         setsid $program {} \"$@\" </dev/null >>{dir}/server.out 2>&1 &\necho $! >{dir}/server.pid",
        conf.display()
    );
    let stop = format!("{running} || exit 0\nkill $(cat {dir}/server.pid)\nwhile {running}; do sleep 0.05; done");
    let (start, stop) = (script("start.sh", start), script("stop.sh", stop));
    let (status, program) = (script("status.sh", running), quoted_path(&c.program.path));
    let service = format!(
        "{{ command = {{ start = [{start}, {program}, \"{{args}}\"], stop = [{stop}], status = [{status}] }} }}"
    );
    c.configure_agent(|toml| {
        toml.instance.set("service", service);
    });
}

#[test]
fn a_command_service_starts_c_like_any_other() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    start_by_script(world.c(), "");
    let lost = Lost::with_little_in(world);
    lost.failover_done(&[]);
    lost.assert_replaced();
}

fn a_c_whose_start_script_loses_the_dump_is_never_followed(server: &str) {
    never_followed(server, "rm -f dump.rdb");
}

/// What another data directory or another dump file name amounts to.
fn a_c_that_loads_an_older_dump_is_never_followed(server: &str) {
    let older = tempfile::tempdir().unwrap();
    let world = World::in_sync(&ServerProgram::named(server));
    world.a().client().call(&["MSET", "some", "of", "the", "keys"]);
    // The one of its replica may still be at it.
    world.a().await_info("rdb_bgsave_in_progress", "0");
    world.a().client().call(&["SAVE"]);
    fs::copy(world.a().dump_path(), older.path().join("dump.rdb")).unwrap();
    drop(world);
    never_followed(server, &format!("cp {}/dump.rdb dump.rdb", older.path().display()));
}

fn never_followed(server: &str, script: &str) {
    let world = World::of_three(&ServerProgram::named(server));
    start_by_script(world.c(), script);
    let lost = Lost::with_little_in(world);
    let said = lost.failover(&[]).ends_with(code::REFUSED);
    assert_eq!(said.result()["outcome"], "refused", "{said}");
    let said = said.says(&["error:", "state:", "hint:", B, C]);
    lost.assert_b_is_untouched();
    assert_eq!(lost.world.b().info("master_host"), "127.0.0.1", "B is still fenced: {said}");
    assert!(lost.world.c().server_pids().is_empty(), "C does not serve");
}

#[test]
fn after_a_refusal_the_same_command_works_once_the_cause_is_mended() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    start_by_script(world.c(), "rm -f dump.rdb");
    let lost = Lost::with_little_in(world);
    lost.failover(&[]).ends_with(code::REFUSED);
    start_by_script(lost.world.c(), "");
    lost.failover_done(&[]);
    lost.assert_replaced();
}
