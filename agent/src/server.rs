//! A connection to one Redis or Valkey server.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use baton_proto::{Fault, HostPort, InstanceName};

/// Where a server is reached from its own host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Tcp(HostPort),
    Unix(PathBuf),
}

/// As whom to log in; the password is never shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub user: Option<String>,
    pub password: Option<String>,
}

pub struct Server {}

/// A server's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Status(String),
    Text(String),
    Number(i64),
    Nil,
    List(Vec<Answer>),
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConnectError {
    /// Nothing listens: no process serves this endpoint.
    #[error("no server is running: {0}")]
    Stopped(String),
    /// Something is there, but does not answer as a server.
    #[error("the server does not answer: {0}")]
    Silent(String),
    /// It answers, and refuses this agent.
    #[error("the server refuses user `{user}`: {error}")]
    Denied { user: String, error: String },
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// The server's own error line, such as `LOADING Redis is loading the dataset in memory`.
    #[error("{0}")]
    Said(String),
    /// No answer: the connection broke, or time ran out.
    #[error("{0}")]
    Lost(String),
}

impl Answer {
    /// The text of a status or string.
    pub fn as_text(&self) -> Option<&str> {
        unimplemented!()
    }
}

impl ServerError {
    /// The first word of the server's error line, `LOADING` or `ERR`.
    pub fn code(&self) -> Option<&str> {
        unimplemented!()
    }

    /// `doing`: what failed, such as `SAVE`.
    pub fn fault(&self, instance: &InstanceName, doing: &str) -> Fault {
        unimplemented!()
    }
}

impl ConnectError {
    pub fn fault(&self, instance: &InstanceName) -> Fault {
        unimplemented!()
    }
}

impl Server {
    pub async fn connect(endpoint: &Endpoint, credentials: &Credentials) -> Result<Server, ConnectError> {
        unimplemented!()
    }

    /// Sends a command, and waits at most [`CALL_TIMEOUT`] for its answer.
    pub async fn call(&mut self, args: &[&str]) -> Result<Answer, ServerError> {
        unimplemented!()
    }

    pub async fn call_within(&mut self, timeout: Duration, args: &[&str]) -> Result<Answer, ServerError> {
        unimplemented!()
    }

    pub async fn info(&mut self) -> Result<String, ServerError> {
        unimplemented!()
    }

    /// `CONFIG GET name`: none where the server does not know it.
    pub async fn config(&mut self, name: &str) -> Result<Option<String>, ServerError> {
        unimplemented!()
    }

    /// `CONFIG GET *`. Passwords are among the values.
    pub async fn all_config(&mut self) -> Result<BTreeMap<String, String>, ServerError> {
        unimplemented!()
    }

    pub async fn set_config(&mut self, name: &str, value: &str) -> Result<(), ServerError> {
        unimplemented!()
    }
}
