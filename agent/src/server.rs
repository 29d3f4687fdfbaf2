//! A connection to one Redis or Valkey server of this host. The only module that knows the Redis client.
//!
//! A connection is made in steps, so that each failure is told apart: the socket (nothing listens: stopped), the
//! TLS where it is spoken, the greeting (`AUTH`, `PING`: refused, silent, or alive), and only then the client. A server that is loading, or whose
//! primary is down, is alive. Not here: which server, and with what password; see [`crate::instance`].

mod connect;
mod errors;
pub(crate) mod greeting;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use baton_proto::HostPort;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisConnectionInfo, RedisError, Value};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(crate) use connect::{BareStream, connect_bare};
pub use errors::{ConnectError, ServerError};

use crate::tls;

/// How long an ordinary command may take. While loading, a server answers between its pieces of work only, and a big
/// key is one piece.
pub const CALL_TIMEOUT: Duration = Duration::from_secs(5);

/// Where a server is reached from its own host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    Tcp(HostPort),
    Tls(HostPort, Box<tls::Files>),
    Unix(PathBuf),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Tls(address, _) => write!(f, "{address} (TLS)"),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// As whom to log in. Without a password the server is greeted without `AUTH`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Credentials {
    pub user: Option<String>,
    pub password: Option<String>,
}

impl Credentials {
    fn user(&self) -> &str {
        self.user.as_deref().unwrap_or("default")
    }
}

/// A connection that has been greeted.
pub struct Server {
    connection: MultiplexedConnection,
    _driver: Driver,
    renames: Arc<BTreeMap<String, String>>,
    /// Held as long as the connection, for whoever counts the agent's own.
    _counted: Option<Arc<()>>,
}

/// The task that moves the bytes. It ends with the connection even while a hung server owes an answer.
struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A server's answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    Status(String),
    Text(String),
    Number(i64),
    Nil,
    List(Vec<Answer>),
}

impl Answer {
    /// The text of a status or string.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Self::Status(text) | Self::Text(text) => Some(text),
            _ => None,
        }
    }

    fn from_value(value: Value) -> Answer {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match value {
            Value::Nil => Answer::Nil,
            Value::Int(number) => Answer::Number(number),
            Value::Okay => Answer::Status("OK".to_owned()),
            Value::SimpleString(status) => Answer::Status(status),
            Value::BulkString(bytes) => Answer::Text(text(&bytes)),
            Value::Array(values) => Answer::List(values.into_iter().map(Answer::from_value).collect()),
            // What is left is of protocol 3, which is not spoken, or an error inside a list, which nothing here asks for.
            other => Answer::Text(format!("{other:?}")),
        }
    }
}

impl Server {
    /// Connects and logs in.
    pub async fn connect(endpoint: &Endpoint, credentials: &Credentials) -> Result<Server, ConnectError> {
        Self::over(connect_bare(endpoint, credentials).await?, endpoint).await
    }

    /// Goes on over a connection that is there.
    pub(crate) async fn over(stream: BareStream, endpoint: &Endpoint) -> Result<Server, ConnectError> {
        // The client's own limit is half a second, which a SAVE exceeds; every call here has its own. With this
        // configuration the client sends nothing of its own accord.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        let client = MultiplexedConnection::new_with_config(&settings, stream, config).await;
        let (connection, driver) = client.map_err(|error| ConnectError::Silent(format!("{endpoint}: {error}")))?;
        Ok(Server { connection, _driver: Driver(tokio::spawn(driver)), renames: Arc::default(), _counted: None })
    }

    /// Has the commands called by the names that the server's `rename-command` gave them, and `counted` held as long as
    /// the connection lasts.
    pub(crate) fn of_instance(mut self, renames: BTreeMap<String, String>, counted: Arc<()>) -> Server {
        self.renames = Arc::new(renames);
        self._counted = Some(counted);
        self
    }

    /// Sends a command, and waits at most [`CALL_TIMEOUT`] for its answer.
    pub async fn call(&mut self, args: &[&str]) -> Result<Answer, ServerError> {
        self.call_within(CALL_TIMEOUT, args).await
    }

    /// Sends a command whose answer may take its time, such as `SAVE`.
    pub async fn call_within(&mut self, limit: Duration, args: &[&str]) -> Result<Answer, ServerError> {
        let name = args.first().copied().unwrap_or_default();
        let command = self.command(args)?;
        match timeout(limit, self.connection.send_packed_command(&command)).await {
            // Errors come as values here, but for those that broke the connection.
            Ok(Ok(Value::ServerError(error))) => Err(said(error.code(), error.details())),
            Ok(Ok(value)) => Ok(Answer::from_value(value)),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(ServerError::Lost(format!("no answer to {name} within {} s", limit.as_secs_f32()))),
        }
    }

    /// Sends commands at once, so that the server does them one right after the other, with nobody else's in between.
    /// Tells the first error; the others are done all the same.
    pub async fn call_in_a_row(&mut self, limit: Duration, commands: &[&[&str]]) -> Result<(), ServerError> {
        let mut row = redis::pipe();
        for args in commands {
            row.add_command(self.command(args)?);
        }
        let answers = match timeout(limit, self.connection.send_packed_commands(&row, 0, commands.len())).await {
            Ok(answers) => answers.map_err(|error| failed(&error))?,
            Err(_) => return Err(ServerError::Lost(format!("no answer within {} s", limit.as_secs_f32()))),
        };
        let refused = answers.into_iter().find_map(|answer| match answer {
            Value::ServerError(error) => Some(said(error.code(), error.details())),
            _ => None,
        });
        refused.map_or(Ok(()), Err)
    }

    /// A command by the name that the server knows it by.
    fn command(&self, args: &[&str]) -> Result<redis::Cmd, ServerError> {
        let (name, rest) = args.split_first().unwrap_or((&"", &[]));
        let known_as = match self.renames.get(&name.to_ascii_uppercase()).map(String::as_str) {
            Some("") => {
                return Err(ServerError::Said(format!("ERR `{name}` is disabled by `rename-command` in redis.conf")));
            }
            Some(other) => other,
            None => name,
        };
        let mut command = redis::cmd(known_as);
        command.arg(rest);
        Ok(command)
    }

    /// Everything of `INFO` that is read here.
    pub async fn info(&mut self) -> Result<String, ServerError> {
        match self.call(&["INFO"]).await? {
            Answer::Text(text) => Ok(text),
            other => Err(ServerError::Lost(format!("INFO was answered by {other:?}"))),
        }
    }

    /// Asks for one setting; none where the server does not know it.
    pub async fn config(&mut self, name: &str) -> Result<Option<String>, ServerError> {
        Ok(self.configs(name).await?.remove(name))
    }

    /// Asks for every setting at once. Passwords are among the values.
    pub async fn all_config(&mut self) -> Result<BTreeMap<String, String>, ServerError> {
        self.configs("*").await
    }

    async fn configs(&mut self, pattern: &str) -> Result<BTreeMap<String, String>, ServerError> {
        let Answer::List(list) = self.call(&["CONFIG", "GET", pattern]).await? else {
            return Err(ServerError::Lost("CONFIG GET was not answered by a list".to_owned()));
        };
        let mut words = list.iter().filter_map(Answer::as_text);
        let mut settings = BTreeMap::new();
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            settings.insert(name.to_owned(), value.to_owned());
        }
        Ok(settings)
    }

    /// Counts the Sentinels that listen on this server: each one subscribes to the channel in which they find each other.
    /// Zero also where this user may not ask.
    pub async fn sentinels(&mut self) -> u64 {
        match self.call(&["PUBSUB", "NUMSUB", "__sentinel__:hello"]).await {
            Ok(Answer::List(answer)) => match answer.as_slice() {
                [_, Answer::Number(count)] => u64::try_from(*count).unwrap_or(0),
                _ => 0,
            },
            _ => 0,
        }
    }

    /// Has a replica tell its primary at once how far it has read, as the primary itself can ask for; by itself it does so
    /// once a second. The server says nothing to it, so something else is asked behind it. False: this one did say
    /// something, and this connection is of no more use.
    pub async fn acknowledge(&mut self) -> Result<bool, ServerError> {
        let mut both = redis::pipe();
        both.cmd("REPLCONF").arg("GETACK").arg("*").cmd("PING");
        match timeout(CALL_TIMEOUT, self.connection.send_packed_commands(&both, 0, 1)).await {
            Ok(Ok(answers)) => Ok(matches!(answers.as_slice(), [Value::SimpleString(pong)] if pong == "PONG")),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(ServerError::Lost("no answer to REPLCONF GETACK".to_owned())),
        }
    }

    /// Changes a setting of the running server.
    pub async fn set_config(&mut self, name: &str, value: &str) -> Result<(), ServerError> {
        self.call(&["CONFIG", "SET", name, value]).await.map(|_| ())
    }
}

fn said(code: &str, details: Option<&str>) -> ServerError {
    ServerError::Said(match details {
        Some(details) => format!("{code} {details}"),
        None => code.to_owned(),
    })
}

fn failed(error: &RedisError) -> ServerError {
    match error.code() {
        Some(code) => said(code, error.detail()),
        None => ServerError::Lost(error.to_string()),
    }
}

#[cfg(test)]
mod tests;
