//! PURE: which servers a host has, told from its processes and unit files, and the `[[instance]]` tables for them.
//!
//! A server writes its address over its command line once it runs, so its configuration file is taken from, in this order:
//! the server's own word, its command line if that is still whole, the unit that it runs in, and the one known file that
//! names its port. What stays unknown is told as a comment rather than guessed. A unit that does not run is listed as well:
//! the target of a failover is stopped. Not here: reading the host ([`host`]), and merging into a file ([`merge`]).
//! Nothing but paths, ports and names of units is ever kept, so no secret can be printed.

pub mod cli;
pub mod host;
pub mod merge;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use baton_proto::name::DEFAULT_INSTANCE;

/// Names of the programs that serve.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
/// The agent's own unit: what it started lives there as well, and is not started by that unit.
const OWN_UNIT: &str = "baton-agent.service";

/// What was seen on a host.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub processes: Vec<Process>,
    pub units: Vec<Unit>,
    pub files: Vec<ConfFile>,
}

/// A process of a server.
#[derive(Debug, Clone, Default)]
pub struct Process {
    pub pid: u32,
    pub program: PathBuf,
    pub argv: Vec<String>,
    pub cwd: PathBuf,
    /// The unit whose control group it is in.
    pub unit: Option<String>,
    /// The configuration file, as the server itself tells it.
    pub told: Option<PathBuf>,
}

/// A unit whose command is a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    pub name: String,
    pub config: PathBuf,
}

/// A configuration file that is there.
#[derive(Debug, Clone, Default)]
pub struct ConfFile {
    pub path: PathBuf,
    pub port: u16,
    pub tls_port: Option<u16>,
    pub unix_socket: Option<PathBuf>,
    pub dir: PathBuf,
}

/// One instance, ready to be written down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    pub config: PathBuf,
    pub service: Service,
    pub because: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Service {
    Systemd(String),
    Exec(PathBuf),
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Findings {
    pub instances: Vec<Found>,
    /// Servers that run, but of which something is not known.
    pub unclear: Vec<String>,
}

/// Whether a command line or a program's file is that of a server. A sentinel is none, nor is a child that saves.
pub fn is_server(argv: &[String], program: &Path) -> bool {
    let mut words = argv.iter().flat_map(|word| word.split(' '));
    let first = words.next().unwrap_or_default();
    let named = |path: &Path| path.file_name().is_some_and(|name| PROGRAMS.iter().any(|program| name == *program));
    let child = first.contains("rdb-bgsave") || first.contains("aof-rewrite") || first.contains("rdb-to-slaves");
    let sentinel = first.contains("sentinel") || words.any(|word| word == "--sentinel" || word == "[sentinel]");
    !child && !sentinel && (named(Path::new(first)) || named(program))
}

/// The address that a running server has written over its command line.
pub fn titled(argv: &[String]) -> Option<&str> {
    match argv {
        [title] => title.split(' ').nth(1).filter(|address| !address.is_empty()),
        _ => None,
    }
}

/// The configuration file that a server's command line names: its first argument, unless that is an option.
pub fn config_argument(argv: &[String]) -> Option<&Path> {
    argv.get(1).filter(|word| !word.starts_with('-')).map(Path::new)
}

/// Finds the instances. `known` are those that stand in agent.toml already: configuration files and names.
pub fn find(seen: &Seen, known: &BTreeMap<PathBuf, String>) -> Findings {
    let mut findings = Findings::default();
    let mut taken: BTreeSet<PathBuf> = known.keys().cloned().collect();
    for process in &seen.processes {
        let Some((config, how)) = config_of(process, seen) else {
            let shown = titled(&process.argv).unwrap_or("no address seen");
            findings.unclear.push(format!(
                "process {} ({}, {shown}): its configuration file is not known; was it started with one?",
                process.pid,
                process.program.display()
            ));
            continue;
        };
        if !taken.insert(config.clone()) {
            continue;
        }
        let unit = process.unit.as_ref().filter(|unit| *unit != OWN_UNIT);
        let unit = unit.filter(|name| seen.units.iter().any(|unit| unit.name == **name)).cloned();
        // A unit may have been left for a start by hand; then the unit is still what starts it at the next boot.
        let unit = unit.or_else(|| Some(seen.units.iter().find(|unit| unit.config == config)?.name.clone()));
        let (service, started) = match unit {
            Some(unit) => (Service::Systemd(unit.clone()), format!("unit {unit}")),
            None => (Service::Exec(process.program.clone()), "no unit names it".to_owned()),
        };
        let because = format!("process {} runs; its file {how}; {started}", process.pid);
        findings.instances.push(Found { name: String::new(), config, service, because });
    }
    for unit in &seen.units {
        // A unit of a package whose file was never made serves nothing.
        if seen.files.iter().any(|file| file.path == unit.config) && taken.insert(unit.config.clone()) {
            findings.instances.push(Found {
                name: String::new(),
                config: unit.config.clone(),
                service: Service::Systemd(unit.name.clone()),
                because: format!("unit {} names this file; it does not run now", unit.name),
            });
        }
    }
    name(&mut findings.instances, seen, known);
    findings
}

fn config_of(process: &Process, seen: &Seen) -> Option<(PathBuf, String)> {
    if let Some(told) = &process.told {
        return Some((told.clone(), "is what the server tells".into()));
    }
    // The server has moved to its data directory, so a relative path can no longer be followed.
    if let Some(config) = config_argument(&process.argv).filter(|path| path.is_absolute()) {
        return Some((config.to_owned(), "stands on its command line".into()));
    }
    let unit = process.unit.as_ref().and_then(|name| seen.units.iter().find(|unit| unit.name == *name));
    if let Some(unit) = unit {
        return Some((unit.config.clone(), "is named by its unit".into()));
    }
    let address = titled(&process.argv)?;
    let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
    let fits = |file: &&ConfFile| {
        let here = match port {
            Some(port) => file.port == port || (file.port == 0 && file.tls_port == Some(port)),
            None => file.unix_socket.as_deref() == Some(Path::new(address)),
        };
        here && file.dir == process.cwd
    };
    let mut fitting = seen.files.iter().filter(fits);
    match (fitting.next(), fitting.next()) {
        (Some(file), None) => Some((file.path.clone(), format!("is the only one with {address} and this directory"))),
        _ => None,
    }
}

/// `default` where there is one, else the product and the port; what is taken gets a number.
fn name(found: &mut [Found], seen: &Seen, known: &BTreeMap<PathBuf, String>) {
    let mut taken: BTreeSet<String> = known.values().cloned().collect();
    if let ([only], true) = (&mut *found, taken.is_empty()) {
        only.name = DEFAULT_INSTANCE.to_owned();
        return;
    }
    for instance in found {
        let file = seen.files.iter().find(|file| file.path == instance.config);
        let port = file.map(|file| if file.port == 0 { file.tls_port.unwrap_or(0) } else { file.port });
        let valkey = match &instance.service {
            Service::Exec(program) => program.to_string_lossy().contains("valkey"),
            Service::Systemd(unit) => unit.contains("valkey"),
        };
        let product = if valkey { "valkey" } else { "redis" };
        let base = match port.filter(|port| *port != 0) {
            Some(port) => format!("{product}-{port}"),
            None => format!("{product}-socket"),
        };
        let mut name = base.clone();
        let mut number = 1;
        while !taken.insert(name.clone()) {
            number += 1;
            name = format!("{base}-{number}");
        }
        instance.name = name;
    }
}

/// The tables as they stand in agent.toml.
pub fn tables(findings: &Findings) -> String {
    let mut text = String::new();
    // Writing to a text cannot fail.
    for unclear in &findings.unclear {
        let _ = writeln!(text, "\n# not listed: {}", one_line(unclear));
    }
    for found in &findings.instances {
        let config = quoted(&found.config.to_string_lossy());
        let service = match &found.service {
            Service::Systemd(unit) => format!("{{ systemd = {} }}", quoted(unit)),
            Service::Exec(program) => format!("{{ exec = [{}, {config}] }}", quoted(&program.to_string_lossy())),
        };
        let _ = writeln!(
            text,
            "\n# {}\n[[instance]]\nname = {}\nconfig = {config}\nservice = {service}",
            one_line(&found.because),
            quoted(&found.name)
        );
    }
    text
}

/// A comment ends with its line, whatever a path holds.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A TOML string.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", u32::from(c));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests;
