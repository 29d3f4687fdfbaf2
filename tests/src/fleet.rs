//! Many servers on a few hosts: one agent a host, and for each server a port, a directory and a redis.conf of its own below
//! the host's directory. The world that lends the hosts ends all of it. A [`Fleet`] has one host of primaries, one of their
//! replicas, and one of servers that run empty.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Mutex;

use crate::conf::Conf;
use crate::dataset::Dataset;
use crate::host::{Host, quoted, quoted_path};
use crate::process::{Process, kill_and_wait, tail, working_below};
use crate::resp::Client;
use crate::servers::ServerProgram;
use crate::wait::wait_for;
use crate::world::{A, B, C, World};

/// The port of the first server of each host; the others follow.
pub const FIRST_PORT: u16 = 6400;
/// The key that tells which group data is of.
const MARK: &str = "whose";

/// One server of many.
#[derive(Debug)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub dir: PathBuf,
    address: SocketAddr,
    program: ServerProgram,
    process: Mutex<Option<Process>>,
}

impl Server {
    /// Lays a server out on a host of the world, as a replica of `primary` if there is one. Nothing runs yet.
    pub fn new(host: &Host, port: u16, primary: Option<SocketAddr>) -> Self {
        let dir = host.dir.join(format!("redis-{port}"));
        fs::create_dir_all(dir.join("data")).expect("a server's directory can be made");
        let mut conf = Conf::default();
        conf.set("bind", host.ip).set("port", port).set("save", "\"\"").set("repl-diskless-sync-delay", 0);
        conf.set("dir", dir.join("data").display()).set("logfile", dir.join("redis.log").display());
        conf.set("protected-mode", "no").set("replica-announce-ip", host.ip);
        if host.program.is_7_or_later() {
            conf.set("bind-source-addr", host.ip);
        }
        if let Some(primary) = primary {
            conf.set("replicaof", format!("{} {}", primary.ip(), primary.port()));
        }
        conf.write(&dir.join("redis.conf"));
        let (program, address) = (host.program.clone(), SocketAddr::from((host.ip, port)));
        Self { host: host.name.clone(), port, dir, address, program, process: Mutex::default() }
    }

    /// Its name for `coord`.
    pub fn name(&self) -> String {
        format!("{}/redis-{}", self.host, self.port)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn conf_path(&self) -> PathBuf {
        self.dir.join("redis.conf")
    }

    /// Starts it without waiting.
    pub fn start(&self, world: &World) {
        let mut command = world.host(&self.host).command(&self.program.path);
        command.arg(self.conf_path());
        *self.process.lock().unwrap() = Some(Process::start(command, &self.dir.join("server.out")));
    }

    #[track_caller]
    pub fn await_field(&self, field: &str, value: &str) {
        wait_for(&format!("{}: {field}:{value}", self.name()), || {
            let seen = self.try_client()?.try_info()?.remove(field).unwrap_or_default();
            if seen == value { Ok(()) } else { Err(format!("{seen}\n{}", tail(&self.dir.join("redis.log"), 5))) }
        });
    }

    /// Waits until it holds the data of a group, which that group's port names.
    #[track_caller]
    pub fn await_mark(&self, port: u16) {
        wait_for(&format!("{} holds the data of {port}", self.name()), || {
            let seen = self.try_client()?.try_call(&["GET", MARK])?.text();
            if seen == port.to_string() { Ok(()) } else { Err(seen) }
        });
    }

    pub fn try_client(&self) -> Result<Client, String> {
        Client::connect(self.address, None)
    }

    #[track_caller]
    pub fn client(&self) -> Client {
        self.try_client().unwrap_or_else(|error| panic!("{}: {error}", self.name()))
    }

    /// Kills it, whoever started it.
    pub fn lose(&self) {
        self.process.lock().unwrap().take();
        working_below(&self.dir).into_iter().for_each(kill_and_wait);
    }

    /// Its table in agent.toml.
    fn table(&self) -> [(&'static str, String); 3] {
        let exec = [&self.program.path, &self.conf_path()].map(|path| quoted_path(path)).join(", ");
        let name = quoted(&format!("redis-{}", self.port));
        [("name", name), ("config", quoted_path(&self.conf_path())), ("service", format!("{{ exec = [{exec}] }}"))]
    }
}

/// A leads so many groups, B has their replicas, C runs so many servers that are empty.
#[derive(Debug)]
pub struct Fleet {
    pub servers: Vec<Server>,
    // After the servers: it ends what is left of them.
    pub world: World,
}

impl Fleet {
    /// All run, and the replicas are in sync.
    pub fn new(program: &ServerProgram, groups: u16, spares: u16) -> Self {
        let mut world = World::new();
        [A, B, C].iter().for_each(|name| world.add(name, program));
        let ports = |count: u16| FIRST_PORT..FIRST_PORT + count;
        let mut servers: Vec<Server> = ports(groups).map(|port| Server::new(world.a(), port, None)).collect();
        let replicas: Vec<_> =
            servers.iter().map(|first| Server::new(world.b(), first.port, Some(first.address()))).collect();
        servers.extend(replicas);
        servers.extend(ports(spares).map(|port| Server::new(world.c(), port, None)));
        name_all(&world, &servers);
        let fleet = Self { servers, world };
        fleet.servers.iter().for_each(|server| server.start(&fleet.world));
        fleet.on(B).for_each(|replica| replica.await_field("master_link_status", "up"));
        fleet.world.hosts().iter().for_each(|host| host.start_agent());
        fleet
    }

    pub fn on(&self, host: &str) -> impl Iterator<Item = &Server> {
        self.servers.iter().filter(move |server| server.host == host)
    }

    #[track_caller]
    pub fn server(&self, host: &str, port: u16) -> &Server {
        self.on(host).find(|server| server.port == port).unwrap_or_else(|| panic!("{host} has no server at {port}"))
    }

    /// Gives each group data and a mark of its own.
    pub fn load(&self, dataset: impl Fn(u16) -> Dataset) {
        for server in self.on(A) {
            let mut client = server.client();
            dataset(server.port).load(&mut client);
            client.call(&["SET", MARK, &server.port.to_string()]);
        }
        self.on(B).for_each(|replica| replica.await_mark(replica.port));
    }

    /// Loses A, and waits until the replicas have noticed.
    pub fn lose_a(&self) {
        self.on(A).for_each(Server::lose);
        self.world.a().lose();
        self.on(B).for_each(|replica| replica.await_field("master_link_status", "down"));
    }

    /// Asserts that the group is served by that server of C, with its replica on B.
    #[track_caller]
    pub fn assert_moved(&self, port: u16, to: u16) {
        let (new, replica) = (self.server(C, to), self.server(B, port));
        new.await_mark(port);
        new.await_field("role", "master");
        replica.await_field("master_port", &to.to_string());
        replica.await_field("master_link_status", "up");
        new.client().call(&["SET", "written-afterwards", &port.to_string()]);
        wait_for("a write on the new primary arrives", || {
            let seen = replica.client().call(&["GET", "written-afterwards"]).text();
            if seen == port.to_string() { Ok(()) } else { Err(seen) }
        });
    }
}

/// Writes the servers of each host into its agent.toml, in the place of the one server that a host has otherwise.
pub fn name_all(world: &World, servers: &[Server]) {
    for host in world.hosts() {
        let mut of_host = servers.iter().filter(|server| server.host == host.name);
        let Some(first) = of_host.next() else { continue };
        host.configure_agent(|toml| {
            for (name, value) in first.table() {
                toml.instance.set(name, value);
            }
            toml.others = of_host.map(table_text).collect();
        });
    }
}

fn table_text(server: &Server) -> String {
    let lines: String = server.table().iter().map(|(name, value)| format!("{name} = {value}\n")).collect();
    format!("\n[[instance]]\n{lines}")
}
