//! The text of `agent.toml` as serde sees it, and the checks that serde cannot make.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::ops::Range;
use std::path::{Path, PathBuf};

use baton_proto::name::DEFAULT_INSTANCE;
use baton_proto::{HostPort, InstanceName};
use serde::Deserialize;
use serde::de::{self, Visitor};
use toml::Spanned;

use super::{AgentConfig, InstanceConfig, LogFormat, Mistake, ServiceConfig};

/// Left free on a disk when nothing else is said: a server that cannot write its log or its AOF stops serving writes.
const DISK_RESERVE_BYTES: u64 = 512 << 20;
/// Left free in memory when nothing else is said: the agent's own need, and a little for the system.
const MEMORY_RESERVE_BYTES: u64 = 256 << 20;
/// Most instances of a host: each is observed at the same time as the others.
const INSTANCES_MAX: usize = 256;
/// Most lanes: what a source lets one attempt open.
const LANES_MAX: usize = 16;
/// Most lanes unless more are asked for. One carries some Gbit/s, and takes a core on both sides.
const LANES_DEFAULT_MAX: usize = 4;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    listen: SocketAddr,
    identity: FilePath,
    state: Option<FilePath>,
    disk_reserve: Option<Size>,
    memory_reserve: Option<Size>,
    lanes: Option<Spanned<usize>>,
    metrics: Option<SocketAddr>,
    #[serde(default)]
    log: LogFormat,
    #[serde(default)]
    instance: Vec<Spanned<Instance>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Instance {
    name: Option<Spanned<InstanceName>>,
    config: Spanned<FilePath>,
    address: Option<HostPort>,
    user: Option<Spanned<String>>,
    password_file: Option<FilePath>,
    tls_ca: Option<FilePath>,
    service: Service,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Service {
    Exec(Words),
    Systemd(Unit),
    Command(Command),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Command {
    start: Words,
    stop: Words,
    status: Words,
}

/// A path that is not empty.
#[derive(Deserialize)]
#[serde(try_from = "PathBuf")]
struct FilePath(PathBuf);

impl TryFrom<PathBuf> for FilePath {
    type Error = &'static str;
    fn try_from(path: PathBuf) -> Result<Self, Self::Error> {
        if path.as_os_str().is_empty() { Err("a path is empty") } else { Ok(Self(path)) }
    }
}

impl FilePath {
    fn below(&self, base: &Path) -> PathBuf {
        // `components` drops the `.` that a person writes, so that one file has one name.
        base.join(&self.0).components().collect()
    }
}

/// A program and its arguments.
#[derive(Deserialize)]
#[serde(try_from = "Vec<String>")]
struct Words(Vec<String>);

impl TryFrom<Vec<String>> for Words {
    type Error = &'static str;
    fn try_from(words: Vec<String>) -> Result<Self, Self::Error> {
        match words.first() {
            None => Err("an empty list; it needs the program, then its arguments"),
            Some(program) if program.is_empty() => Err("the program's name is empty"),
            Some(_) if words.iter().any(|word| word.contains('\0')) => Err("an argument holds a NUL character"),
            Some(_) => Ok(Self(words)),
        }
    }
}

impl Words {
    /// A program that is named by a path is found from `agent.toml`, whatever the directory it will run in.
    fn below(mut self, base: &Path) -> Vec<String> {
        if let Some(program) = self.0.first_mut()
            && program.contains('/')
            && let Some(path) = FilePath(PathBuf::from(&*program)).below(base).to_str()
        {
            *program = path.to_owned();
        }
        self.0
    }
}

/// A systemd unit; it becomes an argument of `systemctl` and a directory below `/run/systemd/system`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Unit(String);

impl TryFrom<String> for Unit {
    type Error = String;
    fn try_from(name: String) -> Result<Self, Self::Error> {
        let fits = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
        if name.is_empty() || name.starts_with(['-', '.']) || !name.chars().all(fits) {
            return Err(format!("`{name}` is not the name of a systemd unit"));
        }
        Ok(Self(if name.ends_with(".service") { name } else { format!("{name}.service") }))
    }
}

/// A number of bytes, or `"10GB"`.
struct Size(u64);

impl<'de> Deserialize<'de> for Size {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct SizeVisitor;

        impl Visitor<'_> for SizeVisitor {
            type Value = Size;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of bytes, or a text like \"10GB\" or \"512MiB\"")
            }

            fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<Size, E> {
                u64::try_from(bytes).map(Size).map_err(|_| E::invalid_value(de::Unexpected::Signed(bytes), &self))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Size, E> {
                size(text).map(Size).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }

        deserializer.deserialize_any(SizeVisitor)
    }
}

/// Reads `10GB` as powers of ten and `10GiB` as powers of two; the case does not matter.
fn size(text: &str) -> Option<u64> {
    let text = text.trim();
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit: u64 = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kb" => 1_000,
        "m" | "mb" => 1_000_000,
        "g" | "gb" => 1_000_000_000,
        "t" | "tb" => 1_000_000_000_000,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        _ => return None,
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

pub(super) fn parse(text: &str, base: &Path, state_directory: Option<&Path>) -> Result<AgentConfig, Mistake> {
    let file: File = toml::from_str(text).map_err(|error| Mistake {
        offset: error.span().map_or(0, |span| span.start),
        message: error.message().replace('\n', ", "),
    })?;
    if file.instance.is_empty() {
        let message = "no instance; add an `[[instance]]` with `config` and `service`".to_owned();
        return Err(Mistake { offset: text.len(), message });
    }
    if let Some(surplus) = file.instance.get(INSTANCES_MAX) {
        return Err(at(surplus.span(), format!("more than {INSTANCES_MAX} instances")));
    }
    let mut names = HashMap::new();
    let mut configs = HashMap::new();
    let mut instances = Vec::with_capacity(file.instance.len());
    for instance in file.instance {
        let whole = instance.span();
        let (instance, places) = checked(instance.into_inner(), whole, base)?;
        if names.insert(instance.name.clone(), ()).is_some() {
            let message = format!("a second instance `{}`; give each its own `name`", instance.name);
            return Err(at(places.name, message));
        }
        if let Some(other) = configs.insert(instance.config.clone(), instance.name.clone()) {
            let message = format!("instance `{other}` has this `config` already; each server has its own");
            return Err(at(places.config, message));
        }
        instances.push(instance);
    }
    let identity = file.identity.below(base);
    let state = match (&file.state, state_directory) {
        (Some(state), _) => state.below(base),
        (None, Some(offered)) => first_of_list(offered),
        (None, None) => {
            let stem = identity.file_stem().unwrap_or_default().to_string_lossy();
            base.join(format!("state-{stem}"))
        }
    };
    let lanes = match file.lanes {
        Some(lanes) if !(1..=LANES_MAX).contains(lanes.get_ref()) => {
            return Err(at(lanes.span(), format!("`lanes` is from 1 to {LANES_MAX}")));
        }
        Some(lanes) => lanes.into_inner(),
        // Half of the cores are for packing, unpacking and the server.
        None => std::thread::available_parallelism().map_or(1, |cores| (cores.get() / 2).clamp(1, LANES_DEFAULT_MAX)),
    };
    Ok(AgentConfig {
        listen: file.listen,
        identity,
        state,
        disk_reserve_bytes: file.disk_reserve.map_or(DISK_RESERVE_BYTES, |size| size.0),
        memory_reserve_bytes: file.memory_reserve.map_or(MEMORY_RESERVE_BYTES, |size| size.0),
        lanes,
        metrics: file.metrics,
        log: file.log,
        instances,
    })
}

/// systemd separates several state directories by colons.
fn first_of_list(offered: &Path) -> PathBuf {
    let text = offered.to_string_lossy();
    PathBuf::from(text.split(':').next().unwrap_or_default())
}

struct Places {
    name: Range<usize>,
    config: Range<usize>,
}

fn checked(file: Instance, whole: Range<usize>, base: &Path) -> Result<(InstanceConfig, Places), Mistake> {
    if let (Some(user), None) = (&file.user, &file.password_file) {
        return Err(at(user.span(), "`user` needs `password_file`: a password is not written into this file".into()));
    }
    let (name, place) = match file.name {
        Some(name) => {
            let place = name.span();
            (name.into_inner(), place)
        }
        None => (InstanceName::new(DEFAULT_INSTANCE).map_err(|e| at(whole.clone(), e.to_string()))?, whole),
    };
    let service = match file.service {
        Service::Exec(words) => ServiceConfig::Exec(words.below(base)),
        Service::Systemd(unit) => ServiceConfig::Systemd(unit.0),
        Service::Command(Command { start, stop, status }) => {
            ServiceConfig::Command { start: start.below(base), stop: stop.below(base), status: status.below(base) }
        }
    };
    let places = Places { name: place, config: file.config.span() };
    let config = InstanceConfig {
        name,
        config: file.config.into_inner().below(base),
        address: file.address,
        user: file.user.map(Spanned::into_inner),
        password_file: file.password_file.map(|path| path.below(base)),
        tls_ca: file.tls_ca.map(|path| path.below(base)),
        service,
    };
    Ok((config, places))
}

fn at(span: Range<usize>, message: String) -> Mistake {
    Mistake { offset: span.start, message }
}
