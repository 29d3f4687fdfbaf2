//! The agent's command line.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};

use crate::config::{AgentConfig, LogFormat, options};
use crate::{discover, log, serve};

#[derive(Parser)]
#[command(
    name = "baton-agent",
    version,
    about = "Observe and control the Redis or Valkey servers of this host for Baton"
)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run the agent until it is told to stop
    Run {
        /// The agent's configuration file
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Find the Redis and Valkey servers of this host, and print their tables for agent.toml
    Discover {
        /// Add what is missing to this agent.toml; it is made if it is not there
        #[arg(long, value_name = "FILE")]
        write: Option<PathBuf>,
    },
    /// Write man pages, shell completions and a commented agent.toml
    #[command(hide = true)]
    Papers {
        /// Directory to write them in
        dir: PathBuf,
    },
}

/// The configuration or identity is wrong: nothing was begun.
const EXIT_USAGE: u8 = 2;

/// Runs the command line and yields the process's exit code.
pub fn main() -> ExitCode {
    let config = match Cli::parse().verb {
        Verb::Run { config } => config,
        Verb::Discover { write } => return discover::cli::run(write.as_deref()),
        Verb::Papers { dir } => return papers(&dir),
    };
    let config = AgentConfig::load(&config);
    log::begin(config.as_ref().map_or_else(|_| LogFormat::default(), |config| config.log));
    let config = match config {
        Ok(config) => config,
        Err(error) => return fail(&error.into(), EXIT_USAGE),
    };
    let runtime = match runtime() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into(), 1),
    };
    match runtime.block_on(async { serve::run(config, stop_signal()?.wait()).await }) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, EXIT_USAGE),
    }
}

fn papers(dir: &Path) -> ExitCode {
    match baton_manual::write(dir, &mut Cli::command(), &options::FILE) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&anyhow::Error::from(error).context(format!("write below {}", dir.display())), 1),
    }
}

/// With so many cores the connections of a transfer, one a lane, are served by several threads. With fewer these would only
/// take turns with those that pack, and an acknowledgement that waits for a core costs more than a second thread gains.
const CORES_FOR_THREADS: usize = 4;

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut builder = match cores {
        CORES_FOR_THREADS.. => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    builder.enable_all().build()
}

struct StopSignal {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

fn stop_signal() -> std::io::Result<StopSignal> {
    Ok(StopSignal { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
}

impl StopSignal {
    async fn wait(mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

fn fail(error: &anyhow::Error, code: u8) -> ExitCode {
    tracing::error!("{error}");
    for cause in error.chain().skip(1) {
        tracing::error!("caused by: {cause}");
    }
    ExitCode::from(code)
}
