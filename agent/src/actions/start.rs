//! Starts an instance on its dump, with the append-only file off, and sees that what runs then is what was meant.
//!
//! A server with its append-only file on ignores the dump and starts empty without a word; with another `dir` or
//! `dbfilename` it does the same; with a leftover `replicaof` it may be emptied by an old primary. So the arguments say
//! what it must be, and after the start the server is asked what it is.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use baton_proto::control::{Outcome, Progress};
use baton_proto::report::{Role, Running};
use baton_proto::version::ServerVersion;
use baton_proto::{Fault, FaultKind, HostPort, RunId};
use tokio::time::Instant;
use tracing::info;

use super::borrow;
use super::look::{self, Watch};
use super::middle;
use super::pace::Pace;
use super::role;
use crate::instance::{DataFiles, Instance, endpoints, listening};
use crate::reach;
use crate::redis_conf::RedisConf;
use crate::server::{ConnectError, Server};
use crate::service::{self, LogMark, Started};
use crate::speeds;
use crate::tasks::ProgressSink;

/// How long a port may still be taken by a server that is just ending.
const PORT_TIMEOUT: Duration = Duration::from_secs(5);

/// What the server must be when it runs.
struct Wanted<'a> {
    follow: Option<&'a HostPort>,
    /// Where the dump lies that it is to load.
    files: Option<DataFiles>,
    version: Option<ServerVersion>,
}

pub(super) async fn start(
    instance: &Instance,
    run: &RunId,
    follow: Option<&HostPort>,
    limit: Duration,
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    let outcome = bring_up(instance, follow, limit, progress).await?;
    if follow.is_some() {
        role::write(instance, run).await;
    }
    Ok(outcome)
}

async fn bring_up(
    instance: &Instance,
    follow: Option<&HostPort>,
    limit: Duration,
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    let begun = Instant::now();
    let version = service::binary_version(&instance.config().service);
    // One of this run's plan would look like a program that has taken the port.
    reach::end_rehearsal(instance).await;
    // One that was given before this agent was restarted: then a server that says nothing is loading, most likely.
    let joined = service::join(instance);
    match instance.connect().await {
        Err(ConnectError::Silent(error)) if joined.is_some() => {
            info!(instance = %instance.name(), "joining a start, though its server is silent: {error}");
            let wanted = Wanted { follow, files: Some(instance.data_files().await?), version: version.await.ok() };
            let watch = Watch::new(instance, None);
            let mark = LogMark::now(instance, None).await;
            return loaded(instance, watch, joined, (begun, limit), &wanted, &mark, progress).await;
        }
        Ok(mut server) => {
            let running = look::look(instance, &mut server).await?.running;
            let wanted = Wanted { follow, files: None, version: None };
            // Checked while it loads, so that a server of other hands is refused at once.
            check(instance, &mut server, &running, &wanted).await.map_err(|fault| {
                fault.because("it was running already when it was to be started").hint("stop it first")
            })?;
            let mark = LogMark::now(instance, Some(&mut server)).await;
            return loaded(
                instance,
                Watch::new(instance, Some(server)),
                joined,
                (begun, limit),
                &wanted,
                &mark,
                progress,
            )
            .await;
        }
        Err(ConnectError::Stopped(_)) => {}
        Err(error) => {
            let fault = Fault::new(FaultKind::Refused, "something runs already where the server is to be started");
            return Err(fault
                .because(error)
                .hint("stop it first; if it is the server, correct its password in agent.toml"));
        }
    }
    let conf = instance.conf()?;
    let args = arguments(instance, &conf, follow, version.await.ok())?;
    let files = instance.data_files().await?;
    port_free(&conf).await?;
    // What was borrowed of an earlier process is void.
    borrow::forget(instance).await?;
    let mark = LogMark::now(instance, None).await;
    let begun = Instant::now();
    // Without a dump it starts empty.
    let dump_bytes = tokio::fs::metadata(files.dump()).await.map_or(0, |dump| dump.len());
    let started = service::start(instance, &args.words, dump_bytes).await?;
    middle("start-told").await;
    let wanted = Wanted { follow, files: Some(files), version: args.version };
    let watch = Watch::new(instance, None);
    let outcome = loaded(instance, watch, Some(started), (begun, limit), &wanted, &mark, progress).await?;
    if let Outcome::Started { boot_seconds, load_seconds } = outcome {
        // It answers some time after it has begun to load.
        let seen = speeds::sight(speeds::Stage::Load, dump_bytes, boot_seconds + load_seconds);
        speeds::note(instance, vec![seen]).await;
    }
    Ok(outcome)
}

struct Arguments {
    words: Vec<String>,
    version: Option<ServerVersion>,
}

/// The arguments of the start, or why there can be none that make the server what it must be.
fn arguments(
    instance: &Instance,
    conf: &RedisConf,
    follow: Option<&HostPort>,
    version: Option<ServerVersion>,
) -> Result<Arguments, Fault> {
    if let (None, Some(primary)) = (follow, conf.replica_of()) {
        // `--replicaof no one` would make it a primary that goes on dialling the old address on its own host; another
        // address, and then `REPLICAOF NO ONE`, loses the lineage of the dump.
        return Err(Fault::new(
            FaultKind::Refused,
            format!("its configuration says `replicaof {primary}`, and it is to be a primary"),
        )
        .hint(format!("remove that line from {}", instance.config().config.display())));
    }
    let takes_arguments = service::fact(&instance.config().service).takes_arguments;
    if !takes_arguments && follow.is_none() && !conf.appendonly() {
        return Ok(Arguments { words: Vec::new(), version });
    }
    let mut words = vec!["--appendonly".to_owned(), "no".to_owned()];
    if let Some(primary) = follow {
        let command = version.map_or("REPLICAOF", |version| version.replicaof()).to_ascii_lowercase();
        words.extend([format!("--{command}"), primary.host.clone(), primary.port.to_string()]);
    }
    Ok(Arguments { words, version })
}

/// Waits until nothing listens where the server will: it would end with a message that only its log has.
async fn port_free(conf: &RedisConf) -> Result<(), Fault> {
    let mut pace = Pace::within(PORT_TIMEOUT);
    while let Some(taken) = taken(conf) {
        if !pace.wait().await {
            return Err(Fault::new(FaultKind::Refused, format!("another program listens on {taken}"))
                .hint("stop it, or give the server another port"));
        }
    }
    Ok(())
}

fn taken(conf: &RedisConf) -> Option<SocketAddr> {
    let binds = endpoints::binds(conf);
    // A name, or an address that this host lacks, is left to the server to judge.
    let addresses = binds.iter().filter_map(|bind| bind.address().parse::<IpAddr>().ok());
    let ports = [conf.port(), conf.tls_port().unwrap_or(0)];
    let sockets = addresses.flat_map(|ip| ports.map(|port| SocketAddr::new(ip, port)));
    let mut sockets = sockets.filter(|socket| socket.port() != 0);
    sockets.find(|socket| listening::listen(*socket).is_err_and(|error| error.kind() == std::io::ErrorKind::AddrInUse))
}

/// Waits until the server answers and has loaded, and confirms that it is what was wanted.
async fn loaded(
    instance: &Instance,
    mut watch: Watch<'_>,
    mut started: Option<Started>,
    (begun, limit): (Instant, Duration),
    wanted: &Wanted<'_>,
    mark: &LogMark,
    progress: &ProgressSink,
) -> Result<Outcome, Fault> {
    let mut pace = Pace::within(limit.saturating_sub(begun.elapsed()));
    let mut answered = None;
    let mut seen = "no answer yet".to_owned();
    loop {
        if let Some(started) = &mut started
            && let Some(fault) = started.ended().await
        {
            let fault = mark.explain(fault).await;
            service::settle(instance).await?;
            return Err(with_hint(fault));
        }
        match watch.look().await {
            Some(look) => {
                let running = look.running;
                let boot = *answered.get_or_insert_with(|| begun.elapsed());
                let state = &running.persistence;
                if !state.loading {
                    check(instance, watch.server().await?, &running, wanted).await?;
                    service::settle(instance).await?;
                    let load = begun.elapsed().saturating_sub(boot);
                    info!(instance = %instance.name(), version = %running.version, ?boot, ?load, "server has loaded");
                    let (boot_seconds, load_seconds) = (boot.as_secs_f64(), load.as_secs_f64());
                    return Ok(Outcome::Started { boot_seconds, load_seconds });
                }
                let total = (state.loading_total_bytes > 0).then_some(state.loading_total_bytes);
                seen =
                    format!("loaded {} of {} bytes", state.loaded_bytes, total.map_or("?".into(), |t| t.to_string()));
                let doing = "loading".to_owned();
                progress.report(Progress {
                    doing,
                    bytes_done: state.loaded_bytes,
                    bytes_total: total,
                    bytes_wire: 0,
                    ready: false,
                });
            }
            None => {
                if let Some(missed) = &watch.missed
                    && answered.is_none()
                {
                    seen = missed.to_string();
                }
            }
        }
        if !pace.wait().await {
            let fault =
                Fault::new(FaultKind::Server, format!("the server has not loaded within {} s", limit.as_secs()));
            return Err(mark
                .explain(fault.because(seen))
                .await
                .hint("it was left running and may still load: repeat to wait longer, or stop it"));
        }
    }
}

fn with_hint(fault: Fault) -> Fault {
    if fault.hint.is_some() {
        return fault;
    }
    let says = |texts: &[&str]| fault.causes.iter().any(|line| texts.iter().any(|text| line.contains(text)));
    if says(&["RDB format version", "Wrong signature", "foreign type"]) {
        fault.hint("the snapshot is of a newer server: install at least that version here")
    } else if says(&["Short read", "Wrong RDB checksum", "Unexpected EOF", "Internal error in RDB"]) {
        fault.hint("the dump is damaged: check it with redis-check-rdb")
    } else if says(&["Address already in use"]) {
        fault.hint("stop what listens there, or give the server another port")
    } else if says(&["Cannot assign requested address", "Could not create server TCP listening socket"]) {
        fault.hint("see `bind` in the server's configuration: this host lacks an address")
    } else {
        fault
    }
}

/// Sees that a server is what was wanted.
async fn check(instance: &Instance, server: &mut Server, running: &Running, wanted: &Wanted<'_>) -> Result<(), Fault> {
    let refused = |what: String| Fault::new(FaultKind::Refused, what);
    let mut read = async |name: &str| {
        let value = server.config(name).await.map_err(|error| error.fault(instance.name(), "CONFIG GET"))?;
        value.ok_or_else(|| Fault::new(FaultKind::Server, format!("the server knows no setting `{name}`")))
    };
    if read("appendonly").await? != "no" {
        return Err(refused("the server runs with `appendonly yes`: it has ignored the dump".into())
            .hint("do not let anything follow it; stop it, and see how its service passes arguments on"));
    }
    match (&running.role, wanted.follow) {
        (Role::Primary { .. }, None) => {}
        (Role::Replica { primary, .. }, Some(follow)) if primary == follow => {}
        (Role::Primary { .. }, Some(follow)) => {
            return Err(refused(format!("the server is a primary, and was to follow {follow}")));
        }
        (Role::Replica { primary, .. }, _) => return Err(refused(format!("the server follows {primary}"))),
    }
    if let Some(version) = wanted.version.filter(|version| *version != running.version) {
        return Err(refused(format!("{} answers, and {version} was started", running.version))
            .hint("another server listens there: see its port and who started it"));
    }
    if let Some(files) = &wanted.files {
        let (dir, dbfilename) = (read("dir").await?, read("dbfilename").await?);
        let effective = PathBuf::from(&dir).join(&dbfilename);
        if !same_place(&effective, &files.dump()) {
            return Err(refused(format!(
                "the server loads {}, and the snapshot is {}",
                effective.display(),
                files.dump().display()
            ))
            .hint("see `dir` and `dbfilename` in the server's configuration and in its service's arguments"));
        }
    }
    Ok(())
}

/// Compares two files by their directories on disk, so that links on the way do not matter.
fn same_place(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| {
        path.parent().and_then(|dir| dir.canonicalize().ok()).zip(path.file_name().map(ToOwned::to_owned))
    };
    one == other || real(one).is_some_and(|one| Some(one) == real(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instance::tests::with_conf;

    #[test]
    fn a_place_is_the_same_behind_a_link() {
        let dir = tempfile::tempdir().unwrap();
        let (data, link) = (dir.path().join("data"), dir.path().join("link"));
        std::fs::create_dir(&data).unwrap();
        std::os::unix::fs::symlink(&data, &link).unwrap();
        assert!(same_place(&data.join("dump.rdb"), &link.join("dump.rdb")));
        assert!(!same_place(&data.join("dump.rdb"), &link.join("other.rdb")));
        assert!(!same_place(&data.join("dump.rdb"), Path::new("/nowhere/dump.rdb")));
    }

    #[tokio::test]
    async fn a_port_is_taken_where_the_server_would_listen_and_nowhere_else() {
        let dir = tempfile::tempdir().unwrap();
        let conf = |bind: &str, port: u16| with_conf(dir.path(), &format!("{bind}\nport {port}\n")).conf().unwrap();
        let on = |address: &str| listening::listen(address.parse().unwrap());
        let four = on("0.0.0.0:0").unwrap();
        let at_four = four.local_addr().unwrap();
        for bind in ["", "bind *", "bind -* ::1", "bind 0.0.0.0"] {
            assert_eq!(taken(&conf(bind, at_four.port())), Some(at_four), "{bind}");
        }
        // IPv6 is switched off on some hosts.
        let Ok(six) = on("[::]:0") else { return };
        let at_six = six.local_addr().unwrap();
        for bind in ["", "bind ::*", "bind 127.0.0.1 -::*", "bind ::"] {
            assert_eq!(taken(&conf(bind, at_six.port())), Some(at_six), "{bind}");
        }
        assert_eq!(taken(&conf("bind 0.0.0.0", at_six.port())), None);
        assert_eq!(taken(&conf("bind ::", at_four.port())), None);
    }

    #[test]
    fn why_a_server_did_not_load_is_known_by_its_log() {
        let hint = |line: &str| with_hint(Fault::new(FaultKind::Server, "ended").because(line)).hint;
        assert!(hint("# Can't handle RDB format version 12").unwrap().contains("newer"));
        assert!(hint("# Wrong RDB checksum expected: (1) but got (2)").unwrap().contains("damaged"));
        assert!(
            hint("# Could not create server TCP listening socket *:1: bind: Address already in use")
                .unwrap()
                .contains("listens")
        );
        assert_eq!(hint("# something else"), None);
    }
}
