//! The program behind `tests/bench`: what to measure, from the command line; then the tables.

use std::path::Path;
use std::process::ExitCode;

use baton_tests::bench::files::FileKind;
use baton_tests::bench::measure::failover::Way;
use baton_tests::bench::measure::{
    Setting, civility, clone, failover, fifty, latency, links, memory, resume, save, switchover,
};
use baton_tests::bench::network::{GIGABIT, KINDS, Kind, UNSHAPED, WAN};
use baton_tests::bench::peers::{PEERS, Peer};
use baton_tests::bench::report::{self, Section};
use baton_tests::dataset::Mix;
use baton_tests::servers::ServerProgram;
use clap::{Parser, Subcommand};

/// What --quick moves, unless told otherwise.
const QUICK_FILE: FileKind = FileKind::new(Mix::Mixed, 60);
const REPETITIONS: usize = 3;
const RESULTS: &str = "BENCHMARKS.md";

/// Measures Baton beside scp, rsync and zstd over links of our own, and what it costs. Without a command: everything.
#[derive(Parser)]
#[command(name = "tests/bench")]
struct Cli {
    /// Only show that the benchmark works: 60 MB, one link, one run
    #[arg(long, global = true)]
    quick: bool,
    /// Put the results into BENCHMARKS.md
    #[arg(long, global = true)]
    write: bool,
    /// How often each figure is measured
    #[arg(long, global = true, value_name = "N")]
    repetitions: Option<usize>,
    /// Congestion control of TCP [default: the machine's own]
    #[arg(long, global = true, value_name = "NAME")]
    tcp: Option<String>,
    /// What to move: mixed-525, json-2000, random-60 ... (several times for several)
    #[arg(long = "file", global = true, value_name = "FILE")]
    files: Vec<FileKind>,
    /// Over what: gigabit, wan, lossy, unshaped (`links` takes several)
    #[arg(long = "link", global = true, value_name = "LINK", value_parser = Kind::named)]
    links: Vec<Kind>,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Subcommand, Clone)]
enum What {
    /// Every peer on every link with every file
    Links {
        /// Who moves: scp, rsync, socket, baton (several times for several)
        #[arg(long = "peer", value_name = "PEER", value_parser = Peer::named)]
        peers: Vec<Peer>,
    },
    /// Peak memory of the agents, with a small and a large file
    Rss,
    /// Packets lost, delay added, and the share beside a TCP flow
    Civility,
    /// An agent killed half-way
    Resume,
    /// A copy with a fresh save
    Save,
    /// Readers of a live source
    Latency,
    /// A lost primary is replaced: by hand, by the servers' own resync, and by Baton
    Failover {
        /// Which way: scp, rsync, native, native-at-once, file, live (several times for several)
        #[arg(long = "way", value_name = "WAY", value_parser = Way::named)]
        ways: Vec<Way>,
    },
    /// A replica is built of a primary that is written to: by a full resync, and by Baton
    Clone,
    /// How long writes are blocked while a live primary hands over
    Switchover,
    /// Fifty servers on three hosts: a look at them, and all primaries of one host replaced
    Fifty,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let chosen = std::env::var("BATON_SERVER").ok();
    let program = ServerProgram::chosen(chosen.as_deref()).map_err(anyhow::Error::msg)?;
    let machine = report::machine(&program);
    println!("{machine}\n");
    let repetitions = cli.repetitions.unwrap_or(if cli.quick { 1 } else { REPETITIONS });
    anyhow::ensure!(repetitions > 0, "--repetitions 0 measures nothing");
    let mut files = cli.files.clone();
    if cli.quick && files.is_empty() {
        files.push(QUICK_FILE);
    }
    let setting = Setting { program, repetitions, tcp: cli.tcp.clone(), files, link: cli.links.first().copied() };
    let everything = [
        What::Links { peers: Vec::new() },
        What::Rss,
        What::Civility,
        What::Resume,
        What::Save,
        What::Latency,
        What::Failover { ways: Vec::new() },
        What::Clone,
        What::Switchover,
        What::Fifty,
    ];
    let parts = match &cli.what {
        Some(what) => vec![what.clone()],
        // The others need a file that takes some time, and are no proof of anything with this one.
        None if cli.quick => vec![What::Links { peers: Vec::new() }],
        None => everything.to_vec(),
    };
    let (mut sections, mut failed) = (Vec::new(), None);
    for part in parts {
        match measure(&part, cli, &setting) {
            Ok(section) => {
                println!("{section}");
                sections.push(section);
            }
            // What was measured so far is not thrown away.
            Err(error) => {
                eprintln!("error: {error:#}");
                failed = Some(error);
            }
        }
    }
    if cli.write {
        report::write(Path::new(RESULTS), &sections, &machine)?;
        println!("written to {RESULTS}");
    }
    let broken: Vec<&String> =
        sections.iter().flat_map(|section| &section.notes).filter(|note| note.starts_with("failed")).collect();
    match failed {
        Some(error) => Err(error.context("a measurement could not be made")),
        // A quick run is a test of the benchmark itself.
        None if cli.quick && !broken.is_empty() => anyhow::bail!("{} of the runs failed", broken.len()),
        None => Ok(()),
    }
}

fn measure(part: &What, cli: &Cli, setting: &Setting) -> anyhow::Result<Section> {
    match part {
        What::Links { peers } => {
            let own = if cli.quick { vec![GIGABIT] } else { KINDS.to_vec() };
            let links = if cli.links.is_empty() { own } else { cli.links.clone() };
            let peers = if peers.is_empty() { PEERS.to_vec() } else { peers.clone() };
            links::run(setting, &links, &peers)
        }
        What::Rss => memory::run(setting),
        What::Civility => civility::run(setting),
        What::Resume => resume::run(setting),
        What::Save => save::run(setting),
        What::Latency => latency::run(setting),
        What::Failover { ways } => {
            let own = [GIGABIT, WAN, UNSHAPED];
            let ways = if ways.is_empty() { &failover::WAYS } else { ways.as_slice() };
            failover::run(setting, if cli.links.is_empty() { &own } else { &cli.links }, ways)
        }
        What::Clone => clone::run(setting),
        What::Switchover => switchover::run(setting),
        What::Fifty => fifty::run(setting),
    }
}
