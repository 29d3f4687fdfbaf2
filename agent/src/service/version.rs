//! Which server program a service starts, and its version.
//!
//! Many instances of a host have the same program, so what a file has told once is remembered, until another file has its
//! place.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use baton_proto::version::ServerVersion;

use super::program;
use super::systemd::Unit;
use crate::config::ServiceConfig;

/// How long `--version` may take.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);
/// Names that a server program has, or that its name holds.
const PROGRAMS: &[&str] = &["valkey-server", "redis-server"];

/// For how long what a program has told is believed: a script that starts the server stays as it is when that is upgraded.
const REMEMBERED_FOR: Duration = Duration::from_secs(60);
/// Most programs that are remembered: a host has a few.
const REMEMBERED_MAX: usize = 64;

/// By what a file is told from another in its place: device, inode, size, and when it was last changed.
type Mark = (u64, u64, u64, i64, i64);

/// What a program has told; locked while it is asked, so that many who want to know at once ask once.
type Known = Arc<tokio::sync::Mutex<Option<(Mark, Instant, ServerVersion)>>>;

static REMEMBERED: Mutex<BTreeMap<PathBuf, Known>> = Mutex::new(BTreeMap::new());

/// What a program is told from another by; only one that is named by its whole path can be.
fn mark(program: &Path) -> Option<Mark> {
    let found = std::fs::metadata(program).ok().filter(|_| program.is_absolute())?;
    Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}

fn known(program: &Path) -> Known {
    let mut remembered = REMEMBERED.lock().unwrap_or_else(PoisonError::into_inner);
    if remembered.len() >= REMEMBERED_MAX && !remembered.contains_key(program) {
        remembered.clear();
    }
    Arc::clone(remembered.entry(program.to_owned()).or_default())
}

/// Asks the program that a service starts for its version.
pub async fn binary_version(service: &ServiceConfig) -> Result<ServerVersion, String> {
    let program = match service {
        ServiceConfig::Exec(argv) => server_among(argv).or_else(|| argv.first().cloned()),
        ServiceConfig::Systemd(unit) => {
            let exec = Unit::new(unit).exec_start().await.map_err(|fault| fault.to_string())?;
            Some(server_among(&exec.argv).unwrap_or(exec.path))
        }
        ServiceConfig::Command { start, .. } => match server_among(start) {
            Some(program) => Some(program),
            None => Some(only_installed()?),
        },
    };
    let program = program.ok_or("the service names no program")?;
    let known = known(Path::new(&program));
    let mut known = known.lock().await;
    // Marked before it is asked: one that is replaced meanwhile is asked again.
    let seen = mark(Path::new(&program));
    if let (Some(seen), Some((marked, told, version))) = (seen, *known)
        && seen == marked
        && told.elapsed() < REMEMBERED_FOR
    {
        return Ok(version);
    }
    let argv = [program.clone(), "--version".to_owned()];
    let finished = program::run(&argv, VERSION_TIMEOUT, None).await.map_err(|fault| fault.to_string())?;
    if !finished.status.success() {
        return Err(format!("`{program} --version` {}", finished.complaint()));
    }
    let version =
        ServerVersion::from_banner(&finished.stdout).map_err(|error| format!("`{program} --version`: {error}"))?;
    *known = seen.map(|seen| (seen, Instant::now(), version));
    Ok(version)
}

/// Finds the server behind a wrapper such as `numactl --interleave=all redis-server`.
fn server_among(argv: &[String]) -> Option<String> {
    let is_server = |word: &&String| {
        let name = Path::new(word.as_str()).file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| PROGRAMS.iter().any(|program| name.contains(program)))
    };
    argv.iter().find(is_server).cloned()
}

/// A script does not tell what it starts; a host with one server program leaves no doubt.
fn only_installed() -> Result<String, String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let is_installed = |name: &&&str| std::env::split_paths(&path).any(|dir| dir.join(name).is_file());
    let found: Vec<_> = PROGRAMS.iter().filter(is_installed).collect();
    match found.as_slice() {
        [only] => Ok((**only).to_owned()),
        [] => Err("the start command does not show which server it starts, and no server program is installed".into()),
        _ => Err(format!(
            "the start command does not show which server it starts, and {} are both installed",
            PROGRAMS.join(" and ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn the_server_is_found_behind_a_wrapper() {
        let found = |text: &str| server_among(&words(text));
        assert_eq!(found("/usr/bin/redis-server /etc/redis/redis.conf").as_deref(), Some("/usr/bin/redis-server"));
        assert_eq!(found("numactl --interleave=all valkey-server x.conf").as_deref(), Some("valkey-server"));
        assert_eq!(found("sudo -u redis /opt/redis-server-7.2 x").as_deref(), Some("/opt/redis-server-7.2"));
        assert_eq!(found("ctl start"), None);
    }

    #[tokio::test]
    async fn a_program_is_asked_once_and_again_when_another_has_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let (program, asked) = (dir.path().join("redis-server"), dir.path().join("asked"));
        let install = |version: &str| {
            let banner = format!("Redis server v={version} sha=00000000:0 malloc=libc bits=64 build=0");
            let text = format!("#!/bin/sh\necho x >> {}\necho '{banner}'\n", asked.display());
            // As packages do it: the new file takes the old one's name.
            let new = dir.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
            std::fs::rename(&new, &program).unwrap();
        };
        let service = ServiceConfig::Exec(vec![program.display().to_string()]);
        let times = || std::fs::read_to_string(&asked).unwrap().lines().count();
        install("7.0.15");
        let first = binary_version(&service).await.unwrap();
        assert_eq!((binary_version(&service).await.unwrap(), times()), (first, 1));
        let all = tokio::join!(binary_version(&service), binary_version(&service));
        assert_eq!((all, times()), ((Ok(first), Ok(first)), 1));
        install("7.2.4");
        let all = tokio::join!(binary_version(&service), binary_version(&service));
        assert!(all.0 == all.1 && all.0 != Ok(first), "{all:?}");
        assert_eq!(times(), 2);
    }

    #[tokio::test]
    async fn a_program_that_is_no_server_is_said_to_be_none() {
        let error = binary_version(&ServiceConfig::Exec(words("echo hello"))).await.unwrap_err();
        assert!(error.contains("hello") || error.contains("not a server version"), "{error}");
        let error = binary_version(&ServiceConfig::Exec(words("/nowhere/redis-server"))).await.unwrap_err();
        assert!(error.contains("/nowhere/redis-server"), "{error}");
        assert!(binary_version(&ServiceConfig::Exec(vec![])).await.is_err());
    }
}
