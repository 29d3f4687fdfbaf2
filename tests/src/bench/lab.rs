//! Two hosts on a network, with all that the peers need: agents, `coord`, an SSH server, and the snapshot in its place.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

use crate::bench::files::Snapshot;
use crate::bench::network::{A_IP, B_IP, C_IP, Kind, Network};
use crate::host::Host;
use crate::process::{Process, tail};
use crate::programs;
use crate::servers::ServerProgram;
use crate::sshd::Sshd;
use crate::world::{A, B, C, World};

/// Longest that one move may take: 2 GB at less than 2 MB/s.
const MOVE_TIMEOUT: Duration = Duration::from_secs(1200);
/// Pause between two looks at a process. A move takes seconds.
const LOOK: Duration = Duration::from_millis(2);

/// How long a primary waits for more replicas before it saves for a full resync. Servers come with 5 s.
pub const DISKLESS_DELAY: &str = "repl-diskless-sync-delay";

/// Two hosts; everything ends with it. Their servers have the settings that servers come with, but for `save`.
#[derive(Debug)]
pub struct Lab {
    // In the order in which they are to end.
    pub sshd: Sshd,
    world: World,
    pub network: Network,
}

impl Lab {
    /// Makes the hosts B and C. Agents and servers do not run yet.
    pub fn new(kind: Kind, tcp: Option<&str>, program: &ServerProgram) -> anyhow::Result<Self> {
        let network = Network::new(kind, tcp)?;
        let mut world = World::new();
        world.add_at(B, B_IP, program);
        world.add_at(C, C_IP, program);
        world.b().enter(network.b.path());
        world.c().enter(network.c.path());
        for host in [world.b(), world.c()] {
            // Tests do not wait for the delay of a full resync; operators do, unless they have changed what servers come with.
            host.configure(|conf| {
                conf.remove(DISKLESS_DELAY);
            });
        }
        let sshd = Sshd::start(world.c())?;
        Ok(Self { sshd, world, network })
    }

    /// Makes a primary as well, on B's own host and network, which B is to follow: it is there to be lost.
    pub fn with_primary(kind: Kind, tcp: Option<&str>, program: &ServerProgram) -> anyhow::Result<Self> {
        let mut lab = Self::new(kind, tcp, program)?;
        lab.world.add_at(A, A_IP, program);
        lab.world.a().enter(lab.network.b.path());
        lab.world.replicate(B, A);
        Ok(lab)
    }

    pub fn start_agents(&self) {
        self.world.hosts().iter().for_each(Host::start_agent);
    }

    pub fn a(&self) -> &Host {
        self.world.a()
    }

    pub fn b(&self) -> &Host {
        self.world.b()
    }

    pub fn c(&self) -> &Host {
        self.world.c()
    }

    /// Makes a snapshot the dump of B, in memory, and waits until no earlier write keeps the disk busy.
    pub fn place(&self, snapshot: &Snapshot) -> anyhow::Result<()> {
        let dump = self.b().dump_path();
        remove(&dump)?;
        // The same disk; a server that saves replaces the name, and leaves the file alone.
        fs::hard_link(&snapshot.path, &dump).with_context(|| format!("link {}", dump.display()))?;
        self.clear_target()?;
        rustix::fs::sync();
        snapshot.warm()
    }

    /// Removes what has arrived at C.
    pub fn clear_target(&self) -> anyhow::Result<()> {
        for entry in fs::read_dir(self.c().data_dir())? {
            let path = entry?.path();
            if path.is_file() {
                remove(&path)?;
            }
        }
        Ok(())
    }

    /// Where the peers put the file on C: the disk and the directory of C's server.
    pub fn arrived_path(&self) -> PathBuf {
        self.c().dump_path()
    }

    /// Starts `coord`, on B, with `--json`.
    pub fn start_coord(&self, args: &[&str]) -> anyhow::Result<Coord> {
        let out = tempfile::Builder::new().prefix("coord-").suffix(".json").tempfile_in(self.world.dir())?;
        let out = out.into_temp_path().keep()?;
        let log = self.world.dir().join("coord.log");
        let mut command = self.b().command(&programs::coord());
        command.current_dir(self.world.dir()).args(args).arg("--json");
        let begun = Instant::now();
        Ok(Coord { process: Process::start_split(command, &out, &log), begun, out, log })
    }

    /// `coord copy` from B to C.
    pub fn start_copy(&self, method: &str) -> anyhow::Result<Coord> {
        self.start_coord(&["copy", B, C, "--snapshot", method, "--yes"])
    }
}

fn remove(path: &Path) -> anyhow::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// A `coord` that runs.
#[derive(Debug)]
pub struct Coord {
    process: Process,
    pub begun: Instant,
    out: PathBuf,
    log: PathBuf,
}

/// What a copy came to.
#[derive(Debug, Clone, Copy)]
pub struct Copied {
    /// From the start of `coord` to its end.
    pub seconds: f64,
    /// The transfer alone, as Baton tells it.
    pub transfer_seconds: Option<f64>,
    pub bytes_wire: Option<u64>,
}

impl Coord {
    pub fn ended(&mut self) -> bool {
        self.process.ended().is_some()
    }

    /// Waits for its end, which is to be a success.
    pub fn wait(mut self) -> anyhow::Result<Copied> {
        let status = wait_within(MOVE_TIMEOUT, "coord", || self.process.ended())?;
        let seconds = self.begun.elapsed().as_secs_f64();
        ensure!(status.success(), "coord ended with {status}: {}", tail(&self.log, 6));
        let text = fs::read_to_string(&self.out)?;
        let mut events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let result = events.rfind(|event| event["event"] == "result").context("coord told no result")?;
        let transfer_seconds = result["seconds"]["transfer"].as_f64();
        Ok(Copied { seconds, transfer_seconds, bytes_wire: result["bytes_wire"].as_u64() })
    }
}

/// Runs a command to its end, which is to be a success, and yields how many seconds it took.
pub fn timed(mut command: Command, name: &str, log: &Path) -> anyhow::Result<f64> {
    let file = fs::File::create(log)?;
    command.stdout(file.try_clone()?).stderr(file);
    let begun = Instant::now();
    let mut child = Guard(command.spawn().with_context(|| format!("start {name}"))?);
    let status = wait_within(MOVE_TIMEOUT, name, || child.0.try_wait().ok().flatten())?;
    let seconds = begun.elapsed().as_secs_f64();
    ensure!(status.success(), "{name} ended with {status}: {}", tail(log, 5));
    Ok(seconds)
}

/// Waits for the end of a process, but not for ever.
pub fn wait_within(
    timeout: Duration,
    name: &str,
    mut ended: impl FnMut() -> Option<ExitStatus>,
) -> anyhow::Result<ExitStatus> {
    let begun = Instant::now();
    loop {
        if let Some(status) = ended() {
            return Ok(status);
        }
        if begun.elapsed() > timeout {
            bail!("{name} has not ended after {} s", timeout.as_secs());
        }
        std::thread::sleep(LOOK);
    }
}

/// A child that ends with its owner.
#[derive(Debug)]
pub struct Guard(pub std::process::Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only where it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
