//! `agent.toml`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use baton_proto::{HostPort, InstanceName};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentConfig {
    pub listen: SocketAddr,
    pub identity: PathBuf,
    pub state: PathBuf,
    pub disk_reserve_bytes: u64,
    pub memory_reserve_bytes: u64,
    pub instances: Vec<InstanceConfig>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstanceConfig {
    pub name: InstanceName,
    pub config: PathBuf,
    pub address: Option<HostPort>,
    pub user: Option<String>,
    pub password_file: Option<PathBuf>,
    pub service: ServiceConfig,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceConfig {
    Exec(Vec<String>),
    Systemd(String),
    Command { start: Vec<String>, stop: Vec<String>, status: Vec<String> },
}

#[derive(Debug, thiserror::Error)]
#[error("unimplemented")]
pub struct ConfigError;

impl AgentConfig {
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        unimplemented!()
    }
}
