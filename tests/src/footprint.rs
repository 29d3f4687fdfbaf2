//! The state of all hosts, taken before and after a command that is to change nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::content::Content;
use crate::host::Host;
use crate::world::World;

/// The state of all hosts of a world.
#[derive(Debug, PartialEq, Eq)]
pub struct Footprint(BTreeMap<String, HostState>);

#[derive(Debug, PartialEq, Eq)]
struct HostState {
    /// Absent where no server answers.
    server: Option<ServerState>,
    /// By path below the data directory: inode, length and hash.
    files: BTreeMap<String, (u64, u64, String)>,
    conf: String,
}

#[derive(Debug, PartialEq, Eq)]
struct ServerState {
    pid: String,
    role: String,
    primary: String,
    id: String,
    /// Of a frozen replica only: elsewhere it moves by itself.
    frozen_at: Option<String>,
    appendonly: String,
    content: Content,
}

impl Footprint {
    pub fn of(world: &World) -> Self {
        Self(world.hosts().iter().map(|host| (host.name.clone(), HostState::of(host))).collect())
    }
}

impl HostState {
    fn of(host: &Host) -> Self {
        let mut files = BTreeMap::new();
        list(&host.data_dir(), "", &mut files);
        let conf = fs::read_to_string(host.conf_path()).unwrap_or_default();
        Self { server: ServerState::of(host), files, conf }
    }
}

impl ServerState {
    fn of(host: &Host) -> Option<Self> {
        // An agent that rehearses a start listens in the place of the server for a moment; that is no server.
        if host.server_pids().is_empty() {
            return None;
        }
        let mut client = host.try_client().ok()?;
        let info = client.try_info().ok()?;
        let field = |name: &str| info.get(name).cloned().unwrap_or_default();
        let frozen = field("role") == "slave" && field("master_link_status") == "down";
        Some(Self {
            pid: field("process_id"),
            role: field("role"),
            primary: format!("{}:{}", field("master_host"), field("master_port")),
            id: field("master_replid"),
            frozen_at: frozen.then(|| field("slave_repl_offset")),
            appendonly: client.config("appendonly"),
            content: Content::of(&mut client),
        })
    }
}

fn list(dir: &Path, below: &str, files: &mut BTreeMap<String, (u64, u64, String)>) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let name = format!("{below}{}", entry.file_name().to_string_lossy());
        let Ok(facts) = entry.metadata() else { continue };
        if facts.is_dir() {
            list(&entry.path(), &format!("{name}/"), files);
        } else {
            let hash = blake3::hash(&fs::read(entry.path()).unwrap_or_default()).to_hex().to_string();
            files.insert(name, (facts.ino(), facts.len(), hash));
        }
    }
}
