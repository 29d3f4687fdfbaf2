//! `coord pki`: makes the private authority, and the identities of agents.

use std::path::PathBuf;

use baton_proto::HostName;

use crate::error::CoordError;
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
}

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
    }
    Ok(())
}
