//! Whether one server could follow another: tried for real, from the host and with the login that it would use.
//!
//! `reach` speaks the first words of a replica to a server on another host, by TLS if the replica would. `rehearse` listens where a stopped server
//! would, and answers as it would answer strangers: so the way to a server can be tried before it is started. Not here:
//! whether the login may `PSYNC`; only a real attempt tells, and that would start a resync.

mod attempt;
mod doorman;
mod rehearsal;

use std::io::{self, ErrorKind};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use baton_proto::control::{Answer, Reach, ReachVerdict, Reply};
use baton_proto::{Fault, HostName, HostPort};
use baton_wire::Dialer;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use self::attempt::Login;
pub(crate) use self::rehearsal::read_command;
use crate::actions;
use crate::info::Info;
use crate::instance::Instance;
use crate::redis_conf::RedisConf;
use crate::server::BareStream;
use crate::server::greeting::{self, Line};
use crate::service;
use crate::tls::{self, Files, TlsError};

/// How long one address may take to accept. A host that drops packets says nothing for ever.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the answers may take, all together.
const TALK_TIMEOUT: Duration = Duration::from_secs(3);
/// How long it may take to see whether it speaks TLS where plain words came to nothing, or the other way round.
const OTHER_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the name of a host may take to be found.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);
/// Most addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;

/// Tries to reach a server as this instance would reach it as its primary.
pub async fn reach(instance: &Instance, to: &HostPort) -> Reach {
    match attempt(instance, to).await {
        Ok((reach, _)) | Err(reach) => reach,
    }
}

/// Connects to a server as this instance would to its primary, and logs in as it would.
pub(crate) async fn connect(instance: &Instance, to: &HostPort) -> Result<BareStream, Reach> {
    match attempt(instance, to).await? {
        (Reach { verdict: ReachVerdict::Open, .. }, stream) => Ok(stream),
        (reach, _) => Err(reach),
    }
}

/// What somebody said who accepted, with the connection; or why nobody did.
async fn attempt(instance: &Instance, to: &HostPort) -> Result<(Reach, BareStream), Reach> {
    let approach = match approach(instance).await {
        Ok(approach) => approach,
        Err(fault) => {
            return Err(verdict(ReachVerdict::Unreachable, format!("it is not known how to log in: {fault}")));
        }
    };
    let addresses = match timeout(RESOLVE_TIMEOUT, tokio::net::lookup_host((to.host.as_str(), to.port))).await {
        Ok(Ok(addresses)) => addresses.take(ADDRESSES_MAX).collect::<Vec<_>>(),
        Ok(Err(error)) => {
            let detail = format!("the address of {} is not found: {error}", to.host);
            return Err(verdict(ReachVerdict::Unreachable, detail));
        }
        Err(_) => {
            let detail = format!("the address of {} is not found in time", to.host);
            return Err(verdict(ReachVerdict::Unreachable, detail));
        }
    };
    let mut seen = verdict(ReachVerdict::Unreachable, format!("{} has no address", to.host));
    for address in addresses {
        seen = match timeout(CONNECT_TIMEOUT, open(address, approach.source)).await {
            Ok(Ok(stream)) => return speak(stream, address, &approach).await,
            Ok(Err(error)) => unopened(address, &error),
            Err(_) => verdict(
                ReachVerdict::Silent,
                format!("{address} does not accept within {} s", CONNECT_TIMEOUT.as_secs()),
            ),
        };
    }
    Err(seen)
}

/// Dials another agent. The datagrams take the way that a transfer would.
pub async fn knock(dialer: &Dialer, host: &HostName, address: &HostPort) -> Answer {
    let shut = match dialer.dial(address, host).await {
        Ok(link) => {
            link.close();
            None
        }
        Err(error) => Some(error.into()),
    };
    Ok(Reply::Knocked { shut })
}

fn verdict(verdict: ReachVerdict, detail: impl Into<String>) -> Reach {
    Reach { verdict, detail: detail.into(), hung: false, tls: false }
}

/// TLS stands between them, or what it would be made of.
fn by_tls(detail: impl Into<String>) -> Reach {
    Reach { tls: true, ..verdict(ReachVerdict::Unauthorised, detail) }
}

/// Speaks to whoever accepted, as the instance would, and if that comes to nothing finds out whether it should have spoken
/// otherwise: a server waits in silence for the rest of a command that it takes a TLS handshake for.
async fn speak(stream: TcpStream, address: SocketAddr, approach: &Approach) -> Result<(Reach, BareStream), Reach> {
    let said = timeout(TALK_TIMEOUT, async {
        let mut stream: BareStream = match &approach.tls {
            None => Box::new(stream),
            Some(files) => match tls::connect(stream, files).await {
                Ok(stream) => Box::new(stream),
                Err(TlsError::Own(why)) => {
                    return Err(by_tls(format!("this instance's own TLS cannot be used: {why}")));
                }
                Err(TlsError::Mistrust(why)) => return Err(by_tls(why)),
                Err(TlsError::Broken(why)) => return Err(verdict(ReachVerdict::Busy, why)),
            },
        };
        Ok((attempt::talk(&mut stream, &approach.login).await, stream))
    });
    let said = said.await.unwrap_or_else(|_| {
        let detail = format!("{address} accepts, and says nothing within {} s", TALK_TIMEOUT.as_secs());
        Err(Reach { hung: true, ..verdict(ReachVerdict::Busy, detail) })
    });
    if said.as_ref().map_or_else(|reach| reach, |(reach, _)| reach).verdict != ReachVerdict::Busy {
        return said;
    }
    let other = timeout(OTHER_TIMEOUT, async {
        let mut stream = open(address, approach.source).await.ok()?;
        match approach.tls {
            None => tls::is_spoken(stream).await.then_some("it speaks TLS there, and this instance does not"),
            Some(_) => {
                let answer = greeting::ask(&mut stream, &["PING"]).await.ok()?;
                matches!(answer, Line::Status(_) | Line::Error(_))
                    .then_some("it speaks no TLS there, and this instance does")
            }
        }
    });
    match other.await {
        Ok(Some(why)) => {
            let word = if approach.tls.is_some() { "yes" } else { "no" };
            Err(by_tls(format!("{why} (`tls-replication {word}`)")))
        }
        _ => said,
    }
}

fn unopened(address: SocketAddr, error: &io::Error) -> Reach {
    let kind = match error.kind() {
        ErrorKind::ConnectionRefused => ReachVerdict::Refused,
        ErrorKind::TimedOut => ReachVerdict::Silent,
        // Somebody accepted and hung up at once.
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted => ReachVerdict::Busy,
        _ => ReachVerdict::Unreachable,
    };
    verdict(kind, format!("{address}: {error}"))
}

/// Connects as a replica does: from the given address if that can be had, else from any.
async fn open(to: SocketAddr, source: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if let Some(source) = source.filter(|source| source.is_ipv4() == to.is_ipv4()) {
        let _ = socket.bind((source, 0).into());
    }
    let stream = socket.connect(to).await?;
    // On a free port of the ephemeral range, Linux may connect a socket to itself; that is not a server.
    if stream.local_addr()? == stream.peer_addr()? {
        return Err(io::Error::new(ErrorKind::ConnectionRefused, "nothing listens there"));
    }
    Ok(stream)
}

/// How an instance goes about its primary.
struct Approach {
    login: Login,
    /// The address from which it connects.
    source: Option<IpAddr>,
    /// Of what its TLS is made, if it speaks it with its primary.
    tls: Option<Files>,
}

/// What the running server would use, else what `redis.conf` says that it will.
async fn approach(instance: &Instance) -> Result<Approach, Fault> {
    let conf = instance.conf()?;
    Ok(match running_approach(instance, &conf).await {
        Some(approach) => approach,
        None => Approach {
            login: Login::of_conf(&conf),
            source: stopped_source(instance, &conf).await,
            tls: conf.tls_replication().then(|| Files::of_conf(&conf, None)),
        },
    })
}

async fn running_approach(instance: &Instance, conf: &RedisConf) -> Option<Approach> {
    let mut server = instance.connect_by(conf).await.ok()?;
    let mut told = server.all_config().await.ok()?;
    let text = server.info().await.ok()?;
    let info = Info::parse(&text);
    let version = info.version().ok()?;
    if let Some(pid) = info.field("process_id").and_then(|pid| pid.parse().ok()) {
        actions::unborrowed(instance, pid, &mut told).await;
    }
    let some = |name: &str| told.get(name).filter(|value| !value.is_empty()).cloned();
    let source = match some("bind-source-addr") {
        None if version.connects_from_bind() => some("bind").and_then(|bind| first(bind.split_whitespace())),
        given => given.and_then(|address| address.parse().ok()),
    };
    let dir = some("dir").map_or_else(|| conf.dir(), PathBuf::from);
    let tls = some("tls-replication").is_some_and(|word| word == "yes").then(|| Files::of(&dir, some));
    Some(Approach { login: Login { user: some("masteruser"), password: some("masterauth") }, source, tls })
}

async fn stopped_source(instance: &Instance, conf: &RedisConf) -> Option<IpAddr> {
    if let Some(address) = conf.bind_source() {
        return address.parse().ok();
    }
    let first = first(conf.bind().iter().map(String::as_str))?;
    let version = service::binary_version(&instance.config().service).await.ok()?;
    version.connects_from_bind().then_some(first)
}

/// The first address of `bind`, if it is one from which can be connected.
fn first<'a>(mut bind: impl Iterator<Item = &'a str>) -> Option<IpAddr> {
    let ip: IpAddr = bind.next()?.trim_start_matches('-').parse().ok()?;
    (!ip.is_unspecified()).then_some(ip)
}

/// Listens where the stopped instance would, for a bounded time, in the background. A rehearsal that runs already is joined.
/// Given no time, one who asked for it needs it no more; it ends with the last.
pub async fn rehearse(instance: &Instance, seconds: u32) -> Result<(), Fault> {
    let mut slot = instance.rehearsal().await;
    let until = rehearsal::end_of(seconds);
    let stays = slot.as_mut().is_some_and(|running| if seconds == 0 { !running.leave() } else { running.join(until) });
    if stays {
        return Ok(());
    }
    if let Some(over) = slot.take() {
        over.end().await;
    }
    if seconds > 0 {
        *slot = Some(rehearsal::start(instance, until).await?);
    }
    Ok(())
}

/// Ends a rehearsal that still runs, and returns when its ports are free. A start calls this first.
pub async fn end_rehearsal(instance: &Instance) {
    if let Some(rehearsal) = instance.rehearsal().await.take() {
        rehearsal.end().await;
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tls_tests;
