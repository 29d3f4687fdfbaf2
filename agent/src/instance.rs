//! One configured instance: where it is, how to talk to it, and the lock under which it is changed.

use std::path::{Path, PathBuf};

use baton_proto::report::Running;
use baton_proto::{Fault, HostPort, InstanceName};
use tokio::sync::MutexGuard;

use crate::config::{AgentConfig, InstanceConfig};
use crate::redis_conf::RedisConf;
use crate::server::{ConnectError, Server};

pub struct Instance {}

/// Where the server keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFiles {
    pub dir: PathBuf,
    /// Names within `dir`.
    pub dbfilename: String,
    /// The append-only file, before Redis 7.0 (later versions convert it).
    pub appendfilename: String,
    /// The append-only directory, from Redis 7.0 on.
    pub appenddirname: String,
}

impl DataFiles {
    pub fn dump(&self) -> PathBuf {
        self.dir.join(&self.dbfilename)
    }
}

impl Instance {
    pub fn new(config: InstanceConfig, agent: &AgentConfig) -> Instance {
        unimplemented!()
    }

    pub fn name(&self) -> &InstanceName {
        unimplemented!()
    }

    pub fn config(&self) -> &InstanceConfig {
        unimplemented!()
    }

    pub fn state_dir(&self) -> &Path {
        unimplemented!()
    }

    /// The directory of `redis.conf`: the working directory of a server that this agent starts.
    pub fn conf_dir(&self) -> &Path {
        unimplemented!()
    }

    pub async fn connect(&self) -> Result<Server, ConnectError> {
        unimplemented!()
    }

    /// Connects, and reads `INFO`.
    pub async fn running(&self) -> Result<Running, Fault> {
        unimplemented!()
    }

    /// Reads `redis.conf` from disk, afresh at each call.
    pub fn conf(&self) -> Result<RedisConf, Fault> {
        unimplemented!()
    }

    /// Where other hosts reach this instance.
    pub fn address(&self, conf: &RedisConf) -> HostPort {
        unimplemented!()
    }

    /// From the running server where it answers, else from `redis.conf`.
    pub async fn data_files(&self) -> Result<DataFiles, Fault> {
        unimplemented!()
    }

    /// One action at a time works on an instance.
    pub async fn lock(&self) -> MutexGuard<'_, ()> {
        unimplemented!()
    }
}
