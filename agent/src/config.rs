//! `agent.toml`: where the agent listens, who it is, and the instances of its host.
//!
//! ```toml
//! listen = "10.77.0.2:7400"
//! identity = "machine-b.pem"            # made by `coord pki issue`
//! state = "/var/lib/baton"              # else $STATE_DIRECTORY, else state-machine-b beside this file
//! disk_reserve = "512MiB"               # disk and memory that Baton leaves free
//! memory_reserve = "256MiB"
//! lanes = 2                             # connections that a pull uses; else half of the cores, 4 at most
//!
//! [[instance]]
//! name = "default"
//! config = "/etc/redis/redis.conf"
//! service = { exec = ["redis-server", "/etc/redis/redis.conf"] }
//! ```
//!
//! Relative paths are relative to the directory of `agent.toml`. A mistake is told with file, line and column. Not here:
//! whether the files that are named exist; they may come later than the agent.

mod file;
pub mod options;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use baton_proto::{HostPort, InstanceName};

/// A valid `agent.toml`, defaults filled in; every path is absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    pub listen: SocketAddr,
    pub identity: PathBuf,
    /// Where the agent keeps what it must not forget: fence notes, logs of the servers that it starts.
    pub state: PathBuf,
    pub disk_reserve_bytes: u64,
    pub memory_reserve_bytes: u64,
    /// Connections that a pull uses, each with a socket of its own.
    pub lanes: usize,
    /// Where pages for monitoring are served, over plain HTTP.
    pub metrics: Option<SocketAddr>,
    pub log: LogFormat,
    pub instances: Vec<InstanceConfig>,
}

/// In which form the agent logs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line of words, for people.
    #[default]
    Text,
    /// An object a line, for programs.
    Json,
}

/// One `[[instance]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceConfig {
    pub name: InstanceName,
    /// The server's `redis.conf`.
    pub config: PathBuf,
    /// Where other hosts reach it, if `redis.conf` does not say so.
    pub address: Option<HostPort>,
    /// The user as whom the agent logs in, if not the default user.
    pub user: Option<String>,
    /// The file that holds that user's password, if it is not `requirepass` of `redis.conf`.
    pub password_file: Option<PathBuf>,
    /// Authorities that are trusted beside those of `redis.conf` when the agent speaks TLS to the server.
    pub tls_ca: Option<PathBuf>,
    pub service: ServiceConfig,
}

/// How the server is started and stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceConfig {
    /// The agent starts this program itself.
    Exec(Vec<String>),
    /// A systemd unit, suffix included.
    Systemd(String),
    /// Programs of the operator's own.
    Command { start: Vec<String>, stop: Vec<String>, status: Vec<String> },
}

/// What is wrong with an `agent.toml`, and where.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    #[error("read {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}:{line}:{column}: {message}", path.display())]
    Invalid { path: PathBuf, line: usize, column: usize, message: String },
}

/// Largest `agent.toml` read: hundreds of instances fit into a hundredth of it.
const FILE_BYTES_MAX: u64 = 1 << 20;

impl AgentConfig {
    /// Reads and checks an `agent.toml`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let failed = |source| ConfigError::Read { path: path.to_owned(), source };
        let text = read_bounded(path).map_err(failed)?;
        let absolute = std::path::absolute(path).map_err(failed)?;
        let directory = absolute.parent().unwrap_or(&absolute);
        let state_directory = std::env::var_os("STATE_DIRECTORY").map(PathBuf::from);
        Self::parse(&text, directory, state_directory.as_deref()).map_err(|mistake| {
            let (line, column) = mistake.line_and_column(&text);
            ConfigError::Invalid { path: path.to_owned(), line, column, message: mistake.message }
        })
    }

    /// Checks the text of an `agent.toml` that stands in the directory `base`. `state_directory` is what systemd offers
    /// in `$STATE_DIRECTORY`.
    pub fn parse(text: &str, base: &Path, state_directory: Option<&Path>) -> Result<Self, Mistake> {
        file::parse(text, base, state_directory)
    }
}

fn read_bounded(path: &Path) -> std::io::Result<String> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(std::io::Error::other(format!("it is larger than {FILE_BYTES_MAX} bytes")));
    }
    Ok(text)
}

/// A mistake in the text, at a byte offset.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Mistake {
    pub offset: usize,
    pub message: String,
}

impl Mistake {
    /// Counts lines and characters from one, as editors do.
    pub fn line_and_column(&self, text: &str) -> (usize, usize) {
        let before: Vec<char> = text.char_indices().take_while(|(at, _)| *at < self.offset).map(|(_, c)| c).collect();
        let line = before.iter().filter(|c| **c == '\n').count();
        let column = before.iter().rev().take_while(|c| **c != '\n').count();
        (line + 1, column + 1)
    }
}

#[cfg(test)]
mod tests;
