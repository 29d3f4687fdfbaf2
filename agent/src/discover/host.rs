//! Reads a host for [`super::find`]: `/proc`, unit files, and configuration files where packages put them.
//!
//! A server that wants no password is asked for the name of its file; nothing else is asked, and nobody logs in.

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ConfFile, Process, Seen, Unit, config_argument, is_server, titled};
use crate::instance::conf_file;

/// Where unit files lie, the ones that win first.
const UNITS: [&str; 4] =
    ["/etc/systemd/system", "/run/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"];
/// Where packages put configuration: Debian and newer Red Hat in directories, older Red Hat in a file.
const CONFIGURATION: [&str; 4] = ["/etc/redis", "/etc/valkey", "/etc/redis.conf", "/etc/valkey.conf"];
/// How long a server has to tell its file: one that loads or hangs is found in other ways.
const ASK_TIMEOUT: Duration = Duration::from_secs(1);
/// How many servers are asked at the same time: one that hangs holds up the others of its lot for that long, and a host
/// has dozens of them at most.
const ASKED_AT_ONCE: usize = 32;
/// Largest answer, command line or unit file read.
const READ_BYTES_MAX: u64 = 64 * 1024;

/// Looks at this host.
pub fn look() -> Seen {
    let processes = processes();
    let units = units(&UNITS.map(Path::new), &processes);
    let mut paths: BTreeSet<PathBuf> = CONFIGURATION.iter().flat_map(|place| conf_paths(Path::new(place))).collect();
    paths.extend(units.iter().map(|unit| unit.config.clone()));
    paths.extend(processes.iter().filter_map(|process| process.told.clone()));
    paths.extend(processes.iter().filter_map(|process| config_argument(&process.argv)).map(Path::to_owned));
    let files = paths.iter().filter_map(|path| conf(path)).collect();
    Seen { processes, units, files }
}

fn bounded(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    fs::File::open(path).ok()?.take(READ_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

fn processes() -> Vec<Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let mut processes: Vec<Process> = entries.filter_map(|entry| process(&entry.path())).collect();
    processes.sort_by_key(|process| process.pid);
    for lot in processes.chunks_mut(ASKED_AT_ONCE) {
        std::thread::scope(|scope| {
            for process in lot {
                scope.spawn(|| process.told = titled(&process.argv).and_then(ask).filter(|path| path.is_absolute()));
            }
        });
    }
    processes
}

fn process(proc: &Path) -> Option<Process> {
    let pid = proc.file_name()?.to_str()?.parse().ok()?;
    let line = bounded(&proc.join("cmdline"))?;
    let words = line.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).trim_end().to_owned());
    let argv: Vec<String> = words.filter(|word| !word.is_empty()).collect();
    // Another user's program cannot be read without root; its command line can.
    let exe = fs::read_link(proc.join("exe")).unwrap_or_default();
    if argv.is_empty() || !is_server(&argv, &exe) {
        return None;
    }
    let first = PathBuf::from(argv.first()?.split(' ').next()?);
    let program = if first.is_absolute() || exe.as_os_str().is_empty() { first } else { exe };
    let cwd = fs::read_link(proc.join("cwd")).unwrap_or_default();
    let group = bounded(&proc.join("cgroup")).unwrap_or_default();
    let unit = unit_of_group(&String::from_utf8_lossy(&group));
    Some(Process { pid, program, argv, cwd, unit, told: None })
}

/// The system unit in whose control group a process is.
fn unit_of_group(text: &str) -> Option<String> {
    let path = text.lines().find_map(|line| line.rsplit_once(":/system.slice/"))?.1;
    path.rsplit('/').next().filter(|name| name.ends_with(".service")).map(str::to_owned)
}

/// Asks a server for the file that it was started with.
fn ask(address: &str) -> Option<PathBuf> {
    let answer = match address.rsplit_once(':') {
        Some((host, port)) => {
            let host = match host.trim_matches(['[', ']']) {
                "*" | "0.0.0.0" => "127.0.0.1",
                "::" => "::1",
                host => host,
            };
            let to = (host, port.parse::<u16>().ok()?).to_socket_addrs().ok()?.next()?;
            let stream = TcpStream::connect_timeout(&to, ASK_TIMEOUT).ok()?;
            stream.set_read_timeout(Some(ASK_TIMEOUT)).ok()?;
            stream.set_write_timeout(Some(ASK_TIMEOUT)).ok()?;
            info(stream)
        }
        None => {
            let stream = UnixStream::connect(address).ok()?;
            stream.set_read_timeout(Some(ASK_TIMEOUT)).ok()?;
            stream.set_write_timeout(Some(ASK_TIMEOUT)).ok()?;
            info(stream)
        }
    }?;
    let file = answer.lines().find_map(|line| line.strip_prefix("config_file:"))?.trim();
    Some(PathBuf::from(file)).filter(|path| !path.as_os_str().is_empty())
}

fn info(mut stream: impl Read + Write) -> Option<String> {
    stream.write_all(b"INFO server\r\nQUIT\r\n").ok()?;
    let mut answer = Vec::new();
    // The server hangs up after QUIT. What came before a time-out may be enough.
    let _ = stream.take(READ_BYTES_MAX).read_to_end(&mut answer);
    String::from_utf8(answer).ok()
}

/// Units whose command is a server, those of templates once for each instance that is enabled or runs.
fn units(places: &[&Path], processes: &[Process]) -> Vec<Unit> {
    let mut units: Vec<Unit> = Vec::new();
    let mut seen = BTreeSet::new();
    let enabled: Vec<String> = places.iter().flat_map(|place| wanted(place)).collect();
    for place in places {
        for path in entries(place) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()).filter(|name| name.ends_with(".service"))
            else {
                continue;
            };
            // An alias is a link to the unit that is meant; a mask is a link to nothing.
            if !seen.insert(name.to_owned()) || path.is_symlink() {
                continue;
            }
            let Some(text) = bounded(&path).and_then(|bytes| String::from_utf8(bytes).ok()) else { continue };
            let Some((stem, "")) = name.strip_suffix(".service").and_then(|stem| stem.split_once('@')) else {
                units.extend(unit(name, &text, ""));
                continue;
            };
            let running = processes.iter().filter_map(|process| process.unit.clone());
            let of_template = |name: String| {
                let instance = name.strip_prefix(stem)?.strip_prefix('@')?.strip_suffix(".service")?.to_owned();
                (!instance.is_empty()).then_some((name, instance))
            };
            let instances: BTreeSet<_> = enabled.iter().cloned().chain(running).filter_map(of_template).collect();
            units.extend(instances.iter().filter_map(|(name, instance)| unit(name, &text, instance)));
        }
    }
    units
}

fn entries(place: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(place).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths
}

/// Names of units that a target wants.
fn wanted(place: &Path) -> Vec<String> {
    let wants = entries(place).into_iter().filter(|path| path.extension().is_some_and(|ext| ext == "wants"));
    let links = wants.flat_map(|dir| entries(&dir));
    links.filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect()
}

/// Reads a unit file's command, with the instance's name in its place.
fn unit(name: &str, text: &str, instance: &str) -> Option<Unit> {
    let command = text.lines().rev().find_map(|line| line.trim().strip_prefix("ExecStart="))?;
    let command = command.trim_start_matches(['@', '-', ':', '+', '!']).replace("%i", instance).replace("%I", instance);
    let argv: Vec<String> = command.split_whitespace().map(|word| word.trim_matches(['"', '\'']).to_owned()).collect();
    if !is_server(&argv, Path::new("")) {
        return None;
    }
    let config = config_argument(&argv).filter(|path| path.is_absolute())?.to_owned();
    Some(Unit { name: name.to_owned(), config })
}

fn conf_paths(place: &Path) -> Vec<PathBuf> {
    if place.is_file() {
        return vec![place.to_owned()];
    }
    let conf = |path: &PathBuf| {
        path.extension().is_some_and(|ext| ext == "conf") && !path.to_string_lossy().contains("sentinel")
    };
    entries(place).into_iter().filter(conf).collect()
}

fn conf(path: &Path) -> Option<ConfFile> {
    let dir = path.parent()?;
    let conf = conf_file::read(path, dir).ok()?;
    Some(ConfFile {
        path: path.to_owned(),
        port: conf.port(),
        tls_port: conf.tls_port(),
        unix_socket: conf.unix_socket(),
        dir: conf.dir(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_belongs_to_the_system_unit_that_it_runs_in() {
        let of = |text: &str| unit_of_group(text);
        assert_eq!(of("0::/system.slice/redis-server.service\n").as_deref(), Some("redis-server.service"));
        let templated = "0::/system.slice/system-redis\\x2dserver.slice/redis-server@6380.service\n";
        assert_eq!(of(templated).as_deref(), Some("redis-server@6380.service"));
        assert_eq!(of("0::/user.slice/user-0.slice/session-1.scope\n"), None);
        assert_eq!(of("0::/system.slice/docker-0af.scope\n"), None);
    }

    #[test]
    fn units_of_debian_and_red_hat_are_read_and_sentinels_left_out() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs::write(place.path().join(name), text).unwrap();
        write(
            "redis-server.service",
            "[Service]\nExecStart=/usr/bin/redis-server /etc/redis/redis.conf --supervised systemd\n",
        );
        write(
            "redis-server@.service",
            "[Service]\nExecStart=/usr/bin/redis-server /etc/redis/redis-%i.conf --unixsocket /run/r\n",
        );
        write(
            "valkey@.service",
            "[Service]\nExecStart=/usr/bin/valkey-server /etc/valkey/%i.conf --daemonize no $OPTIONS\n",
        );
        write("redis-sentinel.service", "[Service]\nExecStart=/usr/bin/redis-sentinel /etc/redis/sentinel.conf\n");
        write("ssh.service", "[Service]\nExecStart=/usr/sbin/sshd -D\n");
        std::os::unix::fs::symlink("redis-server.service", place.path().join("redis.service")).unwrap();
        fs::create_dir(place.path().join("multi-user.target.wants")).unwrap();
        let link = place.path().join("multi-user.target.wants/redis-server@6380.service");
        std::os::unix::fs::symlink("../redis-server@.service", link).unwrap();
        let running = Process { unit: Some("valkey@cache.service".into()), ..Process::default() };
        let mut units = units(&[place.path()], &[running]);
        units.sort_by(|a, b| a.name.cmp(&b.name));
        let read: Vec<_> = units.iter().map(|unit| (unit.name.as_str(), unit.config.to_str().unwrap())).collect();
        let expected = [
            ("redis-server.service", "/etc/redis/redis.conf"),
            ("redis-server@6380.service", "/etc/redis/redis-6380.conf"),
            ("valkey@cache.service", "/etc/valkey/cache.conf"),
        ];
        assert_eq!(read, expected);
    }
}
