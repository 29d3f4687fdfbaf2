//! `coord.toml`: which hosts there are, where their agents listen, and who the operator is.
//!
//! What runs on a host is not written here; its agent knows. Not here either: whether an agent answers.

pub mod options;

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use baton_proto::name::NameError;
use baton_proto::{HostName, HostPort, InstanceName};
use serde::Deserialize;

use crate::error::{CoordError, Exit};

/// Name of the file where it is looked for.
const FILE: &str = "coord.toml";
/// Largest file: a thousand hosts with all their addresses are far below.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// How different a name may be from the one meant, in letters changed, to be proposed.
const TYPOS_MAX: usize = 3;

/// The hosts that `coord` knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The file that was read.
    pub path: PathBuf,
    /// The operator's identity bundle.
    pub identity: PathBuf,
    /// Directory of the journal.
    pub state: PathBuf,
    pub hosts: BTreeMap<HostName, InventoryHost>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InventoryHost {
    /// Where the host's agent listens.
    pub agent: HostPort,
    /// Other addresses under which the host's servers are known.
    pub addresses: Vec<String>,
}

/// A person's `HOST` or `HOST/INSTANCE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Word {
    pub host: HostName,
    pub instance: Option<InstanceName>,
}

impl fmt::Display for Word {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.instance {
            None => f.pad(self.host.as_str()),
            Some(instance) => f.pad(&format!("{}/{instance}", self.host)),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum InventoryError {
    #[error("no coord.toml found; looked for {}", shown(looked))]
    Missing { looked: Vec<PathBuf> },
    #[error("read {}: {error}", path.display())]
    Read { path: PathBuf, error: std::io::Error },
    #[error("{} is larger than {FILE_BYTES_MAX} bytes", path.display())]
    Large { path: PathBuf },
    #[error("{}:{line}:{column}: {reason}", path.display())]
    Content { path: PathBuf, line: usize, column: usize, reason: String },
    #[error("{}: {reason}", path.display())]
    Whole { path: PathBuf, reason: String },
    #[error("host `{name}` is not in {}", path.display())]
    UnknownHost { name: String, path: PathBuf, near: Vec<HostName>, all: Vec<HostName> },
    #[error("{0}")]
    Word(NameError),
}

fn shown(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| format!("`{}`", path.display())).collect::<Vec<_>>().join(", ")
}

impl InventoryError {
    /// What to do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Missing { .. } => Some(
                "write coord.toml, or name it with `--config FILE`; `coord pki init DIR` makes its identity".into(),
            ),
            Self::UnknownHost { near, all, .. } => match (near.as_slice(), all.as_slice()) {
                ([], []) => None,
                ([], all) => Some(format!("the hosts are {}", quoted(all))),
                (near, _) => Some(format!("did you mean {}?", quoted(near))),
            },
            _ => None,
        }
    }
}

fn quoted(names: &[HostName]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(" or ")
}

impl From<InventoryError> for CoordError {
    fn from(error: InventoryError) -> Self {
        let mut converted = CoordError::new(Exit::Usage, &error);
        converted.hint = error.hint();
        converted
    }
}

/// The places of a person's files, as the environment names them.
#[derive(Debug, Clone, Default)]
pub struct Places {
    pub home: Option<PathBuf>,
    pub xdg_config: Option<PathBuf>,
    pub xdg_state: Option<PathBuf>,
}

impl Places {
    pub fn of_environment() -> Places {
        // The XDG specification: a relative path is invalid and to be ignored.
        let path = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        Places { home: path("HOME"), xdg_config: path("XDG_CONFIG_HOME"), xdg_state: path("XDG_STATE_HOME") }
    }

    /// Where a new file goes when none is found: the person's own.
    pub fn new_config(&self) -> Option<PathBuf> {
        self.config_files().into_iter().nth(1)
    }

    /// Where the file is looked for, in order.
    pub fn config_files(&self) -> Vec<PathBuf> {
        let own = self.xdg_config.clone().or_else(|| Some(self.home.as_ref()?.join(".config")));
        let own = own.map(|directory| directory.join("baton").join(FILE));
        std::iter::once(PathBuf::from(FILE)).chain(own).chain([PathBuf::from("/etc/baton").join(FILE)]).collect()
    }

    fn state(&self) -> Option<PathBuf> {
        let state = self.xdg_state.clone().or_else(|| Some(self.home.as_ref()?.join(".local/state")));
        Some(state?.join("baton"))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    identity: PathBuf,
    state: Option<PathBuf>,
    #[serde(default)]
    hosts: BTreeMap<HostName, FileHost>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileHost {
    agent: HostPort,
    #[serde(default)]
    addresses: Vec<String>,
}

impl Inventory {
    /// Loads the file that `--config` names, else the first that is found.
    pub fn find(config: Option<&Path>, places: &Places) -> Result<Inventory, InventoryError> {
        if let Some(path) = config {
            return Self::load(path, places);
        }
        let looked = places.config_files();
        match looked.iter().find(|path| path.exists()) {
            Some(path) => Self::load(path, places),
            None => Err(InventoryError::Missing { looked }),
        }
    }

    pub fn load(path: &Path, places: &Places) -> Result<Inventory, InventoryError> {
        let failed = |error| InventoryError::Read { path: path.to_owned(), error };
        let file = std::fs::File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.len() > FILE_BYTES_MAX {
            return Err(InventoryError::Large { path: path.to_owned() });
        }
        let text = std::io::read_to_string(file).map_err(failed)?;
        Self::parse(&text, path, places)
    }

    /// Reads the file's text. Relative paths in it are from the file's directory.
    pub fn parse(text: &str, path: &Path, places: &Places) -> Result<Inventory, InventoryError> {
        let file: File = toml::from_str(text).map_err(|error| {
            let (line, column) = position(text, error.span());
            InventoryError::Content { path: path.to_owned(), line, column, reason: error.message().into() }
        })?;
        let whole = |reason: String| InventoryError::Whole { path: path.to_owned(), reason };
        let directory = path.parent().unwrap_or(Path::new(""));
        let state = match file.state {
            Some(state) => directory.join(state),
            None => places.state().ok_or_else(|| {
                whole("`state` is not given and neither HOME nor XDG_STATE_HOME is set; add `state = DIRECTORY`".into())
            })?,
        };
        if file.hosts.is_empty() {
            return Err(whole("it lists no host; add `[hosts.NAME]` with `agent = \"ADDRESS:PORT\"`".into()));
        }
        let mut agents: BTreeMap<&HostPort, &HostName> = BTreeMap::new();
        for (name, host) in &file.hosts {
            if let Some(other) = agents.insert(&host.agent, name) {
                return Err(whole(format!("hosts {other} and {name} have the same agent {}", host.agent)));
            }
            if let Some(bad) = host.addresses.iter().find(|address| !is_address(address)) {
                return Err(whole(format!("host {name}: `{bad}` is no address or name without a port")));
            }
        }
        let hosts = file
            .hosts
            .into_iter()
            .map(|(name, host)| (name, InventoryHost { agent: host.agent, addresses: host.addresses }))
            .collect();
        Ok(Inventory { path: path.to_owned(), identity: directory.join(file.identity), state, hosts })
    }

    pub fn host(&self, name: &HostName) -> Result<&InventoryHost, InventoryError> {
        self.hosts.get(name).ok_or_else(|| self.unknown(name.as_str()))
    }

    /// The names of all hosts.
    pub fn names(&self) -> Vec<HostName> {
        self.hosts.keys().cloned().collect()
    }

    /// Reads a person's `HOST` or `HOST/INSTANCE`. The host must be known; which instances it has, its agent tells.
    pub fn word(&self, text: &str) -> Result<Word, InventoryError> {
        let (host, instance) = match text.split_once('/') {
            Some((host, instance)) => (host, Some(InstanceName::new(instance).map_err(InventoryError::Word)?)),
            None => (text, None),
        };
        let unknown = |_: NameError| self.unknown(host);
        let host = HostName::new(host).map_err(unknown)?;
        self.host(&host)?;
        Ok(Word { host, instance })
    }

    fn unknown(&self, name: &str) -> InventoryError {
        let name: String = name.chars().filter(|c| !c.is_control()).take(80).collect();
        InventoryError::UnknownHost { near: self.near(&name), all: self.names(), name, path: self.path.clone() }
    }

    /// Hosts whose name or address resembles what was typed, the likeliest first.
    fn near(&self, name: &str) -> Vec<HostName> {
        let address = name.parse::<HostPort>().map_or_else(|_| name.to_owned(), |address| address.host);
        let of_address =
            self.hosts.iter().filter(|(_, host)| host.agent.host == address || host.addresses.contains(&address));
        let of_address: Vec<HostName> = of_address.map(|(name, _)| name.clone()).collect();
        if !of_address.is_empty() {
            return of_address;
        }
        let typos_max = TYPOS_MAX.min(name.chars().count() / 2);
        let lower = name.to_lowercase();
        let mut near: Vec<(usize, &HostName)> = self
            .hosts
            .keys()
            .map(|host| (typos(&lower, host.as_str()), host))
            .filter(|(typos, _)| *typos <= typos_max)
            .collect();
        near.sort();
        // The nearest alone; where names differ in a number, three show the pattern.
        let nearest = near.first().map(|(typos, _)| *typos);
        let near = near.into_iter().take_while(|(typos, _)| Some(*typos) == nearest);
        near.take(3).map(|(_, host)| host.clone()).collect()
    }
}

/// Whether the text is an IP address or a host name. A port would make it another thing: all ports of a host are its own.
fn is_address(text: &str) -> bool {
    let is_name = !text.contains(':') && format!("{text}:0").parse::<HostPort>().is_ok();
    is_name || text.parse::<std::net::IpAddr>().is_ok()
}

/// How many letters must be inserted, removed or changed to make one word of the other.
fn typos(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut next = Vec::with_capacity(row.len());
        next.push(i + 1);
        for (pair, cb) in row.windows(2).zip(&b) {
            let [diagonal, above] = pair else { continue };
            let left = next.last().copied().unwrap_or(i + 1);
            next.push((diagonal + usize::from(ca != *cb)).min(above + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

/// Line and column, from 1, of the start of a part of the text.
fn position(text: &str, span: Option<Range<usize>>) -> (usize, usize) {
    let before = text.get(..span.map_or(0, |span| span.start)).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or(before).chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests;
