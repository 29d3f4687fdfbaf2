//! Listens in the place of a server that does not run.
//!
//! The sockets are bound before `start` returns, so that a port that is taken is told to whoever asked. They are served
//! by tasks of their own, which end by themselves; `end` frees the ports at once.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use baton_proto::{Fault, FaultKind};
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsAcceptor;

use super::doorman::{Doorman, Visitor};
use crate::info::Info;
use crate::instance::{Instance, Rehearsal, endpoints, listening};
use crate::redis_conf::RedisConf;
use crate::server::{ConnectError, Server};
use crate::service;
use crate::tls::{self, Files};

/// Longest rehearsal: another agent needs seconds to try it.
const SECONDS_MAX: u32 = 120;
/// Most visitors at a time on one address.
const VISITORS_MAX: usize = 16;
/// How long a visitor may stay.
const VISIT_TIMEOUT: Duration = Duration::from_secs(5);
/// Most bytes read from a visitor.
const VISIT_BYTES_MAX: u64 = 16 * 1024;
/// Most words of a command, and most bytes of a word: `AUTH user password` with room.
const WORDS_MAX: usize = 8;
const WORD_BYTES_MAX: usize = 1024;

/// When a rehearsal of this length ends that begins now.
pub(super) fn end_of(seconds: u32) -> Instant {
    Instant::now() + Duration::from_secs(seconds.min(SECONDS_MAX).into())
}

/// Binds every address of the instance and serves them in the background.
pub(super) async fn start(instance: &Instance, until: Instant) -> Result<Rehearsal, Fault> {
    let conf = instance.conf()?;
    if let Some(occupant) = occupant(instance, &conf).await {
        return Err(Fault::new(
            FaultKind::Refused,
            format!("instance `{}` cannot rehearse its start", instance.name()),
        )
        .because(occupant)
        .hint("stop that server, or name another target"));
    }
    if conf.port() == 0 && conf.tls_port().is_none() {
        return Err(Fault::new(
            FaultKind::Refused,
            format!("instance `{}` has no TCP port for others", instance.name()),
        )
        .hint(format!("give it a `port` or a `tls-port` in {}", instance.config().config.display())));
    }
    let mut doors: Vec<(TcpListener, Option<TlsAcceptor>)> = Vec::new();
    if conf.port() != 0 {
        doors.extend(bind_all(&conf, conf.port()).await?.into_iter().map(|listener| (listener, None)));
    }
    if let Some(port) = conf.tls_port() {
        let acceptor = tls::acceptor(&Files::of_conf(&conf, None)).map_err(|why| unfit(instance, &why))?;
        let listeners = bind_all(&conf, port).await?.into_iter();
        doors.extend(listeners.map(|listener| (listener, Some(acceptor.clone()))));
    }
    let version = service::binary_version(&instance.config().service).await.ok();
    let name = format!("{} at {}", instance.name(), instance.address(&conf));
    let doorman = Arc::new(Doorman::of_conf(&conf, version, name));
    let (end, ends) = watch::channel(until);
    let serving = doors.into_iter().map(|(listener, tls)| {
        let doorman = Arc::clone(&doorman);
        let ends = ends.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = serve(&listener, tls.as_ref(), &doorman) => {}
                () = passed(ends) => {}
            }
        })
    });
    Ok(Rehearsal::new(serving.collect(), end))
}

/// Waits for an end that may be put off.
async fn passed(ends: watch::Receiver<Instant>) {
    loop {
        let end = *ends.borrow();
        if end <= Instant::now() {
            return;
        }
        tokio::time::sleep_until(end).await;
    }
}

/// Who is where the instance would be, if anybody is.
async fn occupant(instance: &Instance, conf: &RedisConf) -> Option<String> {
    match instance.connect_by(conf).await {
        Err(ConnectError::Stopped(_)) => None,
        Err(error) if endpoints::endpoints(conf, None).is_empty() => Some(error.to_string()),
        Err(error) => Some(format!("a server is there already: {error}")),
        Ok(mut server) => Some(describe(&mut server).await),
    }
}

async fn describe(server: &mut Server) -> String {
    let info = server.info().await.map(|text| Info::parse(&text)).unwrap_or_default();
    let version = info.version().map_or_else(|_| "a server".to_owned(), |version| version.to_string());
    let pid = info.field("process_id").unwrap_or("unknown");
    match info.field("config_file").filter(|file| !file.is_empty()) {
        Some(file) => format!("{version} is running there already: process {pid}, started with {file}"),
        None => format!("{version} is running there already: process {pid}, started without a configuration file"),
    }
}

/// Binds as the server will: an address marked by `-` may be missing, and so may IPv6 where all interfaces are meant.
async fn bind_all(conf: &RedisConf, port: u16) -> Result<Vec<TcpListener>, Fault> {
    let mut listeners = Vec::new();
    for place in endpoints::binds(conf) {
        match bind(place.address(), port).await {
            Ok(listener) => listeners.push(listener),
            Err(error) if place.optional && is_absence(&error) => {}
            Err(error) => return Err(not_bound(&place.host, port, &error)),
        }
    }
    Ok(listeners)
}

async fn bind(host: &str, port: u16) -> io::Result<TcpListener> {
    let address = tokio::net::lookup_host((host, port)).await?.next().ok_or(ErrorKind::AddrNotAvailable)?;
    listening::listen(address)
}

/// The server would not start with these certificates either.
fn unfit(instance: &Instance, why: &str) -> Fault {
    Fault::new(FaultKind::Refused, format!("the TLS of instance `{}` cannot be rehearsed", instance.name()))
        .because(why)
        .hint(format!(
            "see the `tls-` settings in {}, and let the agent's user read their files",
            instance.config().config.display()
        ))
}

fn is_absence(error: &io::Error) -> bool {
    error.kind() == ErrorKind::AddrNotAvailable
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn not_bound(host: &str, port: u16, error: &io::Error) -> Fault {
    let fault = |kind, message: String| Fault::new(kind, message).because(error);
    match error.kind() {
        ErrorKind::AddrInUse => fault(FaultKind::Refused, format!("port {port} of {host} is taken by another process"))
            .hint(format!("find it by `ss -ltnp 'sport = :{port}'`, and stop it")),
        ErrorKind::AddrNotAvailable => fault(FaultKind::Refused, format!("{host} is not an address of this host"))
            .hint("correct `bind` in redis.conf"),
        ErrorKind::PermissionDenied => {
            fault(FaultKind::Host, format!("the agent may not listen on port {port} of {host}"))
        }
        _ => fault(FaultKind::Host, format!("listen on port {port} of {host}")),
    }
}

/// Accepts until it is dropped.
async fn serve(listener: &TcpListener, tls: Option<&TlsAcceptor>, doorman: &Arc<Doorman>) {
    let mut visits = JoinSet::new();
    loop {
        while visits.len() >= VISITORS_MAX {
            visits.join_next().await;
        }
        match listener.accept().await {
            Ok((stream, from)) => {
                let (doorman, tls) = (Arc::clone(doorman), tls.cloned());
                visits.spawn(async move {
                    let visit = async {
                        match tls {
                            None => receive(stream, from, &doorman).await,
                            Some(tls) => receive(tls.accept(stream).await?, from, &doorman).await,
                        }
                    };
                    let _ = timeout(VISIT_TIMEOUT, visit).await;
                });
            }
            // Out of descriptors, or the visitor left while it waited: others may come.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
        while visits.try_join_next().is_some() {}
    }
}

async fn receive(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    from: SocketAddr,
    doorman: &Doorman,
) -> io::Result<()> {
    if let Some(refusal) = doorman.turns_away(from.ip().to_canonical()) {
        stream.write_all(refusal.as_bytes()).await?;
        return stream.shutdown().await;
    }
    let (reading, mut writing) = tokio::io::split(stream);
    let mut reading = BufReader::new(reading.take(VISIT_BYTES_MAX));
    let mut visitor = Visitor::default();
    while let Some(words) = read_command(&mut reading).await? {
        writing.write_all(doorman.answer(&mut visitor, &words).as_bytes()).await?;
    }
    Ok(())
}

/// Reads a command as clients send it, `*1 $4 PING`, or as a person types it. None: the visitor has left. The reader must
/// end somewhere: a line has no other bound.
pub(crate) async fn read_command(from: &mut (impl AsyncBufReadExt + Unpin)) -> io::Result<Option<Vec<String>>> {
    let strange = || io::Error::from(ErrorKind::InvalidData);
    // The reader ends after VISIT_BYTES_MAX, and with it every line.
    let mut line = String::new();
    if from.read_line(&mut line).await? == 0 {
        return Ok(None);
    }
    let Some(count) = line.trim_end().strip_prefix('*') else {
        return Ok(Some(line.split_whitespace().map(str::to_owned).collect()));
    };
    let count: usize = count.parse().ok().filter(|count| *count <= WORDS_MAX).ok_or_else(strange)?;
    let mut words = Vec::with_capacity(count);
    for _ in 0..count {
        line.clear();
        from.read_line(&mut line).await?;
        let bytes: Option<usize> = line.trim_end().strip_prefix('$').and_then(|bytes| bytes.parse().ok());
        let bytes = bytes.filter(|bytes| *bytes <= WORD_BYTES_MAX).ok_or_else(strange)?;
        let mut word = vec![0; bytes + 2];
        from.read_exact(&mut word).await?;
        word.truncate(bytes);
        words.push(String::from_utf8_lossy(&word).into_owned());
    }
    Ok(Some(words))
}
