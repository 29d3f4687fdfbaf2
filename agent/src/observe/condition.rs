//! What surrounds a server: limits of its process, rights to its files, and what it lets this agent do. Each is read
//! cheaply and may be missing; nothing here changes anything.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use baton_proto::condition::{BufferLimit, HostCondition, RefusedOrder, ServerCondition};

use baton_proto::version::ServerVersion;

use crate::host;
use crate::redis_conf::RedisConf;
use crate::server::{Answer, Server};

/// Most users that are told of.
const USERS_MAX: usize = 200;
/// Longest name, comment or answer that is told.
const TEXT_CHARS_MAX: usize = 160;
/// Lines of a configuration file in which its writer would name himself.
const HEAD_LINES: usize = 40;
/// Most bytes of a configuration file in which they are sought.
const CONF_HEAD_BYTES_MAX: u64 = 64 * 1024;
/// Most bytes of a file of users that are read.
const USERS_FILE_BYTES_MAX: u64 = 1 << 20;
/// By what those who write configuration files make themselves known in a comment.
const MANAGERS: [&str; 7] = ["managed by", "ansible", "puppet", "chef", "saltstack", "do not edit", "do not modify"];

/// Orders of the agent, with arguments of the right number. The key is one of those that docs/servers.md opens to its user.
const ORDERS: [&[&str]; 9] = [
    &["CONFIG", "SET", "repl-backlog-size", "1048576"],
    &["CONFIG", "REWRITE"],
    &["SAVE"],
    &["BGSAVE"],
    &["BGREWRITEAOF"],
    &["REPLICAOF", "NO", "ONE"],
    &["SHUTDOWN", "NOSAVE"],
    &["SET", "baton:canary:orders", "1"],
    &["DEL", "baton:canary:orders"],
];

pub(super) fn of_host() -> HostCondition {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let (swap_bytes, swap_free_bytes) = host::swap(&read("/proc/meminfo"));
    HostCondition {
        overcommit_memory: read("/proc/sys/vm/overcommit_memory").trim().parse().ok(),
        huge_pages_always: read("/sys/kernel/mm/transparent_hugepage/enabled").contains("[always]"),
        swap_bytes,
        swap_free_bytes,
    }
}

/// What the server was asked and said.
#[derive(Debug, Default)]
pub(super) struct Said {
    refused: Vec<RefusedOrder>,
    users: Option<BTreeSet<String>>,
}

/// Asks the server whether it would take the orders of this agent, without giving one (`ACL DRYRUN`, from Redis 7.0 on).
/// An older one tells at least which commands it does not have.
pub(super) async fn ask(
    server: &mut Server,
    user: &str,
    renames: &BTreeMap<String, String>,
    version: ServerVersion,
) -> Said {
    let mut refused = Vec::new();
    for order in ORDERS {
        let Some((command, arguments)) = order.split_first() else { continue };
        let command = if *command == "REPLICAOF" { &version.replicaof() } else { command };
        let name = renames.iter().find(|(from, _)| from.eq_ignore_ascii_case(command)).map(|(_, to)| to.as_str());
        let name = name.unwrap_or(command);
        let error = if name.is_empty() {
            Some("rename-command has taken it away".to_owned())
        } else {
            would_refuse(server, user, name, arguments).await
        };
        if let Some(error) = error
            && !refused.iter().any(|other: &RefusedOrder| other.command == *command)
        {
            refused.push(RefusedOrder { command: (*command).to_owned(), error: short(&error) });
        }
    }
    let users = match server.call(&["ACL", "USERS"]).await {
        Ok(Answer::List(names)) => Some(others(names.iter().filter_map(Answer::as_text))),
        _ => None,
    };
    Said { refused, users }
}

async fn would_refuse(server: &mut Server, user: &str, name: &str, arguments: &[&str]) -> Option<String> {
    let dry_run: Vec<&str> = ["ACL", "DRYRUN", user, name].into_iter().chain(arguments.iter().copied()).collect();
    match server.call(&dry_run).await {
        // Anything else that is not OK is the reason.
        Ok(answer) => answer.as_text().filter(|text| *text != "OK").map(str::to_owned),
        Err(error) => {
            let said = error.to_string();
            if said.contains("not found") && said.contains("ommand '") && !said.contains("subcommand") {
                return Some(said);
            }
            // No dry run here: an older server, or the user may not use ACL.
            match server.call(&["COMMAND", "INFO", name]).await {
                Ok(Answer::List(found)) if matches!(found.as_slice(), [Answer::Nil]) => {
                    Some(format!("the server has no command {name}"))
                }
                _ => None,
            }
        }
    }
}

fn others<'a>(names: impl Iterator<Item = &'a str>) -> BTreeSet<String> {
    names.filter(|name| *name != "default").take(USERS_MAX).map(short).collect()
}

fn short(text: &str) -> String {
    text.chars().take(TEXT_CHARS_MAX).collect()
}

/// Puts together what is known of a server without its disk: `pid` and `told` where it answers.
pub(super) fn of_server(
    conf: &RedisConf,
    pid: Option<u32>,
    told: Option<&BTreeMap<String, String>>,
    said: Said,
) -> ServerCondition {
    let text =
        |name: &str| told.and_then(|told| told.get(name).cloned()).or_else(|| conf.text(name).map(str::to_owned));
    let swapped = pid.and_then(status).and_then(|status| kilobytes(&status, "VmSwap:"));
    ServerCondition {
        memory_left_bytes: pid.and_then(host::memory_left_of),
        swapped_bytes: swapped.unwrap_or(0),
        databases: Some(text("databases").and_then(|count| count.parse().ok()).unwrap_or(16)),
        replica_buffer: told.and_then(|told| BufferLimit::parse(told.get("client-output-buffer-limit")?)),
        diskless_load: text("repl-diskless-load"),
        refused: said.refused,
        users: said.users,
        ..ServerCondition::default()
    }
}

/// What its files tell of a server.
#[derive(Debug, Default)]
pub(super) struct OfFiles {
    users: Option<BTreeSet<String>>,
    config_locked: Option<String>,
    config_managed: Option<String>,
    dir_locked: Option<String>,
}

impl OfFiles {
    /// Looks at them. A disk may keep its caller waiting for ever.
    pub(super) fn look(conf: &RedisConf, path: &Path, dir: &Path, pid: Option<u32>) -> OfFiles {
        let ids = pid.and_then(status).as_deref().and_then(ids);
        // A stopped server will most likely be who owns its data.
        let ids = ids.or_else(|| fs::metadata(dir).ok().map(|dir| (dir.uid(), vec![dir.gid()])));
        let locked = |path: &Path| ids.as_ref().and_then(|(uid, gids)| locked(path, *uid, gids));
        let config_dir = path.parent().unwrap_or(path);
        OfFiles {
            users: pid.is_none().then(|| users_of_files(conf)),
            config_locked: locked(path).or_else(|| locked(config_dir)),
            config_managed: start_of(path, CONF_HEAD_BYTES_MAX).ok().and_then(|text| managed(&text)),
            dir_locked: locked(dir),
        }
    }

    pub(super) fn complete(self, condition: ServerCondition) -> ServerCondition {
        let OfFiles { users, config_locked, config_managed, dir_locked } = self;
        ServerCondition { users: condition.users.or(users), config_locked, config_managed, dir_locked, ..condition }
    }
}

/// Reads a file as far as it is wanted, however long it is.
fn start_of(path: &Path, bytes_max: u64) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(bytes_max).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn status(pid: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{pid}/status")).ok()
}

/// User and groups of a process, from `/proc/PID/status`. The effective ones count.
fn ids(status: &str) -> Option<(u32, Vec<u32>)> {
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let second = |text: &str| text.split_whitespace().nth(1)?.parse::<u32>().ok();
    let groups = line("Groups:").unwrap_or_default().split_whitespace().filter_map(|gid| gid.parse().ok());
    Some((second(line("Uid:")?)?, [second(line("Gid:")?)?].into_iter().chain(groups).collect()))
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// Why a user could not write a file or into a directory, by owner and rights; lists of control may say otherwise.
fn locked(path: &Path, uid: u32, gids: &[u32]) -> Option<String> {
    let found = fs::metadata(path).ok()?;
    let bits = if found.uid() == uid {
        found.mode() >> 6
    } else if gids.contains(&found.gid()) {
        found.mode() >> 3
    } else {
        found.mode()
    };
    let needed = if found.is_dir() { 0o3 } else { 0o2 };
    let refused = uid != 0 && bits & needed != needed;
    refused.then(|| {
        let (mode, owner, group) = (found.mode() & 0o7777, found.uid(), found.gid());
        format!("{} belongs to {owner}:{group} with mode {mode:o}, the server runs as {uid}", path.display())
    })
}

/// The comment at the head of a file by which somebody else says that he writes it.
fn managed(text: &str) -> Option<String> {
    let comments = text.lines().take(HEAD_LINES).map(str::trim).filter(|line| line.starts_with('#'));
    let mut named = comments.filter(|line| {
        let line = line.to_ascii_lowercase();
        MANAGERS.iter().any(|word| line.contains(word))
    });
    named.next().map(|line| short(line.trim_start_matches(['#', ' '])))
}

fn users_of_files(conf: &RedisConf) -> BTreeSet<String> {
    let own = conf.all("user").filter_map(|words| words.first()).map(String::as_str);
    let file = conf.text("aclfile").and_then(|path| {
        let path = Path::new(path);
        (fs::metadata(path).ok()?.len() <= USERS_FILE_BYTES_MAX).then(|| start_of(path, USERS_FILE_BYTES_MAX).ok())?
    });
    let text = file.unwrap_or_default();
    let more = text.lines().filter_map(|line| line.trim().strip_prefix("user ")?.split_whitespace().next());
    others(own.chain(more))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_effective_user_and_all_groups_of_a_process_count() {
        let status =
            "Name:\tredis\nUid:\t1\t109\t109\t109\nGid:\t1\t117\t117\t117\nGroups:\t117 20 \nVmSwap:\t  12 kB\n";
        assert_eq!(ids(status), Some((109, vec![117, 117, 20])));
        assert_eq!(kilobytes(status, "VmSwap:"), Some(12 << 10));
        assert_eq!((ids(""), kilobytes(status, "VmRSS:")), (None, None));
    }

    #[test]
    fn owner_group_and_others_are_told_apart_and_root_may_all() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o750)).unwrap();
        let found = fs::metadata(dir.path()).unwrap();
        let (uid, gid) = (found.uid(), found.gid());
        let stranger = uid.wrapping_add(4000).max(1);
        assert_eq!(locked(dir.path(), 0, &[]), None);
        let text = locked(dir.path(), stranger, &[gid.wrapping_add(4000)]).unwrap();
        assert!(text.contains("mode 750") && text.contains(&format!("runs as {stranger}")), "{text}");
        assert!(locked(dir.path(), stranger, &[gid]).is_some(), "the group may only read");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o770)).unwrap();
        assert_eq!(locked(dir.path(), stranger, &[gid]), None);
    }

    #[test]
    fn a_file_that_somebody_manages_is_known_by_its_comment() {
        assert_eq!(
            managed("# Ansible managed: do not change\nport 1\n").as_deref(),
            Some("Ansible managed: do not change")
        );
        assert_eq!(managed("# Redis configuration file example.\nrequirepass puppet\n"), None);
    }

    #[test]
    fn a_file_is_read_no_further_than_it_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("redis.conf");
        fs::write(&path, "# \u{e4}nsible").unwrap();
        assert_eq!(start_of(&path, 100).unwrap(), "# \u{e4}nsible");
        assert_eq!(start_of(&path, 3).unwrap(), "# \u{fffd}");
        // It has no end.
        assert_eq!(start_of(Path::new("/dev/zero"), CONF_HEAD_BYTES_MAX).unwrap().len() as u64, CONF_HEAD_BYTES_MAX);
    }

    #[test]
    fn only_names_of_users_are_told() {
        assert_eq!(others(["default", "app"].into_iter()), BTreeSet::from(["app".to_owned()]));
    }
}
