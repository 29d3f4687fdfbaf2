//! The way to a server: the socket, TLS where it is spoken, the greeting.

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use baton_proto::HostPort;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use super::greeting::{self, Line};
use super::{ConnectError, Credentials, Endpoint};
use crate::tls;

/// How long the socket and the greeting may take together. The server is on this host: what is slower than this is
/// busy with one long command, or hangs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// A connection on which nothing but the greeting was said.
pub(crate) type BareStream = Box<dyn Duplex>;

pub(crate) trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Duplex for S {}

/// Connects and logs in, for what the client does not speak.
pub(crate) async fn connect_bare(endpoint: &Endpoint, credentials: &Credentials) -> Result<BareStream, ConnectError> {
    let silent = |_| ConnectError::Silent(format!("{endpoint} says nothing within {} s", CONNECT_TIMEOUT.as_secs()));
    let connected = async {
        let opened: io::Result<BareStream> = match endpoint {
            Endpoint::Unix(path) => UnixStream::connect(path).await.map(|stream| Box::new(stream) as BareStream),
            Endpoint::Tcp(address) | Endpoint::Tls(address, _) => {
                open_local(address).await.map(|stream| Box::new(stream) as BareStream)
            }
        };
        let mut stream = opened.map_err(|error| unopened(endpoint, &error))?;
        // Only where somebody listens: a server that is stopped is stopped, whatever its certificates are.
        if let Endpoint::Tls(_, files) = endpoint {
            let broken = |error| ConnectError::Silent(format!("{endpoint}: {error}"));
            stream = Box::new(tls::connect(stream, files).await.map_err(broken)?);
        }
        greet(&mut stream, endpoint, credentials).await?;
        Ok(stream)
    };
    timeout(CONNECT_TIMEOUT, connected).await.map_err(silent)?
}

pub(super) async fn greet(
    stream: &mut BareStream,
    endpoint: &Endpoint,
    credentials: &Credentials,
) -> Result<(), ConnectError> {
    let broken = |error: io::Error| {
        let why = tls::mistrust(&error).unwrap_or_else(|| error.to_string());
        ConnectError::Silent(format!("{endpoint}: {why}"))
    };
    if let Some(password) = &credentials.password {
        let auth = greeting::auth(credentials.user.as_deref(), password);
        judge(greeting::ask(stream, &auth).await.map_err(broken)?, endpoint, credentials)?;
    }
    judge(greeting::ask(stream, &["PING"]).await.map_err(broken)?, endpoint, credentials)
}

/// Connects to an address of this host. An address of another host is refused, as a server of this host would refuse
/// to bind it: `redis.conf` may be a copy from that host, and the server found there is not ours.
async fn open_local(address: &HostPort) -> io::Result<TcpStream> {
    let mut last = io::Error::new(ErrorKind::ConnectionRefused, "its name has no address");
    for address in tokio::net::lookup_host((address.host.as_str(), address.port)).await? {
        if !is_local(address.ip()) {
            last = io::Error::new(
                ErrorKind::ConnectionRefused,
                format!("{} is not an address of this host", address.ip()),
            );
            continue;
        }
        match connect_once(address).await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = error,
        }
    }
    Err(last)
}

async fn connect_once(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    // On a free port of the ephemeral range, Linux may connect a socket to itself; that is not a server.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::Error::new(ErrorKind::ConnectionRefused, "nothing listens there"));
    }
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Whether this host has the address: only then can a socket be bound to it.
fn is_local(ip: IpAddr) -> bool {
    !matches!(UdpSocket::bind((ip, 0)), Err(error) if error.kind() == ErrorKind::AddrNotAvailable)
}

fn unopened(endpoint: &Endpoint, error: &io::Error) -> ConnectError {
    let reason = format!("{endpoint}: {error}");
    match error.kind() {
        ErrorKind::ConnectionRefused | ErrorKind::NotFound => ConnectError::Stopped(reason),
        _ => ConnectError::Silent(reason),
    }
}

/// Judges the answer to `AUTH` or `PING`.
fn judge(line: Line, endpoint: &Endpoint, credentials: &Credentials) -> Result<(), ConnectError> {
    match line {
        Line::Status(status) if status.starts_with(greeting::REHEARSAL) => {
            Err(ConnectError::Stopped(format!("{endpoint}: this agent is rehearsing there")))
        }
        Line::Status(_) => Ok(()),
        // The password of redis.conf is not in force: the server was started before, or was told otherwise since.
        Line::Error(error) if greeting::needs_no_password(&error) => Ok(()),
        Line::Error(error) => match error.split_whitespace().next() {
            Some("NOAUTH" | "WRONGPASS" | "DENIED") => Err(denied(credentials, &error)),
            _ if greeting::asks_for_password(&error) || error.contains("invalid password") => {
                Err(denied(credentials, &error))
            }
            _ if error.contains("max number of clients") => Err(ConnectError::Silent(format!("{endpoint}: {error}"))),
            // It is loading, its primary is down, a script runs, or this user may not PING: a server lives here.
            _ => Ok(()),
        },
        Line::Foreign(text) => Err(ConnectError::Silent(format!(
            "{endpoint}: what listens there is no Redis or Valkey server, it says `{text}`"
        ))),
        Line::Closed => Err(ConnectError::Silent(format!("{endpoint}: the connection was closed without a word"))),
    }
}

fn denied(credentials: &Credentials, error: &str) -> ConnectError {
    let error = greeting::first_sentence(error).to_owned();
    ConnectError::Denied { user: credentials.user().to_owned(), error }
}
