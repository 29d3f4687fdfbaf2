//! `coord install` over real SSH, and what a host knows of revoked certificates by it.

use std::fs;

use baton_tests::coord::{Said, code};
use baton_tests::machine::Machine;
use baton_tests::process::tail;
use baton_tests::programs;
use baton_tests::relay::{Passing, Relay};
use baton_tests::servers::{REDIS_7_0, ServerProgram};
use baton_tests::wait::wait_for;
use baton_tests::world::{A, D, World};

use crate::certificates::dial_host;

/// One host with an agent, an operator bob beside the usual one, and a machine without anything.
struct Site {
    // Before the world, in whose directory it is.
    machine: Machine,
    world: World,
}

impl Site {
    /// None where there can be no such machine.
    fn new() -> Option<Self> {
        if !Machine::is_possible() {
            // What an agent does with a list that it is given, `certificates` says as well.
            eprintln!("not root, no sshd, or nothing may be mounted: there can be no machine to install on");
            return None;
        }
        let program = ServerProgram::named(REDIS_7_0);
        let mut world = World::new();
        world.add(A, &program);
        world.a().start_server();
        world.a().start_agent();
        world.coord(&["pki", "operator", "bob", "--dir", "pki", "--out", "bob.pem"]).ends_with(code::DONE);
        let machine = Machine::new(&world, D, &program).expect("a machine can be made");
        Some(Self { machine, world })
    }

    fn args(&self) -> Vec<String> {
        self.machine.install(&programs::agent())
    }

    fn install(&self) -> Said {
        let args = self.args();
        self.world.coord(&args.iter().map(String::as_str).collect::<Vec<_>>())
    }

    fn revoke_bob(&self) -> Said {
        self.world.coord(&["pki", "revoke", "--operator", "bob", "--dir", "pki"])
    }

    #[track_caller]
    fn assert_bob_is_shut_out(&self) {
        let fault = dial_host(&self.world, "bob.pem", &self.machine.host).1.map(drop).unwrap_err();
        assert!(fault.to_string().contains("it refused our certificate: revoked"), "{fault}");
    }
}

#[test]
fn an_agent_that_is_installed_refuses_from_its_first_start_whom_others_do_not_believe() {
    let Some(site) = Site::new() else { return };
    site.revoke_bob().ends_with(code::DONE);
    // What came over ssh has to do: `coord` itself does not reach the agent yet.
    let relay = Relay::to(site.machine.host.agent_address());
    relay.pass(Passing::Nothing);
    let toml = fs::read_to_string(site.world.dir().join("coord.toml")).unwrap();
    let toml = format!("{toml}\n[hosts.{D}]\nagent = \"{}\"\n", relay.address);
    fs::write(site.world.dir().join("coord.toml"), toml).unwrap();
    let args = site.args();
    let installing = site.world.start_coord(&args.iter().map(String::as_str).collect::<Vec<_>>());
    wait_for("the agent is there", || match tail(&site.machine.host.agent_log(), 20) {
        log if log.contains("agent is ready") => Ok(()),
        _ => Err(installing.so_far().to_string()),
    });
    site.assert_bob_is_shut_out();
    relay.pass(Passing::Everything);
    let said = installing.wait().ends_with(code::DONE);
    said.says(&["issued its identity", "machine-d: knows what is revoked (list 1)"]);
    site.assert_bob_is_shut_out();
}

#[test]
fn an_agent_that_is_installed_again_hears_what_was_revoked_since() {
    let Some(site) = Site::new() else { return };
    site.install().ends_with(code::DONE).says(&["machine-d: issued its identity", "started baton-agent.service"]);
    assert!(dial_host(&site.world, "bob.pem", &site.machine.host).1.is_ok(), "he is one of the operators");
    let identity = fs::read(site.machine.identity()).unwrap();
    // It is away while he is revoked.
    site.machine.kill_agent().unwrap();
    site.revoke_bob().ends_with(code::DEGRADED).says(&["machine-d", "coord pki push"]);
    let said = site.install().ends_with(code::DONE);
    said.says(&["identity    stays", "machine-d: knows what is revoked (list 1)"]);
    site.assert_bob_is_shut_out();
    assert_eq!(fs::read(site.machine.identity()).unwrap(), identity, "it is the identity of before");
    let said = site.world.coord(&["status"]).says(&[D]);
    assert!(!said.stdout.contains("revoked"), "nobody has to push anything\n{said}");
    // It is kept: there is no list in this identity.
    site.machine.kill_agent().unwrap();
    site.install().ends_with(code::DONE);
    site.assert_bob_is_shut_out();
}

#[test]
fn a_host_that_was_revoked_gets_a_new_identity_also_from_an_operator_whose_own_lies_elsewhere() {
    let Some(site) = Site::new() else { return };
    site.install().ends_with(code::DONE);
    let (dir, before) = (site.world.dir(), fs::read(site.machine.identity()).unwrap());
    site.world.coord(&["pki", "revoke", D, "--dir", "pki"]);
    // Bob's identity is not beside the authority, but coord.toml is.
    fs::create_dir(dir.join("keys")).unwrap();
    fs::rename(dir.join("bob.pem"), dir.join("keys/bob.pem")).unwrap();
    let toml = fs::read_to_string(dir.join("coord.toml")).unwrap();
    fs::write(dir.join("coord.toml"), toml.replace("pki/operator.pem", "keys/bob.pem")).unwrap();
    let said = site.install().ends_with(code::DONE);
    said.says(&["identity    issue, with the authority in", "machine-d: issued its identity"]);
    assert_ne!(fs::read(site.machine.identity()).unwrap(), before);
    site.install().ends_with(code::DONE).says(&["identity    stays"]);
    // Where nothing can sign, nothing is begun.
    site.world.coord(&["pki", "revoke", D, "--dir", "pki"]);
    let pid = || fs::read_to_string(site.machine.host.dir.join("agent.pid")).unwrap();
    let running = pid();
    fs::rename(dir.join("pki/ca.key"), dir.join("ca.key")).unwrap();
    let said = site.install().ends_with(code::USAGE);
    let said = said.says(&["no authority to issue one", "coord pki issue machine-d --dir DIR --out FILE"]);
    assert!(!said.to_string().contains("installed the agent"), "{said}");
    assert_eq!(pid(), running);
}
