//! A host: a loopback address, a redis.conf, a data directory, an agent.toml with the agent's identity, and, as far as a
//! test started them, a real server and a real agent.
//!
//! A server is started here by hand, or by the agent on an order; both are found and ended by the directory they work in.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

use crate::clock::Clock;
use crate::conf::Conf;
use crate::content::Content;
use crate::namespace;
use crate::process::{Process, hermetic, kill_and_wait, tail, working_below};
use crate::programs::{self, Program};
use crate::resp::Client;
use crate::servers::ServerProgram;
use crate::wait::wait_for;

pub const SERVER_PORT: u16 = 6379;
pub const AGENT_PORT: u16 = 7400;

/// The tables of an agent.toml, as far as a test sets them.
#[derive(Debug, Clone, Default)]
pub struct AgentToml {
    pub top: Conf,
    pub instance: Conf,
    /// More tables, as they are to stand in the file.
    pub others: String,
}

/// One host.
#[derive(Debug)]
pub struct Host {
    pub name: String,
    pub ip: Ipv4Addr,
    /// Everything of this host is below it.
    pub dir: PathBuf,
    pub program: ServerProgram,
    conf: Mutex<Conf>,
    toml: Mutex<AgentToml>,
    /// Where others reach the agent, if not at its own address: a relay.
    via: Mutex<Option<SocketAddr>>,
    /// The network namespace that it is in, if it is not on the machine's own network.
    network: OnceLock<PathBuf>,
    /// A clock that can jump, if it has one.
    clock: OnceLock<Clock>,
    server: Mutex<Option<Process>>,
    /// What its agent is started of.
    agent_program: Mutex<Option<Program>>,
    agent: Mutex<Option<Process>>,
}

impl Host {
    /// Lays out a host below `world`. Nothing runs yet.
    pub fn new(world: &Path, name: &str, ip: Ipv4Addr, program: ServerProgram) -> Self {
        let dir = world.join(name);
        fs::create_dir_all(dir.join("data")).expect("the host's directory can be made");
        let mut conf = Conf::default();
        conf.set("bind", ip).set("port", SERVER_PORT);
        conf.set("dir", dir.join("data").display()).set("logfile", dir.join("redis.log").display());
        // A save that starts by itself would change what a test compares.
        conf.set("save", "\"\"");
        conf.set("repl-diskless-sync-delay", 0);
        // As on a real network, hosts are strangers to each other, each with its own address.
        conf.set("protected-mode", "no").set("replica-announce-ip", ip);
        if program.is_7_or_later() {
            conf.set("bind-source-addr", ip).set("enable-debug-command", "yes");
        }
        let mut toml = AgentToml::default();
        toml.top.set("listen", quoted(&format!("{ip}:{AGENT_PORT}"))).set("identity", quoted(&format!("{name}.pem")));
        toml.top.set("state", quoted("state"));
        toml.instance.set("name", quoted("default")).set("config", quoted("redis.conf"));
        let exec = format!("{{ exec = [{}, {}] }}", quoted_path(&program.path), quoted_path(&dir.join("redis.conf")));
        toml.instance.set("service", exec);
        let (conf, toml) = (Mutex::new(conf), Mutex::new(toml));
        let (via, server, agent) = (Mutex::default(), Mutex::default(), Mutex::default());
        let (network, clock, agent_program) = (OnceLock::new(), OnceLock::new(), Mutex::default());
        let name = name.to_owned();
        let host = Self { name, ip, dir, program, conf, toml, via, network, clock, server, agent_program, agent };
        host.configure(|_| {});
        host.configure_agent(|_| {});
        host
    }

    /// Changes the host's redis.conf.
    pub fn configure(&self, change: impl FnOnce(&mut Conf)) {
        let mut conf = self.conf.lock().unwrap();
        change(&mut conf);
        conf.write(&self.conf_path());
    }

    /// Changes the host's agent.toml; an agent that runs does not see it before it is started again.
    pub fn configure_agent(&self, change: impl FnOnce(&mut AgentToml)) {
        let mut toml = self.toml.lock().unwrap();
        change(&mut toml);
        let (top, instance) = (toml.top.render(" = "), toml.instance.render(" = "));
        let text = format!("{top}\n[[instance]]\n{instance}\n{}", toml.others);
        fs::write(self.agent_toml_path(), text).expect("agent.toml can be written");
    }

    pub fn conf_path(&self) -> PathBuf {
        self.dir.join("redis.conf")
    }

    pub fn agent_toml_path(&self) -> PathBuf {
        self.dir.join("agent.toml")
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    pub fn dump_path(&self) -> PathBuf {
        self.data_dir().join("dump.rdb")
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((self.ip, SERVER_PORT))
    }

    /// Where the agent itself listens.
    pub fn agent_address(&self) -> SocketAddr {
        SocketAddr::from((self.ip, AGENT_PORT))
    }

    /// Where coord.toml says that the agent is.
    pub fn agent_via(&self) -> SocketAddr {
        self.via.lock().unwrap().unwrap_or_else(|| self.agent_address())
    }

    pub fn reach_agent_via(&self, relay: SocketAddr) {
        *self.via.lock().unwrap() = Some(relay);
    }

    /// Moves the host into a network namespace, before anything of it runs.
    pub fn enter(&self, network: PathBuf) {
        self.network.set(network).expect("a host moves once");
    }

    /// Gives the host a clock of its own, before anything of it runs.
    pub fn clock(&self) -> &Clock {
        self.clock.get_or_init(|| Clock::below(&self.dir))
    }

    /// A command that will run on this host.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = self.command_at_home(program);
        if let Some(clock) = self.clock.get() {
            clock.keep(&mut command);
        }
        command
    }

    fn command_at_home(&self, program: &Path) -> Command {
        match self.network.get() {
            Some(network) => namespace::enter(network, program, &self.dir),
            None => hermetic(program, &self.dir),
        }
    }

    // --- the server ---

    /// Starts the server by hand, and waits until it serves.
    pub fn start_server(&self) {
        let mut command = self.command(&self.program.path);
        command.arg(self.conf_path());
        let mut process = Process::start(command, &self.dir.join("server.out"));
        wait_for(&format!("the server of {} answers", self.name), || {
            if let Some(status) = process.ended() {
                panic!("the server of {} ended with {status}:\n{}", self.name, tail(&self.dir.join("redis.log"), 20));
            }
            let mut client = self.try_client()?;
            client.try_call(&["DBSIZE"])?;
            // Somebody else's server may have the address, and ours be about to end because of it.
            let pid = client.try_info()?.remove("process_id").unwrap_or_default();
            if pid == process.pid().to_string() { Ok(()) } else { Err(format!("process {pid} answers")) }
        });
        *self.server.lock().unwrap() = Some(process);
    }

    /// Kills the server, whoever started it, as a power loss would.
    pub fn kill_server(&self) {
        self.server.lock().unwrap().take();
        self.server_pids().into_iter().for_each(kill_and_wait);
    }

    /// Processes of the server and of its saves.
    pub fn server_pids(&self) -> Vec<u32> {
        working_below(&self.data_dir())
    }

    /// Where the certificates are of a server that speaks TLS.
    pub fn tls_dir(&self) -> PathBuf {
        self.dir.join("tls")
    }

    /// Has the server speak TLS alone, on the same port, with whom shows a certificate, also with its primary. An authority
    /// writes the files.
    pub fn speak_tls(&self) {
        let file = |name: &str| self.tls_dir().join(name).display().to_string();
        self.configure(|conf| {
            conf.set("port", 0)
                .set("tls-port", SERVER_PORT)
                .set("tls-replication", "yes")
                .set("tls-auth-clients", "yes");
            conf.set("tls-ca-cert-file", file("ca.pem"));
            conf.set("tls-cert-file", file("cert.pem")).set("tls-key-file", file("key.pem"));
        });
    }

    fn is_tls_only(&self) -> bool {
        let conf = self.conf.lock().unwrap();
        conf.value("port") == Some("0") && conf.value("tls-port").is_some()
    }

    /// What clients of the server log in with.
    pub fn password(&self) -> Option<String> {
        self.conf.lock().unwrap().value("requirepass").map(|value| value.trim_matches('"').to_owned())
    }

    pub fn try_client(&self) -> Result<Client, String> {
        let password = self.password();
        let files = self.tls_dir();
        let connect = || match self.is_tls_only() {
            true => Client::connect_tls(self.address(), password.as_deref(), &files),
            false => Client::connect(self.address(), password.as_deref()),
        };
        match self.network.get() {
            Some(network) => namespace::within(network, connect).map_err(|error| format!("{error:#}"))?,
            None => connect(),
        }
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        self.try_client().unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// One field of the server's `INFO`.
    #[track_caller]
    pub fn info(&self, field: &str) -> String {
        self.client().field(field)
    }

    #[track_caller]
    pub fn content(&self) -> Content {
        Content::of(&mut self.client())
    }

    /// Waits until the server's `INFO` has this field with this value.
    #[track_caller]
    pub fn await_info(&self, field: &str, value: &str) {
        wait_for(&format!("{}: {field}:{value}", self.name), || {
            let seen = self.try_client()?.try_info()?.remove(field).unwrap_or_default();
            if seen == value { Ok(()) } else { Err(seen) }
        });
    }

    /// Waits until this server is a replica of `primary`, linked, and has read all that the primary has written.
    #[track_caller]
    pub fn await_in_sync_with(&self, primary: &Host) {
        wait_for(&format!("{} is in sync with {}", self.name, primary.name), || {
            let (own, other) = (self.try_client()?.try_info()?, primary.try_client()?.try_info()?);
            let field = |info: &std::collections::BTreeMap<String, String>, name: &str| info.get(name).cloned();
            let linked = field(&own, "master_link_status").as_deref() == Some("up");
            let whom = field(&own, "master_host") == Some(primary.ip.to_string());
            let (read, written) = (field(&own, "slave_repl_offset"), field(&other, "master_repl_offset"));
            if linked && whom && read == written {
                Ok(())
            } else {
                Err(format!("up {linked}, {read:?} of {written:?}"))
            }
        });
    }

    // --- the agent ---

    /// Starts the agent, and waits until it listens.
    pub fn start_agent(&self) {
        let process = self.spawn_agent();
        *self.agent.lock().unwrap() = Some(process);
        let listens = || {
            if let Some(status) = self.agent.lock().unwrap().as_mut().and_then(Process::ended) {
                panic!("the agent of {} ended with {status}:\n{}", self.name, tail(&self.agent_log(), 30));
            }
            if udp_is_bound(self.agent_pid(), self.agent_address()) { Ok(()) } else { Err(tail(&self.agent_log(), 5)) }
        };
        wait_for(&format!("the agent of {} listens", self.name), listens);
    }

    /// Starts the agent without waiting: for agents that are to refuse to start.
    pub fn spawn_agent(&self) -> Process {
        let program = self.agent_program.lock().unwrap().clone();
        let program = program.unwrap_or_else(|| programs::usual_agent(&self.name));
        let mut command = self.command(&program.path);
        command.args(["run", "--config", "agent.toml"]).envs(program.environment());
        Process::start(command, &self.agent_log())
    }

    pub fn agent_log(&self) -> PathBuf {
        self.dir.join("agent.log")
    }

    /// Kills the agent alone; what it started lives on.
    pub fn kill_agent(&self) {
        let process = self.agent.lock().unwrap().take();
        process.unwrap_or_else(|| panic!("no agent runs on {}", self.name)).kill();
    }

    /// Has the agent be another program from its next start on.
    pub fn use_agent(&self, program: impl Into<Program>) {
        *self.agent_program.lock().unwrap() = Some(program.into());
    }

    /// Ends the agent as its unit does, and starts another program in its place.
    pub fn upgrade_agent(&self, program: impl Into<Program>) {
        let process = self.agent.lock().unwrap().take();
        let ended = process.unwrap_or_else(|| panic!("no agent runs on {}", self.name)).terminate();
        assert!(ended.success(), "the agent of {} ended with {ended}", self.name);
        self.use_agent(program);
        self.start_agent();
    }

    pub fn restart_agent(&self) {
        self.kill_agent();
        self.start_agent();
    }

    pub fn agent_pid(&self) -> u32 {
        self.agent
            .lock()
            .unwrap()
            .as_ref()
            .map(Process::pid)
            .unwrap_or_else(|| panic!("no agent runs on {}", self.name))
    }

    /// Loses the host: agent and server are gone at once.
    pub fn lose(&self) {
        self.agent.lock().unwrap().take();
        self.kill_server();
    }
}

/// A string as TOML writes it.
pub fn quoted(text: &str) -> String {
    format!("{text:?}")
}

pub fn quoted_path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

/// Whether a socket is bound to this UDP address, as the kernel lists them on the network of a process.
fn udp_is_bound(pid: u32, address: SocketAddr) -> bool {
    let SocketAddr::V4(address) = address else { return false };
    let line = format!("{:08X}:{:04X}", u32::from_le_bytes(address.ip().octets()), address.port());
    fs::read_to_string(format!("/proc/{pid}/net/udp")).is_ok_and(|table| table.contains(&line))
}
