//! What an agent reports: its host, and every instance on it.
//!
//! All instances are looked at concurrently, and each of the three things that can hang (the server, the data
//! directory, the program that tells its version) has a deadline: one that hangs is reported as such and holds up
//! nothing else. Facts only; the coordinator judges.

mod condition;
mod files;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use baton_proto::HostPort;
use baton_proto::condition::ServerCondition;
use baton_proto::report::{Files, HostReport, InstanceReport, Link, Role, Running, ServerState, Settings};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::{error, warn};

use crate::agent::{Agent, SOFTWARE};
use crate::blocking::blocking;
use crate::info::Info;
use crate::instance::{DataFiles, Instance, settings};
use crate::redis_conf::RedisConf;
use crate::server::{ConnectError, Server, ServerError};
use crate::{actions, fence, host, service, speeds};
use condition::OfFiles;

/// How long a server has to answer everything that is asked of it: a little more than one whole
/// [call](crate::server::CALL_TIMEOUT), and less than those who wait for the report bear.
const SERVER_TIMEOUT: Duration = Duration::from_secs(6);
/// How long the data directory has. A local disk answers at once; a network disk that is gone never does.
const FILES_TIMEOUT: Duration = Duration::from_secs(3);
/// How long the server program has to tell its version.
const BINARY_TIMEOUT: Duration = Duration::from_secs(6);

/// How many instances are looked at at the same time. Each look takes a connection, a thread for the disk and at times a
/// process; and hung ones hold up only those that come after so many of them.
const LOOKS_MAX: usize = 64;

/// Observes the host and its instances.
pub async fn observe(agent: &Agent) -> HostReport {
    let mut looking = JoinSet::new();
    let room = Arc::new(Semaphore::new(LOOKS_MAX));
    for instance in agent.instances.values() {
        let instance = Arc::clone(instance);
        let claim = agent.claims.held(instance.name());
        let room = Arc::clone(&room);
        looking.spawn(async move {
            // Fails only where it was closed, which nobody does.
            let _room = room.acquire().await;
            InstanceReport { claim, ..report(&instance).await }
        });
    }
    let mut instances = Vec::with_capacity(agent.instances.len());
    while let Some(seen) = looking.join_next().await {
        match seen {
            Ok(report) => instances.push(report),
            Err(defect) => error!("an instance could not be observed: {defect}"),
        }
    }
    instances.sort_by(|a, b| a.name.cmp(&b.name));
    let memory = host::memory();
    HostReport {
        host: agent.host.clone(),
        software: SOFTWARE.to_owned(),
        clock_unix_ms: host::clock_unix_ms(),
        cores: host::cores(),
        memory_bytes: memory.total_bytes,
        memory_available_bytes: memory.available_bytes.saturating_sub(agent.config.memory_reserve_bytes),
        condition: condition::of_host(),
        instances,
        depositions: agent.notes.all(),
        certificate: Some(agent.certificates.facts()),
        peers: Some(agent.peers.known()),
    }
}

async fn report(instance: &Instance) -> InstanceReport {
    let service = &instance.config().service;
    // Its note comes before the adoption and goes after it: one that begins or ends meanwhile is seen at one of two looks.
    let adopted_before = adopted_at(instance).await;
    let (binary, seen) = tokio::join!(timeout(BINARY_TIMEOUT, service::binary_version(service)), look(instance));
    let late = |_| Err(format!("the program did not tell its version within {} s", BINARY_TIMEOUT.as_secs()));
    let binary = binary.unwrap_or_else(late);
    let mut server = seen.server;
    if let ServerState::Running(running) = &mut server {
        let adopted_after = adopted_at(instance).await;
        adopted_before.iter().chain(&adopted_after).for_each(|to| as_fenced(running, to));
    }
    InstanceReport {
        name: instance.name().clone(),
        address: instance.address(&seen.conf),
        service: service::fact(service),
        binary: binary.as_ref().ok().copied(),
        binary_error: binary.err(),
        settings: seen.settings,
        files: seen.files,
        fence: fence::in_force(instance.state_dir(), instance.name(), &server),
        server,
        condition: seen.condition,
        claim: None,
        speeds: speeds::read(instance.state_dir(), instance.name()),
    }
}

async fn adopted_at(instance: &Instance) -> Option<HostPort> {
    let adopted = actions::adopted_at(instance).await;
    adopted.inspect_err(|fault| warn!(instance = %instance.name(), "{fault}")).unwrap_or_default()
}

/// A server that its agent has adopted for a stream is fenced to everybody else: it is so again when the stream ends, and
/// whatever is ordered of it ends the stream first. So is its child no save that one would have to wait for.
fn as_fenced(running: &mut Running, adopted_at: &HostPort) {
    if let Role::Replica { primary, link, .. } = &mut running.role
        && primary == adopted_at
    {
        (*primary, *link) = (fence::address(), Link::Down { since_seconds: None });
        running.persistence.saving = false;
    }
}

/// What was found out about one instance.
struct Seen {
    conf: RedisConf,
    settings: Settings,
    server: ServerState,
    files: Files,
    condition: ServerCondition,
}

async fn look(instance: &Instance) -> Seen {
    let path = &instance.config().config;
    let (conf, unreadable) = match instance.conf() {
        Ok(conf) => (conf, None),
        Err(fault) => (RedisConf::empty(instance.conf_dir()), Some(fault.to_string())),
    };
    let mut settings = Settings { error: unreadable, ..settings::of_conf(&conf, path) };
    let mut answers = match &settings.error {
        Some(reason) => Answers::none(silent(format!("it is not known where it listens: {reason}"))),
        None => ask(instance, &conf).await,
    };
    if let (Some(told), ServerState::Running(running)) = (&mut answers.settings, &answers.server) {
        actions::unborrowed(instance, running.pid, told).await;
    }
    if let Some(told) = &answers.settings {
        settings::in_force(&mut settings, told, &conf);
    }
    if let Some(file) = answers.config_file {
        settings.config_file = file;
    }
    let data = DataFiles::in_force(&conf, answers.settings.as_ref());
    let pid = answers.server.running().map(|running| running.pid);
    let told = answers.settings.as_ref();
    let condition = condition::of_server(&conf, pid, told, answers.said);
    // Without the configuration nobody knows where the data is; a look at the wrong place would mislead.
    let is_known = settings.error.is_none();
    let (files, of_files) = look_at_files(instance, &conf, data, pid, is_known).await;
    Seen { conf, settings, server: answers.server, files, condition: of_files.complete(condition) }
}

/// Looks at everything of a server that is on a disk, which may never answer.
async fn look_at_files(
    instance: &Instance,
    conf: &RedisConf,
    data: DataFiles,
    pid: Option<u32>,
    is_known: bool,
) -> (Files, OfFiles) {
    let late = format!("{} does not answer within {} s", data.dir.display(), FILES_TIMEOUT.as_secs());
    let unseen = |why: String| (Files { write_error: Some(why), ..Files::default() }, OfFiles::default());
    let deadline = Instant::now() + FILES_TIMEOUT;
    // It goes with the look, and not with who waits for it: what hangs takes one thread, however often it is looked at.
    let Ok(turn) = timeout_at(deadline, instance.look_at_disk()).await else {
        return unseen(format!("{late}, as it has not since an earlier look"));
    };
    let (conf, path, reserve_bytes) = (conf.clone(), instance.config().config.clone(), instance.disk_reserve_bytes());
    let looking = blocking(move || {
        let of_files = OfFiles::look(&conf, &path, &data.dir, pid);
        let files = is_known.then(|| files::look(&data, reserve_bytes));
        drop(turn);
        (files, of_files)
    });
    match timeout_at(deadline, looking).await {
        Ok(Ok((Some(files), of_files))) => (files, of_files),
        Ok(Ok((None, of_files))) => (unseen("the data directory is not known".to_owned()).0, of_files),
        Ok(Err(defect)) => unseen(defect.to_string()),
        Err(_) => unseen(late),
    }
}

/// What a server said.
struct Answers {
    server: ServerState,
    /// `CONFIG GET *`, unless that is disabled or not allowed.
    settings: Option<BTreeMap<String, String>>,
    /// The file that the server was started with.
    config_file: Option<String>,
    said: condition::Said,
}

impl Answers {
    fn none(server: ServerState) -> Answers {
        Answers { server, settings: None, config_file: None, said: condition::Said::default() }
    }
}

async fn ask(instance: &Instance, conf: &RedisConf) -> Answers {
    let deadline = Instant::now() + SERVER_TIMEOUT;
    let (mut server, info) = match timeout_at(deadline, greet(instance, conf)).await {
        Ok(Ok(greeted)) => greeted,
        Ok(Err(state)) => return Answers::none(state),
        Err(_) => return Answers::none(silent(format!("no answer to INFO within {} s", SERVER_TIMEOUT.as_secs()))),
    };
    let sentinels = timeout_at(deadline, server.sentinels()).await.unwrap_or(0);
    let state = match instance.report(&info) {
        Ok(running) => ServerState::Running(Box::new(Running { sentinels, ..running })),
        Err(error) => silent(error.to_string()),
    };
    let config_file = Info::parse(&info).field("config_file").filter(|file| !file.is_empty()).map(str::to_owned);
    // It may be disabled or not allowed, and a server that loads may need more time than is left: the file has to do.
    let settings = timeout_at(deadline, server.all_config()).await.ok().and_then(Result::ok);
    let user = instance.config().user.as_deref().unwrap_or("default");
    let renames = conf.renames();
    let said = match state.running().map(|running| running.version) {
        Some(version) => {
            let asking = condition::ask(&mut server, user, &renames, version);
            timeout_at(deadline, asking).await.unwrap_or_default()
        }
        None => condition::Said::default(),
    };
    Answers { server: state, settings, config_file, said }
}

async fn greet(instance: &Instance, conf: &RedisConf) -> Result<(Server, String), ServerState> {
    let mut server = instance.connect_by(conf).await.map_err(unconnected)?;
    let info = server.info().await.map_err(|error| unanswered(instance, error))?;
    Ok((server, info))
}

fn silent(error: String) -> ServerState {
    ServerState::Silent { error }
}

fn unconnected(error: ConnectError) -> ServerState {
    match error {
        ConnectError::Stopped(_) => ServerState::Stopped,
        ConnectError::Silent(error) => silent(error),
        ConnectError::Denied { user, error } => ServerState::Denied { user, error },
    }
}

fn unanswered(instance: &Instance, error: ServerError) -> ServerState {
    match (error.code(), &error) {
        (Some("NOPERM" | "NOAUTH"), ServerError::Said(line)) => ServerState::Denied {
            user: instance.config().user.clone().unwrap_or_else(|| "default".to_owned()),
            error: line.clone(),
        },
        _ => silent(error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use baton_proto::InstanceName;
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::{AgentConfig, InstanceConfig, ServiceConfig};

    fn instance(dir: &Path) -> Instance {
        let config = InstanceConfig {
            name: InstanceName::new("default").unwrap(),
            config: dir.join("redis.conf"),
            address: None,
            user: None,
            password_file: None,
            tls_ca: None,
            service: ServiceConfig::Exec(vec!["redis-server".into(), "redis.conf".into()]),
        };
        let agent = AgentConfig {
            listen: "127.0.0.1:7400".parse().unwrap(),
            identity: dir.join("id.pem"),
            state: dir.join("state"),
            disk_reserve_bytes: 0,
            memory_reserve_bytes: 0,
            lanes: 1,
            metrics: None,
            log: Default::default(),
            instances: vec![config.clone()],
        };
        Instance::new(config, &agent)
    }

    #[test]
    fn a_server_that_its_agent_has_adopted_is_reported_as_fenced_and_another_as_it_is() {
        let orphan = include_str!("info/fixtures/redis-7.0.orphan.txt");
        let linked = orphan.replace("master_link_status:down", "master_link_status:up");
        let running = crate::info::parse_running(&linked).unwrap();
        let Role::Replica { primary, .. } = running.role.clone() else { panic!("{:?}", running.role) };
        let mut other = running.clone();
        as_fenced(&mut other, &HostPort::new("127.0.0.1", 40_000));
        assert_eq!(other, running);
        let mut adopted = running.clone();
        adopted.persistence.saving = true;
        as_fenced(&mut adopted, &primary);
        assert!(
            matches!(&adopted.role, Role::Replica { primary, link: Link::Down { .. }, .. } if *primary == fence::address())
        );
        assert_eq!((adopted.replication, adopted.persistence), (running.replication, running.persistence));
    }

    #[tokio::test]
    async fn a_stopped_server_is_described_by_its_file() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("redis.conf"), "port 0\nunixsocket none.sock\nappendonly yes\n").unwrap();
        std::fs::write(dir.path().join("dump.rdb"), "REDIS0010").unwrap();
        let seen = look(&instance(dir.path())).await;
        assert_eq!(seen.server, ServerState::Stopped);
        assert!(seen.settings.appendonly && seen.settings.error.is_none());
        assert_eq!((seen.files.dump_bytes, seen.files.write_error), (Some(9), None));
    }

    #[tokio::test]
    async fn without_its_file_nothing_is_claimed_about_a_server() {
        let dir = tempfile::tempdir().unwrap();
        let seen = look(&instance(dir.path())).await;
        assert!(
            matches!(&seen.server, ServerState::Silent { error } if error.contains("redis.conf")),
            "{:?}",
            seen.server
        );
        assert!(seen.settings.error.is_some() && seen.files.write_error.is_some());
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_holds_up_nobody_and_takes_one_thread() {
        let dir = tempfile::tempdir().unwrap();
        let hung = dir.path().join("users.acl");
        // Who opens it waits until somebody writes.
        assert!(std::process::Command::new("mkfifo").arg(&hung).status().unwrap().success());
        let conf = format!("port 0\nunixsocket none.sock\naclfile {}\n", hung.display());
        std::fs::write(dir.path().join("redis.conf"), conf).unwrap();
        let instance = instance(dir.path());
        let mut complaints = Vec::new();
        for _ in 0..2 {
            let looking = async {
                let seen = look(&instance).await;
                (seen.server, seen.files.write_error.unwrap_or_default())
            };
            let (server, complaint) = timeout(FILES_TIMEOUT * 3, looking).await.expect("a look ends");
            assert_eq!(server, ServerState::Stopped);
            complaints.push(complaint);
        }
        // Lets the thread go, of which there is one: its name is gone then.
        let writer = std::fs::File::options().write(true).open(&hung).unwrap();
        assert!(complaints.iter().all(|text| text.contains("does not answer")), "{complaints:?}");
        assert!(!complaints[0].contains("earlier look") && complaints[1].contains("earlier look"), "{complaints:?}");
        drop(writer);
        std::fs::remove_file(&hung).unwrap();
        assert_eq!(look(&instance).await.files.write_error, None);
    }

    #[tokio::test]
    async fn a_server_that_accepts_and_says_nothing_is_silent() {
        let dir = tempfile::tempdir().unwrap();
        let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let conf = format!("bind 127.0.0.1\nport {}\n", hung.local_addr().unwrap().port());
        std::fs::write(dir.path().join("redis.conf"), conf).unwrap();
        let seen = look(&instance(dir.path())).await;
        assert!(matches!(seen.server, ServerState::Silent { .. }), "{:?}", seen.server);
        assert!(seen.files.write_error.is_none(), "the rest is reported nevertheless");
    }
}
