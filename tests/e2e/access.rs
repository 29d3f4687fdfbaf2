//! Who may do what: passwords and sockets of the servers, identities of agents and operators, protocol versions.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use baton_tests::coord::code;
use baton_tests::host::{Host, quoted, quoted_path};
use baton_tests::process::tail;
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{A, B, C, World};

use crate::scene::{Lost, on_every_server};

on_every_server! {
    servers_with_passwords_are_moved_and_the_password_is_never_shown
}

const PASSWORD: &str = "correct-horse battery";

fn servers_with_passwords_are_moved_and_the_password_is_never_shown(server: &str) {
    let world = World::of_three(&ServerProgram::named(server));
    for host in world.hosts() {
        host.configure(|conf| {
            conf.set("requirepass", format!("{PASSWORD:?}")).set("masterauth", format!("{PASSWORD:?}"));
        });
    }
    let lost = Lost::with_little_in(world);
    let said = lost.failover_done(&[]);
    lost.assert_replaced();
    for text in
        [said.stdout, said.stderr, tail(&lost.world.b().agent_log(), 10_000), tail(&lost.world.c().agent_log(), 10_000)]
    {
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

#[test]
fn an_agent_uses_the_user_and_password_file_that_its_configuration_names() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    for host in world.hosts() {
        host.configure(|conf| {
            conf.set("user", "baton on >agents-own ~* &* +@all");
        });
        fs::write(host.dir.join("password"), "agents-own\n").unwrap();
        host.configure_agent(|toml| {
            toml.instance.set("user", quoted("baton")).set("password_file", quoted("password"));
        });
    }
    let lost = Lost::with_little_in(world);
    let mut client = lost.world.b().client();
    lost.failover_done(&[]);
    let log = client.call(&["ACL", "LOG"]).list();
    assert!(log.is_empty(), "the user was refused nothing: {log:?}");
    lost.assert_replaced();
}

#[test]
fn a_server_with_a_unix_socket_is_reached_through_it() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    for host in world.hosts() {
        host.configure(|conf| {
            conf.set("unixsocket", host.dir.join("redis.sock").display()).set("unixsocketperm", "700");
        });
    }
    let lost = Lost::with_little_in(world);
    let mut monitor = lost.world.b().client();
    monitor.call(&["MONITOR"]);
    lost.world.coord(&["status"]).ends_with(code::DONE);
    wait_for("the agent is seen at the socket", || {
        let line = monitor.answer()?.text();
        if line.contains("unix:") { Ok(()) } else { Err(line) }
    });
    lost.failover_done(&[]);
    lost.assert_replaced();
}

#[test]
fn an_agents_configuration_may_include_files_and_is_read_as_the_server_reads_it() {
    let world = World::of_three(&ServerProgram::named(REDIS_7_0));
    let c = world.c();
    let included = c.dir.join("extra.conf");
    fs::create_dir(c.dir.join("elsewhere")).unwrap();
    fs::write(&included, format!("dir {}\ndbfilename \"main set.rdb\"\n", c.dir.join("elsewhere").display())).unwrap();
    c.configure(|conf| {
        conf.add("include", included.display());
    });
    let lost = Lost::with_little_in(world);
    lost.failover_done(&[]);
    lost.assert_replaced();
    assert!(lost.world.c().dir.join("elsewhere/main set.rdb").is_file());
}

/// Starts an agent that is to refuse to start, and yields what it said.
fn refusal_to_start(host: &Host) -> String {
    let mut agent = host.spawn_agent();
    let status = wait_for("the agent ends", || agent.ended().ok_or_else(|| tail(&host.agent_log(), 5)));
    assert_eq!(status.code(), Some(code::USAGE));
    tail(&host.agent_log(), 20)
}

/// A world with one host, on which nothing runs.
fn lone_host() -> World {
    let mut world = World::new();
    world.add(B, &ServerProgram::named(REDIS_7_0));
    world
}

#[track_caller]
fn assert_says(text: &str, words: &[&str]) {
    words.iter().for_each(|word| assert!(text.contains(word), "`{word}` is not said:\n{text}"));
}

#[test]
fn an_agent_with_an_unknown_configuration_key_does_not_start_and_names_the_place() {
    let world = lone_host();
    world.b().configure_agent(|toml| {
        toml.top.set("lisen", quoted("127.0.0.1:1"));
    });
    assert_says(&refusal_to_start(world.b()), &["agent.toml:4:1", "unknown", "lisen", "listen"]);
}

#[test]
fn an_agent_whose_key_others_can_read_does_not_start() {
    let world = lone_host();
    let identity = world.b().dir.join("machine-b.pem");
    fs::set_permissions(&identity, fs::Permissions::from_mode(0o644)).unwrap();
    assert_says(&refusal_to_start(world.b()), &["machine-b.pem", "0644", "chmod 600"]);
}

#[test]
fn an_agent_with_the_operators_identity_does_not_start() {
    let world = lone_host();
    world.b().configure_agent(|toml| {
        toml.top.set("identity", quoted_path(&world.dir().join("pki/operator.pem")));
    });
    assert_says(&refusal_to_start(world.b()), &["operator", "coord pki issue"]);
}

#[test]
fn identities_are_written_for_their_owner_alone_and_not_overwritten() {
    let world = lone_host();
    for file in ["pki/operator.pem", "machine-b/machine-b.pem"] {
        let mode = fs::metadata(world.dir().join(file)).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
    let before = fs::read(world.dir().join("pki/operator.pem")).unwrap();
    world.coord(&["pki", "init", "pki"]).ends_with(code::USAGE).says(&["pki", "exists"]);
    assert_eq!(fs::read(world.dir().join("pki/operator.pem")).unwrap(), before);
}

#[test]
fn a_coordinator_whose_key_others_can_read_does_nothing() {
    let lost = Lost::with_little_on(REDIS_7_0);
    fs::set_permissions(lost.world.dir().join("pki/operator.pem"), fs::Permissions::from_mode(0o640)).unwrap();
    lost.failover(&[]).ends_with(code::USAGE).says(&["operator.pem", "0640", "chmod 600"]);
    lost.assert_b_is_untouched();
}

#[test]
fn an_unknown_key_in_coord_toml_is_named_with_its_place() {
    let world = lone_host();
    let path = world.dir().join("coord.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}adress = \"127.0.0.1:1\"\n")).unwrap();
    world.coord(&["status"]).ends_with(code::USAGE).says(&["coord.toml:5:1", "unknown", "adress", "agent"]);
}

#[test]
fn an_agent_takes_no_orders_from_a_coordinator_with_an_agents_identity() {
    let lost = Lost::with_little_on(REDIS_7_0);
    let path = lost.world.dir().join("coord.toml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("pki/operator.pem", "machine-a/machine-a.pem")).unwrap();
    lost.failover(&[]).ends_with(code::USAGE).says(&["operator", "machine-a.pem"]);
    lost.assert_b_is_untouched();
}

#[test]
fn an_agent_with_the_certificate_of_another_host_is_not_believed() {
    let lost = Lost::with_little_on(REDIS_7_0);
    lost.world.issue("machine-x", "machine-c/machine-x.pem");
    lost.world.c().configure_agent(|toml| {
        toml.top.set("identity", quoted("machine-x.pem"));
    });
    lost.world.c().restart_agent();
    lost.failover(&[]).ends_with(code::PREFLIGHT).says(&[C, "certificate", "hint:"]);
    lost.assert_b_is_untouched();
}

#[test]
fn an_agent_of_another_ca_is_not_believed() {
    let lost = Lost::with_little_on(REDIS_7_0);
    lost.world.coord(&["pki", "init", "other"]).ends_with(code::DONE);
    let file = "machine-c/stranger.pem";
    lost.world.coord(&["pki", "issue", C, "--dir", "other", "--out", file]).ends_with(code::DONE);
    lost.world.c().configure_agent(|toml| {
        toml.top.set("identity", quoted("stranger.pem"));
    });
    lost.world.c().restart_agent();
    lost.failover(&[]).ends_with(code::PREFLIGHT).says(&[C, "certificate", "another CA"]);
    lost.assert_b_is_untouched();
}

#[test]
fn a_wrong_password_is_told_with_host_and_user() {
    let lost = Lost::with_little_on(REDIS_7_0);
    lost.world.b().client().call(&["CONFIG", "SET", "requirepass", "changed-by-hand"]);
    let said = lost.failover(&[]);
    said.ends_with(code::PREFLIGHT).says(&[B, "user `default`", "NOAUTH", "password_file", "hint:"]);
    let mut client = baton_tests::resp::Client::connect(lost.world.b().address(), Some("changed-by-hand")).unwrap();
    assert_eq!(baton_tests::content::Content::of(&mut client), lost.before);
    assert_eq!(client.field("master_host"), lost.world.host(A).ip.to_string());
}

#[test]
fn a_c_that_refuses_its_agent_is_told_with_host_and_user() {
    let lost = Lost::with_little_on(REDIS_7_0);
    lost.world.c().start_server();
    lost.world.c().client().call(&["CONFIG", "SET", "requirepass", "changed-by-hand"]);
    lost.failover(&[]).ends_with(code::PREFLIGHT).says(&[C, "user `default`", "NOAUTH", "requirepass"]);
    lost.assert_b_is_untouched();
}
