//! The demonstration that `tests/demo` runs: hosts A, B and C on loopback addresses of their own, real data in A, A lost,
//! and what an operator then types. It shows what was there before and after, and fails when they differ.

use std::fs::{self, File};
use std::io;
use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail, ensure};
use baton_tests::content::Content;
use baton_tests::dataset::Dataset;
use baton_tests::host::{AGENT_PORT, Host, SERVER_PORT};
use baton_tests::process::{hermetic, working_below};
use baton_tests::programs;
use baton_tests::servers::ServerProgram;
use baton_tests::world::{A, B, C, World};
use serde_json::Value;

const HOSTS: [(&str, Ipv4Addr); 3] =
    [(A, Ipv4Addr::new(127, 0, 0, 11)), (B, Ipv4Addr::new(127, 0, 0, 12)), (C, Ipv4Addr::new(127, 0, 0, 13))];
const MEGABYTES: u64 = 200;
const FAILOVER: [&str; 4] = ["failover", A, "--to", C];

fn main() -> ExitCode {
    match demonstrate() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate() -> anyhow::Result<()> {
    let chosen = std::env::var("BATON_SERVER").ok();
    let program = ServerProgram::chosen(chosen.as_deref()).map_err(anyhow::Error::msg)?;
    let megabytes = match std::env::var("BATON_DEMO_MB") {
        Ok(text) => text.parse().with_context(|| format!("BATON_DEMO_MB={text} is no number"))?,
        Err(_) => MEGABYTES,
    };
    println!("Baton's demonstration, on {} ({})", program.version, program.path.display());
    with_data(&program, megabytes)?;
    without_data(&program)
}

/// The main job.
fn with_data(program: &ServerProgram, megabytes: u64) -> anyhow::Result<()> {
    let world = three_hosts(program)?;
    title("A is the primary, B its replica, C has a server installed; each has an agent");
    world
        .hosts()
        .iter()
        .for_each(|host| println!("  {}: {}, agent {}", host.name, host.address(), host.agent_address()));
    world.start();
    let begun = Instant::now();
    let keys = Dataset::mixed(1, megabytes * 1_000_000).load(&mut world.a().client());
    let (count, seconds) = (keys.values().sum::<u64>(), begun.elapsed().as_secs_f64());
    world.b().await_in_sync_with(world.a());
    println!("  loaded {count} keys, {megabytes} MB, into A in {seconds:.1} s; B is in sync");
    operator(&world, &["status"])?;

    title("Before");
    let before = world.b().content();
    show(&[("A", world.a().content()), ("B", before.clone())]);

    title("A is lost: its server and its agent are killed");
    world.lose_a();
    operator(&world, &["status"])?;
    operator(&world, &[&FAILOVER[..], &["--dry-run"]].concat())?;
    let witness = Witness::of(&world);
    let begun = Instant::now();
    operator(&world, &[&FAILOVER[..], &["--yes"]].concat())?;
    let seconds = begun.elapsed().as_secs_f64();
    operator(&world, &["status"])?;

    title("After");
    let told = last_result(&world)?;
    let computed = hash_of(&witness.testify()?)?;
    world.b().await_in_sync_with(world.c());
    let (b, c) = (world.b().content(), world.c().content());
    show(&[("B before", before.clone()), ("B", b.clone()), ("C", c.clone())]);
    ensure!(b == before && c == before, "the data is not what it was");
    println!("  B and C hold what B held before");
    println!("  BLAKE3 of the snapshot, as coord tells:       {}", told["blake3"].as_str().unwrap_or("nothing"));
    println!("  BLAKE3 of the file that B saved, hashed here: {computed}");
    ensure!(told["blake3"] == computed.as_str(), "the hashes differ");
    let resync = told["resync"].as_str().unwrap_or("unknown");
    if resync == "partial" {
        let landed = hash_of(&world.c().dump_path())?;
        println!("  BLAKE3 of dump.rdb on C, hashed here:         {landed}");
        ensure!(landed == computed, "the file on C is another");
    } else {
        println!("  (the full resync made C save anew, so its dump.rdb is another by now)");
    }
    println!("  resync {resync}; {seconds:.1} s in all");
    end(world)
}

/// How long a failover takes by itself: with no data to move.
fn without_data(program: &ServerProgram) -> anyhow::Result<()> {
    title("The same with an empty data set: what the failover takes by itself");
    let world = three_hosts(program)?;
    world.start();
    world.lose_a();
    let begun = Instant::now();
    operator(&world, &[&FAILOVER[..], &["--yes"]].concat())?;
    let seconds = begun.elapsed().as_secs_f64();
    world.c().kill_server();
    let begun = Instant::now();
    world.c().start_server();
    let start = begun.elapsed().as_secs_f64();
    println!("  the failover took {seconds:.2} s; C's server alone takes {start:.2} s to start");
    println!("  beyond the server's own start: {:.2} s", seconds - start);
    end(world)
}

fn three_hosts(program: &ServerProgram) -> anyhow::Result<World> {
    for (name, ip) in HOSTS {
        let taken = |what: &str| format!("{name} needs {what} of {ip} for itself: end what listens there");
        TcpListener::bind((ip, SERVER_PORT)).with_context(|| taken("TCP port 6379"))?;
        UdpSocket::bind((ip, AGENT_PORT)).with_context(|| taken("UDP port 7400"))?;
    }
    let mut world = World::new();
    for (name, ip) in HOSTS {
        world.add_at(name, ip, program);
    }
    world.replicate(B, A);
    Ok(world)
}

/// Runs what an operator types, with its output as the operator sees it.
fn operator(world: &World, args: &[&str]) -> anyhow::Result<()> {
    println!("\n$ coord {}", args.join(" "));
    let status = coord(world, args).status().context("run coord")?;
    ensure!(status.success(), "`coord {}` ended with {status}", args.join(" "));
    Ok(())
}

fn coord(world: &World, args: &[&str]) -> Command {
    let mut command = hermetic(&programs::coord(), world.dir());
    command.args(args);
    command
}

/// The result of the newest run, out of its journal. `coord runs` lists the newest first.
fn last_result(world: &World) -> anyhow::Result<Value> {
    let lines = |args: &[&str]| -> anyhow::Result<Vec<Value>> {
        let output = coord(world, args).output().context("run coord")?;
        let text = String::from_utf8(output.stdout).context("read what coord says")?;
        text.lines().map(|line| serde_json::from_str(line).with_context(|| format!("read `{line}`"))).collect()
    };
    let runs = lines(&["runs", "--json"])?;
    let Some(run) = runs.first().and_then(|run| run["run"].as_str()) else { bail!("`coord runs` lists no run") };
    let events = lines(&["show", run, "--json"])?;
    let result = events.into_iter().rfind(|event| event["event"] == "result");
    result.with_context(|| format!("`coord show {run}` has no result"))
}

/// Keeps the file that B saves, before the run lets go of it: a hard link to the run's own.
struct Witness(JoinHandle<io::Result<PathBuf>>);

impl Witness {
    fn of(world: &World) -> Self {
        let (dir, kept) = (world.b().data_dir(), world.dir().join("saved-by-b.rdb"));
        Self(thread::spawn(move || {
            loop {
                for entry in fs::read_dir(&dir)? {
                    let path = entry?.path();
                    if path.to_string_lossy().ends_with(".pin.rdb") {
                        fs::hard_link(path, &kept)?;
                        return Ok(kept);
                    }
                }
                thread::sleep(Duration::from_millis(10));
            }
        }))
    }

    fn testify(self) -> anyhow::Result<PathBuf> {
        ensure!(self.0.is_finished(), "B's agent pinned no snapshot");
        let kept = self.0.join().map_err(|_| anyhow!("the witness panicked"))?;
        kept.context("keep the file that B saved")
    }
}

fn hash_of(path: &Path) -> anyhow::Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    io::copy(&mut file, &mut hasher).with_context(|| format!("read {}", path.display()))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Ends a world, and makes sure that nothing of it is left.
fn end(world: World) -> anyhow::Result<()> {
    let dir = world.dir().to_owned();
    world.hosts().iter().for_each(Host::lose);
    drop(world);
    ensure!(working_below(&dir).is_empty() && !dir.exists(), "something is left of {}", dir.display());
    Ok(())
}

fn title(text: &str) {
    println!("\n== {text}");
}

fn show(contents: &[(&str, Content)]) {
    for (name, content) in contents {
        println!("  {name:9} {:9} keys, by database {:?}", content.total(), content.keys);
        println!("            digest {}", content.digest);
    }
}
