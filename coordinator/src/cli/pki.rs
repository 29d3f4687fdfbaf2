//! `coord pki`: makes the private authority and the identities of agents and operators, renews them, and revokes them.

mod agents;

use std::path::PathBuf;

use baton_proto::HostName;
use baton_wire::Role;

use crate::cli::context::Context;
use crate::error::{CoordError, Exit};
use crate::pki::ledger::Ledger;
use crate::pki::{self, OPERATOR_DEFAULT};
use crate::report::console::Console;

#[derive(Debug, Clone, clap::Subcommand)]
pub enum PkiCommand {
    /// Make a private CA, and the operator's identity
    Init {
        /// Directory to make them in
        dir: PathBuf,
    },
    /// Make the identity of a host's agent
    Issue {
        /// The host, as `coord.toml` names it
        host: HostName,
        /// Directory of the CA
        #[arg(long)]
        dir: PathBuf,
        /// File to write: certificate, key and CA certificate, for the agent's owner alone
        #[arg(long)]
        out: PathBuf,
    },
    /// Make the identity of another operator; agents and journals name who gave an order
    Operator {
        /// The operator's name
        name: String,
        /// Directory of the CA
        #[arg(long)]
        dir: PathBuf,
        /// File to write, for that operator alone
        #[arg(long)]
        out: PathBuf,
    },
    /// List the identities that are valid, and when they end
    List {
        /// Directory of the CA
        #[arg(long)]
        dir: PathBuf,
    },
    /// Have agents make new keys, and give them certificates for these, while they run
    Rotate {
        /// Hosts as `coord.toml` names them; none is all
        hosts: Vec<HostName>,
        /// Directory of the CA
        #[arg(long)]
        dir: PathBuf,
        /// Revoke the older certificates of each host as well
        #[arg(long)]
        revoke: bool,
    },
    /// Revoke every certificate of a host or an operator, and tell all agents; its connections end at once
    Revoke {
        /// The host, as `coord.toml` names it
        #[arg(required_unless_present = "operator", conflicts_with = "operator")]
        host: Option<HostName>,
        /// An operator by name, instead of a host
        #[arg(long, value_name = "NAME")]
        operator: Option<String>,
        /// Directory of the CA
        #[arg(long)]
        dir: PathBuf,
    },
    /// Tell the agents again what is revoked: those that did not answer then
    Push {
        /// Directory of the CA
        #[arg(long)]
        dir: PathBuf,
    },
}

impl PkiCommand {
    /// Whether agents are asked.
    pub fn asks_agents(&self) -> bool {
        matches!(self, PkiCommand::Rotate { .. } | PkiCommand::Revoke { .. } | PkiCommand::Push { .. })
    }
}

/// What needs no agent.
pub fn run(command: &PkiCommand, console: Console) -> Result<(), CoordError> {
    match command {
        PkiCommand::Init { dir } => {
            let user = std::env::var("USER").unwrap_or_else(|_| OPERATOR_DEFAULT.into());
            let made = pki::init(dir, &user)?;
            console.event(&serde_json::json!({
                "event": "pki", "authority": made.authority, "operator": made.operator, "name": made.operator_name,
            }));
            console.result(|out| {
                writeln!(out, "CA          {}", made.authority.display())?;
                writeln!(out, "operator    {} (operator {})", made.operator.display(), made.operator_name)?;
                writeln!(out, "next        coord pki issue HOST --dir {} --out HOST.pem", dir.display())
            });
        }
        PkiCommand::Issue { host, dir, out: path } => {
            pki::issue(host, dir, path)?;
            console.event(&serde_json::json!({ "event": "pki", "host": host, "identity": path }));
            console.result(|out| {
                writeln!(out, "identity    {} (agent of {host})", path.display())?;
                writeln!(out, "next        move it to {host}, and name it as `identity` in its agent.toml")
            });
        }
        PkiCommand::Operator { name, dir, out: path } => {
            let name = pki::operator(name, dir, path)?;
            console.event(&serde_json::json!({ "event": "pki", "name": name, "identity": path }));
            console.result(|out| {
                writeln!(out, "identity    {} (operator {name})", path.display())?;
                writeln!(
                    out,
                    "next        move it to where {name} works, and name it as `identity` in coord.toml there"
                )
            });
        }
        PkiCommand::List { dir } => {
            let valid = Ledger::read(dir)?.valid(None, pki::unix_now());
            for identity in &valid {
                console.event(&serde_json::json!({
                    "event": "identity", "role": identity.role, "serial": identity.serial,
                    "expires_unix": identity.expires_unix,
                }));
            }
            console.result(|out| {
                valid.iter().try_for_each(|identity| {
                    let days = identity.expires_unix.saturating_sub(pki::unix_now()) / SECONDS_A_DAY;
                    writeln!(out, "{:<28} {days:>5} days  serial {}", identity.role, identity.serial)
                })
            });
        }
        PkiCommand::Rotate { .. } | PkiCommand::Revoke { .. } | PkiCommand::Push { .. } => {}
    }
    Ok(())
}

pub(crate) const SECONDS_A_DAY: u64 = 24 * 60 * 60;

/// What is done at the agents.
pub async fn run_at_agents(command: &PkiCommand, context: &Context) -> Result<Exit, CoordError> {
    match command {
        PkiCommand::Rotate { hosts, dir, revoke } => agents::rotate(context, hosts, dir, *revoke).await,
        PkiCommand::Revoke { host, operator, dir } => {
            let role = match (host, operator) {
                (Some(host), _) => Role::Agent(host.clone()),
                (None, Some(name)) => Role::Operator(name.clone()),
                (None, None) => return Err(CoordError::usage("name a host, or an operator with --operator")),
            };
            agents::revoke(context, &role, dir).await
        }
        PkiCommand::Push { dir } => agents::push(context, dir).await,
        PkiCommand::Init { .. } | PkiCommand::Issue { .. } | PkiCommand::Operator { .. } | PkiCommand::List { .. } => {
            run(command, context.console).map(|()| Exit::Done)
        }
    }
}
