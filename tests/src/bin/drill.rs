//! The program behind `tests/drill`: plays the stories of some seeds, each in a process of its own, and counts their ends.

use std::collections::{BTreeMap, VecDeque};
use std::process::{Command, ExitCode, Output};
use std::sync::Mutex;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use baton_tests::drill;
use clap::Parser;

/// Plays failovers among random faults, and has a judge look at each end.
#[derive(Parser)]
#[command(name = "tests/drill")]
struct Cli {
    /// How many runs
    #[arg(long, default_value_t = 20, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// The first run's seed, which the others follow [default: drawn]
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// How many are played side by side
    #[arg(long, default_value_t = 2, value_name = "J", value_parser = clap::value_parser!(u64).range(1..))]
    jobs: u64,
    /// Tell the whole story of runs that went well, too
    #[arg(long, short)]
    verbose: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    match if cli.runs == 1 { one(&cli) } else { many(&cli) } {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Seeds that people can read out.
fn drawn() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::from(since.subsec_nanos()) % 1_000_000
}

fn one(cli: &Cli) -> anyhow::Result<bool> {
    let report = drill::run(cli.seed.unwrap_or_else(drawn));
    print!("{report}");
    Ok(!report.failed)
}

fn many(cli: &Cli) -> anyhow::Result<bool> {
    let first = cli.seed.unwrap_or_else(drawn);
    println!("{} runs from seed {first}, {} side by side", cli.runs, cli.jobs);
    let seeds: VecDeque<u64> = (0..cli.runs).map(|number| first.wrapping_add(number)).collect();
    let (seeds, outcomes) = (Mutex::new(seeds), Mutex::new(BTreeMap::<String, Vec<u64>>::new()));
    let failed = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        let work = || -> anyhow::Result<()> {
            loop {
                let Some(seed) = seeds.lock().unwrap().pop_front() else { return Ok(()) };
                let output = play(seed)?;
                let text = String::from_utf8_lossy(&output.stdout);
                let headline = text.lines().find(|line| line.contains(" seed ")).unwrap_or("FAIL: it told nothing");
                let outcome = headline.split_once(": ").and_then(|(_, rest)| rest.split(',').next());
                let outcome = outcome.unwrap_or("broke off").to_owned();
                // One run's words at a time.
                let mut outcomes = outcomes.lock().unwrap();
                if output.status.success() && !cli.verbose {
                    println!("{headline}");
                } else {
                    println!("{text}{}", String::from_utf8_lossy(&output.stderr));
                }
                if !output.status.success() {
                    failed.lock().unwrap().push(seed);
                }
                outcomes.entry(outcome).or_default().push(seed);
            }
        };
        let workers: Vec<_> = (0..cli.jobs).map(|_| scope.spawn(work)).collect();
        workers.into_iter().try_for_each(|worker| worker.join().expect("a worker does not panic"))
    })?;
    let (outcomes, mut failed) = (outcomes.into_inner().unwrap(), failed.into_inner().unwrap());
    failed.sort_unstable();
    let told: Vec<String> = outcomes.iter().map(|(outcome, seeds)| format!("{} {outcome}", seeds.len())).collect();
    println!("\n{} runs: {}; {} failed", cli.runs, told.join(", "), failed.len());
    failed.iter().for_each(|seed| println!("  tests/drill --seed {seed} --runs 1"));
    Ok(failed.is_empty())
}

/// One run, in a process of its own: addresses and panics are its own as well.
fn play(seed: u64) -> anyhow::Result<Output> {
    let own = std::env::current_exe().context("find the own program")?;
    let mut command = Command::new(own);
    command.args(["--runs", "1", "--seed", &seed.to_string()]);
    command.output().context("start a run")
}
