//! One configured instance: where its server is, how to talk to it, and the lock under which it is changed.
//!
//! Nothing about the server is remembered: `redis.conf` is read afresh and a connection is made at each call, since
//! operators change the one and restart the other without telling the agent. Not here: what is done to an instance
//! (`actions`), and how its process is controlled (`service`).

pub(crate) mod conf_file;
pub(crate) mod endpoints;
pub(crate) mod listening;
mod rehearsal;
pub(crate) mod settings;

use std::collections::BTreeMap;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use baton_proto::report::Running;
use baton_proto::{Fault, FaultKind, HostPort, InstanceName};
use tokio::sync::{MutexGuard, OwnedMutexGuard, watch};

use crate::config::{AgentConfig, InstanceConfig, ServiceConfig};
use crate::info::Info;
use crate::redis_conf::RedisConf;
use crate::server::{self, BareStream, ConnectError, Credentials, Endpoint, Server, ServerError};

pub(crate) use self::rehearsal::Rehearsal;

/// Largest password file: a file of another kind was named by mistake.
const PASSWORD_BYTES_MAX: u64 = 4096;

/// One server process of this host, running or not.
pub struct Instance {
    config: InstanceConfig,
    state: PathBuf,
    listen: IpAddr,
    disk_reserve_bytes: u64,
    /// Held while an action works on the instance.
    lock: tokio::sync::Mutex<()>,
    /// Held while the server is told whom to follow, from the look that decided it on.
    role: tokio::sync::Mutex<()>,
    /// Changes when what an action of a run still does here is not wanted any more.
    called_off: watch::Sender<()>,
    /// Held by whoever puts back what was left changed of its server.
    recovery: tokio::sync::Mutex<()>,
    /// Each connection of this agent to the server holds a copy.
    connections: Arc<()>,
    /// Held by a look at the server's disk.
    disk: Arc<tokio::sync::Mutex<()>>,
    rehearsal: tokio::sync::Mutex<Option<Rehearsal>>,
}

/// Whether an action is still wanted.
#[derive(Debug, Clone, Default)]
pub struct CalledOff(Option<watch::Receiver<()>>);

impl CalledOff {
    /// Resolves when the action was called off.
    pub async fn wait(&mut self) -> Fault {
        if let Some(receiver) = &mut self.0
            && receiver.changed().await.is_ok()
        {
            return Fault::new(FaultKind::Refused, "called off: the run is being undone");
        }
        std::future::pending().await
    }
}

/// Where the server keeps its data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataFiles {
    pub dir: PathBuf,
    /// Names within `dir`.
    pub dbfilename: String,
    /// The append-only file, before Redis 7.0 (later versions convert it when they start).
    pub appendfilename: String,
    /// The append-only directory, from Redis 7.0 on.
    pub appenddirname: String,
}

impl DataFiles {
    pub fn dump(&self) -> PathBuf {
        self.dir.join(&self.dbfilename)
    }

    fn of_conf(conf: &RedisConf) -> Self {
        Self {
            dir: conf.dir(),
            dbfilename: conf.dbfilename(),
            appendfilename: conf.appendfilename(),
            appenddirname: conf.appenddirname(),
        }
    }

    /// What is in force, as far as the server tells it; older ones know no `appenddirname`.
    pub(crate) fn in_force(conf: &RedisConf, told: Option<&BTreeMap<String, String>>) -> Self {
        let files = Self::of_conf(conf);
        let Some(told) = told else { return files };
        let or = |name: &str, otherwise: String| told.get(name).cloned().unwrap_or(otherwise);
        Self {
            dir: told.get("dir").map_or(files.dir, PathBuf::from),
            dbfilename: or("dbfilename", files.dbfilename),
            appendfilename: or("appendfilename", files.appendfilename),
            appenddirname: or("appenddirname", files.appenddirname),
        }
    }
}

impl Instance {
    pub fn new(config: InstanceConfig, agent: &AgentConfig) -> Instance {
        Instance {
            config,
            state: agent.state.clone(),
            listen: agent.listen.ip(),
            disk_reserve_bytes: agent.disk_reserve_bytes,
            lock: tokio::sync::Mutex::default(),
            role: tokio::sync::Mutex::default(),
            called_off: watch::Sender::new(()),
            recovery: tokio::sync::Mutex::default(),
            connections: Arc::default(),
            disk: Arc::default(),
            rehearsal: tokio::sync::Mutex::default(),
        }
    }

    pub fn name(&self) -> &InstanceName {
        &self.config.name
    }

    pub fn config(&self) -> &InstanceConfig {
        &self.config
    }

    /// Where the agent keeps what it must not forget.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    pub(crate) fn disk_reserve_bytes(&self) -> u64 {
        self.disk_reserve_bytes
    }

    /// The directory of `redis.conf`: the working directory of a server that this agent starts.
    pub fn conf_dir(&self) -> &Path {
        self.config.config.parent().unwrap_or(&self.config.config)
    }

    /// Waits until no other action works on this instance.
    pub async fn lock(&self) -> MutexGuard<'_, ()> {
        self.lock.lock().await
    }

    /// The same, if none works on it now.
    pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, ()>> {
        self.lock.try_lock().ok()
    }

    /// Ends the action that works here, if it is one that can be left at any point.
    pub(crate) fn call_off(&self) {
        self.called_off.send_replace(());
    }

    /// Tells an action that begins now when it is not wanted any more.
    pub(crate) fn called_off(&self) -> CalledOff {
        CalledOff(Some(self.called_off.subscribe()))
    }

    /// Keeps others from telling the server whom to follow. An action may hold its lock for hours, and a role cannot wait.
    pub(crate) async fn role(&self) -> MutexGuard<'_, ()> {
        self.role.lock().await
    }

    /// Begins to put back what was left changed of its server, unless somebody does so already.
    pub(crate) fn begin_recovery(&self) -> Option<MutexGuard<'_, ()>> {
        self.recovery.try_lock().ok()
    }

    /// Waits until no other look at the server's disk is under way. One at a hung disk never ends.
    pub(crate) async fn look_at_disk(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.disk).lock_owned().await
    }

    /// Reads `redis.conf` from disk, afresh at each call, and what the service adds to it on the command line.
    pub fn conf(&self) -> Result<RedisConf, Fault> {
        let path = &self.config.config;
        let mut conf = conf_file::read(path, self.conf_dir()).map_err(|reason| {
            Fault::new(FaultKind::Host, format!("read the configuration of instance `{}`", self.name()))
                .because(reason)
                .hint(format!("let the agent's user read {} and what it includes", path.display()))
        })?;
        if let ServiceConfig::Exec(argv) = &self.config.service {
            // Behind the file's name; before it stand a wrapper's own arguments.
            let file = argv.iter().position(|word| self.conf_dir().join(word) == *path);
            conf.push_arguments(file.and_then(|at| argv.get(at..)).unwrap_or_default());
        }
        Ok(conf)
    }

    /// Where other hosts reach this instance.
    pub fn address(&self, conf: &RedisConf) -> HostPort {
        let own_name = rustix::system::uname();
        endpoints::address(self.config.address.as_ref(), conf, self.listen, &own_name.nodename().to_string_lossy())
    }

    /// Connects to the server of this instance. Where it can listen in several places, each is tried: it is stopped
    /// only if it is at none of them.
    pub async fn connect(&self) -> Result<Server, ConnectError> {
        let conf = self.conf().map_err(|fault| ConnectError::Silent(fault.to_string()))?;
        self.connect_by(&conf).await
    }

    pub(crate) async fn connect_by(&self, conf: &RedisConf) -> Result<Server, ConnectError> {
        let (stream, endpoint) = self.open(conf).await?;
        let server = Server::over(stream, &endpoint).await?;
        Ok(server.of_instance(conf.renames(), Arc::clone(&self.connections)))
    }

    /// Connects for what the client does not speak. Beside it, the names that `rename-command` gave to commands.
    pub(crate) async fn connect_bare(&self) -> Result<(BareStream, BTreeMap<String, String>), ConnectError> {
        let conf = self.conf().map_err(|fault| ConnectError::Silent(fault.to_string()))?;
        let (stream, _) = self.open(&conf).await?;
        Ok((stream, conf.renames()))
    }

    async fn open(&self, conf: &RedisConf) -> Result<(BareStream, Endpoint), ConnectError> {
        let credentials = self.credentials(conf)?;
        let endpoints = endpoints::endpoints(conf, self.config.tls_ca.as_deref());
        if endpoints.is_empty() {
            let reason = "redis.conf gives it neither a `port`, nor a `tls-port`, nor a `unixsocket`".to_owned();
            return Err(ConnectError::Silent(reason));
        }
        let mut worst = None;
        for endpoint in endpoints {
            match server::connect_bare(&endpoint, &credentials).await {
                Ok(stream) => return Ok((stream, endpoint)),
                Err(error) => worst = Some(worse(worst, error)),
            }
        }
        Err(worst.unwrap_or_else(|| ConnectError::Stopped("it listens nowhere".to_owned())))
    }

    /// The user and password of `agent.toml`, else `requirepass`.
    fn credentials(&self, conf: &RedisConf) -> Result<Credentials, ConnectError> {
        let user = self.config.user.clone();
        let password = match &self.config.password_file {
            Some(path) => Some(read_password(path).map_err(|error| ConnectError::Denied {
                user: user.clone().unwrap_or_else(|| "default".to_owned()),
                error: format!("read password file {}: {error}", path.display()),
            })?),
            None => conf.requirepass().map(str::to_owned),
        };
        Ok(Credentials { user, password })
    }

    /// Connects, and reads `INFO`.
    pub async fn running(&self) -> Result<Running, Fault> {
        let mut server = self.connect().await.map_err(|error| error.fault(self.name()))?;
        let text = server.info().await.map_err(|error| error.fault(self.name(), "INFO"))?;
        self.report(&text).map_err(|error| {
            Fault::new(FaultKind::Server, format!("the server of instance `{}` is not understood", self.name()))
                .because(error)
        })
    }

    /// Reads an `INFO` that came over one of this agent's connections.
    pub(crate) fn report(&self, info: &str) -> Result<Running, crate::info::InfoError> {
        let own = Arc::strong_count(&self.connections).saturating_sub(1);
        Info::parse(info).running(own as u64)
    }

    /// Where the data is: as the running server says, else by `redis.conf`.
    pub async fn data_files(&self) -> Result<DataFiles, Fault> {
        let conf = self.conf()?;
        let told = match self.connect_by(&conf).await {
            Ok(mut server) => match server.all_config().await {
                Ok(told) => Some(told),
                // CONFIG is disabled or not allowed: the file has to do.
                Err(ServerError::Said(_)) => None,
                Err(error) => return Err(error.fault(self.name(), "CONFIG GET")),
            },
            Err(_) => None,
        };
        Ok(DataFiles::in_force(&conf, told.as_ref()))
    }

    /// The rehearsal that runs on this instance, for whoever begins or ends it.
    pub(crate) async fn rehearsal(&self) -> MutexGuard<'_, Option<Rehearsal>> {
        self.rehearsal.lock().await
    }
}

/// Which of two failures says more: a server that refuses is known to be there, a silent one may be.
fn worse(known: Option<ConnectError>, new: ConnectError) -> ConnectError {
    match (known, new) {
        (None, new) => new,
        (Some(ConnectError::Stopped(one)), ConnectError::Stopped(other)) => {
            ConnectError::Stopped(format!("{one}; {other}"))
        }
        (Some(ConnectError::Stopped(_)), new) => new,
        (Some(ConnectError::Silent(_)), new @ ConnectError::Denied { .. }) => new,
        (Some(known), _) => known,
    }
}

/// Reads the first line.
fn read_password(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(PASSWORD_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
pub(crate) mod tests;
