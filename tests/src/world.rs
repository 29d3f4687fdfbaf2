//! A world: some hosts, a private CA, and the coord.toml that names them, in one temporary directory. What it started
//! ends with it. When a test fails, the directory is kept and the ends of all logs in it are shown.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use tempfile::TempDir;

use crate::address;
use crate::coord::{self, Running, Said, code};
use crate::host::Host;
use crate::process::{end_all_below, tail};
use crate::servers::ServerProgram;

pub const A: &str = "machine-a";
pub const B: &str = "machine-b";
pub const C: &str = "machine-c";
/// A second replica of A, where a test has one.
pub const D: &str = "machine-d";

/// Lines of each log that a failed test shows.
const LOG_LINES: usize = 40;

/// Some hosts and what coordinates them.
#[derive(Debug)]
pub struct World {
    // Before `dir`: processes end before their directory goes.
    hosts: Vec<Host>,
    dir: Option<TempDir>,
    /// Whether the directory stays although nobody panics.
    keep: bool,
}

impl World {
    /// Makes a world without hosts, with its CA.
    pub fn new() -> Self {
        let dir = tempfile::Builder::new().prefix("baton-").tempdir().expect("a temporary directory can be made");
        let world = Self { hosts: Vec::new(), dir: Some(dir), keep: false };
        world.coord(&["pki", "init", "pki"]).ends_with(code::DONE);
        world
    }

    /// A, B and C on the same kind of server: B is configured as A's replica. Nothing runs yet.
    pub fn of_three(program: &ServerProgram) -> Self {
        let mut world = Self::new();
        for name in [A, B, C] {
            world.add(name, program);
        }
        world.replicate(B, A);
        world
    }

    /// A and B run and are in sync, C waits with nothing but its agent.
    pub fn in_sync(program: &ServerProgram) -> Self {
        let world = Self::of_three(program);
        world.start();
        world
    }

    /// Lays out one more host, with an identity of its own.
    pub fn add(&mut self, name: &str, program: &ServerProgram) {
        self.add_at(name, address::fresh(), program);
    }

    /// The same, at an address that the caller chooses.
    pub fn add_at(&mut self, name: &str, ip: Ipv4Addr, program: &ServerProgram) {
        let host = Host::new(self.dir(), name, ip, program.clone());
        self.hosts.push(host);
        self.issue(name, &format!("{name}/{name}.pem"));
        self.write_coord_toml();
    }

    /// Has the CA issue an identity for a host name into a file.
    pub fn issue(&self, name: &str, file: &str) {
        self.coord(&["pki", "issue", name, "--dir", "pki", "--out", file]).ends_with(code::DONE);
    }

    /// Configures `replica` to follow `primary` from its start on.
    pub fn replicate(&self, replica: &str, primary: &str) {
        let ip = self.host(primary).ip;
        self.host(replica).configure(|conf| {
            conf.set("replicaof", format!("{ip} {}", crate::host::SERVER_PORT));
        });
    }

    /// Starts the servers of all hosts but C, waits until the replicas are in sync, and starts all agents.
    pub fn start(&self) {
        let running: Vec<&Host> = self.hosts.iter().filter(|host| host.name != C).collect();
        running.iter().for_each(|host| host.start_server());
        running.iter().skip(1).for_each(|replica| replica.await_in_sync_with(self.a()));
        self.hosts.iter().for_each(Host::start_agent);
    }

    /// Loses A, and waits until its replicas have noticed.
    pub fn lose_a(&self) {
        self.a().lose();
        let is_replica = |host: &&Host| host.try_client().is_ok_and(|mut client| client.field("role") == "slave");
        self.hosts.iter().filter(is_replica).for_each(|host| host.await_info("master_link_status", "down"));
    }

    /// Writes coord.toml anew, after a host moved behind a relay.
    pub fn write_coord_toml(&self) {
        let mut text = "identity = \"pki/operator.pem\"\n".to_owned();
        for host in &self.hosts {
            text += &format!("\n[hosts.{}]\nagent = \"{}\"\n", host.name, host.agent_via());
        }
        fs::write(self.dir().join("coord.toml"), text).expect("coord.toml can be written");
    }

    pub fn dir(&self) -> &Path {
        self.dir.as_ref().expect("the directory lives as long as the world").path()
    }

    /// Has the directory stay when the world has ended.
    pub fn keep(&mut self) {
        self.keep = true;
    }

    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    pub fn host(&self, name: &str) -> &Host {
        self.hosts.iter().find(|host| host.name == name).unwrap_or_else(|| panic!("this world has no {name}"))
    }

    pub fn a(&self) -> &Host {
        self.host(A)
    }

    pub fn b(&self) -> &Host {
        self.host(B)
    }

    pub fn c(&self) -> &Host {
        self.host(C)
    }

    /// Runs `coord` to its end.
    #[track_caller]
    pub fn coord(&self, args: &[&str]) -> Said {
        self.start_coord(args).wait()
    }

    pub fn start_coord(&self, args: &[&str]) -> Running {
        coord::start(self.dir(), args)
    }

    /// Copies the journals of all runs, for `coordinator/tests/journals`.
    fn keep_journals(&self, to: &Path) {
        let runs = fs::read_dir(self.dir().join(".local/state/baton/runs")).into_iter().flatten().flatten();
        for run in runs {
            fs::copy(run.path(), to.join(run.file_name())).expect("a journal can be kept");
        }
    }

    fn show_logs(&self) {
        for dir in std::iter::once(self.dir().to_owned()).chain(self.hosts.iter().map(|host| host.dir.clone())) {
            let mut files: Vec<_> =
                fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
            files.sort();
            for file in files.iter().filter(|file| file.extension().is_some_and(|ext| ext == "log" || ext == "out")) {
                eprintln!("--- end of {}\n{}", file.display(), tail(file, LOG_LINES));
            }
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        end_all_below(self.dir());
        if let Some(kept) = std::env::var_os("BATON_JOURNALS") {
            self.keep_journals(Path::new(&kept));
        }
        if std::thread::panicking() {
            self.show_logs();
        }
        if (self.keep || std::thread::panicking())
            && let Some(dir) = self.dir.take()
        {
            eprintln!("--- kept: {}", dir.keep().display());
        }
    }
}
