//! Why a server could not be talked to, or did not do what it was asked.

use baton_proto::{Fault, FaultKind, InstanceName};

/// Why there is no connection.
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

/// Why a command has no answer of use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ServerError {
    /// The server's own error line, such as `LOADING Redis is loading the dataset in memory`.
    #[error("{0}")]
    Said(String),
    /// No answer: the connection broke, or time ran out.
    #[error("{0}")]
    Lost(String),
}

impl ConnectError {
    /// The same for the wire.
    pub fn fault(&self, instance: &InstanceName) -> Fault {
        match self {
            Self::Stopped(reason) => {
                Fault::new(FaultKind::Server, format!("no server is running for instance `{instance}`")).because(reason)
            }
            Self::Silent(reason) => {
                Fault::new(FaultKind::Server, format!("the server of instance `{instance}` does not answer")).because(reason)
            }
            Self::Denied { user, error } => {
                Fault::new(FaultKind::Server, format!("the server of instance `{instance}` refuses user `{user}`"))
                    .because(error)
                    .hint("set `requirepass` in redis.conf, or `user` and `password_file` in agent.toml, to what the server wants")
            }
        }
    }
}

impl ServerError {
    /// The first word of the server's error line, `LOADING` or `ERR`.
    pub fn code(&self) -> Option<&str> {
        match self {
            Self::Said(line) => line.split_whitespace().next(),
            Self::Lost(_) => None,
        }
    }

    /// The same for the wire; `doing` is what was asked, such as `SAVE`.
    pub fn fault(&self, instance: &InstanceName, doing: &str) -> Fault {
        let (verb, why) = match self {
            Self::Said(line) => ("refused", line),
            Self::Lost(reason) => ("did not answer", reason),
        };
        let fault =
            Fault::new(FaultKind::Server, format!("the server of instance `{instance}` {verb} {doing}")).because(why);
        match self.code() {
            Some("NOPERM") => {
                fault.hint("allow this command to the agent's user, or give the agent another one in agent.toml")
            }
            Some("LOADING") => fault.hint("wait until the server has loaded its data"),
            _ => fault,
        }
    }
}
