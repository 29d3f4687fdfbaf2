//! The command line: one verb a file.

pub mod batch;
pub mod checks;
pub mod clone;
pub mod context;
pub mod copy;
mod ended;
pub mod execute;
pub mod failover;
pub mod install;
pub mod moving;
pub mod pki;
pub mod rate;
pub mod rejoin;
pub mod resume;
pub mod runs;
mod signals;
pub mod status;
pub mod switchover;
mod trials;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::cli::context::Context;
use crate::error::{CoordError, Exit};
use crate::inventory::options;
use crate::report::console::Console;
use crate::run::Aim;

#[derive(Parser)]
#[command(name = "coord", version, about = "Replace a lost Redis or Valkey primary without losing the last copy")]
struct Cli {
    /// The file that lists the hosts [default: ./coord.toml, ~/.config/baton/coord.toml, /etc/baton/coord.toml]
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Write one JSON object a line to stdout
    #[arg(long, global = true)]
    json: bool,
    /// Tell more, such as how the snapshot was packed and why so
    #[arg(long, short = 'v', global = true)]
    verbose: bool,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Show every group, who is its primary, and how it stands
    Status(status::StatusArgs),
    /// Replace a lost primary
    Failover(failover::FailoverArgs),
    /// Hand the role of a primary that lives to one of its replicas, without losing a write
    Switchover(switchover::SwitchoverArgs),
    /// Move a snapshot from one host to another; no role changes
    Copy(copy::CopyArgs),
    /// Build a new replica of a server that runs, without sending its data twice
    Clone(clone::CloneArgs),
    /// Make a primary that was replaced, or a replica that was left behind, a replica again, with what it holds saved aside
    Rejoin(rejoin::RejoinArgs),
    /// Go on with a run that stopped half-way
    Resume(resume::ResumeArgs),
    /// Undo a run that stopped half-way, as far as it can be
    Abort(resume::ResumeArgs),
    /// Change how fast a run's snapshot is sent, while it is
    Rate(rate::RateArgs),
    /// List every check that is made before anything is changed
    Checks(checks::ChecksArgs),
    /// List the runs of this machine, newest first
    Runs(runs::RunsArgs),
    /// Show a run's plan and journal
    Show(runs::ShowArgs),
    /// Make the private CA and the identities of operators and agents
    #[command(subcommand)]
    Pki(pki::PkiCommand),
    /// Install, upgrade or repair the agent of a host over ssh, and add the host to coord.toml
    Install(install::InstallArgs),
    /// Write man pages, shell completions and a commented coord.toml
    #[command(hide = true)]
    Papers {
        /// Directory to write them in
        dir: PathBuf,
    },
}

/// Runs the command line and yields the process's exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let console = Console { json: cli.json, verbose: cli.verbose };
    let exit = run(cli, console).unwrap_or_else(|error| {
        if !error.told {
            console.event(&error.event());
        }
        console.note(|mut out| error.write(&mut out));
        error.exit
    });
    exit.into()
}

fn run(cli: Cli, console: Console) -> Result<Exit, CoordError> {
    let config = cli.config.as_deref();
    match &cli.verb {
        Verb::Pki(command) if !command.asks_agents() => return pki::run(command, console).map(|()| Exit::Done),
        Verb::Checks(args) => {
            checks::run(args, console);
            return Ok(Exit::Done);
        }
        Verb::Runs(args) if !args.agents => return runs::list(config, console),
        Verb::Papers { dir } => return papers(dir),
        Verb::Install(args) => return install::run(config, args, console),
        Verb::Status(_)
        | Verb::Failover(_)
        | Verb::Switchover(_)
        | Verb::Copy(_)
        | Verb::Clone(_)
        | Verb::Rejoin(_)
        | Verb::Resume(_)
        | Verb::Abort(_)
        | Verb::Runs(_)
        | Verb::Show(_)
        | Verb::Pki(_)
        | Verb::Rate(_) => {}
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| CoordError::new(Exit::Defect, "start the runtime").because(error))?;
    runtime.block_on(async {
        let context = Context::open(config, console)?;
        match &cli.verb {
            Verb::Status(args) => {
                let shown = status::run(args, &context.inventory, &context.agents, console).await;
                shown.map(|()| Exit::Done)
            }
            Verb::Failover(args) => failover::run(&context, args).await,
            Verb::Switchover(args) => switchover::run(&context, args).await,
            Verb::Copy(args) => copy::run(&context, args).await,
            Verb::Clone(args) => clone::run(&context, args).await,
            Verb::Rejoin(args) => rejoin::run(&context, args).await,
            Verb::Resume(args) => resume::run(&context, args, Aim::Resume).await,
            Verb::Abort(args) => resume::run(&context, args, Aim::Abort).await,
            Verb::Runs(_) => runs::list_everywhere(&context).await,
            Verb::Show(args) => runs::show(&context, args).await,
            Verb::Rate(args) => rate::run(&context, args).await,
            Verb::Pki(command) => pki::run_at_agents(command, &context).await,
            Verb::Checks(_) | Verb::Install(_) | Verb::Papers { .. } => Ok(Exit::Done),
        }
    })
}

fn papers(dir: &Path) -> Result<Exit, CoordError> {
    let written = baton_manual::write(dir, &mut Cli::command(), &options::FILE);
    written.map(|()| Exit::Done).map_err(|error| CoordError::usage(format!("write below {}: {error}", dir.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guide_tells_of_every_command_and_every_exit_code() {
        let guide = include_str!("../../docs/guide.md");
        let command = Cli::command();
        let mut missing = Vec::new();
        for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
            let nested = verb.get_subcommands().map(|inner| format!("`coord {} {}", verb.get_name(), inner.get_name()));
            let names: Vec<_> = std::iter::once(format!("`coord {}", verb.get_name())).chain(nested).collect();
            missing.extend(names.into_iter().filter(|name| !guide.contains(name.as_str())));
        }
        assert_eq!(missing, Vec::<String>::new());
        let exits = [
            Exit::Done,
            Exit::Defect,
            Exit::Usage,
            Exit::Preflight,
            Exit::Refused,
            Exit::Degraded,
            Exit::RolledBack,
            Exit::Halted,
            Exit::Mismatch,
            Exit::Interrupted,
        ];
        for exit in exits {
            assert!(guide.contains(&format!("\n| {} |", exit as u8)), "exit code {}", exit as u8);
        }
    }
}
