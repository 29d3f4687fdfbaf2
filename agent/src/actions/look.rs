//! A look at the running server, as every action begins and ends with one.

use std::time::Duration;

use baton_proto::report::Running;
use baton_proto::{Fault, FaultKind};
use tokio::time::Instant;

use crate::info::{Info, parse_running};
use crate::instance::Instance;
use crate::server::{ConnectError, Server};

/// How long nothing may listen where a server did, until it has ended: one that is started again listens before it loads.
const ENDED_AFTER: Duration = Duration::from_secs(5);

/// What a server said of itself at one moment.
pub(super) struct Look {
    pub(super) running: Running,
    /// The fields that only some actions need.
    pub(super) info: Info,
}

/// Connects to a server that must be running.
pub(super) async fn connect(instance: &Instance) -> Result<Server, Fault> {
    instance.connect().await.map_err(|error| error.fault(instance.name()))
}

pub(super) async fn look(instance: &Instance, server: &mut Server) -> Result<Look, Fault> {
    let text = server.info().await.map_err(|error| error.fault(instance.name(), "INFO"))?;
    let running = parse_running(&text)
        .map_err(|error| Fault::new(FaultKind::Server, "the server's INFO is not understood").because(error))?;
    Ok(Look { running, info: Info::parse(&text) })
}

/// Looks at a server that must have its data in memory.
pub(super) async fn look_loaded(instance: &Instance, server: &mut Server) -> Result<Look, Fault> {
    let look = look(instance, server).await?;
    if look.running.persistence.loading {
        return Err(
            Fault::new(FaultKind::Server, "the server is still loading its data set").hint("wait until it has loaded")
        );
    }
    Ok(look)
}

pub(super) async fn call(instance: &Instance, server: &mut Server, args: &[&str]) -> Result<(), Fault> {
    match server.call(args).await {
        Ok(_) => Ok(()),
        Err(error) => Err(error.fault(instance.name(), &args.join(" "))),
    }
}

/// Looks again and again. A server that is busy with a large data set may miss an answer and break a connection without
/// being lost; the last thing seen is kept for the fault at the end of patience.
pub(super) struct Watch<'a> {
    instance: &'a Instance,
    server: Option<Server>,
    /// Why the last look failed.
    pub(super) missed: Option<Fault>,
    /// Since when nothing listens.
    deaf_since: Option<Instant>,
}

impl<'a> Watch<'a> {
    pub(super) fn new(instance: &'a Instance, server: Option<Server>) -> Self {
        Self { instance, server, missed: None, deaf_since: None }
    }

    /// Looks once. None: no answer, see `missed`.
    pub(super) async fn look(&mut self) -> Option<Look> {
        match self.try_look().await {
            Ok(look) => {
                self.missed = None;
                Some(look)
            }
            Err(fault) => {
                self.server = None;
                self.missed = Some(fault);
                None
            }
        }
    }

    /// Whether the server has ended, and is not just busy: what is waited for will not come.
    pub(super) fn has_ended(&self) -> bool {
        self.deaf_since.is_some_and(|since| since.elapsed() > ENDED_AFTER)
    }

    async fn try_look(&mut self) -> Result<Look, Fault> {
        let mut server = match self.server.take() {
            Some(server) => server,
            None => {
                let connected = self.instance.connect().await;
                let deaf = matches!(connected, Err(ConnectError::Stopped(_)));
                self.deaf_since = deaf.then(|| self.deaf_since.unwrap_or_else(Instant::now));
                connected.map_err(|error| error.fault(self.instance.name()))?
            }
        };
        let look = look(self.instance, &mut server).await?;
        self.server = Some(server);
        Ok(look)
    }

    /// The connection of the last look that succeeded.
    pub(super) async fn server(&mut self) -> Result<&mut Server, Fault> {
        if self.server.is_none() {
            self.server = Some(connect(self.instance).await?);
        }
        self.server.as_mut().ok_or_else(|| Fault::new(FaultKind::Internal, "no connection"))
    }
}

#[cfg(test)]
pub(super) mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::instance::tests::with_conf;

    /// What an idle primary says of itself.
    pub(in crate::actions) const IDLE: &str = "redis_version:7.0.15\r\nprocess_id:7\r\nrole:master\r\n\
        connected_slaves:0\r\nmaster_replid:c8f82b93fa07f703864ba1ffc7c2b2c42ac50bcb\r\nmaster_repl_offset:9\r\n\
        master_replid2:0000000000000000000000000000000000000000\r\nsecond_repl_offset:-1\r\n\
        repl_backlog_active:1\r\nrepl_backlog_size:1048576\r\nrepl_backlog_first_byte_offset:1\r\nrepl_backlog_histlen:9\r\n";

    /// An instance whose server breaks off at the first look, and then is as it should be.
    pub(in crate::actions) async fn that_misses_one_answer(dir: &std::path::Path) -> Instance {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            for misses in [true, false] {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut buffer = [0; 1024];
                for answer in ["+PONG\r\n".to_owned(), format!("${}\r\n{IDLE}\r\n", IDLE.len())] {
                    if stream.read(&mut buffer).await.unwrap_or(0) == 0 || misses && answer.starts_with('$') {
                        break;
                    }
                    stream.write_all(answer.as_bytes()).await.unwrap();
                }
                while !misses && stream.read(&mut buffer).await.unwrap_or(0) > 0 {}
            }
        });
        with_conf(dir, &format!("bind 127.0.0.1\nport {port}\n"))
    }

    #[tokio::test]
    async fn a_server_has_ended_when_nothing_listened_for_a_while_and_not_when_it_is_only_silent() {
        let dir = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let instance = with_conf(dir.path(), &format!("bind 127.0.0.1\nport {port}\n"));
        let mut watch = Watch::new(&instance, None);
        // It takes connections, and closes them.
        let silent = std::thread::spawn(move || drop(listener.accept()));
        assert!(watch.look().await.is_none());
        silent.join().unwrap();
        tokio::time::pause();
        tokio::time::advance(ENDED_AFTER * 2).await;
        assert!(!watch.has_ended());
        // Now its port is free.
        assert!(watch.look().await.is_none());
        assert!(!watch.has_ended(), "it may be about to be started again");
        tokio::time::advance(ENDED_AFTER * 2).await;
        assert!(watch.look().await.is_none());
        assert!(watch.has_ended());
    }
}
