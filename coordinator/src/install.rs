//! What an installation finds on a host, and what it writes there. Pure: the conversation with the host is
//! `cli/install.rs` and [`ssh`].
//!
//! Left out: the packages themselves (`packaging/`), and how identities are made (`pki`).

pub mod authority;
pub mod ssh;

use std::path::Path;

use baton_proto::InstanceName;

pub const PROBE: &str = include_str!("install/probe.sh");
pub const DETECT: &str = include_str!("install/detect.sh");
pub const PLACES: &str = include_str!("install/places.sh");

/// Data directories that the packaged unit opens by itself.
const OPEN: &[&str] = &["/var/lib/redis", "/var/lib/valkey"];
/// Most servers of a host that are written down, as the agent reads no more.
const INSTANCES_MAX: usize = 256;

/// What a host is, as the probe tells.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    pub name: String,
    pub arch: String,
    /// The address under which ssh reached the host, as the host sees it.
    pub address: String,
    pub has_systemd: bool,
    pub packages: Packages,
    /// The version that the installed agent tells.
    pub agent: Option<String>,
    /// Whether agent.toml lists an instance already: then it is somebody's work.
    pub is_configured: bool,
    pub listen: Option<String>,
    /// The certificates of its identity and of the one that this was renewed by: each as PEM, its authority's last.
    pub identities: Vec<String>,
    pub firewall: Option<String>,
}

/// Which packages a host takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Packages {
    Deb,
    Rpm,
    #[default]
    None,
}

impl Found {
    /// Reads the probe's lines; what is not known is skipped.
    pub fn read(text: &str) -> Found {
        let mut found = Found::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let value = value.trim().to_owned();
            match name {
                "name" => found.name = value,
                "arch" => found.arch = value,
                "address" => found.address = value,
                "systemd" => found.has_systemd = value == "yes",
                "packages" if value == "deb" => found.packages = Packages::Deb,
                "packages" if value == "rpm" => found.packages = Packages::Rpm,
                "agent" => found.agent = Some(value),
                "config" => found.is_configured = value == "written",
                "listen" => found.listen = Some(value),
                "identity" => found.identities.push(value.replace('|', "\n")),
                "firewall" => found.firewall = Some(value),
                _ => {}
            }
        }
        found
    }

    /// Whether a file is a package, or the program, for this host.
    pub fn takes(&self, file: &str) -> bool {
        let deb_arch = match self.arch.as_str() {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        match self.packages {
            Packages::Deb => file.starts_with("baton-agent_") && file.ends_with(&format!("_{deb_arch}.deb")),
            Packages::Rpm => file.starts_with("baton-agent-") && file.ends_with(&format!(".{}.rpm", self.arch)),
            Packages::None => file.starts_with("baton-agent-") && file.ends_with(&format!("-{}", self.arch)),
        }
    }

    /// The command that would let others reach the agent, for a person to run.
    pub fn firewall_line(&self, port: u16) -> String {
        match self.firewall.as_deref() {
            Some("ufw") => format!("ufw allow proto udp from NETWORK to any port {port}"),
            Some("firewalld") => {
                format!("firewall-cmd --permanent --add-port={port}/udp && firewall-cmd --reload")
            }
            _ => format!("let UDP port {port} in, from the other Redis hosts and from where coord runs"),
        }
    }
}

/// Reads a list of `name=value` lines of one name.
pub fn values<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('=')).collect()
}

/// Makes the tables of agent.toml out of detected units. One server is the host's own; of several each has its unit's name.
pub fn instances(detected: &str) -> String {
    let units: Vec<(&str, &str)> = values(detected, "unit").iter().filter_map(|line| line.split_once('\t')).collect();
    let mut out = String::new();
    let mut seen: Vec<&str> = Vec::new();
    let several = units.iter().any(|(_, conf)| units.first().is_some_and(|(_, first)| first != conf));
    for (unit, conf) in units.iter().take(INSTANCES_MAX) {
        // One unit under two names.
        if seen.contains(conf) {
            continue;
        }
        seen.push(conf);
        out.push_str("\n[[instance]]\n");
        if several {
            out.push_str(&format!("name = {}\n", quoted(&instance_name(unit))));
        }
        out.push_str(&format!("config = {}\nservice = {{ systemd = {} }}\n", quoted(conf), quoted(unit)));
    }
    out
}

/// Makes a name of a unit's: `redis-server@6380.service` is `redis-server-6380`.
fn instance_name(unit: &str) -> String {
    let stem = unit.strip_suffix(".service").unwrap_or(unit);
    let name: String =
        stem.to_ascii_lowercase().chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    InstanceName::new(&name).map_or_else(|_| name.trim_matches('-').to_owned(), |name| name.to_string())
}

/// The whole agent.toml.
pub fn agent_toml(listen: &str, instances: &str) -> String {
    format!(
        "# Written by `coord install`; every option: baton-agent's /usr/share/baton/agent.toml.\n\
         listen = {}\nidentity = \"identity.pem\"\n\n{}",
        quoted(listen),
        instances.trim_start()
    )
}

/// The servers' configuration files that the tables of an agent.toml name.
pub fn configs(tables: &str) -> Vec<String> {
    let table: toml::Table = tables.parse().unwrap_or_default();
    let instances = table.get("instance").and_then(toml::Value::as_array).cloned().unwrap_or_default();
    let config = |instance: &toml::Value| Some(instance.get("config")?.as_str()?.to_owned());
    instances.iter().filter_map(config).collect()
}

/// The drop-in that opens data directories to the agent; none where the unit does so itself. A path with a line end or a
/// quote in it is left out: it would say something else to systemd.
pub fn drop_in(dirs: &[&str]) -> Option<String> {
    let plain = |dir: &&&str| !dir.contains(['"', '\\', '%', '\n']) && Path::new(dir).is_absolute();
    let mut dirs: Vec<&str> = dirs.iter().filter(|dir| !OPEN.contains(*dir)).filter(plain).copied().collect();
    dirs.sort_unstable();
    dirs.dedup();
    if dirs.is_empty() {
        return None;
    }
    let lines: Vec<String> = dirs.iter().map(|dir| format!("ReadWritePaths=\"-{dir}\"\n")).collect();
    Some(format!(
        "# Written by `coord install`: data directories of this host's servers.\n[Service]\n{}",
        lines.concat()
    ))
}

/// What is appended to coord.toml.
pub fn host_table(name: &str, agent: &str) -> String {
    let name = if name.contains('.') { quoted(name) } else { name.to_owned() };
    format!("\n[hosts.{name}]\nagent = {}\n", quoted(agent))
}

/// A text as TOML. What JSON escapes, TOML reads in the same way.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests;
