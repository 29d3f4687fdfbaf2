//! `redis.conf`.

use std::path::{Path, PathBuf};

use baton_proto::HostPort;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisConf {}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unimplemented")]
pub struct ConfError;

impl RedisConf {
    /// The arguments of a directive's last occurrence; aliases (`slaveof`, `primaryauth`) are found under the name that
    /// `replicaof` and `masterauth` have.
    pub fn last(&self, name: &str) -> Option<&[String]> {
        unimplemented!()
    }

    pub fn port(&self) -> u16 {
        unimplemented!()
    }

    /// As written, with `-` prefixes. Empty: all interfaces.
    pub fn bind(&self) -> Vec<String> {
        unimplemented!()
    }

    pub fn dir(&self) -> PathBuf {
        unimplemented!()
    }

    pub fn dbfilename(&self) -> String {
        unimplemented!()
    }

    pub fn appendonly(&self) -> bool {
        unimplemented!()
    }

    pub fn replica_of(&self) -> Option<HostPort> {
        unimplemented!()
    }
}
