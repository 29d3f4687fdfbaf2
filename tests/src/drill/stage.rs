//! The world of a story: hosts with relays before their agents, data, clients; and A, which is lost. What it holds of the
//! world before the run is what the end is compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Duration;

use super::disk::Disk;
use super::evidence::{Keys, Part, Settings};
use super::story::Story;
use super::witness;
use crate::coord::code;
use crate::host::{Host, quoted};
use crate::process::end_all_below;
use crate::relay::{Passing, Relay};
use crate::servers::ServerProgram;
use crate::wait::wait_for;
use crate::world::{A, B, C, D, World};
use crate::writer::{Manner, Writers};

/// What clients write before A is lost: enough that some of it is under way just then.
const WRITES_BEFORE: u64 = 300;
const CLIENTS: usize = 2;

pub struct Stage {
    relays: BTreeMap<String, Relay>,
    disks: BTreeMap<String, Disk>,
    pub world: World,
    settings: BTreeMap<String, Settings>,
    /// Whose agents run.
    agents: BTreeSet<String>,
    /// What the freshest survivor held when A was lost.
    pub held: Keys,
    /// How many writes A had acknowledged until then.
    pub acknowledged_before: usize,
}

/// Clients of one server: they write a key every millisecond or so, and read as well.
pub fn clients(name: &'static str, host: &Host) -> Writers {
    Writers::start_in(Manner { name, pause: Duration::from_millis(1), reads: true }, CLIENTS, &[host])
}

impl Stage {
    /// A, B and all the others run, and hold the data; C is as the story says.
    pub fn set(story: &Story) -> Self {
        let program = ServerProgram::named(story.server);
        let mut world = World::new();
        let names: &[&str] = if story.sibling { &[A, B, C, D] } else { &[A, B, C] };
        names.iter().for_each(|name| world.add(name, &program));
        story.survivors().iter().for_each(|name| world.replicate(name, A));
        let (mut relays, mut disks) = (BTreeMap::new(), BTreeMap::new());
        for host in world.hosts() {
            configure(story, host);
            if host.name != A {
                let relay = Relay::beside(host.agent_address());
                if host.name != C {
                    relay.limit(story.rate);
                }
                host.reach_agent_via(relay.address);
                relays.insert(host.name.clone(), relay);
            }
            if story.fills_disk_of(&host.name)
                && let Some(disk) = Disk::under(&host.data_dir(), story.data.bytes)
            {
                host.configure_agent(|toml| {
                    toml.top.set("disk_reserve", quoted("1MiB"));
                });
                disks.insert(host.name.clone(), disk);
            }
        }
        world.write_coord_toml();
        let (settings, agents) = (BTreeMap::new(), names.iter().map(|name| (*name).to_owned()).collect());
        let (held, acknowledged_before) = (Keys::new(), 0);
        let mut stage = Self { relays, disks, world, settings, agents, held, acknowledged_before };
        stage.start(story);
        stage
    }

    fn start(&mut self, story: &Story) {
        let c = self.world.c();
        c.start_server();
        let of_c = witness::settings(&mut c.client());
        if !story.c_runs {
            c.kill_server();
            clear(c);
        }
        self.world.start();
        story.data.load(&mut self.world.a().client());
        let survivors = story.survivors().iter().map(|name| self.world.host(name));
        survivors.for_each(|host| host.await_in_sync_with(self.world.a()));
        for host in self.world.hosts().iter().filter(|host| host.name != C) {
            self.settings.insert(host.name.clone(), ask(host, witness::settings(&mut host.client())));
        }
        self.settings.insert(C.to_owned(), ask(c, of_c));
        // As whoever watches a group does: so it is known who belongs to it when somebody does not answer.
        self.world.coord(&["status"]).ends_with(code::DONE);
    }

    /// Loses A while clients write to it, and waits until its replicas have noticed.
    pub fn lose_a(&mut self, story: &Story) {
        let writers = clients("written-before", self.world.a());
        wait_for("clients write", || match writers.acknowledged() {
            0..WRITES_BEFORE => Err(writers.acknowledged().to_string()),
            _ => Ok(()),
        });
        if !story.a_agent_lives {
            self.kill_agent(A);
        }
        self.world.a().kill_server();
        let written = writers.stop();
        self.acknowledged_before = written.keys.len();
        assert!(written.misread.is_empty(), "A itself: {:?}", written.misread);
        let survivors: Vec<_> = story.survivors().iter().map(|name| self.world.host(name)).collect();
        survivors.iter().for_each(|host| host.await_info("master_link_status", "down"));
        let offset = |host: &&&Host| host.info("slave_repl_offset").parse::<u64>().unwrap_or_default();
        let freshest = survivors.iter().max_by_key(offset).expect("somebody survives");
        self.held = ask(freshest, witness::keys(&mut freshest.client()));
        // A replica gets the writes of each client in their order, so of each it has all up to one.
        let of_clients = self.held.keys().filter(|(_, name)| name.starts_with(b"written-before:")).count();
        assert!(of_clients > 0, "the survivors have some of what clients wrote");
    }

    pub fn settings(&self, host: &str) -> &Settings {
        &self.settings[host]
    }

    pub fn part(host: &str) -> Part {
        match host {
            A => Part::Lost,
            C => Part::Target,
            _ => Part::Survivor,
        }
    }

    pub fn kill_agent(&mut self, host: &str) -> bool {
        let runs = self.agents.remove(host);
        if runs {
            self.world.host(host).kill_agent();
        }
        runs
    }

    pub fn start_agent(&mut self, host: &str) {
        if self.agents.insert(host.to_owned()) {
            self.world.host(host).start_agent();
        }
    }

    /// The agent's process, if it runs.
    pub fn agent_pid(&self, host: &str) -> Option<u32> {
        self.agents.contains(host).then(|| self.world.host(host).agent_pid())
    }

    pub fn agent_pids(&self) -> Vec<u32> {
        self.agents.iter().map(|host| self.world.host(host).agent_pid()).collect()
    }

    pub fn pass(&self, host: &str, passing: Passing) {
        self.relays[host].pass(passing);
    }

    /// The disk of a host, if it is one that can be filled.
    pub fn disk(&self, host: &str) -> Option<&Disk> {
        self.disks.get(host)
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        // A disk that is in use cannot be taken away, and a directory with a disk in it cannot be removed.
        end_all_below(self.world.dir());
        self.disks.clear();
    }
}

fn configure(story: &Story, host: &Host) {
    let survives_a_kill = match host.name.as_str() {
        A => story.a_keeps,
        C => story.appendonly,
        name => story.kills_server_of(name),
    };
    if survives_a_kill {
        host.configure(|conf| {
            conf.set("appendonly", "yes").set("appendfsync", "always");
        });
    }
}

/// Empties a data directory whose server has ended.
fn clear(host: &Host) {
    for entry in fs::read_dir(host.data_dir()).into_iter().flatten().flatten() {
        let path = entry.path();
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.unwrap_or_else(|error| panic!("remove {}: {error}", path.display()));
    }
}

#[track_caller]
fn ask<T>(host: &Host, answer: Result<T, String>) -> T {
    answer.unwrap_or_else(|error| panic!("{}: {error}", host.name))
}
