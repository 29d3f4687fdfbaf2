//! What is seen of the servers, asked of them directly: whom they follow, whether they take writes, what they hold, how they
//! are set, which files and processes they have.

use std::collections::BTreeMap;
use std::fs;

use super::evidence::{Key, Keys, Part, Running, Seen, Settings, is_written};
use crate::content;
use crate::host::Host;
use crate::process::working_below;
use crate::resp::{Client, Value, encode};
use crate::world::World;

/// Keys whose digests are asked for at a time.
const KEYS_A_CALL: usize = 500;
/// What is written, and removed, to see whether a server takes writes.
const PROBE: &str = "probe-of-the-drill";
/// What expires within this is no data.
const SOON_MS: i64 = 120_000;
/// The database under which functions are listed: none that servers have.
const FUNCTIONS: u32 = u32::MAX;

/// Everything a server holds.
pub fn keys(client: &mut Client) -> Result<Keys, String> {
    let mut all = Keys::new();
    for database in content::try_keys(client)?.into_keys() {
        client.try_call(&["SELECT", &database.to_string()])?;
        let names = names(client)?;
        for chunk in names.chunks(KEYS_A_CALL) {
            let words = [b"DEBUG".as_slice(), b"DIGEST-VALUE"].into_iter().chain(chunk.iter().map(Vec::as_slice));
            let digests = client.try_call(&words.collect::<Vec<_>>())?.list();
            let keys = chunk.iter().map(|name| (database, name.clone()));
            all.extend(keys.zip(digests.iter().map(Value::text)));
        }
    }
    client.try_call(&["SELECT", "0"])?;
    // A version without functions has none.
    let has_functions = client.try_call(&["FUNCTION", "LIST"]).is_ok_and(|all| !all.list().is_empty());
    if has_functions {
        let dump = client.try_call(&["FUNCTION", "DUMP"])?;
        let hash = blake3::hash(format!("{dump:?}").as_bytes()).to_hex().to_string();
        all.insert((FUNCTIONS, b"functions".to_vec()), hash);
    }
    Ok(all)
}

fn names(client: &mut Client) -> Result<Vec<Vec<u8>>, String> {
    let (mut names, mut cursor) = (Vec::new(), "0".to_owned());
    loop {
        let mut command = Vec::new();
        encode(&["SCAN", &cursor, "COUNT", "1000"], &mut command);
        client.send(&command)?;
        let answer = client.answer()?.list();
        let [next, found] = &answer[..] else { return Err(format!("SCAN is answered with {answer:?}")) };
        cursor = next.text();
        names.extend(found.clone().list().into_iter().filter_map(|name| match name {
            Value::Text(name) => Some(name),
            _ => None,
        }));
        if cursor == "0" {
            // A cursor may meet a key twice.
            names.sort();
            names.dedup();
            return Ok(names);
        }
    }
}

pub fn settings(client: &mut Client) -> Result<Settings, String> {
    let words = client.try_call(&["CONFIG", "GET", "*"])?.list();
    Ok(words.chunks_exact(2).map(|pair| (pair[0].text(), pair[1].text())).collect())
}

/// A key of database 0, as clients write it.
pub fn key(name: &str) -> Key {
    (0, name.as_bytes().to_vec())
}

/// Looks at a server that answers. A key that is not known, and will be gone in a moment by itself, is as good as gone.
pub fn running(host: &Host, known: &Keys) -> Result<Running, String> {
    let client = &mut host.try_client()?;
    let info = client.try_info()?;
    let field = |name: &str| info.get(name).cloned().unwrap_or_default();
    let is_replica = field("role") == "slave";
    let takes_writes = client.try_call(&["SET", PROBE, "x"]).is_ok();
    if takes_writes {
        client.try_call(&["DEL", PROBE])?;
    }
    let mut keys = keys(client)?;
    let unknown = |key: &&Key| key.0 != FUNCTIONS && !known.contains_key(*key) && !is_written(key);
    for key in keys.keys().filter(unknown).cloned().collect::<Vec<_>>() {
        client.try_call(&["SELECT", &key.0.to_string()])?;
        let left = client.try_call(&[b"PTTL".as_slice(), &key.1])?.int();
        if (0..=SOON_MS).contains(&left) {
            keys.remove(&key);
        }
    }
    Ok(Running {
        follows: is_replica.then(|| format!("{}:{}", field("master_host"), field("master_port"))),
        linked: field("master_link_status") == "up" && field("master_sync_in_progress") == "0",
        takes_writes,
        keys,
        settings: settings(client)?,
    })
}

/// Looks at a host; a server that does not answer does not run.
pub fn seen(host: &Host, part: Part, known: &Keys, settings_before: &Settings) -> Seen {
    Seen {
        part,
        address: host.address().to_string(),
        running: running(host, known).ok(),
        processes: host.server_pids().len(),
        files: files(host),
        settings_before: settings_before.clone(),
    }
}

fn files(host: &Host) -> BTreeMap<String, u64> {
    let entries = fs::read_dir(host.data_dir()).into_iter().flatten().flatten();
    let file = |entry: fs::DirEntry| Some((entry.file_name().into_string().ok()?, entry.metadata().ok()?.len()));
    entries.filter_map(file).collect()
}

/// The processes of a world that are neither servers in their data directories nor the agents that are known.
pub fn stray(world: &World, agents: &[u32]) -> Vec<String> {
    let servers: Vec<u32> = world.hosts().iter().flat_map(Host::server_pids).collect();
    let others = working_below(world.dir()).into_iter().filter(|pid| !agents.contains(pid) && !servers.contains(pid));
    others.map(|pid| format!("process {pid}, {}", command_line(pid))).collect()
}

fn command_line(pid: u32) -> String {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).replace('\0', " ").trim_end().to_owned()
}
